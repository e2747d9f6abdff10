//! The demonstration behind `cargo xtask run`: three controllers, a client, real TLS, and a holder that goes away.
//!
//! `lab --probe` only says whether this kernel has what it takes.
mod datapath;
mod interrupt;
mod probe;
mod scene;
mod show;

use anyhow::{Result, bail};
use clap::Parser;
use datapath::{Datapath, Wanted};
use lb_tests::crowd::Crowd;
use lb_tests::prober::Prober;
use lb_tests::topology::{Cut, Lab, Node};
use nix::sys::signal::Signal;
use scene::Scene;
use show::{Row, say};
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
/// No outage of ours is longer.
const OUTAGE: Duration = Duration::from_secs(5);
/// Nor a change of holder that is announced.
const HANDOVER: Duration = Duration::from_millis(500);

/// Three controllers and a client on one switch.
#[derive(Debug, Parser)]
struct Options {
    /// The file that every controller is started with.
    #[arg(long, default_value = "examples/k0s.yaml")]
    config: PathBuf,
    /// Which datapath the controllers use.
    #[arg(long, value_enum, default_value = "auto")]
    datapath: Wanted,
    /// Leave the lab standing until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Only try whether this kernel can do it.
    #[arg(long)]
    probe: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = interrupt::watch().and_then(|()| {
        if options.probe {
            datapath::choose(options.datapath).map(drop)
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
    let (used, why) = datapath::choose(options.datapath)?;
    let builder = Lab::k0s_builder();
    let lab = match used {
        Datapath::Ipvs => builder.build()?,
        Datapath::Xdp => builder.native_xdp().build()?,
    };
    let config = datapath::file(&options.config, options.datapath, &scene::backends(&lab)?)?;
    let started = Instant::now();
    let mut scene = Scene::new(lab, used, config)?;
    say(&format!(
        "three controllers and a client, {} on each: {}",
        options.config.display(),
        addresses(scene.lab())
    ));
    say(&format!("the datapath is {why}"));
    scene.start_all()?;
    let holder = scene.holder(LIMIT)?;
    say(&format!(
        "{holder} holds {} after {:.1} s",
        scene.vip(),
        started.elapsed().as_secs_f64()
    ));

    let mut rows = vec![rest(&mut scene, &holder)?];
    let (cut, next) = cut_cable(&mut scene, &holder)?;
    rows.push(cut);
    rows.push(mend_cable(&mut scene, &holder)?);
    rows.push(end(&mut scene, "SIGTERM", Signal::SIGTERM)?);
    rows.push(end(&mut scene, "kill -9", Signal::SIGKILL)?);
    interrupt::check()?;
    let last = scene.holder(LIMIT)?;
    say(&format!("cplb status on {last}"));
    show::block(&scene.status(&last));
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

/// The controllers' addresses, for people.
fn addresses(lab: &Lab) -> String {
    let named = |node: &Node| Some(format!("{} {}", node.name(), node.ipv4().ok()?));
    lab.controllers().filter_map(named).collect::<Vec<_>>().join(", ")
}

/// Long-lived connections, spread over the servers of all but `gone`.
fn established(scene: &mut Scene, gone: Option<&str>) -> Result<Crowd> {
    scene.next_step();
    scene.healthy(gone, LIMIT)?;
    let crowd = scene.establish(LIMIT)?;
    let all: usize = crowd.servers().values().sum();
    say(&format!("{all} TLS connections are open: {:?}", crowd.servers()));
    Ok(crowd)
}

fn rest(scene: &mut Scene, holder: &str) -> Result<Row> {
    let crowd = established(scene, None)?;
    let kept = scene.kept(&crowd, None, LIMIT);
    Ok(Row::rest("at rest", holder, kept, &scene.requests()?))
}

/// The holder's switch port goes deaf: nobody tells it, and nobody hears it.
fn cut_cable(scene: &mut Scene, holder: &str) -> Result<(Row, String)> {
    interrupt::check()?;
    let crowd = established(scene, None)?;
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
    let kept = scene.kept(&crowd, Some(holder), LIMIT);
    let row = Row::change("cable cut", &next, &report, kept, &scene.requests()?).at_most(OUTAGE);
    Ok((row, next))
}

fn mend_cable(scene: &mut Scene, holder: &str) -> Result<Row> {
    interrupt::check()?;
    let crowd = established(scene, Some(holder))?;
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
    let mut kept = scene.kept(&crowd, None, LIMIT);
    if now == holder {
        // It held behind the cut cable too, where it saw no server but its own; for the second that its checks take to
        // find the others again, it directs by what it knows.
        kept.promised = false;
    }
    Ok(Row::change("cable mended", &now, &report, kept, &scene.requests()?).at_most(OUTAGE))
}

/// The holder's daemon is told to stop, as by an upgrade, or killed: it or its guardian goes on answering until the
/// successor is heard.
fn end(scene: &mut Scene, step: &'static str, signal: Signal) -> Result<Row> {
    interrupt::check()?;
    let holder = scene.holder(LIMIT)?;
    let crowd = established(scene, None)?;
    say(&format!("{step} to cplb on {holder}"));
    let prober = Prober::start(scene.client()?, scene.vip(), TICK)?;
    thread::sleep(Duration::from_millis(500));
    scene.signal(&holder, signal)?;
    scene.other_holder(&holder, LIMIT)?;
    thread::sleep(AFTERMATH);
    let report = prober.finish()?;
    let next = scene.other_holder(&holder, LIMIT)?;
    say(&format!(
        "{next} took over; {} of {} probes were lost",
        report.lost(),
        report.probes.len()
    ));
    let kept = scene.kept(&crowd, None, LIMIT);
    drop(crowd);
    // An upgrade starts the new one at once, and with it the node takes its share of the connections again.
    scene.restart(&holder, LIMIT)?;
    scene.takes_connections(&holder, LIMIT)?;
    Ok(Row::change(step, &next, &report, kept, &scene.requests()?).at_most(HANDOVER))
}

fn keep(scene: &Scene) -> Result<()> {
    say("the lab is left standing until Ctrl-C:");
    for node in scene.lab().nodes() {
        println!("    ip netns exec {} sh", node.netns().name());
    }
    interrupt::wait();
    Ok(())
}
