//! Schedules the checks, and turns what they find into the view.
use super::board::Board;
use super::checks::{Prober, Verdict};
use super::report::{HealthReport, TargetReport, merge};
use super::targets::{Target, targets};
use crate::clock;
use lb_common::health::{Gate, Health as State, HealthView, Probe, Seat, pace};
use lb_common::spec::Spec;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

/// No more than this many checks are under way at once: one descriptor each, two or three with TLS and a neighbour lookup.
const CONCURRENCY: usize = 256;
/// No more than this many programs.
const PROGRAMS: usize = 16;
/// What people see is made anew no more often.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// What the checks found.
#[derive(Clone, Debug)]
pub struct Health {
    /// What the planner needs: changes when a real server's state or share does.
    pub view: watch::Receiver<Arc<HealthView>>,
    /// What `status` shows: counts and latencies too.
    pub report: watch::Receiver<Arc<HealthReport>>,
}

struct Out {
    view: watch::Sender<Arc<HealthView>>,
    report: watch::Sender<Arc<HealthReport>>,
}

struct Entry {
    task: AbortHandle,
    seats: BTreeSet<Seat>,
    gate: Gate,
    report: TargetReport,
}

/// What one try found, and the gate after it.
struct Found {
    target: Target,
    verdict: Verdict,
    took: Duration,
    gate: Gate,
}

/// What checks share.
#[derive(Clone)]
struct Desk {
    found: mpsc::Sender<Found>,
    slots: Arc<Semaphore>,
    programs: Arc<Semaphore>,
}

/// Starts checking what `spec` names, for as long as `spec` lives. `known`: what a process before this one found.
pub fn spawn(spec: watch::Receiver<Arc<Spec>>, known: Option<HealthView>) -> Health {
    let (view_in, view) = watch::channel(Arc::new(known.clone().unwrap_or_default()));
    let (report_in, report) = watch::channel(Arc::default());
    let out = Out {
        view: view_in,
        report: report_in,
    };
    tokio::spawn(run(spec, known, out));
    Health { view, report }
}

async fn run(mut spec: watch::Receiver<Arc<Spec>>, mut known: Option<HealthView>, out: Out) {
    let (found_tx, mut found) = mpsc::channel(CONCURRENCY);
    let desk = Desk {
        found: found_tx,
        slots: Arc::new(Semaphore::new(CONCURRENCY)),
        programs: Arc::new(Semaphore::new(PROGRAMS)),
    };
    let mut office = Office {
        spec: spec.borrow().clone(),
        entries: BTreeMap::new(),
        board: Board::default(),
        fresh: false,
        out,
    };
    let mut tick = tokio::time::interval(REPORT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        office.spec = spec.borrow_and_update().clone();
        reload(
            &mut office.entries,
            targets(&office.spec),
            known.take().as_ref(),
            &desk,
        );
        office.publish();
        loop {
            let now = clock::now();
            let growth = office.board.due(now).map(|at| at.saturating_since(now));
            tokio::select! {
                changed = spec.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => { office.entries.values().for_each(|e| e.task.abort()); return; }
                },
                Some(one) = found.recv() => office.take(&one),
                () = tokio::time::sleep(growth.unwrap_or_default()), if growth.is_some() => office.publish(),
                _ = tick.tick(), if office.fresh => office.report(),
            }
        }
    }
}

/// The task where everything meets.
struct Office {
    spec: Arc<Spec>,
    entries: BTreeMap<Target, Entry>,
    board: Board,
    /// Something was found that the report does not have.
    fresh: bool,
    out: Out,
}

impl Office {
    fn take(&mut self, found: &Found) {
        // A reload may have ended the task while its last finding was on its way.
        let Some(entry) = self.entries.get_mut(&found.target) else {
            return;
        };
        let changed = entry.gate.health() != found.gate.health();
        tell(entry, found);
        entry.gate = found.gate;
        entry.report.take(&found.verdict, found.took, &found.gate);
        self.fresh = true;
        if changed {
            self.publish();
        }
    }

    /// The view, at once: the reconciler turns with every change of it, and a check that found what it knew is none.
    fn publish(&mut self) {
        let states = self
            .entries
            .values()
            .flat_map(|e| e.seats.iter().map(|s| (*s, e.gate.health())))
            .collect();
        let view = self.board.view(clock::now(), &self.spec, states);
        self.board.tell(&self.spec, &view);
        self.out.view.send_if_modified(|old| {
            let changed = **old != view;
            if changed {
                *old = Arc::new(view);
            }
            changed
        });
        self.report();
    }

