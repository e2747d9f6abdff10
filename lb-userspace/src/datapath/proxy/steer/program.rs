//! The socket lookup program, attached to this network namespace for as long as this process lives.
use aya::maps::{MapData, SockHash};
use aya::programs::{ProgramError, SkLookup};
use aya::{Ebpf, EbpfError};
use lb_common::abi::steer::{Key, PROGRAM, SOCKETS};
use lb_common::model::ServiceKey;
use rustix::fd::{AsRawFd, OwnedFd};
use std::fs::File;

/// A key as bytes.
type Bytes = [u8; size_of::<Key>()];

#[cfg(cplb_steer)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.o"));
#[cfg(not(cplb_steer))]
static OBJECT: &[u8] = &[];

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// This binary was built without.
    #[error("this cplb was built without its socket lookup program")]
    NotBuilt,
    /// The kernel has no such thing, or forbids it.
    #[error(
        "the kernel takes no socket lookup program: {0} (it needs Linux 5.9, and CAP_BPF with CAP_NET_ADMIN)"
    )]
    Refused(String),
}

/// Attached. Dropping it detaches.
pub(super) struct Program {
    // Holds the link.
    _ebpf: Ebpf,
    sockets: SockHash<MapData, Bytes>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Program")
    }
}

impl Program {
    pub(super) fn load() -> Result<Self, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NotBuilt);
        }
        let refused = |e: &dyn std::error::Error| LoadError::Refused(causes(e));
        let mut ebpf = Ebpf::load(OBJECT).map_err(|e: EbpfError| refused(&e))?;
        let lacks = || LoadError::Refused("the object in this binary is another revision's".to_owned());
        let program: &mut SkLookup = ebpf
            .program_mut(PROGRAM)
            .and_then(|p| p.try_into().ok())
            .ok_or_else(lacks)?;
        let attach = |program: &mut SkLookup| -> Result<(), ProgramError> {
            program.load()?;
            let here = File::open("/proc/thread-self/ns/net").map_err(ProgramError::IOError)?;
            program.attach(here).map(drop)
        };
        attach(program).map_err(|e| match e {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => LoadError::Refused(format!("{io_error}{}", last_words(&verifier_log.to_string()))),
            other => refused(&other),
        })?;
        let sockets = ebpf.take_map(SOCKETS).ok_or_else(lacks)?;
        let sockets = SockHash::try_from(sockets).map_err(|e| refused(&e))?;
        Ok(Self { _ebpf: ebpf, sockets })
    }

    /// Connections to `key` come to `socket`, which listens.
    pub(super) fn steer(&mut self, key: ServiceKey, socket: &OwnedFd) -> Result<(), String> {
        self.sockets
            .insert(bytes(key), socket.as_raw_fd(), 0)
            .map_err(|e| format!("its table of sockets: {}", causes(&e)))
    }

    pub(super) fn leave(&mut self, key: ServiceKey) {
        // Not there: its socket was closed, which takes it out.
        let _ = self.sockets.remove(&bytes(key));
    }
}

/// As the program has it.
fn bytes(key: ServiceKey) -> Bytes {
    let Key {
        address: [a, b, c, d],
        family,
        port,
    } = Key::of(key.address, key.port);
    let mut out = Bytes::default();
    for (place, word) in out.chunks_exact_mut(4).zip([a, b, c, d, family, port]) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    out
}

/// What the verifier says at the end, behind its account of the program.
fn last_words(log: &str) -> String {
    let says = |line: &&str| {
        let boring = ["processed ", "verification time ", "stack depth "];
        !line.trim().is_empty() && !boring.iter().any(|b| line.starts_with(b))
    };
    log.lines()
        .rev()
        .find(says)
        .map(|l| format!(" ({l})"))
        .unwrap_or_default()
}

/// An error with what caused it, and a system call's refusal in its own words.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}
