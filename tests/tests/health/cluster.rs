//! Three controllers with an API server and a daemon each, over IPVS where the kernel has it, else over XDP.
use anyhow::{Context, Result, bail};
use lb_tests::apiserver::Authority;
use lb_tests::client::Client;
use lb_tests::cplb::Cplb;
use lb_tests::crowd::server::{self, Service};
use lb_tests::crowd::{self, Crowd, Plan, Reach};
use lb_tests::daemon::Daemon;
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A limit only ends what would never end.
pub(crate) const LONG: Duration = Duration::from_secs(90);
/// The API server's port.
pub(crate) const PORT: u16 = 6443;
/// The controllers, the one that holds first.
pub(crate) const CONTROLLERS: [&str; 3] = ["c1", "c2", "c3"];
/// How long an API server serves after SIGTERM (`--shutdown-delay-duration`).
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Which datapath this kernel has.
pub(crate) fn this_kernels() -> Result<&'static str> {
    if Path::new("/proc/net/ip_vs").exists() {
        return Ok("ipvs");
    }
    let tried = Lab::builder().node("a", &["10.0.0.1/24"]).native_xdp().build();
    tried
        .map(|_| "xdp")
        .context("neither IPVS nor native XDP on veth here")
}

/// Leaves a test where neither can be had.
macro_rules! datapath {
    () => {
        match crate::cluster::this_kernels() {
            Ok(name) => name,
            Err(why) => lb_tests::skip!("{why:#}"),
        }
    };
}
pub(crate) use datapath;

/// The virtual IP.
pub(crate) fn vip() -> IpAddr {
    IpAddr::from([192, 168, 122, 200])
}

/// The client's addresses.
pub(crate) fn sources() -> Vec<IpAddr> {
    crowd::addresses(IpAddr::from([192, 168, 122, 100]), 12)
}

/// The network of the examples.
pub(crate) fn lab(datapath: &str) -> Result<Lab> {
    let own: Vec<String> = sources().iter().map(|a| format!("{a}/24")).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let builder = Lab::builder()
        .node("c1", &["192.168.122.37/24"])
        .node("c2", &["192.168.122.185/24"])
        .node("c3", &["192.168.122.87/24"])
        .node("client", &own);
    if datapath == "xdp" {
        builder.native_xdp().build()
    } else {
        builder.build()
    }
}

/// The controllers of a lab with all that runs on them.
pub(crate) struct Cluster<'lab> {
    /// Where it is.
    pub(crate) lab: &'lab Lab,
    authority: Authority,
    servers: BTreeMap<String, Daemon>,
    daemons: BTreeMap<String, Cplb<'lab>>,
}

impl<'lab> Cluster<'lab> {
    /// Servers first, then the daemons; waits until `c1` holds and everybody is found healthy.
    pub(crate) fn start(lab: &'lab Lab, datapath: &str) -> Result<Self> {
        let mut cluster = Self {
            lab,
            authority: Authority::new()?,
            servers: BTreeMap::new(),
            daemons: BTreeMap::new(),
        };
        for name in CONTROLLERS {
            cluster.serve(name)?;
        }
        for (name, priority) in CONTROLLERS.iter().zip([200, 150, 100]) {
            let node = lab.node(name)?;
            let daemon = Cplb::start(node, &file(lab, datapath, priority)?, &[])?;
            cluster.daemons.insert((*name).to_owned(), daemon);
        }
        cluster.held_by("c1")?;
        for name in CONTROLLERS {
            cluster.wait_state(name, "up")?;
        }
        cluster.reaches_all()?;
        Ok(cluster)
    }

    /// Starts a controller's API server.
    pub(crate) fn serve(&mut self, name: &str) -> Result<()> {
        let service = Service {
            tls: Some((&[PORT], &self.authority)),
            vips: &[vip()],
            grace: Some(GRACE),
            ..Service::default()
        };
        let server = server::start(self.lab.node(name)?, service)?;
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }

    /// A controller's API server.
    pub(crate) fn server(&mut self, name: &str) -> Result<&mut Daemon> {
        self.servers
            .get_mut(name)
            .with_context(|| format!("no server on {name}"))
    }

