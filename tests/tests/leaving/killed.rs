//! Everything of ours is killed or stopped: what is left is the kernel, which drops the address by itself.
use super::{PATIENCE, VIP, answers, instance, lets_go, parameters, slow};
use anyhow::{Result, ensure};
use lb_tests::cases::side_by_side;
use lb_tests::cplb::{self, Cplb};
use lb_tests::native;
use lb_tests::pair;
use lb_tests::standing;
use lb_tests::topology::Node;
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::thread;
use std::time::{Duration, Instant};

/// The lease of 3 s, and what the kernel rounds up.
const LEASE: Duration = Duration::from_secs(4);

/// At once: none of them gets to do anything for another.
fn kill_everything(cplb: &mut Cplb<'_>) -> Result<Instant> {
    cplb.signal_all(Signal::SIGSTOP)?;
    cplb.signal_all(Signal::SIGKILL)?;
    let at = Instant::now();
    cplb.wait_all(PATIENCE)?;
    Ok(at)
}

/// `cplb cleanup` in the node.
fn clean_up(node: &Node) -> Result<String> {
    let out = cplb::run(node, &["cleanup"])?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(
        out.status.success(),
        "cleanup: {} {}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(text)
}

#[test]
fn the_kernel_drops_the_address_of_a_node_whose_processes_are_all_dead() -> Result<()> {
    let lab = pair::lab()?;
    let before = parameters(lab.node("c1")?)?;
    let [mut holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let killed = kill_everything(&mut holder)?;
    standing::wait_state(&backup, "Active", PATIENCE)?;
    lets_go(holder.node(), VIP)?;
    let took = killed.elapsed();
    ensure!(took <= LEASE, "the address was there for {took:?}");
    pair::settles_on(&lab, VIP, "c2", Duration::from_millis(500))?;

    let node = lab.node("c1")?;
    clean_up(node)?;
    ensure!(parameters(node)? == before, "parameters are not as they were");
    let again = clean_up(node)?;
    ensure!(again.contains("nothing of cplb's"), "{again}");
    let restarted = Cplb::start(node, &native::configuration(&[instance(200)], ""), &[])?;
    pair::settles_on(&lab, VIP, "c1", Duration::from_millis(500))?;
    ensure!(standing::of(restarted.node())?.problems().is_empty());
    Ok(())
}

/// The address of before is still there when the new daemon starts: it is taken away or taken over, and no second
/// holder comes of it.
#[test]
fn a_start_right_after_everything_was_killed_is_fine() -> Result<()> {
    let rows = [200_u8, 50];
    side_by_side(
        2,
        &rows,
        |p| format!("priority {p}"),
        |&priority| {
            let lab = pair::lab()?;
            let [mut holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
            kill_everything(&mut holder)?;
            ensure!(holder.node().holds(VIP), "the lease is still running");
            let restarted = Cplb::start(
                holder.node(),
                &native::configuration(&[instance(priority)], ""),
                &[],
            )?;
            answers(restarted.node())?;
            let name = if priority == 200 { "c1" } else { "c2" };
            pair::settles_on(&lab, VIP, name, Duration::from_secs(1))?;
            for cplb in [&restarted, &backup] {
                let now = standing::of(cplb.node())?;
                ensure!(now.problems().is_empty(), "{now}");
            }
            Ok(())
        },
    )
}

/// The new daemon waits for the guardian of the old one, and neither spoils what the other does.
#[test]
fn a_start_right_after_the_daemon_was_killed_waits_for_the_guardian() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [slow(200), slow(100)])?;
    holder.signal(Signal::SIGKILL)?;
    let restarted = Cplb::start(holder.node(), &native::configuration(&[slow(200)], ""), &[])?;
    let waited = |log: &str| log.contains("waiting for the cplb before this one");
    wait::until("it waits", PATIENCE, || waited(&restarted.log()).then_some(()))?;
    wait::until("c2 is the holder meanwhile", PATIENCE, || {
        backup.node().holds(VIP).then_some(())
    })?;
    standing::wait_state(&restarted, "Active", PATIENCE)?;
    pair::settles_on(&lab, VIP, "c1", Duration::from_secs(2))?;
    drop(holder);
    Ok(())
}

/// A second daemon is refused while the first one lives, and so is a cleanup.
#[test]
fn a_living_daemon_is_not_cleaned_up() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, _backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let out = cplb::run(holder.node(), &["cleanup"])?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(
        !out.status.success() && said.contains(&format!("process {}", holder.pid())),
        "{said}"
    );
    pair::settles_on(&lab, VIP, "c1", Duration::from_millis(500))
}

