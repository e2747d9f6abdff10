//! Sync groups: Active together on one node, or not at all.
//!
//! * A member whose Active_Down_Timer fires is *willing*; when every member is willing or Active already, all become
//!   Active at once.
//! * A member that loses takes the others with it: they say priority 0 and linger, as if they had lost too.
//! * A member at fault puts the others at fault (`FaultReason::SyncGroup`); they recover together.
//! * A member that is shut down takes the others with it.
//!
//! The first member *leads*: where two nodes are Active at once, only its comparison decides at first. Without that,
//! two nodes of equal priority can each win one member (of a dual-stack group, say, where the order of the IPv4
//! addresses is not the order of the link-local ones), each gives the whole group up, both wait equally long, and it
//! begins again for ever. Another member yields by itself only where the leader is not Active, or where it has heard
//! better routers for a whole Active_Down_Interval, so that the leader evidently cannot hear them.
use super::router::{GroupId, InstanceId, Router};
use super::{Action, Advert, FaultReason, Input, Machine, Reason, State};
use crate::time::Instant;
use alloc::collections::VecDeque;

/// What was asked of a member itself, whatever its group made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Never started, or shut down.
    Down,
    /// Started.
    Up,
    /// At fault by itself.
    Fault,
}

/// Better routers that a member which does not lead has heard while Active.
#[derive(Clone, Copy, Debug)]
struct Contest {
    since: Instant,
    last: Instant,
}

/// One instance of a [`Router`].
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) machine: Machine,
    pub(super) group: Option<GroupId>,
    wanted: Wanted,
    contest: Option<Contest>,
    /// Lost an election by itself since the group was last settled.
    lost: bool,
}

impl Member {
    pub(super) fn new(machine: Machine, group: Option<GroupId>) -> Self {
        Self {
            machine,
            group,
            wanted: Wanted::Down,
            contest: None,
            lost: false,
        }
    }

    /// Moves the machine's actions into `queue`. `Willing` is for the group and goes no further.
    pub(super) fn drain(&mut self, id: InstanceId, queue: &mut VecDeque<(InstanceId, Action)>) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Willing => continue,
                Action::Transition {
                    from: State::Active,
                    to: State::Backup,
                    reason,
                } => {
                    self.contest = None;
                    self.lost |= reason != Reason::SyncGroup;
                }
                Action::Transition { .. }
                | Action::SendAdvert { .. }
                | Action::Claim
                | Action::Announce
                | Action::Release => {}
            }
            queue.push_back((id, action));
        }
    }

    /// Out of a group, a fault that was only the group's is over.
    pub(super) fn recover_alone(&mut self, now: Instant) {
        if self.wanted == Wanted::Up && self.machine.fault() == Some(FaultReason::SyncGroup) {
            self.machine.handle(now, Input::Startup);
        }
    }

    fn is_ready(&self) -> bool {
        self.wanted == Wanted::Up && (self.machine.state() == State::Active || self.machine.is_willing())
    }

    /// Whether a better router is still borne, because the leader has not heard it yet.
    fn tolerates(&mut self, now: Instant) -> bool {
        let grace = self.machine.active_down_interval();
        let since = self
            .contest
            .filter(|c| now.saturating_since(c.last) <= grace)
            .map_or(now, |c| c.since);
        self.contest = Some(Contest { since, last: now });
        now.saturating_since(since) < grace
    }
}

impl Router {
    pub(super) fn join(&mut self, id: InstanceId, group: GroupId) {
        let ids = self.groups.entry(group).or_default();
        if let Err(at) = ids.binary_search(&id) {
            ids.insert(at, id);
        }
    }

    /// Takes `id` out of its group's list; the rest may now be complete, or free of a fault.
    pub(super) fn part(&mut self, now: Instant, id: InstanceId, group: GroupId) {
        if let Some(ids) = self.groups.get_mut(&group) {
            ids.retain(|m| *m != id);
            if ids.is_empty() {
                self.groups.remove(&group);
            }
        }
        self.spread_faults(now, group);
        self.settle(now, group);
    }

