//! What the writer's owner asks of it.
use super::kernel::Kernel;
use super::{Loop, Reconciler};
use crate::datapath::proxy::Frozen;
use std::ops::ControlFlow;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// One thing to do, between two turns.
pub(super) enum Request {
    /// Take everything of ours down, say what could not be, and end.
    TearDown(oneshot::Sender<Vec<String>>),
    /// Let the proxy stand still. Everything else goes on.
    Freeze(oneshot::Sender<Frozen>),
    /// The proxy goes on: with what [`Self::Freeze`] gave.
    Thaw(Frozen),
    /// Write nothing more and change nothing. What only a living process keeps in the kernel stays until the receiver
    /// hears something, or that nobody will say anything.
    End(oneshot::Sender<()>, oneshot::Receiver<()>),
}

/// A writer that writes no more. The kernel has what it had.
pub struct Ended {
    let_go: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Ended {
    /// Gives up what only a living process keeps in the kernel, such as the steering of the proxy's clients.
    pub fn let_go(self) {
        drop(self.let_go);
        let _ = self.thread.join();
    }
}

impl Reconciler {
    /// Takes everything of ours down and ends. What could not be taken down comes back as sentences.
    pub async fn tear_down(self, limit: Duration) -> Vec<String> {
        let (tx, rx) = oneshot::channel();
        if self.requests.send(Request::TearDown(tx)).await.is_err() {
            return vec!["the reconciler had ended already".into()];
        }
        match tokio::time::timeout(limit, rx).await {
            Ok(Ok(problems)) => {
                let _ = self.thread.join();
                problems
            }
            Ok(Err(_)) => vec!["the reconciler ended without a word".into()],
            Err(_) => vec![format!("taking everything down took longer than {limit:?}")],
        }
    }

    /// The proxy stands still from now on; addresses are renewed and all else is kept. `None`: it did not within `limit`,
    /// and will not.
    pub async fn freeze_proxy(&self, limit: Duration) -> Option<Frozen> {
        let (tx, rx) = oneshot::channel();
        self.requests.send(Request::Freeze(tx)).await.ok()?;
        tokio::time::timeout(limit, rx).await.ok()?.ok()
    }

    /// The proxy goes on.
    pub async fn thaw_proxy(&self, frozen: Frozen) {
        // A thread that has ended is missed by its heartbeat.
        let _ = self.requests.send(Request::Thaw(frozen)).await;
    }

    /// Ends without taking anything down, for another process to go on. `None`: it did not within `limit`.
    pub async fn end(self, limit: Duration) -> Option<Ended> {
        let ((tx, rx), (let_go, told)) = (oneshot::channel(), oneshot::channel());
        self.requests.send(Request::End(tx, told)).await.ok()?;
        tokio::time::timeout(limit, rx).await.ok()?.ok()?;
        Some(Ended {
            let_go,
            thread: self.thread,
        })
    }
}

impl Loop {
    /// Does what is asked; breaks when that was the last thing. `None`: nobody is there to ask any more.
    pub(super) async fn answer(&self, request: Option<Request>, kernel: &mut Kernel) -> ControlFlow<()> {
        match request {
            Some(Request::Freeze(answer)) => {
                if let Err(frozen) = answer.send(kernel.freeze_proxy()) {
                    kernel.thaw_proxy(frozen);
                }
                ControlFlow::Continue(())
            }
            Some(Request::Thaw(frozen)) => {
                kernel.thaw_proxy(frozen);
                ControlFlow::Continue(())
            }
            Some(Request::End(answer, told)) => {
                if answer.send(()).is_ok() {
                    let _ = told.await;
                }
                ControlFlow::Break(())
            }
            Some(Request::TearDown(answer)) => {
                let _ = answer.send(self.take_down(kernel).await);
                ControlFlow::Break(())
            }
            None => {
                self.take_down(kernel).await;
                ControlFlow::Break(())
            }
        }
    }
}
