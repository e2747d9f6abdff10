//! `cplb run` with `datapath: xdp`: what is left when it is stopped, killed or hangs.
use super::support::{Net, PORT, VIP, cannot};
use anyhow::{Context, Result};
use lb_tests::daemon::Daemon;
use lb_tests::native::{Instance, configuration};
use lb_tests::{skip, wait};
use lb_userspace::sys::rtnl::Rtnl;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// What Cargo built beside this test; in the guest it is elsewhere.
fn binary() -> String {
    let built = Path::new(env!("CARGO_BIN_EXE_cplb"));
    let path = if built.exists() {
        built.to_owned()
    } else {
        lb_tests::cplb::binary()
    };
    path.to_string_lossy().into_owned()
}

fn run(net: &Net, log: &str) -> Result<Daemon> {
    let a = net.lab.node("a")?;
    let services = format!(
        "  virtualServers:\n    - ipAddress: {VIP}\n      ports: [{PORT}]\n      datapath: xdp\n      lbAlgo: maglev\n      persistenceTimeoutSeconds: 0\n      \
         lbKind: DR\n      healthCheck: {{type: none}}\n      realServers: [{{address: 10.0.0.2}}, {{address: 10.0.0.3}}]\n"
    );
    let file = configuration(&[Instance::new(51, &[&format!("{VIP}/24")])], &services);
    let path = a.dir().join("cplb.yaml");
    std::fs::write(&path, file)?;
    let mut command = Command::new(binary());
    command.args(["--log", log, "run", "--config"]).arg(&path);
    Daemon::start(a, "cplb", command)
}

fn status(net: &Net) -> Result<Value> {
    let out = net.lab.node("a")?.output(&[&binary(), "status", "--json"])?;
    Ok(serde_json::from_str(&out)?)
}

/// The program on the director's interface.
fn program(net: &Net) -> Result<Option<u32>> {
    net.lab.node("a")?.netns().run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let link = Rtnl::open()?.link_named("eth0").await?.context("no eth0")?;
            Ok(link.xdp.map(|x| x.program))
        })
    })?
}

fn wait_until_it_directs(net: &Net, daemon: &Daemon) -> Result<()> {
    wait::until("both real servers to answer", LIMIT, || {
        let seen: Vec<String> = (0..20).filter_map(|_| net.ask(VIP).ok()).collect();
        (seen.iter().any(|s| s == "b") && seen.iter().any(|s| s == "c")).then_some(())
    })
    .with_context(|| format!("{:?}\n{}", status(net), daemon.log()))
}

#[test]
fn a_daemon_directs_says_so_and_leaves_nothing() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    let mut daemon = run(&net, "debug")?;
    wait_until_it_directs(&net, &daemon)?;
    let status = wait::until("counters in the status", LIMIT, || {
        status(&net)
            .ok()
            .filter(|s| s["kernel"]["xdp"]["services"][0]["traffic"]["newFlows"].as_u64() > Some(0))
    })?;
    let kernel = &status["kernel"];
    assert_eq!(kernel["datapath"], "xdp");
    assert_eq!(kernel["problems"], serde_json::json!([]), "{kernel}");
    assert_eq!(kernel["xdp"]["interfaces"][0]["name"], "eth0");
    assert_eq!(kernel["xdp"]["interfaces"][0]["mode"], "native");
    assert_eq!(kernel["xdp"]["services"][0]["method"], "DR");
    let page = net.lab.node("a")?.output(&[&binary(), "status"])?;
    assert!(page.contains("\nXDP\n  eth0 native, program "), "{page}");
    assert!(
        page.contains("  real servers: 10.0.0.2 (weight 1), 10.0.0.3 (weight 1)\n"),
        "{page}"
    );
    assert_eq!(
        program(&net)?.map(u64::from),
        kernel["xdp"]["interfaces"][0]["program"].as_u64()
    );
    daemon.signal(Signal::SIGTERM)?;
    assert!(daemon.wait(LIMIT)?.success(), "{}", daemon.log());
    assert_eq!(program(&net)?, None, "also for the guardian, which held it too");
    Ok(())
}

#[test]
fn a_killed_daemons_program_directs_until_its_guardian_has_left() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    let mut daemon = run(&net, "debug")?;
    wait_until_it_directs(&net, &daemon)?;
    let ours = program(&net)?.context("no program")?;
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait(LIMIT)?;
    assert_eq!(program(&net)?, Some(ours), "the guardian holds it");
    assert!(net.ask(VIP).is_ok(), "and it directs: {}", daemon.log());
    daemon.wait_all(LIMIT)?;
    assert_eq!(program(&net)?, None, "{}", daemon.log());
    assert!(!net.lab.node("a")?.holds(VIP.parse()?));
    assert!(
        daemon.log().contains("left in the daemon's place"),
        "{}",
        daemon.log()
    );
    Ok(())
}

#[test]
fn a_daemon_that_hangs_no_longer_directs() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    let daemon = run(&net, "debug")?;
    wait_until_it_directs(&net, &daemon)?;
    // The client goes on sending here whatever becomes of the address.
    let a = net.lab.node("a")?;
    let mac = lb_tests::inject::FrameSender::new(a, "eth0")?.mac();
    let mac = lb_common::model::MacAddr(mac);
    net.lab.node("client")?.netns().ip(&format!(
        "neighbour replace {VIP} lladdr {mac} dev eth0 nud permanent\n"
    ))?;
    daemon.signal(Signal::SIGSTOP)?;
    assert!(net.ask(VIP).is_ok(), "for a moment it still does");
    wait::until("the lease to end", LIMIT, || net.ask(VIP).err())?;
    assert!(program(&net)?.is_some(), "it is there and passes everything");
    daemon.signal(Signal::SIGCONT)?;
    wait_until_it_directs(&net, &daemon)
}

#[test]
fn what_is_in_the_way_is_in_the_status_and_in_the_plan_and_the_address_is_carried() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let a = net.lab.node("a")?;
    let theirs = lb_tests::veth::attach(a.netns(), "eth0", lb_tests::veth::PASS)?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    let daemon = run(&net, "debug")?;
    let said = wait::until("a problem in the status", LIMIT, || {
        let status = status(&net).ok()?;
        let first = status["kernel"]["problems"][0].as_str()?.to_owned();
        Some(first)
    })
    .with_context(|| daemon.log())?;
    assert!(
        said.starts_with("eth0 has an XDP program of somebody else's already: "),
        "{said}"
    );
    wait::until("the address all the same", LIMIT, || {
        a.holds(VIP.parse().ok()?).then_some(())
    })?;
    let config = a.dir().join("cplb.yaml");
    let plan = a.output(&[&binary(), "plan", "--config", config.to_str().context("path")?])?;
    assert!(
        plan.contains("! the XDP program would be on eth0, native if its driver can\n"),
        "{plan}"
    );
    assert!(
        plan.contains("! eth0 has an XDP program of somebody else's already: "),
        "{plan}"
    );
    assert!(plan.contains("~ xdp "), "{plan}");
    drop(theirs);
    wait_until_it_directs(&net, &daemon)
}

#[test]
fn every_decision_is_a_line_of_the_log_when_the_filter_asks_for_it() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    let daemon = run(&net, "info,cplb::xdp=trace")?;
    wait_until_it_directs(&net, &daemon)?;
    let line = format!("10.0.0.9 to {VIP}: service ");
    wait::until("lines of the program", LIMIT, || {
        daemon.log().contains(&line).then_some(())
    })
    .with_context(|| daemon.log())?;
    let status = status(&net)?;
    assert_eq!(status["kernel"]["xdp"]["trace"], true, "{status}");
    Ok(())
}
