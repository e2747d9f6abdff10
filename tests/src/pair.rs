//! The lab that most suites begin with: a holder, its backup, a third controller that runs nothing, and a client.
use crate::adverts;
use crate::cplb::Cplb;
use crate::native::{self, Instance};
use crate::ready::Ready;
use crate::standing::{self, Standing};
use crate::topology::Lab;
use crate::wait;
use anyhow::{Context, Result};
use std::net::IpAddr;
use std::time::Duration;

/// Long enough for whatever is waited for on a busy machine; what is judged is that it happens.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// Controllers `c1` to `c3` and `client`, with addresses that can be used.
pub fn lab() -> Result<Lab> {
    let lab = Lab::k0s()?;
    for node in lab.nodes() {
        node.wait_for_addresses(PATIENCE)?;
    }
    Ok(lab)
}

/// The first virtual IP of an instance.
pub fn vip_of(instance: &Instance) -> Result<IpAddr> {
    let first = instance
        .addresses
        .first()
        .context("an instance without addresses")?;
    let address = first.split('/').next().unwrap_or_default();
    address.parse().with_context(|| format!("{first} is no address"))
}

/// Starts the first instance on `c1` and, when that holds, the second on `c2`; returns when this follows the first.
pub fn start(lab: &Lab, instances: [Instance; 2]) -> Result<[Cplb<'_>; 2]> {
    let [first, second] = instances;
    let vip = vip_of(&first)?;
    let file = |instance: &Instance| native::configuration(std::slice::from_ref(instance), "");
    let holder = Cplb::start(lab.node("c1")?, &file(&first), &[])?;
    standing::wait_state(&holder, "Active", PATIENCE)?;
    let backup = Cplb::start(lab.node("c2")?, &file(&second), &[])?;
    let by = match &first.unicast {
        Some((source, _)) => source.parse()?,
        None => adverts::source_of(lab.node("c1")?, vip.is_ipv6())?,
    };
    let follows = |s: &Standing| {
        s.is_all("Backup") && s.roles().iter().all(|r| r.active().is_some_and(|(a, _)| a == by))
    };
    standing::wait(&backup, "the backup follows", PATIENCE, follows)?;
    wait::until("c1 has the address", PATIENCE, || {
        holder.node().holds(vip).then_some(())
    })?;
    Ok([holder, backup])
}

/// Waits until that node has the address and no other, and checks that it stays so for `time`.
pub fn settles_on(lab: &Lab, vip: IpAddr, name: &str, time: Duration) -> Result<()> {
    let alone = || matches!(lab.holders(vip)[..], [one] if one.name() == name);
    let what = format!("{name} is the only holder of {vip}");
    let settled = wait::until(&what, PATIENCE, || alone().then_some(()));
    let stays = settled.and_then(|()| wait::steady(&what, time, alone));
    stays.with_context(|| format!("holders now: {:?}", crate::topology::names(&lab.holders(vip))))
}
