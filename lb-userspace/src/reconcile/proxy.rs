//! The userspace proxy in the writer's hands: started when something is to be proxied, stopped when nothing is.
use super::kernel::{Kernel, Turn};
use crate::datapath::proxy::{Proxy, ProxyView};
use anyhow::Context;
use lb_common::plan::{Op, Proxying};

impl Kernel {
    /// Serves exactly this.
    pub(super) fn set_proxy(&mut self, want: &Proxying, turn: &mut Turn) -> anyhow::Result<()> {
        let proxy = match self.proxy.as_mut() {
            Some(proxy) => proxy,
            None => self
                .proxy
                .insert(Proxy::start(&want.settings).context("starting the userspace proxy")?),
        };
        turn.problems.extend(proxy.set(want));
        Ok(())
    }

    pub(super) fn stop_proxy(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.stop();
        }
    }

    /// What was said when it was set is still true, where it was not set in this turn.
    pub(super) fn note_proxy(&self, ops: &[Op], turn: &mut Turn) {
        if let Some(proxy) = &self.proxy
            && !ops.iter().any(|op| matches!(op, Op::SetProxy(_)))
        {
            turn.problems.extend(proxy.problems());
        }
    }

    pub(super) fn proxy_view(&self) -> Option<ProxyView> {
        self.proxy.as_ref().map(Proxy::view)
    }
}
