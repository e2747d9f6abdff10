//! What was counted, and what should have been.
use super::model::{Counted, Outcome};
use super::object::Counters;
use lb_common::abi::{Reason, Traffic};
use std::collections::BTreeMap;
use std::fmt;

/// Counts, without those that are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    reasons: BTreeMap<u32, u64>,
    services: BTreeMap<u32, [u64; 4]>,
    backends: BTreeMap<u32, [u64; 4]>,
}

fn numbers(t: &Traffic) -> [u64; 4] {
    [t.packets, t.bytes, t.new_flows, t.remembered]
}

fn add(to: &mut BTreeMap<u32, [u64; 4]>, place: u32, numbers: [u64; 4]) {
    let sum = to.entry(place).or_default();
    for (sum, number) in sum.iter_mut().zip(numbers) {
        *sum += number;
    }
}

impl Tally {
    /// What the program counted between two readings.
    pub fn between(before: &Counters, after: &Counters) -> Self {
        let mut tally = Self::default();
        for ((old, new), reason) in before.reasons.iter().zip(&after.reasons).zip(0..) {
            if old != new {
                tally.reasons.insert(reason, new - old);
            }
        }
        let tables = [
            (&before.services, &after.services, &mut tally.services),
            (&before.backends, &after.backends, &mut tally.backends),
        ];
        for (before, after, counted) in tables {
            for (place, new) in after {
                let old = numbers(&before.get(place).copied().unwrap_or_default());
                let new = numbers(new);
                if old != new {
                    counted.insert(*place, std::array::from_fn(|i| new[i] - old[i]));
                }
            }
        }
        tally
    }

    /// Counts a packet of this length as the model wants it.
    pub fn count(&mut self, outcome: &Outcome, len: usize) {
        match outcome.counted {
            Counted::Reason(reason) => *self.reasons.entry(reason as u32).or_default() += 1,
            Counted::Traffic {
                service,
                backend,
                new,
                remembered,
            } => {
                let numbers = [1, len as u64, new.into(), remembered.into()];
                add(&mut self.services, service, numbers);
                add(&mut self.backends, backend.into(), numbers);
            }
        }
    }

    /// Adds another one's counts.
    pub fn add(&mut self, other: &Self) {
        for (reason, count) in &other.reasons {
            *self.reasons.entry(*reason).or_default() += count;
        }
        for (place, numbers) in &other.services {
            add(&mut self.services, *place, *numbers);
        }
        for (place, numbers) in &other.backends {
            add(&mut self.backends, *place, *numbers);
        }
    }

    /// Packets, each of which is counted by reason or by service.
    pub fn packets(&self) -> u64 {
        let forwarded = self.services.values().map(|numbers| numbers[0]);
        self.reasons.values().sum::<u64>() + forwarded.sum::<u64>()
    }

    /// The reasons by name, on one line.
    pub fn reasons(&self) -> String {
        let said = |(reason, count): (&u32, &u64)| format!("{} {count}", name(*reason));
        self.reasons.iter().map(said).collect::<Vec<_>>().join(", ")
    }

    /// Packets that went to backends.
    pub fn forwarded(&self) -> u64 {
        self.services.values().map(|numbers| numbers[0]).sum()
    }
}

fn name(reason: u32) -> &'static str {
    let known = Reason::ALL.iter().find(|r| **r as u32 == reason);
    known.map_or("unknown", |reason| reason.name())
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (reason, count) in &self.reasons {
            writeln!(f, "{}: {count}", name(*reason))?;
        }
        for (what, table) in [("service", &self.services), ("backend", &self.backends)] {
            for (place, [packets, bytes, new, remembered]) in table {
                writeln!(
                    f,
                    "{what} {place}: {packets} packets, {bytes} bytes, {new} new, {remembered} remembered"
                )?;
            }
        }
        Ok(())
    }
}
