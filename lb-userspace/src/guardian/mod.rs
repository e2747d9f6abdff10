//! A second, idle process that leaves well in the daemon's place when the daemon dies.
//!
//! ```text
//! daemon --- Message (a line of JSON) over a socket pair ---> guardian
//!        --- end of file: the daemon is dead ------------->  takes over: priority 0, answers until the successor is
//!                                                            heard, then takes everything down
//! ```
//! The end of file is the kernel's own word: it comes with the daemon's last breath, however it died, and cannot come
//! while it lives. The run directory's lock is inherited, so a new daemon waits until the guardian has finished.
//! When guardian and daemon die together, the kernel lease on the addresses is what is left.
mod parent;
mod takeover;

pub use parent::Guardian;
pub use takeover::watch_over;

use crate::vrrp::RoleView;
use lb_common::health::HealthView;
use lb_common::spec::Spec;
use serde::{Deserialize, Serialize};

/// What the daemon tells its guardian.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Message {
    /// What is held now, and what is needed to let go of it.
    Holding {
        /// The configuration in force.
        spec: Box<Spec>,
        /// Who holds what.
        roles: RoleView,
        /// Which real servers answer.
        health: HealthView,
        /// So many descriptors came beside the line: links that keep the XDP program on its interfaces. Holding them is
        /// all that is done with them, so that connections go on while the guardian leaves.
        #[serde(default)]
        xdp_links: usize,
    },
    /// The daemon has left well: go, and touch nothing.
    Done,
}
