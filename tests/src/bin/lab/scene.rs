//! The lab of the demonstration: its nodes, their daemons and servers, and the client's connections.
use crate::datapath::Datapath;
use anyhow::{Context, Result};
use lb_tests::apiserver::Authority;
use lb_tests::cplb;
use lb_tests::crowd::server::{self, Service};
use lb_tests::crowd::{Crowd, Member, Plan, Reach, addresses};
use lb_tests::daemon::Daemon;
use lb_tests::topology::{Lab, Node};
use lb_tests::{standing, wait};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Where the API servers listen.
const PORT: u16 = 6443;
/// A client that comes again is sent to the server it had, so different servers want different clients.
const CLIENTS: u8 = 16;
/// And each step of the demonstration wants its own: one that had to leave its server in an earlier step stays where it
/// was sent for as long as the file says (`persistenceTimeoutSeconds`), which the next holder does not know.
const STEPS: u8 = 5;
/// The first of their addresses.
const FIRST_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 122, 100));
/// Long-lived connections, asked again and again while something happens.
const ESTABLISHED: usize = 240;

/// Who answered how often, and what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) by_server: BTreeMap<String, usize>,
    pub(crate) errors: Vec<String>,
}

/// How many of the long-lived connections whose server was within reach went on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) kept: usize,
    pub(crate) of: usize,
    /// Whether this datapath promises that all do.
    pub(crate) promised: bool,
}

pub(crate) struct Scene {
    // Daemons end before the nodes that they run in.
    daemons: BTreeMap<String, Daemon>,
    _servers: Vec<Daemon>,
    authority: Authority,
    config: String,
    datapath: Datapath,
    vip: IpAddr,
    step: u8,
    lab: Lab,
}

