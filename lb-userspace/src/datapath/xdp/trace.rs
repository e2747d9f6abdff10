//! The program's own log, as lines of ours.
//!
//! The program logs each decision only when it was loaded with `TRACE`, which it is while `cplb::xdp=trace` is in the
//! log filter; otherwise the verifier removed the code.
use super::object::Object;
use aya_log::EbpfLogger;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The name that a log filter knows it by.
pub const TARGET: &str = "cplb::xdp";
/// How often what was logged is fetched. It is for reading along, and the ring holds thousands of lines.
const OFTEN: Duration = Duration::from_millis(100);

/// Whether the filter asks for it.
pub fn is_wanted() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::TRACE)
}

/// Fetches lines for as long as it lives.
#[derive(Debug)]
pub(super) struct Trace(JoinHandle<()>);

impl Trace {
    /// Of those programs that nobody reads yet. Needs a tokio runtime. A program that logs nothing gives none.
    pub(super) fn start(object: &mut Object) -> Option<Self> {
        let mut loggers: Vec<_> = object
            .logging()
            .filter_map(|ebpf| {
                match EbpfLogger::init_with_logger(ebpf, Lines) {
                    Ok(logger) => Some(logger),
                    // It logs nothing, or is read already.
                    Err(aya_log::Error::MapNotFound) => None,
                    Err(error) => {
                        tracing::warn!(%error, "the XDP program's log cannot be read");
                        None
                    }
                }
            })
            .collect();
        if loggers.is_empty() {
            return None;
        }
        Some(Self(tokio::spawn(async move {
            let mut tick = tokio::time::interval(OFTEN);
            loop {
                tick.tick().await;
                loggers.iter_mut().for_each(EbpfLogger::flush);
            }
        })))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::trace!(target: TARGET, "{}", record.args());
    }

    fn flush(&self) {}
}
