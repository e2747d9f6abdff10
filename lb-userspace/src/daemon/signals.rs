//! Signals as events.
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Leave well. The signal's name.
    Stop(&'static str),
    /// Read the file again.
    Reload,
    /// Start what is now where this program was, to take over.
    Replace,
}

/// The signals that mean something to the daemon.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr2: Signal,
}

impl Signals {
    /// From now on they are events and no longer end the process.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.term.recv() => Event::Stop("SIGTERM"),
            _ = self.int.recv() => Event::Stop("SIGINT"),
            _ = self.hup.recv() => Event::Reload,
            _ = self.usr2.recv() => Event::Replace,
        }
    }

    /// Another request to stop: somebody is in a hurry.
    pub(super) async fn again(&mut self) {
        loop {
            if let Event::Stop(_) = self.next().await {
                return;
            }
        }
    }
}
