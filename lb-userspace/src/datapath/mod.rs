//! What carries connections.
pub mod ipvs;
pub mod proxy;
pub mod xdp;
