//! What else decides an instance's priority, and is looked at outside the election: programs, and whether this node can
//! serve what it would hold. The election waits for none of it; it is told what it adds up to.
//!
//! ```text
//! programs: one task each --- Gate ---+
//! HealthView, datapath --- Follow ----+--> Outside (a fault, a weight) per instance --> Command::Outside --> election
//! the reconciler hangs ---------------+
//! ```
mod exec;
mod report;
mod servers;

pub use report::{TrackReport, TrackView};

use crate::reconcile::ReconcileView;
use crate::vrrp::{Command, Commander, RoleView};
use exec::{Found, Program, Programs};
use lb_common::health::HealthView;
use lb_common::spec::{Instance, Spec, Tracked};
use lb_common::vrrp::track::Outside;
use report::Item;
use servers::Servers;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

/// What tracking may take away at most: any priority but an owner's becomes 1.
const LEAST: i32 = -253;
/// How often it is looked whether an observation is due.
const TICK: Duration = Duration::from_millis(250);

/// What tracking is told.
pub struct Inputs {
    /// The file in force. The election has been told of it before this changes.
    pub spec: watch::Receiver<Arc<Spec>>,
    /// Which real servers answer.
    pub health: watch::Receiver<Arc<HealthView>>,
    /// Which virtual servers the datapath cannot carry.
    pub kernel: watch::Receiver<Arc<ReconcileView>>,
    /// Who holds what.
    pub roles: watch::Receiver<Arc<RoleView>>,
    /// Whether the kernel does not hold what the election asked for.
    pub gave_way: watch::Receiver<bool>,
    /// The election.
    pub commander: Commander,
}

/// Starts it, for as long as `inputs.spec` lives. What it finds is for `status`.
pub fn spawn(inputs: Inputs) -> watch::Receiver<Arc<TrackReport>> {
    let (report_in, report) = watch::channel(Arc::default());
    tokio::spawn(run(inputs, report_in));
    report
}

async fn run(mut inputs: Inputs, out: watch::Sender<Arc<TrackReport>>) {
    let (found_tx, mut found) = mpsc::channel::<Found>(64);
    let mut desk = Desk {
        programs: Programs::new(found_tx),
        servers: Servers::default(),
        told: BTreeMap::new(),
        spec: inputs.spec.borrow_and_update().clone(),
    };
    desk.reload();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = inputs.spec.changed() => {
                if changed.is_err() {
                    return;
                }
                desk.spec = inputs.spec.borrow_and_update().clone();
                desk.reload();
            }
            Some(one) = found.recv() => desk.programs.take(one),
            Ok(()) = inputs.gave_way.changed() => {}
            _ = tick.tick() => {
                let (health, kernel) = (inputs.health.borrow().clone(), inputs.kernel.borrow().clone());
                let roles = inputs.roles.borrow().clone();
                desk.servers.observe(&desk.spec, &health, &kernel, &roles);
            }
        }
        let gave_way = *inputs.gave_way.borrow_and_update();
        desk.tell(gave_way, &inputs.commander);
        let report = Arc::new(desk.report());
        out.send_if_modified(|old| {
            let news = **old != *report;
            if news {
                *old = report;
            }
            news
        });
    }
}

/// The task where everything meets.
struct Desk {
    programs: Programs,
    servers: Servers,
    /// What the election was told of each instance.
    told: BTreeMap<String, Outside>,
    spec: Arc<Spec>,
}

impl Desk {
    fn reload(&mut self) {
        self.programs.reload(&self.spec);
        self.servers.reload(&self.spec);
        // An instance that starts begins with nothing, and the election alone knows which those are.
        self.told.clear();
    }

    /// Whether an item of an instance is well; `None`: not known yet.
    fn well(&self, instance: &Instance, index: usize) -> Option<bool> {
        match &instance.track.get(index)?.what {
            Tracked::Interface(_) => None,
            Tracked::Exec(exec) => self.programs.well(&Program::of(instance, exec)),
            Tracked::VirtualServers(_) => self.servers.well(&instance.name),
        }
    }

    fn tell(&mut self, gave_way: bool, election: &Commander) {
        for instance in self.spec.active_instances() {
            let mut outside = Outside::of(&instance.track, |i| self.well(instance, i));
            if gave_way {
                outside.weight = outside.weight.saturating_add(LEAST);
            }
            if self.told.get(&instance.name) != Some(&outside) {
                election.send(Command::Outside {
                    instance: instance.name.clone(),
                    outside,
                });
                self.told.insert(instance.name.clone(), outside);
            }
        }
    }

    fn report(&self) -> TrackReport {
        let mut report = TrackReport::default();
        for instance in self.spec.active_instances() {
            let items = instance.track.iter().enumerate().filter_map(|(i, t)| {
                let item = match &t.what {
                    Tracked::Interface(_) => return None,
                    Tracked::Exec(exec) => self.programs.item(&Program::of(instance, exec)),
                    Tracked::VirtualServers(_) => self.servers.item(&instance.name),
                };
                Some(report::view(
                    t,
                    item.unwrap_or_else(Item::default),
                    self.well(instance, i),
                ))
            });
            let items: Vec<TrackView> = items.collect();
            if !items.is_empty() {
                report.instances.insert(instance.name.clone(), items);
            }
        }
        report
    }
}
