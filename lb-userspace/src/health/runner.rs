//! Schedules the checks and turns outcomes into a view through the gates.
use super::checks::{Target, probe, targets};
use crate::clock;
use lb_common::health::{Gate, HealthView, Outcome, Question};
use lb_common::spec::Spec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

/// No more than this many checks are under way at once.
const CONCURRENCY: usize = 64;

/// What is known of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReport {
    /// Whether connections may go there.
    pub up: bool,
    /// How long the last good check took, in microseconds.
    pub latency_us: Option<u64>,
    /// Why the last bad one was bad.
    pub last_error: Option<String>,
    /// Outcomes since the start.
    pub checks: u64,
    /// Bad ones among them.
    pub failures: u64,
}

/// What a person wants to know of everything that is checked.
pub type HealthReport = BTreeMap<SocketAddr, TargetReport>;

/// What the checks found.
#[derive(Clone, Debug)]
pub struct Health {
    /// What the planner needs: changes when a real server goes up or down.
    pub view: watch::Receiver<Arc<HealthView>>,
    /// What `status` shows: changes with every check.
    pub report: watch::Receiver<Arc<HealthReport>>,
}

struct Out {
    view: watch::Sender<Arc<HealthView>>,
    report: watch::Sender<Arc<HealthReport>>,
}

struct Entry {
    target: Target,
    task: AbortHandle,
    gate: Gate,
    report: TargetReport,
}

type Found = (Question, Result<Duration, String>);

/// Starts checking what `spec` names, for as long as `spec` lives.
pub fn spawn(spec: watch::Receiver<Arc<Spec>>) -> Health {
    let (view_in, view) = watch::channel(Arc::default());
    let (report_in, report) = watch::channel(Arc::default());
    let out = Out {
        view: view_in,
        report: report_in,
    };
    tokio::spawn(run(spec, out));
    Health { view, report }
}

async fn run(mut spec: watch::Receiver<Arc<Spec>>, out: Out) {
    let (found_tx, mut found) = mpsc::channel::<Found>(256);
    let slots = Arc::new(Semaphore::new(CONCURRENCY));
    let mut entries = BTreeMap::new();
    loop {
        let wanted = targets(&spec.borrow_and_update());
        reload(&mut entries, wanted, &found_tx, &slots);
        publish(&entries, &out);
        loop {
            tokio::select! {
                changed = spec.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => { entries.values().for_each(|e| e.task.abort()); return; }
                },
                Some((address, outcome)) = found.recv() => {
                    if let Some(entry) = entries.get_mut(&address) {
                        take(address, entry, outcome);
                        publish(&entries, &out);
                    }
                }
            }
        }
    }
}

/// What stays keeps its gate; what is new starts; what is gone stops.
fn reload(
    entries: &mut BTreeMap<Question, Entry>,
    wanted: BTreeMap<Question, Target>,
    found: &mpsc::Sender<Found>,
    slots: &Arc<Semaphore>,
) {
    entries.retain(|address, e| {
        let keep = wanted.contains_key(address);
        if !keep {
            e.task.abort();
        }
        keep
    });
    for (address, target) in wanted {
        let start = |t: &Target| tokio::spawn(ask(t.clone(), found.clone(), slots.clone())).abort_handle();
        match entries.get_mut(&address) {
            Some(e) if e.target == target => {}
            Some(e) => {
                e.task.abort();
                e.task = start(&target);
                e.gate.set_thresholds(target.check.rise, target.check.fall);
                e.target = target;
            }
            None => {
                let gate = Gate::new(target.check.rise, target.check.fall);
                let report = TargetReport {
                    up: true,
                    latency_us: None,
                    last_error: None,
                    checks: 0,
                    failures: 0,
                };
                entries.insert(
                    address,
                    Entry {
                        task: start(&target),
                        target,
                        gate,
                        report,
                    },
                );
            }
        }
    }
}

/// One real server, for ever. Starts somewhere within the first interval, so that many servers are not asked at once.
async fn ask(target: Target, found: mpsc::Sender<Found>, slots: Arc<Semaphore>) {
    let interval = target.check.interval.max(Duration::from_millis(10));
    let spread = u64::from(target.question.0.port())
        .wrapping_mul(31)
        .wrapping_add(clock::now().as_nanos() / 1000)
        % u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
    tokio::time::sleep(Duration::from_micros(spread / 4)).await;
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Ok(_slot) = slots.acquire().await else { return };
        let outcome = probe(&target).await;
        if found.send((target.question, outcome)).await.is_err() {
            return;
        }
    }
}

fn take((address, vip): Question, entry: &mut Entry, outcome: Result<Duration, String>) {
    let vip = vip.map(tracing::field::display);
    let report = &mut entry.report;
    report.checks += 1;
    let changed = match &outcome {
        Ok(latency) => {
            report.latency_us = u64::try_from(latency.as_micros()).ok();
            entry.gate.handle(Outcome::Good)
        }
        Err(_) => {
            report.failures += 1;
            entry.gate.handle(Outcome::Bad)
        }
    };
    report.up = entry.gate.is_up();
    match outcome {
        Ok(_) if changed => tracing::info!(%address, vip, "real server is healthy again"),
        Err(why) => {
            if changed {
                tracing::warn!(%address, vip, why, "real server does not answer: no connections go there until it does");
            }
            report.last_error = Some(why);
        }
        Ok(_) => {}
    }
}

fn publish(entries: &BTreeMap<Question, Entry>, out: &Out) {
    let down = entries
        .iter()
        .filter(|(_, e)| !e.gate.is_up())
        .map(|(a, _)| *a)
        .collect();
    let view = HealthView { down };
    // The reconciler turns with every change: a check that found what it knew is none.
    out.view.send_if_modified(|old| {
        let changed = **old != view;
        if changed {
            *old = Arc::new(view);
        }
        changed
    });
    let mut report = HealthReport::new();
    for ((address, _), entry) in entries {
        merge(report.entry(*address), &entry.report);
    }
    out.report.send_replace(Arc::new(report));
}

/// A server that is asked about several virtual IPs is shown once, as bad as it is for any.
fn merge(shown: Slot<'_, SocketAddr, TargetReport>, one: &TargetReport) {
    shown
        .and_modify(|all| {
            all.up &= one.up;
            all.latency_us = all.latency_us.max(one.latency_us);
            all.last_error = one.last_error.clone().or_else(|| all.last_error.take());
            all.checks += one.checks;
            all.failures += one.failures;
        })
        .or_insert_with(|| one.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::spec::{HealthCheck, HealthCheckKind};
    use std::net::TcpListener;

    fn target(address: SocketAddr) -> Target {
        let second = Duration::from_secs(1);
        let check = HealthCheck {
            kind: HealthCheckKind::Tcp,
            interval: second,
            timeout: second,
            rise: 1,
            fall: 3,
        };
        Target {
            question: (address, None),
            check,
        }
    }

    #[tokio::test]
    async fn a_listener_is_healthy_and_a_closed_port_says_why_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(probe(&target(address)).await.is_ok());
        drop(listener);
        let why = probe(&target(address)).await.unwrap_err();
        assert!(why.contains("refused"), "{why}");
    }
}
