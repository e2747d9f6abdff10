//! VRRP's election as a pure machine (RFC 9568 §6.4; RFC 3768 where version 2 differs).
//!
//! ```text
//!                  Startup, no fault                    Active_Down_Timer
//!   Initialize ---------------------> Backup ---------------------------------> Active
//!       ^  ^                            |  ^                                      |  |
//!       |  +---- Fault, Shutdown -------+  +------ better advert, overslept ------+  |
//!       |                                                                            |
//!       +--- Fault --------------------------------------------------------------<---+
//!       |                                                                            |
//!       +--- successor heard and lingered, or nobody came --- Leaving <-- Shutdown --+
//! ```
//! `Leaving` is ours: RFC 9568 goes to Initialize and drops the addresses at once, which leaves a hole of Skew_Time.
//! Here the router says priority 0, goes on answering, and lets go when it has heard its successor.
//!
//! The caller's order, each time it wakes:
//! 1. every packet that has arrived: [`Router::handle`] with [`Input::Advert`] (before a timer is believed: a process
//!    that was starved must not take the VIP because it did not read);
//! 2. [`Router::handle_timeout`];
//! 3. [`Router::poll_action`] until `None`, doing what it says;
//! 4. sleep until a packet or [`Router::poll_timeout`].
mod action;
mod election;
mod group;
mod input;
mod machine;
pub mod notify;
mod params;
mod receive;
mod refusal;
mod router;
mod timers;
pub mod track;

pub use action::{Action, Reason, State};
pub use input::{Advert, FaultReason, Input};
pub use machine::{Heard, Machine};
pub use params::Params;
pub use receive::{PacketMeta, ReceiveConfig, receive};
pub use refusal::{Notes, Refusal, Reject};
pub use router::{GroupId, InstanceId, Router};
pub use timers::{active_down_interval, longest_down_interval, skew_time};
