//! Which real servers answer, who gets connections because of it, and whether this node should hold the address.
//!
//! ```text
//! probe's result --Outcome--> Gate (rise, fall) --Health--+--> HealthView --select()--> every datapath
//!                             pace: when next             |         |
//!                             Ramp: slow start  ----------+         +--can_serve--> Follow --> the instance's priority
//!                             Quorum -------------------------------+
//! ```
mod check;
mod follow;
mod gate;
pub mod pace;
mod quorum;
mod ramp;
mod run;
mod select;
mod view;

pub use check::{
    Fingerprint, HealthCheck, HealthCheckKind, HttpProbe, Identity, Probe, Start, StatusRange, TlsProbe,
    Trust, UdpProbe,
};
pub use follow::{Follow, MEMORY};
pub use gate::{Gate, Health, Outcome};
pub use quorum::Quorum;
pub use ramp::Ramp;
pub use run::Command;
pub use select::{Candidate, Choice, Selection, select};
pub use view::{HealthView, Seat};
