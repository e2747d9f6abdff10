//! Wires the parts together, and ends them in order.
//!
//! ```text
//!   file --load--> spec (watch) ---------+----------------------------+
//!                                        v                            v
//!   election thread --roles (watch)--> reconciler thread ---Applied--> election
//!   health tasks ----report (watch)-->        |
//!                                             +--view (watch)--> status socket
//!   main task: signals, the file, the guardian, systemd's watchdog, a new binary that takes over
//! ```
//! Channels that carry state are `watch`es: the latest value wins, so no slow part makes a queue for a fast one.
pub mod files;
mod handover;
mod leave;
mod notify;
mod panic;
mod signals;

use crate::admin::{self, Reload, Status};
use crate::config::{self, Loaded, Overrides};
use crate::guardian::{Guardian, Message};
use crate::handover::{self as succession, Asked, Asking, Giver};
use crate::health;
use crate::notify::Notifier;
use crate::reconcile::{Inputs, Opened, Purpose, Reconciler};
use crate::rundir::RunDir;
use crate::track::{self, TrackReport};
use crate::vrrp::{self, Command, Driver};
use anyhow::Context;
use handover::Successor;
use lb_common::health::HealthView;
use lb_common::spec::Spec;
use signals::{Event, Signals};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle};

pub use leave::{leave_for, wait_for_leaving};

/// How long a start waits for the guardian of the run before it.
const PATIENCE: Duration = Duration::from_secs(65);
/// The reconciler turns each second. Older than this, the kernel lease has run out, and a holder without an address
/// should be none: its priority is lowered to the least, so that another preempts.
const SLUGGISH: Duration = Duration::from_secs(4);
/// Older than this, it hangs for good.
const HUNG: Duration = Duration::from_secs(30);
/// How long notify hooks may take for what is left to be told at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The same when somebody asked a second time.
const HURRIED_WORDS: Duration = Duration::from_millis(500);
/// A guardian that ends at once is not started again more often than this.
const RESPAWN: Duration = Duration::from_secs(2);

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file.
    pub config: PathBuf,
    /// What it does not say.
    pub overrides: Overrides,
    /// Lock, socket, journal.
    pub run_dir: PathBuf,
    /// Take over from the daemon that runs there, if one does.
    pub take_over: bool,
}

