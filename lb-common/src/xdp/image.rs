//! The tables as bytes.
use super::{Numbers, Resolved};
use crate::abi::{Ring, Side};
use crate::plan::Forwarding;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// More than the tables hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the XDP datapath takes at most {most} {what}, but there are {count}")]
pub struct TooMany {
    /// In the plural: `virtual IPs`.
    pub what: &'static str,
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub most: usize,
}

/// What goes into the maps.
#[derive(Clone, Debug)]
pub struct Image {
    /// `SIDES[side]`.
    pub side: Box<Side>,
    /// `RINGS[side * POOLS + i]`. A table that is the same as in an earlier image is the same allocation
    /// ([`Arc::ptr_eq`]), so that it need not be written again.
    pub rings: Vec<Arc<Ring>>,
    /// Numbers that had another backend before: their `BACKEND_STATS` are to be set to 0.
    pub new_backends: Vec<u16>,
    /// The same of `SERVICE_STATS`.
    pub new_services: Vec<u16>,
}

/// Makes the tables.
///
/// # Errors
/// When they do not hold so much; `numbers` is then as it was.
pub fn compile(
    _forwarding: &Forwarding,
    _resolved: &Resolved,
    _numbers: &mut Numbers,
) -> Result<Image, TooMany> {
    Err(TooMany {
        what: "virtual servers",
        count: 1,
        most: 0,
    })
}
