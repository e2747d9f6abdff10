//! Which real servers answer.
mod gate;
mod view;

pub use gate::{Gate, Outcome};
pub use view::{HealthView, Question};