/// Runs until told to stop. `loaded` is what `options.config` held a moment ago.
pub fn run(options: Options, loaded: Loaded, file: files::Watcher) -> anyhow::Result<()> {
    panic::abort_on_panic();
    // Nearly the last to go when memory is short; the guardian is the very last.
    if let Err(error) = crate::sys::process::set_oom_score_adj(-900) {
        tracing::debug!(%error, "the kernel may kill this process for memory like any other");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    runtime.block_on(async {
        // From here on a signal asks for something, and no longer ends the process.
        let mut signals = Signals::listen().context("listening for signals")?;
        let asked = if options.take_over {
            succession::ask(&options.run_dir, &loaded.spec)?
        } else {
            None
        };
        let (run_dir, read_again, asked) = match asked {
            Some((run_dir, asked)) => (run_dir, false, Some(asked)),
            None => match enter(&options.run_dir, &mut signals).await? {
                Some((run_dir, read_again)) => (run_dir, read_again, None),
                None => return Ok(()),
            },
        };
        let mut daemon = Daemon::start(options, loaded, run_dir, file, signals, asked).await?;
        if read_again {
            daemon.start_reading("SIGHUP");
        }
        daemon.run().await
    })
}

/// Locks the run directory, which may take as long as the guardian of the run before needs. `None`: told to stop
/// meanwhile. True beside it: told to read the file again.
async fn enter(path: &Path, signals: &mut Signals) -> anyhow::Result<Option<(RunDir, bool)>> {
    let (tx, mut opened) = oneshot::channel();
    let path = path.to_owned();
    // Not a task: the runtime would wait for it at the end.
    std::thread::Builder::new()
        .name("rundir".into())
        .spawn(move || tx.send(RunDir::open(&path, PATIENCE)).map_err(drop))
        .context("starting a thread")?;
    let mut read_again = false;
    loop {
        tokio::select! {
            run_dir = &mut opened => return Ok(Some((run_dir.context("the run directory's thread ended")??, read_again))),
            event = signals.next() => match event {
                Event::Stop(signal) => {
                    tracing::info!(signal, "told to stop before anything was begun");
                    return Ok(None);
                }
                Event::Reload => read_again = true,
                Event::Replace => tracing::warn!("SIGUSR2: there is nothing to take over from this process yet"),
            },
        }
    }
}

struct Daemon {
    options: Options,
    run_dir: RunDir,
    spec: watch::Sender<Arc<Spec>>,
    driver: Driver,
    reconciler: Reconciler,
    guardian: Option<Guardian>,
    reload: Arc<Mutex<Option<Reload>>>,
    guardian_pid: Arc<Mutex<Option<u32>>>,
    signals: Signals,
    file: files::Watcher,
    /// Whether the priority is lowered because the reconciler does not turn.
    gave_way: watch::Sender<bool>,
    hooks: Notifier,
    /// The file being read, and why.
    reading: Option<(&'static str, JoinHandle<Result<Loaded, String>>)>,
    /// Somebody asked for another reading meanwhile.
    read_again: bool,
    health: watch::Receiver<Arc<HealthView>>,
    guardian_since: Instant,
    /// Where a new daemon asks for all of this; `None`: it cannot be opened.
    giver: Option<Giver>,
    successor: Successor,
}

type Read = Result<Result<Loaded, String>, JoinError>;

impl Daemon {
    async fn start(
        options: Options,
        loaded: Loaded,
        run_dir: RunDir,
        file: files::Watcher,
        signals: Signals,
        asked: Option<Asked>,
    ) -> anyhow::Result<Self> {
        // Started first: from the first address on there is somebody to take it down.
        let guardian = start_guardian(&run_dir);
        let (spec, spec_rx) = watch::channel(Arc::new(loaded.spec));
        let initial = spec.borrow().clone();
        let opened =
            Opened::new(run_dir.journal(), Purpose::Run, &initial).context("starting the reconciler")?;
        // Whatever fails until here leaves a daemon that runs as it is.
        let (before, frozen, done) = match asked.map(Asked::take).transpose()? {
            Some(taken) => {
                let (held, frozen, done) = taken.apart();
                (Some(held), Some(frozen), Some(done))
            }
            None => (None, None, None),
        };
        let election = match &before {
            Some(before) => vrrp::Config::resuming(&initial, &before.roles),
            None => vrrp::Config::of(&initial),
        };
        let driver = vrrp::spawn(election).context("starting the election")?;
        if before.is_some() {
            handover::until_complete(&driver).await;
        }
        let health = health::spawn(spec_rx.clone(), before.map(|b| b.health));
        let hooks = crate::notify::spawn(spec_rx.clone(), driver.roles());
        let reconciler = opened.run(Inputs {
            spec: spec_rx,
            roles: driver.roles(),
            health: health.view.clone(),
            commander: driver.commander(),
            election: driver.heartbeat(),
            proxy: frozen,
        });
        let (gave_way, gave_way_rx) = watch::channel(false);
        let tracked = track::spawn(track::Inputs {
            spec: spec.subscribe(),
            health: health.view.clone(),
            kernel: reconciler.view(),
            roles: driver.roles(),
            gave_way: gave_way_rx,
            commander: driver.commander(),
        });
        let mut daemon = Self {
            options,
            run_dir,
            spec,
            driver,
            reconciler,
            guardian_pid: Arc::new(Mutex::new(guardian.as_ref().map(Guardian::pid))),
            guardian,
            reload: Arc::new(Mutex::new(None)),
            signals,
            file,
            gave_way,
            hooks,
            reading: None,
            read_again: false,
            health: health.view,
            guardian_since: Instant::now(),
            giver: None,
            successor: Successor::default(),
        };
        if let Some(done) = done {
            daemon.settle_in(done).await;
        }
        // Their paths were the old daemon's until now.
        daemon.open_socket(health.report, tracked);
        daemon.listen_for_successors();
        if !initial.enabled {
            tracing::warn!(
                "controlPlaneLoadBalancing.enabled is not true: nothing to do until the file says so"
            );
        }
        Ok(daemon)
    }

    /// A daemon without its status socket still carries the VIP: said, and went on without.
    fn open_socket(
        &self,
        health: watch::Receiver<Arc<health::HealthReport>>,
        tracked: watch::Receiver<Arc<TrackReport>>,
    ) {
        let path = self.run_dir.socket();
        let (spec, roles, view) = (self.spec.subscribe(), self.driver.roles(), self.reconciler.view());
        let (reload, guardian) = (self.reload.clone(), self.guardian_pid.clone());
        let config = self.options.config.display().to_string();
        let started_ms = now_ms();
        let status = move || Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            guardian_pid: *lock(&guardian),
            name: spec.borrow().name.clone(),
            config: config.clone(),
            started_ms,
            reload: lock(&reload).clone(),
            roles: roles.borrow().as_ref().clone(),
            kernel: view.borrow().as_ref().clone(),
            health: health.borrow().as_ref().clone(),
            track: tracked.borrow().as_ref().clone(),
        };
        if let Err(error) = admin::serve(&path, status) {
            tracing::warn!(path = %path.display(), %error, "the status socket cannot be opened: `cplb status` will not work");
        }
    }

    async fn run(mut self) -> anyhow::Result<()> {
        notify::ready();
        let mut roles = self.driver.roles();
        let mut links = self.reconciler.xdp_links();
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        self.tell_guardian();
        loop {
            tokio::select! {
                event = self.signals.next() => match event {
                    Event::Stop(signal) => {
                        tracing::info!(signal, "leaving: priority 0, then answering until the successor is heard");
                        break;
                    }
                    Event::Reload => self.start_reading("SIGHUP"),
                    Event::Replace => self.successor.start(),
                },
                asking = next(&mut self.giver) => match self.hand_over(asking).await {
                    Some(daemon) => self = daemon,
                    None => return Ok(()),
                },
                changed = roles.changed() => {
                    if changed.is_err() {
                        election_ended();
                    }
                    self.tell_guardian();
                }
                Ok(()) = links.changed() => self.tell_guardian(),
                read = finished(&mut self.reading) => self.reload(read),
                _ = tick.tick() => self.tick(),
            }
        }
        self.leave().await
    }

    /// Twice a second: what no event tells.
    fn tick(&mut self) {
        if self.file.changed() {
            self.start_reading("the file changed");
        }
        if self.guardian.as_mut().is_none_or(|g| !g.is_alive()) && self.guardian_since.elapsed() > RESPAWN {
            self.replace_guardian("it has ended");
        }
        if self.driver.is_finished() {
            election_ended();
        }
        self.successor.look();
        self.weigh(self.reconciler.in_place().age() > SLUGGISH);
        let age = self.reconciler.heartbeat().age();
        if age > HUNG {
            tracing::error!(
                ?age,
                "the reconciler hangs: ending, so that the guardian leaves in our place"
            );
            panic::abort();
        }
        if self.driver.heartbeat().age() < Duration::from_secs(2) && age < SLUGGISH {
            notify::alive();
        }
    }

    /// Gives way while the kernel does not hold what the election asked for, and comes back when it does.
    fn weigh(&mut self, away: bool) {
        if self
            .gave_way
            .send_if_modified(|old| std::mem::replace(old, away) != away)
        {
            if away {
                tracing::warn!(
                    "addresses are not in place or not renewed: giving way with the least priority"
                );
            } else {
                tracing::info!("addresses are in place again: back to the configured priority");
            }
        }
    }

    /// Reads the file elsewhere: a name in it is looked up, and a name server may take its time. One reading at a time;
    /// what changes meanwhile is noticed after it.
    fn start_reading(&mut self, why: &'static str) {
        if self.reading.is_some() {
            self.read_again = true;
            return;
        }
        notify::reloading();
        self.file.note();
        let (path, overrides) = (self.options.config.clone(), self.options.overrides.clone());
        let task = tokio::task::spawn_blocking(move || {
            panic::survivable(|| config::load(&path, &overrides)).map_err(|e| e.to_string())
        });
        self.reading = Some((why, task));
    }

    /// What was read is in force, or it is said why not.
    fn reload(&mut self, (why, read): (&'static str, Read)) {
        let error = match read {
            Ok(Ok(loaded)) => {
                loaded.warn();
                let spec = Arc::new(loaded.spec);
                self.driver.commander().send(Command::Reload {
                    instances: spec.active_instances().to_vec(),
                    sync_groups: spec.active_sync_groups().to_vec(),
                });
                self.spec.send_replace(spec);
                tracing::info!(why, "the file was read again and is in force");
                None
            }
            Ok(Err(problems)) => {
                tracing::error!(
                    why,
                    problems,
                    "the file was REFUSED; the one before it stays in force"
                );
                Some(problems)
            }
            Err(gone) => {
                tracing::error!(why, error = %gone, "reading the file failed inside; the one before it stays in force");
                Some(format!("reading the file failed inside: {gone}"))
            }
        };
        *lock(&self.reload) = Some(Reload {
            at_ms: now_ms(),
            error,
        });
        self.tell_guardian();
        notify::ready();
        if std::mem::take(&mut self.read_again) {
            self.start_reading("asked again");
        }
    }

    fn tell_guardian(&mut self) {
        if let Some(Err(error)) = self.try_to_tell_guardian() {
            self.replace_guardian(&error.to_string());
        }
    }

    /// `None` where there is no guardian.
    fn try_to_tell_guardian(&mut self) -> Option<std::io::Result<()>> {
        let guardian = self.guardian.as_mut()?;
        let links = self.reconciler.xdp_links().borrow().clone();
        let message = Message::Holding {
            spec: Box::new(self.spec.borrow().as_ref().clone()),
            roles: self.driver.roles().borrow().as_ref().clone(),
            health: self.health.borrow().as_ref().clone(),
            xdp_links: links.len(),
        };
        Some(guardian.tell(&message, &links))
    }

    fn replace_guardian(&mut self, why: &str) {
        if let Some(old) = self.guardian.take() {
            tracing::warn!(why, "the guardian is gone: starting another");
            old.discard();
        }
        self.guardian = start_guardian(&self.run_dir);
        self.guardian_since = Instant::now();
        *lock(&self.guardian_pid) = self.guardian.as_ref().map(Guardian::pid);
        if let Some(Err(error)) = self.try_to_tell_guardian() {
            tracing::warn!(%error, "the new guardian does not listen; it is replaced again when there is news");
        }
    }

    async fn leave(mut self) -> anyhow::Result<()> {
        notify::stopping();
        // Whoever asks from now on waits for the lock.
        self.giver = None;
        let _ = std::fs::remove_file(self.run_dir.takeover_socket());
        let limit = leave_for(&self.spec.borrow());
        self.driver.commander().send(Command::Shutdown);
        let hurried = tokio::select! {
            left = wait_for_leaving(&self.driver, limit) => !left,
            () = self.signals.again() => true,
        };
        if hurried {
            tracing::warn!("not waiting any longer for a successor");
        }
        let problems = self.reconciler.tear_down(Duration::from_secs(5)).await;
        for problem in &problems {
            tracing::error!(problem, "left behind; `cplb cleanup` tries again");
        }
        // Before the guardian lets the lock go: then it may be the next daemon's.
        let _ = std::fs::remove_file(self.run_dir.socket());
        if let Some(guardian) = self.guardian {
            guardian.dismiss();
        }
        // Nothing is held any more: what is left is to say so.
        let limit = if hurried { HURRIED_WORDS } else { LAST_WORDS };
        self.hooks.finish(limit).await;
        anyhow::ensure!(problems.is_empty(), "left behind: {}", problems.join("; "));
        if self.driver.roles().borrow().others_hold() {
            tracing::info!(
                "left; another node directs, and this one stays its real server until `cplb cleanup`"
            );
        } else {
            tracing::info!("left; nothing of ours is in the kernel");
        }
        Ok(())
    }
}

/// A new daemon that is ready to take over; never, where none can ask.
async fn next(giver: &mut Option<Giver>) -> Asking {
    match giver {
        Some(giver) => giver.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for a reading that is under way; for ever when none is.
async fn finished(
    reading: &mut Option<(&'static str, JoinHandle<Result<Loaded, String>>)>,
) -> (&'static str, Read) {
    let Some((why, task)) = reading else {
        return std::future::pending().await;
    };
    let done = (*why, task.await);
    *reading = None;
    done
}

/// Not by returning: that would give the run directory's lock up before the guardian has left.
fn election_ended() -> ! {
    tracing::error!("the election's thread has ended: ending, so that the guardian leaves in our place");
    panic::abort()
}

fn start_guardian(run_dir: &RunDir) -> Option<Guardian> {
    match Guardian::spawn(run_dir) {
        Ok(guardian) => Some(guardian),
        Err(error) => {
            tracing::error!(%error, "no guardian: if this process is killed, its kernel lease drops the virtual IPs within 4 s");
            None
        }
    }
}

/// What a poisoned lock guards is a plain value: as good as before.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
