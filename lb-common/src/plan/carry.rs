//! Which datapath carries a virtual server on this node, and why not another.
use super::{Context, Method};
use crate::model::{Forwarding, Protocol, Scheduler, TunnelType};
use crate::spec::{DatapathKind, Spec, VirtualServer};
use crate::xdp::seed;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A datapath that this node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Carrier {
    /// The kernel's virtual server.
    Ipvs,
    /// Our XDP program.
    Xdp,
    /// The userspace proxy.
    Proxy,
}

impl Carrier {
    /// As the file names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipvs => "ipvs",
            Self::Xdp => "xdp",
            Self::Proxy => "proxy",
        }
    }
}

/// What this node's kernel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facilities {
    /// IPVS is there.
    pub ipvs: bool,
    /// The XDP program can be loaded.
    pub xdp: bool,
}

impl Context<'_> {
    /// This node's.
    pub const fn facilities(&self) -> Facilities {
        Facilities {
            ipvs: self.ipvs,
            xdp: self.xdp,
        }
    }
}

/// What becomes of one virtual server on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Carried {
    /// Who carries it; `None`: nobody, the address alone is carried.
    pub by: Option<Carrier>,
    /// Why this one, and why no better one.
    pub because: String,
    /// What the file asks for and this datapath does not do.
    pub without: Vec<String>,
}

/// Who carries it.
pub const fn carrier(vs: &VirtualServer, has: Facilities) -> Option<Carrier> {
    match vs.datapath {
        DatapathKind::Auto | DatapathKind::Ipvs if has.ipvs => Some(Carrier::Ipvs),
        DatapathKind::Auto | DatapathKind::Xdp if has.xdp && xdp_cannot(vs).is_none() => Some(Carrier::Xdp),
        DatapathKind::Proxy => Some(Carrier::Proxy),
        DatapathKind::Auto | DatapathKind::Ipvs | DatapathKind::Xdp => None,
    }
}

/// Whether IPVS is looked for on a kernel that has none yet: only while somebody who would take it is not carried. `auto`
/// stays with what it has, for IPVS knows nothing of the connections that another datapath has.
pub fn seeks_ipvs<'a>(mut servers: impl Iterator<Item = &'a VirtualServer>, has: Facilities) -> bool {
    let would = |vs: &VirtualServer| matches!(vs.datapath, DatapathKind::Auto | DatapathKind::Ipvs);
    !has.ipvs && servers.any(|vs| would(vs) && carrier(vs, has).is_none())
}

/// The same in words, for people.
pub fn carried(vs: &VirtualServer, has: Facilities) -> Carried {
    let by = carrier(vs, has);
    let asked = match vs.datapath {
        DatapathKind::Auto => None,
        DatapathKind::Ipvs => Some("ipvs"),
        DatapathKind::Xdp => Some("xdp"),
        DatapathKind::Proxy => Some("proxy"),
    };
    let because = match (asked, by) {
        (Some(name), Some(_)) => format!("the file says datapath: {name}"),
        (None, Some(Carrier::Ipvs)) => "datapath: auto takes IPVS where the kernel has it".into(),
        (None, Some(Carrier::Xdp)) => "this kernel has no IPVS".into(),
        (None, Some(Carrier::Proxy)) | (_, None) => missing(vs, has),
    };
    let without = match by {
        Some(Carrier::Xdp) => xdp_without(vs),
        Some(Carrier::Ipvs | Carrier::Proxy) | None => Vec::new(),
    };
    Carried { by, because, without }
}

fn missing(vs: &VirtualServer, has: Facilities) -> String {
    let no_xdp = if has.xdp {
        xdp_cannot(vs).map(|why| format!("XDP cannot carry it: {why}"))
    } else {
        Some("the XDP program cannot be loaded here".into())
    };
    match vs.datapath {
        DatapathKind::Auto => format!("this kernel has no IPVS, and {}", no_xdp.unwrap_or_default()),
        DatapathKind::Ipvs => "this kernel has no IPVS".into(),
        DatapathKind::Xdp => no_xdp.unwrap_or_default(),
        DatapathKind::Proxy => String::new(),
    }
}

