//! From a packet to an [`Advert`] that the machine may believe (RFC 9568 §7.1, RFC 3768 §7.1).
//!
//! A packet that is refused here never reaches a machine, so it cannot touch a timer (T7): keepalived restarts its
//! advert timer for any packet with its VRID, and a stream of bad ones silences it.
//!
//! What differs from the RFCs on purpose:
//! * `DEVIATION(RFC 3768 §7.1):` an advert whose VIPs are not ours is taken and noted, not dropped. Dropping it makes
//!   two Active routers of every rolling change of the VIPs (keepalived did so until 2.3.3; RFC 9568 only logs).
//! * `DEVIATION(RFC 3768 §7.1):` an address owner (priority 255) does not drop adverts; the election settles two
//!   owners by their addresses (as RFC 9568 with erratum 8298).
//! * `DEVIATION(RFC 9568 §7.1):` the TTL is not checked in unicast unless `unicast_min_hop_limit` asks for it, since
//!   peers may be routers apart; keepalived does the same.
use super::Advert;
use super::refusal::{Notes, Refusal, Reject};
use crate::model::{AdvertInterval, AuthPass, Family, Version, Vrid};
use crate::wire::vrrp::{self, Advertisement, Auth, AuthType};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

/// What one instance takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveConfig {
    /// Which VRRP.
    pub version: Version,
    /// Which virtual router.
    pub vrid: Vrid,
    /// Ours; version 2 insists on it.
    pub advert_interval: AdvertInterval,
    /// Version 2's password.
    pub auth_pass: Option<AuthPass>,
    /// The address that our adverts leave from.
    pub source: IpAddr,
    /// Our VIPs, in any order.
    pub addresses: Vec<IpAddr>,
    /// In unicast: who may send. Empty: multicast.
    pub peers: Vec<IpAddr>,
    /// In unicast: the least TTL or hop limit; `None` takes any. Multicast always insists on 255.
    pub unicast_min_hop_limit: Option<u8>,
}

impl ReceiveConfig {
    const fn is_unicast(&self) -> bool {
        !self.peers.is_empty()
    }
}

/// What stood around the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketMeta {
    /// From whom, by the IP header.
    pub source: IpAddr,
    /// To whom, where the socket tells; else the group, or in unicast our own address, is assumed.
    pub destination: Option<IpAddr>,
    /// TTL or hop limit, where the socket tells. Multicast refuses a packet without it: a check that was not made is
    /// not a check that was passed (T11).
    pub hop_limit: Option<u8>,
}

/// Reads what `meta` carried: `message` is what followed the IP header and no byte more.
///
/// # Errors
/// The packet is to be counted and perhaps logged, and otherwise never happened.
pub fn receive(config: &ReceiveConfig, meta: PacketMeta, message: &[u8]) -> Result<(Advert, Notes), Reject> {
    check(config, meta, message).map_err(|why| Reject {
        source: meta.source,
        why,
    })
}

fn check(config: &ReceiveConfig, meta: PacketMeta, message: &[u8]) -> Result<(Advert, Notes), Refusal> {
    check_envelope(config, meta)?;
    let destination = meta.destination.unwrap_or(if config.is_unicast() {
        config.source
    } else {
        vrrp::group(Family::of(config.source))
    });
    let advert = vrrp::decode(message, meta.source, destination).map_err(Refusal::Malformed)?;
    // RFC 9568 §7.1: "the VRID is configured on the receiving interface".
    if advert.vrid != config.vrid {
        return Err(Refusal::Vrid {
            found: advert.vrid,
            ours: config.vrid,
        });
    }
    if advert.version != config.version {
        return Err(Refusal::Version {
            found: advert.version,
            ours: config.version,
            addresses: advert.addresses.iter().collect(),
        });
    }
    check_v2(config, &advert)?;
    Ok((
        Advert {
            source: meta.source,
            priority: advert.priority,
            interval_cs: advert.interval_cs,
        },
        notes(config, &advert),
    ))
}

/// What can be said without reading the message.
fn check_envelope(config: &ReceiveConfig, meta: PacketMeta) -> Result<(), Refusal> {
    if meta.source == config.source {
        return Err(Refusal::Looped);
    }
    if config.is_unicast() {
        if !config.peers.contains(&meta.source) {
            return Err(Refusal::NotAPeer);
        }
        return match config.unicast_min_hop_limit {
            Some(least) => check_hop_limit(meta.hop_limit, least),
            None => Ok(()),
        };
    }
    // RFC 9568 §5.1.2.1: adverts over IPv6 come from the interface's link-local address.
    if let IpAddr::V6(source) = meta.source
        && !is_link_local(source)
    {
        return Err(Refusal::NotLinkLocal);
    }
    // RFC 9568 §7.1: "MUST verify that the IPv4 TTL / IPv6 Hop Limit is 255".
    check_hop_limit(meta.hop_limit, vrrp::HOP_LIMIT)
}

fn check_hop_limit(found: Option<u8>, least: u8) -> Result<(), Refusal> {
    if found.is_some_and(|h| h >= least) {
        Ok(())
    } else {
        Err(Refusal::HopLimit { found, least })
    }
}

const fn is_link_local(a: Ipv6Addr) -> bool {
    a.is_unicast_link_local()
}

/// What only RFC 3768 §7.1 demands: authentication and an equal interval.
fn check_v2(config: &ReceiveConfig, advert: &Advertisement) -> Result<(), Refusal> {
    let Some(theirs) = advert.auth else {
        return Ok(());
    };
    let ours = Auth::from_pass(config.auth_pass);
    if theirs.kind != ours.kind {
        return Err(Refusal::AuthType {
            found: theirs.kind,
            ours: ours.kind,
            addresses: advert.addresses.iter().collect(),
        });
    }
    // Without a password the data is there all the same and to be ignored.
    if ours.kind == AuthType::Simple && !same(ours.data, theirs.data) {
        return Err(Refusal::Password {
            addresses: advert.addresses.iter().collect(),
        });
    }
    let ours_cs = config.advert_interval.centiseconds();
    if advert.interval_cs != ours_cs {
        return Err(Refusal::Interval {
            found_cs: advert.interval_cs,
            ours_cs,
        });
    }
    Ok(())
}

/// Compares without stopping at the first byte that differs.
fn same(a: [u8; 8], b: [u8; 8]) -> bool {
    a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

fn notes(config: &ReceiveConfig, advert: &Advertisement) -> Notes {
    let ours = config.advert_interval.centiseconds();
    let equal = advert.addresses.len() == config.addresses.len()
        && advert.addresses.iter().all(|a| config.addresses.contains(&a));
    Notes {
        checksum: advert.checksum_form,
        interval_cs: (advert.interval_cs != ours).then_some(advert.interval_cs),
        addresses: (!equal).then(|| advert.addresses.iter().collect()),
        // Where both sides have the same list it is nobody's surprise: k0s's VIPs are global, and keepalived sends them so.
        first_not_link_local: !equal
            && matches!(advert.addresses.iter().next(), Some(IpAddr::V6(first)) if !is_link_local(first)),
    }
}

#[cfg(test)]
mod tests;