    /// A controller's daemon.
    pub(crate) fn daemon(&self, name: &str) -> Result<&Cplb<'lab>> {
        self.daemons
            .get(name)
            .with_context(|| format!("no daemon on {name}"))
    }

    /// Waits until `c1` says this of a controller's API server: `up`, `unready` or `down`.
    pub(crate) fn wait_state(&self, name: &str, state: &str) -> Result<Value> {
        let server = SocketAddr::new(self.lab.node(name)?.ipv4()?, PORT).to_string();
        let daemon = self.daemon("c1")?;
        let seen = daemon.wait_status(&format!("{name} is {state} to c1"), LONG, |s| {
            s["health"]["servers"][&server]["state"] == state
        });
        seen.with_context(|| self.logs())
    }

    /// Waits until this node alone holds the virtual IP.
    pub(crate) fn held_by(&self, name: &str) -> Result<()> {
        let held = wait::until(&format!("the virtual IP on {name} alone"), LONG, || {
            matches!(self.lab.holders(vip())[..], [one] if one.name() == name).then_some(())
        });
        held.with_context(|| self.logs())
    }

    /// Waits until new connections reach every server.
    pub(crate) fn reaches_all(&self) -> Result<()> {
        let client = self.client()?;
        let mut seen = std::collections::BTreeSet::new();
        let mut turn = sources().into_iter().cycle();
        let found = wait::until("new connections reach every server", LONG, || {
            if let Ok(node) = who(&client, turn.next()) {
                seen.insert(node);
            }
            (seen.len() == CONTROLLERS.len()).then_some(())
        });
        found.with_context(|| self.logs())
    }

    /// A client that trusts the servers.
    pub(crate) fn client(&self) -> Result<Client<'lab>> {
        Ok(Client::new(self.lab.node("client")?, &self.authority)?.limit(Duration::from_secs(4)))
    }

    /// So many connections through the virtual IP, kept and asked on all the time.
    pub(crate) fn crowd(&self, connections: usize) -> Result<Crowd> {
        let reach = Reach {
            sources: sources(),
            to: vec![SocketAddr::new(vip(), PORT)],
            tls: Some(Arc::new(self.authority.client_config()?)),
        };
        let plan = Plan {
            connections,
            interval: Duration::from_millis(500),
            patience: LONG,
        };
        let crowd = Crowd::start(self.lab.node("client")?, &reach, plan)?;
        crowd.established(LONG).with_context(|| self.logs())?;
        Ok(crowd)
    }

    /// What every daemon said last, for messages.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        for (name, daemon) in &self.daemons {
            let log = daemon.log();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            let _ = writeln!(text, "{name}: {:?}", self.lab.node(name).map(Node::addresses));
            text.extend(last.iter().rev().map(|line| format!("    {line}\n")));
        }
        text
    }
}

/// One request on a connection of its own: who answered.
pub(crate) fn who(client: &Client<'_>, source: Option<IpAddr>) -> Result<String> {
    let mut session = client.connect_from(source, SocketAddr::new(vip(), PORT))?;
    match session.request("/who")? {
        (200, node) => Ok(node),
        (status, body) => bail!("status {status}: {body}"),
    }
}

/// A file without a word on health: that is the default that is tried.
fn file(lab: &Lab, datapath: &str, priority: u8) -> Result<String> {
    let mut servers = String::new();
    for name in CONTROLLERS {
        write!(servers, "{{address: {}}}, ", lab.node(name)?.ipv4()?)?;
    }
    Ok(format!(
        "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nmetadata: {{name: lab}}\nspec:\n  \
         vrrpInstances:\n    - {{name: api, interface: eth0, virtualIPs: [\"{vip}/24\"], version: 3, \
         advertInterval: 300ms, priority: {priority}}}\n  \
         virtualServers:\n    - {{name: api, ipAddress: {vip}, datapath: {datapath}, \
         persistenceTimeoutSeconds: 0, realServers: [{servers}]}}\n",
        vip = vip()
    ))
}
