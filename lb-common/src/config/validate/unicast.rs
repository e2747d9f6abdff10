//! How an instance's adverts travel: multicast, or unicast to named peers.
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::VrrpInstance;
use super::{Dialect, at_most};
use crate::model::Family;
use crate::spec::Transport;
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Each costs an advert a second.
const MAX_PEERS: usize = 255;

/// `None`: it has problems, and they are noted.
pub(super) fn check(
    dialect: Dialect,
    raw: &VrrpInstance,
    family: Option<Family>,
    at: &Path,
    f: &mut Findings,
) -> Option<Transport> {
    let at_source = at.key("unicastSourceIP");
    let text = raw.unicast_source_ip.as_deref();
    let source = text.and_then(|t| t.parse::<IpAddr>().ok());
    let peers = raw.unicast_peers.as_deref().unwrap_or_default();
    if peers.is_empty() {
        return without_peers(dialect, text, source, &at_source, f);
    }
    if source.is_none() && (text.is_some() || !dialect.is_native()) {
        let message = format!(
            "UnicastPeers require a valid UnicastSourceIP. Got: {}",
            text.unwrap_or_default()
        );
        f.refuse(
            Problem::new(&at_source, message).help("give this node's own address, from which adverts leave"),
        );
    }
    if let (Some(source), Some(family)) = (source, family) {
        same_family(source, family, &at_source, f);
    }
    if !at_most(peers.len(), MAX_PEERS, &at.key("unicastPeers"), f) {
        return None;
    }
    let mut out: Vec<IpAddr> = Vec::new();
    for (i, peer) in peers.iter().enumerate() {
        let at = at.key("unicastPeers").index(i);
        let Ok(address) = peer.parse::<IpAddr>() else {
            f.refuse(
                Problem::new(
                    &at,
                    format!("UnicastPeers require valid IP addresses. Got: {peer}"),
                )
                .help("names are not looked up here: write the address"),
            );
            continue;
        };
        if Some(address) == source {
            let message = format!("UnicastPeers must not contain the UnicastSourceIP. Got: {peer}");
            f.refuse(Problem::new(&at, message).help("list the other nodes only"));
        } else if out.contains(&address) {
            f.refuse(Problem::new(&at, format!("{address} is in this list twice")));
        } else if family.is_none_or(|family| same_family(address, family, &at, f)) {
            out.push(address);
        }
    }
    let sound = out.len() == peers.len() && (source.is_some() || (text.is_none() && dialect.is_native()));
    sound.then_some(Transport::Unicast { source, peers: out })
}

fn without_peers(
    dialect: Dialect,
    text: Option<&str>,
    source: Option<IpAddr>,
    at: &Path,
    f: &mut Findings,
) -> Option<Transport> {
    if text.is_some() {
        if dialect.is_native() && source.is_none() {
            f.refuse(Problem::new(at, "unicastSourceIP is not an IP address"));
            return None;
        }
        f.warn(Problem::new(
            at,
            "unicastSourceIP has no effect without unicastPeers: adverts are multicast",
        ));
    }
    Some(Transport::Multicast)
}

fn same_family(address: IpAddr, family: Family, at: &Path, f: &mut Findings) -> bool {
    let other = Family::of(address);
    if other != family {
        let message = format!("{address} is {other}, but the virtualIPs of this instance are {family}");
        f.refuse(
            Problem::new(at, message)
                .help("adverts travel in the family of the addresses that they elect for"),
        );
    }
    other == family
}
