//! The director guard: the kernel itself keeps IPVS from balancing what is not this node's to balance.
//!
//! With direct routing every node holds the VIPs, and a node with an IPVS service re-schedules whatever arrives for
//! it, also what another director sent: the packets circle until their TTL ends (k0s #5178). Two nodes have the services
//! for a moment whenever the holder changes, and a node whose processes were all killed has them for ever. So a small nf_tables
//! table of our own, `inet cplb_guard`, hides a packet from IPVS, and the node takes it as its own, where
//!
//! - it came from a peer's MAC address or out of a tunnel: a director has chosen this node already;
//! - its VIP is not in the set of those this node directs. That set's entries expire by themselves unless they are
//!   [renewed](Guard::renew): the director's role is a lease of the kernel's, as the address is.
//!
//! Hiding is by a change of the destination before IPVS's hook that is undone after it (`rules.rs`). The packet type,
//! which IPVS respects too, cannot serve: nf_tables lets it be set at PREROUTING only (`nft_meta_set_validate`), and a
//! foreign type is not to be set back after the routing. A firewall mark would need services by mark and collide with
//! the marks of others.
//!
//! Connections that a node with services opens to the VIP itself have the VIP as their source as well, for the address
//! is its own; IPVS at LOCAL_OUT sends its share of them to other nodes, which drop what claims to come from their own
//! address. [`GuardSpec::keep_own_clients`] hides them likewise, and this node serves them.
//!
//! The table outlives us on purpose: without processes the node falls back to plain delivery. `remove()` it after
//! the last IPVS service is gone. Somebody's `nft flush ruleset` takes it away; the next `renew` says so.
mod expr;
mod nft;
pub mod redirect;
mod rules;

use crate::sys::rtnl::attr;
use crate::sys::rtnl::channel::{Refusal, Request};
use lb_common::model::MacAddr;
use nft::{Element, Kind, Nft};
use nix::errno::Errno;
use rules::{CHAINS, Chain, PEERS, Reason, TUNNEL_TYPES, TUNNELS, VERSIONS, covers};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// The table's name, of family inet.
pub const TABLE: &str = "cplb_guard";

/// What the guard watches over. Who directs is not here, since it is a lease: [`Guard::renew`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardSpec {
    /// The VIPs that have IPVS services; the port does not matter, for hiding changes nothing else.
    pub vips: BTreeSet<IpAddr>,
    /// The MAC addresses of the other nodes that may direct.
    pub peers: BTreeSet<MacAddr>,
    /// Whether packets from ipip, sit and gre devices come from a director: with real servers of kind TUN.
    pub tunnels: bool,
    /// Whether connections of this node's own to a VIP are served here instead of balanced. Without it those that IPVS
    /// gives to another node never come about, unless the client is bound to another address of the node.
    pub keep_own_clients: bool,
}

/// Packets and bytes since the table was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

/// What the guard did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardCounters {
    /// Kept from IPVS because a peer sent them. On a node that does not direct, everything that it serves; on one that
    /// does, what another director sent at the same time.
    pub from_peers: Count,
    /// Kept from IPVS because they came out of a tunnel.
    pub from_tunnels: Count,
    /// Kept from IPVS because this node does not direct that VIP.
    pub not_directing: Count,
    /// `own_clients` once more, where they arrive by the loopback device of a node that directs the VIP. (On one that
    /// does not, they count as `not_directing`.)
    pub own_arrived: Count,
    /// Given back their destination: all of the above.
    pub restored: Count,
    /// Sent by this node itself and kept from IPVS.
    pub own_clients: Count,
    /// Given back their destination: all of `own_clients`.
    pub returned: Count,
}

/// What the kernel has of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardState {
    /// What it watches over.
    pub spec: GuardSpec,
    /// The VIPs that this node directs, and for how long unless renewed.
    pub directing: BTreeMap<IpAddr, Duration>,
    /// What it did.
    pub counters: GuardCounters,
    /// Whether all chains and rules are there as this version makes them.
    pub intact: bool,
}

/// What [`Guard::apply`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing.
    Unchanged,
    /// The sets were brought up to date. Counters and leases go on.
    Updated,
    /// The table was made anew. Nothing is directed until [`Guard::renew`].
    Created,
}

/// The guard could not be set, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// This kernel has no nf_tables, or not enough of it.
    #[error("the director guard needs nf_tables and this kernel cannot: {reason}")]
    Unsupported {
        /// What it lacks.
        reason: String,
    },
    /// The table is not there (any more): apply the specification again.
    #[error("the director guard's table inet {TABLE} is gone; somebody may have flushed the rule set")]
    Gone,
    /// The kernel refused it.
    #[error("{action}: {refusal}")]
    Refused {
        /// What was being done.
        action: &'static str,
        /// Its answer.
        refusal: Refusal,
    },
    /// The socket itself failed.
    #[error("{action}: netlink socket: {source}")]
    Socket {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Others changed rules each time the table was read.
    #[error("reading the guard's table: the rules kept changing while they were read")]
    Unstable,
}

