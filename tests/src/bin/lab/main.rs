//! The demonstration behind `cargo xtask run`: three controllers, a client, real TLS, and a holder that goes away.
//!
//! `lab --probe` only says whether this kernel has what it takes.
mod interrupt;
mod probe;
mod scene;
mod show;

use anyhow::{Context, Result, bail};
use clap::Parser;
use lb_tests::prober::Prober;
use lb_tests::topology::Cut;
use nix::sys::signal::Signal;
use scene::Scene;
use show::{Row, say};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How often the prober asks.
const TICK: Duration = Duration::from_millis(2);
/// By then there is a holder, or something is wrong.
const LIMIT: Duration = Duration::from_secs(20);
/// What a prober sees of a moment is only known a little later.
const AFTERMATH: Duration = Duration::from_millis(1500);

/// Three controllers and a client on one switch.
#[derive(Debug, Parser)]
struct Options {
    /// The file that every controller is started with.
    #[arg(long, default_value = "examples/k0s.yaml")]
    config: PathBuf,
    /// Leave the lab standing until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Only try whether this kernel has IPVS, dummy devices and network namespaces.
    #[arg(long)]
    probe: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = interrupt::watch().and_then(|()| {
        if options.probe {
            probe::probe()
        } else {
            demonstrate(&options)
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(options: &Options) -> Result<()> {
    let config = fs::read_to_string(&options.config).with_context(|| options.config.display().to_string())?;
    let started = Instant::now();
    let mut scene = Scene::new(&config)?;
    say(&format!(
        "three controllers and a client, {} on each: {}",
        options.config.display(),
        scene.addresses()
    ));
    scene.start_all()?;
    let holder = scene.holder(LIMIT)?;
    say(&format!(
        "{holder} holds {} after {:.1} s",
        scene.vip(),
        started.elapsed().as_secs_f64()
    ));
    show::block(&scene.virtual_servers(&holder));

    let mut rows = Vec::new();
    rows.push(Row::requests("at rest", &holder, &scene.requests()?));
    let (cut, next) = cut_cable(&mut scene, &holder)?;
    rows.push(cut);
    rows.push(mend_cable(&mut scene, &holder)?);
    rows.push(leave(&mut scene)?);
    interrupt::check()?;
    if rows.iter().any(|row| !row.well) {
        scene.logs();
    }
    show::table(&rows);
    if options.keep {
        keep(&scene)?;
    }
    let stayed = next == holder;
    if stayed || rows.iter().any(|row| !row.well) {
        bail!("not everything went as it should");
    }
    Ok(())
}

/// The holder's switch port goes deaf: nobody tells it, and nobody hears it.
fn cut_cable(scene: &mut Scene, holder: &str) -> Result<(Row, String)> {
    interrupt::check()?;
    say(&format!(
        "cutting the cable of {holder}, probing {} every 2 ms",
        scene.vip()
    ));
    let prober = Prober::start(scene.client()?, scene.vip(), TICK)?;
    thread::sleep(Duration::from_millis(500));
    scene.lab().cut(holder, Cut::Silent)?;
    scene.other_holder(holder, LIMIT)?;
    thread::sleep(AFTERMATH);
    let report = prober.finish()?;
    // With equal priorities two may step forward at once; by now the better address has it.
    let next = scene.other_holder(holder, LIMIT)?;
    say(&format!(
        "{next} took over; the gap was {:.3} s",
        report.longest().as_secs_f64()
    ));
    let requests = scene.requests()?;
    Ok((
        Row::change("cable cut", &next, &report, &requests).at_most(Duration::from_secs(5)),
        next,
    ))
}

fn mend_cable(scene: &mut Scene, holder: &str) -> Result<Row> {
    interrupt::check()?;
    say(&format!("mending the cable of {holder}"));
    let prober = Prober::start(scene.client()?, scene.vip(), TICK)?;
    scene.lab().mend(holder)?;
    thread::sleep(Duration::from_secs(4));
    let now = scene.holder(LIMIT)?;
    thread::sleep(AFTERMATH);
    let report = prober.finish()?;
    say(&format!(
        "one holder again: {now}; the gap was {:.3} s",
        report.longest().as_secs_f64()
    ));
    let requests = scene.requests()?;
    Ok(Row::change("cable mended", &now, &report, &requests).at_most(Duration::from_secs(5)))
}

/// SIGTERM to the holder, as an upgrade would: it goes on answering until its successor is heard.
fn leave(scene: &mut Scene) -> Result<Row> {
    interrupt::check()?;
    let holder = scene.holder(LIMIT)?;
    say(&format!("SIGTERM to cplb on {holder}"));
    let prober = Prober::start(scene.client()?, scene.vip(), TICK)?;
    thread::sleep(Duration::from_millis(500));
    scene.signal(&holder, Signal::SIGTERM)?;
    scene.other_holder(&holder, LIMIT)?;
    thread::sleep(AFTERMATH);
    let report = prober.finish()?;
    let next = scene.other_holder(&holder, LIMIT)?;
    say(&format!(
        "{next} took over; {} of {} probes were lost",
        report.lost(),
        report.probes.len()
    ));
    // An upgrade starts the new one at once, and with it the node takes its share of the connections again.
    scene.restart(&holder, LIMIT)?;
    scene.takes_connections(&holder, LIMIT)?;
    let requests = scene.requests()?;
    Ok(Row::change("SIGTERM", &next, &report, &requests).at_most(Duration::from_millis(500)))
}

fn keep(scene: &Scene) -> Result<()> {
    say("the lab is left standing until Ctrl-C:");
    for node in scene.lab().nodes() {
        println!("    ip netns exec {} sh", node.netns().name());
    }
    interrupt::wait();
    Ok(())
}
