//! Tells an operator's programs and sockets of each change of an instance's state.
//!
//! ```text
//! RoleView (every transition has a number) --> Event --> a bounded queue for each hook --> one task a hook: in order,
//!                                                        (the oldest goes when it is full)   one at a time, with a limit
//! ```
//! The election publishes its view and knows nothing of this: a hook that hangs is given up at its time limit, one that is
//! too slow misses changes (which is said and counted), and nobody waits for either.
mod event;
mod queue;
mod tell;

use crate::vrrp::{InstanceView, RoleView};
use event::Event;
use lb_common::spec::{Hook, Spec};
use lb_common::vrrp::notify::Told;
use queue::Queue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// A running notifier.
#[derive(Debug)]
pub struct Notifier {
    finish: mpsc::Sender<oneshot::Sender<()>>,
}

/// Starts it, for as long as `roles` lives.
pub fn spawn(spec: watch::Receiver<Arc<Spec>>, roles: watch::Receiver<Arc<RoleView>>) -> Notifier {
    let (finish, finishing) = mpsc::channel(1);
    tokio::spawn(run(spec, roles, finishing));
    Notifier { finish }
}

impl Notifier {
    /// Tells of what the last view says, and waits until all that is left to be told was told, at most so long.
    pub async fn finish(self, limit: Duration) {
        let (tx, rx) = oneshot::channel();
        if self.finish.send(tx).await.is_ok() && tokio::time::timeout(limit, rx).await.is_err() {
            tracing::warn!("a notify hook was still at work and is killed");
        }
    }
}

async fn run(
    mut spec: watch::Receiver<Arc<Spec>>,
    mut roles: watch::Receiver<Arc<RoleView>>,
    mut finishing: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let mut keeper = Keeper::default();
    loop {
        let (current, view) = (
            spec.borrow_and_update().clone(),
            roles.borrow_and_update().clone(),
        );
        keeper.reload(&current);
        keeper.take(&view);
        tokio::select! {
            changed = roles.changed() => if changed.is_err() {
                // The election has ended; its last view stays where it is.
                let done = finishing.recv().await;
                keeper.take(&roles.borrow());
                return keeper.finish(done).await;
            },
            Ok(()) = spec.changed() => {}
            done = finishing.recv() => {
                keeper.take(&roles.borrow());
                return keeper.finish(done).await;
            }
        }
    }
}

/// What was told of whom.
#[derive(Debug, Default)]
struct Keeper {
    hooks: BTreeMap<String, Vec<Listening>>,
    seen: BTreeMap<String, Seen>,
}

/// One hook's queue and the task that empties it.
#[derive(Debug)]
struct Listening {
    hook: Hook,
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Seen {
    /// Of the last transition.
    number: u64,
    told: Option<Told>,
    /// As it was last seen.
    view: InstanceView,
}

impl Keeper {
    /// What stays keeps its queue; what is gone ends when its queue is empty.
    fn reload(&mut self, spec: &Spec) {
        let mut hooks = BTreeMap::new();
        for instance in &spec.instances {
            let mut old = self.hooks.remove(&instance.name).unwrap_or_default();
            let mut keep = |hook: &Hook| match old.iter().position(|l| &l.hook == hook) {
                Some(i) => old.swap_remove(i),
                None => Listening::start(hook),
            };
            let list: Vec<Listening> = instance.notify.iter().map(&mut keep).collect();
            old.iter().for_each(|l| l.queue.close());
            hooks.insert(instance.name.clone(), list);
        }
        // Those of an instance that leaves are told of its end.
        let leaving = std::mem::replace(&mut self.hooks, hooks);
        for (name, list) in leaving {
            if self.seen.contains_key(&name) {
                self.hooks.insert(name, list);
            } else {
                list.iter().for_each(|l| l.queue.close());
            }
        }
    }

    fn take(&mut self, roles: &RoleView) {
        for view in &roles.instances {
            self.take_one(view);
        }
        let gone: Vec<String> = (self.seen.keys())
            .filter(|name| !roles.instances.iter().any(|v| &v.name == *name))
            .cloned()
            .collect();
        for name in gone {
            // The last transition of one that was removed may have been in no view.
            if let Some(seen) = self.seen.remove(&name).filter(|s| s.told != Some(Told::Stop)) {
                self.tell(&Event::gone(&seen.view));
            }
            for listening in self.hooks.remove(&name).unwrap_or_default() {
                listening.queue.close();
            }
        }
    }

    fn take_one(&mut self, view: &InstanceView) {
        let (number, mut told) = match self.seen.get(&view.name) {
            Some(seen) => (seen.number, seen.told),
            None => (0, None),
        };
        // An instance of that name that was begun anew counts from 1 again.
        let last = view.transitions.last().map_or(0, |t| t.number);
        let number = if last < number { 0 } else { number };
        let fresh: Vec<Event> = (view.transitions.iter())
            .filter(|t| t.number > number)
            .filter_map(|t| Event::of(view, t))
            .collect();
        if let Some(first) = view.transitions.first().filter(|t| t.number > number + 1) {
            tracing::warn!(
                instance = %view.name,
                missed = first.number - number - 1,
                "the state changed faster than hooks could be told of it"
            );
        }
        for event in fresh {
            // Between two of one state (a holder that left and came back meanwhile) there is nothing to tell.
            if told != Some(event.told) {
                told = Some(event.told);
                self.tell(&event);
            }
        }
        let seen = Seen {
            number: last,
            told,
            view: view.clone(),
        };
        self.seen.insert(view.name.clone(), seen);
    }

    fn tell(&self, event: &Event) {
        for listening in self.hooks.get(&event.name).into_iter().flatten() {
            if listening.hook.wants(event.told) {
                listening.queue.push(event.clone());
            }
        }
    }

    async fn finish(mut self, done: Option<oneshot::Sender<()>>) {
        for listening in std::mem::take(&mut self.hooks).into_values().flatten() {
            listening.queue.close();
            let _ = listening.task.await;
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}

impl Listening {
    fn start(hook: &Hook) -> Self {
        let queue = Arc::new(Queue::default());
        let task = tokio::spawn(tell::all(hook.clone(), queue.clone()));
        Self {
            hook: hook.clone(),
            queue,
            task,
        }
    }
}

#[cfg(test)]
mod tests;