impl Scene {
    /// With the text of the controllers' file.
    pub(crate) fn new(lab: Lab, datapath: Datapath, config: String) -> Result<Self> {
        let vip = IpAddr::from([192, 168, 122, 200]);
        let authority = Authority::new()?;
        let more: String = addresses(FIRST_CLIENT, STEPS * CLIENTS)
            .iter()
            .map(|source| format!("address add {source}/24 dev eth0\n"))
            .collect();
        lab.node("client")?.netns().ip(&more)?;
        let service = Service {
            tls: Some((&[PORT], &authority)),
            vips: &[vip],
            ..Service::default()
        };
        let servers = lab.controllers().map(|node| server::start(node, service));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            daemons: BTreeMap::new(),
            _servers: servers,
            authority,
            config,
            datapath,
            vip,
            step: 0,
            lab,
        })
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(crate) fn vip(&self) -> IpAddr {
        self.vip
    }

    pub(crate) fn client(&self) -> Result<&Node> {
        self.lab.node("client")
    }

    pub(crate) fn start_all(&mut self) -> Result<()> {
        let names: Vec<String> = self
            .lab
            .controllers()
            .map(|node| node.name().to_owned())
            .collect();
        names.iter().try_for_each(|name| self.start(name))
    }

    /// Starts cplb on a controller, with all of them as everybody's real servers.
    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        let node = self.lab.node(name)?;
        let path = node.dir().join("cplb.yaml");
        std::fs::write(&path, &self.config).with_context(|| path.display().to_string())?;
        let mut command = Command::new(cplb::binary());
        command.arg("run").arg("--config").arg(&path);
        if !self.config.contains("realServers") {
            for backend in backends(&self.lab)? {
                command.arg("--backend").arg(backend);
            }
        }
        let daemon = Daemon::start(node, "cplb", command)?;
        self.daemons.insert(name.to_owned(), daemon);
        Ok(())
    }

    /// Waits until the last daemon of a controller has left, and starts another.
    pub(crate) fn restart(&mut self, name: &str, limit: Duration) -> Result<()> {
        if let Some(daemon) = self.daemons.get_mut(name) {
            daemon.wait_all(limit)?;
        }
        self.start(name)
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.daemons
            .get(name)
            .with_context(|| format!("nothing runs on {name}"))?
            .signal(signal)
    }

    /// Waits for exactly one holder.
    pub(crate) fn holder(&mut self, limit: Duration) -> Result<String> {
        let found = self
            .lab
            .holder(self.vip, limit)
            .map(|node| node.name().to_owned());
        if found.is_err() {
            self.logs();
        }
        found
    }

    /// Waits until somebody other than `last` has the address as well or instead.
    pub(crate) fn other_holder(&mut self, last: &str, limit: Duration) -> Result<String> {
        let found = wait::until(&format!("a holder other than {last}"), limit, || {
            let holders = self.lab.holders(self.vip);
            holders
                .iter()
                .find(|node| node.name() != last)
                .map(|node| node.name().to_owned())
        });
        if found.is_err() {
            self.logs();
        }
        found
    }

    /// Waits until the node takes packets for the address, whoever holds it.
    pub(crate) fn takes_connections(&self, name: &str, limit: Duration) -> Result<()> {
        let node = self.lab.node(name)?;
        let anywhere = || {
            node.addresses()
                .values()
                .flatten()
                .any(|address| *address == self.vip)
        };
        wait::until(&format!("{} on {name}", self.vip), limit, || {
            anywhere().then_some(())
        })
    }

    /// Waits until every controller finds the servers of all but `gone` well: connections that are made before stay where
    /// they are for as long as their director remembers them, and no longer.
    pub(crate) fn healthy(&self, gone: Option<&str>, limit: Duration) -> Result<()> {
        let reachable = |node: &&Node| Some(node.name()) != gone;
        let servers = self.lab.controllers().filter(reachable).map(Node::ipv4);
        let servers = servers.collect::<Result<_>>()?;
        standing::wait_healthy(self.lab.controllers().filter(reachable), &servers, limit)
    }

    /// What `cplb status` says on a node.
    pub(crate) fn status(&self, name: &str) -> String {
        let said = self.lab.node(name).and_then(|node| cplb::run(node, &["status"]));
        match said {
            Ok(out) => String::from_utf8_lossy(&out.stdout).into_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Other clients from now on.
    pub(crate) fn next_step(&mut self) {
        self.step = (self.step + 1) % STEPS;
    }

    /// The client's addresses in this step.
    fn clients(&self) -> Vec<IpAddr> {
        let all = addresses(FIRST_CLIENT, STEPS * CLIENTS);
        let first = usize::from(self.step) * usize::from(CLIENTS);
        all.into_iter().skip(first).take(CLIENTS.into()).collect()
    }

    fn crowd(&self, plan: Plan) -> Result<Crowd> {
        let reach = Reach {
            sources: self.clients(),
            to: vec![SocketAddr::new(self.vip, PORT)],
            tls: Some(Arc::new(self.authority.client_config()?)),
        };
        Crowd::start(self.client()?, &reach, plan)
    }

    /// One new connection from each of the client's addresses.
    pub(crate) fn requests(&self) -> Result<Requests> {
        let limit = Duration::from_secs(8);
        let crowd = self.crowd(Plan {
            connections: CLIENTS.into(),
            interval: limit,
            patience: limit,
        })?;
        // What did not come is what is shown.
        let _ = crowd.established(limit * 2);
        let mut requests = Requests::default();
        for member in crowd.members() {
            match (&member.node, &member.broken) {
                (Some(node), None) => *requests.by_server.entry(node.clone()).or_default() += 1,
                (_, why) => {
                    let why = why
                        .as_ref()
                        .map_or("no answer".to_owned(), |(_, why)| why.to_string());
                    requests.errors.push(format!("{}: {why}", member.ends.0.ip()));
                }
            }
        }
        if let Some(first) = requests.errors.first() {
            let all = requests.errors.len();
            println!("    {all} of {CLIENTS} connections failed: {first}");
        }
        Ok(requests)
    }

    /// Long-lived connections to all servers.
    pub(crate) fn establish(&self, limit: Duration) -> Result<Crowd> {
        let crowd = self.crowd(Plan {
            connections: ESTABLISHED,
            interval: Duration::from_millis(200),
            patience: limit,
        })?;
        crowd.established(limit)?;
        Ok(crowd)
    }

    /// How many of them go on, of those that are not served by `gone`.
    pub(crate) fn kept(&self, crowd: &Crowd, gone: Option<&str>, limit: Duration) -> Kept {
        let reachable = |member: &Member| member.node.as_deref() != gone || gone.is_none();
        // Those that are not heard again in time are told by their age below.
        let heard = crowd.heard_again_where(limit, reachable).is_ok();
        let members = crowd.members();
        let of: Vec<&Member> = members.iter().filter(|member| reachable(member)).collect();
        let fresh = |member: &&&Member| heard || member.heard.is_some_and(|at| at.elapsed() < limit);
        let kept = of.iter().filter(|member| member.broken.is_none()).filter(fresh);
        Kept {
            kept: kept.count(),
            of: of.len(),
            promised: self.datapath == Datapath::Xdp,
        }
    }

    /// The end of every daemon's log, when something is wrong.
    pub(crate) fn logs(&mut self) {
        for (name, daemon) in &mut self.daemons {
            println!(
                "--- cplb on {name}{}",
                if daemon.running() { "" } else { ", which has ended" }
            );
            let log = daemon.log();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            tail.iter().rev().for_each(|line| println!("    {line}"));
        }
    }
}

/// The controllers' addresses, as `--backend` takes them.
pub(crate) fn backends(lab: &Lab) -> Result<Vec<String>> {
    lab.controllers()
        .map(|node| Ok(node.ipv4()?.to_string()))
        .collect()
}

impl Requests {
    pub(crate) fn well(&self) -> bool {
        self.errors.is_empty() && self.by_server.len() > 1
    }

    /// `c1 4, c2 4, c3 4`.
    pub(crate) fn spread(&self) -> String {
        let mut parts: Vec<String> = self
            .by_server
            .iter()
            .map(|(node, n)| format!("{node} {n}"))
            .collect();
        if !self.errors.is_empty() {
            parts.push(format!("failed {}", self.errors.len()));
        }
        parts.join(", ")
    }
}

impl Kept {
    pub(crate) fn well(&self) -> bool {
        !self.promised || self.kept == self.of
    }
}
