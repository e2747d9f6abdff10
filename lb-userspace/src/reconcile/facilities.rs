//! What this kernel has, and what is done without the rest.
use super::kernel::{Kernel, Purpose, Turn};
use crate::datapath::ipvs::{Ipvs, IpvsError};
use crate::datapath::xdp::{Xdp, chain};
use crate::sys::guard::Guard;
use crate::sys::modules;
use lb_common::plan::{Carrier, Desired, Facilities, carried, carrier, remarks, seeks_ipvs};
use lb_common::spec::{DatapathKind, Spec, VirtualServer};
use lb_common::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// How often something that the kernel lacked is looked for again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(30);

impl Kernel {
    /// IPVS and nftables, where they are. With `load`, a module that is missing is asked for.
    pub(super) fn look_for_facilities(&mut self, load: bool) {
        if self.ipvs.is_none() {
            let mut found = Ipvs::open();
            if load && matches!(found, Err(IpvsError::Unsupported)) {
                if let Err(error) = modules::ensure("ip_vs") {
                    tracing::debug!(%error, "ip_vs cannot be loaded");
                }
                found = Ipvs::open();
            }
            self.ipvs_missing = found.as_ref().err().map(ToString::to_string);
            self.ipvs = found.ok();
        }
        if self.guard.is_none() {
            let found = Guard::open();
            self.guard_missing = found.as_ref().err().map(ToString::to_string);
            self.guard = found.ok();
        }
    }

    /// Looks for what is missing of them: IPVS as long as somebody would take it who is not carried, and the guard where
    /// there is IPVS.
    pub(super) fn look_again(&mut self, spec: &Spec) {
        if seeks_ipvs(spec.virtual_servers.iter(), self.facilities())
            || self.ipvs.is_some() && self.guard.is_none()
        {
            self.looked = Some(crate::clock::now());
            self.look_for_facilities(true);
        }
    }

    /// Finds what the file asks for, before anything waits for it.
    pub(super) async fn prepare(&mut self, spec: &Spec) {
        if spec.enabled && !spec.virtual_servers.is_empty() {
            self.look_again(spec);
            self.look_for_xdp(spec).await;
        }
        let proxied = |vs: &VirtualServer| vs.datapath == DatapathKind::Proxy;
        let wants_proxy = spec.proxy.bind_port.is_some() || spec.virtual_servers.iter().any(proxied);
        if spec.enabled && wants_proxy && self.purpose == Purpose::Run {
            self.proxy.prepare(&spec.proxy);
        }
    }

    /// What this node can balance with.
    pub(super) fn facilities(&self) -> Facilities {
        Facilities {
            ipvs: self.ipvs.is_some(),
            xdp: self.xdp.is_some(),
        }
    }

    /// The XDP program, where the file asks for it: `datapath: xdp`, or `auto` without IPVS. It is loaded to find out
    /// whether it can be.
    pub(super) async fn look_for_xdp(&mut self, spec: &Spec) {
        let now = crate::clock::now();
        let due = self
            .looked_for_xdp
            .is_none_or(|at| now.saturating_since(at) >= LOOK_AGAIN);
        let with = Facilities {
            xdp: true,
            ..self.facilities()
        };
        let asks = |vs: &VirtualServer| carrier(vs, with) == Some(Carrier::Xdp);
        if self.xdp.is_some()
            || !due
            || self.purpose == Purpose::Leave
            || !spec.virtual_servers.iter().any(asks)
        {
            return;
        }
        self.looked_for_xdp = Some(now);
        let found = Xdp::open().await;
        self.xdp_missing = found.as_ref().err().map(ToString::to_string);
        self.xdp = found.ok();
    }

    pub(super) fn note_missing(&self, spec: &Spec, turn: &mut Turn) {
        // The guardian has no program of its own: the daemon's goes on.
        let has = Facilities {
            xdp: self.xdp.is_some() || self.purpose == Purpose::Leave,
            ..self.facilities()
        };
        let mut idle: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut missing = BTreeSet::new();
        for vs in &spec.virtual_servers {
            let carried = carried(vs, has);
            if carried.by.is_none() {
                turn.unable.insert(vs.key);
                idle.entry(carried.because).or_default().push(vs.key.to_string());
                let tried = [
                    ("IPVS", DatapathKind::Ipvs, &self.ipvs_missing),
                    ("XDP", DatapathKind::Xdp, &self.xdp_missing),
                ];
                missing.extend(tried.into_iter().filter_map(|(name, kind, why)| {
                    let why = why
                        .as_ref()
                        .filter(|_| vs.datapath == kind || vs.datapath == DatapathKind::Auto)?;
                    Some(format!("{name} cannot be used: {why}"))
                }));
            }
        }
        for (because, keys) in &idle {
            turn.problems.push(format!(
                "the virtual IP is carried and nothing balances {}: {because}",
                some(keys)
            ));
        }
        turn.problems.extend(missing);
        let by_ipvs = |vs: &VirtualServer| {
            carrier(vs, has) == Some(Carrier::Ipvs) && vs.forwarding.needs_vip_on_real_server()
        };
        if self.guard.is_none() && spec.virtual_servers.iter().any(by_ipvs) {
            turn.problems.extend(self.guard_missing.as_ref().map(|why| {
                format!(
                    "there is no guard against packets that circle between two directors during a change of holder: {why}"
                )
            }));
        }
    }

    /// What the file asks for and this node's datapaths do not do, and what else is to be known of it. Nothing is wrong.
    pub(super) fn remarks(&self, spec: &Spec) -> Vec<String> {
        let has = self.facilities();
        let mut out = remarks(spec, has);
        let mut without: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for vs in &spec.virtual_servers {
            for what in carried(vs, has).without {
                without.entry(what).or_default().push(vs.key.to_string());
            }
        }
        out.extend(
            without
                .iter()
                .map(|(what, keys)| format!("{}: {what}", some(keys))),
        );
        out
    }

    /// The XDP program goes into somebody else's array of programs only where nobody's is, and after that was written
    /// down: it stays there when this process dies.
    pub(super) fn claim_root_array(&mut self, want: &Desired, turn: &mut Turn) {
        let wanted = want
            .forwarding
            .as_ref()
            .and_then(|f| f.attach.root_array.as_ref());
        let Some(array) = wanted else {
            // Taken out of the file. Who only leaves lets it direct until the end.
            if self.purpose == Purpose::Run {
                self.leave_root_array(turn);
            }
            return;
        };
        let Some(xdp) = self.xdp.as_mut() else { return };
        if xdp.has_claimed(array) {
            return;
        }
        if self.journal.root_array() != Some(array) {
            if let Err(why) = chain::is_free(array) {
                turn.problems.push(why);
                return;
            }
            self.leave_root_array(turn);
            self.journal.entering(Some(array));
            if let Err(error) = self.journal.save() {
                turn.problems.push(format!("writing the journal: {error}"));
                return;
            }
        }
        if let Some(xdp) = self.xdp.as_mut() {
            xdp.claim(array);
        }
    }

    /// Takes the XDP program out of the array that the journal names.
    pub(super) fn leave_root_array(&mut self, turn: &mut Turn) {
        let Some(array) = self.journal.root_array() else {
            return;
        };
        match chain::take_out(array) {
            Ok(_) => self.journal.entering(None),
            Err(why) => turn.problems.push(why),
        }
    }
}

/// The first few, and how many more.
fn some(keys: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = keys.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match keys.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
