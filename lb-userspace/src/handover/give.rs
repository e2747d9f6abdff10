//! The old daemon's end.
use super::wire::{self, Channel};
use super::{Answer, FORMAT, Held, Hello, Said, network};
use crate::datapath::proxy::Frozen;
use crate::reconcile::XdpLinks;
use crate::rundir::RunDir;
use crate::vrrp::RoleView;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, mpsc as blocking};
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What is asked and answered without thinking.
const SHORT: Duration = Duration::from_secs(5);
/// How long a new daemon may make ready: it loads programs into the kernel.
const PREPARING: Duration = Duration::from_secs(60);
/// How long it may need until it is in force. One that died is noticed at once.
const BEGINNING: Duration = Duration::from_secs(30);

/// Waits for a new daemon, on a thread of its own: one that is slow holds nobody up.
#[derive(Debug)]
pub struct Giver {
    ready: mpsc::Receiver<Asking>,
}

/// By what it is decided whether to hand over.
#[derive(Clone, Debug)]
pub struct Known {
    /// Who holds what.
    pub roles: watch::Receiver<Arc<RoleView>>,
    /// What keeps the XDP program on its interfaces.
    pub xdp_links: watch::Receiver<XdpLinks>,
}

/// A new daemon that is ready to take over.
#[derive(Debug)]
pub struct Asking {
    channel: Channel,
    /// The thread listens again when this is gone.
    _answered: blocking::Sender<()>,
}

impl Giver {
    /// Listens.
    pub fn open(run_dir: &RunDir, known: Known) -> io::Result<Self> {
        let listener = wire::open(&run_dir.takeover_socket())?;
        let lock: OwnedFd = run_dir.lock_file().try_clone()?.into();
        let (tell, ready) = mpsc::channel(1);
        thread::Builder::new()
            .name("handover".into())
            .spawn(move || listen(&listener, &lock, &known, &tell))?;
        Ok(Self { ready })
    }

    /// The next one that is ready.
    pub async fn next(&mut self) -> Asking {
        match self.ready.recv().await {
            Some(asking) => asking,
            None => std::future::pending().await,
        }
    }
}

fn listen(listener: &OwnedFd, lock: &OwnedFd, known: &Known, tell: &mpsc::Sender<Asking>) {
    loop {
        let channel = match Channel::accept(listener) {
            Ok(channel) => channel,
            Err(error) => {
                tracing::debug!(%error, "nobody can ask to take over for a moment");
                thread::sleep(Duration::from_secs(1));
                continue;
            }
        };
        let process = channel.peer();
        if let Err(error) = prepare(&channel, lock, known) {
            tracing::warn!(process, %error, "another cplb asked to take over and does not; this one goes on");
            continue;
        }
        let (answered, until_answered) = blocking::channel();
        let asking = Asking {
            channel,
            _answered: answered,
        };
        if let Err(refused) = tell.blocking_send(asking) {
            refused.0.refuse("it is leaving");
            return;
        }
        let _ = until_answered.recv();
    }
}

/// Hears it out, and lets it make ready.
fn prepare(channel: &Channel, lock: &OwnedFd, known: &Known) -> io::Result<()> {
    channel.patience(SHORT)?;
    let (hello, _) = channel.receive::<Hello>()?;
    let (roles, xdp) = (known.roles.borrow().clone(), !known.xdp_links.borrow().is_empty());
    if let Some(why) = objection(&hello, &roles, xdp, network()?) {
        channel.send(&Answer::Refused(why.clone()), &[])?;
        return Err(io::Error::other(why));
    }
    tracing::info!(
        process = channel.peer(),
        version = hello.version,
        "another cplb makes ready to take over"
    );
    channel.send(&Answer::Prepare, &[lock.as_fd()])?;
    channel.patience(PREPARING)?;
    hears(channel, Said::Ready)
}

