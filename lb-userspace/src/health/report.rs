//! What a person wants to know of the checks.
use super::checks::Verdict;
use lb_common::health::{Choice, Gate, Health};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is known of one real server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReport {
    /// Whether new connections may go there.
    pub up: bool,
    /// Whether it is up, unready (it keeps what it has) or down.
    pub state: Health,
    /// Since when, in milliseconds since 1970; 0: since the start.
    pub since_ms: u64,
    /// How it is asked: `https`, `tcp`, ...
    pub check: String,
    /// Where it is asked.
    pub asked: Option<SocketAddr>,
    /// How long the last good check took, in microseconds.
    pub latency_us: Option<u64>,
    /// What the last check said besides "good".
    pub last_result: Option<String>,
    /// Why the last bad one was bad.
    pub last_error: Option<String>,
    /// When that was, in milliseconds since 1970.
    pub last_error_ms: Option<u64>,
    /// Its share in per cent while it starts slowly.
    pub share: Option<u8>,
    /// Outcomes since the start.
    pub checks: u64,
    /// Bad ones among them.
    pub failures: u64,
    /// Tries that this node could not make.
    pub not_asked: u64,
}

impl TargetReport {
    /// Before the first outcome.
    pub(super) fn new(check: String, asked: SocketAddr, gate: &Gate) -> Self {
        Self {
            up: gate.is_up(),
            state: gate.health(),
            check,
            asked: Some(asked),
            ..Self::default()
        }
    }

    /// Takes a finding in, after which the gate is as given.
    pub(super) fn take(&mut self, verdict: &Verdict, took: Duration, gate: &Gate) {
        if self.state != gate.health() {
            self.since_ms = now_ms();
        }
        self.up = gate.is_up();
        self.state = gate.health();
        self.last_result = verdict.words().map(str::to_owned);
        match verdict {
            Verdict::Good(_) => {
                self.checks += 1;
                self.latency_us = u64::try_from(took.as_micros()).ok();
            }
            Verdict::Unready(why) | Verdict::Dead(why) => {
                self.checks += 1;
                self.failures += 1;
                self.last_error = Some(why.clone());
                self.last_error_ms = Some(now_ms());
            }
            Verdict::Unknown(_) => self.not_asked += 1,
        }
    }
}

/// One virtual server by its health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// By which rule its servers are chosen.
    pub choice: Choice,
    /// The weight of those that are healthy.
    pub healthy_weight: u32,
    /// What is needed.
    pub quorum: u32,
    /// Whether that is lost.
    pub lost: bool,
}

/// Everything that is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthReport {
    /// By real server.
    pub servers: BTreeMap<SocketAddr, TargetReport>,
    /// By virtual server.
    pub services: Vec<ServiceReport>,
    /// What is wrong now, as sentences.
    pub problems: Vec<String>,
}

/// A server that is asked in several ways is shown once, as bad as it is by any.
pub(super) fn merge(shown: Entry<'_, SocketAddr, TargetReport>, one: &TargetReport) {
    shown
        .and_modify(|all| {
            let (checks, failures, not_asked) = (all.checks, all.failures, all.not_asked);
            if one.state > all.state {
                *all = one.clone();
            }
            all.latency_us = all.latency_us.max(one.latency_us);
            all.checks = checks + one.checks;
            all.failures = failures + one.failures;
            all.not_asked = not_asked + one.not_asked;
            if !all.check.split(", ").any(|c| c == one.check) {
                all.check = format!("{}, {}", all.check, one.check);
            }
        })
        .or_insert_with(|| one.clone());
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
