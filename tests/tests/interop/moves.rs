//! The ways in which the address moves, or does not.
//!
//! `first` is the side on trial: the one that holds, dies, leaves or comes back.
use super::bout::{Bout, Router, Side};
use super::wire::{PATIENCE, Setting, Wire};
use anyhow::{Context, Result, ensure};
use lb_tests::adverts::{self, Seen};
use lb_tests::topology::Cut;
use lb_tests::wait;
use std::net::IpAddr;

/// A row of the table.
pub(crate) struct Move {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Wire, Side) -> Result<()>,
}

pub(crate) const ALL: [Move; 6] = [
    Move {
        name: "the higher priority is elected",
        run: election,
    },
    Move {
        name: "equal priorities are settled by the address",
        run: tie,
    },
    Move {
        name: "everything of the holder is killed",
        run: kill,
    },
    Move {
        name: "the holder is asked to leave",
        run: leave,
    },
    Move {
        name: "the higher priority preempts",
        run: preempt,
    },
    Move {
        name: "without preempting the holder stays",
        run: nopreempt,
    },
];

const HIGH: Setting = Setting {
    priority: 200,
    preempt: true,
};
const LOW: Setting = Setting {
    priority: 100,
    preempt: true,
};

fn source(bout: &Bout, router: &Router<'_>) -> Result<IpAddr> {
    if bout.wire.is_unicast() {
        router.node().address(bout.wire.is_ipv6())
    } else {
        adverts::source_of(router.node(), bout.wire.is_ipv6())
    }
}

fn election(wire: Wire, first: Side) -> Result<()> {
    let bout = Bout::new(wire)?;
    let holder = bout.start(first, bout.node("c1")?, HIGH)?;
    let backup = bout.start(first.other(), bout.node("c2")?, LOW)?;
    bout.takes(&holder)?;
    bout.backs_up(&backup)?;
    bout.is_sole_holder(&holder)?;
    let theirs = source(&bout, &holder)?;
    backup.says("it follows the holder", |r| {
        r.state() == "Backup" && r.active() == Some((theirs, 200))
    })?;
    let capture = bout.capture()?;
    wait::steady("the holder holds", Router::rest(wire), || {
        holder.node().holds(wire.vip())
    })?;
    let seen = bout.adverts(capture)?;
    ensure!(!seen.is_empty(), "no adverts");
    ensure!(
        seen.iter().all(|a| a.source == theirs && a.priority == 200),
        "others sent: {seen:?}"
    );
    for router in [&holder, &backup] {
        router.says("nothing was refused", |r| {
            r.0["counters"]["rejected"] == serde_json::json!({})
        })?;
    }
    Ok(())
}

/// Both are made holders behind a cut wire; when it is mended, the higher address stays.
fn tie(wire: Wire, first: Side) -> Result<()> {
    let bout = Bout::new(wire)?;
    let [high, low] = bout.by_address()?;
    bout.lab.cut("c2", Cut::Silent)?;
    let equal = Setting {
        priority: 150,
        preempt: true,
    };
    let stays = bout.start(first, high, equal)?;
    let yields = bout.start(first.other(), low, equal)?;
    bout.takes(&stays)?;
    bout.takes(&yields)?;
    bout.lab.mend("c2")?;
    bout.backs_up(&yields)?;
    bout.is_sole_holder(&stays)?;
    let by = source(&bout, &stays)?;
    yields.says("it gave way to the other", |r| {
        r.last_reason().contains("better") && r.active() == Some((by, 150))
    })
}

fn kill(wire: Wire, first: Side) -> Result<()> {
    let bout = Bout::new(wire)?;
    let mut holder = bout.start(first, bout.node("c1")?, HIGH)?;
    bout.takes(&holder)?;
    let backup = bout.start(first.other(), bout.node("c2")?, LOW)?;
    bout.backs_up(&backup)?;
    holder.kill()?;
    bout.takes(&backup)?;
    backup.says("nobody was heard", |r| {
        r.state() == "Active" && r.last_reason().contains("activeDown")
    })?;
    match first {
        // The kernel lease.
        Side::Ours => bout.is_sole_holder(&backup),
        // A killed keepalived leaves the address where it was until somebody logs in.
        Side::Theirs => Ok(()),
    }
}

fn leave(wire: Wire, first: Side) -> Result<()> {
    let bout = Bout::new(wire)?;
    let mut holder = bout.start(first, bout.node("c1")?, HIGH)?;
    bout.takes(&holder)?;
    let backup = bout.start(first.other(), bout.node("c2")?, LOW)?;
    bout.backs_up(&backup)?;
    let from = source(&bout, &holder)?;
    let capture = bout.capture()?;
    holder.terminate()?;
    bout.takes(&backup)?;
    bout.has_let_go(&holder)?;
    bout.is_sole_holder(&backup)?;
    backup.says("the holder said goodbye", |r| {
        r.last_reason().contains("activeLeft")
    })?;
    let seen = bout.adverts(capture)?;
    let goodbye = seen.iter().position(|a| a.source == from && a.priority == 0);
    let goodbye = goodbye.with_context(|| format!("no goodbye: {seen:?}"))?;
    let after = &seen[goodbye..];
    let again = |a: &&Seen| a.source == from && a.priority != 0;
    ensure!(
        !after.iter().any(|a| again(&a)),
        "it went on after its goodbye: {after:?}"
    );
    ensure!(after.iter().any(|a| a.source != from), "no successor: {after:?}");
    Ok(())
}

fn preempt(wire: Wire, first: Side) -> Result<()> {
    let bout = Bout::new(wire)?;
    let low = bout.start(first.other(), bout.node("c2")?, LOW)?;
    bout.is_sole_holder(&low)?;
    let high = bout.start(first, bout.node("c1")?, HIGH)?;
    bout.is_sole_holder(&high)?;
    bout.backs_up(&low)?;
    high.says("it preempted", |r| r.last_reason().contains("preempted"))?;
    let by = source(&bout, &high)?;
    low.says("it gave way", |r| {
        r.last_reason().contains("better") && r.active() == Some((by, 200))
    })
}

fn nopreempt(wire: Wire, first: Side) -> Result<()> {
    let bout = Bout::new(wire)?;
    let mut low = bout.start(first.other(), bout.node("c2")?, LOW)?;
    bout.is_sole_holder(&low)?;
    let high = bout.start(
        first,
        bout.node("c1")?,
        Setting {
            preempt: false,
            ..HIGH
        },
    )?;
    bout.backs_up(&high)?;
    let from = source(&bout, &low)?;
    high.says("it follows the lower one", |r| r.active() == Some((from, 100)))?;
    wait::steady("the lower one stays the holder", wire.interval() * 5, || {
        low.node().holds(wire.vip()) && !high.node().holds(wire.vip())
    })?;
    low.terminate()?;
    bout.takes(&high)?;
    wait::until("the lower one lets go", PATIENCE, || {
        (!low.node().holds(wire.vip())).then_some(())
    })
}
