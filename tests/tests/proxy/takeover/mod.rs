//! A new binary takes over under load, again and again; and new ones that fail at every step of it.
mod asking;
mod streams;

use crate::cluster::{BIND_PORT, LONG, no_rules};
use crate::load::to;
use anyhow::{Context, Result, bail};
use asking::{Asking, Step};
use lb_tests::cplb::{self, Cplb};
use lb_tests::load::{Client, Kind, Server};
use lb_tests::ready::Ready;
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;
use streams::Streams;

const VIP: &str = "192.0.2.100";
/// Where streams go.
const STREAMS: u16 = 7000;

fn lab() -> Result<Lab> {
    let lab = Lab::builder()
        .node("proxy", &["192.0.2.1/24"])
        .node("peer", &["192.0.2.4/24"])
        .node("back", &["192.0.2.2/24"])
        .node("client", &["192.0.2.3/24"])
        .build()?;
    for node in lab.nodes() {
        node.wait_for_addresses(LONG)?;
        node.netns().sysctl("ipv4.tcp_tw_reuse", "1")?;
        node.netns().sysctl("ipv4.ip_local_port_range", "10000 65000")?;
    }
    Ok(lab)
}

/// One router, and two virtual servers: requests, and streams.
fn file(vrid: u8, priority: u8) -> String {
    steered(vrid, priority, "auto")
}

/// The same, with one way to get at the clients.
fn steered(vrid: u8, priority: u8, steering: &str) -> String {
    format!(
        "apiVersion: cplb.io/v1alpha1
kind: ControlPlaneLoadBalancer
metadata: {{name: lab}}
spec:
  vrrpInstances:
    - {{virtualIPs: [\"{VIP}/24\"], interface: eth0, version: 3, virtualRouterID: {vrid}, priority: {priority}, advertInterval: 200ms, preempt: true}}
  proxy:
    threads: 2
    bindPort: {BIND_PORT}
    steering: {steering}
  virtualServers:
    - ipAddress: {VIP}
      datapath: proxy
      healthCheck: {{type: tcp, interval: 1s}}
      realServers:
        - {{address: 192.0.2.2, port: 8001}}
        - {{address: 192.0.2.2, port: 8002}}
        - {{address: 192.0.2.2, port: 8999}}
    - ipAddress: {VIP}
      ports: [{STREAMS}]
      datapath: proxy
      realServers:
        - {{address: 192.0.2.2, port: {STREAMS}}}
"
    )
}

/// The daemon that serves now.
struct Served<'lab> {
    cplb: Cplb<'lab>,
    /// What those before it had to say.
    logs: String,
}

fn pid_of(node: &Node) -> Option<i64> {
    let out = cplb::run(node, &["status", "--json"]).ok()?;
    let status: Value = serde_json::from_slice(&out.stdout).ok()?;
    status["pid"].as_i64()
}

impl<'lab> Served<'lab> {
    fn pid(&self) -> Result<i64> {
        pid_of(self.cplb.node()).context("a status")
    }

    /// The one before has ended well, and another one serves.
    fn is_followed(&mut self, before: i64) -> Result<()> {
        let ended = self.cplb.wait(LONG)?;
        if !ended.success() {
            bail!(
                "the daemon that was taken over from ended with {ended}:\n{}",
                self.cplb.log()
            );
        }
        let node = self.cplb.node();
        wait::until("another daemon serves", LONG, || {
            pid_of(node).filter(|now| *now != before)
        })?;
        Ok(())
    }

    /// By hand: the new one is started beside the old one.
    fn upgrade(&mut self, text: &str) -> Result<()> {
        let before = self.pid()?;
        let new = Cplb::start_with(self.cplb.node(), text, &[], |c| {
            c.arg("--take-over");
        })?;
        self.is_followed(before).with_context(|| new.log())?;
        self.logs.push_str(&self.cplb.log());
        self.cplb = new;
        Ok(())
    }
}

/// What happens meanwhile.
struct Load<'scope> {
    stop: &'scope AtomicBool,
    answers: &'scope AtomicU64,
    workers: Vec<ScopedJoinHandle<'scope, Result<()>>>,
}

impl<'scope> Load<'scope> {
    fn start<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        client: &'scope Node,
        stop: &'scope AtomicBool,
        answers: &'scope AtomicU64,
    ) -> Self {
        let mut load = Self {
            stop,
            answers,
            workers: Vec::new(),
        };
        // New connections at a steady rate, and connections that stay: busy ones and quiet ones.
        let node = SocketAddr::new(IpAddr::from([192, 0, 2, 1]), BIND_PORT);
        for (to, kind, connections) in [
            (to(), Kind::PacedConnect(250.0), 64),
            (to(), Kind::Paced(400.0), 100),
            (to(), Kind::Paced(20.0), 200),
            (node, Kind::PacedConnect(50.0), 16),
        ] {
            load.workers.push(scope.spawn(move || {
                client.netns().run(|| -> Result<()> {
                    let mut clients = Client::new(to, kind, connections, 64, 64)?;
                    while !stop.load(Relaxed) {
                        let tally = clients.run(Duration::from_millis(300))?;
                        answers.fetch_add(tally.answers, Relaxed);
                        if tally.failed > 0 {
                            bail!("{} of {kind:?} failed", tally.failed);
                        }
                    }
                    // What the last turn left under way is answered too.
                    if matches!(kind, Kind::Paced(_)) {
                        clients.ask_once(LONG)?;
                    }
                    Ok(())
                })?
            }));
        }
        load
    }

    /// Lets so many requests be answered.
    fn go_on(&self, requests: u64) -> Result<()> {
        let before = self.answers.load(Relaxed);
        wait::until("requests are answered", LONG, || {
            let failed = self.workers.iter().any(ScopedJoinHandle::is_finished);
            (failed || self.answers.load(Relaxed) >= before + requests).then_some(())
        })
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Relaxed);
        for worker in self.workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    }
}

