//! Interfaces that go down, vanish and come back; the ways to name them; and who may take over afterwards.
use super::{PATIENCE, VIP, file, instance};
use anyhow::{Context, Result, ensure};
use lb_tests::cplb::Cplb;
use lb_tests::inject::FrameSender;
use lb_tests::native::Instance;
use lb_tests::pair;
use lb_tests::ready::Ready;
use lb_tests::standing;
use lb_tests::topology::{Cut, Lab, Node};
use lb_tests::wait;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(700);

/// Two controllers with two cards each.
pub(crate) fn two_wires() -> Result<Lab> {
    let lab = Lab::builder()
        .node("c1", &["192.168.122.37/24"])
        .nic("eth1", &["10.20.0.37/16"])
        .node("c2", &["192.168.122.185/24"])
        .nic("eth1", &["10.20.0.185/16"])
        .build()?;
    for node in lab.nodes() {
        node.wait_for_addresses(PATIENCE)?;
    }
    Ok(lab)
}

fn tracking(priority: u8, line: &str) -> Instance {
    let mut instance = instance(priority);
    instance.extra.push(format!("track: [{line}]"));
    instance
}

fn set(node: &Node, interface: &str, state: &str) -> Result<()> {
    node.netns().ip(&format!("link set {interface} {state}\n"))
}

#[test]
fn a_tracked_interface_that_is_down_is_a_fault() -> Result<()> {
    let lab = two_wires()?;
    let [holder, _backup] = pair::start(&lab, [tracking(200, "{interface: eth1}"), instance(100)])?;
    set(holder.node(), "eth1", "down")?;
    standing::wait(&holder, "a fault", PATIENCE, |s| {
        s.is_all("Initialize") && s.roles().iter().all(|r| r.fault() == Some("tracked"))
    })?;
    pair::settles_on(&lab, VIP, "c2", MOMENT)?;
    set(holder.node(), "eth1", "up")?;
    pair::settles_on(&lab, VIP, "c1", MOMENT)
}

#[test]
fn a_tracked_interface_with_a_weight_changes_the_priority() -> Result<()> {
    let lab = two_wires()?;
    let weighed = tracking(200, "{interface: eth1, weight: -150}");
    let [holder, _backup] = pair::start(&lab, [weighed, instance(100)])?;
    set(holder.node(), "eth1", "down")?;
    standing::wait(&holder, "a priority of 50", PATIENCE, |s| {
        s.is_all("Backup")
            && s.roles()
                .iter()
                .all(|r| r.priority() == 50 && r.fault().is_none())
    })?;
    pair::settles_on(&lab, VIP, "c2", MOMENT)?;
    set(holder.node(), "eth1", "up")?;
    pair::settles_on(&lab, VIP, "c1", MOMENT)?;
    ensure!(standing::of(holder.node())?.roles()[0].priority() == 200);
    Ok(())
}

/// The card is pulled and another one is put in: the same name, another index.
#[test]
fn an_interface_that_vanishes_and_comes_back_is_used_again() -> Result<()> {
    let lab = two_wires()?;
    let vip: IpAddr = "10.20.0.200".parse()?;
    let on_eth1 = |priority| {
        let mut instance = Instance::new(60, &["10.20.0.200/16"]).with_priority(priority);
        instance.interface = "eth1".into();
        file(&[instance])
    };
    let holder = Cplb::start(lab.node("c1")?, &on_eth1(200), &[])?;
    let _backup = Cplb::start(lab.node("c2")?, &on_eth1(100), &[])?;
    pair::settles_on(&lab, vip, "c1", MOMENT)?;
    holder.node().netns().ip("link del eth1\n")?;
    standing::wait(&holder, "a fault", PATIENCE, |s| {
        s.is_all("Initialize") && s.roles().iter().all(|r| r.fault() == Some("noInterface"))
    })?;
    pair::settles_on(&lab, vip, "c2", MOMENT)?;
    let mut wires = String::new();
    let ns = holder.node().netns().name();
    writeln!(wires, "link add c1.eth1 type veth peer name eth1 netns {ns}")?;
    writeln!(wires, "link set c1.eth1 master br0 up")?;
    lab.switch().ip(&wires)?;
    set(holder.node(), "eth1", "up")?;
    standing::wait(&holder, "no address yet", PATIENCE, |s| {
        s.roles().iter().all(|r| r.fault() == Some("noAddress"))
    })?;
    holder.node().netns().ip("address add 10.20.0.37/16 dev eth1\n")?;
    pair::settles_on(&lab, vip, "c1", MOMENT)?;
    let now = standing::of(holder.node())?;
    ensure!(now.problems().is_empty(), "{now}");
    Ok(())
}

