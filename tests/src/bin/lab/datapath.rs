//! Which datapath the demonstration uses, whether this kernel can, and the file that says so.
use crate::probe;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use lb_tests::cplb;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    /// IPVS where the kernel has it, else XDP.
    Auto,
    /// The kernel's virtual server.
    Ipvs,
    /// The XDP program, natively.
    Xdp,
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Datapath {
    /// The kernel's virtual server: a new director knows nothing of the old one's connections.
    Ipvs,
    /// The XDP program: a new director sends every connection where it was.
    Xdp,
}

/// Decides, and says why in a sentence. Trying makes the kernel load the modules, if it has them.
pub(crate) fn choose(wanted: Wanted) -> Result<(Datapath, String)> {
    match wanted {
        Wanted::Ipvs => probe::ipvs().map(|()| (Datapath::Ipvs, "IPVS, as asked for".to_owned())),
        Wanted::Xdp => probe::xdp().map(|()| (Datapath::Xdp, "native XDP, as asked for".to_owned())),
        Wanted::Auto => match probe::ipvs() {
            Ok(()) => Ok((Datapath::Ipvs, "IPVS, which this kernel has".to_owned())),
            Err(why) => {
                probe::xdp().with_context(|| why.to_string())?;
                Ok((Datapath::Xdp, format!("native XDP, since {why}")))
            }
        },
    }
}

/// The text of the file that every controller is started with: as it is, or in our own spelling with one datapath for
/// every virtual server.
pub(crate) fn file(path: &Path, wanted: Wanted, backends: &[String]) -> Result<String> {
    let name = match wanted {
        Wanted::Auto => return std::fs::read_to_string(path).with_context(|| path.display().to_string()),
        Wanted::Ipvs => "ipvs",
        Wanted::Xdp => "xdp",
    };
    let mut command = Command::new(cplb::binary());
    command.arg("check").arg("--json").arg("--config").arg(path);
    for backend in backends {
        command.args(["--backend", backend]);
    }
    let out = command.output().context("cplb check --json")?;
    if !out.status.success() {
        bail!("cplb check --json: {}", String::from_utf8_lossy(&out.stderr));
    }
    let mut file: Value = serde_json::from_slice(&out.stdout).context("cplb check --json")?;
    let servers = file["spec"]["virtualServers"]
        .as_array_mut()
        .context("no virtual servers")?;
    for server in servers.iter_mut().filter_map(Value::as_object_mut) {
        server.insert("datapath".to_owned(), name.into());
        if wanted == Wanted::Xdp {
            // The program has a scheduler of its own.
            server.remove("lbAlgo");
        }
    }
    Ok(file.to_string())
}
