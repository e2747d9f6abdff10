//! Two routers on one wire: one of ours and one keepalived.
use super::wire::{PATIENCE, Setting, Wire};
use anyhow::{Context, Result, ensure};
use lb_tests::adverts::{self, Seen};
use lb_tests::capture::Capture;
use lb_tests::cplb::Cplb;
use lb_tests::daemon::Daemon;
use lb_tests::ready::Ready;
use lb_tests::standing::{self, Role};
use lb_tests::topology::{Lab, Node, names};
use lb_tests::{keepalived, wait};
use nix::sys::signal::Signal;
use std::time::Duration;

/// Who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Theirs,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Ours => Self::Theirs,
            Self::Theirs => Self::Ours,
        }
    }
}

/// A running router.
pub(crate) enum Router<'lab> {
    Ours(Cplb<'lab>),
    Theirs(Daemon, &'lab Node),
}

/// The lab of two nodes, and how they speak. `c1` has the lower IPv4 address.
pub(crate) struct Bout {
    pub(crate) lab: Lab,
    pub(crate) wire: Wire,
}

impl Bout {
    pub(crate) fn new(wire: Wire) -> Result<Self> {
        let lab = Lab::builder()
            .node("c1", &["192.168.122.37/24", "fd00:122::37/64"])
            .node("c2", &["192.168.122.185/24", "fd00:122::185/64"])
            .build()?;
        for node in lab.nodes() {
            node.wait_for_addresses(PATIENCE)?;
        }
        Ok(Self { lab, wire })
    }

    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        self.lab.node(name)
    }

    /// The two nodes, the one whose adverts come from the higher address first.
    pub(crate) fn by_address(&self) -> Result<[&Node; 2]> {
        let [a, b] = [self.node("c1")?, self.node("c2")?];
        let source = |node| {
            if self.wire.is_unicast() {
                Node::address(node, self.wire.is_ipv6())
            } else {
                adverts::source_of(node, self.wire.is_ipv6())
            }
        };
        Ok(if source(a)? > source(b)? { [a, b] } else { [b, a] })
    }

    pub(crate) fn start<'lab>(
        &'lab self,
        side: Side,
        node: &'lab Node,
        setting: Setting,
    ) -> Result<Router<'lab>> {
        Ok(match side {
            Side::Ours => Router::Ours(Cplb::start(
                node,
                &self.wire.ours(&self.lab, node, setting)?,
                &[],
            )?),
            Side::Theirs => {
                let text = self.wire.theirs(&self.lab, node, setting)?;
                Router::Theirs(keepalived::start(node, &text)?, node)
            }
        })
    }

    /// Waits until this one has the address, whatever others have.
    pub(crate) fn takes(&self, router: &Router<'_>) -> Result<()> {
        let what = format!("{} takes the address", router.describe());
        let found = wait::until(&what, PATIENCE, || {
            router.node().holds(self.wire.vip()).then_some(())
        });
        found.with_context(|| router.log_tail())
    }

    /// Waits until this one has the address and nobody else, and checks that it stays so.
    pub(crate) fn is_sole_holder(&self, router: &Router<'_>) -> Result<()> {
        let alone = || {
            let holders = self.lab.holders(self.wire.vip());
            matches!(holders[..], [one] if one.name() == router.node().name())
        };
        let what = format!("{} is the only holder", router.describe());
        let settled = wait::until(&what, PATIENCE, || alone().then_some(()));
        let stays = settled.and_then(|()| {
            // Past what a backup would wait for.
            wait::steady(&what, self.wire.interval() * 4, alone)
        });
        stays.with_context(|| {
            let holders = self.lab.holders(self.wire.vip());
            format!("holders now: {:?}\n{}", names(&holders), router.log_tail())
        })
    }

    /// Waits until this one knows that it is a backup.
    pub(crate) fn backs_up(&self, router: &Router<'_>) -> Result<()> {
        let what = format!("{} is a backup", router.describe());
        wait::until(&what, PATIENCE, || router.is_backup().then_some(())).with_context(|| router.log_tail())
    }

    /// Waits until the address is not on this one's node.
    pub(crate) fn has_let_go(&self, router: &Router<'_>) -> Result<()> {
        let what = format!("{} has let the address go", router.describe());
        let gone = wait::until(&what, PATIENCE, || {
            (!router.node().holds(self.wire.vip())).then_some(())
        });
        gone.with_context(|| router.log_tail())
    }

    pub(crate) fn capture(&self) -> Result<Capture> {
        Capture::start(self.lab.switch(), |frame| frame.vrrp().is_some())
    }

    /// The adverts of a capture in order.
    pub(crate) fn adverts(&self, capture: Capture) -> Result<Vec<Seen>> {
        Ok(adverts::seen(
            &capture.finish()?,
            adverts::bridge_of(self.lab.switch())?,
        ))
    }
}

impl Router<'_> {
    pub(crate) fn node(&self) -> &Node {
        match self {
            Self::Ours(cplb) => cplb.node(),
            Self::Theirs(_, node) => node,
        }
    }

    fn daemon(&mut self) -> &mut Daemon {
        match self {
            Self::Ours(cplb) => cplb,
            Self::Theirs(daemon, _) => daemon,
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Ours(cplb) => cplb.log(),
            Self::Theirs(daemon, _) => daemon.log(),
        }
    }

    pub(crate) fn describe(&self) -> String {
        let who = match self {
            Self::Ours(_) => "cplb",
            Self::Theirs(..) => "keepalived",
        };
        format!("{who} on {}", self.node().name())
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        let lines: Vec<&str> = tail.into_iter().rev().collect();
        format!("log of {}:\n{}", self.describe(), lines.join("\n"))
    }

    /// As its own words have it.
    pub(crate) fn is_backup(&self) -> bool {
        match self {
            Self::Ours(cplb) => standing::of(cplb.node()).is_ok_and(|s| s.is_all("Backup")),
            Self::Theirs(daemon, _) => {
                let log = daemon.log();
                let last = log.lines().rfind(|line| line.contains("Entering "));
                last.is_some_and(|line| line.contains("Entering BACKUP STATE"))
            }
        }
    }

    /// What our own status must say, where it is ours.
    pub(crate) fn says(&self, what: &str, fits: impl Fn(Role<'_>) -> bool) -> Result<()> {
        let Self::Ours(cplb) = self else { return Ok(()) };
        standing::wait(cplb, what, PATIENCE, |s| {
            s.roles().first().is_some_and(|&r| fits(r))
        })
        .map(drop)
    }

    /// Ends all of it at once: the host is dead, or as good as.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let daemon = self.daemon();
        // Else one of them could say goodbye for the one that was killed before it.
        daemon.signal_all(Signal::SIGSTOP)?;
        daemon.signal_all(Signal::SIGKILL)?;
        daemon.wait_all(PATIENCE)
    }

    /// Asks it to leave and waits for the end.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        self.daemon().signal(Signal::SIGTERM)?;
        let status = self.daemon().wait(PATIENCE)?;
        ensure!(
            status.success(),
            "{} ended with {status}\n{}",
            self.describe(),
            self.log_tail()
        );
        Ok(())
    }

    /// Long enough for a few adverts.
    pub(crate) fn rest(wire: Wire) -> Duration {
        wire.interval() * 4
    }
}
