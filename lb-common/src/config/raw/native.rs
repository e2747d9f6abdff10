//! The native file: `apiVersion: cplb.io/v1alpha1`, `kind: ControlPlaneLoadBalancer`.
use super::super::duration::GoDuration;
use super::{Proxy, VirtualServer, VrrpInstance};
#[cfg(feature = "serde")]
use crate::spec::XdpMode;
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(feature = "serde")]
use {
    schemars::JsonSchema,
    serde::{Deserialize, Serialize},
};

/// A control plane's address and what is balanced behind it.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct ControlPlaneLoadBalancer {
    /// `cplb.io/v1alpha1`.
    pub api_version: Option<String>,
    /// `ControlPlaneLoadBalancer`.
    pub kind: Option<String>,
    /// Names this configuration.
    pub metadata: Option<Metadata>,
    /// What is to be true.
    #[cfg_attr(feature = "serde", schemars(required))]
    pub spec: Option<Spec>,
}

/// Names a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Metadata {
    /// Shown in the status and in metrics. Default: cplb.
    pub name: Option<String>,
}

/// What is to be true.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Spec {
    /// False: the file is checked and nothing is done. Default: true.
    pub enabled: Option<bool>,
    /// The virtual routers; each carries its virtual IPs from node to node.
    #[cfg_attr(feature = "serde", schemars(required, length(max = 255)))]
    pub vrrp_instances: Option<Vec<VrrpInstance>>,
    /// Instances that are active on one node together, or not at all.
    pub sync_groups: Option<Vec<SyncGroup>>,
    /// What is balanced on the virtual IPs. Left out: the virtual IP alone.
    pub virtual_servers: Option<Vec<VirtualServer>>,
    /// The kernel's connection synchronisation. Left out: off.
    pub connection_sync: Option<ConnectionSync>,
    /// IPVS's protocol timeouts of the whole network namespace. Left out: the kernel's.
    pub ipvs_timeouts: Option<IpvsTimeouts>,
    /// What the XDP datapath is told besides its virtual servers.
    pub xdp: Option<Xdp>,
    /// What all virtual servers with datapath proxy share.
    pub proxy: Option<alloc::boxed::Box<Proxy>>,
    /// The Kubernetes API server.
    pub api: Option<Api>,
}

/// The Kubernetes API server.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Api {
    /// Its port, used by virtual servers that name none. 1-65535. Default: 6443.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 65535)))]
    pub port: Option<i64>,
}

/// Instances that are active on one node together, or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct SyncGroup {
    /// Its name.
    #[cfg_attr(feature = "serde", schemars(required))]
    pub name: Option<String>,
    /// Names of instances; at least two, each in one group only.
    #[cfg_attr(feature = "serde", schemars(required, length(min = 2)))]
    pub instances: Option<Vec<String>>,
}

/// The kernel's connection synchronisation: the holder tells the others which connections there are.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct ConnectionSync {
    /// Default: true, where connectionSync is there at all.
    pub enabled: Option<bool>,
    /// The interface for its multicast. Default: that of the instance.
    pub interface: Option<String>,
    /// 0-255, the same on all nodes of the group. Default: the instance's virtualRouterID.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "syncID"),
        schemars(range(min = 0, max = 255))
    )]
    pub sync_id: Option<i64>,
    /// Name of the instance whose holder sends. Default: the first.
    pub instance: Option<String>,
}

/// IPVS's protocol timeouts, whole seconds.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct IpvsTimeouts {
    /// An idle established TCP connection. 0s or left out: as the kernel has it.
    pub tcp: Option<GoDuration>,
    /// A TCP connection after FIN. 0s or left out: as the kernel has it.
    pub tcp_fin: Option<GoDuration>,
    /// UDP after the last datagram. 0s or left out: as the kernel has it.
    pub udp: Option<GoDuration>,
}

/// What the XDP datapath is told besides its virtual servers.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Xdp {
    /// A secret of at least 16 characters, the same on all nodes: who knows it can aim connections at one real server.
    /// Another one moves every connection. Default: made of an instance's virtualRouterID, first virtual IP and authPass.
    #[cfg_attr(feature = "serde", schemars(length(min = 16)))]
    pub hash_seed: Option<String>,
    /// auto: in the driver where it can, else above it. native: in the driver, or not at all. generic: above any driver,
    /// slower. Default: auto.
    #[cfg_attr(feature = "serde", schemars(with = "Option<XdpMode>"))]
    pub mode: Option<String>,
    /// Path of a pinned XDP program that sees what ours passes. Left out: the kernel alone does.
    #[cfg_attr(feature = "serde", schemars(length(min = 2)))]
    pub next: Option<String>,
    /// A place in another XDP program's array, where ours is put instead of being attached.
    pub root_array: Option<RootArray>,
}

/// A place in the program array of an XDP program that is attached already.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct RootArray {
    /// Where the array is pinned.
    #[cfg_attr(feature = "serde", schemars(required, length(min = 2)))]
    pub path: Option<String>,
    /// Which of its entries; nobody else's.
    #[cfg_attr(
        feature = "serde",
        schemars(required, range(min = 0, max = 4_294_967_295_u32))
    )]
    pub index: Option<i64>,
}
