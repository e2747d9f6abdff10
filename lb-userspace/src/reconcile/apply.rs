//! Doing what the plan says, in its order. An op that fails is said and the rest is done: a virtual server that the
//! kernel refuses must not keep the address away.
use super::kernel::{Kernel, Local, Turn};
use crate::datapath::ipvs::{SyncOptions, Timeouts};
use crate::sys::guard::{self, GuardError};
use crate::sys::rtnl::{RouteKind, RtnlError};
use crate::sys::{modules, sysctl};
use anyhow::{Context, anyhow};
use lb_common::plan::{Address, AddressKey, Forwarding, GuardSpec, LOCAL_LINK, Lifetime, Op, Place, Sysctl};
use lb_common::spec::IpvsTimeouts;
use std::net::IpAddr;
use std::time::Duration;

/// The longest that an address is waited for: one that is still not usable then is announced all the same. A busy host's
/// work queue has been seen to take more than 100 ms; the router before us goes on answering for 500.
const USABLE: Duration = Duration::from_millis(400);

/// The mark on the link for direct routing (`ip link show` prints it).
pub(super) const ALIAS: &str = "cplb: virtual IPs of direct routing";

impl Kernel {
    /// Applies, and gives back those that failed; why is in `turn.problems`.
    pub(super) async fn apply(&mut self, ops: &[Op], turn: &mut Turn) -> Vec<Op> {
        self.write_journal(ops, turn);
        let mut failed = Vec::new();
        let mut rest = ops;
        while let Some(first) = rest.first() {
            // Addresses come in runs, and a run is one conversation with the kernel: 254 of them are taken over at once.
            let run = rest.iter().take_while(|op| same_kind(first, op)).count().max(1);
            let (now, later) = rest.split_at(run);
            rest = later;
            let outcomes = match first {
                Op::PutAddress(..) => self.put_addresses(now).await,
                Op::DeleteAddress(_) => self.delete_addresses(now).await,
                Op::SetForwarding(forwarding) => vec![self.set_forwarding(forwarding, turn).await],
                Op::SetProxy(proxying) => vec![self.set_proxy(proxying, turn).await],
                single => vec![self.one(single).await],
            };
            for (op, outcome) in now.iter().zip(outcomes) {
                if let Err(error) = outcome {
                    turn.problems.push(format!("{error:#}"));
                    failed.push(op.clone());
                }
            }
        }
        if let Err(error) = self.journal.save() {
            turn.problems.push(format!("writing the journal: {error}"));
        }
        failed
    }

    /// Before anything is changed that the kernel will not tell us of later.
    fn write_journal(&mut self, ops: &[Op], turn: &mut Turn) {
        for op in ops {
            match op {
                // Forwarding stays on: the pods' network relies on it as soon as it is, whoever switched it.
                Op::SetSysctl(name, _) if name.is_forwarding() => {}
                Op::SetSysctl(name, _) => {
                    let was = sysctl::Sysctl::new(name.0.clone()).and_then(|s| s.read_number());
                    if let Some(was) = was.ok().and_then(|v| i32::try_from(v).ok()) {
                        self.journal.changing(name, was);
                    }
                }
                Op::AddService(service) => self.journal.adding(service.key),
                Op::SetLabel(address, label) => self.journal.labelling(*address, *label),
                Op::StartSync(_) => self.journal.synchronising(true),
                Op::SetTimeouts(_) => self.remember_timeouts(),
                Op::EnsureLocalLink
                | Op::SetGuard(_)
                | Op::SetService(_)
                | Op::AddDestination(..)
                | Op::SetDestination(..)
                | Op::PutAddress(..)
                | Op::DeleteAddress(_)
                | Op::StopSync(_)
                | Op::DeleteDestination(..)
                | Op::DeleteService(_)
                | Op::SetForwarding(_)
                | Op::DeleteForwarding
                | Op::SetProxy(_)
                | Op::DeleteProxy
                | Op::DeleteLocalLink
                | Op::DeleteLabel(_)
                | Op::DeleteGuard
                | Op::RestoreSysctl(_) => {}
            }
        }
        if let Err(error) = self.journal.save() {
            turn.problems.push(format!(
                "writing the journal: {error}; after a crash the next start cannot undo all"
            ));
        }
    }

    fn remember_timeouts(&mut self) {
        if let Some(Ok(now)) = self.ipvs.as_mut().map(|i| i.timeouts()) {
            self.journal.changing_timeouts(super::kernel::timeouts_of(&now));
        }
    }

