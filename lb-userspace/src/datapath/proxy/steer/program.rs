//! The socket lookup program, attached to this network namespace for as long as this process lives.
use crate::sys::sk_lookup::{self, Instruction};
use aya::maps::{Map, MapData, SockHash};
use aya_obj::Object;
use lb_common::abi::steer::{Key, PROGRAM, SOCKETS};
use lb_common::model::ServiceKey;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use std::collections::HashMap;
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
    _link: OwnedFd,
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
        let lacks = || LoadError::Refused("the object in this binary is another revision's".to_owned());
        let mut object = Object::parse(OBJECT).map_err(|e| refused(&e))?;
        let mut maps = make_maps(&object)?;
        let instructions = link(&mut object, &maps)?.ok_or_else(lacks)?;
        let program = sk_lookup::load(PROGRAM, &instructions, &object.license).map_err(|(error, log)| {
            let log = last_words(&log);
            LoadError::Refused(format!("{error}{log}"))
        })?;
        let here = File::open("/proc/thread-self/ns/net").map_err(|e| refused(&e))?;
        let link = sk_lookup::attach(program.as_fd(), here).map_err(|e| refused(&e))?;
        let sockets = maps.remove(SOCKETS).ok_or_else(lacks)?;
        let sockets = SockHash::try_from(Map::SockHash(sockets)).map_err(|e| refused(&e))?;
        Ok(Self { _link: link, sockets })
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

/// The object's maps, which the program keeps alive.
fn make_maps(object: &Object) -> Result<HashMap<String, MapData>, LoadError> {
    let make = |(name, map): (&String, &aya_obj::Map)| {
        let made = MapData::create(map.clone(), name, None).map_err(|e| LoadError::Refused(causes(&e)))?;
        Ok((name.clone(), made))
    };
    object.maps.iter().map(make).collect()
}

/// The program's instructions with its maps' descriptors and its calls in them; `None`: it is not in the object.
fn link(object: &mut Object, maps: &HashMap<String, MapData>) -> Result<Option<Vec<Instruction>>, LoadError> {
    let refused = |e: &dyn std::error::Error| LoadError::Refused(causes(e));
    let text = object.functions.keys().map(|(section, _)| *section).collect();
    let parsed = object.maps.clone();
    let fds = parsed.iter().filter_map(|(name, map)| {
        let fd = maps.get(name)?.fd().as_fd().as_raw_fd();
        Some((name.as_str(), fd, map))
    });
    object.relocate_maps(fds, &text).map_err(|e| refused(&e))?;
    object.relocate_calls(&text).map_err(|e| refused(&e))?;
    let program = object.programs.get(PROGRAM);
    let function = program.and_then(|p| object.functions.get(&p.function_key()));
    Ok(function.map(|f| f.instructions.iter().map(as_bytes).collect()))
}

/// As the kernel reads it, on a machine of either order.
fn as_bytes(i: &aya_obj::generated::bpf_insn) -> Instruction {
    let registers = i.src_reg() << 4 | i.dst_reg();
    let registers = if cfg!(target_endian = "little") {
        registers
    } else {
        registers.rotate_left(4)
    };
    let [a, b] = i.off.to_ne_bytes();
    let [c, d, e, f] = i.imm.to_ne_bytes();
    [i.code, registers, a, b, c, d, e, f]
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
