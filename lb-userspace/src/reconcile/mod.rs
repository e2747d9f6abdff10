//! The one writer: makes the kernel hold what the specification, the election and the health checks ask for.
//!
//! A thread of its own with a small runtime of its own, so that neither a slow probe nor the status page stands between
//! a takeover and its address. Every turn is whole: read back, plan, apply, say so. It turns
//! - when the election, the health or the file changes, at once;
//! - when netlink tells that an address or a link changed, at once;
//! - each second, which renews the kernel lease and finds what nothing told us of (`ipvsadm -C`).
//!
//! A turn writes nothing while the election's heartbeat is old: a holder that hung must look at the wire before it
//! renews, and until the election has turned once more nobody here knows whether this node still holds anything.
mod apply;
mod clear;
mod facilities;
mod guard;
mod journal;
mod kernel;
mod observe;
mod proxy;
mod request;
mod show;
mod view;

#[cfg(test)]
pub(crate) use clear::nothing;
pub use kernel::{Extent, Kernel, Purpose};
pub use request::Ended;
pub use view::{GuardView, ReconcileView};

use crate::datapath::proxy::Frozen;
use crate::datapath::xdp;
use crate::vrrp::{Command, Commander, Heartbeat, RoleView};
use anyhow::Context as _;
use lb_common::health::HealthView;
use lb_common::plan::{Context, Desired, LEASE, Role, desired, diff};
use lb_common::spec::Spec;
use request::Request;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How often the kernel lease is renewed, and everything read back.
const RENEWAL: Duration = Duration::from_secs(1);
/// The election turns at least four times a second; older than this, it hangs.
const STALE: Duration = Duration::from_millis(1500);

/// What the writer is told.
pub struct Inputs {
    /// The file in force.
    pub spec: watch::Receiver<Arc<Spec>>,
    /// Who holds what.
    pub roles: watch::Receiver<Arc<RoleView>>,
    /// Which real servers answer.
    pub health: watch::Receiver<Arc<HealthView>>,
    /// For saying that the kernel holds what was asked for.
    pub commander: Commander,
    /// Of the election's thread.
    pub election: Arc<Heartbeat>,
    /// What the proxy of a process before this one had.
    pub proxy: Option<Frozen>,
}

/// What keeps the XDP program on its interfaces: it is there until every copy is closed.
pub type XdpLinks = Arc<Vec<Arc<OwnedFd>>>;

/// A running writer.
pub struct Reconciler {
    view: watch::Receiver<Arc<ReconcileView>>,
    heartbeat: Arc<Heartbeat>,
    in_place: Arc<Heartbeat>,
    xdp_links: watch::Receiver<XdpLinks>,
    requests: mpsc::Sender<Request>,
    thread: std::thread::JoinHandle<()>,
}

/// A writer that has reached the kernel and found what there is to balance with. Loading the XDP program may take a
/// second, in which an election that went on already would take an address over that nobody puts.
pub struct Opened {
    begin: oneshot::Sender<(Loop, mpsc::Receiver<Request>)>,
    thread: std::thread::JoinHandle<()>,
}

impl Opened {
    /// Starts the thread in the network namespace of the calling one, and waits until it has what `spec` asks for.
    pub fn new(journal: PathBuf, purpose: Purpose, spec: &Arc<Spec>) -> anyhow::Result<Self> {
        let spec = spec.clone();
        let (begin, told) = oneshot::channel::<(Loop, _)>();
        let (opened_tx, opened) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("reconcile".into())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(opened_tx.send(Err(error.into()))),
                };
                runtime.block_on(async {
                    let mut kernel = match Kernel::open(&journal, purpose).await {
                        Ok(kernel) => kernel,
                        Err(error) => return drop(opened_tx.send(Err(error))),
                    };
                    kernel.prepare(&spec).await;
                    let _ = opened_tx.send(Ok(()));
                    if let Ok((turns, requests)) = told.await {
                        // A process before this one may have written to it meanwhile.
                        kernel.read_journal(&journal);
                        turns.run(kernel, requests).await;
                    }
                });
            })?;
        opened
            .recv()
            .context("its thread ended")?
            .context("the kernel cannot be reached over netlink")?;
        Ok(Self { begin, thread })
    }

    /// Begins to turn.
    pub fn run(self, inputs: Inputs) -> Reconciler {
        let (view_tx, view) = watch::channel(Arc::new(ReconcileView::default()));
        let (links_tx, xdp_links) = watch::channel(XdpLinks::default());
        let heartbeat = Arc::new(Heartbeat::default());
        heartbeat.beat(crate::clock::now());
        let (requests_tx, requests) = mpsc::channel(1);
        let in_place = Arc::new(Heartbeat::default());
        in_place.beat(crate::clock::now());
        let turns = Loop {
            inputs,
            view: view_tx,
            xdp_links: links_tx,
            beat: heartbeat.clone(),
            in_place: in_place.clone(),
        };
        // A thread that has ended meanwhile is missed by its heartbeat.
        let _ = self.begin.send((turns, requests));
        Reconciler {
            view,
            heartbeat,
            in_place,
            xdp_links,
            requests: requests_tx,
            thread: self.thread,
        }
    }
}

