//! From a specification to what the driver starts with, and a look at which interface each instance would have.
use super::resolve::resolve;
use super::{Config, RoleView};
use crate::sys::linkmon::{LinkMonitor, MonitorError};
use lb_common::spec::{Instance, Spec};
use lb_common::time::Duration;

/// An instance, with the index and the name of its interface where there is one.
pub type Found = (Instance, Option<(u32, String)>);

impl Config {
    /// A daemon's.
    pub fn of(spec: &Spec) -> Self {
        Self {
            instances: spec.active_instances().to_vec(),
            sync_groups: spec.active_sync_groups().to_vec(),
            ..Self::default()
        }
    }

    /// One that goes on in the place of a daemon on this node which had these roles.
    pub fn resuming(spec: &Spec, roles: &RoleView) -> Self {
        Self {
            resumed: roles.active().map(|i| i.name.clone()).collect(),
            ..Self::of(spec)
        }
    }

    /// A guardian's: what a dead daemon held, to be left in its place. A sync group has no say in that.
    pub fn leaving(spec: &Spec, roles: &RoleView) -> Self {
        let held = |i: &&Instance| roles.instances.iter().any(|v| v.name == i.name && v.holds);
        Self {
            instances: spec.active_instances().iter().filter(held).cloned().collect(),
            leaving: true,
            ..Self::default()
        }
    }
}

/// Which interface each instance would run on now.
///
/// # Errors
/// The kernel's links cannot be listed.
pub fn resolve_interfaces(spec: &Spec) -> Result<Vec<Found>, MonitorError> {
    let monitor = read_once()?;
    let vips = spec.virtual_ips().map(|v| v.addr()).collect();
    let found = spec.active_instances().iter().map(|instance| {
        let interface = resolve(monitor.table(), instance, &vips, None).interface;
        (instance.clone(), interface.map(|r| (r.index, r.name)))
    });
    Ok(found.collect())
}

/// The answers come at once, but not with the question.
fn read_once() -> Result<LinkMonitor, MonitorError> {
    let mut monitor = LinkMonitor::open()?;
    let deadline = crate::clock::now() + Duration::from_secs(2);
    while !monitor.synced() && crate::clock::now() < deadline {
        if !monitor.drain(64)? {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(monitor)
}