/// What is stopped, and for how long, must not be a second holder when it goes on: it listens first.
#[test]
fn a_node_that_was_stopped_listens_before_it_claims() -> Result<()> {
    let rows = [("all of it", true), ("the daemon alone", false)];
    side_by_side(
        2,
        &rows,
        |r| r.0.to_owned(),
        |&(_, all)| {
            let lab = pair::lab()?;
            let mut first = instance(200);
            first.preempt = false;
            let [holder, backup] = pair::start(&lab, [first, instance(100)])?;
            let stopped = Instant::now();
            if all {
                holder.signal_all(Signal::SIGSTOP)?;
            } else {
                holder.signal(Signal::SIGSTOP)?;
            }
            standing::wait_state(&backup, "Active", PATIENCE)?;
            lets_go(holder.node(), VIP)?;
            ensure!(
                stopped.elapsed() <= LEASE,
                "the address was there for {:?}",
                stopped.elapsed()
            );
            thread::sleep(Duration::from_secs(6).saturating_sub(stopped.elapsed()));
            holder.signal_all(Signal::SIGCONT)?;
            // It does not preempt, so from here on nothing moves at all.
            wait::steady(
                "c2 alone holds",
                Duration::from_secs(2),
                || matches!(lab.holders(VIP)[..], [one] if one.name() == "c2"),
            )?;
            let now = standing::wait_state(&holder, "Backup", PATIENCE)?;
            ensure!(now.roles()[0].last_reason().contains("overslept"), "{now}");
            // And it is as good as before.
            backup.signal(Signal::SIGTERM)?;
            pair::settles_on(&lab, VIP, "c1", Duration::from_millis(500))
        },
    )
}

/// The same where it does preempt: first it has heard the other, then it takes over, and in the end there is one.
#[test]
fn a_preempting_node_that_was_stopped_takes_over_by_election() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    holder.signal_all(Signal::SIGSTOP)?;
    standing::wait_state(&backup, "Active", PATIENCE)?;
    lets_go(holder.node(), VIP)?;
    thread::sleep(Duration::from_secs(2));
    holder.signal_all(Signal::SIGCONT)?;
    let now = standing::wait(&holder, "it preempts", PATIENCE, |s| {
        s.roles()
            .iter()
            .all(|r| r.state() == "Active" && r.last_reason().contains("preempted"))
    })?;
    let history = now.roles()[0].transitions();
    ensure!(
        history.iter().any(|t| t == "Active>Backup: \"overslept\""),
        "{history:?}"
    );
    pair::settles_on(&lab, VIP, "c1", Duration::from_secs(1))
}

/// A pause shorter than what others wait for is nobody's affair.
#[test]
fn a_short_pause_changes_nothing() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [slow(200), slow(100)])?;
    let history =
        |cplb: &Cplb<'_>| -> Result<Vec<String>> { Ok(standing::of(cplb.node())?.roles()[0].transitions()) };
    let before = [history(&holder)?, history(&backup)?];
    holder.signal_all(Signal::SIGSTOP)?;
    thread::sleep(Duration::from_millis(800));
    holder.signal_all(Signal::SIGCONT)?;
    pair::settles_on(&lab, VIP, "c1", Duration::from_secs(4))?;
    ensure!([history(&holder)?, history(&backup)?] == before, "somebody moved");
    Ok(())
}
