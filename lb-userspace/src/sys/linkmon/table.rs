//! What is known of the host's interfaces, as plain values.
use lb_common::model::{Family, IpPrefix, MacAddr};
use std::collections::BTreeMap;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index.
    pub index: u32,
    /// The kernel's name.
    pub name: String,
    /// Its hardware address, where it is one of six bytes.
    pub mac: Option<MacAddr>,
    /// Administratively up, and the kernel says that packets pass (carrier, operational state).
    pub usable: bool,
    /// `lo`.
    pub loopback: bool,
    /// The bond, bridge or VRF that it is a part of.
    pub controller: Option<u32>,
    /// `bond`, `vlan`, ...; `None` for a card.
    pub kind: Option<String>,
    /// The full reading that last confirmed it.
    pub(super) epoch: u64,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// On which interface.
    pub interface: u32,
    /// The address and its subnet's length.
    pub prefix: IpPrefix,
    /// Not the first of its subnet.
    pub secondary: bool,
    /// Not to be chosen as a source (`preferred_lft 0`, as leased VIPs are).
    pub deprecated: bool,
    /// Duplicate address detection is not over, or has failed.
    pub tentative: bool,
    /// The full reading that last confirmed it.
    pub(super) epoch: u64,
}

/// What the kernel has, as last heard.
#[derive(Clone, Debug, Default)]
pub struct LinkTable {
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) addresses: Vec<Address>,
    /// Interfaces of default routes: (family, metric, index).
    pub(super) defaults: Vec<(Family, u32, u32)>,
}

impl LinkTable {
    /// By index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// By name.
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|l| l.name == name)
    }

    /// By index, lowest first.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// In the kernel's order.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter()
    }

    /// The interface of the default route with the lowest metric.
    pub fn default_interface(&self, family: Family) -> Option<&Link> {
        let of_family = self.defaults.iter().filter(|(f, _, _)| *f == family);
        let (_, _, index) = of_family.min_by_key(|(_, metric, _)| *metric)?;
        self.links.get(index)
    }

    /// As if the kernel had said so.
    #[cfg(test)]
    pub(crate) fn for_test(
        links: Vec<Link>,
        addresses: Vec<Address>,
        defaults: Vec<(Family, u32, u32)>,
    ) -> Self {
        let links = links.into_iter().map(|l| (l.index, l)).collect();
        Self {
            links,
            addresses,
            defaults,
        }
    }
}

#[cfg(test)]
impl Link {
    pub(crate) fn for_test(index: u32, name: &str, kind: Option<&str>, controller: Option<u32>) -> Self {
        Self {
            index,
            name: name.to_owned(),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            usable: true,
            loopback: name == "lo",
            controller,
            kind: kind.map(str::to_owned),
            epoch: 0,
        }
    }
}

#[cfg(test)]
impl Address {
    pub(crate) fn for_test(interface: u32, prefix: &str) -> Self {
        Self {
            interface,
            prefix: prefix.parse().unwrap(),
            secondary: false,
            deprecated: false,
            tentative: false,
            epoch: 0,
        }
    }
}
