//! A socket lookup program: loading and attaching it by `bpf(2)` alone.
//!
//! aya's loader first reads what the kernel says of its own types (BTF), which no such program needs: for the daemon, whose
//! memory is locked, that is 16 MiB that can never be given back. Layouts are those of `union bpf_attr`.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use super::bpf::call;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
/// `BPF_PROG_TYPE_SK_LOOKUP`
const PROGRAM_TYPE: u32 = 30;
/// `BPF_SK_LOOKUP` of `enum bpf_attach_type`.
const ATTACH_TYPE: u32 = 36;
/// Bytes of the verifier's account of what it refused.
const LOG: usize = 64 * 1024;
/// `BPF_OBJ_NAME_LEN`, with the zero at its end.
const NAME: usize = 16;

/// An instruction, as the kernel takes it (`struct bpf_insn`).
pub type Instruction = [u8; 8];

/// The beginning of what `BPF_PROG_LOAD` takes.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_len: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME],
    interface: u32,
    attach_type: u32,
}

/// Loads a program whose maps are in it by their descriptors. An error comes with the verifier's account, if it made one.
pub fn load(
    name: &str,
    instructions: &[Instruction],
    license: &CStr,
) -> Result<OwnedFd, (io::Error, String)> {
    let mut attr = Load {
        kind: PROGRAM_TYPE,
        count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        attach_type: ATTACH_TYPE,
        ..Load::default()
    };
    for (place, byte) in attr.name.iter_mut().zip(name.bytes().take(NAME - 1)) {
        *place = byte;
    }
    let error = match call(PROG_LOAD, &mut attr) {
        // SAFETY: BPF_PROG_LOAD gave a new descriptor, which nobody else knows.
        Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(error) => error,
    };
    // Once more for the reason: asking for it costs, and without one the first error is what there is to say.
    let mut log = vec![0u8; LOG];
    attr.log_level = 1;
    attr.log_len = u32::try_from(log.len()).unwrap_or(0);
    attr.log = log.as_mut_ptr() as u64;
    if let Ok(fd) = call(PROG_LOAD, &mut attr) {
        // SAFETY: as above.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    let account =
        CStr::from_bytes_until_nul(&log).map_or_else(|_| String::new(), |c| c.to_string_lossy().into());
    Err((error, account))
}

/// Attaches it to a network namespace for as long as somebody holds the answer open.
pub fn attach(program: BorrowedFd<'_>, namespace: impl AsFd) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        program: RawFd,
        namespace: RawFd,
        attach_type: u32,
        flags: u32,
    }
    let mut attr = Attr {
        program: program.as_raw_fd(),
        namespace: namespace.as_fd().as_raw_fd(),
        attach_type: ATTACH_TYPE,
        flags: 0,
    };
    let fd = call(LINK_CREATE, &mut attr)?;
    // SAFETY: BPF_LINK_CREATE gave a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
