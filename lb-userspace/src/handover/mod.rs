//! A new binary in a running daemon's place, on the same node, while both live: `cplb run --take-over`, or SIGUSR2.
//!
//! ```text
//! new daemon                                old daemon
//!     |--- Hello {format, instances} --------->|   refused where it cannot go well; then nothing has happened
//!     |<-- Prepare, the lock ------------------|   goes on as ever
//!     |    its guardian, the kernel's facilities
//!     |--- Ready ----------------------------->|   the proxy stands still: its listening sockets take clients in
//!     |<-- Sessions, every socket -------------|   addresses are renewed, adverts are sent
//!     |--- Have ------------------------------>|   the writer ends, and takes nothing down
//!     |<-- Go {roles, health} -----------------|   adverts are sent, clients are steered
//!     |    Active, first turn, guardian told
//!     |--- Done ------------------------------>|   ends without a word to anybody
//! ```
//! Until `Go` the old daemon can go on as it was whatever becomes of the new one: only its proxy stood still, and goes on
//! with what it had. From `Go` on the new one acts. If it dies before it has said `Done`, the old one ends as if killed,
//! so that its guardian leaves in its place: what it handed over may have changed in the other's hands.
//!
//! Nobody is refused: the listening sockets never close, and who connects meanwhile waits in them. No session breaks: what
//! was read and not written yet is in the state. The virtual IP stays: the kernel's lease outlasts the change, both send
//! adverts rather than none, and the new daemon is Active from its first moment.
mod give;
mod take;
mod wire;

pub use give::{Asking, Giver, Known};
pub use take::{Asked, Done, TakeError, Taken, ask};

use crate::datapath::proxy::FrozenProxy;
use crate::rundir::RunDir;
use crate::vrrp::RoleView;
use lb_common::health::HealthView;
use lb_common::model::Family;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Changes with everything that two daemons of different versions could take for something else.
const FORMAT: u32 = 1;

/// What a new daemon says first. That much is understood by every format, so that it can be refused in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hello {
    format: u32,
    #[serde(default)]
    version: String,
    /// The network namespace, by its inode.
    #[serde(default)]
    network: u64,
    /// What it would elect.
    #[serde(default)]
    instances: Vec<Named>,
}

/// Says which instance is the same in two files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    vrid: u8,
    family: Family,
}

/// What the old one says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    /// Not this time, and why.
    Refused(String),
    /// Make ready. Beside it: the run directory's lock.
    Prepare,
    /// What it was and what it proxied. Beside it: a file with what sessions hold, and the sockets.
    Sessions(Box<Held>, Box<FrozenProxy>),
    /// Act. What it was may be newer, and is sure to be understood.
    Go(Box<Held>),
}

/// What the new one says after [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Said {
    /// All that could fail was tried.
    Ready,
    /// The sessions are here.
    Have,
    /// Everything is in force here.
    Done,
}

/// What an old daemon was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// What it held.
    pub roles: RoleView,
    /// Which real servers answered.
    pub health: HealthView,
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

/// The network namespace of this process.
fn network() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/self/ns/net")?.ino())
}
