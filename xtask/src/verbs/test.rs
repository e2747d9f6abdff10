//! `cargo xtask test`: every suite there is, and one table at the end.
//!
//! One build in the lab's profile, with overflow checks, serves them all. Suites for this kernel run here, those that
//! want IPVS in one guest. A suite that cannot run is counted as skipped, and where `CI` is set that is a failure.
use super::{SetUp, lint};
use crate::apt::Apt;
use crate::lab::{self, Lab};
use crate::suite::{self, Outcome, Parser, Place, Suite};
use crate::vm::console::Line;
use crate::vm::{self, Machine};
use crate::{cargo, cmd, ebpf, tools};
use anyhow::{Context, Result};
use clap::Args;
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How many seeds the simulation runs.
const SEEDS: (&str, &str) = ("CPLB_SIM_SEEDS", "10000");
/// A suite that is quiet for this long says how far it is.
const PROGRESS: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(crate) struct Test {
    #[command(flatten)]
    set_up: SetUp,
    /// Only tests whose path contains this, or all of a suite whose name contains it.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Every line of every suite, not only what fails.
    #[arg(long, short)]
    verbose: bool,
}

impl Test {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let started = Instant::now();
        let apt = self.set_up.apt();
        let mut outcomes = Vec::new();
        if self.filter.is_none() {
            outcomes.push(lints());
        }
        ebpf::object(&apt)?;
        tools::ensure(&apt, tools::SUITES, "used by the suites")?;
        let lab = Lab::everything()?;
        let mut suites = suite::discover(&lab.built);
        suites.retain(|suite| self.wants(suite));
        for suite in suites.iter().filter(|suite| suite.place != Place::Guest) {
            let mut outcome = self.here(suite, &lab)?;
            // What this kernel lacks, the guest's has.
            outcome.required = suite.place != Place::Both;
            outcomes.push(outcome);
        }
        if self.filter.is_none() {
            outcomes.push(doctests());
        }
        let guests: Vec<&Suite> = suites.iter().filter(|suite| suite.place != Place::Here).collect();
        outcomes.extend(self.in_guest(&guests, &lab, &apt));
        outcomes.retain(|outcome| outcome.tally.total() > 0);
        let strict = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
        let well = suite::print(&outcomes, started.elapsed(), strict);
        Ok(if well {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Arguments of the harness: the filter only where the suite is not meant as a whole.
    fn arguments(&self, suite: &Suite) -> Vec<String> {
        let mut args = vec!["--show-output".to_owned()];
        args.extend(suite.threads.map(|n| format!("--test-threads={n}")));
        if !self.wants_all(suite) {
            args.extend(self.filter.clone());
        }
        args
    }

    /// Whether the suite is meant as a whole.
    fn wants_all(&self, suite: &Suite) -> bool {
        let named = |filter: &String| suite.name.contains(filter.as_str());
        self.filter.as_ref().is_none_or(named)
    }

    /// Whether the filter leaves anything of the suite: a guest need not boot for nothing.
    fn wants(&self, suite: &Suite) -> bool {
        let Some(filter) = &self.filter else { return true };
        if self.wants_all(suite) {
            return true;
        }
        let listed = cmd::output(cmd::clean(&suite.program).args(["--list", filter]));
        listed.is_ok_and(|text| text.lines().any(|line| line.ends_with(": test")))
    }

    fn here(&self, suite: &Suite, lab: &Lab) -> Result<Outcome> {
        cmd::say(&suite.name);
        let started = Instant::now();
        let mut command = cmd::clean(&suite.program);
        command.args(self.arguments(suite)).current_dir(&suite.directory);
        command
            .envs(lab.environment()?)
            .env(SEEDS.0, SEEDS.1)
            .env("RUST_BACKTRACE", "1");
        let line = cmd::shown(&command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start: {line}"))?;
        let (send, receive) = mpsc::channel();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            forward(out, send.clone());
            forward(err, send);
        }
        let mut follower = Follower::new(self.verbose);
        let deadline = started + suite.limit;
        let mut exit = None;
        loop {
            match receive.recv_timeout(PROGRESS.min(deadline.saturating_duration_since(Instant::now()))) {
                Ok(text) => follower.line(&text),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= deadline => {
                    exit = Some(format!("it took more than {} s", suite.limit.as_secs()));
                    child.kill().with_context(|| format!("cannot end {line}"))?;
                    break;
                }
                Err(RecvTimeoutError::Timeout) => follower.progress(),
            }
        }
        let status = child.wait()?;
        if exit.is_none() && !status.success() {
            exit = Some(format!("{status}: {line}"));
        }
        Ok(follower.finish(&suite.name, started.elapsed(), exit))
    }

    /// All of them in one guest. Whatever keeps the guest from running skips or fails them, each by name.
    fn in_guest(&self, suites: &[&Suite], lab: &Lab, apt: &Apt) -> Vec<Outcome> {
        if suites.is_empty() {
            return Vec::new();
        }
        let named = |suite: &&Suite| format!("{} (guest)", suite.name);
        let machine = match lab
            .program("vm-init")
            .and_then(|init| Machine::prepare(apt, init))
        {
            Ok(machine) => machine,
            Err(error) => {
                return suites
                    .iter()
                    .map(|s| Outcome::skipped(&named(s), format!("{error:#}")))
                    .collect();
            }
        };
        cmd::say(format!(
            "{} suites in a guest with {}",
            suites.len(),
            machine.describe()
        ));
        let (outcomes, result) = self.boot(&machine, suites, lab, apt);
        let error = result.err().map(|error| format!("{error:#}"));
        let missing = suites
            .iter()
            .map(named)
            .filter(|name| !outcomes.iter().any(|o| o.suite == *name));
        let lost: Vec<Outcome> = missing
            .map(|name| {
                let why = error
                    .clone()
                    .unwrap_or_else(|| "the guest did not run it".to_owned());
                Parser::default().finish(&name, Duration::ZERO, Some(why))
            })
            .collect();
        outcomes.into_iter().chain(lost).collect()
    }

    fn boot(&self, machine: &Machine, suites: &[&Suite], lab: &Lab, apt: &Apt) -> (Vec<Outcome>, Result<()>) {
        let mut outcomes = Vec::new();
        let mut follower = Follower::new(self.verbose);
        let result = (|| {
            let mut image = lab.image(apt)?;
            let mut limit = Duration::from_secs(120);
            for suite in suites {
                let place = format!("/suites/{}", suite.name.replace(['/', ' '], "-"));
                image.program(&suite.program, &place)?;
                let mut argv = vec![place];
                argv.extend(self.arguments(suite));
                if self.wants_all(suite) {
                    argv.extend(suite.guest.iter().map(|part| (*part).to_owned()));
                }
                let env = lab::guest_environment();
                image.command(vm::Command {
                    name: suite.name.clone(),
                    argv,
                    env,
                    limit: suite.limit,
                });
                limit += suite.limit;
            }
            machine.boot(&image, limit, |line| match line {
                Line::Started(name) => cmd::say(format!("{name} (guest)")),
                Line::Output(text) => follower.line(text),
                Line::Ended(ended) => {
                    let exit = (ended.code != 0).then(|| format!("exit code {}", ended.code));
                    let follower = std::mem::replace(&mut follower, Follower::new(self.verbose));
                    outcomes.push(follower.finish(&format!("{} (guest)", ended.name), ended.took, exit));
                }
                Line::Ready | Line::Complete => {}
            })
        })();
        (outcomes, result.map(drop))
    }
}

/// Reads a suite's lines and shows what is worth showing.
struct Follower {
    parser: Parser,
    verbose: bool,
    tail: Vec<String>,
    shown: Instant,
}

impl Follower {
    fn new(verbose: bool) -> Self {
        Self {
            parser: Parser::default(),
            verbose,
            tail: Vec::new(),
            shown: Instant::now(),
        }
    }

    fn line(&mut self, text: &str) {
        self.parser.line(text);
        if self.verbose {
            println!("    {text}");
        } else if self.shown.elapsed() > PROGRESS {
            self.progress();
        }
        if self.tail.len() == 60 {
            self.tail.remove(0);
        }
        self.tail.push(text.to_owned());
    }

    fn progress(&mut self) {
        let (done, all) = self.parser.progress();
        if !self.verbose {
            eprintln!("    {done} of {all} tests");
        }
        self.shown = Instant::now();
    }

    fn finish(self, name: &str, took: Duration, exit: Option<String>) -> Outcome {
        let account = self.parser.failures().to_vec();
        let outcome = self.parser.finish(name, took, exit);
        if outcome.tally.failed > 0 && !self.verbose {
            let lines = if account.is_empty() { &self.tail } else { &account };
            lines.iter().for_each(|line| println!("    {line}"));
            if let Some(note) = &outcome.note {
                println!("    {note}");
            }
        }
        outcome
    }
}

fn forward(from: impl std::io::Read + Send + 'static, to: mpsc::Sender<String>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if to.send(text).is_err() {
                break;
            }
        }
    });
}

