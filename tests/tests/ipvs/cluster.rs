//! Three controllers with an API server and a daemon each, and a client with many addresses.
use crate::kernel;
use anyhow::{Context, Result};
use lb_tests::apiserver::{ApiServer, Authority};
use lb_tests::client::Client;
use lb_tests::cplb::Cplb;
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// For anything that happens at all: the guest is emulated, and a limit only ends what would never end.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// The API server's port.
pub(crate) const PORT: u16 = 6443;

/// The virtual IP of the examples.
pub(crate) fn vip() -> IpAddr {
    IpAddr::from([192, 168, 122, 200])
}

/// Its IPv6 counterpart in the lab.
pub(crate) fn vip6() -> IpAddr {
    IpAddr::from([0xfd00, 0x122, 0, 0, 0, 0, 0, 0x200])
}

/// A second one.
pub(crate) fn other_vip() -> IpAddr {
    IpAddr::from([192, 168, 122, 201])
}

/// The addresses of the client: a persistent virtual server ties each to one real server.
pub(crate) fn sources(ipv6: bool) -> Vec<IpAddr> {
    let of = |n: u16| -> IpAddr {
        if ipv6 {
            IpAddr::from([0xfd00, 0x122, 0, 0, 0, 0, 0, 0x100 + n])
        } else {
            IpAddr::from([192, 168, 122, 100 + n.to_be_bytes()[1]])
        }
    };
    (0..6).map(of).collect()
}

/// The examples' network: `c1` to `c3`, and `client` with all of [`sources`].
pub(crate) fn lab() -> Result<Lab> {
    let mut own = Vec::new();
    for ipv6 in [false, true] {
        let bits = if ipv6 { 64 } else { 24 };
        own.extend(sources(ipv6).iter().map(|a| format!("{a}/{bits}")));
    }
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    Lab::builder()
        .node("c1", &["192.168.122.37/24", "fd00:122::37/64"])
        .node("c2", &["192.168.122.185/24", "fd00:122::185/64"])
        .node("c3", &["192.168.122.87/24", "fd00:122::87/64"])
        .node("client", &own)
        .build()
}

/// A native file: one instance that holds `vip()` with quick adverts, and what the caller adds below `spec`.
pub(crate) fn native(rest: &str) -> String {
    format!(
        "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nmetadata: {{name: lab}}\nspec:\n  \
         vrrpInstances:\n    - {{name: api, virtualIPs: [\"{}/24\"], version: 3, advertInterval: 300ms}}\n{rest}",
        vip()
    )
}

/// The file of one controller.
type Config<'lab> = Box<dyn Fn(&Node) -> Result<String> + 'lab>;

/// The controllers of a lab with all that runs on them.
pub(crate) struct Cluster<'lab> {
    /// Where it is.
    pub(crate) lab: &'lab Lab,
    authority: Authority,
    vips: Vec<IpAddr>,
    config: Config<'lab>,
    servers: BTreeMap<String, ApiServer>,
    daemons: BTreeMap<String, Cplb<'lab>>,
}

impl<'lab> Cluster<'lab> {
    /// Servers first, then the daemons, each with its file and, where this is not empty, every controller as `--backend`.
    pub(crate) fn start(
        lab: &'lab Lab,
        vips: &[IpAddr],
        config: impl Fn(&Node) -> Result<String> + 'lab,
    ) -> Result<Self> {
        let authority = Authority::new()?;
        let mut cluster = Self {
            lab,
            authority,
            vips: vips.to_vec(),
            config: Box::new(config),
            servers: BTreeMap::new(),
            daemons: BTreeMap::new(),
        };
        for node in lab.controllers() {
            cluster.serve(node.name())?;
        }
        for node in lab.controllers() {
            cluster.run(node.name())?;
        }
        Ok(cluster)
    }

    /// The same with one text for all.
    pub(crate) fn same(lab: &'lab Lab, vips: &[IpAddr], config: &str) -> Result<Self> {
        let config = config.to_owned();
        Self::start(lab, vips, move |_| Ok(config.clone()))
    }

    /// Starts a controller's API server.
    pub(crate) fn serve(&mut self, name: &str) -> Result<()> {
        let server = ApiServer::start(self.lab.node(name)?, &self.authority, &self.vips, PORT)?;
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }

