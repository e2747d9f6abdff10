//! All virtual routers of a node, and what ties them together.
//!
//! A machine without a group is handed its inputs and its actions are queued under its name, nothing more. What sync
//! groups add is in `group`. Nothing here allocates once the queue has grown: 254 instances at 100 ms are 2540 adverts
//! a second.
use super::group::Member;
use super::{Action, Input, Machine, Params};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Names an instance within its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);

/// Names a sync group within its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// The virtual routers of one node.
#[derive(Clone, Debug, Default)]
pub struct Router {
    pub(super) members: BTreeMap<InstanceId, Member>,
    /// Who is in which group, in order; the first leads (see `group`).
    pub(super) groups: BTreeMap<GroupId, Vec<InstanceId>>,
    pub(super) queue: VecDeque<(InstanceId, Action)>,
}

impl Router {
    /// Without any instance.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an instance in Initialize. A group that it joins goes on as it was (T16): the new member follows it as
    /// soon as it would be Active by itself. False, and nothing done, where `id` is taken.
    pub fn insert(&mut self, id: InstanceId, mut params: Params, group: Option<GroupId>) -> bool {
        params.gated = group.is_some();
        self.insert_machine(id, Machine::new(params), group)
    }

    /// Adds a machine that exists: one made by [`Machine::leaving`]. False, and nothing done, where `id` is taken.
    pub fn insert_machine(&mut self, id: InstanceId, machine: Machine, group: Option<GroupId>) -> bool {
        if self.members.contains_key(&id) {
            return false;
        }
        self.members.insert(id, Member::new(machine, group));
        if let Some(group) = group {
            self.join(id, group);
        }
        self.collect(id);
        true
    }

    /// Takes an instance out. One that is in the election says priority 0 and lets go at once; hand it
    /// `Input::Shutdown` and wait for Initialize where it shall leave well. Its actions are still to be polled.
    pub fn remove(&mut self, now: Instant, id: InstanceId) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return false;
        };
        member.machine.abandon();
        let group = member.group;
        self.collect(id);
        self.members.remove(&id);
        if let Some(group) = group {
            self.part(now, id, group);
        }
        true
    }

    /// Moves an instance into another group or out of its own; nobody's state changes by that alone.
    pub fn regroup(&mut self, now: Instant, id: InstanceId, group: Option<GroupId>) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let old = core::mem::replace(&mut member.group, group);
        if old == group {
            return;
        }
        if let Some(old) = old {
            self.part(now, id, old);
        }
        if let Some(group) = group {
            self.join(id, group);
            self.spread_faults(now, group);
        } else if let Some(member) = self.members.get_mut(&id) {
            member.recover_alone(now);
        }
        if let Some(member) = self.members.get_mut(&id) {
            let mut params = member.machine.params().clone();
            params.gated = group.is_some();
            member.machine.handle(now, Input::Reconfigure(Box::new(params)));
        }
        match group {
            Some(group) => self.settle(now, group),
            None => self.collect(id),
        }
    }

    /// What happened to `id`. An unknown name is nobody's business.
    pub fn handle(&mut self, now: Instant, id: InstanceId, input: Input) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        match member.group {
            None => {
                member.machine.handle(now, ungated(input));
                self.collect(id);
            }
            Some(group) => {
                self.handle_in_group(now, id, group, input);
                self.settle(now, group);
            }
        }
    }

    /// Fires every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (id, member) in &mut self.members {
            member.machine.handle_timeout(now);
            if member.group.is_none() {
                member.drain(*id, &mut self.queue);
            }
        }
        let groups = core::mem::take(&mut self.groups);
        for ids in groups.values() {
            self.settle_members(now, ids);
        }
        self.groups = groups;
    }

    /// What is to be done next, and for whom. The actions of one instance come in their order.
    pub fn poll_action(&mut self) -> Option<(InstanceId, Action)> {
        self.queue.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.members
            .values()
            .filter_map(|m| m.machine.poll_timeout())
            .min()
    }

    /// One instance, to be looked at.
    pub fn get(&self, id: InstanceId) -> Option<&Machine> {
        self.members.get(&id).map(|m| &m.machine)
    }

    /// Every instance, to be looked at.
    pub fn iter(&self) -> impl Iterator<Item = (InstanceId, &Machine)> {
        self.members.iter().map(|(id, m)| (*id, &m.machine))
    }

    /// The group of an instance.
    pub fn group_of(&self, id: InstanceId) -> Option<GroupId> {
        self.members.get(&id).and_then(|m| m.group)
    }

    /// Queues what `id`'s machine wants.
    fn collect(&mut self, id: InstanceId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.drain(id, &mut self.queue);
        }
    }
}

/// Whether a machine is gated follows from its group alone.
fn ungated(input: Input) -> Input {
    match input {
        Input::Reconfigure(mut params) => {
            params.gated = false;
            Input::Reconfigure(params)
        }
        Input::Startup
        | Input::Resume
        | Input::Shutdown
        | Input::Fault(_)
        | Input::Advert(_)
        | Input::Weight(_)
        | Input::Overslept
        | Input::Promote
        | Input::Demote
        | Input::Claimed => input,
    }
}

#[cfg(test)]
mod tests;
