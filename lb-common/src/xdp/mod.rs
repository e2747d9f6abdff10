//! From what is to be forwarded to the bytes that the XDP program reads.
//!
//! ```text
//! plan::Forwarding (file, election, health) --+
//! Resolved (this host: MACs, VLANs, MTUs) ----+--image::compile()--> Image { side, rings }
//! Numbers (what the last image had) ----------+
//! ```
//! Maglev tables are the same on every node that has the same file; numbers and MAC addresses are each node's own.
pub mod image;
pub mod maglev;
pub mod numbers;
mod place;
pub mod resolved;
pub mod ring;
pub mod seed;
mod settled;

pub use image::{Image, TooMany, compile};
pub use numbers::{BackendKey, Numbers};
pub use resolved::{Face, Hop, Reach, Resolved};
