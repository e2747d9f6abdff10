//! What an earlier run left on the node: found by its mark or in the journal, and removed.
use super::{PATIENCE, VIP, parameters};
use anyhow::{Context, Result, ensure};
use lb_tests::cases::side_by_side;
use lb_tests::cplb::{self, Cplb};
use lb_tests::pair;
use lb_tests::standing;
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::net::IpAddr;

const K0S_YAML: &str = include_str!("../../../examples/k0s.yaml");
const NOTHING: &str = "apiVersion: cplb.io/v1alpha1
kind: ControlPlaneLoadBalancer
spec:
  enabled: false
  vrrpInstances:
    - virtualIPs: [\"192.168.122.210/24\"]
      interface: eth0
";

fn backends(lab: &Lab) -> Result<Vec<String>> {
    lab.controllers()
        .map(|node| Ok(node.ipv4()?.to_string()))
        .collect()
}

/// The interfaces inside the node that carry the address for direct routing: `dummyvip0`, or `lo` where there is none.
fn inside(node: &Node, vip: IpAddr) -> Vec<String> {
    let all = node.addresses().into_iter();
    let holding = all.filter(|(name, list)| name != "eth0" && list.contains(&vip));
    holding.map(|(name, _)| name).collect()
}

/// How what a dead run left is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    CleanUp,
    StartWithNothingToDo,
    StartAgain,
}

#[test]
fn what_a_dead_run_left_is_found_and_removed() -> Result<()> {
    let rows = [Then::CleanUp, Then::StartWithNothingToDo, Then::StartAgain];
    side_by_side(
        3,
        &rows,
        |row| format!("{row:?}"),
        |&then| {
            let lab = pair::lab()?;
            let node = lab.node("c1")?;
            let before = parameters(node)?;
            let mut dead = Cplb::start(node, K0S_YAML, &backends(&lab)?)?;
            wait::until("the address is inside and outside", PATIENCE, || {
                (node.holds(VIP) && !inside(node, VIP).is_empty()).then_some(())
            })?;
            let during = parameters(node)?;
            ensure!(during != before, "nothing was changed: {before:?}");
            dead.signal_all(Signal::SIGSTOP)?;
            dead.signal_all(Signal::SIGKILL)?;
            dead.wait_all(PATIENCE)?;
            ensure!(!inside(node, VIP).is_empty(), "an address without a lease stays");
            ensure!(parameters(node)? == during, "parameters stay");
            let gone = |what: &str| {
                let gone = || !node.holds(VIP) && inside(node, VIP).is_empty();
                wait::until(what, PATIENCE, || gone().then_some(()))?;
                wait::until("parameters as before", PATIENCE, || {
                    parameters(node).ok().filter(|now| *now == before).map(drop)
                })
            };
            match then {
                Then::CleanUp => {
                    let out = cplb::run(node, &["cleanup"])?;
                    let said = String::from_utf8_lossy(&out.stdout).into_owned();
                    ensure!(out.status.success() && said.contains("192.168.122.200"), "{said}");
                    gone("cleanup removes it")
                }
                Then::StartWithNothingToDo => {
                    let idle = Cplb::start(node, NOTHING, &[])?;
                    gone("a start removes it").with_context(|| idle.log())
                }
                Then::StartAgain => {
                    let mut again = Cplb::start(node, K0S_YAML, &backends(&lab)?)?;
                    standing::wait_state(&again, "Active", PATIENCE)?;
                    wait::until("it holds", PATIENCE, || node.holds(VIP).then_some(()))?;
                    // What was written down at first counts, not what the dead run had made of it.
                    again.signal(Signal::SIGTERM)?;
                    ensure!(again.wait(PATIENCE)?.success(), "{}", again.log());
                    gone("leaving removes it").with_context(|| again.log())
                }
            }
        },
    )
}

/// An address that somebody else put there is not ours to remove.
#[test]
fn somebody_elses_address_stays() -> Result<()> {
    let lab = pair::lab()?;
    let node = lab.node("c1")?;
    let theirs: IpAddr = "192.168.122.222".parse()?;
    node.output(&["ip", "address", "add", "192.168.122.222/24", "dev", "eth0"])?;
    node.output(&["ip", "address", "add", "192.168.122.223/32", "dev", "lo"])?;
    let mut ours = Cplb::start(node, K0S_YAML, &backends(&lab)?)?;
    standing::wait_state(&ours, "Active", PATIENCE)?;
    ours.signal(Signal::SIGTERM)?;
    ensure!(ours.wait(PATIENCE)?.success(), "{}", ours.log());
    let out = cplb::run(node, &["cleanup"])?;
    ensure!(out.status.success());
    ensure!(node.holds(theirs), "an address of somebody else is gone");
    ensure!(
        !inside(node, "192.168.122.223".parse()?).is_empty(),
        "an address on lo is gone"
    );
    ensure!(node.holds(node.ipv4()?), "the node's own address is gone");
    Ok(())
}
