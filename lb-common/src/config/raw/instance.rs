//! `vrrpInstances[]` of the native file.
use super::super::duration::GoDuration;
use super::{Notify, Track};
use crate::spec::ChecksumForm;
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(feature = "serde")]
use {
    schemars::JsonSchema,
    serde::{Deserialize, Serialize},
};

/// One virtual router.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct VrrpInstance {
    /// Its name. Default: k0s-vip-INDEX.
    pub name: Option<String>,
    /// The addresses that move, each with its prefix length, all of one family: 192.168.122.200/24.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "virtualIPs"),
        schemars(required, length(min = 1, max = 255))
    )]
    pub virtual_ips: Option<Vec<String>>,
    /// Name or MAC address. Default: the interface whose subnet holds the first VIP, else that of the default route.
    pub interface: Option<String>,
    /// 1-255; unique on the network segment, the same on all nodes. Default: 51 + index.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "virtualRouterID"),
        schemars(range(min = 1, max = 255))
    )]
    pub virtual_router_id: Option<i64>,
    /// 2 (RFC 3768) or 3 (RFC 9568). Default: 2 with authPass and only IPv4 VIPs, else 3.
    #[cfg_attr(feature = "serde", schemars(extend("enum" = [2, 3, null])))]
    pub version: Option<i64>,
    /// 1-254, the highest wins; 255 is the owner of the address. Default: 200.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 255)))]
    pub priority: Option<i64>,
    /// Whether to take over from a living router of lower priority. Default: true.
    pub preempt: Option<bool>,
    /// How long to wait before that. Default: 0s.
    pub preempt_delay: Option<GoDuration>,
    /// Between two adverts: 10ms to 40.95s in steps of 10ms with version 3, whole seconds to 255s with 2. Default: 1s.
    pub advert_interval: Option<GoDuration>,
    /// The same in whole seconds, as k0s spells it. Give one of the two.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 255)))]
    pub advert_interval_seconds: Option<i64>,
    /// VRRPv2's password of 1 to 8 bytes. It travels in clear text: it keeps mistakes out, not attackers. The XDP
    /// datapath's hash is made of it where there is no xdp.hashSeed.
    #[cfg_attr(feature = "serde", schemars(length(min = 1, max = 8)))]
    pub auth_pass: Option<String>,
    /// The address that unicast adverts leave from. Default: the interface's first of the family.
    #[cfg_attr(feature = "serde", serde(rename = "unicastSourceIP"))]
    pub unicast_source_ip: Option<String>,
    /// Addresses of the other nodes. Left out: multicast.
    pub unicast_peers: Option<Vec<String>>,
    /// The checksum of IPv4 VRRPv3 adverts that is sent; both are accepted. Default: pseudoHeader, as keepalived has it.
    pub v3_checksum: Option<ChecksumForm>,
    /// RFC 6724 label of IPv6 VIPs, so that they are not chosen as source. 0-4294967294. Default: 10000.
    #[cfg_attr(feature = "serde", schemars(range(min = 0, max = 4_294_967_294_u32)))]
    pub address_label: Option<i64>,
    /// Gratuitous ARP and unsolicited neighbour advertisements.
    pub garp: Option<Garp>,
    /// What else its priority depends on. Left out: whether it can serve its virtual servers, where it has any.
    pub track: Option<Vec<Track>>,
    /// Who is told of its changes of state, in order.
    pub notify: Option<Vec<Notify>>,
}

/// Gratuitous ARP and unsolicited neighbour advertisements at takeover.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Garp {
    /// How many for each VIP, and again after `delay`. 1-255. Default: 5.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 255)))]
    pub repeat: Option<i64>,
    /// When the second burst follows; 0s: none does. Default: 5s.
    pub delay: Option<GoDuration>,
    /// Again this often while active; 0s: never. Default: 1m.
    pub refresh: Option<GoDuration>,
    /// Between two rounds of a burst. Default: 50ms.
    pub interval: Option<GoDuration>,
}
