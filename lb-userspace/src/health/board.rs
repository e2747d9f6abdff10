//! From every server's gate to the view: who is down, who starts slowly, which virtual server lacks its quorum; and the
//! sentences about it.
use super::report::ServiceReport;
use lb_common::health::{Choice, Health, HealthView, Quorum, Ramp, Seat, select};
use lb_common::model::ServiceKey;
use lb_common::spec::{Spec, VirtualServer};
use lb_common::time::Instant;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What outlives one look at the gates.
#[derive(Debug, Default)]
pub(super) struct Board {
    states: BTreeMap<Seat, Health>,
    ramps: BTreeMap<Seat, Ramp>,
    quorums: BTreeMap<ServiceKey, Quorum>,
    choices: BTreeMap<ServiceKey, Choice>,
}

impl Board {
    /// What servers are now, by what their gates say. `spec`'s virtual servers are those that count.
    pub(super) fn view(&mut self, now: Instant, spec: &Spec, states: BTreeMap<Seat, Health>) -> HealthView {
        let mut view = HealthView::default();
        let services: BTreeMap<ServiceKey, &VirtualServer> =
            spec.virtual_servers.iter().map(|vs| (vs.key, vs)).collect();
        for (seat, health) in &states {
            match health {
                Health::Up => self.rise(now, *seat, services.get(&seat.0).copied()),
                Health::Unready => drop(view.unready.insert(*seat)),
                Health::Down => drop(view.down.insert(*seat)),
            }
        }
        self.ramps
            .retain(|seat, ramp| states.get(seat) == Some(&Health::Up) && ramp.share(now).is_some());
        let shares = self
            .ramps
            .iter()
            .filter_map(|(seat, ramp)| Some((seat, ramp.share(now)?)));
        view.ramping = shares
            .map(|((key, server), share)| (*key, *server, share))
            .collect();
        self.states = states;
        self.quorums.retain(|key, _| services.contains_key(key));
        for vs in services.values() {
            let quorum = self.quorums.entry(vs.key).or_default();
            quorum.handle(healthy_weight(vs, &view), needed(vs), vs.hysteresis);
            if quorum.is_lost() {
                view.lost.insert(vs.key);
            }
        }
        view
    }

    /// One that was not up before starts slowly; one that is seen for the first time does not.
    fn rise(&mut self, now: Instant, seat: Seat, vs: Option<&VirtualServer>) {
        let over = vs.map(|vs| vs.slow_start).unwrap_or_default();
        let was = self.states.get(&seat);
        if !over.is_zero() && was.is_some_and(|h| *h != Health::Up) {
            self.ramps.insert(seat, Ramp::new(now, over));
        }
    }

    /// When a share grows next.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.ramps.values().filter_map(|r| r.next(now)).min()
    }

    /// Says in the log what has changed.
    pub(super) fn tell(&mut self, spec: &Spec, view: &HealthView) {
        let mut choices = BTreeMap::new();
        for vs in spec.virtual_servers.iter().filter(|_| spec.enabled) {
            let choice = select(vs, view).choice;
            if self.choices.get(&vs.key).copied().unwrap_or_default() != choice {
                tell(vs, choice, sentence(vs, choice).as_deref());
            }
            choices.insert(vs.key, choice);
        }
        self.choices = choices;
    }

    /// What is so, by virtual server and in sentences.
    pub(super) fn sentences(spec: &Spec, view: &HealthView) -> (Vec<ServiceReport>, Vec<String>) {
        let (mut reports, mut problems) = (Vec::new(), Vec::new());
        for vs in spec.virtual_servers.iter().filter(|_| spec.enabled) {
            let choice = select(vs, view).choice;
            let report = ServiceReport {
                name: vs.name.clone(),
                choice,
                healthy_weight: healthy_weight(vs, view),
                quorum: needed(vs),
                lost: view.lost.contains(&vs.key),
            };
            if vs.quorum.is_some() && report.lost && choice == Choice::Healthy {
                problems.push(format!(
                    "{}: its healthy real servers have a weight of {}, below the quorum of {}",
                    vs.name, report.healthy_weight, report.quorum
                ));
            }
            problems.extend(sentence(vs, choice));
            reports.push(report);
        }
        (reports, problems)
    }
}

fn needed(vs: &VirtualServer) -> u32 {
    vs.quorum.unwrap_or(1)
}

/// The whole weight of those that are healthy: one that starts slowly counts as what it will be.
fn healthy_weight(vs: &VirtualServer, view: &HealthView) -> u32 {
    let healthy = vs.real_servers.iter().filter(|s| view.is_up(vs, s));
    healthy.map(|s| s.weight).fold(0, u32::saturating_add)
}

/// What is wrong with a choice that is not the usual one.
fn sentence(vs: &VirtualServer, choice: Choice) -> Option<String> {
    let count = vs.real_servers.len();
    match choice {
        Choice::Healthy => None,
        Choice::Answering => Some(format!(
            "{}: none of its {count} real servers is ready: connections go to those that answer at all",
            vs.name
        )),
        // Nobody is asked where nobody is checked, and all that have a weight may be drained.
        Choice::All if vs.real_servers.iter().all(|s| s.weight == 0) => Some(format!(
            "{}: all of its {count} real servers have the weight 0: it takes no new connections",
            vs.name
        )),
        Choice::All => Some(format!(
            "{}: NONE of its {count} real servers answers: all are kept, in case it is the checks that fail",
            vs.name
        )),
        Choice::Sorry => {
            let sorry = vs
                .sorry_server
                .as_ref()
                .map(|s| SocketAddr::new(s.address, s.port));
            let sorry = sorry.map_or_else(String::new, |s| format!(" {s}"));
            Some(format!(
                "{}: too few of its {count} real servers are healthy: the sorry server{sorry} serves",
                vs.name
            ))
        }
    }
}

fn tell(vs: &VirtualServer, choice: Choice, sentence: Option<&str>) {
    match (choice, sentence) {
        (Choice::All, Some(s)) => tracing::error!(virtual_server = %vs.name, "{s}"),
        (_, Some(s)) => tracing::warn!(virtual_server = %vs.name, "{s}"),
        (_, None) => {
            tracing::info!(virtual_server = %vs.name, "{}: connections go to its healthy real servers again", vs.name);
        }
    }
}

#[cfg(test)]
#[path = "board/tests.rs"]
mod tests;
