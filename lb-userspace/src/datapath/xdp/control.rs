//! The control program's caller: side, lease, units of time. See `lb_common::abi::control`.
use super::object::{Object, ObjectError};
use lb_common::abi::control::{Command, MAGIC, Report, SET_ACTIVE, SET_LEASE, SET_UNITS, stamp_shift};
use std::time::Duration;

/// 64-bit words of a [`Command`] with its [`Report`].
const WORDS: usize = size_of::<Command>() / 8;
const REPORT: usize = WORDS - size_of::<Report>() / 8;
/// What a jiffy is known after: long enough that 250 and 300 a second are told apart.
const CALIBRATION: Duration = Duration::from_millis(80);
const FEWEST: u64 = 10;
/// The rates that kernels are built with (`CONFIG_HZ`).
const RATES: [u64; 4] = [100, 250, 300, 1000];

/// So many flows are put into the table each second by all processors together. The table has 131,072 places, and a flow
/// that was seen twice is never pushed out by one that was not, so the bound is about the cost: above it a flow has its
/// ring's backend all the same.
const INSERTS: u64 = 100_000;
/// A processor may take at least so many, since a network card may give it everything.
const FEWEST_INSERTS: u64 = 20_000;

/// What a jiffy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    hz: u64,
}

impl Clock {
    /// Watches the kernel's jiffies for a tenth of a second.
    pub(super) async fn calibrate(object: &Object) -> Result<Self, ObjectError> {
        let first = run(object, Command::default())?;
        loop {
            tokio::time::sleep(CALIBRATION).await;
            let now = run(object, Command::default())?;
            let jiffies = now.jiffies.wrapping_sub(first.jiffies);
            let nanoseconds = now.nanoseconds.saturating_sub(first.nanoseconds);
            if let Some(hz) = rate(jiffies, nanoseconds) {
                return Ok(Self { hz });
            }
        }
    }

    /// Tells the program its unit of time and how many flows it may note.
    pub(super) fn set_units(self, object: &Object, processors: u64) -> Result<(), ObjectError> {
        let shift = stamp_shift(self.hz);
        let each = (INSERTS / processors.max(1)).max(FEWEST_INSERTS);
        let inserts = each * (1 << shift) / self.hz / 64;
        let command = Command {
            set: SET_UNITS,
            stamp_shift: shift,
            inserts: inserts.max(1),
            ..Command::default()
        };
        run(object, command).map(drop)
    }

    /// Lets it direct for so long from now; zero ends it at once.
    pub(super) fn lease(self, object: &Object, lease: Duration) -> Result<(), ObjectError> {
        let jiffies = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX / 2000) * self.hz / 1000;
        let command = Command {
            set: SET_LEASE,
            lease_jiffies: jiffies,
            ..Command::default()
        };
        run(object, command).map(drop)
    }

    /// How long a unit of a stamp is.
    pub(super) fn unit(self) -> Duration {
        Duration::from_millis((1 << stamp_shift(self.hz)) * 1000 / self.hz)
    }
}

/// Puts a side in force.
pub(super) fn activate(object: &Object, side: u32) -> Result<(), ObjectError> {
    let command = Command {
        set: SET_ACTIVE,
        active: u64::from(side),
        ..Command::default()
    };
    run(object, command).map(drop)
}

fn run(object: &Object, command: Command) -> Result<Report, ObjectError> {
    let mut packet = to_bytes(&Command {
        magic: MAGIC,
        ..command
    });
    object.run_control(&mut packet)?;
    let report = report(&packet);
    if report.done == 1 {
        Ok(report)
    } else {
        Err(ObjectError::Lacks(
            "control program that understands this binary's commands",
        ))
    }
}

fn to_bytes(command: &Command) -> [u8; WORDS * 8] {
    let words: [u64; WORDS] = [
        command.magic,
        command.set,
        command.active,
        command.lease_jiffies,
        command.stamp_shift,
        command.inserts,
        command.report.jiffies,
        command.report.nanoseconds,
        command.report.done,
    ];
    let mut bytes = [0; WORDS * 8];
    for (to, from) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    bytes
}

fn report(packet: &[u8; WORDS * 8]) -> Report {
    let word = |n: usize| {
        let bytes = packet.get(n * 8..n * 8 + 8).and_then(|b| b.try_into().ok());
        u64::from_ne_bytes(bytes.unwrap_or_default())
    };
    Report {
        jiffies: word(REPORT),
        nanoseconds: word(REPORT + 1),
        done: word(REPORT + 2),
    }
}

/// Jiffies a second: a rate that kernels are built with if one is near, else what was measured. `None`: too short a look.
fn rate(jiffies: u64, nanoseconds: u64) -> Option<u64> {
    let long_enough = u128::from(nanoseconds) >= CALIBRATION.as_nanos();
    if jiffies < FEWEST || !long_enough {
        return None;
    }
    let tenths = u64::try_from(u128::from(jiffies) * 10_000_000_000 / u128::from(nanoseconds)).ok()?;
    let near = RATES
        .iter()
        .copied()
        .min_by_key(|rate| (rate * 10).abs_diff(tenths) * 1000 / rate)?;
    let far = (near * 10).abs_diff(tenths) * 100 > near * 10 * 15;
    Some(if far { (tenths / 10).max(1) } else { near })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_recognised_where_a_jiffy_more_or_less_was_counted() {
        for hz in RATES {
            for milliseconds in [100, 137, 250, 1000] {
                let exact = hz * milliseconds / 1000;
                for counted in [exact - 1, exact, exact + 1] {
                    let found = rate(counted, milliseconds * 1_000_000);
                    assert!(
                        found == Some(hz) || (found.is_none() && counted < FEWEST),
                        "{hz} a second, {counted} in {milliseconds} ms: {found:?}"
                    );
                }
            }
        }
        assert_eq!(
            rate(1024, 1_000_000_000),
            Some(1000),
            "within 15 %: taken for its neighbour"
        );
        assert_eq!(rate(48, 2_000_000_000), Some(24), "no rate that is usual");
        assert_eq!(rate(9, 1_000_000_000), None);
        assert_eq!(rate(100, 1_000_000), None);
    }

    #[test]
    fn a_command_is_its_fields_in_their_order() {
        let command = Command {
            magic: 1,
            set: 2,
            active: 3,
            lease_jiffies: 4,
            stamp_shift: 5,
            inserts: 6,
            report: Report {
                jiffies: 7,
                nanoseconds: 8,
                done: 9,
            },
        };
        let bytes = to_bytes(&command);
        assert_eq!(report(&bytes), command.report);
        assert_eq!(bytes[8], 2);
        assert_eq!(bytes.len(), size_of::<Command>());
    }
}
