//! `tcp`: a connection is accepted.
use super::Verdict;
use super::connect::{Way, connect};

/// Connects, and resets at once: a server under check each second from every node should not collect TIME_WAIT.
pub(super) async fn probe(way: &Way) -> Verdict {
    let stream = match connect(way).await {
        Ok(stream) => stream,
        Err(verdict) => return verdict,
    };
    // Refused only where the other side was quicker.
    let _ = stream.set_zero_linger();
    Verdict::Good(None)
}