    async fn one(&mut self, op: &Op) -> anyhow::Result<()> {
        match op {
            Op::EnsureLocalLink => self.ensure_local().await,
            Op::DeleteLocalLink => self.delete_local().await,
            Op::SetSysctl(name, value) => {
                sysctl::Sysctl::new(name.0.clone())?.write(&value.to_string())?;
                Ok(())
            }
            Op::RestoreSysctl(name) => self.restore(name),
            Op::SetLabel(address, label) => {
                let set = self.rtnl.set_address_label(*address, *label).await;
                if set.is_err() {
                    self.journal.unlabelled(*address);
                }
                Ok(set?)
            }
            Op::DeleteLabel(address) => {
                self.rtnl.delete_address_label(*address).await?;
                self.journal.unlabelled(*address);
                Ok(())
            }
            Op::SetGuard(spec) => self.set_guard(spec).await,
            Op::DeleteGuard => Ok(self.guard.as_mut().context("no guard here")?.remove().await?),
            Op::AddService(_)
            | Op::SetService(_)
            | Op::AddDestination(..)
            | Op::SetDestination(..)
            | Op::DeleteDestination(..)
            | Op::DeleteService(_)
            | Op::SetTimeouts(_)
            | Op::StartSync(_)
            | Op::StopSync(_) => self.balance(op),
            Op::SetForwarding(forwarding) => self.set_forwarding(forwarding, &mut Turn::default()).await,
            Op::DeleteForwarding => {
                if let Some(xdp) = self.xdp.as_mut() {
                    xdp.clear();
                }
                Ok(())
            }
            Op::SetProxy(proxying) => self.set_proxy(proxying, &mut Turn::default()).await,
            Op::DeleteProxy => self.stop_proxy().await,
            Op::PutAddress(..) => self.put_addresses(std::slice::from_ref(op)).await.remove(0),
            Op::DeleteAddress(_) => self.delete_addresses(std::slice::from_ref(op)).await.remove(0),
        }
    }

    /// What cannot be as it should is a problem of this turn and of those that follow, and no reason to do the whole
    /// again: each turn does what it can.
    async fn set_forwarding(&mut self, forwarding: &Forwarding, turn: &mut Turn) -> anyhow::Result<()> {
        let xdp = self.xdp.as_mut().context("the XDP program is not loaded")?;
        turn.problems.extend(xdp.set(forwarding, &mut self.rtnl).await);
        Ok(())
    }

    async fn set_guard(&mut self, spec: &GuardSpec) -> anyhow::Result<()> {
        let guard = self.guard.as_mut().context("no guard here")?;
        let spec = guard::GuardSpec {
            vips: spec.vips.clone(),
            peers: spec.peers.clone(),
            tunnels: spec.tunnels,
            // A holder's own kubelet and kubectl are served by its own API server: what IPVS would send elsewhere
            // carries the VIP as its source, and every other node drops that as its own.
            keep_own_clients: true,
        };
        match guard.apply(&spec).await {
            Ok(_) => Ok(()),
            Err(error) => {
                if matches!(error, GuardError::Unsupported { .. }) {
                    self.guard = None;
                    self.guard_missing = Some(error.to_string());
                }
                Err(error.into())
            }
        }
    }

    fn balance(&mut self, op: &Op) -> anyhow::Result<()> {
        let ipvs = self.ipvs.as_mut().context("this kernel has no IPVS")?;
        match op {
            Op::AddService(service) | Op::SetService(service) => {
                ipvs.ensure_service(service)?;
            }
            Op::AddDestination(key, server) | Op::SetDestination(key, server) => {
                ipvs.ensure_destination(key, server)?;
            }
            Op::DeleteDestination(key, address, port) => {
                ipvs.remove_destination(key, *address, *port)?;
            }
            Op::DeleteService(key) => {
                ipvs.remove_service(key)?;
                self.journal.deleted(key);
            }
            Op::SetTimeouts(t) => ipvs.set_timeouts(&timeouts(t))?,
            Op::StartSync(daemon) => {
                ipvs.ensure_daemon(daemon, &SyncOptions::default())?;
                // Again: the daemon of the other role was stopped in the same plan.
                self.journal.synchronising(true);
            }
            Op::StopSync(daemon) => {
                ipvs.remove_daemon(daemon.role)?;
                self.journal.synchronising(false);
            }
            other => return Err(anyhow!("{other} is no change to IPVS")),
        }
        Ok(())
    }

