//! The XDP datapath: its block, and what it can be asked of a virtual server.
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::RootArray as RawRoot;
use super::one_of;
use super::policy::{Given, Policy};
use super::{Draft, number};
use crate::health::HealthView;
use crate::model::{Forwarding, Protocol, Scheduler};
use crate::plan::{self, LONGEST_AFFINITY, ONE_PACKET, xdp_method, xdp_protocol};
use crate::spec::{DatapathKind, HashSeed, RootArray, Spec, VirtualServer, Xdp, XdpAttach, XdpMode};
use crate::xdp::{image, seed};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The block `xdp`; the default where there is none.
pub(super) fn block(d: &Draft, f: &mut Findings) -> Option<Xdp> {
    let Some(raw) = &d.xdp else {
        return Some(Xdp::default());
    };
    let at = d.base.key("xdp");
    let hash_seed = match &raw.hash_seed {
        None => Some(None),
        Some(text) => f.take(hash_seed(text, &at.key("hashSeed"))).map(Some),
    };
    let mode = match &raw.mode {
        None => Some(XdpMode::Auto),
        Some(text) => f.take(mode(text, &at.key("mode"))),
    };
    let next = match &raw.next {
        None => Some(None),
        Some(text) => f.take(path(text, &at.key("next"))).map(Some),
    };
    let root_array = match &raw.root_array {
        None => Some(None),
        Some(raw) => root_array(raw, &at.key("rootArray"), f).map(Some),
    };
    // In somebody else's array it runs where that one runs.
    let elsewhere = raw.root_array.is_some();
    if elsewhere && raw.mode.is_some() {
        f.warn(
            Problem::new(&at.key("mode"), "mode has no effect with rootArray")
                .help("the program whose array it is has been attached in a mode already"),
        );
    }
    Some(Xdp {
        hash_seed: hash_seed?,
        attach: XdpAttach {
            mode: if elsewhere { XdpMode::Auto } else { mode? },
            next: next?,
            root_array: root_array?,
        },
    })
}

fn hash_seed(text: &str, at: &Path) -> Result<HashSeed, Problem> {
    HashSeed::try_from(String::from(text)).map_err(|_| {
        let message = format!(
            "hashSeed has {} characters: with fewer than {} it is found by trying",
            text.chars().count(),
            HashSeed::SHORTEST
        );
        Problem::new(at, message).help("take what `openssl rand -hex 16` prints, and the same on all nodes")
    })
}

fn mode(text: &str, at: &Path) -> Result<XdpMode, Problem> {
    match text {
        "auto" => Ok(XdpMode::Auto),
        "native" => Ok(XdpMode::Native),
        "generic" => Ok(XdpMode::Generic),
        other => {
            Err(Problem::new(at, format!("{other:?} is no mode"))
                .help(one_of(&["auto", "native", "generic"])))
        }
    }
}

fn path(text: &str, at: &Path) -> Result<String, Problem> {
    let absolute = text.len() > 1 && text.starts_with('/') && !text.contains('\0');
    if absolute {
        Ok(text.into())
    } else {
        Err(Problem::new(at, format!("{text:?} is no absolute path"))
            .help("write where it is pinned, such as /sys/fs/bpf/NAME"))
    }
}

fn root_array(raw: &RawRoot, at: &Path, f: &mut Findings) -> Option<RootArray> {
    let missing = |key: &str| Problem::new(&at.key(key), format!("{key} must be defined"));
    let path = match &raw.path {
        None => Err(missing("path")),
        Some(text) => path(text, &at.key("path")),
    };
    let index = match raw.index {
        None => Err(missing("index").help("give a place that no other program has")),
        Some(n) => number(n, 0, u32::MAX.into(), &at.key("index"), "index"),
    };
    let (path, index) = (f.take(path), f.take(index));
    Some(RootArray {
        path: path?,
        index: index?,
    })
}

/// Where a policy says what the XDP datapath may not be able to do.
pub(super) struct Places<'a> {
    pub(super) datapath: Path,
    pub(super) protocol: Option<Path>,
    pub(super) forwarding: Option<Path>,
    pub(super) tunnel: Option<Path>,
    pub(super) flags: Option<Given<'a, Vec<String>>>,
    pub(super) persistence: Option<Path>,
}