impl GuardError {
    /// Whether the same call may succeed in a moment. [`Self::Gone`] needs [`Guard::apply`] first.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unsupported { .. } | Self::Gone => false,
            Self::Refused { refusal, .. } => matches!(
                refusal.errno,
                Errno::EBUSY | Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM
            ),
            Self::Socket { .. } | Self::Unstable => true,
        }
    }
}

/// The guard's table in one network namespace.
pub struct Guard {
    nft: Nft,
}

impl Guard {
    /// Opens it in the network namespace that the calling thread is in now, and changes nothing. Needs a tokio runtime
    /// with I/O.
    pub fn open() -> Result<Self, GuardError> {
        Ok(Self {
            nft: Nft::open(TABLE)?,
        })
    }

    /// Brings the table to `spec` in one transaction; makes it where it is missing or damaged.
    pub async fn apply(&mut self, spec: &GuardSpec) -> Result<Applied, GuardError> {
        // Without a VIP there is nothing in the kernel that would remember it.
        let mut readable = spec.clone();
        readable.keep_own_clients &= !spec.vips.is_empty();
        let (mut requests, applied) = match self.read_back().await? {
            Some(state) if state.intact && state.spec == readable => return Ok(Applied::Unchanged),
            Some(state) if state.intact => (Vec::new(), Applied::Updated),
            Some(_) | None => (rules::table(&self.nft), Applied::Created),
        };
        requests.extend(self.fill(spec));
        let action = "setting the director guard";
        self.nft.commit(action, requests).await.map_err(|e| match e {
            // ENOENT is what an expression or a chain type without its module gives.
            GuardError::Refused { refusal, .. }
                if matches!(
                    refusal.errno,
                    Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::ENOENT
                ) =>
            {
                GuardError::Unsupported {
                    reason: format!("setting the table: {refusal} (modules nf_tables, nft_counter)"),
                }
            }
            other => other,
        })?;
        Ok(applied)
    }

    /// This node directs exactly these VIPs, until `timeout` from now. Call it every second or so while holding, and
    /// once with none on giving up.
    pub async fn renew(&mut self, directing: &[IpAddr], timeout: Duration) -> Result<(), GuardError> {
        let mut requests = Vec::new();
        for version in &VERSIONS {
            // Emptied and filled in one transaction: kernels before 6.12 do not prolong an element that is there.
            requests.push(self.nft.flush(version.directing));
            let elements: BTreeSet<_> = directing.iter().filter(|a| version.holds(**a)).collect();
            let elements: Vec<_> = elements
                .into_iter()
                .map(|address| Element {
                    key: attr::octets(*address),
                    value: None,
                    timeout: Some(timeout.max(Duration::from_millis(1))),
                })
                .collect();
            requests.extend(self.nft.add(version.directing, &elements));
        }
        let renewed = self.nft.commit("renewing the director's lease", requests).await;
        renewed.map_err(|e| match e {
            GuardError::Refused { refusal, .. } if refusal.errno == Errno::ENOENT => GuardError::Gone,
            other => other,
        })
    }

    /// What the kernel has; none where the table is not there.
    pub async fn read_back(&mut self) -> Result<Option<GuardState>, GuardError> {
        let mut state = GuardState::default();
        let Some(intact) = self.read_rules(&mut state.counters).await? else {
            return Ok(None);
        };
        state.intact = intact && self.read_chains().await?;
        state.intact &= self.read_sets(&mut state).await?;
        Ok(Some(state))
    }

