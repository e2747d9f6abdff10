//! `icmp`: an echo request is answered.
use super::Verdict;
use super::connect::{Way, failed};
use crate::sys::icmp::Pinger;

/// Asks once.
pub(super) async fn probe(way: &Way) -> Verdict {
    let pinger = match Pinger::open(way.to.ip(), way.source, way.mark) {
        Ok(pinger) => pinger,
        Err(e) if is_unreachable(&e) => return Verdict::Dead(e.to_string()),
        Err(e) => return Verdict::Unknown(format!("no socket to ask with: {e}")),
    };
    let [.., a, b, c, d] = (crate::clock::now().as_nanos() / 1000).to_be_bytes();
    match pinger
        .ask(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        .await
    {
        Ok(()) => Verdict::Good(None),
        Err(e) => failed(&e),
    }
}

fn is_unreachable(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), HostUnreachable | NetworkUnreachable)
}
