//! What we changed and the kernel cannot tell us: virtual servers carry no mark, and a parameter does not remember what
//! it was. Written before the change, so that whoever comes after a crash can undo it.
use lb_common::model::ServiceKey;
use lb_common::plan::Sysctl;
use lb_common::spec::{IpvsTimeouts, RootArray};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::{fs, io};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entries {
    /// What each parameter was before us.
    sysctls: BTreeMap<Sysctl, i32>,
    /// Virtual servers of ours. A list, since a JSON key is a text.
    services: BTreeSet<ServiceKey>,
    /// Address labels of ours.
    labels: BTreeMap<Ipv6Addr, u32>,
    /// Whether a synchronisation daemon is ours.
    syncs: bool,
    /// What IPVS's timeouts were before us.
    timeouts: Option<IpvsTimeouts>,
    /// Somebody else's array of programs that our XDP program is in.
    root_array: Option<RootArray>,
}

/// The journal, in memory and on disk.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    now: Entries,
    on_disk: Entries,
}

impl Journal {
    /// Reads what an earlier run left. A journal that cannot be read is set aside and said: what it named is lost, but
    /// addresses and links carry our mark and are found without it. With `look_only` it stays where it is.
    pub(super) fn open(path: &Path, look_only: bool) -> Self {
        let on_disk = match fs::read(path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(entries)) => entries,
            Ok(Err(error)) if look_only => {
                tracing::warn!(path = %path.display(), %error,
                    "the journal of an earlier run cannot be read; the next `cplb run` will set it aside: \
                     kernel parameters that it changed stay as they are");
                Entries::default()
            }
            Ok(Err(error)) => {
                let aside = path.with_extension("unreadable");
                let _ = fs::rename(path, &aside);
                tracing::warn!(path = %path.display(), %error, aside = %aside.display(),
                    "the journal of an earlier run cannot be read and was set aside: \
                     kernel parameters that it changed stay as they are");
                Entries::default()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Entries::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the journal cannot be read");
                Entries::default()
            }
        };
        Self {
            path: path.to_owned(),
            now: on_disk.clone(),
            on_disk,
        }
    }

    /// Virtual servers of ours.
    pub(super) fn services(&self) -> &BTreeSet<ServiceKey> {
        &self.now.services
    }

    /// Labels of ours.
    pub(super) fn labels(&self) -> &BTreeMap<Ipv6Addr, u32> {
        &self.now.labels
    }

    /// Parameters that we changed, with what they were.
    pub(super) fn sysctls(&self) -> &BTreeMap<Sysctl, i32> {
        &self.now.sysctls
    }

    /// A parameter is about to be changed from `was`. The first word counts: later ones are our own values.
    pub(super) fn changing(&mut self, sysctl: &Sysctl, was: i32) {
        self.now.sysctls.entry(sysctl.clone()).or_insert(was);
    }

    /// A parameter was put back.
    pub(super) fn restored(&mut self, sysctl: &Sysctl) {
        self.now.sysctls.remove(sysctl);
    }

    /// A virtual server is about to be added.
    pub(super) fn adding(&mut self, key: ServiceKey) {
        self.now.services.insert(key);
    }

    /// A virtual server was deleted.
    pub(super) fn deleted(&mut self, key: &ServiceKey) {
        self.now.services.remove(key);
    }

    /// A label is about to be set.
    pub(super) fn labelling(&mut self, address: Ipv6Addr, label: u32) {
        self.now.labels.insert(address, label);
    }

    /// Whether a synchronisation daemon is ours.
    pub(super) fn syncs(&self) -> bool {
        self.now.syncs
    }

    /// A synchronisation daemon is about to be started, or was stopped.
    pub(super) fn synchronising(&mut self, yes: bool) {
        self.now.syncs = yes;
    }

    /// What IPVS's timeouts were before us.
    pub(super) fn timeouts(&self) -> Option<IpvsTimeouts> {
        self.now.timeouts
    }

    /// IPVS's timeouts are about to be changed from `was`.
    pub(super) fn changing_timeouts(&mut self, was: IpvsTimeouts) {
        self.now.timeouts.get_or_insert(was);
    }

    /// IPVS's timeouts were put back.
    pub(super) fn forget_timeouts(&mut self) {
        self.now.timeouts = None;
    }

    /// The array of programs that our XDP program is in.
    pub(super) fn root_array(&self) -> Option<&RootArray> {
        self.now.root_array.as_ref()
    }

    /// The XDP program is about to be put into an array of programs, or was taken out of it.
    pub(super) fn entering(&mut self, array: Option<&RootArray>) {
        self.now.root_array = array.cloned();
    }

    /// A label was taken away.
    pub(super) fn unlabelled(&mut self, address: Ipv6Addr) {
        self.now.labels.remove(&address);
    }

    /// Writes it if it changed: to a new file that then takes the old one's name, so that a crash leaves one or the other. Not synced: what it names dies with the host too.
    /// An empty journal is no file.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.now == self.on_disk {
            return Ok(());
        }
        if self.now == Entries::default() {
            match fs::remove_file(&self.path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
        } else {
            let new = self.path.with_extension("new");
            let mut file = fs::File::create(&new)?;
            file.write_all(&serde_json::to_vec_pretty(&self.now)?)?;
            fs::rename(&new, &self.path)?;
        }
        self.on_disk = self.now.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::model::Protocol;

    #[test]
    fn it_comes_back_as_it_was_and_is_gone_when_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.json");
        let arp = Sysctl::ipv4_conf("eth0.100", "arp_ignore");
        let key = ServiceKey {
            address: "192.0.2.1".parse().unwrap(),
            port: 6443,
            protocol: Protocol::Tcp,
        };
        let mut journal = Journal::open(&path, false);
        journal.changing(&arp, 0);
        journal.changing(&arp, 1);
        journal.adding(key);
        journal.save().unwrap();
        let mut again = Journal::open(&path, false);
        assert_eq!(
            again.sysctls().get(&arp),
            Some(&0),
            "the administrator's value, not ours"
        );
        assert!(again.services().contains(&key));
        again.restored(&arp);
        again.deleted(&key);
        again.save().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_broken_one_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.json");
        fs::write(&path, "{ not json").unwrap();
        assert!(Journal::open(&path, true).services().is_empty());
        assert!(path.exists(), "who only looks changes nothing");
        assert!(Journal::open(&path, false).services().is_empty());
        assert!(path.with_extension("unreadable").exists());
    }
}
