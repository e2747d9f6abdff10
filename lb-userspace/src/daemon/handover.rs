//! A new binary in this one's place, and this one in the place of the one before it.
use super::{Daemon, LAST_WORDS, notify, panic};
use crate::handover::{Asking, Done, Giver, Held, Known};
use crate::vrrp::{Command as Tell, Driver};
use lb_common::health::HealthView;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Each step of it takes milliseconds.
const LIMIT: Duration = Duration::from_secs(5);
/// Whoever has not looked at its interfaces after so long holds up the renewal of the addresses.
const LOOKING: Duration = Duration::from_secs(1);

/// Waits until the election knows where it runs. What it shows before would make the writer take addresses away.
pub(super) async fn until_complete(driver: &Driver) {
    let mut roles = driver.roles();
    let complete = roles.wait_for(|r| r.is_complete());
    if tokio::time::timeout(LOOKING, complete).await.is_err() {
        tracing::warn!("an interface is not found at once: its address may be away for a moment");
    }
}

/// What this daemon is now.
fn held_by(driver: &Driver, health: &watch::Receiver<Arc<HealthView>>) -> Held {
    Held {
        roles: driver.roles().borrow().as_ref().clone(),
        health: health.borrow().as_ref().clone(),
    }
}

impl Daemon {
    /// A new daemon may ask from now on.
    pub(super) fn listen_for_successors(&mut self) {
        let known = Known {
            roles: self.driver.roles(),
            xdp_links: self.reconciler.xdp_links(),
        };
        match Giver::open(&self.run_dir, known) {
            Ok(giver) => self.giver = Some(giver),
            Err(error) => {
                tracing::warn!(%error, "no other cplb will be able to take over from this one: it has to be stopped first");
            }
        }
    }

    /// Says to the daemon before this one that it may end, once all of it is in force here.
    pub(super) async fn settle_in(&mut self, done: Done) {
        self.run_dir.sign();
        let mut view = self.reconciler.view();
        if tokio::time::timeout(LIMIT, view.changed()).await.is_err() {
            tracing::error!("the first turn has not ended yet, and what was taken over may not be in force");
        }
        self.tell_guardian();
        done.say();
        tracing::info!("took over from the daemon before this one");
    }

    /// Hands everything to a new daemon. `None`: it has it, and this one is over. Else this one goes on as it was.
    pub(super) async fn hand_over(mut self, asking: Asking) -> Option<Self> {
        let began = Instant::now();
        let Some(frozen) = self.reconciler.freeze_proxy(LIMIT).await else {
            asking.refuse("its reconciler does not answer");
            return Some(self);
        };
        let sessions = frozen.state.sessions.len();
        // Not elsewhere: what else this task does can wait so long, and must not happen meanwhile.
        if let Err(error) = asking.offer(held_by(&self.driver, &self.health), &frozen) {
            tracing::warn!(%error, "the new cplb did not take over: this one goes on");
            self.reconciler.thaw_proxy(frozen).await;
            return Some(self);
        }
        let process = asking.process();
        let Some(ended) = self.reconciler.end(LIMIT).await else {
            tracing::error!("the reconciler does not end: ending, so that the guardian leaves in our place");
            panic::abort();
        };
        if let Some(process) = process {
            notify::main_process(process);
        }
        let held = held_by(&self.driver, &self.health);
        if let Err(error) = asking.commit(held) {
            tracing::error!(%error, "the new cplb failed while it took over: ending, so that the guardian leaves in our place");
            panic::abort();
        }
        let took = began.elapsed();
        // A copy of a socket keeps it open.
        drop(frozen);
        self.driver.commander().send(Tell::Abandon);
        ended.let_go();
        if let Err(error) = self.driver.join() {
            tracing::debug!(%error, "the election did not end well");
        }
        if let Some(guardian) = self.guardian.take() {
            guardian.dismiss();
        }
        // A copy of the lock would keep it locked.
        drop((self.run_dir, self.giver));
        self.hooks.finish(LAST_WORDS).await;
        tracing::info!(process, sessions, ?took, "handed over to the new cplb");
        if std::process::id() == 1 {
            // The end of a container's first process is the container's, and it would be started again.
            tracing::info!("waiting to be stopped");
            self.signals.again().await;
        }
        None
    }
}

/// A new binary that was started by this process (SIGUSR2): it asks like any other.
#[derive(Debug)]
pub(super) struct Successor {
    /// Where this program was when it started: a new one is there by now.
    program: Option<PathBuf>,
    child: Option<Child>,
}

impl Default for Successor {
    fn default() -> Self {
        Self {
            program: std::env::current_exe().ok().map(where_it_was),
            child: None,
        }
    }
}

impl Successor {
    /// Starts what is now where this program was, with the same words.
    pub(super) fn start(&mut self) {
        if let Some(child) = &self.child {
            tracing::warn!(process = child.id(), "SIGUSR2: a new cplb is taking over already");
            return;
        }
        let Some(program) = &self.program else {
            tracing::error!(
                "SIGUSR2: it is not known which program this is: start the new one with --take-over"
            );
            return;
        };
        match Command::new(program)
            .arg0("cplb")
            .args(words(std::env::args_os()))
            .spawn()
        {
            Ok(child) => {
                tracing::info!(process = child.id(), program = %program.display(), "SIGUSR2: started a new cplb to take over");
                self.child = Some(child);
            }
            Err(error) => {
                tracing::error!(program = %program.display(), %error, "SIGUSR2: a new cplb cannot be started; this one goes on");
            }
        }
    }

    /// Says it when it ended instead.
    pub(super) fn look(&mut self) {
        if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
            tracing::error!(%status, "the new cplb ended and did not take over (see what it said): this one goes on");
            self.child = None;
        }
    }
}

/// The kernel's word for a program that was replaced since.
fn where_it_was(path: PathBuf) -> PathBuf {
    let replaced = path.to_str().and_then(|p| p.strip_suffix(" (deleted)"));
    replaced.map_or_else(|| path.clone(), PathBuf::from)
}

/// This process's own, without its name.
fn words(all: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let flag = OsString::from("--take-over");
    let mut words: Vec<OsString> = all.skip(1).collect();
    if !words.contains(&flag) {
        words.push(flag);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_where_it_was() {
        let was = |path: &str| where_it_was(path.into());
        assert_eq!(was("/bin/cplb (deleted)"), PathBuf::from("/bin/cplb"));
        assert_eq!(was("/bin/cplb"), PathBuf::from("/bin/cplb"));
    }

    #[test]
    fn a_successor_gets_the_same_words_and_the_flag_once() {
        let words = |all: &[&str]| words(all.iter().map(OsString::from));
        assert_eq!(
            words(&["cplb", "run", "-c", "f"]),
            ["run", "-c", "f", "--take-over"]
        );
        assert_eq!(words(&["cplb", "run", "--take-over"]), ["run", "--take-over"]);
    }
}