/// The address that adverts leave from is taken away and comes back.
#[test]
fn an_interface_without_an_address_is_a_fault() -> Result<()> {
    let lab = pair::lab()?;
    let [holder, _backup] = pair::start(&lab, [instance(200), instance(100)])?;
    let own = "192.168.122.37/24";
    holder
        .node()
        .netns()
        .ip(&format!("address del {own} dev eth0\n"))?;
    standing::wait(&holder, "a fault", PATIENCE, |s| {
        s.roles().iter().all(|r| r.fault() == Some("noAddress"))
    })?;
    pair::settles_on(&lab, VIP, "c2", MOMENT)?;
    holder
        .node()
        .netns()
        .ip(&format!("address add {own} dev eth0\n"))?;
    pair::settles_on(&lab, VIP, "c1", MOMENT)
}

#[test]
fn a_router_that_does_not_preempt_stays_back_after_a_fault() -> Result<()> {
    let lab = pair::lab()?;
    let mut first = instance(200);
    first.preempt = false;
    let [holder, backup] = pair::start(&lab, [first, instance(100)])?;
    lab.cut("c1", Cut::Carrier)?;
    pair::settles_on(&lab, VIP, "c2", MOMENT)?;
    lab.mend("c1")?;
    let from = lab.node("c2")?.ipv4()?;
    standing::wait(&holder, "it follows", PATIENCE, |s| {
        s.is_all("Backup") && s.roles().iter().all(|r| r.active() == Some((from, 100)))
    })?;
    pair::settles_on(&lab, VIP, "c2", Duration::from_secs(2))?;
    drop(backup);
    Ok(())
}

#[test]
fn a_delay_is_waited_for_before_preempting() -> Result<()> {
    let lab = pair::lab()?;
    let backup = Cplb::start(lab.node("c2")?, &file(&[instance(100)]), &[])?;
    pair::settles_on(&lab, VIP, "c2", Duration::ZERO)?;
    let mut first = instance(200);
    first.extra.push("preemptDelay: 2s".into());
    let late = Cplb::start(lab.node("c1")?, &file(&[first]), &[])?;
    let now = standing::wait_state(&late, "Active", PATIENCE)?;
    let times: Vec<u64> = now.roles()[0].0["transitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|t| t["atMs"].as_u64())
        .collect();
    let (first, last) = (
        times.first().context("no start")?,
        times.last().context("no end")?,
    );
    ensure!(last - first >= 1900, "after {} ms: {now}", last - first);
    ensure!(now.roles()[0].last_reason().contains("preempted"), "{now}");
    pair::settles_on(&lab, VIP, "c1", MOMENT)?;
    drop(backup);
    Ok(())
}

/// 255 does not wait. Its address may be the node's own, and then it stays with the node.
#[test]
fn the_owner_takes_over_at_once_and_keeps_its_own_address() -> Result<()> {
    let lab = pair::lab()?;
    let own = lab.node("c1")?.ipv4()?;
    let owned = |priority| Instance::new(51, &["192.168.122.37/24"]).with_priority(priority);
    let mut owner = Cplb::start(lab.node("c1")?, &file(&[owned(255)]), &[])?;
    let now = standing::wait_state(&owner, "Active", PATIENCE)?;
    ensure!(
        now.roles()[0].transitions() == ["Initialize>Active: \"owner\""],
        "{now}"
    );
    let backup = Cplb::start(lab.node("c2")?, &file(&[owned(100)]), &[])?;
    standing::wait_state(&backup, "Backup", PATIENCE)?;
    wait::steady(
        "the owner holds",
        Duration::from_secs(4),
        || matches!(lab.holders(own)[..], [one] if one.name() == "c1"),
    )?;
    owner.signal(nix::sys::signal::Signal::SIGTERM)?;
    ensure!(owner.wait(PATIENCE)?.success(), "{}", owner.log());
    standing::wait_state(&backup, "Active", PATIENCE)?;
    ensure!(
        lab.node("c1")?.holds(own),
        "the node's own address was taken from it"
    );
    Ok(())
}

#[test]
fn an_interface_is_found_by_its_mac_address() -> Result<()> {
    let lab = two_wires()?;
    let vip: IpAddr = "10.20.0.200".parse()?;
    let mac = FrameSender::new(lab.node("c1")?, "eth1")?.mac();
    let text: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut instance = Instance::new(60, &["10.20.0.200/16"]);
    instance.interface = text.join(":");
    let cplb = Cplb::start(lab.node("c1")?, &file(&[instance]), &[])?;
    let now = standing::wait_state(&cplb, "Active", PATIENCE)?;
    ensure!(
        now.roles()[0].0["interface"]["name"] == "eth1",
        "{}",
        now.roles()[0].0
    );
    wait::until("it is on eth1", PATIENCE, || {
        lab.nodes()[0]
            .addresses()
            .get("eth1")
            .is_some_and(|list| list.contains(&vip))
            .then_some(())
    })
}
