//! nf_tables over netlink: tables, chains, sets and rules in atomic batches (`net/netfilter/nf_tables_api.c`,
//! `net/netfilter/nfnetlink.c`). It knows the messages and nothing of what ours are for.
use super::GuardError;
use super::expr::Expressions;
use super::rules::Chain;
use crate::sys::rtnl::attr::{self, Body};
use crate::sys::rtnl::channel::{CREATE, Channel, DUMP, Refusal, Request};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use std::time::Duration;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFPROTO_INET: u8 = 1;
/// `NLM_F_APPEND`: at the chain's end.
const APPEND: u16 = 0x800;
const SET_IS_MAP: u32 = 0x08;
const SET_HAS_TIMEOUT: u32 = 0x10;
const LIST_ELEM: u16 = 1;
const READS: usize = 10;
/// In one message: an IPv6 pair takes 60 bytes.
const ELEMENTS: usize = 512;

/// `enum nf_tables_msg_types`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    NewElements = 12,
    GetElements = 13,
    DeleteElements = 14,
}

/// Where in a packet's way, `enum nf_inet_hooks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// For this host, after the routing.
    LocalIn = 1,
    /// From this host.
    LocalOut = 3,
}

/// How a set's keys look; the number is nft(8)'s, so that it prints them well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub(super) kind: u32,
    pub(super) length: u32,
}

/// What a set is for besides holding keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetKind {
    /// Keys only.
    Plain,
    /// Each key expires by itself.
    Expiring,
    /// Each key maps to another of the same kind.
    Map,
}

/// A key with what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    /// Written: how long from now. Read: how much longer.
    pub(super) timeout: Option<Duration>,
}

/// A conversation with nf_tables about one table of family inet.
pub(super) struct Nft {
    channel: Channel,
    table: &'static str,
}