/// Why `hello` is not answered with all that this daemon has.
fn objection(hello: &Hello, roles: &RoleView, xdp: bool, network: u64) -> Option<String> {
    if hello.format != FORMAT {
        return Some(format!(
            "it hands over in format {FORMAT}, and cplb {} takes over in format {}",
            hello.version, hello.format
        ));
    }
    if hello.network != network {
        return Some("it is in another network namespace".into());
    }
    if xdp {
        return Some(
            "its XDP program cannot be handed over; restart it instead: the next holder goes on with open connections".into(),
        );
    }
    let named = |held: &&crate::vrrp::InstanceView| {
        let same = |n: &super::Named| n.name == held.name && n.vrid == held.vrid && n.family == held.family;
        hello.instances.iter().any(same)
    };
    if let Some(missing) = roles.active().find(|i| !named(i)) {
        return Some(format!(
            "it holds the instance {} (VRID {}), which the new one's file does not have: let it read that file first (SIGHUP)",
            missing.name, missing.vrid
        ));
    }
    let lingers = roles
        .instances
        .iter()
        .find(|i| i.holds && roles.active().all(|a| a.name != i.name));
    lingers.map(|i| {
        format!(
            "the instance {} is changing its holder: try again in a moment",
            i.name
        )
    })
}

fn hears(channel: &Channel, wanted: Said) -> io::Result<()> {
    let (said, _) = channel.receive::<Said>()?;
    if said == wanted {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "it said {said:?} instead of {wanted:?}"
        )))
    }
}

/// A file that is nowhere.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("cplb-held", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

impl Asking {
    /// Its process; `None` where its number means nothing here.
    pub fn process(&self) -> Option<u32> {
        self.channel.peer()
    }

    /// Not this time.
    pub fn refuse(&self, why: &str) {
        if let Err(error) = self.channel.send(&Answer::Refused(why.to_owned()), &[]) {
            tracing::debug!(%error, "a new daemon could not be refused");
        }
    }

    /// Shows it what this one is and what was proxied, and waits until it has it. What went wrong leaves everything with this process.
    pub fn offer(&self, held: Held, frozen: &Frozen) -> io::Result<()> {
        self.channel.patience(SHORT)?;
        let bytes = in_memory(&frozen.held)?;
        let mut all = vec![bytes.as_fd()];
        all.extend(frozen.descriptors.iter().map(AsFd::as_fd));
        self.channel.send(
            &Answer::Sessions(Box::new(held), Box::new(frozen.state.clone())),
            &all,
        )?;
        hears(&self.channel, Said::Have)
    }

    /// Lets it act and waits until it is in force. Whatever this returns, nothing is this process's any more.
    pub fn commit(&self, held: Held) -> io::Result<()> {
        self.channel.patience(BEGINNING)?;
        self.channel.send(&Answer::Go(Box::new(held)), &[])?;
        hears(&self.channel, Said::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Named;
    use super::*;
    use lb_common::model::Family;
    use serde_json::json;

    fn roles(state: &str) -> RoleView {
        serde_json::from_value(json!({"generation": 1, "instances": [{
            "name": "api", "vrid": 51, "version": 3, "family": "ipv4", "interface": null,
            "source": null, "virtualIps": ["192.0.2.1/24"], "state": state, "holds": true, "priority": 100,
            "fault": null, "active": null, "transitions": [], "lastRejected": null,
            "counters": {"sent": 0, "received": 0, "announced": 0, "rejected": {}}, "conflict": null,
        }]}))
        .unwrap()
    }

    fn hello() -> Hello {
        Hello {
            format: FORMAT,
            version: "9".into(),
            network: 7,
            instances: vec![Named {
                name: "api".into(),
                vrid: 51,
                family: Family::Ipv4,
            }],
        }
    }

    #[test]
    fn what_cannot_go_well_is_refused_in_words() {
        let active = roles("Active");
        assert_eq!(objection(&hello(), &active, false, 7), None);
        let refused = |hello: Hello, roles: &RoleView, xdp, network, word: &str| {
            let why = objection(&hello, roles, xdp, network).unwrap();
            assert!(why.contains(word), "{why}");
        };
        let other = Hello {
            format: FORMAT + 1,
            ..hello()
        };
        refused(other, &active, false, 7, "format");
        refused(hello(), &active, false, 8, "namespace");
        refused(hello(), &active, true, 7, "XDP");
        let without = Hello {
            instances: vec![],
            ..hello()
        };
        refused(without.clone(), &active, false, 7, "VRID 51");
        refused(without, &roles("Leaving"), false, 7, "changing its holder");
    }

    #[test]
    fn another_formats_hello_is_understood_as_far_as_it_matters() {
        let hello: Hello = serde_json::from_str(r#"{"format": 9, "news": [1, 2]}"#).unwrap();
        assert_eq!(hello.format, 9);
    }
}
