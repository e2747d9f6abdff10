//! VRRP adverts: made, to be injected, and found in a capture.
use crate::capture::Frame;
use crate::topology::Node;
use anyhow::{Context, Result};
use lb_common::model::{AuthPass, Family, Version, Vrid};
use lb_common::wire::vrrp::{Addresses, Advertisement, Auth, ChecksumForm, group};
use std::net::IpAddr;
use std::time::SystemTime;

/// An advert as a router would send it; the fields are what the suites vary.
#[derive(Debug, Clone)]
pub struct Advert {
    /// 2 or 3.
    pub version: u8,
    /// Virtual router.
    pub vrid: u8,
    /// Of the sender.
    pub priority: u8,
    /// In hundredths of a second.
    pub interval_cs: u16,
    /// Version 2's password.
    pub auth_pass: Option<String>,
    /// The virtual IPs.
    pub addresses: Vec<IpAddr>,
    /// Version 3's checksum over IPv4 without the pseudo-header.
    pub message_only: bool,
}

impl Advert {
    /// Version 3 of priority 250.
    pub fn v3(vrid: u8, interval_cs: u16, addresses: &[IpAddr]) -> Self {
        Self {
            version: 3,
            vrid,
            priority: 250,
            interval_cs,
            auth_pass: None,
            addresses: addresses.to_vec(),
            message_only: false,
        }
    }

    /// Version 2 of priority 250.
    pub fn v2(vrid: u8, auth_pass: Option<&str>, addresses: &[IpAddr]) -> Self {
        Self {
            version: 2,
            auth_pass: auth_pass.map(str::to_owned),
            ..Self::v3(vrid, 100, addresses)
        }
    }

    /// The same with another priority.
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// The message, as it is multicast from `source`.
    pub fn bytes(&self, source: IpAddr) -> Result<Vec<u8>> {
        let family = Family::of(source);
        let v2 = self.version == 2;
        let pass = self.auth_pass.as_deref();
        let pass = pass.map(|p| AuthPass::new(p).context("no password of VRRP's"));
        let advert = Advertisement {
            version: if v2 { Version::V2 } else { Version::V3 },
            vrid: Vrid::new(self.vrid).context("virtual router 0")?,
            priority: self.priority,
            interval_cs: self.interval_cs,
            reserved: 0,
            auth: v2.then_some(Auth::from_pass(pass.transpose()?)),
            addresses: Addresses::of(family, self.addresses.iter().copied()),
            checksum_form: if self.message_only {
                ChecksumForm::MessageOnly
            } else {
                ChecksumForm::PseudoHeader
            },
        };
        let mut bytes = Vec::new();
        advert
            .encode(source, group(family), &mut bytes)
            .context("encoding an advert")?;
        Ok(bytes)
    }
}

/// Corrects the checksum of an IPv4 message that was altered; without a pseudo-header, as in version 2.
pub fn resum_message_only(message: &mut [u8]) {
    message[6..8].fill(0);
    let words = message
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap_or_default();
    message[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// An advert that was seen on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The kernel's timestamp.
    pub at: SystemTime,
    /// Whose.
    pub source: IpAddr,
    /// Virtual router.
    pub vrid: u8,
    /// 0: goodbye.
    pub priority: u8,
}

/// Those that came into the switch through a port, each once.
pub fn seen(frames: &[Frame], bridge: usize) -> Vec<Seen> {
    let incoming = frames.iter().filter(|f| !f.outgoing && f.interface != bridge);
    let adverts = incoming.filter_map(|f| {
        let ip = f.vrrp()?;
        Some(Seen {
            at: f.at,
            source: ip.source,
            vrid: *ip.payload.get(1)?,
            priority: *ip.payload.get(2)?,
        })
    });
    adverts.collect()
}

/// The index of the switch's bridge, for [`seen`].
pub fn bridge_of(switch: &crate::netns::Netns) -> Result<usize> {
    let index = switch.run(|| nix::net::if_::if_nametoindex("br0"))??;
    usize::try_from(index).context("an index that is no index")
}

/// The address of `eth0` that its adverts leave from: the link-local one for IPv6.
pub fn source_of(node: &Node, ipv6: bool) -> Result<IpAddr> {
    if !ipv6 {
        return node.ipv4();
    }
    let all = node.addresses().remove("eth0").unwrap_or_default();
    let link_local = |a: &IpAddr| matches!(a, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let found = all.into_iter().find(link_local);
    found.with_context(|| format!("{} has no link-local address", node.name()))
}