/// On these ports.
fn servers(lab: &Lab, ports: &[u16]) -> Result<Server> {
    let at = |port: &u16| SocketAddr::new(IpAddr::from([192, 0, 2, 2]), *port);
    let all: Vec<SocketAddr> = ports.iter().map(at).collect();
    lab.node("back")?.netns().run(|| Server::start(&all))?
}

/// What the other node has to say of the election.
fn transitions(peer: &Cplb<'_>) -> Result<Value> {
    let status = peer.status()?;
    let instance = &status["roles"]["instances"][0];
    Ok(serde_json::json!([instance["state"], instance["transitions"]]))
}

/// Runs `work` under load, and asserts that nobody noticed: neither clients nor the other node.
fn unnoticed(text: &str, work: impl FnOnce(&mut Served<'_>, &Load<'_>) -> Result<()>) -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab, &[8001, 8002])?;
    let mut served = Served {
        cplb: Cplb::start(lab.node("proxy")?, text, &[])?,
        logs: String::new(),
    };
    let vip: IpAddr = VIP.parse()?;
    served
        .cplb
        .wait_status("it holds, and one server is known to be dead", LONG, |s| {
            s["kernel"]["proxy"]["servers"][0]["servers"]
                .as_array()
                .is_some_and(|all| all.len() == 3 && all.iter().any(|s| s["alive"] == false))
        })?;
    lab.holder(vip, LONG)?;
    let peer = Cplb::start(lab.node("peer")?, &file(51, 100), &[])?;
    peer.wait_status("it is the backup and hears the holder", LONG, |s| {
        let instance = &s["roles"]["instances"][0];
        instance["state"] == "Backup" && !instance["active"].is_null()
    })?;
    let before = transitions(&peer)?;
    let streams = Streams::start(
        lab.node("back")?,
        lab.node("client")?,
        SocketAddr::new(vip, STREAMS),
    )?;
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let load = Load::start(scope, lab.node("client")?, &stop, &answers);
        let done = load.go_on(500).and_then(|()| work(&mut served, &load));
        let ended = load.end();
        ended.and(done)
    })
    .with_context(|| format!("the daemons' logs:\n{}{}", served.logs, served.cplb.log()))?;
    let bytes = streams.end()?;
    assert!(bytes > 1_000_000, "{bytes} bytes were streamed");
    assert_eq!(transitions(&peer)?, before, "the other node saw a change");
    assert_eq!(lab.holder(vip, LONG)?.name(), "proxy");
    Ok(())
}

#[test]
fn upgrades_under_load_refuse_and_break_nothing() -> Result<()> {
    unnoticed(&file(51, 200), |served, load| {
        for _ in 0..4 {
            served.upgrade(&file(51, 200))?;
            load.go_on(300)?;
        }
        // By itself, twice: the second one was never started by hand.
        for _ in 0..2 {
            let before = served.pid()?;
            let process = Pid::from_raw(i32::try_from(before)?);
            kill(process, Signal::SIGUSR2)?;
            let node = served.cplb.node();
            wait::until("another daemon serves", LONG, || {
                pid_of(node).filter(|now| *now != before)
            })
            .with_context(|| served.cplb.log())?;
            load.go_on(300)?;
        }
        no_rules(served.cplb.node())?;
        let status = served.cplb.status()?;
        let first = &status["kernel"]["proxy"]["servers"][0];
        assert_eq!(
            (&first["unserved"], &first["cut"]),
            (&0.into(), &0.into()),
            "{first}"
        );
        let reason = &status["roles"]["instances"][0]["transitions"][0]["reason"];
        assert_eq!(reason, "resumed", "{status}");
        Ok(())
    })
}

