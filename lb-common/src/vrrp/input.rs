//! What can happen to a machine. Every input is legal in every state.
use super::Params;
use alloc::boxed::Box;
use core::net::IpAddr;

/// An advert that has passed every check of reception (`super::receive`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// The sender's primary address.
    pub source: IpAddr,
    /// 0: the sender leaves.
    pub priority: u8,
    /// Max Advertise Interval in centiseconds, never 0.
    pub interval_cs: u16,
}

/// Why an instance can take no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum FaultReason {
    /// Its interface does not exist.
    NoInterface,
    /// Its interface is down or has no carrier.
    InterfaceDown,
    /// Its interface has no address that adverts could leave from.
    NoAddress,
    /// Something that it tracks is down.
    Tracked,
    /// A member of its sync group is at fault.
    SyncGroup,
    /// Its socket could not be opened or used.
    Socket,
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The interface is usable: take part.
    Startup,
    /// The same, where another process of this node was Active until now and hands over: go on as that.
    Resume,
    /// Leave well: make before break.
    Shutdown,
    /// Take no part until `Startup` comes again.
    Fault(FaultReason),
    /// A valid advert for this VRID on this interface.
    Advert(Advert),
    /// What tracking adds to the priority.
    Weight(i32),
    /// New configuration; state and timers are kept as far as they can be.
    Reconfigure(Box<Params>),
    /// The process slept past the point where others must have taken over: look at the wire before claiming anything.
    Overslept,
    /// The sync group says: become Active now.
    Promote,
    /// The sync group says: give way.
    Demote,
    /// The addresses that `Action::Claim` asked for are in place.
    Claimed,
}