/// Why the XDP datapath cannot carry it, whatever the kernel; `None`: it can.
pub const fn xdp_cannot(vs: &VirtualServer) -> Option<&'static str> {
    if let Some(why) = xdp_protocol(vs.key.protocol) {
        return Some(why);
    }
    match xdp_method(vs.forwarding) {
        Err(why) => Some(why),
        Ok(_) if vs.flags.one_packet => Some(ONE_PACKET),
        Ok(_) => None,
    }
}

/// Why not this flag.
pub(crate) const ONE_PACKET: &str = "all datagrams of a flow go to one real server, so ops cannot be";

pub(crate) const fn xdp_protocol(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Tcp | Protocol::Udp => None,
        Protocol::Sctp => Some("it forwards TCP and UDP, not SCTP"),
    }
}

/// How the XDP program forwards what the file calls by IPVS's names.
pub(crate) const fn xdp_method(forwarding: Forwarding) -> Result<Method, &'static str> {
    match forwarding {
        Forwarding::DirectRouting => Ok(Method::Direct),
        Forwarding::Tunnel {
            kind: TunnelType::Ipip,
            ..
        } => Ok(Method::Tunnel),
        Forwarding::Tunnel {
            kind: TunnelType::Gue | TunnelType::Gre,
            ..
        } => Err("its tunnel is IP in IP, neither gue nor gre"),
        Forwarding::Nat => Err("it rewrites no addresses, since real servers answer the client themselves"),
    }
}

/// Affinity is counted in stamps that come round again: longer is as long as this.
pub const LONGEST_AFFINITY: core::time::Duration = core::time::Duration::from_secs(7200);

/// What `vs` asks for that the XDP datapath takes and does not do.
fn xdp_without(vs: &VirtualServer) -> Vec<String> {
    let mut out = Vec::new();
    if vs.scheduler != Scheduler::MaglevHash {
        out.push(format!(
            "lbAlgo {} has no effect: XDP goes by Maglev's table",
            vs.scheduler
        ));
    }
    if vs.real_servers.iter().any(|s| s.upper_threshold > 0) {
        out.push("upperThreshold has no effect: XDP counts no connections".into());
    }
    if vs.persistence.is_some_and(|p| p.timeout > LONGEST_AFFINITY) {
        out.push("persistenceTimeoutSeconds is counted as 7200: XDP remembers no longer".into());
    }
    out
}

