//! Files that are taken: what they change, and that they change nothing else.
use super::{ADDED, PATIENCE, VIP, file, instance, longer, reload};
use anyhow::{Result, ensure};
use lb_tests::cases::side_by_side;
use lb_tests::cplb::Cplb;
use lb_tests::native::Instance;
use lb_tests::pair;
use lb_tests::prober::Prober;
use lb_tests::standing::{self, Standing};
use lb_tests::topology::Lab;
use lb_tests::wait;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(700);

fn accepted(now: &Standing) -> Result<()> {
    ensure!(now.reload_error().is_none(), "refused: {now}");
    Ok(())
}

/// Exactly one holder, which has to be that one, of an address.
fn sole(lab: &Lab, vip: IpAddr, name: &str) -> Result<()> {
    pair::settles_on(lab, vip, name, MOMENT)
}

fn moves(cplb: &Cplb<'_>) -> Result<usize> {
    Ok(standing::of(cplb.node())?
        .roles()
        .iter()
        .map(|r| r.transitions().len())
        .sum())
}

/// Node by node, whichever is first: the one holder holds both, and nobody else becomes one. And back.
#[test]
fn an_address_is_added_and_removed_node_by_node() -> Result<()> {
    let rows = [["c1", "c2"], ["c2", "c1"]];
    side_by_side(
        2,
        &rows,
        |order| format!("{order:?}"),
        |order| {
            let lab = pair::lab()?;
            let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
            let before = moves(&holder)? + moves(&backup)?;
            let prober = Prober::start(lab.node("client")?, VIP, Duration::from_millis(5))?;
            for with in [true, false] {
                for name in order {
                    let (cplb, priority) = if *name == "c1" {
                        (&holder, 200)
                    } else {
                        (&backup, 100)
                    };
                    let text = file(&[if with {
                        longer(priority)
                    } else {
                        instance(priority)
                    }]);
                    accepted(&reload(cplb, &text)?)?;
                    sole(&lab, VIP, "c1")?;
                }
                if with {
                    sole(&lab, ADDED, "c1")?;
                } else {
                    wait::until("the address is gone", PATIENCE, || {
                        lab.holders(ADDED).is_empty().then_some(())
                    })?;
                }
            }
            let report = prober.finish()?;
            ensure!(report.lost() == 0, "{:?}", report.gaps());
            ensure!(moves(&holder)? + moves(&backup)? == before, "somebody moved");
            Ok(())
        },
    )
}

#[test]
fn a_new_priority_decides_at_once() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    accepted(&reload(&backup, &file(&[instance(250)]))?)?;
    sole(&lab, VIP, "c2")?;
    accepted(&reload(&backup, &file(&[instance(50)]))?)?;
    sole(&lab, VIP, "c1")?;
    drop(holder);
    Ok(())
}

#[test]
fn a_new_interval_moves_nobody() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let before = moves(&holder)? + moves(&backup)?;
    // Slower and faster, and the backup later than the holder: it adopts what it hears.
    for milliseconds in [500, 50] {
        for (cplb, priority) in [(&holder, 200), (&backup, 100)] {
            let mut other = instance(priority);
            other.interval = Duration::from_millis(milliseconds);
            accepted(&reload(cplb, &file(&[other]))?)?;
            pair::settles_on(&lab, VIP, "c1", Duration::from_secs(2))?;
        }
    }
    ensure!(moves(&holder)? + moves(&backup)? == before, "somebody moved");
    Ok(())
}

#[test]
fn an_instance_is_added_and_removed_beside_another() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let beside = |priority| Instance::new(52, &["192.168.122.201/24"]).with_priority(priority);
    // The second one is the other node's: both are busy.
    accepted(&reload(&holder, &file(&[beside(100), instance(200)]))?)?;
    sole(&lab, ADDED, "c1")?;
    accepted(&reload(&backup, &file(&[instance(100), beside(200)]))?)?;
    sole(&lab, ADDED, "c2")?;
    sole(&lab, VIP, "c1")?;
    accepted(&reload(&backup, &file(&[instance(100)]))?)?;
    sole(&lab, ADDED, "c1")?;
    accepted(&reload(&holder, &file(&[instance(200)]))?)?;
    wait::until("the address is gone", PATIENCE, || {
        lab.holders(ADDED).is_empty().then_some(())
    })?;
    sole(&lab, VIP, "c1")?;
    for cplb in [&holder, &backup] {
        let what = "one instance is left";
        let now = standing::wait(cplb, what, PATIENCE, |s| s.roles().len() == 1)?;
        ensure!(now.problems().is_empty(), "{now}");
    }
    Ok(())
}

/// Another number is another virtual router: until the other node has it too there are two, and then one again. The
/// address of the node that changed first is held all the time.
#[test]
fn a_new_number_ends_with_one_holder() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let renumbered = |priority| Instance::new(60, &["192.168.122.200/24"]).with_priority(priority);
    accepted(&reload(&holder, &file(&[renumbered(200)]))?)?;
    accepted(&reload(&backup, &file(&[renumbered(100)]))?)?;
    standing::wait(&backup, "the new number alone", PATIENCE, |s| {
        s.roles().len() == 1 && s.is_all("Backup") && s.roles()[0].0["vrid"] == 60
    })?;
    sole(&lab, VIP, "c1")?;
    let now = standing::wait(&holder, "the new number alone", PATIENCE, |s| {
        s.roles().len() == 1
    })?;
    ensure!(now.problems().is_empty() && now.is_all("Active"), "{now}");
    Ok(())
}

/// An editor renames, a ConfigMap swaps a link, and nobody sends a signal.
#[test]
fn a_changed_file_is_noticed_without_a_signal() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, _backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let path = holder.config();
    let other = path.with_extension("new");
    let read = |what: &str, with: bool| {
        standing::wait(&holder, what, PATIENCE, |s| {
            s.reload_at().is_some()
                && s.roles()
                    .iter()
                    .all(|r| r.0["virtualIps"].as_array().map(Vec::len) == Some(if with { 2 } else { 1 }))
        })
    };
    fs::write(path, file(&[longer(200)]))?;
    accepted(&read("written in place", true)?)?;
    fs::write(&other, file(&[instance(200)]))?;
    fs::rename(&other, path)?;
    accepted(&read("renamed", false)?)?;
    fs::write(&other, file(&[longer(200)]))?;
    let link = path.with_extension("link");
    std::os::unix::fs::symlink(&other, &link)?;
    fs::rename(&link, path)?;
    accepted(&read("a link that was swapped", true)?)?;
    // And a bad one is as bad as with a signal.
    fs::write(&other, "spec: [}\n")?;
    let refused = standing::wait(&holder, "it is refused", PATIENCE, |s| s.reload_error().is_some())?;
    ensure!(refused.is_all("Active"), "{refused}");
    sole(&lab, ADDED, "c1")
}

/// `enabled: false` lets go of everything, as `true` takes it up again.
#[test]
fn a_file_that_is_switched_off_lets_go() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, _backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let on = file(&[instance(200)]);
    accepted(&reload(
        &holder,
        &on.replace("spec:\n", "spec:\n  enabled: false\n"),
    )?)?;
    sole(&lab, VIP, "c2")?;
    accepted(&reload(&holder, &on)?)?;
    sole(&lab, VIP, "c1")
}
