//! What the suites are built from: nodes in network namespaces, servers and clients in them, and what watches them.
//!
//! Nothing here leaves the namespaces that it made, and everything is taken down when it is dropped, also after a
//! panic. What a killed run left behind is swept at the next start.
#![warn(missing_docs)]

pub mod guest;
