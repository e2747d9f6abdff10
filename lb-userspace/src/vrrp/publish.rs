//! The view that goes out, and what of it has been applied.
//!
//! A new value is sent when something about the roles changed, and for counters alone at most every
//! [`COUNTERS_EVERY`]. The generation goes up with every change of what is to be held, and only then.
use super::RoleView;
use super::member::{Claim, Member};
use lb_common::model::IpPrefix;
use lb_common::time::{Duration, Instant};
use lb_common::vrrp::{InstanceId, Router};
use std::sync::Arc;
use tokio::sync::watch;

/// Building a view of 254 instances costs about as much as sending their adverts.
const COUNTERS_EVERY: Duration = Duration::from_millis(250);
const COUNTERS_EVERY_OF_MANY: Duration = Duration::from_secs(1);
/// More instances than this are treated as a crowd.
pub(super) const MANY: usize = 32;

/// What one holder holds.
type Held = (InstanceId, Option<u32>, Vec<IpPrefix>);

pub(super) struct Publisher {
    roles: watch::Sender<Arc<RoleView>>,
    generation: u64,
    applied: u64,
    held: Vec<Held>,
    dirty: bool,
    built: Instant,
}

impl Publisher {
    pub(super) fn new(roles: watch::Sender<Arc<RoleView>>) -> Self {
        Self {
            roles,
            generation: 0,
            applied: 0,
            held: Vec::new(),
            dirty: true,
            built: Instant::ZERO,
        }
    }

    /// Something other than a counter changed.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// The reconciler has done what the view with this generation asked for.
    pub(super) fn applied(&mut self, generation: u64) {
        self.applied = self.applied.max(generation);
    }

    /// Whether the newest view has been applied.
    pub(super) fn is_applied(&self) -> bool {
        !self.dirty && self.applied >= self.generation
    }

    /// Whether what waits for this has come to pass.
    pub(super) fn is_due(&self, claim: Option<Claim>) -> bool {
        match claim {
            Some(Claim::Published(generation)) => generation <= self.applied,
            Some(Claim::Unpublished) | None => false,
        }
    }

    /// Sends the view if it is news. True when something that waits for this view is due already, because the kernel
    /// holds it since an earlier one.
    pub(super) fn publish(&mut self, now: Instant, router: &Router, members: &mut [Member]) -> bool {
        let every = if members.len() > MANY {
            COUNTERS_EVERY_OF_MANY
        } else {
            COUNTERS_EVERY
        };
        if !self.dirty && now.saturating_since(self.built) < every {
            return false;
        }
        let due = self.dirty && self.number(members);
        self.dirty = false;
        self.built = now;
        let view = RoleView {
            generation: self.generation,
            instances: members.iter().map(|m| m.view(router)).collect(),
        };
        self.roles.send_if_modified(|current| {
            let news = **current != view;
            if news {
                *current = Arc::new(view);
            }
            news
        });
        due
    }

    fn number(&mut self, members: &mut [Member]) -> bool {
        let holders = members.iter().filter(|m| m.holds);
        let held: Vec<Held> = holders
            .map(|m| {
                let interface = m.resolution.interface.as_ref().map(|i| i.index);
                (m.id, interface, m.spec.virtual_ips.clone())
            })
            .collect();
        if held != self.held {
            self.generation += 1;
            self.held = held;
        }
        let mut due = false;
        for m in members {
            for claim in [&mut m.claim, &mut m.announce_at] {
                if *claim == Some(Claim::Unpublished) {
                    *claim = Some(Claim::Published(self.generation));
                    due |= self.generation <= self.applied;
                }
            }
        }
        due
    }
}
