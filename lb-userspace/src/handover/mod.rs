//! A new binary in a running daemon's place, on the same node, while both live: `cplb run --take-over`, or SIGUSR2.
//!
//! ```text
//! new daemon                              old daemon
//!     |--- Hello {format} ------------------->|   refused where that cannot go well: the new one waits for the lock
//!     |                                       |   the reconciler ends without taking down, the proxy's threads hand
//!     |                                       |   over what they have, the election stops without a goodbye
//!     |<-- State, and every descriptor -------|   listening sockets, clients' and servers' sockets, the lock
//!     |   goes on where the old one was       |   waits; its socket lookup program still steers
//!     |--- Done ----------------------------->|   ends without a word to the kernel
//! ```
//! Nobody is refused: the listening sockets never close, and who connects meanwhile waits in them. No session breaks:
//! what was read and not written yet is in the state. The virtual IP stays: the kernel's lease outlasts the change, and
//! the new daemon is Active from its first moment. If the new one dies before it is done, the old one ends as if killed,
//! and its guardian leaves in its place.
mod give;
mod take;
mod wire;

pub use give::Giver;
pub use take::{Taken, take};

use crate::datapath::proxy::FrozenProxy;
use crate::rundir::RunDir;
use crate::vrrp::RoleView;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Changes with everything that two daemons of different versions could take for something else.
const FORMAT: u32 = 1;

/// What a new daemon says first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hello {
    format: u32,
}

/// What the old one answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    /// All of it. Descriptors come in this order: the lock, then the proxy's.
    State(Box<State>),
    /// Not this time, and why.
    Refused(String),
}

/// What an old daemon was and had.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    /// What it held.
    roles: RoleView,
    /// What it proxied.
    proxy: Option<FrozenProxy>,
}

fn socket_in(run_dir: &Path) -> PathBuf {
    run_dir.join("takeover.sock")
}

impl RunDir {
    /// Where a new daemon asks for it.
    pub fn takeover_socket(&self) -> PathBuf {
        socket_in(self.path())
    }
}
