//! Counters and tables for `status`.
use super::Xdp;
use super::attach::Attachment;
use super::chain;
use super::view::{BackendView, FlowsView, ForwarderView, InterfaceView, MemberView, XdpView};
use lb_common::abi::flow;
use lb_common::abi::reason::{Reason, Verdict};
use lb_common::plan::Forwarder;
use lb_common::xdp::{BackendKey, Reach};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the flow table is counted.
const COUNT: Duration = Duration::from_secs(5);

impl Xdp {
    /// What `status` shows. Counters that cannot be read are zero, which is said in the log.
    pub fn view(&mut self) -> Option<XdpView> {
        let wanted = self.wanted.clone()?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut view = XdpView {
            read_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            interfaces: self.attached.values().map(interface_view).collect(),
            trace: self.object.globals().trace,
            flows: self.flows(),
            next: self.next.as_ref().map(|n| n.path().to_owned()),
            root_array: self.root.as_ref().and(self.claimed.as_ref()).map(chain::shown),
            ..XdpView::default()
        };
        view.services = wanted.services.values().map(|s| self.forwarder(s)).collect();
        view.backends = self
            .numbers
            .backends()
            .map(|(n, key)| self.backend(n, key))
            .collect();
        for reason in Reason::ALL {
            let count = self.tables.reason(&self.object, *reason).unwrap_or_default();
            let list = match reason.verdict() {
                Verdict::Pass => &mut view.passed,
                Verdict::Drop => &mut view.dropped,
                Verdict::Answer => &mut view.answered,
            };
            if count > 0 {
                list.insert(reason.name().to_owned(), count);
            }
        }
        Some(view)
    }

    fn flows(&mut self) -> Option<FlowsView> {
        let now = Instant::now();
        if let Some((at, view)) = self.counted
            && now.duration_since(at) < COUNT
        {
            return Some(view);
        }
        let (probation, established) = self.tables.flows()?;
        let view = FlowsView {
            probation,
            established,
            room: (flow::SETS * flow::WAYS) as u64,
        };
        self.counted = Some((now, view));
        Some(view)
    }

    fn forwarder(&self, s: &Forwarder) -> ForwarderView {
        let number = self.numbers.services().find(|(_, key)| **key == s.key);
        let traffic = number.and_then(|(n, _)| self.tables.service(&self.object, n).ok());
        let member = |b: &lb_common::plan::Backend| MemberView {
            address: b.address,
            weight: b.weight,
            up: b.up,
        };
        ForwarderView {
            key: s.key,
            method: s.method.name().to_owned(),
            affinity: s.affinity.map(|p| p.timeout.as_secs()),
            traffic: traffic.unwrap_or_default().into(),
            backends: s.backends.iter().map(member).collect(),
        }
    }

    fn backend(&self, number: u16, key: &BackendKey) -> BackendView {
        let traffic = self.tables.backend(&self.object, number).unwrap_or_default();
        let reach = self.found.resolved.backends.get(&(key.address, key.method));
        BackendView {
            address: key.address,
            method: key.method.name().to_owned(),
            way: self.way(reach.copied().unwrap_or_default()),
            traffic: traffic.into(),
        }
    }

    fn way(&self, reach: Reach) -> String {
        match reach {
            Reach::Local => "this node".into(),
            Reach::Unresolved => "its MAC address is not known".into(),
            Reach::OnLink(hop) => match self.links.get(&hop.ifindex) {
                Some(link) => format!("{} on {}", hop.mac, link.name),
                None => format!("{} on interface {}", hop.mac, hop.ifindex),
            },
        }
    }
}

fn interface_view(a: &Attachment) -> InterfaceView {
    InterfaceView {
        name: a.site.name.clone(),
        mode: a.mode.name().to_owned(),
        why: a.why.clone(),
        program: a.program(),
    }
}
