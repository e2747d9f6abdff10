//! `cargo xtask bench xdp`: the eBPF program by itself, on this machine and in a guest that counts instructions.
use crate::apt::Apt;
use crate::verbs::SetUp;
use crate::vm::console::Line;
use crate::vm::{self, Clock, Image, Machine};
use crate::{cargo, cmd, ebpf, paths, tools};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Under emulation that counts, with all else that the machine may be doing.
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(crate) struct Xdp {
    #[command(flatten)]
    set_up: SetUp,
    /// A balancer of Katran that you have built as an object (GPL-2.0: not part of this project), measured on the same
    /// packets: clang -target bpf -DLOCAL_DELIVERY_OPTIMIZATION -DMAX_CONN_RATE=0xffffffff of balancer.bpf.c.
    #[arg(long, value_name = "FILE")]
    katran: Option<PathBuf>,
    /// Also count instructions beside IPVS, in a guest whose kernel has that.
    #[arg(long)]
    guest: bool,
    /// One line of JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Arguments of the measuring program, such as `--rounds 3` or `--only wire`.
    #[arg(last = true)]
    args: Vec<String>,
}

impl Xdp {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let apt = self.set_up.apt();
        ebpf::object(&apt)?;
        tools::ensure(&apt, tools::SUITES, "used by the bench")?;
        let bench = cargo::lab_binary("lb-tests", "bench-xdp")?;
        let mut command = self.command(&bench)?;
        if !self.json {
            let code = super::measure(&mut command)?;
            if self.guest && code == ExitCode::SUCCESS {
                in_guest(&apt, &bench, &[], |line| println!("{line}"))?;
            }
            return Ok(code);
        }
        let mut all = object(&cmd::stdout(&mut command)?)?;
        if self.guest {
            let mut said = String::new();
            in_guest(&apt, &bench, &["--json"], |line| {
                if line.starts_with('{') {
                    said = line.to_owned();
                }
            })?;
            all.extend(object(&said)?);
        }
        println!("{}", Value::Object(all));
        Ok(ExitCode::SUCCESS)
    }

    fn command(&self, bench: &Path) -> Result<Command> {
        let mut command = cmd::clean(bench);
        command
            .args(&self.args)
            .envs(tools::environment()?)
            .env("CPLB_EBPF", paths::ebpf_object())
            .env("CPLB_EBPF_BENCH", paths::ebpf_bench_object());
        if let Some(katran) = &self.katran {
            command.arg("--katran").arg(katran);
        }
        if self.json {
            command.arg("--json");
        }
        Ok(command)
    }
}

fn object(line: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str(line).context("what the measuring program said")? {
        Value::Object(map) => Ok(map),
        other => bail!("the measuring program said {other}"),
    }
}

/// One processor, whose clock is the number of its instructions.
fn in_guest(apt: &Apt, bench: &Path, more: &[&str], mut each: impl FnMut(&str)) -> Result<()> {
    let vm_init = cargo::lab_binary("lb-tests", "vm-init")?;
    let mut machine = Machine::prepare(apt, &vm_init)?;
    machine.cpus = 1;
    machine.clock = Clock::Instructions;
    let mut image = Image::new(&vm_init)?;
    for tool in [tools::IP, tools::IPVSADM] {
        image.tool(tool.program)?;
    }
    image.program(bench, "/usr/bin/bench-xdp")?;
    image.file(&paths::ebpf_object(), "/usr/lib/cplb/lb.o");
    image.file(&paths::ebpf_bench_object(), "/usr/lib/cplb/lb-bench.o");
    let argv = ["/usr/bin/bench-xdp", "--only", "guest"].iter().chain(more);
    let env = [
        ("CPLB_EBPF", "/usr/lib/cplb/lb.o"),
        ("CPLB_EBPF_BENCH", "/usr/lib/cplb/lb-bench.o"),
    ];
    image.command(vm::Command {
        name: "bench-xdp".into(),
        argv: argv.map(|word| (*word).to_owned()).collect(),
        env: env.map(|(name, value)| (name.into(), value.into())).to_vec(),
        limit: LIMIT,
    });
    cmd::say(format!("counting instructions: booting {}", machine.describe()));
    let report = machine.boot(&image, LIMIT, |line| {
        if let Line::Output(text) = line {
            each(text);
        }
    })?;
    let ended = report.ended.first().context("the guest ran nothing")?;
    if ended.code != 0 {
        bail!("the measuring program ended with {} in the guest", ended.code);
    }
    Ok(())
}
