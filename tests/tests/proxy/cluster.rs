//! Three controllers with an API server on every address each, a client, and the daemons.
use anyhow::{Context, Result, bail};
use lb_tests::apiserver::{ApiServer, Authority};
use lb_tests::client::Client;
use lb_tests::cplb::Cplb;
use lb_tests::ready::Ready;
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(crate) const PORT: u16 = 6443;
/// k0s's `userSpaceProxyBindPort`.
pub(crate) const BIND_PORT: u16 = 6444;
/// Longer than anything takes on a machine that does ten other things.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) const fn vip() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 168, 122, 200))
}

pub(crate) fn lab() -> Result<Lab> {
    let lab = Lab::k0s()?;
    for node in lab.nodes() {
        node.wait_for_addresses(LONG)?;
    }
    Ok(lab)
}

pub(crate) struct Cluster<'lab> {
    // Daemons first: they go before what they watch.
    pub(crate) daemons: Vec<Cplb<'lab>>,
    pub(crate) servers: Vec<Option<ApiServer>>,
    authority: Authority,
    vip: IpAddr,
    pub(crate) lab: &'lab Lab,
}

impl<'lab> Cluster<'lab> {
    /// With a file for each controller.
    pub(crate) fn start(lab: &'lab Lab, vip: IpAddr, file: impl Fn(&Node) -> Result<String>) -> Result<Self> {
        let authority = Authority::new()?;
        let servers: Vec<_> = lab
            .controllers()
            .map(|n| ApiServer::start(n, &authority, &names(lab, vip)?, PORT).map(Some))
            .collect::<Result<_>>()?;
        let daemons = lab
            .controllers()
            .map(|n| Cplb::start(n, &file(n)?, &[]))
            .collect::<Result<_>>()?;
        Ok(Self {
            daemons,
            servers,
            authority,
            vip,
            lab,
        })
    }

    pub(crate) fn client(&self, node: &str) -> Result<Client<'lab>> {
        Ok(Client::new(self.lab.node(node)?, &self.authority)?.limit(Duration::from_secs(20)))
    }

    pub(crate) fn to(&self) -> SocketAddr {
        SocketAddr::new(self.vip, PORT)
    }

    /// The one holder, once it serves.
    pub(crate) fn settled(&self) -> Result<&'lab Node> {
        let holder = self.lab.holder(self.vip, LONG)?;
        let client = self.client("client")?;
        wait::until("the virtual IP answers", LONG, || client.get(self.to(), "/").ok())?;
        // Two of equal priority may have taken over at once; one of them gives way.
        self.lab.holder(self.vip, LONG)?;
        Ok(holder)
    }

    pub(crate) fn daemon(&self, node: &Node) -> Result<&Cplb<'lab>> {
        let found = self.daemons.iter().find(|d| d.node().name() == node.name());
        found.context("a daemon")
    }

    /// Ends an API server, or starts one again.
    pub(crate) fn set_server(&mut self, index: usize, runs: bool) -> Result<()> {
        let node = self.lab.controllers().nth(index).context("a controller")?;
        let server = if runs {
            Some(ApiServer::start(
                node,
                &self.authority,
                &names(self.lab, self.vip)?,
                PORT,
            )?)
        } else {
            None
        };
        *self.servers.get_mut(index).context("a server")? = server;
        Ok(())
    }

    /// Which servers answer so many connections, one after the other.
    pub(crate) fn seen(&self, from: &str, to: SocketAddr, times: usize) -> Result<BTreeSet<String>> {
        let client = self.client(from)?;
        (0..times)
            .map(|_| client.get(to, "/").map(|a| a.node))
            .collect::<Result<_>>()
            .with_context(|| format!("{to} from {from}"))
    }
}

/// Every address that a client may come by: behind a proxy a server is reached by the names of the others.
fn names(lab: &Lab, vip: IpAddr) -> Result<Vec<IpAddr>> {
    let mut names = vec![vip, IpAddr::V4(Ipv4Addr::LOCALHOST)];
    for node in lab.controllers() {
        names.extend([node.address(false)?, node.address(true)?]);
    }
    Ok(names)
}

/// Asserts that there is neither a rule of nftables nor of iptables in a node.
pub(crate) fn no_rules(node: &Node) -> Result<()> {
    let rules = node.output(&["nft", "list", "ruleset"])?;
    if !rules.trim().is_empty() {
        bail!("{} has rules:\n{rules}", node.name());
    }
    Ok(())
}
