//! What is measured: the rows of the table, each with the frames, what must come of them, and the reach.
use crate::frames::{ACK, Frame, NODE4, NODE6, SYN, VIP4, VIP6};
use lb_common::abi::Reason;

/// Ports of the virtual IP, each for one kind of backend.
pub(crate) mod port {
    /// TCP and UDP, sent back out of the interface that it came in by.
    pub(crate) const DIRECT: u16 = 6443;
    /// TCP, through a tunnel of IPv4 in IPv4.
    pub(crate) const TUNNEL: u16 = 6444;
    /// TCP, clients keep their backend.
    pub(crate) const AFFINITY: u16 = 6445;
    /// TCP, sent out of another interface.
    pub(crate) const REDIRECT: u16 = 6446;
}

/// Values of `enum xdp_action`.
pub(crate) mod verdict {
    pub(crate) const PASS: u32 = 2;
    pub(crate) const TX: u32 = 3;
    pub(crate) const REDIRECT: u32 = 4;
}

/// As many flows as source ports.
pub(crate) const MANY: u32 = 0xffff;
/// Flows that never come again.
pub(crate) const NEW: u32 = u32::MAX;

/// How the packets of a row must have been counted, each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Forwarded, the backend known from the flow table.
    Remembered,
    /// Forwarded, the backend from the ring.
    Ring,
    /// Forwarded, either way.
    Forwarded,
    /// Not forwarded, for this reason.
    Not(Reason),
}

/// What a row ought to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// At most this share of Katran's nanoseconds, and what that came to where the reaches were set.
    Katran {
        /// Of Katran's.
        share: f64,
        /// Nanoseconds there.
        there: f64,
    },
    /// At most so many nanoseconds on a machine like the one where the reaches were set.
    Nanoseconds(f64),
}

/// One row.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) frame: Frame,
    /// As in `Drive`.
    pub(crate) flows: u32,
    /// Whether each flow is seen twice before the clock runs.
    pub(crate) known: bool,
    /// Whether ours has noted as many new flows as it may.
    pub(crate) capped: bool,
    /// What ours must answer.
    pub(crate) verdict: u32,
    pub(crate) counted: Counted,
    /// What Katran must answer, where it can do this.
    pub(crate) katran: Option<u32>,
    pub(crate) reach: Option<Reach>,
}

impl Case {
    /// Packets of the warm-up: of each flow so many that it is established, though others took its place before.
    pub(crate) fn warm_up(&self) -> u32 {
        if self.known { 4 * (self.flows + 1) } else { 0 }
    }

    fn hit(name: &'static str, frame: Frame, flows: u32) -> Self {
        Self {
            name,
            frame,
            flows,
            known: true,
            capped: false,
            verdict: verdict::TX,
            counted: Counted::Remembered,
            katran: Some(verdict::PASS),
            reach: None,
        }
    }

    fn new_flow(name: &'static str, frame: Frame) -> Self {
        Self {
            known: false,
            counted: Counted::Ring,
            reach: Some(Reach::Nanoseconds(55.0)),
            ..Self::hit(name, frame, NEW)
        }
    }

    fn not_ours(name: &'static str, frame: Frame) -> Self {
        Self {
            known: false,
            verdict: verdict::PASS,
            counted: Counted::Not(Reason::NotVip),
            reach: katran(0.43, 32.0),
            ..Self::hit(name, frame, 0)
        }
    }

    fn reach(mut self, reach: Option<Reach>) -> Self {
        self.reach = reach;
        self
    }
}

fn katran(share: f64, there: f64) -> Option<Reach> {
    Some(Reach::Katran { share, there })
}

/// All of them, in the table's order.
pub(crate) fn all() -> Vec<Case> {
    let v4 = |port| Frame::tcp(VIP4, port, ACK);
    let v6 = |port| Frame::tcp(VIP6, port, ACK);
    vec![
        Case::hit("flow hit, 1 flow", v4(port::DIRECT), 0).reach(katran(0.37, 45.0)),
        Case::hit("flow hit, 65,536 flows", v4(port::DIRECT), MANY).reach(katran(0.37, 52.0)),
        Case::new_flow("each packet a new flow: SYN", Frame::tcp(VIP4, port::DIRECT, SYN)),
        Case::new_flow("each packet a new flow: ACK", v4(port::DIRECT)),
        Case {
            capped: true,
            katran: None,
            ..Case::new_flow("each packet a new flow: ACK, over the cap", v4(port::DIRECT))
        },
        Case::not_ours("not ours (pass), IPv4", Frame::tcp(NODE4, 22, ACK)),
        Case::not_ours("not ours (pass), IPv6", Frame::tcp(NODE6, 22, ACK)),
        Case::hit("IPv6 flow hit, 1 flow", v6(port::DIRECT), 0).reach(Some(Reach::Nanoseconds(60.0))),
        Case::hit("IPv6 flow hit, 65,536 flows", v6(port::DIRECT), MANY),
        Case::new_flow("IPv6, each packet a new flow: ACK", v6(port::DIRECT)).reach(None),
        Case {
            katran: Some(verdict::TX),
            ..Case::hit("tunnel, flow hit", v4(port::TUNNEL), 0).reach(katran(0.5, 75.0))
        },
        Case {
            counted: Counted::Forwarded,
            known: false,
            ..Case::hit(
                "ICMP needing fragmentation",
                Frame::needs_fragmentation(port::DIRECT),
                0,
            )
            .reach(katran(0.6, 75.0))
        },
        Case::hit("UDP flow hit, 1 flow", Frame::udp(VIP4, port::DIRECT), 0),
        Case::hit("affinity, flow hit, 1 flow", v4(port::AFFINITY), 0),
        Case {
            counted: Counted::Forwarded,
            ..Case::new_flow("affinity, each packet a new flow: ACK", v4(port::AFFINITY)).reach(None)
        },
        Case {
            verdict: verdict::REDIRECT,
            katran: None,
            ..Case::hit("flow hit, out of another interface", v4(port::REDIRECT), 0)
        },
    ]
}
