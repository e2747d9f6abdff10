//! Taking everything down.
use super::kernel::{Extent, Kernel, Turn};
use lb_common::plan::{self, Bound, Desired, Lifetime, LocalLink, Op, Place, diff};
use lb_common::spec::Spec;

impl Kernel {
    /// Takes down what is ours; what is left although it should go comes back as sentences.
    pub async fn clear(&mut self, extent: Extent) -> Vec<String> {
        self.clear_and_tell(extent).await.1
    }

    /// The same, with what was done.
    pub async fn clear_and_tell(&mut self, extent: Extent) -> (Vec<Op>, Vec<String>) {
        let mut want = Desired {
            timeouts: self.journal.timeouts(),
            ..Desired::default()
        };
        let nothing = nothing();
        let mut turn = Turn::default();
        let have = match self.observe(&want, &nothing, &mut turn.problems).await {
            Ok(have) => have,
            Err(error) => {
                return (
                    vec![],
                    vec![format!("reading back what the kernel has: {error:#}")],
                );
            }
        };
        if extent == Extent::ButRealServer {
            keep_real_server(&mut want, &have);
        }
        let ops = diff(&want, &have, false);
        let failed = self.apply(&ops, &mut turn).await;
        self.leave_root_array(&mut turn);
        let done = ops.into_iter().filter(|op| !failed.contains(op)).collect();
        if turn.problems.is_empty() {
            self.journal.forget_timeouts();
            if let Err(error) = self.journal.save() {
                turn.problems.push(format!("writing the journal: {error}"));
            }
        }
        (done, turn.problems)
    }
}

/// The VIPs of direct routing, their labels, and the interface's silence about them, as they are now.
fn keep_real_server(want: &mut Desired, have: &plan::Observed) {
    want.local_link = have.local_link != LocalLink::Absent;
    let local = have.addresses.keys().filter(|a| a.place == Place::Local);
    want.addresses = local.map(|a| (*a, Lifetime::Forever)).collect();
    want.labels.clone_from(&have.labels);
    let about_arp = have
        .changed_sysctls
        .iter()
        .filter(|s| s.0.ends_with("/arp_ignore") || s.0.ends_with("/arp_announce"));
    want.sysctls = about_arp.map(|s| (s.clone(), Bound::AtLeast(i32::MIN))).collect();
}

/// A specification that asks for nothing.
pub(crate) fn nothing() -> Spec {
    Spec {
        name: String::new(),
        enabled: false,
        instances: vec![],
        sync_groups: vec![],
        virtual_servers: vec![],
        connection_sync: None,
        timeouts: None,
        xdp: lb_common::spec::Xdp::default(),
        proxy: lb_common::proxy::Settings::default(),
    }
}
