//! What `status` shows of the XDP datapath.
use lb_common::abi::Traffic;
use lb_common::model::ServiceKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct XdpView {
    /// When the counters were read: milliseconds since 1970.
    pub read_ms: u64,
    /// Interfaces with the program.
    pub interfaces: Vec<InterfaceView>,
    /// Virtual servers that this node forwards.
    pub services: Vec<ForwarderView>,
    /// Their real servers, each once: what went there through all of them.
    pub backends: Vec<BackendView>,
    /// Packets that were handed to the kernel, by reason; those that never happened are left out.
    pub passed: BTreeMap<String, u64>,
    /// Packets that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Packets that were answered with an ICMP error, by reason.
    pub answered: BTreeMap<String, u64>,
    /// Flows that are remembered.
    pub flows: Option<FlowsView>,
    /// Whether every decision is logged.
    pub trace: bool,
    /// The program that sees what ours passes.
    pub next: Option<String>,
    /// The array of programs that ours is called from, instead of being attached.
    pub root_array: Option<String>,
}

/// An interface with the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
    /// Why it is not simply native.
    pub why: Option<String>,
    /// The program's number in the kernel (`bpftool prog show id`).
    pub program: Option<u32>,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwarderView {
    /// Address, port, protocol.
    pub key: ServiceKey,
    /// `DR` or `TUN`.
    pub method: String,
    /// Seconds that a client keeps its backend; `None`: a connection does.
    pub affinity: Option<u64>,
    /// What went through it.
    pub traffic: TrafficView,
    /// Who serves it.
    pub backends: Vec<MemberView>,
}

/// A real server as one virtual server has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// Its own address.
    pub address: IpAddr,
    /// Its share; 0: it drains.
    pub weight: u32,
    /// Whether packets go there at all.
    pub up: bool,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// Its own address.
    pub address: IpAddr,
    /// `DR` or `TUN`.
    pub method: String,
    /// `this node`, `02:00:00:00:00:01 on eth0`, or that its MAC address is not known.
    pub way: String,
    /// What went there.
    pub traffic: TrafficView,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficView {
    /// Packets.
    pub packets: u64,
    /// Bytes of frames as they came.
    pub bytes: u64,
    /// TCP SYNs, and packets of UDP flows that were not known.
    pub new_flows: u64,
    /// Packets whose backend was remembered, and not computed.
    pub remembered: u64,
}

impl From<Traffic> for TrafficView {
    fn from(t: Traffic) -> Self {
        Self {
            packets: t.packets,
            bytes: t.bytes,
            new_flows: t.new_flows,
            remembered: t.remembered,
        }
    }
}

/// The flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowsView {
    /// Seen once.
    pub probation: u64,
    /// Seen again, and clients that keep their backend.
    pub established: u64,
    /// So many places there are.
    pub room: u64,
}
