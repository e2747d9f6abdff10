//! The new daemon's end.
use super::wire::Channel;
use super::{Answer, FORMAT, Held, Hello, Named, Said, network, socket_in};
use crate::datapath::proxy::{Frozen, take_descriptors};
use crate::rundir::RunDir;
use lb_common::spec::Spec;
use rustix::fd::OwnedFd;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The other end answers at once, or it hangs. Longer than it waits itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// The daemon before this one goes on, and nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It said no.
    #[error("the daemon on {path} does not hand over, and goes on: {why}")]
    Refused {
        /// The run directory.
        path: PathBuf,
        /// In its words.
        why: String,
    },
    /// It could not be talked with.
    #[error("taking over from the daemon on {path}")]
    Broken {
        /// The run directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// A daemon that waits until this one is ready.
#[derive(Debug)]
pub struct Asked {
    channel: Channel,
    run_dir: PathBuf,
}

/// What was taken over. The old daemon waits for [`Done::say`].
#[derive(Debug)]
pub struct Taken {
    channel: Channel,
    /// What it was.
    pub held: Held,
    /// What it proxied.
    pub proxy: Frozen,
}

/// Asks the daemon on `run_dir`, for `spec` to be in force in its place. The directory's lock is shared with it from now
/// on. `None`: there is no daemon that listens.
pub fn ask(run_dir: &Path, spec: &Spec) -> Result<Option<(RunDir, Asked)>, TakeError> {
    let channel = match Channel::connect(&socket_in(run_dir)) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::info!(%error, "there is no daemon to take over from: starting as always");
            return Ok(None);
        }
    };
    // Before anything comes: all of it has to fit.
    take_descriptors();
    let asked = Asked {
        channel,
        run_dir: run_dir.to_owned(),
    };
    let mut lock = asked.prepare(spec)?.into_iter();
    let lock = lock
        .next()
        .ok_or_else(|| asked.broken(io::Error::other("it gave no lock")))?;
    Ok(Some((RunDir::inherited(run_dir, File::from(lock)), asked)))
}

impl Asked {
    fn broken(&self, error: io::Error) -> TakeError {
        TakeError::Broken {
            path: self.run_dir.clone(),
            error,
        }
    }

    fn prepare(&self, spec: &Spec) -> Result<Vec<OwnedFd>, TakeError> {
        let instances = spec.active_instances().iter().map(|i| Named {
            name: i.name.clone(),
            vrid: i.vrid.get(),
            family: i.family(),
        });
        let hello = || -> io::Result<()> {
            self.channel.patience(PATIENCE)?;
            let hello = Hello {
                format: FORMAT,
                version: env!("CARGO_PKG_VERSION").into(),
                network: network()?,
                instances: instances.collect(),
            };
            self.channel.send(&hello, &[])
        };
        hello().map_err(|e| self.broken(e))?;
        match self.hear()? {
            (Answer::Prepare, lock) => Ok(lock),
            (other, _) => Err(self.unexpected(&other)),
        }
    }

