//! The userspace proxy over loopback, in network namespaces of the tests' own. Skipped without root.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#[path = "proxy/choosing.rs"]
mod choosing;
#[path = "proxy/ending.rs"]
mod ending;
#[path = "proxy/headers.rs"]
mod headers;
#[path = "proxy/moving.rs"]
mod moving;
#[path = "proxy/steering.rs"]
mod steering;
#[path = "proxy/support.rs"]
mod support;
