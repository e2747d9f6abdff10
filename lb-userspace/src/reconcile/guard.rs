//! The director guard: whom it watches, and its lease.
use super::kernel::{Kernel, Turn};
use crate::sys::guard::GuardError;
use lb_common::model::MacAddr;
use lb_common::plan::{Desired, Role};
use lb_common::spec::Spec;
use lb_common::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How long the kernel lets a silent holder direct. A little longer than the addresses' lease: the address goes first.
const GUARD_LEASE: Duration = Duration::from_secs(4);

impl Kernel {
    pub(super) async fn renew_guard(&mut self, want: &Desired, roles: &[Role], turn: &mut Turn) {
        let (Some(guard), Some(spec)) = (self.guard.as_mut(), want.guard.as_ref()) else {
            return;
        };
        let held = |vip: &IpAddr| {
            roles
                .iter()
                .any(|r| r.holds && r.virtual_ips.iter().any(|v| v.addr() == *vip))
        };
        let directing: Vec<IpAddr> = spec.vips.iter().copied().filter(held).collect();
        if directing.is_empty() && self.directing.is_empty() {
            return;
        }
        match guard.renew(&directing, GUARD_LEASE).await {
            Ok(()) => self.directing = directing,
            // Not there yet, or flushed: the plan makes it, and then this is called again.
            Err(GuardError::Gone) => {}
            Err(error) => turn.problems.push(error.to_string()),
        }
    }

    /// Finds the MAC addresses of the other directors, and lets the kernel ask for those that it does not know.
    pub(super) async fn learn_peers(&mut self, spec: &Spec, roles: &[Role], ask: bool) {
        let mut others: BTreeSet<IpAddr> = spec
            .virtual_servers
            .iter()
            .flat_map(|v| v.real_servers.iter().map(|s| s.address))
            .collect();
        for instance in &spec.instances {
            if let lb_common::spec::Transport::Unicast { peers, .. } = &instance.transport {
                others.extend(peers);
            }
        }
        let own: BTreeSet<IpAddr> = match self.rtnl.addresses().await {
            Ok(list) => list.into_iter().map(|a| a.key.address.addr()).collect(),
            Err(_) => return,
        };
        let others: Vec<IpAddr> = others.difference(&own).copied().collect();
        let interfaces: BTreeSet<u32> = roles
            .iter()
            .filter_map(|r| r.interface.as_ref().map(|(i, _)| *i))
            .collect();
        for interface in interfaces {
            let Ok(table) = self.rtnl.neighbours(interface).await else {
                continue;
            };
            let macs: BTreeMap<IpAddr, MacAddr> = table
                .iter()
                .filter_map(|n| n.usable().map(|mac| (n.ip, mac)))
                .collect();
            for ip in &others {
                if let Some(mac) = macs.get(ip) {
                    self.known_macs.insert(*ip, *mac);
                } else if ask && self.is_on_link(interface, *ip).await {
                    let _ = self.rtnl.probe_neighbour(interface, *ip).await;
                }
            }
        }
        self.known_macs.retain(|ip, _| others.contains(ip));
        self.peers = self.known_macs.values().copied().collect();
    }

    async fn is_on_link(&mut self, interface: u32, ip: IpAddr) -> bool {
        matches!(self.rtnl.route_to(ip).await, Ok(Some(r)) if r.interface == interface && r.via.is_none())
    }
}
