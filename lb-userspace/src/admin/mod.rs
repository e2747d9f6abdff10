//! What a running daemon shows of itself, over a Unix socket in the run directory: HTTP/1.1, `GET /v1/status`.
mod client;
mod render;
mod server;
mod status;

pub use client::{ClientError, fetch_status};
pub use render::{reason_text, render};
pub use server::serve;
pub use status::{DestinationView, Reload, ServiceView, Status};
