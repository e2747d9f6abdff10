//! The difference between what should be and what is, in the order in which it is safe to close it.
use super::{Address, Desired, Destination, Lifetime, LocalLink, Observed, Op, Place};
use crate::model::ServiceKey;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What has to be done to make `have` be `want`. With `renew`, held addresses are put again although they are there:
/// that is what keeps their lease.
pub fn diff(want: &Desired, have: &Observed, renew: bool) -> Vec<Op> {
    let mut ops = Vec::new();
    prepare(&mut ops, want, have);
    build_services(&mut ops, want, have);
    build_forwarding(&mut ops, want, have);
    set_proxy(&mut ops, want, have);
    put_addresses(&mut ops, want, have, renew);
    switch_sync(&mut ops, want, have);
    delete_addresses(&mut ops, want, have);
    delete_services(&mut ops, want, have);
    trim_forwarding(&mut ops, want, have);
    if want.proxy.is_none() && have.proxy.is_some() {
        ops.push(Op::DeleteProxy);
    }
    tear_down(&mut ops, want, have);
    ops
}

fn prepare(ops: &mut Vec<Op>, want: &Desired, have: &Observed) {
    if want.local_link && matches!(have.local_link, LocalLink::Absent | LocalLink::Down) {
        ops.push(Op::EnsureLocalLink);
    }
    for (sysctl, bound) in &want.sysctls {
        if let Some(value) = have.sysctls.get(sysctl).and_then(|now| bound.to_write(*now)) {
            ops.push(Op::SetSysctl(sysctl.clone(), value));
        }
    }
    for (address, label) in &want.labels {
        if have.labels.get(address) != Some(label) {
            ops.push(Op::SetLabel(*address, *label));
        }
    }
    if let Some(guard) = &want.guard
        && have.guard.as_ref() != Some(guard)
    {
        ops.push(Op::SetGuard(guard.clone()));
    }
    if let Some(timeouts) = want.timeouts
        && have.timeouts != Some(timeouts)
    {
        ops.push(Op::SetTimeouts(timeouts));
    }
}

fn build_services(ops: &mut Vec<Op>, want: &Desired, have: &Observed) {
    for (key, (service, servers)) in &want.services {
        let there = have.services.get(key);
        match there {
            None => ops.push(Op::AddService(service.clone())),
            Some((old, _)) if old != service => ops.push(Op::SetService(service.clone())),
            Some(_) => {}
        }
        let old = by_socket(there.map_or(&[], |(_, d)| d.as_slice()));
        for server in servers {
            match old.get(&(server.address, server.port)) {
                None => ops.push(Op::AddDestination(*key, server.clone())),
                Some(d) if *d != server => ops.push(Op::SetDestination(*key, server.clone())),
                Some(_) => {}
            }
        }
        // A real server that is gone leaves while its virtual server stays, after its successors have come.
        let new = by_socket(servers);
        for (address, port) in old.keys().filter(|k| !new.contains_key(*k)) {
            ops.push(Op::DeleteDestination(*key, *address, *port));
        }
    }
}

/// What comes is forwarded before its address is there. What goes stays until its address is gone: a packet that finds
/// the address and no entry would be taken for this node's own, and its connection be reset.
fn build_forwarding(ops: &mut Vec<Op>, want: &Desired, have: &Observed) {
    let Some(wanted) = &want.forwarding else {
        return;
    };
    let next = have
        .forwarding
        .as_ref()
        .map_or_else(|| wanted.clone(), |old| wanted.besides(old));
    if have.forwarding.as_ref() != Some(&next) {
        ops.push(Op::SetForwarding(next));
    }
}

fn trim_forwarding(ops: &mut Vec<Op>, want: &Desired, have: &Observed) {
    match (&want.forwarding, &have.forwarding) {
        (Some(wanted), Some(old)) if wanted.besides(old) != *wanted => {
            ops.push(Op::SetForwarding(wanted.clone()));
        }
        (None, Some(_)) => ops.push(Op::DeleteForwarding),
        (Some(_) | None, _) => {}
    }
}

/// Before a virtual IP comes, so that its first client is served; and before one goes, so that the clients of its sessions
/// learn of their end while there is still an address to tell them from.
fn set_proxy(ops: &mut Vec<Op>, want: &Desired, have: &Observed) {
    match (&want.proxy, &have.proxy) {
        (Some(wanted), there) if there.as_ref() != Some(wanted) => ops.push(Op::SetProxy(wanted.clone())),
        (None, Some(there)) if there.servers.values().any(|s| s.held) => {
            let mut last = there.clone();
            for server in last.servers.values_mut() {
                server.held = false;
            }
            ops.push(Op::SetProxy(last));
        }
        (Some(_) | None, _) => {}
    }
}

fn by_socket(list: &[Destination]) -> BTreeMap<(core::net::IpAddr, u16), &Destination> {
    list.iter().map(|d| ((d.address, d.port), d)).collect()
}

/// Stop before start: the kernel may run both roles, and we want one.
fn switch_sync(ops: &mut Vec<Op>, want: &Desired, have: &Observed) {
    for daemon in &have.sync {
        if want.sync.as_ref() != Some(daemon) {
            ops.push(Op::StopSync(daemon.clone()));
        }
    }
    if let Some(daemon) = &want.sync
        && !have.sync.contains(daemon)
    {
        ops.push(Op::StartSync(daemon.clone()));
    }
}

fn put_addresses(ops: &mut Vec<Op>, want: &Desired, have: &Observed, renew: bool) {
    for (address, lifetime) in &want.addresses {
        let leased = matches!(lifetime, Lifetime::Lease(_));
        let there = have.addresses.get(address);
        if there.is_none_or(|a| a.leased != leased) || (renew && leased) {
            ops.push(Op::PutAddress(*address, *lifetime));
        }
    }
}

/// In reverse: what clients reach first goes first, the local link's last.
fn delete_addresses(ops: &mut Vec<Op>, want: &Desired, have: &Observed) {
    for address in have.addresses.keys().rev() {
        if !want.addresses.contains_key(address) && address.place != Place::Local {
            ops.push(Op::DeleteAddress(*address));
        }
    }
}

fn delete_services(ops: &mut Vec<Op>, want: &Desired, have: &Observed) {
    let gone = |key: &&ServiceKey| !want.services.contains_key(*key);
    ops.extend(have.services.keys().filter(gone).map(|k| Op::DeleteService(*k)));
}

fn tear_down(ops: &mut Vec<Op>, want: &Desired, have: &Observed) {
    let local = |a: &&Address| a.place == Place::Local && !want.addresses.contains_key(*a);
    ops.extend(
        have.addresses
            .keys()
            .rev()
            .filter(local)
            .map(|a| Op::DeleteAddress(*a)),
    );
    if !want.local_link && matches!(have.local_link, LocalLink::Up | LocalLink::Down) {
        ops.push(Op::DeleteLocalLink);
    }
    ops.extend(
        have.labels
            .keys()
            .filter(|a| !want.labels.contains_key(*a))
            .map(|a| Op::DeleteLabel(*a)),
    );
    if want.guard.is_none() && have.guard.is_some() {
        ops.push(Op::DeleteGuard);
    }
    let restore = have
        .changed_sysctls
        .iter()
        .filter(|s| !want.sysctls.contains_key(*s));
    ops.extend(restore.map(|s| Op::RestoreSysctl(s.clone())));
}

#[cfg(test)]
mod tests;
