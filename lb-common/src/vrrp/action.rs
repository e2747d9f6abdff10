//! What a machine wants done.
use super::FaultReason;
use core::fmt;
use core::net::IpAddr;

/// Where a machine stands (RFC 9568 §6.4; `Leaving` is ours).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// Takes no part.
    Initialize,
    /// Watches the Active router. (RFC 3768: Backup.)
    Backup,
    /// Forwards. (RFC 3768: Master.)
    Active,
    /// Has said priority 0 and answers until its successor is heard.
    Leaving,
}

impl State {
    /// The RFC's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initialize => "Initialize",
            Self::Backup => "Backup",
            Self::Active => "Active",
            Self::Leaving => "Leaving",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Reason {
    /// The interface became usable.
    Startup,
    /// A process before this one was Active, on this node.
    Resumed,
    /// This router owns the addresses.
    Owner,
    /// Nothing was heard for Active_Down_Interval.
    ActiveDown,
    /// The Active router said that it leaves.
    ActiveLeft,
    /// This router's priority is higher, and it preempts.
    Preempted,
    /// A better router was heard.
    Better {
        /// Its address.
        by: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// The operator stopped this router.
    Shutdown,
    /// The successor was heard and the linger is over.
    Succeeded {
        /// The successor.
        by: IpAddr,
    },
    /// Nobody took over in time.
    NoSuccessor,
    /// This process slept too long to know who is Active.
    Overslept,
    /// The sync group decided.
    SyncGroup,
    /// It can take no part.
    Fault(FaultReason),
}

/// What a machine wants done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an advert now. 0: this router leaves.
    SendAdvert {
        /// On the wire.
        priority: u8,
    },
    /// Put the addresses (and what stands behind them) in place, then `Input::Claimed`.
    Claim,
    /// Send gratuitous ARP or unsolicited NA for every VIP.
    Announce,
    /// Take the addresses down.
    Release,
    /// A gated machine would become Active: ask its group.
    Willing,
    /// For the log, `status` and the metrics.
    Transition {
        /// Before.
        from: State,
        /// After.
        to: State,
        /// Why.
        reason: Reason,
    },
}
