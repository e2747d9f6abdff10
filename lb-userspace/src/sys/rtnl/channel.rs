//! A netlink socket and its conversation: requests out in one datagram, the answers of each back in order.
//!
//! It owns the socket and nothing else; what the bytes mean is the business of the files above (`rtnl/*`, `guard/*`).
//! Why not a connection task of a crate: an answer lost to an overflow or to a message that a decoder does not know
//! must be an error here and never a request that waits for ever, a batch must leave in one system call, and the
//! kernel's own explanation (`NLMSGERR_ATTR_MSG`) must reach the operator.
//!
//! The kernel handles a datagram within `sendto()` (`net/netlink/af_netlink.c`, `netlink_unicast_kernel`), so the answers
//! are queued when it returns and waiting for them is a formality, except for long dumps.
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::errno::Errno;
use std::fmt;
use std::io;

const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;
/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x04;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`, on a NEW request.
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`, on a NEW request.
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`, on a NEW request.
pub(crate) const CREATE: u16 = 0x400;
const DUMP_INTERRUPTED: u16 = 0x10;
const CAPPED: u16 = 0x100;
const HAS_ATTRIBUTES: u16 = 0x200;
const ERROR_TEXT: u16 = 1;
/// No datagram of the kernel's is longer: a dump fills at most 32 KiB.
const DATAGRAM: usize = 64 * 1024;

/// One message to the kernel; the header is made here.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) body: Vec<u8>,
    /// Whether an answer belongs to it. The brackets of an nf_tables batch have none, unless all of it failed.
    pub(crate) answered: bool,
}

impl Request {
    pub(crate) fn new(kind: u16, flags: u16, body: Vec<u8>) -> Self {
        Self {
            kind,
            flags: flags | REQUEST | ACK,
            body,
            answered: true,
        }
    }
}

/// A message of the kernel's, without its header.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// Everything the kernel said to one request.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) messages: Vec<Message>,
    pub(crate) result: Option<Result<(), Refusal>>,
    /// The list changed while it was read: read it again.
    pub(crate) interrupted: bool,
}

/// The kernel said no, and perhaps why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `errno`.
    pub errno: Errno,
    /// The kernel's own words.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.errno.desc(), self.errno)?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

pub(crate) struct Channel {
    socket: TokioSocket,
    port: u32,
    sequence: u32,
    /// A conversation was begun and not ended (its future was dropped): answers of it may still come.
    broken_off: bool,
    buffer: Vec<u8>,
}

impl Channel {
    /// A socket of `protocol` in the network namespace of the calling thread. Needs a tokio runtime.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        let port = socket.socket_mut().bind_auto()?.port_number();
        // Both are refinements that old kernels lack: without them errors are only longer and less well explained.
        let _ = socket.socket_ref().set_cap_ack(true);
        let _ = socket.socket_ref().set_ext_ack(true);
        Ok(Self {
            socket,
            port,
            sequence: 0,
            broken_off: false,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// The socket's port: the kernel puts it on the notifications that our own requests cause.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Sends all of `requests` in one datagram and gathers their answers. Keep a batch to some dozens: each answer
    /// takes almost a kilobyte of the socket's receive buffer.
    pub(crate) async fn transact(&mut self, requests: &[Request]) -> io::Result<Vec<Reply>> {
        if self.broken_off {
            self.drain()?;
        }
        let first = self.sequence.wrapping_add(1);
        let datagram = self.encode(requests);
        self.broken_off = true;
        self.send(&datagram).await?;
        let mut replies: Vec<Reply> = requests.iter().map(|_| Reply::default()).collect();
        while requests
            .iter()
            .zip(&replies)
            .any(|(q, r)| q.answered && r.result.is_none())
        {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM);
            let from = self.socket.recv_from(&mut self.buffer).await?;
            if from.port_number() == 0 {
                gather(&self.buffer, first, requests, &mut replies)?;
            }
        }
        self.broken_off = false;
        Ok(replies)
    }

    fn encode(&mut self, requests: &[Request]) -> Vec<u8> {
        let mut out = Vec::with_capacity(requests.iter().map(|r| HEADER + r.body.len() + 3).sum());
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let length = u32::try_from(HEADER + request.body.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_ne_bytes());
            out.extend_from_slice(&request.kind.to_ne_bytes());
            out.extend_from_slice(&request.flags.to_ne_bytes());
            out.extend_from_slice(&self.sequence.to_ne_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&request.body);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let sent = self.socket.send_to(datagram, &SocketAddr::new(0, 0)).await?;
        if sent == datagram.len() {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "the kernel took a part of a netlink datagram",
            ))
        }
    }

    /// Reads what an abandoned conversation left. A dump goes on by being read, and the next one would be EBUSY.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM);
            match self.socket.socket_ref().recv_from(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(e) => return Err(e),
            }
        }
        self.broken_off = false;
        Ok(())
    }
}

/// Splits a datagram into messages: kind, flags, sequence, port, body. Stops at the first that is cut short.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = Header::read(rest)?;
        let body = rest.get(HEADER..header.length)?;
        rest = rest.get(header.length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    })
}

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    length: usize,
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    pub(crate) port: u32,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            length: usize::try_from(u32_at(bytes, 0)?).ok().filter(|l| *l >= HEADER)?,
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
        })
    }
}

fn gather(datagram: &[u8], first: u32, requests: &[Request], replies: &mut [Reply]) -> io::Result<()> {
    for (header, body) in messages(datagram) {
        let index = usize::try_from(header.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
        let (Some(request), Some(reply)) = (requests.get(index), replies.get_mut(index)) else {
            continue;
        };
        reply.interrupted |= header.flags & DUMP_INTERRUPTED != 0;
        match header.kind {
            ERROR => {
                let result = outcome(header.flags, body);
                reply.result = Some(result.clone());
                // The bracket of a batch is answered only when the whole batch came to nothing.
                if let (false, Err(refusal)) = (request.answered, result) {
                    for reply in replies.iter_mut().filter(|r| r.result.is_none()) {
                        reply.result = Some(Err(refusal.clone()));
                    }
                }
            }
            DONE => reply.result = Some(done(body)),
            OVERRUN => return Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
            kind => reply.messages.push(Message {
                kind,
                body: body.to_vec(),
            }),
        }
    }
    Ok(())
}

/// `struct nlmsgerr`: a negative errno, the header of the request (all of it where the socket did not ask for less),
/// then attributes.
fn outcome(flags: u16, body: &[u8]) -> Result<(), Refusal> {
    let code = i32_at(body, 0);
    if code == 0 {
        return Ok(());
    }
    let quoted = if flags & CAPPED != 0 {
        HEADER
    } else {
        u32_at(body, 4)
            .and_then(|l| usize::try_from(l).ok())
            .unwrap_or(HEADER)
    };
    let attributes = body.get(4 + quoted.next_multiple_of(4)..).unwrap_or_default();
    let text = if flags & HAS_ATTRIBUTES != 0 {
        error_text(attributes)
    } else {
        None
    };
    Err(Refusal {
        errno: Errno::from_raw(code.saturating_neg()),
        text,
    })
}

/// A dump may end in an error, which then stands in the body of NLMSG_DONE.
fn done(body: &[u8]) -> Result<(), Refusal> {
    let code = i32_at(body, 0);
    if code >= 0 {
        return Ok(());
    }
    Err(Refusal {
        errno: Errno::from_raw(code.saturating_neg()),
        text: error_text(body.get(4..).unwrap_or_default()),
    })
}

fn error_text(attributes: &[u8]) -> Option<String> {
    super::attr::attributes(attributes)
        .find(|(kind, _)| *kind == ERROR_TEXT)
        .map(|(_, value)| String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    u32_at(bytes, at).map_or(0, u32::cast_signed)
}
