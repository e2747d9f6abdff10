//! One virtual router ID twice on one wire, by unicast to peers that are apart (keepalived allows it too).
use anyhow::{Result, ensure};
use lb_tests::cplb::Cplb;
use lb_tests::native::{self, Instance};
use lb_tests::standing;
use lb_tests::topology::Lab;
use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn towards(name: &str, last: u8, priority: u8, from: &str, to: &str) -> Instance {
    let mut instance = Instance::new(5, &[&format!("192.168.122.{last}/24")]).with_priority(priority);
    instance.name = name.into();
    instance.unicast = Some((from.into(), vec![to.into()]));
    instance
}

#[test]
fn two_routers_of_one_id_are_told_apart_by_their_peers() -> Result<()> {
    let lab = Lab::k0s()?;
    let (c1, c2, c3) = ("192.168.122.37", "192.168.122.185", "192.168.122.87");
    let both = [
        towards("with-c2", 201, 200, c1, c2),
        towards("with-c3", 202, 200, c1, c3),
    ];
    let mut holder = Cplb::start(lab.node("c1")?, &native::configuration(&both, ""), &[])?;
    standing::wait(&holder, "it holds both", PATIENCE, |s| s.is_all("Active"))?;
    let second = [towards("with-c1", 201, 100, c2, c1)];
    let second = Cplb::start(lab.node("c2")?, &native::configuration(&second, ""), &[])?;
    let third = [towards("with-c1", 202, 100, c3, c1)];
    let third = Cplb::start(lab.node("c3")?, &native::configuration(&third, ""), &[])?;
    standing::wait_state(&second, "Backup", PATIENCE)?;
    standing::wait_state(&third, "Backup", PATIENCE)?;
    holder.signal(Signal::SIGTERM)?;
    ensure!(holder.wait(PATIENCE)?.success(), "{}", holder.log());
    standing::wait_state(&second, "Active", PATIENCE)?;
    standing::wait_state(&third, "Active", PATIENCE)?;
    for (last, name) in [(201, "c2"), (202, "c3")] {
        let vip = IpAddr::from([192, 168, 122, last]);
        ensure!(lab.holder(vip, PATIENCE)?.name() == name);
    }
    Ok(())
}
