//! The old daemon's end.
use super::wire::{self, Channel};
use super::{Answer, FORMAT, Hello, State};
use crate::datapath::proxy::Frozen;
use crate::vrrp::RoleView;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for a new daemon.
#[derive(Debug)]
pub struct Giver {
    listener: AsyncFd<OwnedFd>,
}

/// A new daemon that asks.
#[derive(Debug)]
pub struct Asking(Channel);

impl Giver {
    /// Needs a tokio runtime with I/O.
    pub fn open(path: &Path) -> io::Result<Self> {
        let listener = AsyncFd::with_interest(wire::open(path)?, Interest::READABLE)?;
        Ok(Self { listener })
    }

    /// The next one that asks and can be answered.
    pub async fn next(&self) -> Asking {
        loop {
            let Ok(mut ready) = self.listener.readable().await else {
                return std::future::pending().await;
            };
            ready.clear_ready();
            match Channel::accept(self.listener.get_ref()).and_then(greeted) {
                Ok(asking) => return asking,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => tracing::warn!(%error, "somebody asked to take over and was not understood"),
            }
        }
    }
}

/// The same format, or none of it.
fn greeted(channel: Channel) -> io::Result<Asking> {
    let (hello, _) = channel.receive::<Hello>()?;
    let asking = Asking(channel);
    if hello.format == FORMAT {
        return Ok(asking);
    }
    let why = format!(
        "it hands over in format {FORMAT} and is asked for {}",
        hello.format
    );
    asking.refuse(&why)?;
    Err(io::Error::other(why))
}

impl Asking {
    /// Its process.
    pub fn pid(&self) -> io::Result<i32> {
        self.0.peer()
    }

    /// Not this time.
    pub fn refuse(&self, why: &str) -> io::Result<()> {
        self.0.send(&Answer::Refused(why.to_owned()), &[])
    }

    /// Gives it everything and waits until it says that it has taken its place.
    pub fn give(&self, roles: RoleView, lock: BorrowedFd<'_>, frozen: Option<&Frozen>) -> io::Result<()> {
        let state = State {
            roles,
            proxy: frozen.map(|f| f.state.clone()),
        };
        let mut descriptors = vec![lock];
        descriptors.extend(frozen.iter().flat_map(|f| f.descriptors.iter().map(AsFd::as_fd)));
        self.0.send(&Answer::State(Box::new(state)), &descriptors)?;
        let (done, _) = self.0.receive::<bool>()?;
        if done {
            Ok(())
        } else {
            Err(io::Error::other("the new daemon did not take over"))
        }
    }
}