#[test]
fn upgrades_without_the_steering_program_refuse_and_break_nothing() -> Result<()> {
    for steering in ["bind", "nftables"] {
        let text = steered(51, 200, steering);
        unnoticed(&text, |served, load| {
            for _ in 0..2 {
                served.upgrade(&text)?;
                load.go_on(300)?;
            }
            Ok(())
        })
        .context(steering)?;
    }
    Ok(())
}

#[test]
fn a_new_one_that_fails_leaves_the_old_one_as_it_was() -> Result<()> {
    unnoticed(&file(51, 200), |served, load| {
        let pid = served.pid()?;
        let node = served.cplb.node();
        let run = |text: &str| -> Result<(Option<i32>, String)> {
            let path = node.dir().join("other.yaml");
            std::fs::write(&path, text)?;
            let path = path.to_string_lossy();
            let out = cplb::run(node, &["run", "--take-over", "--config", &path])?;
            Ok((
                out.status.code(),
                String::from_utf8_lossy(&out.stderr).into_owned(),
            ))
        };
        let (code, said) = run("apiVersion: cplb.io/v1alpha1\nkind: Nonsense\n")?;
        assert_eq!(code, Some(2), "{said}");
        // It would let go of what is held.
        let (code, said) = run(&file(52, 200))?;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("VRID 51"), "{said}");
        // Ones that die, at each step at which the old one could be left without what it had.
        for step in [Step::Hello, Step::Prepared, Step::Ready, Step::Sessions] {
            for _ in 0..3 {
                Asking::until(node, step).with_context(|| format!("{step:?}"))?;
                load.go_on(100)?;
            }
        }
        assert_eq!(served.pid()?, pid, "another daemon serves");
        // And it can still be taken over from.
        served.upgrade(&file(51, 200))?;
        load.go_on(300)
    })
}

/// The proxy's node with this daemon on it, and the other one as its backup.
fn pair<'lab>(
    lab: &'lab Lab,
    daemon: impl FnOnce(&'lab Node) -> Result<Cplb<'lab>>,
) -> Result<[Cplb<'lab>; 2]> {
    let first = daemon(lab.node("proxy")?)?;
    lab.holder(VIP.parse()?, LONG)?;
    let peer = Cplb::start(lab.node("peer")?, &file(51, 100), &[])?;
    peer.wait_status("it is the backup and hears the holder", LONG, |s| {
        let instance = &s["roles"]["instances"][0];
        instance["state"] == "Backup" && !instance["active"].is_null()
    })?;
    Ok([first, peer])
}

#[test]
fn one_that_dies_when_it_was_let_act_is_left_for_as_any_other() -> Result<()> {
    let lab = lab()?;
    // A node that reaches no server gives way.
    let _servers = servers(&lab, &[8001, 8002, STREAMS])?;
    let [mut first, _peer] = pair(&lab, |node| Cplb::start(node, &file(51, 200), &[]))?;
    Asking::until(first.node(), Step::Go)?;
    assert!(!first.wait(LONG)?.success());
    // By its guardian, which lets go of everything once the other one has it.
    first.wait_all(LONG).with_context(|| first.log())?;
    assert_eq!(lab.holder(VIP.parse()?, LONG)?.name(), "peer");
    Ok(())
}

#[test]
fn the_first_process_of_a_container_waits_until_it_is_stopped() -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab, &[8001, 8002, STREAMS])?;
    let [mut first, peer] = pair(&lab, |node| {
        let path = node.dir().join("cplb.yaml");
        std::fs::write(&path, file(51, 200))?;
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork"]).arg(cplb::binary());
        command.args(["run", "--config"]).arg(&path);
        Cplb::started(node, command, path)
    })?;
    let before = transitions(&peer)?;
    assert_eq!(first.status()?["pid"], 1);
    let inner = first.pids().into_iter().find(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:"));
        numbers.is_some_and(|n| n.split_whitespace().eq([pid.to_string().as_str(), "1"]))
    });
    let inner = inner.context("the first process")?;
    let second = Cplb::start_with(first.node(), &file(51, 200), &[], |c| {
        c.arg("--take-over");
    })?;
    let own = i64::from(second.pid().as_raw());
    second
        .wait_status("it has taken over", LONG, |s| s["pid"] == own)
        .with_context(|| format!("{}{}", first.log(), second.log()))?;
    wait::until("the one before says so", LONG, || {
        first.log().contains("waiting to be stopped").then_some(())
    })?;
    assert!(first.running());
    // Nothing of it is in the way any more: not the lock, nor its guardian.
    assert_eq!(first.pids().len(), 2, "itself, and what started it");
    kill(inner, Signal::SIGTERM)?;
    assert!(first.wait(LONG)?.success());
    assert_eq!(transitions(&peer)?, before, "the other node saw a change");
    assert_eq!(second.status()?["pid"], own);
    Ok(())
}
