//! Asks the real servers whether they answer, and keeps the answer as a [`lb_common::health::HealthView`].
//!
//! Every node asks, holder or not: a node that takes over must know already. One task a real server; the outcomes meet
//! in one task that owns the gates, so the view is changed in one place.
mod checks;
mod runner;

pub use checks::Target;
pub use runner::{Health, HealthReport, TargetReport, spawn};
