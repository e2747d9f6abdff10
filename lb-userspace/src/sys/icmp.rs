//! Echo requests, of IPv4 and IPv6.
#![expect(
    unsafe_code,
    reason = "registering a descriptor with the runtime has no safe form"
)]

use lb_common::wire::checksum::Sum;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use tokio::io::unix::AsyncFd;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_6: u8 = 128;
const ECHO_REPLY_6: u8 = 129;

/// A socket that hears one host's answers.
#[derive(Debug)]
pub struct Pinger {
    socket: AsyncFd<Socket>,
    ipv6: bool,
}

impl Pinger {
    /// `source` and `mark` as for other checks.
    ///
    /// # Errors
    /// No CAP_NET_RAW, no such source, no route.
    pub fn open(to: IpAddr, source: Option<IpAddr>, mark: Option<u32>) -> io::Result<Self> {
        let (domain, protocol) = if to.is_ipv4() {
            (Domain::IPV4, Protocol::ICMPV4)
        } else {
            (Domain::IPV6, Protocol::ICMPV6)
        };
        let socket = Socket::new_raw(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        if let Some(mark) = mark {
            socket.set_mark(mark)?;
        }
        if let Some(source) = source {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        socket.connect(&SockAddr::from(SocketAddr::new(to, 0)))?;
        // SAFETY: a `Socket` owns its descriptor and gives the same one for as long as it lives; it is moved in here, and
        // nothing takes it out.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self {
            socket,
            ipv6: to.is_ipv6(),
        })
    }

    /// Sends one request and waits for its answer, for as long as this is polled. `id` and `sequence` should differ each
    /// time.
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn ask(&self, id: u16, sequence: u16) -> io::Result<()> {
        self.socket.get_ref().send(&request(self.ipv6, id, sequence))?;
        let mut buffer = [0; 1024];
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|s| (&mut s.get_ref()).read(&mut buffer)) {
                Ok(Ok(n)) => {
                    let packet = buffer.get(..n).unwrap_or_default();
                    if is_reply(packet, self.ipv6, id, sequence) {
                        return Ok(());
                    }
                }
                Ok(Err(e)) => return Err(e),
                Err(_would_block) => {}
            }
        }
    }
}

/// The kernel fills ICMPv6's checksum in (RFC 3542 §3.1).
fn request(ipv6: bool, id: u16, sequence: u16) -> Vec<u8> {
    let kind = if ipv6 { ECHO_REQUEST_6 } else { ECHO_REQUEST };
    let mut out = vec![kind, 0, 0, 0];
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(b"cplb health check");
    if !ipv6 {
        let sum = Sum::new().bytes(&out).finish().to_be_bytes();
        if let Some(field) = out.get_mut(2..4) {
            field.copy_from_slice(&sum);
        }
    }
    out
}

/// An IPv4 raw socket gives the IP header as well, an IPv6 one does not.
fn is_reply(packet: &[u8], ipv6: bool, id: u16, sequence: u16) -> bool {
    let header = match packet.first() {
        Some(first) if !ipv6 => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let kind = if ipv6 { ECHO_REPLY_6 } else { ECHO_REPLY };
    let [a, b] = id.to_be_bytes();
    let [c, d] = sequence.to_be_bytes();
    matches!(
        packet.get(header..),
        Some([k, 0, _, _, i, j, s, t, ..]) if *k == kind && [*i, *j, *s, *t] == [a, b, c, d]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_the_one_that_was_asked_for() {
        let mut reply = request(false, 0x1234, 7);
        assert_eq!(Sum::new().bytes(&reply).finish(), 0, "its checksum fits");
        reply[0] = ECHO_REPLY;
        let mut packet = vec![0x46; 24];
        packet.extend_from_slice(&reply);
        assert!(is_reply(&packet, false, 0x1234, 7));
        assert!(!is_reply(&packet, false, 0x1234, 8) && !is_reply(&packet, false, 0x1235, 7));
        assert!(!is_reply(&packet[..30], false, 0x1234, 7) && !is_reply(&[], false, 0, 0));
        let mut six = request(true, 1, 2);
        assert!(!is_reply(&six, true, 1, 2), "that is the request");
        six[0] = ECHO_REPLY_6;
        assert!(is_reply(&six, true, 1, 2));
    }

    #[tokio::test]
    async fn this_host_answers_itself() {
        for host in ["127.0.0.1", "::1"] {
            let Ok(pinger) = Pinger::open(host.parse().unwrap(), None, None) else {
                continue;
            };
            pinger.ask(77, 1).await.unwrap();
        }
    }
}