    /// Ends a controller's API server.
    pub(crate) fn stop_serving(&mut self, name: &str) {
        self.servers.remove(name);
    }

    /// Starts a controller's daemon.
    pub(crate) fn run(&mut self, name: &str) -> Result<()> {
        let node = self.lab.node(name)?;
        let config = (self.config)(node)?;
        // Files with unicast peers or real servers name the real servers themselves.
        let named = config.contains("unicastPeers") || config.contains("realServers");
        let backends = if named { vec![] } else { self.backends()? };
        let daemon = Cplb::start(node, &config, &backends)?;
        self.daemons.insert(name.to_owned(), daemon);
        Ok(())
    }

    /// Starts another daemon in the place of a controller's, and waits until it has taken over.
    pub(crate) fn upgrade(&mut self, name: &str) -> Result<()> {
        let node = self.lab.node(name)?;
        let config = (self.config)(node)?;
        let new = Cplb::start_with(node, &config, &self.backends()?, |c| {
            c.arg("--take-over");
        })?;
        let own = i64::from(new.pid().as_raw());
        new.wait_status("it has taken over", LONG, |s| s["pid"] == own)?;
        let mut old = self
            .daemons
            .insert(name.to_owned(), new)
            .context("a daemon before it")?;
        let ended = old.wait(LONG)?;
        anyhow::ensure!(ended.success(), "{name}: {ended}\n{}", old.log());
        Ok(())
    }

    /// The `--backend`s: the IPv4 or IPv6 addresses of all controllers, as the virtual IPs are.
    pub(crate) fn backends(&self) -> Result<Vec<String>> {
        let ipv6 = self.vips.first().is_some_and(IpAddr::is_ipv6);
        let own = self
            .lab
            .controllers()
            .map(|n| n.address(ipv6).map(|a| a.to_string()));
        own.collect()
    }

    /// A controller's daemon.
    pub(crate) fn daemon(&self, name: &str) -> Result<&Cplb<'lab>> {
        self.daemons
            .get(name)
            .with_context(|| format!("no daemon on {name}"))
    }

    /// The same, to wait for its end.
    pub(crate) fn daemon_mut(&mut self, name: &str) -> Result<&mut Cplb<'lab>> {
        self.daemons
            .get_mut(name)
            .with_context(|| format!("no daemon on {name}"))
    }

    /// Tells a daemon to stop and waits until nothing of it runs.
    pub(crate) fn stop(&mut self, name: &str) -> Result<()> {
        let daemon = self.daemon_mut(name)?;
        daemon.signal(Signal::SIGTERM)?;
        daemon.wait_all(LONG)
    }

    /// A client that trusts the servers.
    pub(crate) fn client(&self) -> Result<Client<'lab>> {
        Ok(Client::new(self.lab.node("client")?, &self.authority)?.limit(Duration::from_secs(8)))
    }

    /// The one controller that holds `vip`.
    pub(crate) fn holder(&self, vip: IpAddr) -> Result<&'lab Node> {
        self.lab.holder(vip, LONG)
    }

    /// Waits until one controller holds `vip`, directs to as many real servers, knows the other directors, and answers.
    pub(crate) fn settled(&self, vip: IpAddr, servers: usize) -> Result<&'lab Node> {
        let holder = wait::until("one holder that directs to every real server", LONG, || {
            let [holder] = self.lab.holders(vip)[..] else {
                return None;
            };
            let there = kernel::real_servers(holder, SocketAddr::new(vip, PORT)).ok()?;
            (there.len() == servers).then_some(holder)
        });
        let holder = holder.with_context(|| self.tables())?;
        for daemon in self.daemons.values() {
            let others = servers.min(self.daemons.len()).saturating_sub(1);
            daemon.wait_status("the other directors are known", LONG, |status| {
                let peers = status["kernel"]["guard"]["peers"].as_array();
                status["kernel"]["guard"].is_null() || peers.is_some_and(|p| p.len() >= others)
            })?;
        }
        Ok(holder)
    }

    /// What every controller has, for messages.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for node in self.lab.controllers() {
            text += &format!(
                "{}: {:?}\n{:#?}\n",
                node.name(),
                node.addresses(),
                kernel::saved(node)
            );
            let log = self.daemons.get(node.name()).map(|d| d.log()).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(12).collect();
            text.extend(last.iter().rev().map(|line| format!("    {line}\n")));
        }
        text
    }
}
