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
    /// Its share of new connections among the others; 0: none. Of one that is not alive: what it would be, for a hash that
    /// must not move everybody's connections because one server is away.
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
        // One that drains is in nobody's need.
        Choice::All => server.weight > 0,
        Choice::Sorry => false,
    };
    let alive = serves || health != Health::Down;
    let weight = if alive && !serves {
        0
    } else if ramping {
        ramped(server.weight, view.share(vs, server))
    } else {
        server.weight
    };
    Candidate {
        server: server.clone(),
        weight,
        alive,
    }
}

/// A share of a weight, on the finer scale; never nothing of something.
fn ramped(weight: u32, share: Option<u8>) -> u32 {
    let whole = weight.saturating_mul(SCALE);
    let part = u64::from(whole) * u64::from(share.unwrap_or(100)) / 100;
    u32::try_from(part).unwrap_or(whole).max(weight.min(1))
}

#[cfg(test)]
#[path = "select/tests.rs"]
mod tests;
