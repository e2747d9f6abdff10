//! The cable: where the link goes down the holder knows, where packets are lost it cannot.
use super::{PATIENCE, VIP, instance, lets_go};
use anyhow::{Result, ensure};
use lb_tests::pair;
use lb_tests::standing;
use lb_tests::topology::Cut;
use lb_tests::wait;
use std::time::Duration;

#[test]
fn a_holder_whose_link_is_down_gives_up_and_comes_back() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    lab.cut("c1", Cut::Carrier)?;
    standing::wait(&holder, "a fault", PATIENCE, |s| {
        s.roles()
            .iter()
            .all(|r| r.state() == "Initialize" && r.fault() == Some("interfaceDown"))
    })?;
    lets_go(holder.node(), VIP)?;
    standing::wait_state(&backup, "Active", PATIENCE)?;
    pair::settles_on(&lab, VIP, "c2", Duration::from_millis(500))?;
    lab.mend("c1")?;
    let now = standing::wait_state(&holder, "Active", PATIENCE)?;
    ensure!(
        now.roles()[0].fault().is_none() && now.problems().is_empty(),
        "{now}"
    );
    pair::settles_on(&lab, VIP, "c1", Duration::from_secs(1))
}

#[test]
fn both_hold_behind_a_wire_that_swallows_and_one_when_it_is_mended() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, backup] = pair::start(&lab, [instance(200), instance(100)])?;
    lab.cut("c1", Cut::Silent)?;
    standing::wait_state(&backup, "Active", PATIENCE)?;
    wait::until("both believe", PATIENCE, || {
        (lab.holders(VIP).len() == 2).then_some(())
    })?;
    lab.mend("c1")?;
    let end = standing::wait_state(&backup, "Backup", PATIENCE)?;
    ensure!(end.roles()[0].last_reason().contains("better"), "{end}");
    pair::settles_on(&lab, VIP, "c1", Duration::from_secs(1))?;
    let now = standing::of(holder.node())?;
    ensure!(
        now.roles()[0].transitions().len() == 2,
        "the holder did not move: {now}"
    );
    Ok(())
}
