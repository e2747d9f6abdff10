//! `cargo xtask vm [OPTIONS] -- PROGRAM [ARGS]...`: one program in a guest with IPVS.
//!
//! A program that is a file here is packed with its shared libraries; any other name is looked for in the guest.
use super::SetUp;
use crate::vm::console::Line;
use crate::vm::{self, Clock, Image, Machine};
use crate::{cargo, cmd, lab, tools};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub(crate) struct Vm {
    #[command(flatten)]
    set_up: SetUp,
    /// Also pack this program (with its libraries) or file; without GUEST it lands in /usr/bin.
    #[arg(long, value_name = "PATH[:GUEST]")]
    pack: Vec<String>,
    /// Also load this module.
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
    /// Set in the program's environment.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Seconds until the guest is ended.
    #[arg(long, default_value_t = 300)]
    timeout: u64,
    /// Memory of the guest in MB.
    #[arg(long, default_value_t = 1536)]
    memory: u32,
    /// Processors of the guest.
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Let the guest's clock count instructions, one a nanosecond: figures that are the same at each run.
    #[arg(long)]
    icount: bool,
    /// What to run, or, with a single word that has spaces in it, a line for `sh -c`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Vm {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let started = Instant::now();
        let apt = self.set_up.apt();
        tools::ensure(&apt, tools::SUITES, "used in the guest")?;
        let vm_init = cargo::lab_binary("lb-tests", "vm-init")?;
        let mut machine = Machine::prepare(&apt, &vm_init)?;
        machine.memory_mb = self.memory;
        machine.cpus = self.cpus;
        if self.icount {
            machine.clock = Clock::Instructions;
        }
        let image = self.image(&vm_init)?;
        cmd::say(format!("booting {}", machine.describe()));
        let limit = Duration::from_secs(self.timeout);
        let report = machine.boot(&image, limit + Duration::from_secs(20), |line| {
            if let Line::Output(text) = line {
                println!("{text}");
            }
        })?;
        let ended = report.ended.first().context("the guest ran nothing")?;
        let times = (ended.took.as_secs_f64(), started.elapsed().as_secs_f64());
        cmd::say(format!(
            "exit {} after {:.1} s in the guest, {:.1} s in all",
            ended.code, times.0, times.1
        ));
        Ok(ExitCode::from(u8::try_from(ended.code).unwrap_or(1)))
    }

    fn image(&self, vm_init: &Path) -> Result<Image> {
        let mut image = Image::new(vm_init)?;
        for tool in tools::SUITES
            .iter()
            .map(|t| t.program)
            .chain(lab::HANDY.iter().copied())
        {
            if tools::find(tool).is_some() {
                image.tool(tool)?;
            }
        }
        for pack in &self.pack {
            let (path, guest) = pack.split_once(':').unwrap_or((pack, ""));
            let place = if guest.is_empty() {
                in_bin(path)?
            } else {
                guest.to_owned()
            };
            if Path::new(path).is_dir() {
                image.tree(Path::new(path), &place)?;
            } else {
                image.program(Path::new(path), &place)?;
            }
        }
        for module in &self.module {
            image.module(module);
        }
        let argv = self.argv(&mut image)?;
        let env = self
            .env
            .iter()
            .map(|pair| variable(pair))
            .collect::<Result<_>>()?;
        let limit = Duration::from_secs(self.timeout);
        image.command(vm::Command {
            name: argv.join(" "),
            argv,
            env,
            limit,
        });
        Ok(image)
    }

    fn argv(&self, image: &mut Image) -> Result<Vec<String>> {
        if let [line] = &self.command[..]
            && line.contains(' ')
        {
            return Ok(vec!["/usr/bin/sh".into(), "-c".into(), line.clone()]);
        }
        let mut argv = self.command.clone();
        if argv[0].contains('/') && Path::new(&argv[0]).is_file() {
            let place = in_bin(&argv[0])?;
            image.program(Path::new(&argv[0]), &place)?;
            argv[0] = place;
        }
        Ok(argv)
    }
}

fn in_bin(path: &str) -> Result<String> {
    let name = Path::new(path)
        .file_name()
        .with_context(|| format!("{path} names no file"))?;
    Ok(format!("/usr/bin/{}", name.to_string_lossy()))
}

fn variable(pair: &str) -> Result<(String, String)> {
    let Some((name, value)) = pair.split_once('=') else {
        bail!("--env {pair}: not NAME=VALUE")
    };
    Ok((name.to_owned(), value.to_owned()))
}
