//! The sockets, shared by the instances that need the same one.
//!
//! VRRP sockets: one for each (interface, destination); 254 instances on one card read one socket. Packet sockets: one
//! for each (interface, family). What is needed is said anew after every change, what is no longer needed is closed.
use crate::sys::packet::{self, PacketSocket};
use crate::sys::rawsock::{self, Destination, VrrpSocket};
use lb_common::model::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Vrrp(#[from] rawsock::OpenError),
    #[error(transparent)]
    Packet(#[from] packet::OpenError),
}

/// Names a VRRP socket: the interface that adverts pass, and what they are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VrrpKey {
    pub(super) interface: u32,
    pub(super) destination: Destination,
}

/// Names a packet socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PacketKey {
    pub(super) interface: u32,
    pub(super) family: Family,
}

#[derive(Debug)]
struct Vrrp {
    socket: VrrpSocket,
    vrids: BTreeSet<u8>,
}

#[derive(Debug)]
struct Packet {
    socket: PacketSocket,
    watched: Vec<IpAddr>,
}

/// All sockets but the monitor's.
#[derive(Debug, Default)]
pub(super) struct Pool {
    vrrp: BTreeMap<VrrpKey, Vrrp>,
    packet: BTreeMap<PacketKey, Packet>,
}

impl Pool {
    /// Opens the socket if it is not there.
    pub(super) fn need_vrrp(&mut self, key: VrrpKey, name: &str) -> Result<(), OpenError> {
        if let std::collections::btree_map::Entry::Vacant(slot) = self.vrrp.entry(key) {
            slot.insert(Vrrp {
                socket: VrrpSocket::open(key.interface, name, key.destination)?,
                vrids: BTreeSet::new(),
            });
        }
        Ok(())
    }

    /// Opens the socket if it is not there.
    pub(super) fn need_packet(&mut self, key: PacketKey, name: &str) -> Result<(), OpenError> {
        if let std::collections::btree_map::Entry::Vacant(slot) = self.packet.entry(key) {
            slot.insert(Packet {
                socket: PacketSocket::open(key.interface, name, key.family)?,
                watched: Vec::new(),
            });
        }
        Ok(())
    }

    /// Closes every VRRP socket that is not in `wanted`, and lets the others take these VRIDs only.
    pub(super) fn keep_vrrp(&mut self, mut wanted: BTreeMap<VrrpKey, BTreeSet<u8>>) {
        self.vrrp.retain(|key, s| {
            let Some(vrids) = wanted.remove(key) else {
                return false;
            };
            if s.vrids != vrids {
                // Unfiltered it only costs time: VRIDs are compared again above.
                if let Err(error) = s.socket.only_vrids(vrids.iter().copied()) {
                    tracing::debug!(%error, "the VRID filter was refused");
                }
                s.vrids = vrids;
            }
            true
        });
    }

    /// The same for packet sockets and the addresses that they watch.
    pub(super) fn keep_packet(&mut self, mut wanted: BTreeMap<PacketKey, Vec<IpAddr>>) {
        self.packet.retain(|key, s| {
            let Some(addresses) = wanted.remove(key) else {
                return false;
            };
            if s.watched != addresses {
                if let Err(error) = s.socket.watch(&addresses) {
                    tracing::debug!(%error, "the address filter was refused");
                }
                s.watched = addresses;
            }
            true
        });
    }

    /// Closes a socket that failed; the next need opens it anew.
    pub(super) fn discard(&mut self, key: VrrpKey) {
        self.vrrp.remove(&key);
    }

    pub(super) fn vrrp(&self, key: VrrpKey) -> Option<&VrrpSocket> {
        self.vrrp.get(&key).map(|s| &s.socket)
    }

    pub(super) fn vrrp_mut(&mut self, key: VrrpKey) -> Option<&mut VrrpSocket> {
        self.vrrp.get_mut(&key).map(|s| &mut s.socket)
    }

    pub(super) fn packet(&self, key: PacketKey) -> Option<&PacketSocket> {
        self.packet.get(&key).map(|s| &s.socket)
    }

    /// In a fixed order, the one of [`Self::fds`].
    pub(super) fn vrrp_keys(&self) -> Vec<VrrpKey> {
        self.vrrp.keys().copied().collect()
    }

    /// In a fixed order.
    pub(super) fn packet_keys(&self) -> Vec<PacketKey> {
        self.packet.keys().copied().collect()
    }

    /// Everything to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let vrrp = self.vrrp.values().map(|s| s.socket.as_fd());
        vrrp.chain(self.packet.values().map(|s| s.socket.as_fd()))
    }
}
