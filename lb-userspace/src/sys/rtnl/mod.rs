//! Addresses, links, neighbours, routes and address labels of the current network namespace (`NETLINK_ROUTE`).
//!
//! Our types in and out; the `netlink-*` crates stop here. One [`Rtnl`] belongs to one writer: its methods take
//! `&mut self` and are answered one after another. A dropped future does no harm, its late answers are thrown away.
//! Facts are from the kernel's `net/core/rtnetlink.c`, `net/ipv4/devinet.c`, `net/ipv6/addrconf.c` and
//! `net/core/neighbour.c`.
mod address;
pub(crate) mod attr;
pub(crate) mod channel;
mod error;
mod label;
mod link;
mod neighbour;
mod route;
mod watch;

pub use address::{Address, OWNER, Remaining, Scope};
pub use channel::Refusal;
pub use error::RtnlError;
pub use label::AddressLabel;
pub use link::{Dummy, Link, Vlan, XdpOn};
pub use neighbour::{Neighbour, NeighbourState};
pub use route::{Route, RouteKind};
pub use watch::{Change, Watch};

use channel::{Channel, DUMP, Reply, Request};
use lb_common::model::Family;
use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use std::collections::BTreeSet;

/// How often a list that changed under the reader is read again.
const READS: usize = 10;
/// So many requests leave in one datagram. Their answers must fit the default receive buffer of 208 KiB together.
const BATCH: usize = 64;

/// A conversation with the kernel about its links and addresses.
pub struct Rtnl {
    channel: Channel,
    /// Interfaces where `promote_secondaries` could not be set: said once.
    unprotected: BTreeSet<u32>,
}

impl Rtnl {
    /// Opens it in the network namespace that the calling thread is in now. Needs a tokio runtime with I/O.
    pub fn open() -> Result<Self, RtnlError> {
        let channel = Channel::open(NETLINK_ROUTE).map_err(|source| RtnlError::Socket {
            action: "opening a route netlink socket".to_owned(),
            source,
        })?;
        Ok(Self {
            channel,
            unprotected: BTreeSet::new(),
        })
    }

    /// Listens to changes made by others from now on. Subscribe first, then read the lists.
    pub fn watch(&self) -> Result<Watch, RtnlError> {
        Watch::open(self.channel.port())
    }

    /// A whole list, read again while it changes under us. Messages that cannot be decoded are left out and said.
    async fn dump(
        &mut self,
        action: &str,
        request: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, RtnlError> {
        for _ in 0..READS {
            let reply = self.one(action, encode(request, DUMP)).await?;
            let interrupted = reply.interrupted;
            let messages = self.accept(action, reply)?;
            if !interrupted {
                return Ok(messages);
            }
        }
        Err(RtnlError::Unstable {
            action: action.to_owned(),
        })
    }

    /// One request and what came back with its acknowledgement.
    async fn ask(
        &mut self,
        action: &str,
        request: &RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, RtnlError> {
        let reply = self.one(action, encode(request, flags)).await?;
        self.accept(action, reply)
    }

    async fn one(&mut self, action: &str, request: Request) -> Result<Reply, RtnlError> {
        let mut replies = self.many(action, &[request]).await?;
        Ok(replies.pop().unwrap_or_default())
    }

    async fn many(&mut self, action: &str, requests: &[Request]) -> Result<Vec<Reply>, RtnlError> {
        self.channel
            .transact(requests)
            .await
            .map_err(|source| RtnlError::Socket {
                action: action.to_owned(),
                source,
            })
    }

    fn accept(&self, action: &str, reply: Reply) -> Result<Vec<RouteNetlinkMessage>, RtnlError> {
        match reply.result {
            Some(Err(refusal)) => Err(RtnlError::Refused {
                action: action.to_owned(),
                refusal,
            }),
            Some(Ok(())) | None => Ok(reply
                .messages
                .iter()
                .filter_map(|m| decode(m.kind, &m.body))
                .collect()),
        }
    }
}

fn encode(message: &RouteNetlinkMessage, flags: u16) -> Request {
    let mut body = vec![0; message.buffer_len()];
    message.serialize(&mut body);
    Request::new(message.message_type(), flags, body)
}

fn decode(kind: u16, body: &[u8]) -> Option<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    match RouteNetlinkMessage::deserialize(&header, body) {
        Ok(message) => Some(message),
        Err(error) => {
            tracing::debug!(kind, %error, "a route netlink message that cannot be decoded was left out");
            None
        }
    }
}

fn family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

/// An interface's name for messages; its number where it is gone.
#[allow(
    unsafe_code,
    reason = "neither std nor nix gives the name of an index without listing all interfaces"
)]
fn interface_name(index: u32) -> String {
    let mut buffer = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has IF_NAMESIZE bytes, as if_indextoname(3) asks, and outlives the call.
    let found = unsafe { !libc::if_indextoname(index, buffer.as_mut_ptr()).is_null() };
    if !found {
        return format!("interface {index}");
    }
    buffer
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| char::from(c.cast_unsigned()))
        .collect()
}