fn lints() -> Outcome {
    let started = Instant::now();
    // A toolchain of rustup's minimal profile has neither.
    for tool in ["clippy", "fmt"] {
        if let Err(error) = cmd::output(cargo::cargo().args([tool, "--version"])) {
            return Outcome::skipped("lint", format!("no cargo {tool}: {error:#}"));
        }
    }
    let result = lint::checks();
    if let Err(error) = &result {
        println!("    {error:#}");
    }
    Outcome::of_check("lint", started.elapsed(), &result)
}

/// They are compiled as they run, so cargo has to run them.
fn doctests() -> Outcome {
    const NAME: &str = "documentation's examples";
    cmd::say(NAME);
    let started = Instant::now();
    let mut command = cargo::static_cargo("test");
    command.args([
        "--profile",
        cargo::LAB_PROFILE,
        "--doc",
        "--package",
        "lb-common",
        "--package",
        "lb-userspace",
    ]);
    let mut follower = Follower::new(false);
    let out = match command.output() {
        Ok(out) => out,
        Err(error) => return Outcome::of_check(NAME, started.elapsed(), &Err(error.into())),
    };
    for text in [&out.stdout, &out.stderr] {
        String::from_utf8_lossy(text)
            .lines()
            .for_each(|line| follower.line(line));
    }
    let exit = (!out.status.success()).then(|| format!("{}: {}", out.status, cmd::shown(&command)));
    follower.finish(NAME, started.elapsed(), exit)
}