/// What is to be said of the file as a whole on this node; nothing is said twice.
pub fn remarks(spec: &Spec, has: Facilities) -> Vec<String> {
    let by_xdp = |vs: &VirtualServer| carrier(vs, has) == Some(Carrier::Xdp);
    let by_ipvs = |vs: &VirtualServer| carrier(vs, has) == Some(Carrier::Ipvs);
    let mut out = Vec::new();
    if !spec.enabled || !spec.virtual_servers.iter().any(by_xdp) {
        return out;
    }
    if seed::is_guessable(spec) {
        out.push(
            "the XDP datapath's hash is made of nothing secret, so anybody can aim flows at one real server: give \
             xdp.hashSeed"
                .into(),
        );
    }
    if spec.connection_sync.is_some() && !spec.virtual_servers.iter().any(by_ipvs) {
        out.push("connectionSync has no effect: XDP needs none, and nothing is carried by IPVS here".into());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing;
    use core::time::Duration;

    const fn has(ipvs: bool, xdp: bool) -> Facilities {
        Facilities { ipvs, xdp }
    }

    fn server(change: impl Fn(&mut VirtualServer)) -> VirtualServer {
        let mut vs = testing::virtual_server(0, Forwarding::DirectRouting);
        change(&mut vs);
        vs
    }

    #[test]
    fn auto_prefers_ipvs_and_an_explicit_one_is_taken_at_its_word() {
        use Carrier::{Ipvs, Xdp};
        let table = [
            (DatapathKind::Auto, [None, Some(Xdp), Some(Ipvs), Some(Ipvs)]),
            (DatapathKind::Ipvs, [None, None, Some(Ipvs), Some(Ipvs)]),
            (DatapathKind::Xdp, [None, Some(Xdp), None, Some(Xdp)]),
            (DatapathKind::Proxy, [Some(Carrier::Proxy); 4]),
        ];
        for (datapath, wanted) in table {
            let vs = server(|vs| vs.datapath = datapath);
            let hosts = [
                has(false, false),
                has(false, true),
                has(true, false),
                has(true, true),
            ];
            assert_eq!(hosts.map(|h| carrier(&vs, h)), wanted, "{datapath:?}");
            for host in hosts {
                let carried = carried(&vs, host);
                assert_eq!(carried.by, carrier(&vs, host));
                assert!(!carried.because.is_empty());
            }
        }
    }

    #[test]
    fn ipvs_is_looked_for_until_everybody_is_carried_and_not_again() {
        let of = |kind: DatapathKind| server(|vs| vs.datapath = kind);
        let (auto, ipvs, xdp) = (
            of(DatapathKind::Auto),
            of(DatapathKind::Ipvs),
            of(DatapathKind::Xdp),
        );
        assert!(seeks_ipvs([&auto].into_iter(), has(false, false)));
        assert!(!seeks_ipvs([&auto].into_iter(), has(false, true)), "XDP has it");
        assert!(seeks_ipvs([&auto, &ipvs].into_iter(), has(false, true)));
        assert!(!seeks_ipvs([&auto, &ipvs].into_iter(), has(true, true)));
        assert!(!seeks_ipvs(
            [&xdp, &of(DatapathKind::Proxy)].into_iter(),
            has(false, false)
        ));
        let nat = server(|vs| vs.forwarding = Forwarding::Nat);
        assert!(
            seeks_ipvs([&auto, &nat].into_iter(), has(false, true)),
            "XDP cannot"
        );
    }

    #[test]
    fn what_xdp_cannot_do_is_left_out_and_said() {
        let gue = Forwarding::Tunnel {
            kind: TunnelType::Gue,
            port: 1,
        };
        let ipip = Forwarding::Tunnel {
            kind: TunnelType::Ipip,
            port: 0,
        };
        let said = |change: fn(&mut VirtualServer)| carried(&server(change), has(false, true));
        assert_eq!(said(|vs| vs.forwarding = Forwarding::Nat).by, None);
        assert_eq!(said(|vs| vs.key.protocol = Protocol::Sctp).by, None);
        assert_eq!(said(|vs| vs.flags.one_packet = true).by, None);
        assert_eq!(carrier(&server(|vs| vs.forwarding = gue), has(false, true)), None);
        assert_eq!(
            carrier(&server(|vs| vs.forwarding = ipip), has(false, true)),
            Some(Carrier::Xdp)
        );
        assert_eq!(
            said(|vs| vs.key.protocol = Protocol::Sctp).because,
            "this kernel has no IPVS, and XDP cannot carry it: it forwards TCP and UDP, not SCTP"
        );
        assert_eq!(
            carried(&server(|_| {}), has(false, false)).because,
            "this kernel has no IPVS, and the XDP program cannot be loaded here"
        );
    }

    #[test]
    fn what_has_no_effect_there_is_said() {
        let said = |change: fn(&mut VirtualServer)| carried(&server(change), has(false, true)).without;
        assert_eq!(said(|vs| vs.scheduler = Scheduler::MaglevHash), [""; 0]);
        assert_eq!(
            said(|_| {}),
            ["lbAlgo rr has no effect: XDP goes by Maglev's table"]
        );
        let all = said(|vs| {
            vs.real_servers[0].upper_threshold = 10;
            vs.persistence = vs.persistence.map(|p| crate::model::Persistence {
                timeout: Duration::from_secs(7201),
                ..p
            });
        });
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(carried(&server(|_| {}), has(true, true)).without, [""; 0]);
    }

    #[test]
    fn a_hash_that_anybody_computes_is_said_where_it_is_used() {
        let mut spec = testing::spec();
        assert_eq!(
            remarks(&spec, has(false, true)).len(),
            2,
            "the key and connectionSync"
        );
        assert_eq!(remarks(&spec, has(true, true)), [""; 0]);
        spec.connection_sync = None;
        spec.instances[0].auth_pass = crate::model::AuthPass::new("Example");
        assert_eq!(remarks(&spec, has(false, true)), [""; 0]);
    }
}
