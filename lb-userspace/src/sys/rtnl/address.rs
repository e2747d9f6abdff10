//! Addresses: listed, put with a lease, taken away, by the batch.
//!
//! | matter | decision |
//! | --- | --- |
//! | whose it is | `IFA_PROTO` = [`OWNER`]. Kernels before 5.18 ignore it: [`Address::owner`] is then none for all. Those before 6.4 leave the mark of an IPv4 address that was there already |
//! | lease | `valid_lft` in whole seconds, counted anew by every put, up or down |
//! | source address | `preferred_lft 0`, also without a lease: IPv6 never chooses it for new connections (k0s #4664). IPv4 does not look at that; it passes over secondaries, which a VIP within the subnet is |
//! | duplicate detection | none (`IFA_F_NODAD`): the former holder may still have the address for a moment |
//! | IPv6 prefix route | none of ours (`IFA_F_NOPREFIXROUTE`): the host's route to the subnet would otherwise take on the VIP's expiry (`modify_prefix_route`) |
//! | IPv4 prefix route | as the kernel does: a secondary adds none and takes none away. With NOPREFIXROUTE a VIP promoted to primary would leave the host without a route to its subnet, and addresses added after it as well |
//! | VIP is its subnet's primary | the kernel removes the secondaries with it, at expiry too (`__inet_del_ifa`): `promote_secondaries` is set on the interface before a VIP is put there and before one is removed |
use super::channel::{CREATE, REPLACE, Reply, Request};
use super::{BATCH, Rtnl, RtnlError, encode, family, interface_name};
use crate::sys::sysctl::{Sysctl, SysctlError};
use lb_common::model::{Family, IpPrefix};
use lb_common::plan::{AddressKey, Lifetime};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Our mark on addresses (`IFA_PROTO`): the kernel uses 1 to 3 and the rest is free.
pub const OWNER: u8 = 0xc5;
/// `INFINITY_LIFE_TIME`.
const FOREVER: u32 = u32::MAX;

/// How much longer the kernel keeps an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remaining {
    /// So many seconds, rounded by the kernel.
    Seconds(u32),
    /// Until it is deleted.
    Forever,
}

/// Where an address is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On its link.
    Link,
    /// On this host.
    Host,
    /// Another number of the administrator's.
    Other(u8),
}

/// An address as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Interface, address and prefix length.
    pub key: AddressKey,
    /// `IFA_PROTO`: [`OWNER`] when we put it there. None where nobody said, and on kernels before 5.18.
    pub owner: Option<u8>,
    /// How much longer it stays.
    pub remaining: Remaining,
    /// IPv4: another address of the subnet was there first. (The same bit says "temporary" for IPv6.)
    pub secondary: bool,
    /// Not used as a source for new connections.
    pub deprecated: bool,
    /// IPv6: not usable yet, duplicate detection is under way or the link is down.
    pub tentative: bool,
    /// IPv6: duplicate detection found another holder, and the address is dead. Delete it and put it again.
    pub dad_failed: bool,
    /// Where it is valid.
    pub scope: Scope,
}

impl Address {
    /// Whether we put it there.
    pub fn is_ours(&self) -> bool {
        self.owner == Some(OWNER)
    }
}

