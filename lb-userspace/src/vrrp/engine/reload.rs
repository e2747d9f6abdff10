//! What the daemon says: commands, and above all other settings.
//!
//! A reload never ends a machine that can go on: an instance whose interface, family and VRID are the same keeps its
//! state and its timers, and gets the rest as new settings. One that is gone leaves well, out of its group first so that
//! the group stays; should it come back meanwhile, it turns round.
use super::super::member::Member;
use super::super::resolve::{Vips, resolve};
use super::{Command, Engine, indices_where};
use lb_common::spec::{Instance, SyncGroup};
use lb_common::time::Instant;
use lb_common::vrrp::{GroupId, InstanceId};
use std::collections::BTreeSet;

impl Engine {
    /// Takes every command that has come.
    pub(super) fn commands(&mut self, now: Instant) {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Applied { generation } => {
                    self.publisher.applied(generation);
                    self.applied_changed = true;
                }
                Command::Reload {
                    instances,
                    sync_groups,
                } => self.reload(now, instances, &sync_groups),
                Command::Outside { instance, outside } => {
                    let found = self
                        .members
                        .iter_mut()
                        .find(|m| m.spec.name == instance && !m.removed);
                    if let Some(m) = found {
                        // A fault takes its sockets away, or gives them back.
                        self.host_changed |= m.set_outside(now, &mut self.router, outside);
                        self.publisher.touch();
                    }
                }
                Command::Shutdown => self.shut_down(now),
                Command::Abandon => self.abandoned = true,
            }
        }
    }

    fn shut_down(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.stopping, true) {
            tracing::info!(instances = self.members.len(), "leaving the election");
        }
        for m in &mut self.members {
            m.shut_down(now, &mut self.router);
        }
        self.publisher.touch();
    }

    /// While the thread is stopping nothing new is begun.
    fn reload(&mut self, now: Instant, instances: Vec<Instance>, sync_groups: &[SyncGroup]) {
        if self.stopping {
            return;
        }
        let coming: Vips = instances
            .iter()
            .flat_map(|i| i.virtual_ips.iter().map(|p| p.addr()))
            .collect();
        let vips: Vips = self.vips.union(&coming).copied().collect();
        let mut old: Vec<Option<Member>> = std::mem::take(&mut self.members).into_iter().map(Some).collect();
        let names: BTreeSet<String> = instances.iter().map(|i| i.name.clone()).collect();
        let (mut kept, mut started) = (0_usize, 0_usize);
        for spec in instances {
            // The one of that name first: two may share a VRID when their unicast peers are apart.
            let same = |named: bool| {
                let fits = |m: &Member| (!named || m.spec.name == spec.name) && self.is_same(m, &spec, &vips);
                old.iter().position(|m| m.as_ref().is_some_and(fits))
            };
            let same = same(true).or_else(|| same(false).filter(|i| !kept_by_name(&old, *i, &names)));
            if let Some(mut m) = same.and_then(|i| old.get_mut(i)).and_then(Option::take) {
                m.replace(now, &mut self.router, spec);
                if m.removed {
                    m.come_back(now, &mut self.router);
                }
                self.members.push(m);
                kept += 1;
            } else {
                let m = self.start(spec);
                self.members.push(m);
                started += 1;
            }
        }
        let named = self.members.len();
        self.members.extend(old.into_iter().flatten());
        self.regroup(now, sync_groups, named);
        for m in self.members.iter_mut().skip(named) {
            m.removed = true;
            m.shut_down(now, &mut self.router);
        }
        tracing::info!(
            kept,
            started,
            leaving = self.members.len() - named,
            "took other settings"
        );
        self.reindex();
    }

    /// Whether `spec` is what runs as `m`. An interface that is not there now is the same when it is named the same.
    fn is_same(&self, m: &Member, spec: &Instance, vips: &Vips) -> bool {
        if m.spec.vrid != spec.vrid || m.family() != spec.family() {
            return false;
        }
        let previous = m.resolution.interface.as_ref().map(|i| i.index);
        let new = resolve(self.monitor.table(), spec, vips, None).interface;
        match (previous, new) {
            (Some(a), Some(b)) => a == b.index,
            _ => m.spec.interface == spec.interface,
        }
    }

    pub(super) fn start(&mut self, spec: Instance) -> Member {
        let m = Member::new(spec, self.new_id(), self.linger);
        self.router.insert(m.id, m.params(), None);
        m
    }

    pub(super) fn new_id(&mut self) -> InstanceId {
        self.next_id += 1;
        InstanceId(self.next_id)
    }

    /// The first `named` members are those of the file, in its order, which the groups' indices mean.
    pub(super) fn regroup(&mut self, now: Instant, sync_groups: &[SyncGroup], named: usize) {
        let group_of = |i: usize| {
            let found = sync_groups.iter().find(|g| g.members.contains(&i))?;
            Some(found.name.as_str())
        };
        for (i, m) in self.members.iter().enumerate() {
            let name = group_of(i).filter(|_| i < named);
            let group = name.map(|name| {
                let next = u32::try_from(self.group_ids.len()).unwrap_or(u32::MAX);
                *self.group_ids.entry(name.to_owned()).or_insert(GroupId(next))
            });
            self.router.regroup(now, m.id, group);
            if group.is_some() {
                m.say_again(now, &mut self.router);
            }
        }
    }

    /// Forgets what was removed and has let go.
    pub(super) fn drop_those_over(&mut self, now: Instant) {
        let over = indices_where(&self.members, |m| m.removed && m.is_over(&self.router));
        if over.is_empty() {
            return;
        }
        let over: BTreeSet<usize> = over.into_iter().collect();
        let mut i = 0;
        let router = &mut self.router;
        self.members.retain(|m| {
            let gone = over.contains(&i);
            i += 1;
            if gone {
                tracing::info!(instance = %m.spec.name, vrid = %m.spec.vrid, "the removed instance has let go");
                router.remove(now, m.id);
            }
            !gone
        });
        self.reindex();
        self.look_at_host(now);
    }

    /// After the set of members changed.
    pub(super) fn reindex(&mut self) {
        self.index = self.members.iter().enumerate().map(|(i, m)| (m.id, i)).collect();
        // They are indices into the old set. A look at the host follows before a packet is read.
        self.routes.clear();
        self.host_changed = true;
        self.again = true;
        self.publisher.touch();
    }
}

/// Whether the file still has an instance of that member's name, which then is that member.
fn kept_by_name(members: &[Option<Member>], i: usize, names: &BTreeSet<String>) -> bool {
    let name = members.get(i).and_then(|m| m.as_ref()).map(|m| &m.spec.name);
    name.is_some_and(|n| names.contains(n))
}
