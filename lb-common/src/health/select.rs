//! Who gets the connections of a virtual server: one answer for every datapath.
use super::{Health, HealthView};
use crate::spec::{RealServer, VirtualServer};
use alloc::vec::Vec;

/// Weights are so many times their value while a server starts slowly, so that a tenth of 1 is a weight.
const SCALE: u32 = 10;

/// By which rule servers were chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Choice {
    /// The healthy ones.
    #[default]
    Healthy,
    /// None is ready: those that answer at all.
    Answering,
    /// None answers: all of them, for an unlucky checker must not take the API away (k0s's rule).
    All,
    /// Too few are healthy: the sorry server.
    Sorry,
}

/// What one real server gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub server: RealServer,
    /// Its share of new connections among the others; 0: none.
    pub weight: u32,
    /// Whether connections that it has go on. One that is not alive is to be out of the datapath, and what it had cut.
    pub alive: bool,
}

/// Who gets connections, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// By which rule.
    pub choice: Choice,
    /// Every real server of the file in its order, and after them the sorry server while that serves.
    pub candidates: Vec<Candidate>,
}

/// Chooses for `vs` by everybody's health.
pub fn select(vs: &VirtualServer, view: &HealthView) -> Selection {
    let sorry = vs.sorry_server.as_ref().filter(|_| view.lost.contains(&vs.key));
    let have = |health: Health| {
        let mut servers = vs.real_servers.iter();
        servers.any(|s| s.weight > 0 && view.health(vs, s) == health)
    };
    let choice = if sorry.is_some() {
        Choice::Sorry
    } else if have(Health::Up) {
        Choice::Healthy
    } else if have(Health::Unready) {
        Choice::Answering
    } else {
        Choice::All
    };
    let ramping = choice == Choice::Healthy && vs.real_servers.iter().any(|s| ramps(vs, view, s));
    let one = |server: &RealServer| candidate(vs, view, server, choice, ramping);
    let mut candidates: Vec<Candidate> = vs.real_servers.iter().map(one).collect();
    candidates.extend(sorry.map(|server| Candidate {
        server: server.clone(),
        weight: server.weight,
        alive: true,
    }));
    Selection { choice, candidates }
}

fn ramps(vs: &VirtualServer, view: &HealthView, server: &RealServer) -> bool {
    view.is_up(vs, server) && view.share(vs, server).is_some()
}

fn candidate(
    vs: &VirtualServer,
    view: &HealthView,
    server: &RealServer,
    choice: Choice,
    ramping: bool,
) -> Candidate {
    let health = view.health(vs, server);
    let serves = match choice {
        Choice::Healthy => health == Health::Up,
        Choice::Answering => health == Health::Unready,
        Choice::All => true,
        Choice::Sorry => false,
    };
    let weight = match (serves, ramping) {
        (false, _) => 0,
        (true, false) => server.weight,
        (true, true) => {
            let whole = server.weight.saturating_mul(SCALE);
            let share = u64::from(view.share(vs, server).unwrap_or(100));
            let part = u64::from(whole) * share / 100;
            u32::try_from(part).unwrap_or(whole).max(server.weight.min(1))
        }
    };
    Candidate {
        server: server.clone(),
        weight,
        alive: serves || health != Health::Down,
    }
}

#[cfg(test)]
#[path = "select/tests.rs"]
mod tests;
