//! Other settings while it runs, and another host under it: a bad file changes nothing, a good one only what it says,
//! and what happens to an interface happens to the instances that need it.
mod bad;
mod good;
mod host;
mod together;

use anyhow::{Context, Result};
use lb_tests::cplb::Cplb;
use lb_tests::native::{self, Instance};
pub(crate) use lb_tests::pair::PATIENCE;
use lb_tests::standing::{self, Standing};
use nix::sys::signal::Signal;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

pub(crate) const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 122, 200));
pub(crate) const ADDED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 122, 201));

/// Version 3 on the IPv4 address, adverts of 100 ms.
pub(crate) fn instance(priority: u8) -> Instance {
    Instance::new(51, &["192.168.122.200/24"]).with_priority(priority)
}

/// The same with a second address.
pub(crate) fn longer(priority: u8) -> Instance {
    let mut instance = instance(priority);
    instance.addresses.push("192.168.122.201/24".into());
    instance
}

pub(crate) fn file(instances: &[Instance]) -> String {
    native::configuration(instances, "")
}

/// Gives the daemon another file and tells it so; returns when it has read it, whatever it thinks of it.
pub(crate) fn reload(cplb: &Cplb<'_>, text: &str) -> Result<Standing> {
    fs::write(cplb.config(), text).context("writing the file")?;
    hang_up(cplb)
}

/// Tells the daemon to read the file again, and waits until it has.
pub(crate) fn hang_up(cplb: &Cplb<'_>) -> Result<Standing> {
    let before = standing::of(cplb.node())?.reload_at();
    cplb.signal(Signal::SIGHUP)?;
    standing::wait(cplb, "the file has been read again", PATIENCE, |s| {
        s.reload_at() != before
    })
}
