//! The userspace proxy in the writer's hands: started when something is to be proxied, stopped when nothing is; and the
//! nftables table that is its last resort.
use super::kernel::{Kernel, Turn};
use crate::datapath::proxy::{Frozen, Proxy, ProxyView, Remains};
use crate::sys::guard::redirect::Redirect;
use anyhow::Context;
use lb_common::plan::{Op, Proxying};
use lb_common::proxy::Settings;
use std::time::Duration;

/// How long the kernel redirects for a silent holder. A little longer than the addresses' lease.
const LEASE: Duration = Duration::from_secs(4);

/// The proxy and what belongs to it.
#[derive(Debug, Default)]
pub(super) struct ProxyHand {
    running: Option<Proxy>,
    /// It stands still, because another process is about to go on.
    still: Option<(Proxying, Remains)>,
    /// Of the one that stood still, until another one of this process steers its clients.
    remains: Option<Remains>,
    /// What is to be gone on with.
    taken: Option<Frozen>,
    /// The table of ours, once it was needed or found.
    table: Option<Redirect>,
    /// Whether an earlier run's table was looked for.
    looked: bool,
}

impl ProxyHand {
    /// What is served; where nothing is and a table is left over, an empty list of it.
    pub(super) async fn serving(&mut self) -> Option<Proxying> {
        if let Some(proxy) = &self.running {
            return Some(proxy.serving());
        }
        if let Some((serving, _)) = &self.still {
            return Some(serving.clone());
        }
        if !self.looked {
            self.looked = true;
            if let Ok(mut table) = Redirect::open()
                && table.is_there().await
            {
                self.table = Some(table);
            }
        }
        self.table.as_ref().map(|_| Proxying::default())
    }

    /// Starts it, to serve nothing yet. What is in the way is said when there is something to serve.
    pub(super) fn prepare(&mut self, settings: &Settings) {
        if self.running.is_none() {
            self.running = Proxy::start(settings).ok();
        }
    }

    async fn set(&mut self, want: &Proxying) -> anyhow::Result<Vec<String>> {
        if self.still.is_some() {
            return Ok(vec![]);
        }
        let proxy = match self.running.as_mut() {
            Some(proxy) => proxy,
            None => {
                let proxy = Proxy::start(&want.settings).context("starting the userspace proxy")?;
                self.running.insert(proxy)
            }
        };
        if let Some(taken) = self.taken.take() {
            proxy.resume(taken);
        }
        let problems = proxy.set(want);
        self.remains = None;
        self.redirect().await.map_err(anyhow::Error::msg)?;
        Ok(problems)
    }

    /// Redirects what nothing else steers, for as long as this node holds it.
    async fn redirect(&mut self) -> Result<(), String> {
        let Some(proxy) = &self.running else { return Ok(()) };
        if proxy.redirected().is_empty() {
            return match self.table.take() {
                Some(mut table) => table.remove().await,
                None => Ok(()),
            };
        }
        let table = match self.table.as_mut() {
            Some(table) => table,
            None => self.table.insert(Redirect::open()?),
        };
        table.apply(proxy.redirected()).await?;
        table.renew(&proxy.held(), LEASE).await
    }

    async fn stop(&mut self) -> Result<(), String> {
        (self.still, self.remains, self.taken) = (None, None, None);
        if let Some(proxy) = self.running.take() {
            proxy.stop();
        }
        match self.table.as_mut() {
            Some(table) => table.remove().await?,
            None => return Ok(()),
        }
        self.table = None;
        Ok(())
    }

    pub(super) fn view(&self) -> Option<ProxyView> {
        self.running.as_ref().map(Proxy::view)
    }
}

impl Kernel {
    /// Serves exactly this.
    pub(super) async fn set_proxy(&mut self, want: &Proxying, turn: &mut Turn) -> anyhow::Result<()> {
        turn.problems.extend(self.proxy.set(want).await?);
        Ok(())
    }

    pub(super) async fn stop_proxy(&mut self) -> anyhow::Result<()> {
        self.proxy.stop().await.map_err(anyhow::Error::msg)
    }

    /// It stands still until [`Self::thaw_proxy`]. What it was, and its sockets, come back.
    pub(super) fn freeze_proxy(&mut self) -> Frozen {
        let Some(proxy) = self.proxy.running.take() else {
            return Frozen::default();
        };
        let serving = proxy.serving();
        let (frozen, remains) = proxy.freeze();
        self.proxy.still = Some((serving, remains));
        frozen
    }

    /// Goes on with what it was, or what another process's was, when it is set the next time.
    pub(super) fn thaw_proxy(&mut self, frozen: Frozen) {
        self.proxy.remains = self.proxy.still.take().map(|(_, remains)| remains);
        self.proxy.taken = Some(frozen);
    }

    /// Each turn in which it is not set: what was said when it was is still true, and what was redirected still is.
    pub(super) async fn maintain_proxy(&mut self, ops: &[Op], turn: &mut Turn) {
        if ops
            .iter()
            .any(|op| matches!(op, Op::SetProxy(_) | Op::DeleteProxy))
        {
            return;
        }
        if let Some(taken) = self.proxy.taken.take().filter(|t| !t.state.sessions.is_empty()) {
            let sessions = taken.state.sessions.len();
            tracing::warn!(
                sessions,
                "nothing is proxied by this file: the connections of the daemon before this one end"
            );
        }
        if let Some(proxy) = &self.proxy.running {
            turn.problems.extend(proxy.problems());
            turn.problems.extend(self.proxy.redirect().await.err());
        }
    }
}
