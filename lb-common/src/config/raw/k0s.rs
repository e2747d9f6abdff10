//! What is read of a k0s.yaml: a few keys outside of `controlPlaneLoadBalancing`, where others are ignored, and all of
//! that block, where others are refused.
use super::super::duration::GoDuration;
use super::{VirtualServer, VrrpInstance};
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(feature = "serde")]
use {
    schemars::JsonSchema,
    serde::{Deserialize, Serialize},
};

/// The k0s version whose block this is.
pub const K0S_VERSION: &str = "1.36";

/// k0s's `ClusterConfig`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct ClusterConfig {
    /// Names the cluster.
    pub metadata: Option<Metadata>,
    /// The cluster.
    pub spec: Option<ClusterSpec>,
}

/// k0s's metadata; only the name is read.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct Metadata {
    /// Shown in the status and in metrics.
    pub name: Option<String>,
}

/// k0s's spec; only these are read.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct ClusterSpec {
    /// The API server.
    pub api: Option<Api>,
    /// The network.
    pub network: Option<Network>,
}

/// k0s's `spec.api`; only these are read.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct Api {
    /// The port of the API server, and so of the virtual servers and real servers. Default: 6443.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 65535)))]
    pub port: Option<i64>,
    /// This node's address; must be no virtual IP.
    pub address: Option<String>,
    /// The address for clients outside; may be a virtual IP.
    pub external_address: Option<String>,
}

/// k0s's `spec.network`; only these are read.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct Network {
    /// Node-local load balancing.
    pub node_local_load_balancing: Option<NodeLocalLoadBalancing>,
    /// Control plane load balancing.
    pub control_plane_load_balancing: Option<ControlPlaneLoadBalancing>,
}

/// k0s's node-local load balancing; only whether it is on is read.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct NodeLocalLoadBalancing {
    /// Cannot be together with `spec.api.externalAddress`.
    pub enabled: Option<bool>,
}

/// k0s's `controlPlaneLoadBalancing`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct ControlPlaneLoadBalancing {
    /// Default: false.
    pub enabled: Option<bool>,
    /// Keepalived is the only one. Default: Keepalived.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "type"),
        schemars(extend("enum" = ["", "Keepalived", null]))
    )]
    pub kind: Option<String>,
    /// What is balanced and who carries the address.
    pub keepalived: Option<Keepalived>,
}

/// k0s's `keepalived`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Keepalived {
    /// The virtual routers.
    #[cfg_attr(feature = "serde", schemars(length(max = 255)))]
    pub vrrp_instances: Option<Vec<K0sInstance>>,
    /// What is balanced, by IPVS or, where the kernel has none, by XDP. Left out: k0s's userspace proxy, which this build
    /// does not have.
    pub virtual_servers: Option<Vec<K0sServer>>,
    /// The port of k0s's userspace proxy, 1-65535. No effect in this build. Default: 6444.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 65535)))]
    pub user_space_proxy_bind_port: Option<i64>,
    /// The virtual IP alone. Default: false.
    pub disable_load_balancer: Option<bool>,
    /// A template for keepalived.conf; no effect here.
    #[cfg_attr(feature = "serde", serde(rename = "configTemplateVRRP"))]
    pub config_template_vrrp: Option<String>,
    /// A template for keepalived.conf; no effect here.
    #[cfg_attr(feature = "serde", serde(rename = "configTemplateVS"))]
    pub config_template_vs: Option<String>,
}

/// `vrrpInstances[]` as k0s has it.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct K0sInstance {
    /// The addresses that move, each with its prefix length, all of one family.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "virtualIPs"),
        schemars(required, length(min = 1, max = 255))
    )]
    pub virtual_ips: Option<Vec<String>>,
    /// Name or MAC address. Default: the interface whose subnet holds the first VIP, else that of the default route.
    pub interface: Option<String>,
    /// 1-255; unique on the network segment. Default: 51 + index.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "virtualRouterID"),
        schemars(range(min = 0, max = 255))
    )]
    pub virtual_router_id: Option<i64>,
    /// Seconds between two adverts. Default: 1.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 255)))]
    pub advert_interval_seconds: Option<i64>,
    /// The password of 1 to 8 bytes that all nodes share.
    #[cfg_attr(feature = "serde", schemars(required, length(min = 1, max = 8)))]
    pub auth_pass: Option<String>,
    /// Addresses of the other controllers. Left out: multicast.
    pub unicast_peers: Option<Vec<String>>,
    /// This node's address; required with unicastPeers.
    #[cfg_attr(feature = "serde", serde(rename = "unicastSourceIP"))]
    pub unicast_source_ip: Option<String>,
    /// RFC 6724 label of IPv6 VIPs. Default: 10000.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 4_294_967_294_u32)))]
    pub address_label: Option<i64>,
}

/// `virtualServers[]` as k0s has it.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct K0sServer {
    /// One of the virtual IPs, without prefix length.
    #[cfg_attr(feature = "serde", schemars(required, length(min = 1)))]
    pub ip_address: Option<String>,
    /// Between two of keepalived's checks. k0s checks every second besides, and so do we. Default: 1m.
    pub delay_loop: Option<GoDuration>,
    /// Who gets the next connection. Default: rr.
    #[cfg_attr(feature = "serde", schemars(extend(
        "enum" = ["", "rr", "wrr", "lc", "wlc", "lblc", "dh", "sh", "sed", "nq", null]
    )))]
    pub lb_algo: Option<String>,
    /// How a packet reaches a real server. Default: DR.
    #[cfg_attr(feature = "serde", schemars(extend("enum" = ["", "NAT", "DR", "TUN", null])))]
    pub lb_kind: Option<String>,
    /// A client keeps its real server for so many seconds, 1-2678400. Default, also for 0: 360.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 2_678_400)))]
    pub persistence_timeout_seconds: Option<i64>,
}

/// What Go cannot tell from a field that was left out.
fn text(value: Option<&String>) -> Option<String> {
    value.filter(|s| !s.is_empty()).cloned()
}

fn number(value: Option<i64>) -> Option<i64> {
    value.filter(|n| *n != 0)
}

impl From<&K0sInstance> for VrrpInstance {
    /// An empty text and a zero are what k0s takes for a key that was left out.
    fn from(k: &K0sInstance) -> Self {
        Self {
            virtual_ips: k.virtual_ips.clone(),
            interface: text(k.interface.as_ref()),
            virtual_router_id: number(k.virtual_router_id),
            advert_interval_seconds: number(k.advert_interval_seconds),
            auth_pass: text(k.auth_pass.as_ref()),
            unicast_source_ip: text(k.unicast_source_ip.as_ref()),
            unicast_peers: k.unicast_peers.clone(),
            address_label: number(k.address_label),
            ..Self::default()
        }
    }
}

impl From<&K0sServer> for VirtualServer {
    /// As for [`K0sInstance`]; `delayLoop` has no native spelling.
    fn from(k: &K0sServer) -> Self {
        Self {
            ip_address: text(k.ip_address.as_ref()),
            lb_algo: text(k.lb_algo.as_ref()),
            lb_kind: text(k.lb_kind.as_ref()),
            persistence_timeout_seconds: number(k.persistence_timeout_seconds),
            ..Self::default()
        }
    }
}
