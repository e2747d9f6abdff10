//! Leaving that no client notices: SIGTERM, and the death of the daemon alone, in whose place the guardian leaves.
use super::{PATIENCE, VIP, answers, instance, lets_go, parameters, slow};
use anyhow::{Result, ensure};
use lb_tests::cases::side_by_side;
use lb_tests::native::Instance;
use lb_tests::pair;
use lb_tests::prober::Prober;
use lb_tests::standing;
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::thread;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(2);

/// A way to speak.
type Wire = (&'static str, fn(u8) -> Instance);

const WIRES: [Wire; 4] = [
    ("version 2, 1 s", slow),
    ("version 3, 100 ms", instance),
    ("version 3, 10 ms", |priority| {
        let mut instance = instance(priority);
        instance.interval = Duration::from_millis(10);
        instance
    }),
    ("version 3 over IPv6, 100 ms", |priority| {
        Instance::new(51, &["fd00:122::200/64"]).with_priority(priority)
    }),
];

/// Nobody who asks every 2 ms misses an answer because the holder changes.
fn nobody_notices(wire: &Wire, signal: Signal) -> Result<()> {
    let lab = pair::lab()?;
    let vip = pair::vip_of(&wire.1(200))?;
    let before = parameters(lab.node("c1")?)?;
    let [mut holder, backup] = pair::start(&lab, [wire.1(200), wire.1(100)])?;
    let prober = Prober::start(lab.node("client")?, vip, TICK)?;
    thread::sleep(Duration::from_millis(300));
    holder.signal(signal)?;
    wait::until("c2 takes over", PATIENCE, || {
        backup.node().holds(vip).then_some(())
    })?;
    lets_go(holder.node(), vip)?;
    thread::sleep(Duration::from_millis(500));
    let report = prober.finish()?;
    ensure!(
        report.lost() == 0,
        "{} of {} probes lost: {:?}\n{}\n{}",
        report.lost(),
        report.probes.len(),
        report.gaps(),
        holder.log(),
        backup.log()
    );
    holder.wait_all(PATIENCE)?;
    if signal == Signal::SIGTERM {
        ensure!(holder.wait(PATIENCE)?.success(), "{}", holder.log());
    }
    standing::wait(&backup, "the holder said goodbye", PATIENCE, |s| {
        s.roles()
            .iter()
            .all(|r| r.state() == "Active" && r.last_reason().contains("activeLeft"))
    })?;
    ensure!(
        parameters(lab.node("c1")?)? == before,
        "parameters are not as they were"
    );
    Ok(())
}

#[test]
fn a_holder_that_is_asked_to_leave_is_not_missed() -> Result<()> {
    side_by_side(
        2,
        &WIRES,
        |w| w.0.to_owned(),
        |w| nobody_notices(w, Signal::SIGTERM),
    )
}

#[test]
fn a_daemon_that_is_killed_is_not_missed() -> Result<()> {
    side_by_side(
        2,
        &WIRES,
        |w| w.0.to_owned(),
        |w| nobody_notices(w, Signal::SIGKILL),
    )
}

/// A panic ends in SIGABRT; SIGILL stands for what the processor finds.
#[test]
fn a_daemon_that_breaks_is_not_missed() -> Result<()> {
    let rows = [Signal::SIGABRT, Signal::SIGILL];
    side_by_side(2, &rows, ToString::to_string, |s| nobody_notices(&WIRES[1], *s))
}

/// The guardian is replaced when it is gone, and the new one does its work.
#[test]
fn a_killed_guardian_is_replaced_and_the_new_one_guards() -> Result<()> {
    let lab = pair::lab()?;
    let [mut holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let first = answers(holder.node())?.guardian();
    let first = first.ok_or_else(|| anyhow::anyhow!("no guardian"))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), Signal::SIGKILL)?;
    standing::wait(&holder, "another guardian", PATIENCE, |s| {
        s.guardian().is_some_and(|pid| pid != first)
    })?;
    pair::settles_on(&lab, VIP, "c1", Duration::from_millis(500))?;
    let prober = Prober::start(lab.node("client")?, VIP, TICK)?;
    thread::sleep(Duration::from_millis(200));
    holder.signal(Signal::SIGKILL)?;
    pair::settles_on(&lab, VIP, "c2", Duration::from_millis(500))?;
    let report = prober.finish()?;
    ensure!(report.lost() == 0, "{:?}", report.gaps());
    holder.wait_all(PATIENCE)?;
    drop(backup);
    Ok(())
}

/// systemd's stop reaches daemon and guardian alike, and an operator presses Ctrl-C twice.
#[test]
fn a_signal_to_both_or_twice_leaves_as_well() -> Result<()> {
    let lab = pair::lab()?;
    let [mut holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let prober = Prober::start(lab.node("client")?, VIP, TICK)?;
    thread::sleep(Duration::from_millis(200));
    holder.signal_all(Signal::SIGTERM)?;
    pair::settles_on(&lab, VIP, "c2", Duration::from_millis(500))?;
    let report = prober.finish()?;
    ensure!(report.lost() == 0, "{:?}\n{}", report.gaps(), holder.log());
    ensure!(holder.wait(PATIENCE)?.success());
    holder.wait_all(PATIENCE)?;
    // The last one has no successor to wait for, and is asked twice.
    let mut last = backup;
    last.signal(Signal::SIGTERM)?;
    thread::sleep(Duration::from_millis(20));
    last.signal(Signal::SIGTERM)?;
    let status = last.wait(PATIENCE)?;
    ensure!(status.success(), "{status}: {}", last.log());
    ensure!(lab.holders(VIP).is_empty(), "the address is still held");
    last.wait_all(PATIENCE)
}

/// Without a successor it goes all the same, and a daemon that is killed on its way out is finished for.
#[test]
fn a_daemon_that_is_killed_while_it_leaves_is_finished_for() -> Result<()> {
    let lab = pair::lab()?;
    let before = parameters(lab.node("c1")?)?;
    let file = lb_tests::native::configuration(&[slow(200)], "");
    let mut alone = lb_tests::cplb::Cplb::start(lab.node("c1")?, &file, &[])?;
    pair::settles_on(&lab, VIP, "c1", Duration::ZERO)?;
    alone.signal(Signal::SIGTERM)?;
    standing::wait_state(&alone, "Leaving", PATIENCE)?;
    alone.signal(Signal::SIGKILL)?;
    lets_go(alone.node(), VIP)?;
    alone.wait_all(PATIENCE)?;
    ensure!(
        parameters(alone.node())? == before,
        "parameters are not as they were"
    );
    Ok(())
}
