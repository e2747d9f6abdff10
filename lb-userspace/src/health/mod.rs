//! Asks the real servers whether they answer, and keeps the answer as a [`lb_common::health::HealthView`].
//!
//! ```text
//! spec --targets--> one task a target: checks/* --Verdict--> Gate --+
//!                                                                   v
//!                           HealthView <--- board: slow start, quorum, sentences ---> HealthReport (status)
//! ```
//! Every node asks, holder or not: a node that takes over must know already. What the tasks find meets in one task, so
//! the view is changed in one place.
mod board;
mod checks;
mod report;
mod runner;
mod targets;

pub use report::{HealthReport, ServiceReport, TargetReport};
pub use runner::{Health, spawn};