    pub(super) fn handle_in_group(&mut self, now: Instant, id: InstanceId, group: GroupId, input: Input) {
        match input {
            Input::Startup | Input::Resume => {
                self.want(id, Wanted::Up);
                self.spread_faults(now, group);
                if !self.is_faulted(group) {
                    self.pass(now, id, input);
                }
            }
            Input::Fault(reason) => {
                self.want(id, Wanted::Fault);
                self.pass(now, id, Input::Fault(reason));
                self.spread_faults(now, group);
            }
            Input::Shutdown => self.for_each(group, |member| {
                member.wanted = Wanted::Down;
                member.machine.handle(now, Input::Shutdown);
            }),
            Input::Reconfigure(mut params) => {
                params.gated = true;
                self.pass(now, id, Input::Reconfigure(params));
            }
            Input::Advert(advert) => {
                if !self.is_borne(now, id, group, &advert) {
                    self.pass(now, id, Input::Advert(advert));
                }
            }
            Input::Weight(_) | Input::Overslept | Input::Promote | Input::Demote | Input::Claimed => {
                self.pass(now, id, input);
            }
        }
    }

    /// Queues what the members want and applies the rules until nothing changes.
    pub(super) fn settle(&mut self, now: Instant, group: GroupId) {
        let groups = core::mem::take(&mut self.groups);
        if let Some(ids) = groups.get(&group) {
            self.settle_members(now, ids);
        }
        self.groups = groups;
    }

    /// As [`Self::settle`], with the list of members taken out of `self`.
    pub(super) fn settle_members(&mut self, now: Instant, ids: &[InstanceId]) {
        loop {
            let (mut lost, mut willing, mut ready) = (false, false, true);
            for id in ids {
                if let Some(member) = self.members.get_mut(id) {
                    member.drain(*id, &mut self.queue);
                    lost |= core::mem::take(&mut member.lost);
                    willing |= member.machine.is_willing();
                    ready &= member.is_ready();
                }
            }
            let (wanted, input) = if lost {
                (State::Active, Input::Demote)
            } else if willing && ready {
                (State::Backup, Input::Promote)
            } else {
                return;
            };
            for id in ids {
                if let Some(member) = self.members.get_mut(id)
                    && member.machine.state() == wanted
                {
                    member.machine.handle(now, input.clone());
                }
            }
        }
    }

    /// One at fault: all at fault. None: those whose only fault was the group's start together.
    pub(super) fn spread_faults(&mut self, now: Instant, group: GroupId) {
        let faulted = self.is_faulted(group);
        self.for_each(group, |member| {
            let shared = member.machine.fault() == Some(FaultReason::SyncGroup);
            if member.wanted != Wanted::Up || shared == faulted {
                return;
            }
            member.machine.handle(
                now,
                if faulted {
                    Input::Fault(FaultReason::SyncGroup)
                } else {
                    Input::Startup
                },
            );
        });
    }

    fn is_faulted(&self, group: GroupId) -> bool {
        self.groups
            .get(&group)
            .into_iter()
            .flatten()
            .filter_map(|id| self.members.get(id))
            .any(|m| m.wanted == Wanted::Fault)
    }

    /// Whether a better router is not to be heard for now; see the module.
    fn is_borne(&mut self, now: Instant, id: InstanceId, group: GroupId, advert: &Advert) -> bool {
        let leader = self.groups.get(&group).and_then(|ids| ids.first()).copied();
        let leads = leader == Some(id);
        let led = leader
            .and_then(|l| self.members.get(&l))
            .is_some_and(|l| l.machine.state() == State::Active);
        self.members
            .get_mut(&id)
            .is_some_and(|m| !leads && led && m.machine.would_yield_to(advert) && m.tolerates(now))
    }

    fn want(&mut self, id: InstanceId, wanted: Wanted) {
        if let Some(member) = self.members.get_mut(&id) {
            member.wanted = wanted;
        }
    }

    fn pass(&mut self, now: Instant, id: InstanceId, input: Input) {
        if let Some(member) = self.members.get_mut(&id) {
            member.machine.handle(now, input);
        }
    }

    fn for_each(&mut self, group: GroupId, mut act: impl FnMut(&mut Member)) {
        let Self { members, groups, .. } = self;
        for id in groups.get(&group).into_iter().flatten() {
            if let Some(member) = members.get_mut(id) {
                act(member);
            }
        }
    }
}
