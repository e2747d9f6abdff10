//! One netlink socket: a question, its answer or refusal, a dump.
//!
//! `neli`'s `NlRouter` starts a thread a socket and its `NlSocketHandle` only blocks. The kernel answers generic netlink
//! within `sendmsg`, so an answer that is not there at once will never come, and there is a case in which it does not:
//! `netlink_rcv_skb` (`net/netlink/af_netlink.c`) acknowledges nothing that ends in EINTR. The reconciler must not hang
//! on that: hence `NlSocket`, the layer below those two, not blocking.
use super::codec::{Attributes, DecodeError};
use neli::FromBytes;
use neli::consts::genl::{CtrlAttr, CtrlCmd};
use neli::consts::nl::NlmsgerrAttr;
use neli::consts::nl::{GenlId, NlmF, Nlmsg};
use neli::consts::socket::{Msg, NlFamily};
use neli::err::Nlmsgerr;
use neli::genl::{Genlmsghdr, GenlmsghdrBuilder};
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::socket::NlSocket;
use neli::types::{Buffer, GenlBuffer};
use neli::utils::Groups;
use neli::{Size, ToBytes};
use nix::errno::Errno;
use std::io::{self, Cursor};

/// The most that `netlink_dump` (`net/netlink/af_netlink.c`) puts in one datagram.
const DATAGRAM_MAX: usize = 32 * 1024;

type Message = Nlmsghdr<u16, Genlmsghdr<u8, u16>>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The kernel refused: its errno, and its words where it has any.
    Kernel(i32, Option<String>),
    /// The list changed while it was read (`NLM_F_DUMP_INTR`, or part of it was lost for want of room).
    Interrupted,
    /// The kernel has no such family any more.
    NoFamily,
    Socket(io::Error),
    Malformed(DecodeError),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Socket(e)
    }
}

/// How a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// For one answer or none, and an acknowledgement.
    Once,
    /// For a list.
    Dump,
}

/// What one datagram said about the exchange.
enum Step {
    More,
    Done,
}

pub(super) struct Socket {
    socket: NlSocket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
        socket.nonblock()?;
        // Words to go with an errno, from Linux 4.12 on; without them the errno alone must do.
        let _ = socket.enable_ext_ack(true);
        let port = socket.pid()?;
        Ok(Self {
            socket,
            port,
            sequence: 0,
            buffer: vec![0; DATAGRAM_MAX],
        })
    }

    /// The number of a generic netlink family; `None` where the kernel has none of that name and can load none.
    pub(super) fn family(&mut self, name: &str) -> Result<Option<u16>, Failure> {
        let question = Attributes::new()
            .put(CtrlAttr::FamilyName, name)
            .map_err(|e| Failure::Malformed(DecodeError::Malformed(e.to_string())))?;
        let answer = self.exchange(
            GenlId::Ctrl.into(),
            (CtrlCmd::Getfamily.into(), 1),
            &question,
            Ask::Once,
        );
        match answer {
            Ok(answers) => answers
                .first()
                .map(|a| a.u16(CtrlAttr::FamilyId))
                .transpose()
                .map_err(Failure::Malformed),
            Err(Failure::Kernel(errno, _)) if errno == Errno::ENOENT as i32 => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Asks, and gives the attributes of every message of the answer.
    pub(super) fn exchange(
        &mut self,
        family: u16,
        (command, version): (u8, u8),
        question: &Attributes,
        ask: Ask,
    ) -> Result<Vec<Attributes>, Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(family, command, version, question, ask)?;
        let mut answers = Vec::new();
        let mut interrupted = false;
        while let Step::More = self.receive(&mut answers, &mut interrupted)? {}
        if interrupted {
            Err(Failure::Interrupted)
        } else {
            Ok(answers)
        }
    }

    fn send(
        &self,
        family: u16,
        command: u8,
        version: u8,
        question: &Attributes,
        ask: Ask,
    ) -> Result<(), Failure> {
        let dump = match ask {
            Ask::Once => NlmF::empty(),
            Ask::Dump => NlmF::DUMP,
        };
        let body: Genlmsghdr<u8, u16> = GenlmsghdrBuilder::default()
            .cmd(command)
            .version(version)
            .attrs(question.to_neli())
            .build()
            .map_err(|e| malformed(&e))?;
        let message = NlmsghdrBuilder::default()
            .nl_type(family)
            .nl_flags(NlmF::REQUEST | NlmF::ACK | dump)
            .nl_seq(self.sequence)
            .nl_pid(self.port)
            .nl_payload(NlPayload::Payload(body))
            .build()
            .map_err(|e| malformed(&e))?;
        let mut bytes = Cursor::new(Vec::with_capacity(message.padded_size()));
        message.to_bytes(&mut bytes).map_err(|e| malformed(&e))?;
        self.socket.send(bytes.into_inner(), Msg::empty())?;
        Ok(())
    }

    /// One datagram. Errors end the exchange; what is left of its answer is passed over later, by its sequence number.
    fn receive(&mut self, answers: &mut Vec<Attributes>, interrupted: &mut bool) -> Result<Step, Failure> {
        let len = match self.socket.recv(self.buffer.as_mut_slice(), Msg::empty()) {
            Ok((len, _)) => len,
            // ENOBUFS: a datagram did not fit in the receive queue, so the list has a hole.
            Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                return Err(Failure::Interrupted);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(Failure::Kernel(Errno::EINTR as i32, None));
            }
            Err(e) => return Err(e.into()),
        };
        let mut cursor = Cursor::new(self.buffer.get(..len).unwrap_or_default());
        let mut step = Step::More;
        while (cursor.position() as usize) < len {
            let message = Message::from_bytes(&mut cursor).map_err(|e| malformed(&e))?;
            if *message.nl_seq() == self.sequence {
                *interrupted |= message.nl_flags().contains(NlmF::DUMP_INTR);
                if let Step::Done = take(&message, answers)? {
                    step = Step::Done;
                }
            }
        }
        Ok(step)
    }
}

/// An acknowledgement ends a question for one, `NLMSG_DONE` a list.
fn take(message: &Message, answers: &mut Vec<Attributes>) -> Result<Step, Failure> {
    match message.nl_payload() {
        NlPayload::Ack(_) => Ok(Step::Done),
        NlPayload::Err(e) => Err(refused(*e.error(), e.ext_ack())),
        NlPayload::DumpExtAck(Nlmsgerr { .. }) | NlPayload::Empty => end_of_dump(message),
        NlPayload::Payload(body) => {
            answers.push(Attributes::from_neli(body.attrs()));
            Ok(Step::More)
        }
    }
}

/// `NLMSG_DONE` carries an errno where the dump broke off.
fn end_of_dump(message: &Message) -> Result<Step, Failure> {
    match message.nl_payload() {
        NlPayload::DumpExtAck(e) if *e.error() < 0 => Err(refused(*e.error(), e.ext_ack())),
        _ if *message.nl_type() == u16::from(Nlmsg::Done) => Ok(Step::Done),
        _ => Ok(Step::More),
    }
}

fn refused(error: i32, words: &GenlBuffer<NlmsgerrAttr, Buffer>) -> Failure {
    let words = words
        .as_ref()
        .iter()
        .find(|a| *a.nla_type().nla_type() == NlmsgerrAttr::Msg)
        .map(|a| {
            String::from_utf8_lossy(a.nla_payload().as_ref())
                .trim_end_matches('\0')
                .to_owned()
        });
    Failure::Kernel(error.saturating_neg(), words)
}

fn malformed(e: &dyn std::fmt::Display) -> Failure {
    Failure::Malformed(DecodeError::Malformed(e.to_string()))
}
