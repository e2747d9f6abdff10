//! Sync groups: two instances on two wires that are held by one node together, or by none.
use super::host::two_wires;
use super::{PATIENCE, VIP, instance};
use anyhow::{Result, ensure};
use lb_tests::cplb::Cplb;
use lb_tests::native::{self, Instance};
use lb_tests::pair;
use lb_tests::standing;
use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(700);

fn grouped(priority: u8) -> String {
    let mut second = Instance::new(60, &["10.20.0.200/16"]).with_priority(priority);
    second.interface = "eth1".into();
    native::configuration(
        &[instance(priority), second],
        &native::sync_group(&["VI_51", "VI_60"]),
    )
}

fn second_vip() -> IpAddr {
    IpAddr::from([10, 20, 0, 200])
}

#[test]
fn both_move_together() -> Result<()> {
    let lab = two_wires()?;
    let holder = Cplb::start(lab.node("c1")?, &grouped(200), &[])?;
    standing::wait(&holder, "both are held", PATIENCE, |s| s.is_all("Active"))?;
    let mut backup = Cplb::start(lab.node("c2")?, &grouped(100), &[])?;
    let both_on = |name: &str| -> Result<()> {
        pair::settles_on(&lab, VIP, name, MOMENT)?;
        pair::settles_on(&lab, second_vip(), name, MOMENT)
    };
    both_on("c1")?;
    // Either wire takes the other along, there and back.
    for interface in ["eth1", "eth0"] {
        holder
            .node()
            .netns()
            .ip(&format!("link set {interface} down\n"))?;
        both_on("c2")?;
        let now = standing::of(holder.node())?;
        let faults: Vec<_> = now.roles().iter().map(|r| r.fault()).collect();
        ensure!(
            faults.contains(&Some("interfaceDown")) && faults.contains(&Some("syncGroup")),
            "{now}"
        );
        holder.node().netns().ip(&format!("link set {interface} up\n"))?;
        both_on("c1")?;
    }
    // And they leave together.
    standing::wait(&backup, "it backs both up", PATIENCE, |s| s.is_all("Backup"))?;
    holder.signal(Signal::SIGTERM)?;
    both_on("c2")?;
    backup.signal(Signal::SIGTERM)?;
    ensure!(backup.wait(PATIENCE)?.success(), "{}", backup.log());
    ensure!(
        lab.holders(VIP).is_empty() && lab.holders(second_vip()).is_empty(),
        "something is still held"
    );
    Ok(())
}

/// keepalived lets the whole group fall when a member is added (its issue 2715).
#[test]
fn a_member_is_added_and_removed_without_moving_the_group() -> Result<()> {
    let lab = two_wires()?;
    let alone = |priority| native::configuration(&[instance(priority)], "");
    let holder = Cplb::start(lab.node("c1")?, &alone(200), &[])?;
    let backup = Cplb::start(lab.node("c2")?, &alone(100), &[])?;
    pair::settles_on(&lab, VIP, "c1", MOMENT)?;
    let moves = |cplb: &Cplb<'_>| -> Result<Vec<String>> {
        let now = standing::of(cplb.node())?;
        Ok(now.role("VI_51").map(|r| r.transitions()).unwrap_or_default())
    };
    let before = [moves(&holder)?, moves(&backup)?];
    for (cplb, text) in [(&holder, grouped(200)), (&backup, grouped(100))] {
        let now = super::reload(cplb, &text)?;
        ensure!(now.reload_error().is_none(), "{now}");
        pair::settles_on(&lab, VIP, "c1", MOMENT)?;
    }
    pair::settles_on(&lab, second_vip(), "c1", MOMENT)?;
    for (cplb, text) in [(&holder, alone(200)), (&backup, alone(100))] {
        super::reload(cplb, &text)?;
        pair::settles_on(&lab, VIP, "c1", MOMENT)?;
    }
    ensure!(
        [moves(&holder)?, moves(&backup)?] == before,
        "the first member moved"
    );
    Ok(())
}