    async fn ensure_local(&mut self) -> anyhow::Result<()> {
        let mut made = self.rtnl.ensure_dummy(LOCAL_LINK, ALIAS).await;
        if matches!(made, Err(RtnlError::Unsupported { .. })) && modules::ensure("dummy").is_ok() {
            made = self.rtnl.ensure_dummy(LOCAL_LINK, ALIAS).await;
        }
        match made {
            Ok(dummy) => {
                if dummy.adopted {
                    tracing::info!(
                        link = LOCAL_LINK,
                        "somebody else made this link (k0s does); using it"
                    );
                }
                self.local = Local::Dummy(dummy.index);
                Ok(())
            }
            Err(RtnlError::Unsupported { .. }) => {
                let links = self.rtnl.links().await?;
                let lo = links
                    .iter()
                    .find(|l| l.loopback)
                    .context("there is no loopback interface")?;
                tracing::warn!(
                    "this kernel has no dummy device: the virtual IPs of direct routing are on lo"
                );
                self.local = Local::Loopback(lo.index);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Somebody else's link is left as it was found, without our addresses.
    async fn delete_local(&mut self) -> anyhow::Result<()> {
        let Some(link) = self.rtnl.link_named(LOCAL_LINK).await? else {
            return Ok(());
        };
        if link.alias.as_deref() == Some(ALIAS) {
            self.rtnl.delete_link(link.index).await?;
        }
        self.local = Local::Unknown;
        Ok(())
    }

    fn restore(&mut self, name: &Sysctl) -> anyhow::Result<()> {
        if let Some(was) = self.journal.sysctls().get(name) {
            let parameter = sysctl::Sysctl::new(name.0.clone())?;
            // Gone with its interface or module: nothing to put back.
            if parameter.read().is_ok() {
                parameter.write(&was.to_string())?;
            }
        }
        self.journal.restored(name);
        Ok(())
    }

    async fn put_addresses(&mut self, ops: &[Op]) -> Vec<anyhow::Result<()>> {
        let items: Vec<Option<(AddressKey, Lifetime)>> = ops
            .iter()
            .map(|op| match op {
                Op::PutAddress(address, lifetime) => self.key(address).map(|key| (key, *lifetime)),
                _ => None,
            })
            .collect();
        let known: Vec<(AddressKey, Lifetime)> = items.iter().flatten().copied().collect();
        let keys = known.iter().map(|(key, _)| *key);
        let new: Vec<IpAddr> = keys
            .clone()
            .filter(|k| !self.put.contains(k))
            .map(|k| k.address.addr())
            .collect();
        self.put.extend(keys);
        let mut results = self.rtnl.put_addresses(&known).await.into_iter();
        self.wait_until_local(&new).await;
        items
            .iter()
            .map(|item| outcome(item.is_some(), &mut results))
            .collect()
    }

    /// The kernel takes an IPv6 address at once, and packets for it only when a work queue has given it its local route
    /// (`addrconf_dad_start`, also without duplicate detection): announced before that, it would lose what comes.
    async fn wait_until_local(&mut self, addresses: &[IpAddr]) {
        let deadline = crate::clock::now() + USABLE;
        for address in addresses.iter().filter(|a| a.is_ipv6()) {
            loop {
                match self.rtnl.route_to(*address).await {
                    Ok(Some(route)) if route.kind == RouteKind::Local => break,
                    _ if crate::clock::now() >= deadline => return,
                    _ => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        }
    }

    async fn delete_addresses(&mut self, ops: &[Op]) -> Vec<anyhow::Result<()>> {
        let items: Vec<Option<AddressKey>> = ops
            .iter()
            .map(|op| match op {
                Op::DeleteAddress(address) => self.key(address),
                _ => None,
            })
            .collect();
        let known: Vec<AddressKey> = items.iter().flatten().copied().collect();
        let results = self.rtnl.delete_addresses(&known).await;
        for (key, _) in known.iter().zip(&results).filter(|(_, r)| r.is_ok()) {
            self.put.remove(key);
        }
        let mut results = results.into_iter();
        items
            .iter()
            .map(|item| outcome(item.is_some(), &mut results))
            .collect()
    }

    fn key(&self, address: &Address) -> Option<AddressKey> {
        let interface = match (address.place, &self.local) {
            (Place::Interface(index), _) => index,
            (Place::Local, Local::Dummy(index) | Local::Loopback(index)) => *index,
            (Place::Local, Local::Unknown) => return None,
        };
        Some(AddressKey {
            interface,
            address: address.address,
        })
    }
}

fn outcome(known: bool, results: &mut impl Iterator<Item = Result<(), RtnlError>>) -> anyhow::Result<()> {
    if !known {
        return Err(anyhow!("the link for direct routing ({LOCAL_LINK}) is not there"));
    }
    results
        .next()
        .context("netlink gave no answer")?
        .map_err(Into::into)
}

fn same_kind(a: &Op, b: &Op) -> bool {
    matches!(
        (a, b),
        (Op::PutAddress(..), Op::PutAddress(..)) | (Op::DeleteAddress(_), Op::DeleteAddress(_))
    )
}

fn timeouts(t: &IpvsTimeouts) -> Timeouts {
    let seconds = |s: u32| Duration::from_secs(u64::from(s));
    Timeouts {
        tcp: seconds(t.tcp),
        tcp_fin: seconds(t.tcp_fin),
        udp: seconds(t.udp),
    }
}
