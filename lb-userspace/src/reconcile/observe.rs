//! Reading back: what of ours the kernel has now.
use super::kernel::{Kernel, Local, timeouts_of};
use crate::datapath::xdp::Xdp;
use crate::sys::rtnl::{Address as KernelAddress, Remaining, Scope};
use crate::sys::sysctl;
use anyhow::Context;
use lb_common::model::ServiceKey;
use lb_common::plan::{
    Address, AddressKey, Desired, GuardSpec, LOCAL_LINK, LocalLink, Observed, ObservedAddress, Place, Sysctl,
};
use lb_common::spec::{IpvsTimeouts, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl Kernel {
    /// Everything of ours, and the values of the parameters that `want` names.
    ///
    /// What stands behind the addresses and cannot be read counts as wanted, and is said in `unread`: an IPVS or a guard
    /// that gives no answer must not keep the lease from being renewed.
    pub async fn observe(
        &mut self,
        want: &Desired,
        spec: &Spec,
        unread: &mut Vec<String>,
    ) -> anyhow::Result<Observed> {
        let local_link = self.find_local(want).await?;
        let addresses = self.addresses(spec).await?;
        let services = self.services(want, spec);
        let guard = self.guard().await;
        let mut have = Observed {
            local_link,
            addresses,
            services: or_wanted(services, &want.services, unread),
            changed_sysctls: self.journal.sysctls().keys().cloned().collect(),
            labels: self.journal.labels().clone(),
            guard: or_wanted(guard, &want.guard, unread),
            proxy: self.proxy.serving().await,
            forwarding: self.xdp.as_ref().and_then(Xdp::observed),
            ..Observed::default()
        };
        for name in want.sysctls.keys() {
            if let Some(value) = read_sysctl(name) {
                have.sysctls.insert(name.clone(), value);
            }
        }
        let synchronises = spec.connection_sync.is_some() || self.journal.syncs();
        if let Some(ipvs) = self.ipvs.as_mut() {
            if synchronises {
                let daemons = ipvs
                    .daemons()
                    .map(|list| list.into_iter().map(|d| d.daemon).collect());
                let wanted = want.sync.iter().cloned().collect();
                have.sync = or_wanted(daemons.map_err(Into::into), &wanted, unread);
            }
            if let Some(wanted) = want.timeouts {
                let now = ipvs
                    .timeouts()
                    .map(|t| Some(where_wanted(wanted, timeouts_of(&t))));
                have.timeouts = or_wanted(now.map_err(Into::into), &want.timeouts, unread);
            }
        }
        Ok(have)
    }

    /// The guard. A damaged one is read as watching nothing: wanted, it is made anew; unwanted, it is still removed.
    async fn guard(&mut self) -> anyhow::Result<Option<GuardSpec>> {
        let Some(guard) = self.guard.as_mut() else {
            return Ok(None);
        };
        let Some(state) = guard.read_back().await.context("reading the guard")? else {
            return Ok(None);
        };
        self.guarded = state.counters.restored.packets;
        let spec = GuardSpec {
            vips: state.spec.vips,
            peers: state.spec.peers,
            tunnels: state.spec.tunnels,
        };
        Ok(Some(if state.intact { spec } else { GuardSpec::default() }))
    }

    /// The link for direct routing. `lo` only once the kernel has said that it has no dummy device.
    async fn find_local(&mut self, want: &Desired) -> anyhow::Result<LocalLink> {
        let found = self
            .rtnl
            .link_named(LOCAL_LINK)
            .await
            .context("looking for the link of direct routing")?;
        match (found, &self.local) {
            // Somebody else's (k0s makes one of that name), and nothing is wanted of it: none of ours.
            (Some(link), _) if !want.local_link && link.alias.as_deref() != Some(super::apply::ALIAS) => {
                self.local = Local::Dummy(link.index);
                Ok(LocalLink::Absent)
            }
            (Some(link), _) if link.kind.as_deref() == Some("dummy") => {
                self.local = Local::Dummy(link.index);
                Ok(if link.up { LocalLink::Up } else { LocalLink::Down })
            }
            (_, Local::Loopback(_)) => Ok(LocalLink::Loopback),
            (Some(_) | None, Local::Unknown | Local::Dummy(_)) => {
                self.local = Local::Unknown;
                Ok(LocalLink::Absent)
            }
        }
    }

    /// Addresses with our mark. Those on the local link or `lo` are local, whoever's idea of a prefix they have.
    async fn addresses(&mut self, spec: &Spec) -> anyhow::Result<BTreeMap<Address, ObservedAddress>> {
        let list = self.rtnl.addresses().await.context("listing addresses")?;
        let links = self.rtnl.links().await.context("listing links")?;
        // What has run out or was taken away would be put anew.
        let there: BTreeSet<AddressKey> = list.iter().map(|a| a.key).collect();
        self.put.retain(|key| there.contains(key));
        let owners = spec.active_instances().iter().filter(|i| i.priority.is_owner());
        let owned: BTreeSet<IpAddr> = owners.flat_map(|i| &i.virtual_ips).map(|v| v.addr()).collect();
        let own = list
            .iter()
            .filter(|a| !a.is_ours() && !self.put.contains(&a.key))
            .map(|a| a.key.address.addr());
        self.own = own.filter(|a| owned.contains(a)).collect();
        // An earlier run had no dummy device, so this kernel has none.
        let leftover = |lo: &u32| list.iter().any(|a| a.is_ours() && a.key.interface == *lo);
        if let (Local::Unknown, Some(lo)) = (
            &self.local,
            links
                .iter()
                .find(|l| l.loopback)
                .map(|l| l.index)
                .filter(leftover),
        ) {
            self.local = Local::Loopback(lo);
        }
        let place = |a: &KernelAddress| match self.local {
            Local::Dummy(index) | Local::Loopback(index) if a.key.interface == index => Place::Local,
            Local::Unknown | Local::Dummy(_) | Local::Loopback(_) => Place::Interface(a.key.interface),
        };
        // A kernel before 5.18 keeps no mark: what this process put is ours all the same, and so is what is on a link
        // that carries our alias. What an earlier run held on another interface had a lease, and is gone by now.
        let marked = links
            .iter()
            .find(|l| l.alias.as_deref() == Some(super::apply::ALIAS))
            .map(|l| l.index);
        let ours = list.iter().filter(|a| {
            a.is_ours()
                || self.put.contains(&a.key)
                || (marked == Some(a.key.interface) && a.scope == Scope::Global)
        });
        Ok(ours
            .map(|a| {
                let address = Address {
                    place: place(a),
                    address: a.key.address,
                };
                (
                    address,
                    ObservedAddress {
                        leased: !matches!(a.remaining, Remaining::Forever) && !a.dad_failed,
                    },
                )
            })
            .collect())
    }

    /// Virtual servers that the file or the journal names; everybody else's are nobody's business here.
    fn services(
        &mut self,
        want: &Desired,
        spec: &Spec,
    ) -> anyhow::Result<BTreeMap<ServiceKey, (lb_common::plan::Service, Vec<lb_common::plan::Destination>)>>
    {
        let mut ours: BTreeSet<ServiceKey> = self.journal.services().clone();
        ours.extend(spec.virtual_servers.iter().map(|v| v.key));
        ours.extend(want.services.keys());
        let Some(ipvs) = self.ipvs.as_mut().filter(|_| !ours.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        let list = ipvs.services().context("reading the virtual servers")?;
        Ok(list
            .into_iter()
            .filter(|o| ours.contains(&o.service.key))
            .map(|o| {
                (
                    o.service.key,
                    (
                        o.service,
                        o.destinations.into_iter().map(|d| d.destination).collect(),
                    ),
                )
            })
            .collect())
    }
}

fn or_wanted<T: Clone>(read: anyhow::Result<T>, wanted: &T, unread: &mut Vec<String>) -> T {
    read.unwrap_or_else(|error| {
        unread.push(format!("{error:#}"));
        wanted.clone()
    })
}

/// A timeout that is not asked for (0) is as it should be.
fn where_wanted(want: IpvsTimeouts, have: IpvsTimeouts) -> IpvsTimeouts {
    let pick = |want, have| if want == 0 { 0 } else { have };
    IpvsTimeouts {
        tcp: pick(want.tcp, have.tcp),
        tcp_fin: pick(want.tcp_fin, have.tcp_fin),
        udp: pick(want.udp, have.udp),
    }
}

/// `None` where there is no such parameter now: its module or its interface is not there.
fn read_sysctl(name: &Sysctl) -> Option<i32> {
    let value = sysctl::Sysctl::new(name.0.clone()).ok()?.read_number().ok()?;
    i32::try_from(value).ok()
}