impl Reconciler {
    /// What it found and did last.
    pub fn view(&self) -> watch::Receiver<Arc<ReconcileView>> {
        self.view.clone()
    }

    /// What keeps the XDP program on its interfaces, for somebody else to hold as well.
    pub fn xdp_links(&self) -> watch::Receiver<XdpLinks> {
        self.xdp_links.clone()
    }

    /// When it last finished a turn.
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        self.heartbeat.clone()
    }

    /// When every address that the election asked for was last there.
    pub fn in_place(&self) -> Arc<Heartbeat> {
        self.in_place.clone()
    }
}

struct Loop {
    inputs: Inputs,
    view: watch::Sender<Arc<ReconcileView>>,
    xdp_links: watch::Sender<XdpLinks>,
    beat: Arc<Heartbeat>,
    in_place: Arc<Heartbeat>,
}

impl Loop {
    async fn run(mut self, mut kernel: Kernel, mut requests: mpsc::Receiver<Request>) {
        let mut tick = tokio::time::interval(RENEWAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut retry = Retry::default();
        if let Some(frozen) = self.inputs.proxy.take() {
            kernel.thaw_proxy(frozen);
        }
        loop {
            let renew = tokio::select! {
                biased;
                request = requests.recv() => {
                    if self.answer(request, &mut kernel).await.is_break() {
                        return;
                    }
                    false
                }
                changed = self.inputs.roles.changed() => if changed.is_ok() { false } else { self.orphaned(&mut requests, &mut kernel).await; return },
                _ = tick.tick() => true,
                _ = self.inputs.spec.changed() => false,
                _ = self.inputs.health.changed() => false,
                () = kernel.changed() => false,
                () = retry.wait() => false,
            };
            let clean = self.turn(&mut kernel, renew).await;
            retry.note(clean);
        }
    }

    /// The election's thread has ended: keep quiet until told to end. Nothing is renewed; the kernel lease ends.
    async fn orphaned(&mut self, requests: &mut mpsc::Receiver<Request>, kernel: &mut Kernel) {
        loop {
            let request = requests.recv().await;
            if self.answer(request, kernel).await.is_break() {
                return;
            }
        }
    }

    /// One whole turn; false when something is to be tried again soon.
    async fn turn(&mut self, kernel: &mut Kernel, renew: bool) -> bool {
        if self.inputs.election.age() > STALE {
            tracing::debug!("the election has not turned for a while: nothing is written until it has");
            return false;
        }
        let spec = self.inputs.spec.borrow_and_update().clone();
        let roles = self.inputs.roles.borrow_and_update().clone();
        let health = self.inputs.health.borrow_and_update().clone();
        let planned = roles_of(&roles);
        // A file that was read a moment ago: the election does not know its instances yet, and a plan with half of them
        // would put back what the other half needs.
        let known = |name: &str| roles.instances.iter().any(|r| r.name == name);
        if !spec.active_instances().iter().all(|i| known(&i.name)) {
            return false;
        }
        let result = kernel.bring_to(&spec, &planned, &health, renew).await;
        if result.addresses_in_place {
            self.in_place.beat(crate::clock::now());
            self.inputs.commander.send(Command::Applied {
                generation: roles.generation,
            });
        }
        let clean = result.problems.is_empty();
        self.view.send_if_modified(|old| {
            let new = kernel.view(&spec, result);
            if **old == new {
                return false;
            }
            *old = Arc::new(new);
            true
        });
        let links = kernel.xdp_links();
        self.xdp_links.send_if_modified(|old| {
            let same = old.len() == links.len() && old.iter().zip(&links).all(|(a, b)| Arc::ptr_eq(a, b));
            if !same {
                *old = Arc::new(links);
            }
            !same
        });
        kernel.settle_xdp().await;
        self.beat.beat(crate::clock::now());
        clean
    }

    /// Takes down, and tries again what did not go at once. Where another node directs now, this one goes on as a real
    /// server: the API server here has open connections that come through the other, and the daemon that starts next
    /// finds all of it.
    async fn take_down(&self, kernel: &mut Kernel) -> Vec<String> {
        let others = self.inputs.roles.borrow().others_hold();
        let extent = if others {
            Extent::ButRealServer
        } else {
            Extent::Everything
        };
        let mut problems = Vec::new();
        for _ in 0..3 {
            problems = kernel.clear(extent).await;
            if problems.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        problems
    }
}

/// The election's view as the planner takes it.
pub fn roles_of(view: &RoleView) -> Vec<Role> {
    view.instances
        .iter()
        .map(|i| Role {
            name: i.name.clone(),
            interface: i.interface.as_ref().map(|r| (r.index, r.name.clone())),
            virtual_ips: i.virtual_ips.clone(),
            holds: i.holds,
        })
        .collect()
}

/// What is wanted, for `cplb plan`.
pub fn wanted(spec: &Spec, roles: &[Role], kernel: &Kernel) -> Desired {
    let health = HealthView::default();
    desired(
        spec,
        &Context {
            roles,
            health: &health,
            peers: kernel.peers(),
            ipvs: kernel.has_ipvs(),
            xdp: kernel.has_xdp(),
        },
    )
}

/// What would be done, for `cplb plan`.
pub async fn planned(
    spec: &Spec,
    roles: &[Role],
    kernel: &mut Kernel,
) -> anyhow::Result<Vec<lb_common::plan::Op>> {
    kernel.learn_peers(spec, roles, false).await;
    kernel.look_for_xdp(spec).await;
    let mut want = wanted(spec, roles, kernel);
    let have = kernel.observe(&want, spec, &mut Vec::new()).await?;
    kernel.leave_own(&mut want);
    // A daemon remembers directors that the neighbour table has forgotten.
    if let (Some(wanted), Some(there)) = (want.guard.as_mut(), have.guard.as_ref()) {
        wanted.peers.extend(&there.peers);
    }
    Ok(diff(&want, &have, false))
}

/// What else is to be known beforehand, for `cplb plan`: which datapath, where the XDP program would be, what is missing.
pub async fn foreseen(spec: &Spec, roles: &[Role], kernel: &mut Kernel) -> anyhow::Result<Vec<String>> {
    let mut turn = kernel::Turn::default();
    let mut said = Vec::new();
    if let Some(forwarding) = wanted(spec, roles, kernel).forwarding {
        said = xdp::foresee(&forwarding, &mut kernel.rtnl).await?;
    }
    kernel.note_missing(spec, &mut turn);
    said.extend(turn.problems);
    said.extend(kernel.remarks(spec));
    Ok(said)
}

/// After a turn that failed: again in 100 ms, then twice as long each time, up to the renewal's own beat.
#[derive(Default)]
struct Retry {
    failures: u32,
}

impl Retry {
    fn note(&mut self, clean: bool) {
        self.failures = if clean { 0 } else { self.failures.saturating_add(1) };
    }

    async fn wait(&self) {
        match self.failures {
            0 => std::future::pending().await,
            n => tokio::time::sleep(Duration::from_millis(50) * 2u32.pow(n.min(6))).await,
        }
    }
}

const _: () = assert!(
    LEASE.as_secs() > RENEWAL.as_secs() + 1,
    "a lease outlives one missed renewal"
);
