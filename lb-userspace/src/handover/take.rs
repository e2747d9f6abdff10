//! The new daemon's end.
use super::wire::Channel;
use super::{Answer, FORMAT, Hello, State, socket_in};
use crate::datapath::proxy::Frozen;
use crate::rundir::RunDir;
use crate::vrrp::RoleView;
use std::fs::File;
use std::io;
use std::path::Path;

/// What was taken over. The old daemon waits for [`Taken::done`].
#[derive(Debug)]
pub struct Taken {
    channel: Channel,
    /// What it held.
    pub roles: RoleView,
    /// What it proxied.
    pub proxy: Option<Frozen>,
}

/// Takes over from the daemon on `run_dir`, with its lock. `None`: there is none, or it refuses; that was said.
pub fn take(run_dir: &Path) -> Option<(RunDir, Taken)> {
    let channel = match Channel::connect(&socket_in(run_dir)) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::info!(%error, "there is no daemon to take over from: starting as always");
            return None;
        }
    };
    match ask(run_dir, channel) {
        Ok(taken) => Some(taken),
        Err(error) => {
            tracing::warn!(%error, "the running daemon is not taken over from: waiting until it has left");
            None
        }
    }
}

fn ask(run_dir: &Path, channel: Channel) -> io::Result<(RunDir, Taken)> {
    // Before anything comes: all of it has to fit.
    crate::datapath::proxy::take_descriptors();
    channel.send(&Hello { format: FORMAT }, &[])?;
    let (answer, descriptors) = channel.receive::<Answer>()?;
    let State { roles, proxy } = match answer {
        Answer::State(state) => *state,
        Answer::Refused(why) => return Err(io::Error::other(why)),
    };
    let mut descriptors = descriptors.into_iter();
    let lock = descriptors
        .next()
        .ok_or_else(|| io::Error::other("it gave no lock"))?;
    let run_dir = RunDir::inherited(run_dir, File::from(lock));
    let proxy = proxy.map(|state| Frozen {
        state,
        descriptors: descriptors.collect(),
    });
    Ok((
        run_dir,
        Taken {
            channel,
            roles,
            proxy,
        },
    ))
}

impl Taken {
    /// Everything is in force here: the old one may go.
    pub fn done(self) {
        if let Err(error) = self.channel.send(&true, &[]) {
            tracing::warn!(%error, "the daemon before this one could not be told that it may go");
        }
    }
}
