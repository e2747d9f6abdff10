//! Whether this node can serve what it would hold: its datapath works, and of each virtual server of the instance some
//! real server can be reached from here. Never asked of the virtual IP itself: whoever holds that would answer.
use super::report::Item;
use crate::clock;
use crate::reconcile::ReconcileView;
use crate::vrrp::RoleView;
use lb_common::health::{Follow, HealthView};
use lb_common::spec::{Spec, Tracked, VirtualServer};
use lb_common::time::Instant;
use lb_common::vrrp::track::TrackServers;
use std::collections::BTreeMap;
use std::time::Duration;

/// Nobody is observed more often, and no less often than checks bring something new.
const SHORTEST: Duration = Duration::from_secs(1);

/// The instances that depend on their virtual servers.
#[derive(Debug, Default)]
pub(super) struct Servers {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    follow: Follow,
    /// Index in the specification.
    index: usize,
    every: Duration,
    next: Instant,
    observed: bool,
    why: Option<String>,
}

impl Servers {
    /// What stays keeps what is known of it.
    pub(super) fn reload(&mut self, spec: &Spec) {
        let mut old = std::mem::take(&mut self.entries);
        for (index, instance) in spec.active_instances().iter().enumerate() {
            let wanted = instance.track.iter().find_map(|t| match &t.what {
                Tracked::VirtualServers(servers) => Some(*servers),
                Tracked::Interface(_) | Tracked::Exec(_) => None,
            });
            let Some(TrackServers { rise, fall }) = wanted else {
                continue;
            };
            let mut entry = old.remove(&instance.name).unwrap_or_else(|| Entry {
                follow: Follow::new(rise, fall),
                index,
                every: SHORTEST,
                next: clock::now() + SHORTEST,
                observed: false,
                why: None,
            });
            entry.follow.set_thresholds(rise, fall);
            entry.index = index;
            entry.every = every(spec, index);
            self.entries.insert(instance.name.clone(), entry);
        }
    }

    /// Looks where it is time to.
    pub(super) fn observe(
        &mut self,
        spec: &Spec,
        health: &HealthView,
        kernel: &ReconcileView,
        roles: &RoleView,
    ) {
        let now = clock::now();
        for (name, entry) in &mut self.entries {
            if now < entry.next {
                continue;
            }
            // Not from the moment that was missed: a late look is one look.
            entry.next = now + entry.every;
            entry.observed = true;
            let why = obstacle(spec, entry.index, health, kernel);
            let holds = roles.instances.iter().any(|i| &i.name == name && i.holds);
            if entry.follow.handle(now, holds, why.is_none()) {
                match &why {
                    Some(why) => {
                        tracing::warn!(instance = %name, why, "this node cannot serve: others should hold the virtual IPs");
                    }
                    None => tracing::info!(instance = %name, "this node can serve again"),
                }
            }
            entry.why = why;
        }
    }

    pub(super) fn well(&self, instance: &str) -> Option<bool> {
        let entry = self.entries.get(instance)?;
        entry.observed.then_some(entry.follow.is_up())
    }

    pub(super) fn item(&self, instance: &str) -> Option<Item> {
        let entry = self.entries.get(instance)?;
        Some(Item {
            why: entry.why.clone(),
        })
    }
}

fn of_instance(spec: &Spec, index: usize) -> impl Iterator<Item = &VirtualServer> {
    spec.virtual_servers.iter().filter(move |vs| vs.instance == index)
}

/// As often as the slowest of its checks brings something new, so that what all nodes see they see within one of them.
fn every(spec: &Spec, index: usize) -> Duration {
    let intervals = of_instance(spec, index).map(|vs| vs.health_check.interval);
    intervals.max().unwrap_or_default().max(SHORTEST)
}

/// Why the instance's virtual servers cannot be served from here.
fn obstacle(spec: &Spec, index: usize, health: &HealthView, kernel: &ReconcileView) -> Option<String> {
    of_instance(spec, index).find_map(|vs| {
        if kernel.unable.contains(&vs.key) {
            return Some(format!(
                "{}: the datapath of this node does not carry it",
                vs.name
            ));
        }
        if health.can_serve(vs) {
            return None;
        }
        Some(match vs.quorum {
            Some(quorum) => format!(
                "{}: fewer healthy real servers than the quorum of {quorum}",
                vs.name
            ),
            None => format!(
                "{}: none of its real servers can be reached from this node",
                vs.name
            ),
        })
    })
}
