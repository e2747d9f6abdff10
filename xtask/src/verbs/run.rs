//! `cargo xtask run`: set-up, build, and the demonstration; with `-- ARGS` just `cplb ARGS`.
//!
//! The demonstration is one program, `lab`, and it is the same here and in the guest. It runs here with IPVS where this
//! kernel has it, and with native XDP where it has not; in the guest, with its output over the guest's console, where
//! this kernel can do neither, or not what `--datapath` asks for.
use super::SetUp;
use crate::apt::Apt;
use crate::lab::{self, Lab};
use crate::vm::console::Line;
use crate::vm::{self, Machine};
use crate::{cargo, cmd, ebpf, paths, tools};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

/// A demonstration that is left standing ends with Ctrl-C, not with a clock.
const LONG: Duration = Duration::from_secs(24 * 3600);
const LIMIT: Duration = Duration::from_secs(300);

/// Where the example is in the guest.
const GUEST_EXAMPLE: &str = "/etc/cplb/k0s.yaml";

/// Which datapath the demonstration uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Datapath {
    /// IPVS where the kernel has it, else XDP.
    #[default]
    Auto,
    /// The kernel's virtual server; in a guest where this kernel has none.
    Ipvs,
    /// The XDP program, natively.
    Xdp,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    set_up: SetUp,
    /// Which datapath the controllers use.
    #[arg(long, value_enum, default_value_t)]
    datapath: Datapath,
    /// Leave the lab standing until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Run the lab in the guest although this kernel would do.
    #[arg(long)]
    vm: bool,
    /// Run `cplb` with these instead of the demonstration.
    #[arg(last = true)]
    args: Vec<String>,
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Ipvs => "ipvs",
            Self::Xdp => "xdp",
        })
    }
}

impl Run {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let apt = self.set_up.apt();
        ebpf::object(&apt)?;
        if !self.args.is_empty() {
            let cplb = cargo::static_cplb(cargo::LAB_PROFILE)?;
            return Ok(code(cmd::status(cmd::clean(cplb).args(&self.args))?));
        }
        tools::ensure(&apt, tools::SUITES, "used by the lab")?;
        let lab = Lab::programs()?;
        if !self.vm && this_kernel_does(&lab, self.datapath)? {
            let mut command = program(&lab)?;
            command.args(self.arguments(&example().to_string_lossy()));
            return Ok(code(cmd::status(&mut command)?));
        }
        self.in_guest(&lab, &apt)
    }

    fn arguments(&self, config: &str) -> Vec<String> {
        let mut args = vec!["--config".to_owned(), config.to_owned()];
        args.extend(["--datapath".to_owned(), self.datapath.to_string()]);
        args.extend(self.keep.then(|| "--keep".to_owned()));
        args
    }

    fn in_guest(&self, lab: &Lab, apt: &Apt) -> Result<ExitCode> {
        let machine = Machine::prepare(apt, lab.program("vm-init")?)?;
        let mut image = lab.image(apt)?;
        image.program(lab.program("lab")?, "/usr/bin/lab")?;
        let mut argv = vec!["/usr/bin/lab".to_owned()];
        // A place of its own: the checkout may be below a directory that the guest mounts anew, such as /tmp.
        image.file(&example(), GUEST_EXAMPLE);
        argv.extend(self.arguments(GUEST_EXAMPLE));
        let limit = if self.keep { LONG } else { LIMIT };
        image.command(vm::Command {
            name: "lab".to_owned(),
            argv,
            env: lab::guest_environment(),
            limit,
        });
        cmd::say(format!("booting a guest with {}", machine.describe()));
        let report = machine.boot(&image, limit + Duration::from_secs(60), |line| {
            if let Line::Output(text) = line {
                println!("{text}");
            }
        })?;
        let ended = report.ended.first().context("the guest ran nothing")?;
        Ok(ExitCode::from(u8::try_from(ended.code).unwrap_or(1)))
    }
}

/// The file that the lab's controllers run with.
fn example() -> PathBuf {
    paths::root().join("examples/k0s.yaml")
}

fn program(lab: &Lab) -> Result<Command> {
    let mut command = cmd::clean(lab.program("lab")?);
    command.envs(lab.environment()?);
    Ok(command)
}

/// Asks the lab itself, and shows its reason if not.
fn this_kernel_does(lab: &Lab, datapath: Datapath) -> Result<bool> {
    let mut command = program(lab)?;
    command
        .args(["--probe", "--datapath", &datapath.to_string()])
        .stdin(Stdio::null());
    let out = command
        .output()
        .with_context(|| format!("cannot start: {}", cmd::shown(&command)))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        cmd::say(format!(
            "the lab runs in a guest, since this kernel will not do: {}",
            why.trim()
        ));
    }
    Ok(out.status.success())
}

fn code(status: ExitStatus) -> ExitCode {
    ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    )
}
