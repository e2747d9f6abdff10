//! Load for a TCP proxy: a server that answers with as many bytes as it is asked for, and clients that ask.
//!
//! A request is [`HEADER`] bytes, how long the answer is to be and how much follows the header, and that much. Both ends
//! are one thread each with epoll, so that on a small machine the proxy between them is most of what there is.
mod client;
mod server;

pub use client::{Client, Kind, Latencies, Tally};
pub use server::{Server, serve};

/// Two numbers in network order: the answer's length and the body's.
pub const HEADER: usize = 16;

/// A request's header.
pub fn header(answer: u64, body: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let (a, b) = bytes.split_at_mut(8);
    a.copy_from_slice(&answer.to_be_bytes());
    b.copy_from_slice(&body.to_be_bytes());
    bytes
}

/// What a header says.
fn parse(bytes: [u8; HEADER]) -> (u64, u64) {
    let whole = u128::from_be_bytes(bytes);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let halves = ((whole >> 64) as u64, whole as u64);
    halves
}
