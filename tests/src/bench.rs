//! Two nodes of one kind and a client: what the failover bench measures on.
use crate::capture::{Capture, Frame};
use crate::cplb::Cplb;
use crate::daemon::{Daemon, Usage};
use crate::keepalived;
use crate::prober::Prober;
use crate::topology::{Cut, Lab, Node};
use crate::wait;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

const PRIORITIES: [u8; 2] = [200, 150];
/// Longer than the kernel lease; whoever still has the address then keeps it.
const FOREVER: Duration = Duration::from_secs(6);

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Ours.
    Cplb,
    /// Debian's.
    Keepalived,
}

impl Side {
    /// For the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cplb => "cplb",
            Self::Keepalived => "keepalived",
        }
    }
}

/// What happens to the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its cable is cut; it does not notice.
    Cut,
    /// SIGTERM.
    Term,
    /// SIGKILL to the process that was started.
    KillDaemon,
    /// SIGKILL to it and everything that it started; the host lives on.
    KillAll,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cut, Self::Term, Self::KillDaemon, Self::KillAll];

    /// For the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cable cut",
            Self::Term => "SIGTERM",
            Self::KillDaemon => "kill -9 daemon",
            Self::KillAll => "kill -9 all",
        }
    }
}

/// What a fault looked like from outside.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The longest run of unanswered probes.
    pub gap: Duration,
    /// How long both nodes had the address; `None`: still after 6 s, or cut off from each other.
    pub both_held: Option<Duration>,
}

/// Two nodes and a client; the first holds.
pub struct Pair {
    // Dropped before the lab: they borrow from it.
    holder: Running,
    backup: Running,
    lab: Box<Lab>,
    vips: Vec<Ipv4Addr>,
    interval: Duration,
}

enum Running {
    Cplb(Daemon),
    Keepalived(Daemon),
}

impl Running {
    fn daemon(&self) -> &Daemon {
        match self {
            Self::Cplb(d) | Self::Keepalived(d) => d,
        }
    }
}

impl Pair {
    /// Starts both and waits until the first holds all of `count` addresses and the second has heard of it.
    pub fn start(side: Side, interval: Duration, count: u8) -> Result<Self> {
        let lab = Lab::builder()
            .node("n1", &["10.88.0.1/16"])
            .node("n2", &["10.88.0.2/16"])
            .node("client", &["10.88.0.9/16"])
            .build()?;
        let lab = Box::new(lab);
        let vips: Vec<Ipv4Addr> = (1..=count).map(|n| Ipv4Addr::new(10, 88, 1, n)).collect();
        let holder = run(side, lab.node("n1")?, PRIORITIES[0], interval, &vips)?;
        wait::until(
            "the first node to hold every address",
            Duration::from_secs(30),
            || holds_all(&lab, "n1", &vips).then_some(()),
        )
        .with_context(|| holder.daemon().log())?;
        let backup = run(side, lab.node("n2")?, PRIORITIES[1], interval, &vips)?;
        // Three intervals: whoever would take over by mistake has done so.
        sleep(interval * 3 + Duration::from_millis(500));
        Ok(Self {
            holder,
            backup,
            lab,
            vips,
            interval,
        })
    }

    fn strike(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Cut => self.lab.cut("n1", Cut::Silent),
            Fault::Term => self.holder.daemon().signal(Signal::SIGTERM),
            Fault::KillDaemon => self.holder.daemon().signal(Signal::SIGKILL),
            Fault::KillAll => self.holder.daemon().signal_all(Signal::SIGKILL),
        }
    }

    /// The gap of one address.
    pub fn fail(self, fault: Fault) -> Result<Seen> {
        let vip = IpAddr::V4(*self.vips.first().context("no address")?);
        let (n1, n2) = (self.lab.node("n1")?, self.lab.node("n2")?);
        let prober = Prober::start(self.lab.node("client")?, vip, Duration::from_millis(2))?;
        sleep(Duration::from_millis(300));
        self.strike(fault)?;
        wait::until("the second node to hold", Duration::from_secs(10), || {
            n2.holds(vip).then_some(())
        })
        .with_context(|| self.backup.daemon().log())?;
        let taken = Instant::now();
        let both_held = loop {
            if !n1.holds(vip) {
                break Some(taken.elapsed());
            }
            // A node that is cut off cannot know: each part has its holder.
            if taken.elapsed() > FOREVER || fault == Fault::Cut {
                break None;
            }
            sleep(Duration::from_millis(5));
        };
        sleep(
            Duration::from_millis(700)
                .max(self.interval)
                .saturating_sub(taken.elapsed()),
        );
        Ok(Seen {
            gap: prober.finish()?.longest(),
            both_held,
        })
    }

    /// From the fault to the second node's gratuitous ARP for the last of the addresses.
    pub fn last_takeover(self, fault: Fault) -> Result<Duration> {
        let capture = Capture::start(self.lab.node("client")?.netns(), Frame::is_arp)?;
        sleep(Duration::from_millis(200));
        let struck = SystemTime::now();
        self.strike(fault)?;
        wait::until(
            "the second node to hold every address",
            Duration::from_secs(20),
            || holds_all(&self.lab, "n2", &self.vips).then_some(()),
        )?;
        sleep(Duration::from_secs(2));
        let mut first: BTreeMap<Ipv4Addr, SystemTime> = BTreeMap::new();
        for frame in capture.finish()?.iter().filter(|f| f.at >= struck) {
            if let Some((sender, target)) = frame.arp()
                && sender == target
                && self.vips.contains(&sender)
            {
                first.entry(sender).or_insert(frame.at);
            }
        }
        anyhow::ensure!(
            first.len() == self.vips.len(),
            "only {} of {} addresses were announced",
            first.len(),
            self.vips.len()
        );
        let last = first.values().max().context("no announcement")?;
        Ok(last.duration_since(struck).unwrap_or_default())
    }

    /// Memory, and the share of one processor over `window`, of holder and backup.
    pub fn usage(self, window: Duration) -> Result<(Load, Load)> {
        let both = || (self.holder.daemon().usage(), self.backup.daemon().usage());
        sleep(Duration::from_secs(1));
        let before = both();
        sleep(window);
        let after = both();
        Ok((
            Load::over(before.0, after.0, window),
            Load::over(before.1, after.1, window),
        ))
    }
}

