//! The election's driver: sockets, timers and announcements on a thread of its own.
//!
//! It owns the raw sockets and feeds [`lb_common::vrrp::Router`]; it never touches an address, a virtual server or a
//! file. It says what it wants held through a [`RoleView`] (latest value wins, so a slow reader builds no queue), and is
//! told by [`Command::Applied`] when that is so. Each turn: (1) a late wake-up is told to the machines, (2) every socket
//! is drained, (3) timers, (4) actions, (5) the view is published, (6) the heartbeat is set, (7) sleep.
//!
//! ```text
//!                     +---------------- one thread, no async ----------------+
//! Commander --eventfd->  engine: the turn                                     |
//! netlink ------------>   |- resolve: interface, source, fault   (pure)       |--> watch<RoleView>
//! VRRP sockets <------>   |- pool: sockets shared by instances                |--> Heartbeat
//! packet sockets <---->   |- member: one machine and what surrounds it        |
//!                     |   |    |- announce: bursts    |- conflict: who else   |
//!                     |   |- publish: what changed, generations               |
//!                     +-------------------------------------------------------+
//! ```
//! The thread ends after [`Command::Shutdown`], or when it panics: the [`RoleView`]'s channel closes then, and
//! [`Driver::join`] says which it was.
mod announce;
mod conflict;
mod engine;
mod limiter;
mod member;
mod pool;
mod publish;
mod resolve;
mod say;
mod setup;
mod view;

pub use setup::{Found, resolve_interfaces};
pub use view::{Counters, HeardFrom, InstanceView, InterfaceRef, Rejected, RoleView, TransitionRecord};

use crate::sys::linkmon::MonitorError;
use lb_common::spec::{Instance, SyncGroup};
use lb_common::time;
use lb_common::vrrp::track::Outside;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::watch;

/// What the daemon may tell the driver.
#[derive(Debug)]
pub enum Command {
    /// The kernel holds what the view with this generation asked for.
    Applied {
        /// [`RoleView::generation`].
        generation: u64,
    },
    /// Other instances or other settings. Instances are the same when interface, family and VRID are; what is new
    /// starts, what is gone leaves well.
    Reload {
        /// As in [`lb_common::spec::Spec::instances`].
        instances: Vec<Instance>,
        /// As in [`lb_common::spec::Spec::sync_groups`].
        sync_groups: Vec<SyncGroup>,
    },
    /// What everything that is looked at outside the driver says of an instance. It stays through a reload that keeps
    /// the instance; one that starts begins with nothing.
    Outside {
        /// [`Instance::name`].
        instance: String,
        /// A fault, and what is added to the priority.
        outside: Outside,
    },
    /// Leave well. The thread ends when every instance has let go.
    Shutdown,
    /// End at once and say nothing to anybody: another process of this node goes on.
    Abandon,
}

/// What the driver starts with.
#[derive(Clone, Debug)]
pub struct Config {
    /// As in [`lb_common::spec::Spec::instances`].
    pub instances: Vec<Instance>,
    /// As in [`lb_common::spec::Spec::sync_groups`].
    pub sync_groups: Vec<SyncGroup>,
    /// These instances were held by a process that is dead: say priority 0 at once and leave in its place. The thread
    /// ends by itself when that is done.
    pub leaving: bool,
    /// Instances, by name, in which a process before this one was Active until now: this one goes on as that.
    pub resumed: BTreeSet<String>,
    /// How long a router that lost keeps answering.
    pub linger: Duration,
    /// `SCHED_FIFO` priority and locked memory, where permitted; `None`: an ordinary thread.
    pub realtime: Option<u8>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instances: Vec::new(),
            sync_groups: Vec::new(),
            leaving: false,
            resumed: BTreeSet::new(),
            linger: Duration::from_millis(500),
            realtime: Some(10),
        }
    }
}