impl Rtnl {
    /// Every address of the namespace, both families.
    pub async fn addresses(&mut self) -> Result<Vec<Address>, RtnlError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let found = self.dump("listing addresses", &request).await?;
        Ok(found.into_iter().filter_map(address).collect())
    }

    /// Adds an address, or gives one that is there already (whoever put it there) our mark and this lifetime.
    pub async fn put_address(&mut self, key: AddressKey, lifetime: Lifetime) -> Result<(), RtnlError> {
        first(self.put_addresses(&[(key, lifetime)]).await)
    }

    /// Many at once. The results are in the order of `items`; one that fails does not keep the others back.
    pub async fn put_addresses(&mut self, items: &[(AddressKey, Lifetime)]) -> Vec<Result<(), RtnlError>> {
        for index in primaries(items.iter().map(|(key, _)| key)) {
            let interface = interface_name(index);
            match promote_secondaries(&interface) {
                Err(error) if self.unprotected.insert(index) => {
                    tracing::warn!(%interface, %error, "the kernel may remove this interface's other addresses with a VIP");
                }
                Err(_) => {}
                Ok(()) => {
                    self.unprotected.remove(&index);
                }
            }
        }
        let mut results = Vec::with_capacity(items.len());
        for part in items.chunks(BATCH) {
            let requests: Vec<_> = part
                .iter()
                .map(|(key, lifetime)| put_request(*key, *lifetime))
                .collect();
            let actions = part.iter().map(|(key, _)| Action::Put(*key));
            results.extend(self.batch(&requests, actions, &[Errno::EEXIST]).await);
        }
        results
    }

    /// Removes an address. One that is not there is removed already.
    pub async fn delete_address(&mut self, key: AddressKey) -> Result<(), RtnlError> {
        first(self.delete_addresses(&[key]).await)
    }

    /// Many at once, as [`Self::put_addresses`]. Refuses ([`RtnlError::WouldRemoveOthers`]) to remove the primary
    /// address of a subnet where the kernel would take addresses with it that are not in `keys`.
    pub async fn delete_addresses(&mut self, keys: &[AddressKey]) -> Vec<Result<(), RtnlError>> {
        let mut refused = self.endangering(keys).await;
        // Backwards: what was put last is a secondary, which goes without the kernel promoting another each time
        // (254 of a subnet: 2 ms instead of 230).
        let allowed: Vec<AddressKey> = keys
            .iter()
            .rev()
            .filter(|k| !refused.iter().any(|(r, _)| r == *k))
            .copied()
            .collect();
        // Gone with its interface, or never there, is as good as removed.
        const GONE: &[Errno] = &[Errno::EADDRNOTAVAIL, Errno::ENODEV, Errno::ENXIO, Errno::ENOENT];
        let mut deleted = Vec::with_capacity(allowed.len());
        for part in allowed.chunks(BATCH) {
            let requests: Vec<_> = part
                .iter()
                .map(|key| encode(&RouteNetlinkMessage::DelAddress(message(*key)), 0))
                .collect();
            deleted.extend(
                self.batch(&requests, part.iter().map(|k| Action::Delete(*k)), GONE)
                    .await,
            );
        }
        let mut deleted = deleted.into_iter().rev();
        keys.iter()
            .map(|key| match refused.iter().position(|(r, _)| r == key) {
                Some(at) => Err(refused.swap_remove(at).1),
                None => deleted.next().unwrap_or(Ok(())),
            })
            .collect()
    }

    async fn batch(
        &mut self,
        requests: &[Request],
        actions: impl Iterator<Item = Action>,
        as_good: &[Errno],
    ) -> Vec<Result<(), RtnlError>> {
        match self.channel.transact(requests).await {
            Ok(replies) => replies
                .into_iter()
                .zip(actions)
                .map(|(reply, action)| judge(reply, action, as_good))
                .collect(),
            Err(e) => actions
                .map(|action| {
                    Err(RtnlError::Socket {
                        action: action.describe(),
                        source: std::io::Error::new(e.kind(), e.to_string()),
                    })
                })
                .collect(),
        }
    }

    /// Those of `keys` whose removal would take others with it, because `promote_secondaries` cannot be set.
    async fn endangering(&mut self, keys: &[AddressKey]) -> Vec<(AddressKey, RtnlError)> {
        let mut refused = Vec::new();
        for index in primaries(keys.iter()) {
            let interface = interface_name(index);
            if promote_secondaries(&interface).is_ok() {
                continue;
            }
            // Unknown is not safe, but without a list there is nothing to refuse by: the deletion will fail likewise.
            let all = self.addresses().await.unwrap_or_default();
            for key in keys.iter().filter(|k| k.interface == index) {
                let others = dependants(*key, &all, keys);
                if let (false, Err(cause)) = (others.is_empty(), promote_secondaries(&interface)) {
                    let error = RtnlError::WouldRemoveOthers {
                        address: key.address,
                        interface: interface.clone(),
                        others,
                        cause: Box::new(cause),
                    };
                    refused.push((*key, error));
                }
            }
        }
        refused
    }
}

/// What a request was for, put into words only where it failed.
#[derive(Clone, Copy)]
enum Action {
    Put(AddressKey),
    Delete(AddressKey),
}

impl Action {
    fn describe(self) -> String {
        match self {
            Self::Put(key) => format!("adding {} to {}", key.address, interface_name(key.interface)),
            Self::Delete(key) => format!("removing {} from {}", key.address, interface_name(key.interface)),
        }
    }
}

fn judge(reply: Reply, action: Action, as_good: &[Errno]) -> Result<(), RtnlError> {
    match reply.result {
        Some(Err(refusal)) if !as_good.contains(&refusal.errno) => Err(RtnlError::Refused {
            action: action.describe(),
            refusal,
        }),
        Some(_) | None => Ok(()),
    }
}

