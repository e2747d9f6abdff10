//! The election's driver: sockets, timers and announcements on a thread of its own.
//!
//! It owns the raw sockets and feeds [`lb_common::vrrp::Router`]; it never touches an address, a virtual server or a
//! file. It says what it wants held through a [`RoleView`] (latest value wins, so a slow reader builds no queue), and is
//! told by [`Command::Applied`] when that is so. Each turn: (1) a late wake-up is told to the machines, (2) every socket
//! is drained, (3) timers, (4) actions, (5) the view is published, (6) the heartbeat is set, (7) sleep.
mod view;

pub use view::{Counters, HeardFrom, InstanceView, InterfaceRef, Rejected, RoleView, TransitionRecord};

use lb_common::spec::{Instance, SyncGroup};

/// What the daemon may tell the driver.
#[derive(Debug)]
pub enum Command {
    /// The kernel holds what the view with this generation asked for.
    Applied {
        /// [`RoleView::generation`].
        generation: u64,
    },
    /// Other instances or other settings. Instances are the same when interface, family and VRID are; what is new
    /// starts, what is gone leaves well.
    Reload {
        /// As in [`lb_common::spec::Spec::instances`].
        instances: Vec<Instance>,
        /// As in [`lb_common::spec::Spec::sync_groups`].
        sync_groups: Vec<SyncGroup>,
    },
    /// What something outside the driver adds to an instance's priority.
    Weight {
        /// [`Instance::name`].
        instance: String,
        /// 0: nothing.
        weight: i32,
    },
    /// Leave well. The thread ends when every instance has let go.
    Shutdown,
}
