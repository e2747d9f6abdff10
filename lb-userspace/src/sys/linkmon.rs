//! Interfaces and addresses of this network namespace, kept current by netlink.
//!
//! One non-blocking socket gets the notifications and asks for the dumps; nothing here waits. When the kernel says that
//! notifications were lost (ENOBUFS), or that a dump changed while it was read, everything is read again: entries that
//! the new reading does not confirm are dropped at its end. Of a message only the attributes that are used are looked
//! at, so that an interface of a kind which nobody has heard of is still an interface.
mod parse;
mod table;

pub use table::{Address, Link, LinkTable};

use lb_common::model::{Family, IpPrefix, MacAddr};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkMessage};
use netlink_packet_route::route::{RouteHeader, RouteMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use parse::{Header, attributes, parse_address, text, word};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// What one dump part may be long (`NLMSG_GOODSIZE` grows to this for readers that offer it).
const BUFFER: usize = 64 * 1024;
const RECEIVE_BUFFER: usize = 1 << 20;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RT_TABLE_MAIN: u8 = 254;

/// The monitor cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch the interfaces by netlink")]
pub struct MonitorError(#[from] io::Error);

/// What is read in turn by one full reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dump {
    Links,
    Addresses,
    RoutesV4,
    RoutesV6,
}

impl Dump {
    const fn next(self) -> Option<Self> {
        match self {
            Self::Links => Some(Self::Addresses),
            Self::Addresses => Some(Self::RoutesV4),
            Self::RoutesV4 => Some(Self::RoutesV6),
            Self::RoutesV6 => None,
        }
    }

    fn request(self) -> RouteNetlinkMessage {
        let routes = |family| {
            let mut m = RouteMessage::default();
            m.header.address_family = family;
            RouteNetlinkMessage::GetRoute(m)
        };
        match self {
            Self::Links => RouteNetlinkMessage::GetLink(LinkMessage::default()),
            Self::Addresses => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            Self::RoutesV4 => routes(AddressFamily::Inet),
            Self::RoutesV6 => routes(AddressFamily::Inet6),
        }
    }
}

/// The monitor.
pub struct LinkMonitor {
    socket: Socket,
    buffer: Vec<u8>,
    table: LinkTable,
    reading: Option<(Dump, u32)>,
    again: bool,
    epoch: u64,
    seq: u32,
    synced: bool,
    resyncs: u64,
    ignored: BTreeSet<IpAddr>,
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl LinkMonitor {
    /// Subscribes first, then asks for the first full reading.
    pub fn open() -> Result<Self, MonitorError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        // A storm of notifications beyond it means one more full reading, no error: so a refusal is no matter.
        let _ = socket.set_rx_buf_sz(i32::try_from(RECEIVE_BUFFER).unwrap_or(i32::MAX));
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        let mut this = Self {
            socket,
            buffer: Vec::with_capacity(BUFFER),
            table: LinkTable::default(),
            reading: None,
            again: false,
            epoch: 0,
            seq: 0,
            synced: false,
            resyncs: 0,
            ignored: BTreeSet::new(),
        };
        this.resync()?;
        Ok(this)
    }

    /// What is known.
    pub fn table(&self) -> &LinkTable {
        &self.table
    }

    /// Whether the first full reading is complete.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// How often everything was read again because notifications were lost.
    pub fn resyncs(&self) -> u64 {
        self.resyncs
    }

    /// Changes of these addresses are kept, but are no news to [`Self::drain`]'s caller: he makes them himself, hundreds
    /// at a time.
    pub fn ignore(&mut self, addresses: BTreeSet<IpAddr>) {
        self.ignored = addresses;
    }

    /// Starts a full reading; one that is under way is followed by another.
    pub fn resync(&mut self) -> Result<(), MonitorError> {
        if self.reading.is_some() {
            self.again = true;
            return Ok(());
        }
        self.epoch += 1;
        self.ask(Dump::Links)
    }

    /// Reads what is queued, at most `limit` datagrams. True when the table may have changed.
    pub fn drain(&mut self, limit: usize) -> Result<bool, MonitorError> {
        let mut changed = false;
        for _ in 0..limit {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    let buffer = std::mem::take(&mut self.buffer);
                    let result = self.datagram(&buffer);
                    self.buffer = buffer;
                    changed |= result?;
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => self.lost()?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(changed)
    }

    /// A dump whose parts were lost would never end, so the one under way is given up.
    fn lost(&mut self) -> Result<(), MonitorError> {
        self.resyncs += 1;
        self.reading = None;
        self.again = false;
        self.resync()
    }

    fn ask(&mut self, dump: Dump) -> Result<(), MonitorError> {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.reading = Some((dump, self.seq));
        if dump == Dump::RoutesV4 {
            self.table.defaults.clear();
        }
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.seq;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(dump.request()));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        match self.socket.send(&bytes, 0) {
            Ok(_) => Ok(()),
            // The dump before is still being given up by the kernel: the caller's next full reading repeats it.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                self.reading = None;
                self.again = true;
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    fn datagram(&mut self, bytes: &[u8]) -> Result<bool, MonitorError> {
        let mut changed = false;
        let mut rest = bytes;
        while let Some(header) = Header::parse(rest) {
            let Some(body) = rest.get(Header::LEN..header.len) else {
                break;
            };
            changed |= self.message(&header, body)?;
            rest = rest.get(header.len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(changed)
    }

    fn message(&mut self, h: &Header, body: &[u8]) -> Result<bool, MonitorError> {
        let of_dump = self.reading.is_some_and(|(_, seq)| seq == h.seq);
        if of_dump && h.flags & NLM_F_DUMP_INTR != 0 {
            self.again = true;
        }
        match h.kind {
            NLMSG_OVERRUN => {
                self.lost()?;
                Ok(false)
            }
            // The dump before is still being given up by the kernel: what was read now is not all there is.
            NLMSG_ERROR if of_dump && error_of(body) == Some(-libc::EBUSY) => {
                self.again = true;
                self.dump_done()
            }
            NLMSG_DONE | NLMSG_ERROR if of_dump => self.dump_done(),
            RTM_NEWLINK => Ok(self.link(body).unwrap_or(false)),
            RTM_DELLINK => Ok(self.link_gone(body).unwrap_or(false)),
            RTM_NEWADDR => Ok(self.address(body).unwrap_or(false)),
            RTM_DELADDR => Ok(self.address_gone(body).unwrap_or(false)),
            RTM_NEWROUTE if of_dump => Ok(self.route(body).unwrap_or(false)),
            _ => Ok(false),
        }
    }

    /// An error ends a dump as its end does: a kernel without IPv6 has no IPv6 routes.
    fn dump_done(&mut self) -> Result<bool, MonitorError> {
        let next = self.reading.take().and_then(|(dump, _)| dump.next());
        if let Some(next) = next {
            self.ask(next)?;
            return Ok(false);
        }
        if std::mem::take(&mut self.again) {
            self.resync()?;
            return Ok(false);
        }
        let epoch = self.epoch;
        self.table.links.retain(|_, l| l.epoch == epoch);
        self.table.addresses.retain(|a| a.epoch == epoch);
        self.synced = true;
        Ok(true)
    }

    fn link(&mut self, body: &[u8]) -> Option<bool> {
        let header = LinkHeader::parse(body).ok()?;
        // A bridge's ports are announced once more in family AF_BRIDGE, with other attributes.
        if header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let mut link = Link {
            index: header.index,
            name: String::new(),
            mac: None,
            usable: header.flags.contains(LinkFlags::Up | LinkFlags::Running),
            loopback: header.flags.contains(LinkFlags::Loopback),
            controller: None,
            kind: None,
            epoch: self.epoch,
        };
        for nla in attributes(body, 16) {
            match nla.kind() {
                IFLA_IFNAME => link.name = text(nla.value()),
                IFLA_ADDRESS => link.mac = nla.value().try_into().ok().map(MacAddr),
                IFLA_MASTER => link.controller = word(nla.value()),
                IFLA_LINKINFO => {
                    let mut infos = NlasIterator::new(nla.value()).flatten();
                    link.kind = infos
                        .find(|i| i.kind() == IFLA_INFO_KIND)
                        .map(|i| text(i.value()));
                }
                _ => {}
            }
        }
        let before = self.table.links.insert(link.index, link.clone());
        Some(before.is_none_or(|b| {
            Link {
                epoch: link.epoch,
                ..b
            } != link
        }))
    }

    fn link_gone(&mut self, body: &[u8]) -> Option<bool> {
        let header = LinkHeader::parse(body).ok()?;
        if header.interface_family != AddressFamily::Unspec {
            return None;
        }
        self.table.addresses.retain(|a| a.interface != header.index);
        Some(self.table.links.remove(&header.index).is_some())
    }

    fn address(&mut self, body: &[u8]) -> Option<bool> {
        let (interface, prefix, flags) = parse_address(body)?;
        let new = Address {
            interface,
            prefix,
            secondary: flags.contains(AddressFlags::Secondary),
            deprecated: flags.contains(AddressFlags::Deprecated),
            tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed)
                && !flags.contains(AddressFlags::Optimistic),
            epoch: self.epoch,
        };
        let same = |a: &&mut Address| a.interface == interface && a.prefix == prefix;
        if let Some(old) = self.table.addresses.iter_mut().find(same) {
            let changed = Address {
                epoch: new.epoch,
                ..*old
            } != new;
            *old = new;
            return Some(changed && self.is_news(prefix));
        }
        self.table.addresses.push(new);
        Some(self.is_news(prefix))
    }

    fn is_news(&self, prefix: IpPrefix) -> bool {
        !self.ignored.contains(&prefix.addr())
    }

    fn address_gone(&mut self, body: &[u8]) -> Option<bool> {
        let (interface, prefix, _) = parse_address(body)?;
        let before = self.table.addresses.len();
        self.table
            .addresses
            .retain(|a| a.interface != interface || a.prefix != prefix);
        Some(self.table.addresses.len() != before && self.is_news(prefix))
    }

    /// Keeps default routes of the main table.
    fn route(&mut self, body: &[u8]) -> Option<bool> {
        let header = RouteHeader::parse(body).ok()?;
        let family = match header.address_family {
            AddressFamily::Inet => Family::Ipv4,
            AddressFamily::Inet6 => Family::Ipv6,
            _ => return None,
        };
        if header.destination_prefix_length != 0 || header.table != RT_TABLE_MAIN {
            return None;
        }
        let (mut oif, mut metric) = (None, 0);
        for nla in attributes(body, 12) {
            match nla.kind() {
                RTA_OIF => oif = word(nla.value()),
                RTA_PRIORITY => metric = word(nla.value())?,
                // `struct rtnexthop`: length, flags, hops, interface. The first of several is as good as any.
                RTA_MULTIPATH => oif = oif.or(nla.value().get(4..8).and_then(word)),
                _ => {}
            }
        }
        self.table.defaults.push((family, metric, oif?));
        Some(true)
    }
}

/// `nlmsgerr.error`: a negative errno.
fn error_of(body: &[u8]) -> Option<i32> {
    body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}