    /// The next answer, unless it is a refusal.
    fn hear(&self) -> Result<(Answer, Vec<OwnedFd>), TakeError> {
        match self.channel.receive() {
            Ok((Answer::Refused(why), _)) => Err(TakeError::Refused {
                path: self.run_dir.clone(),
                why,
            }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn say(&self, said: Said) -> Result<(), TakeError> {
        self.channel.send(&said, &[]).map_err(|e| self.broken(e))
    }

    fn unexpected(&self, answer: &Answer) -> TakeError {
        let said = match answer {
            Answer::Refused(_) => "no",
            Answer::Prepare => "`prepare`",
            Answer::Sessions(..) => "`sessions`",
            Answer::Go(_) => "`go`",
        };
        self.broken(io::Error::other(format!("it said {said} too early or too late")))
    }

    /// All that could fail was tried. When this returns well, this process acts and the other one does not.
    pub fn take(self) -> Result<Taken, TakeError> {
        self.say(Said::Ready)?;
        let proxy = match self.hear()? {
            (Answer::Sessions(_, state), descriptors) => {
                let mut descriptors = descriptors.into_iter();
                let held = descriptors.next().map_or(Ok(Vec::new()), whole);
                Frozen {
                    state: *state,
                    held: held.map_err(|e| self.broken(e))?,
                    descriptors: descriptors.collect(),
                }
            }
            (other, _) => return Err(self.unexpected(&other)),
        };
        self.say(Said::Have)?;
        match self.hear()? {
            (Answer::Go(held), _) => Ok(Taken {
                channel: self.channel,
                held: *held,
                proxy,
            }),
            (other, _) => Err(self.unexpected(&other)),
        }
    }
}

/// What is in a file, whoever wrote it before.
fn whole(file: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(file);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Taken {
    /// What there is to go on with, and how to say that it does.
    pub fn apart(self) -> (Held, Frozen, Done) {
        (self.held, self.proxy, Done(self.channel))
    }
}

/// To be said when everything is in force.
#[derive(Debug)]
pub struct Done(Channel);

impl Done {
    /// The other process may end.
    pub fn say(self) {
        if let Err(error) = self.0.send(&Said::Done, &[]) {
            tracing::warn!(%error, "the daemon before this one could not be told that it may end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;
    use crate::reconcile::nothing;
    use std::io::Write;

    /// What `ask` comes to with a daemon that answers so.
    fn asked(answers: Vec<Answer>) -> Result<Taken, String> {
        let dir = tempfile::tempdir().unwrap();
        let listener = wire::open(&socket_in(dir.path())).unwrap();
        let mut beside = tempfile::tempfile().unwrap();
        beside.write_all(b"held").unwrap();
        let old = std::thread::spawn(move || {
            let channel = Channel::accept(&listener).unwrap();
            let (hello, _) = channel.receive::<Hello>().unwrap();
            assert_eq!(hello.format, FORMAT);
            for answer in answers {
                use rustix::fd::AsFd;
                channel.send(&answer, &[beside.as_fd()]).unwrap();
                if matches!(answer, Answer::Refused(_)) || channel.receive::<Said>().is_err() {
                    return;
                }
            }
        });
        let taken = ask(dir.path(), &nothing())
            .map_err(|e| e.to_string())
            .and_then(|asked| asked.unwrap().1.take().map_err(|e| e.to_string()));
        if let Ok(taken) = taken {
            let (held, proxy, done) = taken.apart();
            done.say();
            old.join().unwrap();
            let channel = Channel::connect(&dir.path().join("none"));
            assert!(channel.is_err());
            assert!(held.roles.instances.is_empty());
            assert_eq!(
                (proxy.descriptors.len(), proxy.held.as_slice()),
                (0, b"held".as_slice())
            );
            return Err("taken".into());
        }
        old.join().unwrap();
        taken
    }

    #[test]
    fn it_is_taken_over_in_order_or_not_at_all() {
        let held = || {
            Box::new(Held {
                roles: Default::default(),
                health: Default::default(),
            })
        };
        let go = || Answer::Go(held());
        let sessions = || Answer::Sessions(held(), Box::default());
        let said = |answers| asked(answers).unwrap_err();
        let whole = vec![Answer::Prepare, sessions(), go()];
        assert_eq!(said(whole), "taken");
        let refused = said(vec![Answer::Refused("not now".into())]);
        assert!(refused.ends_with("not now"), "{refused}");
        let late = said(vec![Answer::Prepare, Answer::Refused("leaving".into())]);
        assert!(late.ends_with("leaving"), "{late}");
        for answers in [
            vec![],
            vec![Answer::Prepare],
            vec![Answer::Prepare, go()],
            vec![Answer::Prepare, sessions()],
        ] {
            assert!(said(answers).starts_with("taking over"));
        }
    }

    #[test]
    fn where_nobody_listens_nothing_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ask(dir.path(), &nothing()).unwrap().is_none());
    }
}
