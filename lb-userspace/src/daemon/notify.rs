//! What systemd is told (sd_notify(3)). Without systemd nothing happens.
use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

/// The daemon is in force.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The file is being read again.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The daemon leaves.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The election and the reconciler have both turned lately.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Another process is the service's from now on.
pub(super) fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}
