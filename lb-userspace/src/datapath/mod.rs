//! What carries connections.
pub mod ipvs;