    /// For people, who need it less often than checks are made.
    fn report(&mut self) {
        self.fresh = false;
        let view = self.out.view.borrow().clone();
        let (services, problems) = Board::sentences(&self.spec, &view);
        let mut report = HealthReport {
            services,
            problems,
            ..HealthReport::default()
        };
        for (target, entry) in &self.entries {
            let share = view
                .ramping
                .iter()
                .find(|(k, s, _)| entry.seats.contains(&(*k, *s)));
            let one = TargetReport {
                share: share.map(|(_, _, share)| *share),
                ..entry.report.clone()
            };
            merge(report.servers.entry(target.server), &one);
        }
        self.out.report.send_replace(Arc::new(report));
    }
}

/// What stays keeps its gate, also where only the way of asking is another; what is new starts; what is gone stops.
fn reload(
    entries: &mut BTreeMap<Target, Entry>,
    wanted: BTreeMap<Target, BTreeSet<Seat>>,
    found: Option<&HealthView>,
    desk: &Desk,
) {
    let mut old = std::mem::take(entries);
    let known: BTreeMap<Seat, (Gate, TargetReport)> = (old.values())
        .flat_map(|e| e.seats.iter().map(|s| (*s, (e.gate, e.report.clone()))))
        .collect();
    for (target, seats) in wanted {
        let entry = match old.remove(&target) {
            Some(entry) => Entry { seats, ..entry },
            None => {
                let before = seats.iter().find_map(|s| known.get(s)).cloned();
                let health = found.zip(seats.first()).map(|(view, seat)| view.at(seat));
                start(&target, seats, before, health, desk)
            }
        };
        entries.insert(target, entry);
    }
    old.values().for_each(|e| e.task.abort());
}

fn start(
    target: &Target,
    seats: BTreeSet<Seat>,
    before: Option<(Gate, TargetReport)>,
    health: Option<State>,
    desk: &Desk,
) -> Entry {
    let check = &target.check;
    let kind = check.kind().to_string();
    let (gate, report) = match before {
        Some((mut gate, report)) => {
            gate.set_thresholds(check.rise, check.fall);
            let report = TargetReport {
                check: kind,
                asked: Some(target.at),
                ..report
            };
            (gate, report)
        }
        None => {
            let gate = match health {
                Some(health) => Gate::known(check.rise, check.fall, health),
                None => Gate::new(check.rise, check.fall, check.start),
            };
            (gate, TargetReport::new(kind, target.at, &gate))
        }
    };
    let task = tokio::spawn(ask(target.clone(), gate, desk.clone())).abort_handle();
    Entry {
        task,
        seats,
        gate,
        report,
    }
}

/// One target, for ever.
async fn ask(target: Target, mut gate: Gate, desk: Desk) {
    let check = target.check.clone();
    let mut prober = Prober::new(target.clone());
    tokio::time::sleep(pace::first(&check, jitter(&target))).await;
    loop {
        let slots = match check.probe {
            Probe::Exec(_) => &desk.programs,
            _ => &desk.slots,
        };
        let Ok(slot) = slots.acquire().await else { return };
        let started = clock::now();
        let (verdict, took) = prober.ask().await;
        drop(slot);
        if let Some(outcome) = verdict.outcome() {
            gate.handle(outcome);
        }
        let found = Found {
            target: target.clone(),
            verdict,
            took,
            gate,
        };
        if desk.found.send(found).await.is_err() {
            return;
        }
        let next = started + pace::next(&check, &gate);
        tokio::time::sleep(next.saturating_since(clock::now())).await;
    }
}

/// Different on every node and for every target.
fn jitter(target: &Target) -> u32 {
    let mut hasher = DefaultHasher::new();
    (
        target.server,
        target.at,
        target.vip,
        clock::now().as_nanos(),
        std::process::id(),
    )
        .hash(&mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Says what is news.
fn tell(entry: &Entry, found: &Found) {
    let address = found.target.server;
    let vip = found.target.vip.map(tracing::field::display);
    let (before, now) = (entry.gate.health(), found.gate.health());
    let why = found.verdict.words().unwrap_or_default();
    let news = entry.report.last_result.as_deref() != Some(why);
    match &found.verdict {
        Verdict::Unknown(_) if news => {
            tracing::warn!(%address, vip, why, "a real server cannot be checked: it counts as what it was");
        }
        Verdict::Good(Some(_)) if news => tracing::warn!(%address, vip, "{why}"),
        Verdict::Good(_) | Verdict::Unready(_) | Verdict::Dead(_) | Verdict::Unknown(_) => {}
    }
    match now {
        _ if before == now => {}
        State::Up => tracing::info!(%address, vip, "real server is healthy again"),
        State::Unready => {
            tracing::warn!(%address, vip, why, "real server is not ready: it keeps its connections and gets no new ones");
        }
        State::Down => {
            tracing::warn!(%address, vip, why, "real server does not answer: its connections are cut, and it gets no new ones");
        }
    }
}

#[cfg(test)]
#[path = "runner/tests.rs"]
mod tests;
