//! The program where it belongs, and nowhere else: on interfaces, in somebody's array, before the next program.
use super::Xdp;
use super::attach::{AttachError, Attachment};
use super::chain::{self, Next, Root};
use super::object::{Globals, ObjectError};
use super::place::{self, Site};
use crate::sys::bpf::XdpMode;
use crate::sys::ethtool;
use crate::sys::rtnl::Link;
use lb_common::plan::Forwarding;
use lb_common::spec::{self, RootArray};
use std::collections::{BTreeMap, BTreeSet};

impl Xdp {
    /// Where the program for each of these interfaces goes.
    pub(super) fn sites(
        &self,
        interfaces: &BTreeSet<u32>,
        wanted: &Forwarding,
        problems: &mut Vec<String>,
    ) -> BTreeMap<u32, Site> {
        let strips = |l: &Link| ethtool::strips_vlan_tags(&l.name).unwrap_or(true);
        let mut sites = BTreeMap::new();
        for index in interfaces {
            // One that is gone is the election's to say.
            let Some(link) = self.links.get(index) else {
                continue;
            };
            match place::place(link, &self.links, wanted.attach.mode, strips) {
                Ok(site) => drop(sites.insert(*index, site)),
                Err(why) => problems.push(why),
            }
        }
        sites
    }

    /// Hands what is passed to the program that is pinned at `next`, and to the one that takes its place there.
    pub(super) fn follow(
        &mut self,
        next: Option<&str>,
        problems: &mut Vec<String>,
    ) -> Result<(), ObjectError> {
        let globals = Globals {
            chain: next.is_some(),
            ..self.object.globals()
        };
        if globals != self.object.globals() {
            self.replace(globals)?;
            self.next = None;
        }
        let Some(path) = next else { return Ok(()) };
        match Next::open(path) {
            Ok(next) if self.next.as_ref().is_some_and(|n| n.is(&next)) => {}
            Ok(next) => match next.put_into(&mut self.object) {
                Ok(()) => self.next = Some(next),
                Err(why) => problems.push(why),
            },
            Err(why) => problems.push(why),
        }
        Ok(())
    }

    pub(super) fn leave_array(&mut self) {
        if let Some(root) = self.root.take() {
            root.leave();
        }
    }

    /// Has the program in the array.
    pub(super) fn enter(&mut self, array: &RootArray, problems: &mut Vec<String>) {
        if self.root.as_ref().is_some_and(|r| r.is_intact(array)) || !self.has_claimed(array) {
            return;
        }
        self.leave_array();
        match Root::enter(&mut self.object, array) {
            Ok(root) => {
                tracing::info!("the XDP program is in {}", chain::shown(array));
                self.root = Some(root);
                self.read_traces();
            }
            Err(why) => problems.push(why),
        }
    }

    /// Has the program on these places, and keeps it at most where `allowed` says.
    pub(super) fn attach(
        &mut self,
        sites: &BTreeMap<u32, Site>,
        allowed: &BTreeMap<u32, Site>,
        wanted: &Forwarding,
        problems: &mut Vec<String>,
    ) {
        let mode = wanted.attach.mode;
        let places: BTreeMap<u32, &Site> = allowed.values().map(|s| (s.interface, s)).collect();
        let held = !wanted.vips.is_empty();
        let keep = |index: &u32, a: &Attachment| {
            let mtu = self.links.get(index).map(|l| l.mtu);
            places
                .get(index)
                .is_some_and(|site| a.suits(site, mode, mtu, held))
                && a.is_intact()
        };
        let attached = self.attached.iter();
        let gone: Vec<u32> = attached.filter(|(i, a)| !keep(i, a)).map(|(i, _)| *i).collect();
        for index in gone {
            self.detach(index);
        }
        // From the bottom up: the kernel takes no program below another one.
        let mut order: Vec<&Site> = sites.values().collect();
        order.sort_by_key(|s| self.links.get(&s.interface).is_some_and(|l| l.vlan.is_some()));
        for site in order {
            match self.attach_one(site, mode) {
                Ok(()) | Err(AttachError::Gone(_)) => {}
                Err(error) => problems.push(error.to_string()),
            }
        }
    }

    /// Where a native program sends a frame out of another interface, most drivers take it only while they run a program
    /// themselves.
    pub(super) fn open_exits(
        &mut self,
        sites: &BTreeMap<u32, Site>,
        wanted: &Forwarding,
        problems: &mut Vec<String>,
    ) {
        let is_native = |a: &Attachment| a.mode == XdpMode::Native;
        if wanted.vips.is_empty() || !self.attached.values().any(is_native) {
            return;
        }
        let exits = self
            .found
            .egress
            .iter()
            .filter(|i| !wanted.interfaces.contains(i));
        for index in exits.copied().collect::<Vec<_>>() {
            let Some(name) = self.links.get(&index).map(|l| l.name.clone()) else {
                continue;
            };
            let why = match sites.get(&index).filter(|s| s.generic.is_none()) {
                None => "no driver runs XDP on it".to_owned(),
                Some(site) => match self.attach_one(site, wanted.attach.mode) {
                    // Somebody else's will do.
                    Err(AttachError::Occupied(owner)) if owner.on.native => continue,
                    Err(error) => error.to_string(),
                    Ok(()) if self.attached.get(&site.interface).is_some_and(is_native) => continue,
                    Ok(()) => "its driver runs no XDP program".to_owned(),
                },
            };
            problems.push(format!(
                "packets to some real servers leave by {name}, which may not take them from a native XDP program ({why}); \
                 `xdp.mode: generic` needs nothing of it"
            ));
        }
    }

    pub(super) fn attach_one(&mut self, site: &Site, mode: spec::XdpMode) -> Result<(), AttachError> {
        if self.attached.contains_key(&site.interface) {
            return Ok(());
        }
        let ours: Vec<u32> = self.attached.values().filter_map(Attachment::program).collect();
        let mut made = Attachment::make(&mut self.object, site, &self.links, mode, &ours);
        if let Err(AttachError::OursAbove(_, above)) = &made {
            // It is put back in the next turn.
            self.detach(*above);
            made = Attachment::make(&mut self.object, site, &self.links, mode, &ours);
        }
        let made = made?;
        let why = made.why.as_deref().unwrap_or_default();
        match made.mode {
            XdpMode::Native => {
                tracing::info!(interface = site.name, why, "the XDP program is attached, native")
            }
            XdpMode::Generic => tracing::warn!(
                interface = site.name,
                why,
                "the XDP program is attached, generic: slower than native"
            ),
        }
        self.attached.insert(site.interface, made);
        self.read_traces();
        Ok(())
    }

    pub(super) fn detach(&mut self, index: u32) {
        if let Some(attachment) = self.attached.remove(&index) {
            tracing::info!(interface = attachment.site.name, "the XDP program is detached");
            attachment.detach();
        }
    }
}
