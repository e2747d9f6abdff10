//! What `status` shows of the kernel.
use super::kernel::{Kernel, Local, Turn};
use super::view::{GuardView, ReconcileView};
use crate::admin::{DestinationView, ServiceView};
use crate::datapath::ipvs;
use crate::datapath::xdp::Xdp;
use lb_common::plan::{self, Carried, Desired, carried};
use lb_common::spec::Spec;
use std::collections::BTreeSet;
use std::net::SocketAddr;

impl Kernel {
    fn datapath_text(&self, spec: &Spec) -> String {
        let has = self.facilities();
        let each: BTreeSet<String> = spec
            .virtual_servers
            .iter()
            .map(|vs| match carried(vs, has) {
                Carried { by: Some(by), .. } => by.name().to_owned(),
                Carried { because, .. } => format!("none: {because}"),
            })
            .collect();
        each.into_iter().collect::<Vec<_>>().join(", ")
    }

    pub(super) fn service_views(&mut self, want: &Desired) -> Vec<ServiceView> {
        let Some(ipvs) = self.ipvs.as_mut().filter(|_| !want.services.is_empty()) else {
            return vec![];
        };
        let Ok(list) = ipvs.services() else { return vec![] };
        list.into_iter()
            .filter(|o| want.services.contains_key(&o.service.key))
            .map(service_view)
            .collect()
    }

    /// What `status` shows of this turn.
    pub fn view(&mut self, spec: &Spec, turn: Turn) -> ReconcileView {
        let balances = spec.enabled && !spec.virtual_servers.is_empty();
        let datapath = if balances {
            self.datapath_text(spec)
        } else {
            "none asked for: the virtual IPs alone".to_owned()
        };
        ReconcileView {
            balances,
            datapath,
            local_link: match self.local {
                Local::Unknown => None,
                Local::Dummy(_) => Some(plan::LOCAL_LINK.into()),
                Local::Loopback(_) => Some("lo".into()),
            },
            services: turn.services,
            xdp: self.xdp.as_mut().and_then(Xdp::view),
            proxy: self.proxy.view(),
            guard: self
                .guard
                .as_ref()
                .filter(|_| balances && self.ipvs.is_some())
                .map(|_| GuardView {
                    peers: self
                        .known_macs
                        .iter()
                        .map(|(ip, mac)| format!("{ip} {mac}"))
                        .collect(),
                    guarded_packets: self.guarded,
                }),
            remarks: if balances { self.remarks(spec) } else { vec![] },
            unable: turn.unable,
            problems: turn.problems,
            changes: self.changes,
            renewals: self.renewals,
        }
    }
}

fn service_view(o: ipvs::Observed) -> ServiceView {
    ServiceView {
        service: o.service,
        connections: o.stats.conns,
        packets_in: o.stats.inpkts,
        bytes_in: o.stats.inbytes,
        destinations: o
            .destinations
            .into_iter()
            .map(|d| DestinationView {
                address: SocketAddr::new(d.destination.address, d.destination.port),
                forwarding: d.destination.forwarding.name().into(),
                weight: d.destination.weight,
                active: d.connections.active,
                inactive: d.connections.inactive,
                persistent: d.connections.persistent,
                connections: d.stats.conns,
            })
            .collect(),
    }
}