impl Nft {
    pub(super) fn open(table: &'static str) -> Result<Self, GuardError> {
        match Channel::open(NETLINK_NETFILTER) {
            Ok(channel) => Ok(Self { channel, table }),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT)) => {
                Err(GuardError::Unsupported {
                    reason: "it has no netfilter netlink (module nfnetlink)".to_owned(),
                })
            }
            Err(source) => Err(GuardError::Socket {
                action: "opening a netfilter netlink socket",
                source,
            }),
        }
    }

    /// All of `requests` or none of them.
    pub(super) async fn commit(
        &mut self,
        action: &'static str,
        requests: Vec<Request>,
    ) -> Result<(), GuardError> {
        let mut batch = Vec::with_capacity(requests.len() + 2);
        batch.push(bracket(BATCH_BEGIN));
        batch.extend(requests);
        batch.push(bracket(BATCH_END));
        let replies = self
            .channel
            .transact(&batch)
            .await
            .map_err(|source| GuardError::Socket { action, source })?;
        match replies.into_iter().find_map(|r| r.result.and_then(Result::err)) {
            Some(refusal) => Err(GuardError::Refused { action, refusal }),
            None => Ok(()),
        }
    }

    /// The attributes of each object of a kind that `filter` names. None where the table is not there.
    pub(super) async fn list(
        &mut self,
        kind: Kind,
        filter: Body,
    ) -> Result<Option<Vec<Vec<u8>>>, GuardError> {
        const ACTION: &str = "reading the guard's table";
        let request = Request::new(number(kind), DUMP, filter.finish());
        for _ in 0..READS {
            let replies = self
                .channel
                .transact(std::slice::from_ref(&request))
                .await
                .map_err(|source| GuardError::Socket {
                    action: ACTION,
                    source,
                })?;
            let Some(reply) = replies.into_iter().next() else {
                continue;
            };
            match reply.result {
                Some(Err(Refusal {
                    errno: Errno::ENOENT, ..
                })) => return Ok(None),
                // Somebody else's transaction came between.
                Some(Err(Refusal {
                    errno: Errno::EINTR | Errno::EAGAIN,
                    ..
                })) => continue,
                Some(Err(refusal)) => {
                    return Err(GuardError::Refused {
                        action: ACTION,
                        refusal,
                    });
                }
                Some(Ok(())) | None if reply.interrupted => continue,
                Some(Ok(())) | None => {}
            }
            let bodies = reply
                .messages
                .into_iter()
                .map(|m| m.body.get(4..).unwrap_or_default().to_vec());
            return Ok(Some(bodies.collect()));
        }
        Err(GuardError::Unstable)
    }

    /// The elements of a set. None where it is not there.
    pub(super) async fn elements(&mut self, set: &str) -> Result<Option<Vec<Element>>, GuardError> {
        let filter = self.named(1).text(2, set);
        let Some(found) = self.list(Kind::GetElements, filter).await? else {
            return Ok(None);
        };
        let lists = found.iter().filter_map(|message| attr::find(message, 3));
        Ok(Some(
            lists
                .flat_map(attr::attributes)
                .map(|(_, e)| element(e))
                .collect(),
        ))
    }

    /// The beginning of any message about our table; `attribute` is that of the table's name there.
    pub(super) fn named(&self, attribute: u16) -> Body {
        Body::new(&[NFPROTO_INET, 0, 0, 0]).text(attribute, self.table)
    }

    pub(super) fn new_table(&self) -> Request {
        request(Kind::NewTable, CREATE, self.named(1))
    }

    pub(super) fn delete_table(&self) -> Request {
        request(Kind::DeleteTable, 0, self.named(1))
    }

    /// A filter chain.
    pub(super) fn new_chain(&self, chain: &Chain) -> Request {
        let hook = Body::default()
            .be32(1, chain.hook as u32)
            .be32(2, chain.priority.cast_unsigned());
        let body = self.named(1).text(3, chain.name).nest(4, hook).text(7, "filter");
        request(Kind::NewChain, CREATE, body)
    }

    pub(super) fn new_set(&self, name: &str, id: u32, keys: Keys, kind: SetKind) -> Request {
        let flags = match kind {
            SetKind::Plain => 0,
            SetKind::Expiring => SET_HAS_TIMEOUT,
            SetKind::Map => SET_IS_MAP,
        };
        let mut body = self.named(1).text(2, name).be32(3, flags);
        body = body.be32(4, keys.kind).be32(5, keys.length).be32(10, id);
        if kind == SetKind::Map {
            body = body.be32(6, keys.kind).be32(7, keys.length);
        }
        request(Kind::NewSet, CREATE, body)
    }

    /// As many messages as an attribute's 64 KiB make necessary; none for nothing.
    pub(super) fn add(&self, set: &str, elements: &[Element]) -> Vec<Request> {
        elements
            .chunks(ELEMENTS)
            .map(|part| {
                let list = part
                    .iter()
                    .fold(Body::default(), |list, e| list.nest(LIST_ELEM, element_body(e)));
                request(
                    Kind::NewElements,
                    CREATE,
                    self.named(1).text(2, set).nest(3, list),
                )
            })
            .collect()
    }

    /// Empties a set.
    pub(super) fn flush(&self, set: &str) -> Request {
        request(Kind::DeleteElements, 0, self.named(1).text(2, set))
    }

    /// `comment` is what nft(8) shows at the rule, and what we know it by.
    pub(super) fn new_rule(&self, chain: &str, comment: &str, expressions: Expressions) -> Request {
        // struct nftnl_udata: type 0 is a comment, a length of one byte, the text with its NUL.
        let mut note = vec![0, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
        note.extend_from_slice(comment.as_bytes());
        note.push(0);
        let body = self
            .named(1)
            .text(2, chain)
            .nest(4, expressions.into_body())
            .bytes(7, &note);
        request(Kind::NewRule, CREATE | APPEND, body)
    }
}

fn number(kind: Kind) -> u16 {
    SUBSYSTEM << 8 | kind as u16
}

pub(super) fn request(kind: Kind, flags: u16, body: Body) -> Request {
    Request::new(number(kind), flags, body.finish())
}

fn bracket(kind: u16) -> Request {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let mut bracket = Request::new(kind, 0, vec![0, 0, high, low]);
    bracket.flags = crate::sys::rtnl::channel::REQUEST;
    bracket.answered = false;
    bracket
}

fn element_body(element: &Element) -> Body {
    let mut body = Body::default().nest(1, Body::default().bytes(1, &element.key));
    if let Some(value) = &element.value {
        body = body.nest(2, Body::default().bytes(1, value));
    }
    if let Some(timeout) = element.timeout {
        body = body.be64(4, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    }
    body
}

fn element(bytes: &[u8]) -> Element {
    let data = |kind| {
        attr::find(bytes, kind)
            .and_then(|d| attr::find(d, 1))
            .map(<[u8]>::to_vec)
    };
    let left = attr::find(bytes, 5)
        .and_then(|v| v.try_into().ok())
        .map(u64::from_be_bytes);
    Element {
        key: data(1).unwrap_or_default(),
        value: data(2),
        timeout: left.map(Duration::from_millis),
    }
}

/// A rule's comment.
pub(super) fn comment(rule: &[u8]) -> Option<&str> {
    let note = attr::find(rule, 7)?;
    let (&[kind, length], text) = note.split_first_chunk::<2>()?;
    let text = text.get(..usize::from(length)).filter(|_| kind == 0)?;
    std::str::from_utf8(text.strip_suffix(&[0]).unwrap_or(text)).ok()
}
