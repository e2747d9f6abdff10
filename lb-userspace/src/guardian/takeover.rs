//! The guardian's end: waits for the daemon's, then leaves in its place.
use super::Message;
use crate::daemon::{leave_for, wait_for_leaving};
use crate::reconcile::{Inputs, Opened, Purpose};
use crate::rundir::RunDir;
use crate::sys::fdpass;
use crate::vrrp::{self, RoleView};
use anyhow::Context;
use lb_common::health::HealthView;
use lb_common::spec::Spec;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Reads until the daemon ends; returns at once if it left well.
pub fn watch_over(run_dir: &Path) -> anyhow::Result<()> {
    // Ending together with the daemon is what it must not do: systemd sends SIGTERM to both.
    crate::sys::process::ignore_stop_signals().context("ignoring signals")?;
    if let Err(error) = crate::sys::process::set_oom_score_adj(-1000) {
        tracing::debug!(%error, "the kernel may kill the guardian for memory like any other");
    }
    let lock = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .context("taking the run directory's lock over")?;
    let run_dir = RunDir::inherited(run_dir, lock.into());
    let (last, links) = listen(std::io::stdin().as_fd()).context("listening to the daemon")?;
    match last {
        Some(Message::Holding {
            spec, roles, health, ..
        }) => {
            let done = take_over(&run_dir, *spec, roles, health);
            // Until here the daemon's XDP program goes on directing, as long as its lease allows.
            drop(links);
            done
        }
        Some(Message::Done) | None => Ok(()),
    }
}

/// The newest message when the stream ends, and the links that came with it. A line cut short by the daemon's death is
/// not one.
fn listen(socket: BorrowedFd<'_>) -> std::io::Result<(Option<Message>, Vec<OwnedFd>)> {
    let (mut last, mut links) = (None, Vec::new());
    let mut line = Vec::new();
    let mut arrived = VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (n, fds) = fdpass::receive(socket, &mut buffer)?;
        arrived.extend(fds);
        let mut rest = match buffer.get(..n) {
            None | Some([]) => return Ok((last, links)),
            Some(rest) => rest,
        };
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (head, tail) = rest.split_at(end);
            line.extend_from_slice(head);
            rest = tail.get(1..).unwrap_or_default();
            if let Ok(message) = serde_json::from_slice(&line) {
                // What came with the lines before goes, and with it nothing but a copy.
                links = match &message {
                    Message::Holding { xdp_links, .. } => {
                        arrived.drain(..arrived.len().min(*xdp_links)).collect()
                    }
                    Message::Done => vec![],
                };
                last = Some(message);
            }
            line.clear();
        }
        line.extend_from_slice(rest);
    }
}

fn take_over(run_dir: &RunDir, spec: Spec, roles: RoleView, health: HealthView) -> anyhow::Result<()> {
    let held = roles.instances.iter().filter(|i| i.holds).count();
    run_dir.sign();
    tracing::warn!(held, "the daemon died: leaving in its place");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    runtime.block_on(async {
        let limit = leave_for(&spec);
        let spec = Arc::new(spec);
        let opened =
            Opened::new(run_dir.journal(), Purpose::Leave, &spec).context("starting the reconciler")?;
        let driver = vrrp::spawn(vrrp::Config::leaving(&spec, &roles)).context("taking the election over")?;
        let (merged, merged_rx) = watch::channel(Arc::new(merge(&roles, &driver.roles().borrow())));
        let (_spec, spec_rx) = watch::channel(spec);
        let (_health, health_rx) = watch::channel(Arc::new(health));
        let reconciler = opened.run(Inputs {
            spec: spec_rx,
            roles: merged_rx,
            health: health_rx,
            commander: driver.commander(),
            election: driver.heartbeat(),
            proxy: None,
        });
        let mut changes = driver.roles();
        let follow = async {
            while changes.changed().await.is_ok() {
                merged.send_replace(Arc::new(merge(&roles, &changes.borrow_and_update())));
            }
            std::future::pending::<bool>().await
        };
        tokio::select! {
            left = wait_for_leaving(&driver, limit) => if !left {
                tracing::warn!("nobody was heard to take over in time");
            },
            _ = follow => {}
        }
        merged.send_replace(Arc::new(merge(&roles, &driver.roles().borrow())));
        let problems = reconciler.tear_down(Duration::from_secs(5)).await;
        for problem in &problems {
            tracing::error!(problem, "left behind; `cplb cleanup` tries again");
        }
        let _ = std::fs::remove_file(run_dir.socket());
        tracing::info!("left in the daemon's place");
        Ok(())
    })
}