    /// Takes the table away. One that is not there is removed already.
    pub async fn remove(&mut self) -> Result<(), GuardError> {
        // Added first, so that there is one to delete.
        let requests = vec![self.nft.new_table(), self.nft.delete_table()];
        match self.nft.commit("removing the director guard", requests).await {
            Err(GuardError::Refused { refusal, .. })
                if matches!(refusal.errno, Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn fill(&self, spec: &GuardSpec) -> Vec<Request> {
        let plain = |key: &[u8]| Element {
            key: key.to_vec(),
            ..Element::default()
        };
        let pair = |from: IpAddr, to: IpAddr| Element {
            key: attr::octets(from),
            value: Some(attr::octets(to)),
            timeout: None,
        };
        let peers: Vec<_> = spec.peers.iter().map(|m| plain(&m.0)).collect();
        let types = if spec.tunnels { &TUNNEL_TYPES[..] } else { &[] };
        let tunnels: Vec<_> = types.iter().map(|t| plain(&t.to_ne_bytes())).collect();
        let mut sets = vec![(PEERS, peers), (TUNNELS, tunnels)];
        let covers = covers(&spec.vips);
        for version in &VERSIONS {
            let of_version = covers.iter().filter(|(vip, _)| version.holds(**vip));
            let (there, back): (Vec<_>, Vec<_>) =
                of_version.map(|(v, c)| (pair(*v, *c), pair(*c, *v))).unzip();
            let own = if spec.keep_own_clients {
                there.clone()
            } else {
                Vec::new()
            };
            sets.extend([
                (version.own, own),
                (version.covers, there),
                (version.covered, back),
            ]);
        }
        let mut requests = Vec::new();
        for (set, elements) in sets {
            requests.push(self.nft.flush(set));
            requests.extend(self.nft.add(set, &elements));
        }
        requests
    }

    /// None where there is no table; otherwise whether its rules are exactly ours.
    async fn read_rules(&mut self, counters: &mut GuardCounters) -> Result<Option<bool>, GuardError> {
        let filter = self.nft.named(1);
        let Some(found) = self.nft.list(Kind::GetRule, filter).await? else {
            return Ok(None);
        };
        let mut reasons = Vec::new();
        let mut foreign = false;
        for rule in &found {
            let Some(reason) = nft::comment(rule).and_then(Reason::of) else {
                foreign = true;
                continue;
            };
            reasons.push(reason);
            let (packets, bytes) = attr::find(rule, 4).and_then(expr::counted).unwrap_or_default();
            let count = match reason {
                Reason::Peer => &mut counters.from_peers,
                Reason::Tunnel => &mut counters.from_tunnels,
                Reason::NotDirecting => &mut counters.not_directing,
                Reason::OwnArrived => &mut counters.own_arrived,
                Reason::Restored => &mut counters.restored,
                Reason::OwnClient => &mut counters.own_clients,
                Reason::Returned => &mut counters.returned,
            };
            count.packets += packets;
            count.bytes += bytes;
        }
        let mut expected: Vec<_> = Reason::expected().collect();
        expected.sort_unstable();
        reasons.sort_unstable();
        // A table without any rule cannot be told from none by this list alone; it is damaged or not there.
        if found.is_empty() && self.read_sets_missing().await? {
            return Ok(None);
        }
        Ok(Some(!foreign && reasons == expected))
    }

    async fn read_sets_missing(&mut self) -> Result<bool, GuardError> {
        Ok(self.nft.elements(PEERS).await?.is_none())
    }

    async fn read_chains(&mut self) -> Result<bool, GuardError> {
        let filter = self.nft.named(1);
        let found = self.nft.list(Kind::GetChain, filter).await?.unwrap_or_default();
        let is = |chain: &[u8], wanted: &Chain| {
            let hook = attr::find(chain, 4).unwrap_or_default();
            attr::find(chain, 3).and_then(|n| n.strip_suffix(&[0])) == Some(wanted.name.as_bytes())
                && attr::find(hook, 1) == Some((wanted.hook as u32).to_be_bytes().as_slice())
                && attr::find(hook, 2) == Some(wanted.priority.to_be_bytes().as_slice())
        };
        // The kernel lists the chains of every table of the family.
        let own = |chain: &&Vec<u8>| {
            attr::find(chain, 1).and_then(|t| t.strip_suffix(&[0])) == Some(TABLE.as_bytes())
        };
        let own: Vec<_> = found.iter().filter(own).collect();
        let present = |wanted: &Chain| own.iter().any(|chain| is(chain, wanted));
        Ok(own.len() == CHAINS.len() && CHAINS.iter().all(present))
    }

    /// Fills in the specification and who directs; says whether every set is there and the maps agree.
    async fn read_sets(&mut self, state: &mut GuardState) -> Result<bool, GuardError> {
        let (Some(peers), Some(tunnels)) =
            (self.nft.elements(PEERS).await?, self.nft.elements(TUNNELS).await?)
        else {
            return Ok(false);
        };
        let macs = peers
            .iter()
            .filter_map(|e| e.key.as_slice().try_into().ok().map(MacAddr));
        state.spec.peers = macs.collect();
        state.spec.tunnels = tunnels.len() == TUNNEL_TYPES.len();
        let mut whole = tunnels.is_empty() || state.spec.tunnels;
        let mut kept = BTreeSet::new();
        for version in &VERSIONS {
            let there = self.nft.elements(version.covers).await?;
            let own = self.nft.elements(version.own).await?;
            let back = self.nft.elements(version.covered).await?;
            let directing = self.nft.elements(version.directing).await?;
            let (Some(there), Some(own), Some(back), Some(directing)) = (there, own, back, directing) else {
                return Ok(false);
            };
            let (there, own) = (pairs(&there), pairs(&own));
            let back: BTreeMap<_, _> = pairs(&back)
                .into_iter()
                .map(|(cover, vip)| (vip, cover))
                .collect();
            let vips: BTreeSet<IpAddr> = there.keys().copied().collect();
            whole &= there == back && there == covers(&vips) && (own.is_empty() || own == there);
            kept.extend(own.into_keys());
            state.spec.vips.extend(vips);
            let leases = directing
                .iter()
                .filter_map(|e| Some((attr::address(&e.key)?, e.timeout?)));
            state.directing.extend(leases);
        }
        state.spec.keep_own_clients = !kept.is_empty();
        Ok(whole && (kept.is_empty() || kept == state.spec.vips))
    }
}

fn pairs(elements: &[Element]) -> BTreeMap<IpAddr, IpAddr> {
    elements
        .iter()
        .filter_map(|e| Some((attr::address(&e.key)?, attr::address(e.value.as_deref()?)?)))
        .collect()
}