/// What one node's processes use.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    resident_kib: u64,
    percent: f64,
}

impl Load {
    fn over(before: Usage, after: Usage, window: Duration) -> Self {
        let spent = after.cpu.saturating_sub(before.cpu);
        Self {
            resident_kib: after.resident_kib,
            percent: 100.0 * spent.as_secs_f64() / window.as_secs_f64(),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} MiB, {:.1} %",
            self.resident_kib as f64 / 1024.0,
            self.percent
        )
    }
}

fn holds_all(lab: &Lab, node: &str, vips: &[Ipv4Addr]) -> bool {
    let Ok(node) = lab.node(node) else { return false };
    let addresses = node.addresses();
    let Some(list) = addresses.get("eth0") else {
        return false;
    };
    vips.iter().all(|v| list.contains(&IpAddr::V4(*v)))
}

fn run(side: Side, node: &Node, priority: u8, interval: Duration, vips: &[Ipv4Addr]) -> Result<Running> {
    match side {
        Side::Cplb => {
            let text = native(priority, interval, vips);
            Ok(Running::Cplb(Cplb::start(node, &text, &[])?.into_daemon()))
        }
        Side::Keepalived => {
            let instances: Vec<_> = (1..=u8::MAX)
                .zip(vips)
                .map(|(vrid, vip)| keepalived::Instance {
                    priority,
                    interval: interval.as_secs_f64(),
                    ..keepalived::Instance::new(vrid, &[&format!("{vip}/16")])
                })
                .collect();
            Ok(Running::Keepalived(keepalived::start(
                node,
                &keepalived::configuration(&instances),
            )?))
        }
    }
}

fn native(priority: u8, interval: Duration, vips: &[Ipv4Addr]) -> String {
    let mut text = String::from(
        "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nmetadata: {name: bench}\nspec:\n  vrrpInstances:\n",
    );
    for (vrid, vip) in (1..=u8::MAX).zip(vips) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "    - {{virtualIPs: [\"{vip}/16\"], interface: eth0, virtualRouterID: {vrid}, version: 3, \
             priority: {priority}, advertInterval: {}ms}}",
            interval.as_millis()
        );
    }
    text
}

/// Median, least and most.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of these, in milliseconds. None at all counts as zero.
    pub fn of(list: &[Duration]) -> Self {
        let mut ms: Vec<f64> = list.iter().map(|d| d.as_secs_f64() * 1000.0).collect();
        ms.sort_by(f64::total_cmp);
        let at = |n: usize| ms.get(n).copied().unwrap_or_default();
        let half = ms.len() / 2;
        let median = if ms.len().is_multiple_of(2) {
            (at(half.saturating_sub(1)) + at(half)) / 2.0
        } else {
            at(half)
        };
        Self {
            median,
            least: at(0),
            most: at(ms.len().saturating_sub(1)),
        }
    }

    /// Ours beside theirs.
    pub fn ratio(&self, other: &Self) -> String {
        if other.median == 0.0 {
            "-".into()
        } else {
            format!("{:.2}", self.median / other.median)
        }
    }

    /// How long both held, where it ended.
    pub fn held(list: &[Option<Duration>]) -> String {
        let ended: Vec<Duration> = list.iter().copied().flatten().collect();
        if ended.len() < list.len() {
            return format!("for ever ({} of {})", list.len() - ended.len(), list.len());
        }
        Self::of(&ended).to_string()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} ({:.0} - {:.0})", self.median, self.least, self.most)
    }
}

/// Rows in columns, as Markdown.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column)).map(String::len);
        cells
            .chain(head.get(column).map(|h| h.len()))
            .max()
            .unwrap_or_default()
    };
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let padded: Vec<String> = cells
            .enumerate()
            .map(|(n, cell)| format!("{cell:<width$}", width = width(n)))
            .collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let mut out = line(&mut head.iter().map(|h| (*h).to_owned()));
    out += &line(&mut (0..head.len()).map(|n| "-".repeat(width(n))));
    for row in rows {
        out += &line(&mut row.iter().cloned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_both_ends() {
        let ms = |n| Duration::from_millis(n);
        assert_eq!(Spread::of(&[ms(5), ms(1), ms(9)]).to_string(), "5 (1 - 9)");
        assert_eq!(Spread::of(&[ms(4), ms(2)]).to_string(), "3 (2 - 4)");
        assert_eq!(Spread::of(&[]).to_string(), "0 (0 - 0)");
        assert_eq!(Spread::of(&[ms(1)]).ratio(&Spread::of(&[ms(2)])), "0.50");
        assert_eq!(Spread::held(&[Some(ms(3)), None]), "for ever (1 of 2)");
    }
}
