//! What the writer found and did, for `status`.
use crate::admin::ServiceView;
use crate::datapath::proxy::ProxyView;
use crate::datapath::xdp::view::XdpView;
use lb_common::model::ServiceKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The kernel's side at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileView {
    /// Whether the file asks for balancing at all.
    pub balances: bool,
    /// Which datapath carries it, or why none does, as a sentence.
    pub datapath: String,
    /// Where the VIPs of direct routing are: `dummyvip0`, or `lo`.
    pub local_link: Option<String>,
    /// Virtual servers on this node.
    pub services: Vec<ServiceView>,
    /// The XDP datapath, where it is used.
    pub xdp: Option<XdpView>,
    /// The userspace proxy, where it runs.
    pub proxy: Option<ProxyView>,
    /// Virtual servers that the datapath of this node does not carry, or would not if it held them.
    #[serde(default)]
    pub unable: BTreeSet<ServiceKey>,
    /// The director guard.
    pub guard: Option<GuardView>,
    /// What the file asks for and is not done here, and what else is to be known of it, as sentences.
    pub remarks: Vec<String>,
    /// What is wrong now, as sentences.
    pub problems: Vec<String>,
    /// Changes made to the kernel since the start, renewals not counted.
    pub changes: u64,
    /// Renewals of the kernel lease since the start.
    pub renewals: u64,
}

/// The director guard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardView {
    /// Other directors that are known by their MAC address.
    pub peers: Vec<String>,
    /// Packets that were delivered here and not sent round again.
    pub guarded_packets: u64,
}
