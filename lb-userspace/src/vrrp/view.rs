//! What the driver shows of itself: who is what, since when, and what was heard.
use lb_common::model::{Family, IpPrefix, Version};
use lb_common::vrrp::{FaultReason, Reason, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Every instance at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleView {
    /// Goes up with every change of what is to be held.
    pub generation: u64,
    /// In the file's order; instances that were removed and still leave come last.
    pub instances: Vec<InstanceView>,
}

impl RoleView {
    /// The instances in which this node is Active.
    pub fn active(&self) -> impl Iterator<Item = &InstanceView> {
        self.instances.iter().filter(|i| i.state == State::Active)
    }

    /// Whether every instance is known to run, or why it cannot.
    pub fn is_complete(&self) -> bool {
        let looked_at = |i: &InstanceView| i.interface.is_some() || i.fault.is_some();
        self.instances.iter().all(looked_at)
    }

    /// Whether another node holds something of ours, as far as it was heard when this one left, or now.
    pub fn others_hold(&self) -> bool {
        self.instances
            .iter()
            .any(|i| match (i.state, i.transitions.last()) {
                (State::Backup, _) => i.active.is_some(),
                (State::Initialize, Some(t)) => match t.reason {
                    Reason::Succeeded { .. } => true,
                    Reason::Shutdown => t.from == State::Backup,
                    _ => false,
                },
                _ => false,
            })
    }
}

/// A network interface that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceRef {
    /// The kernel's index.
    pub index: u32,
    /// The kernel's name.
    pub name: String,
}

/// The Active router as last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeardFrom {
    /// Its primary address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransitionRecord {
    /// Counted from 1 since the instance was begun.
    #[serde(default)]
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// Why.
    pub reason: Reason,
}

/// A packet that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Who sent it.
    pub source: IpAddr,
    /// What is wrong with it, as a sentence.
    pub why: String,
}

/// Counted since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Adverts sent.
    pub sent: u64,
    /// Adverts accepted.
    pub received: u64,
    /// Gratuitous ARP and unsolicited NA sent.
    pub announced: u64,
    /// Rejected, by reason (`checksum`, `ttl`, `auth`, ...).
    pub rejected: BTreeMap<String, u64>,
}

/// One instance at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// [`lb_common::spec::Instance::name`].
    pub name: String,
    /// 1-255.
    pub vrid: u8,
    /// 2 or 3.
    pub version: Version,
    /// Of its VIPs.
    pub family: Family,
    /// Where it runs; `None` while there is no such interface.
    pub interface: Option<InterfaceRef>,
    /// The address that its adverts leave from.
    pub source: Option<IpAddr>,
    /// What is held when `holds`.
    pub virtual_ips: Vec<IpPrefix>,
    /// Where the machine stands.
    pub state: State,
    /// Whether the addresses, and what stands behind them, are to be on this node.
    pub holds: bool,
    /// With tracking's weights.
    pub priority: u8,
    /// Why it takes no part.
    pub fault: Option<FaultReason>,
    /// Who is Active, if not this node.
    pub active: Option<HeardFrom>,
    /// The last 16, newest last.
    pub transitions: Vec<TransitionRecord>,
    /// The newest packet that was not accepted.
    pub last_rejected: Option<Rejected>,
    /// Counted since the start.
    pub counters: Counters,
    /// Somebody else who answers for one of the VIPs, as a sentence.
    pub conflict: Option<String>,
}
