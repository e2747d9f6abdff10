//! Two of ours under attack, and what must not have changed afterwards.
use anyhow::{Context, Result, ensure};
use lb_tests::adverts::{self, Seen};
use lb_tests::capture::Capture;
use lb_tests::cplb::Cplb;
use lb_tests::native::Instance;
use lb_tests::pair;
use lb_tests::standing::{self, Standing};
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use serde_json::Value;
use std::net::IpAddr;
use std::time::{Duration, Instant};

pub(crate) use lb_tests::pair::PATIENCE;
pub(crate) const VRID: u8 = 51;
pub(crate) const PASSWORD: &str = "Example";

/// How the pair speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// With a password, adverts of 1 s.
    V2,
    /// Adverts of 100 ms.
    V3,
    /// The same over IPv6.
    V3Ipv6,
}

impl Wire {
    pub(crate) fn interval(self) -> Duration {
        Duration::from_millis(if self == Self::V2 { 1000 } else { 100 })
    }

    pub(crate) fn is_ipv6(self) -> bool {
        self == Self::V3Ipv6
    }

    pub(crate) fn vip(self) -> IpAddr {
        if self.is_ipv6() {
            IpAddr::from([0xfd00, 0x122, 0, 0, 0, 0, 0, 0x200])
        } else {
            IpAddr::from([192, 168, 122, 200])
        }
    }

    pub(crate) fn instance(self, priority: u8) -> Instance {
        let prefix = format!("{}/{}", self.vip(), if self.is_ipv6() { 64 } else { 24 });
        let mut instance = Instance::new(VRID, &[&prefix]).with_priority(priority);
        instance.interval = self.interval();
        if self == Self::V2 {
            instance.version = 2;
            instance.auth_pass = Some(PASSWORD.into());
        }
        instance
    }
}

/// `c1` holds, `c2` is its backup.
pub(crate) struct Pair<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) wire: Wire,
    pub(crate) holder: Cplb<'lab>,
    pub(crate) backup: Cplb<'lab>,
    before: [Standing; 2],
}

impl<'lab> Pair<'lab> {
    pub(crate) fn start(lab: &'lab Lab, wire: Wire) -> Result<Self> {
        Self::start_with(lab, wire, [wire.instance(200), wire.instance(100)])
    }

    pub(crate) fn start_with(lab: &'lab Lab, wire: Wire, instances: [Instance; 2]) -> Result<Self> {
        let [holder, backup] = pair::start(lab, instances)?;
        let before = [standing::of(holder.node())?, standing::of(backup.node())?];
        Ok(Self {
            lab,
            wire,
            holder,
            backup,
            before,
        })
    }

    pub(crate) fn both(&self) -> [&Cplb<'lab>; 2] {
        [&self.holder, &self.backup]
    }

    pub(crate) fn attacker(&self) -> Result<&'lab Node> {
        self.lab.node("c3")
    }

    /// How many adverts of the holder came in so much time: captured while `meanwhile` is done again and again.
    pub(crate) fn beat(&self, beats: u32, meanwhile: impl FnMut() -> Result<()>) -> Result<Beat> {
        let capture = Capture::start(self.lab.switch(), |frame| frame.vrrp().is_some())?;
        let started = Instant::now();
        let done = repeat_for(self.wire.interval() * beats, meanwhile);
        let length = started.elapsed();
        let frames = capture.finish()?;
        done?;
        let seen = adverts::seen(&frames, adverts::bridge_of(self.lab.switch())?);
        Ok(Beat {
            length,
            interval: self.wire.interval(),
            seen,
        })
    }

    /// Nobody moved, and the address is where it was.
    pub(crate) fn is_unmoved(&self) -> Result<()> {
        for (cplb, before) in self.both().into_iter().zip(&self.before) {
            let now = standing::of(cplb.node())?;
            let history = |s: &Standing| s.roles().iter().map(|r| r.transitions()).collect::<Vec<_>>();
            ensure!(
                history(&now) == history(before),
                "{} moved: {now}",
                cplb.node().name()
            );
        }
        let holders = self.lab.holders(self.wire.vip());
        ensure!(
            matches!(holders[..], [one] if one.name() == "c1"),
            "holders: {}",
            holders.len()
        );
        Ok(())
    }

    /// Both have refused at least so many packets for this reason, and said so in one line that names the sender.
    pub(crate) fn refused(&self, kind: &str, least: u64, sender: IpAddr) -> Result<Value> {
        let mut line = Value::Null;
        for cplb in self.both() {
            let what = format!("{least} packets refused for {kind}");
            standing::wait(cplb, &what, PATIENCE, |s| {
                s.roles().iter().all(|r| r.rejected(kind) >= least)
            })?;
            line = one_line(cplb, kind, sender)?;
        }
        Ok(line)
    }
}

/// The one line in the log that is of this kind and names this sender.
pub(crate) fn one_line(cplb: &Cplb<'_>, kind: &str, sender: IpAddr) -> Result<Value> {
    let sender = sender.to_string();
    let of_kind = |line: &Value| line["kind"] == kind && line["source"] == sender.as_str();
    let found = wait::until("a line in the log", PATIENCE, || {
        let lines: Vec<Value> = standing::lines(&cplb.log()).into_iter().filter(of_kind).collect();
        (!lines.is_empty()).then_some(lines)
    });
    let mut found = found.with_context(|| format!("of {kind} from {sender} in {}", cplb.log()))?;
    ensure!(found.len() == 1, "{} lines: {found:?}", found.len());
    let line = found.remove(0);
    let message = line["message"].as_str().unwrap_or_default();
    ensure!(message.contains(&sender), "it does not name {sender}: {message}");
    Ok(line)
}

/// What the wire heard during an attack.
pub(crate) struct Beat {
    length: Duration,
    interval: Duration,
    pub(crate) seen: Vec<Seen>,
}

impl Beat {
    /// Of the holder.
    pub(crate) fn of(&self, source: IpAddr) -> usize {
        self.seen.iter().filter(|a| a.source == source).count()
    }

    /// As many as fit into the time, give or take one at each end: the beat is neither slower nor faster.
    pub(crate) fn is_kept(&self, source: IpAddr) -> Result<()> {
        let expected = self.length.as_secs_f64() / self.interval.as_secs_f64();
        let found = self.of(source);
        let off = (found as f64 - expected).abs();
        // A processor that is shared gives away a beat now and then, of those that are a tenth of a second long.
        let slack = if self.interval < Duration::from_secs(1) {
            3.0
        } else {
            1.5
        };
        ensure!(off <= slack, "{found} adverts where {expected:.1} were due");
        Ok(())
    }
}

/// Does it again and again; it waits by itself.
pub(crate) fn repeat_for(time: Duration, mut it: impl FnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        it()?;
    }
    Ok(())
}