/// What a server that insists on XDP asks for and cannot have, or has for nothing. False: something was refused.
pub(super) fn policy(policy: &Policy, places: &Places<'_>, f: &mut Findings) -> bool {
    let before = f.problems.len();
    let place = |at: &Option<Path>| at.as_ref().unwrap_or(&places.datapath).clone();
    if let Some(why) = xdp_protocol(policy.protocol) {
        f.refuse(
            Problem::new(
                &place(&places.protocol),
                format!("datapath xdp cannot carry this: {why}"),
            )
            .help("write datapath: ipvs"),
        );
    }
    if let Err(why) = xdp_method(policy.forwarding) {
        let (at, help) = match policy.forwarding {
            Forwarding::Tunnel { .. } => (&places.tunnel, "write type: ipip, or datapath: ipvs"),
            Forwarding::DirectRouting | Forwarding::Nat => (
                &places.forwarding,
                "write lbKind: DR on one network or TUN across routers, or datapath: ipvs",
            ),
        };
        f.refuse(Problem::new(&place(at), format!("datapath xdp cannot do this: {why}")).help(help));
    }
    flags(places.flags.as_ref(), f);
    if policy.persistence.is_some_and(|p| p.timeout > LONGEST_AFFINITY) {
        let message = "datapath xdp remembers a client for two hours: this is counted as 7200";
        f.warn(Problem::new(&place(&places.persistence), message));
    }
    f.problems.len() == before
}

fn flags(given: Option<&Given<'_, Vec<String>>>, f: &mut Findings) {
    let Some(given) = given else {
        return;
    };
    for (i, flag) in given.value.iter().enumerate() {
        let at = given.at.index(i);
        match flag.as_str() {
            "ops" => f.refuse(
                Problem::new(&at, format!("datapath xdp cannot do this: {ONE_PACKET}"))
                    .help("remove it, or write datapath: ipvs"),
            ),
            "mh-port" => f.warn(Problem::new(
                &at,
                "mh-port has no effect: datapath xdp goes by ports wherever clients are not to stay",
            )),
            "mh-fallback" => f.warn(Problem::new(
                &at,
                "mh-fallback has no effect: datapath xdp always has others stand in for a dead real server",
            )),
            _ => {}
        }
    }
}

/// `lbAlgo` of a server that insists on XDP.
pub(super) fn scheduler(given: Option<&Given<'_, String>>, f: &mut Findings) -> Option<Scheduler> {
    let Some(g) = given else {
        return Some(Scheduler::MaglevHash);
    };
    if matches!(g.value.as_str(), super::super::raw::server::MAGLEV | "mh") {
        return Some(Scheduler::MaglevHash);
    }
    f.refuse(
        Problem::new(&g.at, format!("datapath xdp has no lbAlgo {}", g.value)).help(
            "write maglev or leave it out: every node computes the same table, so connections outlive a change of \
             holder; the kernel's schedulers need datapath: ipvs",
        ),
    );
    None
}

/// What the whole of the file comes to.
pub(super) fn whole(d: &Draft, spec: &Spec, f: &mut Findings) {
    let by = |kind: DatapathKind| spec.virtual_servers.iter().filter(move |v| v.datapath == kind);
    let insists = by(DatapathKind::Xdp).next().is_some();
    let possible = insists || by(DatapathKind::Auto).next().is_some();
    let at = d.base.key("virtualServers");
    let may = by(DatapathKind::Xdp).chain(by(DatapathKind::Auto));
    if let Err(many) = fits(by(DatapathKind::Xdp)) {
        f.refuse(Problem::new(&at, format!("{many}")).help("leave some to datapath: ipvs"));
    } else if let Err(many) = fits(may) {
        let message = format!("{many}: on a kernel without IPVS these would not be balanced");
        f.warn(Problem::new(&at, message));
    }
    if d.xdp.is_some() && !possible {
        let message = "xdp has no effect: no virtual server has datapath xdp or auto";
        f.warn(Problem::new(&d.base.key("xdp"), message));
    }
    if insists && seed::is_guessable(spec) {
        let message = "the hash of datapath xdp is made of nothing secret, so anybody can aim connections at one real \
                       server";
        f.warn(
            Problem::new(&d.base.key("xdp").key("hashSeed"), message)
                .help("give xdp.hashSeed, the same on all nodes"),
        );
    }
    let all = insists
        && spec
            .virtual_servers
            .iter()
            .all(|v| v.datapath == DatapathKind::Xdp);
    for (key, there) in [
        ("connectionSync", spec.connection_sync.is_some()),
        ("ipvsTimeouts", spec.timeouts.is_some()),
    ] {
        if all && there {
            let message = format!("{key} has no effect: every virtual server has datapath xdp");
            f.warn(Problem::new(&d.base.key(key), message));
        }
    }
}

fn fits<'a>(servers: impl Iterator<Item = &'a VirtualServer>) -> Result<(), image::TooMany> {
    let health = HealthView::default();
    let forwarders: Vec<plan::Forwarder> = servers
        .filter(|v| v.key.protocol != Protocol::Sctp)
        .filter_map(|v| plan::forwarder(v, &health))
        .collect();
    image::check(forwarders.iter())
}

#[cfg(test)]
mod tests;