fn first(results: Vec<Result<(), RtnlError>>) -> Result<(), RtnlError> {
    results.into_iter().next().unwrap_or(Ok(()))
}

fn message(key: AddressKey) -> AddressMessage {
    let mut message = AddressMessage::default();
    let address = key.address.addr();
    message.header.family = family(key.address.family());
    message.header.prefix_len = key.address.prefix_len();
    message.header.index = key.interface;
    message.header.scope = if address.is_loopback() {
        AddressScope::Host
    } else {
        AddressScope::Universe
    };
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    message
}

fn put_request(key: AddressKey, lifetime: Lifetime) -> Request {
    let mut message = message(key);
    message
        .attributes
        .extend(key.address.broadcast().map(AddressAttribute::Broadcast));
    let mut life = CacheInfo::default();
    life.ifa_preferred = 0;
    life.ifa_valid = match lifetime {
        Lifetime::Forever => FOREVER,
        Lifetime::Lease(duration) => seconds(duration),
    };
    message.attributes.push(AddressAttribute::CacheInfo(life));
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::from(OWNER)));
    if key.address.family() == Family::Ipv6 {
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    encode(&RouteNetlinkMessage::NewAddress(message), CREATE | REPLACE)
}

/// Whole seconds, upwards: 0 is refused by the kernel and the highest number means for ever.
fn seconds(lease: Duration) -> u32 {
    let whole = lease.as_secs() + u64::from(lease.subsec_nanos() > 0);
    u32::try_from(whole).unwrap_or(FOREVER).clamp(1, FOREVER - 1)
}

/// The interfaces where one of `keys` may be the primary address of a subnet with others in it.
fn primaries<'a>(keys: impl Iterator<Item = &'a AddressKey>) -> BTreeSet<u32> {
    keys.filter(|key| key.address.family() == Family::Ipv4 && key.address.prefix_len() < 32)
        .map(|key| key.interface)
        .collect()
}

fn promote_secondaries(interface: &str) -> Result<(), SysctlError> {
    // The kernel takes the switch of `all` or of the interface (`IN_DEV_PROMOTE_SECONDARIES`).
    if Sysctl::ipv4_all("promote_secondaries").read_number()? == 1 {
        return Ok(());
    }
    let own = Sysctl::ipv4(interface, "promote_secondaries")?;
    if own.ensure(1)? {
        tracing::info!(%interface, "set {own} to 1, so that removing a VIP leaves the interface's other addresses");
    }
    Ok(())
}

/// The secondaries that would go with `key`: same interface, same network, and `key` is its primary.
fn dependants(key: AddressKey, all: &[Address], going: &[AddressKey]) -> Vec<IpPrefix> {
    let same_network = |a: &&Address| {
        a.key.interface == key.interface
            && a.key.address.prefix_len() == key.address.prefix_len()
            && a.key.address.contains(key.address.addr())
    };
    if !all.iter().any(|a| a.key == key && !a.secondary) {
        return Vec::new();
    }
    all.iter()
        .filter(same_network)
        .filter(|a| a.secondary && !going.contains(&a.key))
        .map(|a| a.key.address)
        .collect()
}

fn address(message: RouteNetlinkMessage) -> Option<Address> {
    match message {
        RouteNetlinkMessage::NewAddress(message) => from_message(&message),
        _ => None,
    }
}

/// Also used for notifications, whose message is the same.
pub(super) fn from_message(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut peer) = (None::<IpAddr>, None::<IpAddr>);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let mut owner = None;
    let mut remaining = Remaining::Forever;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::Protocol(protocol) => owner = Some(u8::from(*protocol)).filter(|o| *o != 0),
            AddressAttribute::CacheInfo(life) if life.ifa_valid != FOREVER => {
                remaining = Remaining::Seconds(life.ifa_valid);
            }
            _ => {}
        }
    }
    // IPv6 gives IFA_LOCAL on point-to-point links only; there and in IPv4 it is the address of this end.
    let address = IpPrefix::new(local.or(peer)?, message.header.prefix_len)?;
    Some(Address {
        key: AddressKey {
            interface: message.header.index,
            address,
        },
        owner,
        remaining,
        secondary: flags.contains(AddressFlags::Secondary),
        deprecated: flags.contains(AddressFlags::Deprecated),
        tentative: flags.contains(AddressFlags::Tentative),
        dad_failed: flags.contains(AddressFlags::Dadfailed),
        scope: match message.header.scope {
            AddressScope::Universe => Scope::Global,
            AddressScope::Link => Scope::Link,
            AddressScope::Host => Scope::Host,
            other => Scope::Other(u8::from(other)),
        },
    })
}