/// The driver could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// No eventfd.
    #[error("cannot make an eventfd for the election's thread")]
    Wake(#[source] nix::Error),
    /// No netlink.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// No thread.
    #[error("cannot start the election's thread")]
    Spawn(#[source] std::io::Error),
    /// Waiting for the sockets failed.
    #[error("the election's thread cannot wait for its sockets")]
    Poll(#[source] nix::Error),
    /// A fault in the program.
    #[error("the election's thread panicked: {0}")]
    Panicked(String),
}

/// When the thread last finished a turn. The reconciler renews the kernel's lease on the addresses only while this is
/// fresh, so that a thread that hangs loses them.
#[derive(Debug, Default)]
pub struct Heartbeat(AtomicU64);

impl Heartbeat {
    /// On [`crate::clock::now`]'s clock; the epoch before the first turn.
    pub fn last(&self) -> time::Instant {
        time::Instant::from_nanos(self.0.load(Ordering::Acquire))
    }

    /// Whether a turn ended within the last `limit`. The thread wakes at least every 250 ms.
    pub fn is_fresh(&self, now: time::Instant, limit: Duration) -> bool {
        now.saturating_since(self.last()) <= limit
    }

    /// How long ago the last turn ended.
    pub fn age(&self) -> Duration {
        crate::clock::now().saturating_since(self.last())
    }

    /// A turn has ended.
    pub fn beat(&self, now: time::Instant) {
        self.0.store(now.as_nanos(), Ordering::Release);
    }
}

/// Sends commands to the thread and wakes it.
#[derive(Clone, Debug)]
pub struct Commander {
    commands: mpsc::Sender<Command>,
    wake: Arc<EventFd>,
}

impl Commander {
    /// After the thread has ended this does nothing; that it has ended is seen by the view's channel being closed.
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // It fails only when the counter is full, and then the thread is awake anyway.
            let _ = self.wake.write(1);
        }
    }
}

/// The running driver.
#[derive(Debug)]
pub struct Driver {
    roles: watch::Receiver<Arc<RoleView>>,
    commander: Commander,
    heartbeat: Arc<Heartbeat>,
    thread: JoinHandle<Result<(), DriverError>>,
}

impl Driver {
    /// Who is what. Closed when the thread has ended.
    pub fn roles(&self) -> watch::Receiver<Arc<RoleView>> {
        self.roles.clone()
    }

    /// To give commands.
    pub fn commander(&self) -> Commander {
        self.commander.clone()
    }

    /// The thread's sign of life.
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        Arc::clone(&self.heartbeat)
    }

    /// Whether the thread has ended, well or not.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// It panicked, or could not go on.
    pub fn join(self) -> Result<(), DriverError> {
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => Err(DriverError::Panicked(panic_text(panic.as_ref()))),
        }
    }
}

/// Starts the thread. It works in the network namespace of the calling thread.
///
/// # Errors
/// There is no eventfd, netlink socket or thread to be had.
pub fn spawn(config: Config) -> Result<Driver, DriverError> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let wake = Arc::new(EventFd::from_value_and_flags(0, flags).map_err(DriverError::Wake)?);
    let (commands, inbox) = mpsc::channel();
    let (roles_in, roles) = watch::channel(Arc::new(RoleView::default()));
    let heartbeat = Arc::new(Heartbeat::default());
    let engine = engine::Engine::new(
        config,
        engine::Wiring {
            inbox,
            wake: Arc::clone(&wake),
            roles: roles_in,
            heartbeat: Arc::clone(&heartbeat),
        },
    )?;
    let thread = thread::Builder::new()
        .name("vrrp".to_owned())
        .spawn(move || engine.run())
        .map_err(DriverError::Spawn)?;
    Ok(Driver {
        roles,
        commander: Commander { commands, wake },
        heartbeat,
        thread,
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_closes_the_view_and_is_what_join_says() {
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap();
        let (commands, _) = mpsc::channel();
        let (sender, roles) = watch::channel(Arc::new(RoleView::default()));
        let driver = Driver {
            roles,
            commander: Commander {
                commands,
                wake: Arc::new(wake),
            },
            heartbeat: Arc::default(),
            thread: thread::spawn(move || {
                let _roles = sender;
                panic!("of {}", 1)
            }),
        };
        let roles = driver.roles();
        driver.commander().send(Command::Shutdown);
        let error = driver.join().unwrap_err();
        assert_eq!(error.to_string(), "the election's thread panicked: of 1");
        assert!(roles.has_changed().is_err(), "closed");
    }
}
