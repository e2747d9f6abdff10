//! The daemon's end: starts the guardian, tells it what is held, starts another when it is gone.
use super::Message;
use crate::rundir::RunDir;
use crate::sys::fdpass;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// A running guardian.
#[derive(Debug)]
pub struct Guardian {
    child: Child,
    stream: UnixStream,
}

impl Guardian {
    /// Starts it: the same binary, in a process group of its own so that a Ctrl-C meant for the daemon does not end both.
    /// It gets the socket as its standard input and the run directory's lock as its standard output: whoever holds that
    /// keeps the lock.
    pub fn spawn(run_dir: &RunDir) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // A guardian that does not read must not hold the daemon up.
        ours.set_nonblocking(true)?;
        let child = Command::new("/proc/self/exe")
            .arg0("cplb")
            .args(["guardian", "--run-dir"])
            .arg(run_dir.path())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(run_dir.lock_file().try_clone()?))
            .process_group(0)
            .spawn()?;
        Ok(Self { child, stream: ours })
    }

    /// The guardian's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Tells it something, with copies of these links. A message that does not fit means a guardian that has stopped
    /// reading: the caller starts another.
    pub fn tell(&mut self, message: &Message, links: &[Arc<OwnedFd>]) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut rest = line.as_slice();
        let links: Vec<BorrowedFd<'_>> = links.iter().map(|l| l.as_fd()).collect();
        let mut unsent = links.as_slice();
        let deadline = crate::clock::now() + std::time::Duration::from_millis(100);
        while !rest.is_empty() {
            // Each portion of links rides on one byte, the last one on what is left.
            let (portion, later) = unsent.split_at(unsent.len().min(fdpass::AT_ONCE));
            let bytes = if later.is_empty() {
                rest
            } else {
                rest.get(..1).unwrap_or_default()
            };
            match fdpass::send(self.stream.as_fd(), bytes, portion) {
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or_default();
                    unsent = later;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && crate::clock::now() < deadline => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Says that there is nothing to take over, and waits for its end.
    pub fn dismiss(mut self) {
        let told = self.tell(&Message::Done, &[]);
        if told.is_err() {
            let _ = self.child.kill();
        }
        drop(self.stream);
        let _ = self.child.wait();
    }

    /// Ends a guardian that does not listen, without its taking over.
    pub fn discard(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