/// What the daemon had, with what leaves as it is now: the instances that held nothing keep their interface, so that
/// what stands on it is taken down last and not first. One that leaves and was not looked at yet has no interface in its
/// view: it is as the daemon had it, or its address would be gone for a moment.
fn merge(daemon: &RoleView, leaving: &RoleView) -> RoleView {
    let mut merged = daemon.clone();
    merged.generation = leaving.generation;
    for instance in &mut merged.instances {
        let now = leaving.instances.iter().find(|i| i.name == instance.name);
        if let Some(now) = now.filter(|i| i.interface.is_some() || i.fault.is_some()) {
            *instance = now.clone();
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::net::UnixStream;

    fn view(state: &str, interface: bool, fault: Option<&str>) -> RoleView {
        let interface = interface.then(|| json!({"index": 2, "name": "eth0"}));
        serde_json::from_value(json!({"generation": 7, "instances": [{
            "name": "api", "vrid": 51, "version": 3, "family": "ipv4", "interface": interface,
            "source": null, "virtualIps": ["192.0.2.1/24"], "state": state, "holds": true, "priority": 100,
            "fault": fault, "active": null, "transitions": [], "lastRejected": null,
            "counters": {"sent": 0, "received": 0, "announced": 0, "rejected": {}}, "conflict": null,
        }]}))
        .unwrap()
    }

    #[test]
    fn the_newest_whole_message_counts_with_the_links_that_came_with_it() {
        let holding = |xdp_links: usize| {
            let message = Message::Holding {
                spec: Box::new(crate::reconcile::nothing()),
                roles: view("Active", true, None),
                health: HealthView::default(),
                xdp_links,
            };
            let mut line = serde_json::to_vec(&message).unwrap();
            line.push(b'\n');
            line
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let files: Vec<_> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
        let inode = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).unwrap().st_ino;
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        let lines = holding(1);
        fdpass::send(ours.as_fd(), &lines, &fds[..1]).unwrap();
        // In two portions, the first beside the end of the line before it.
        fdpass::send(ours.as_fd(), b"not a message\n", &[]).unwrap();
        let line = holding(2);
        fdpass::send(ours.as_fd(), &line[..1], &fds[1..2]).unwrap();
        fdpass::send(ours.as_fd(), &line[1..], &fds[2..]).unwrap();
        fdpass::send(ours.as_fd(), b"{\"holding\": cut short", &fds[..1]).unwrap();
        drop(ours);
        let (last, links) = listen(theirs.as_fd()).unwrap();
        assert!(matches!(last, Some(Message::Holding { xdp_links: 2, .. })));
        let got: Vec<u64> = links.iter().map(|l| inode(l.as_fd())).collect();
        assert_eq!(got, [inode(fds[1]), inode(fds[2])]);
    }

    #[test]
    fn what_was_not_looked_at_yet_is_as_the_daemon_had_it() {
        let daemon = view("Active", true, None);
        let interface = |leaving: &RoleView| merge(&daemon, leaving).instances[0].interface.clone();
        assert!(interface(&view("Initialize", false, None)).is_some());
        assert!(interface(&view("Leaving", true, None)).is_some());
        assert!(interface(&view("Initialize", false, Some("noInterface"))).is_none());
    }
}
