//! What `bpf(2)` is asked beside loading: XDP links, raw values of maps, who a program is.
//!
//! aya loads programs and makes maps. It is not used for these because its attaching falls back to netlink, whose
//! attachment outlives the process; because a value of 130 kB would go through the stack; and because the descriptor
//! of a link, which the guardian is to hold as well, stays inside. Layouts are those of `union bpf_attr` in the
//! kernel's `include/uapi/linux/bpf.h`.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use lb_common::abi::tables::{BACKENDS, POOLS, RING_ROOM, SERVICES, VIPS};
use lb_common::abi::{self, Ring, Side};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const MAP_DELETE_ELEM: i32 = 3;
const MAP_CREATE: i32 = 0;
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
/// `BPF_MAP_TYPE_PROG_ARRAY`
const PROGRAM_ARRAY: u32 = 3;
const PROG_GET_FD_BY_ID: i32 = 13;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;
const LINK_GET_FD_BY_ID: i32 = 30;
const LINK_GET_NEXT_ID: i32 = 31;
const LINK_DETACH: i32 = 34;
/// `BPF_LINK_TYPE_XDP`
const LINK_TYPE_XDP: u32 = 6;
/// `BPF_XDP` of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;

/// How a program is to be run on an interface (`XDP_FLAGS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpMode {
    /// By the driver, before a packet buffer exists.
    Native,
    /// By the kernel's network stack.
    Generic,
}

impl XdpMode {
    const fn flags(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
        }
    }

    /// As `status` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Attaches a program to an interface of the calling thread's network namespace for as long as somebody holds the
/// answer open.
pub fn attach_xdp(program: BorrowedFd<'_>, interface: u32, mode: XdpMode) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        program: RawFd,
        interface: u32,
        attach_type: u32,
        flags: u32,
    }
    let mut attr = Attr {
        program: program.as_raw_fd(),
        interface,
        attach_type: ATTACH_XDP,
        flags: mode.flags(),
    };
    let fd = call(LINK_CREATE, &mut attr)?;
    // SAFETY: BPF_LINK_CREATE gave a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program in a link's place, between two packets.
pub fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link: RawFd,
        program: RawFd,
        flags: u32,
        old: RawFd,
    }
    let mut attr = Attr {
        link: link.as_raw_fd(),
        program: program.as_raw_fd(),
        flags: 0,
        old: 0,
    };
    call(LINK_UPDATE, &mut attr).map(drop)
}

/// Takes a link's program off its interface, whoever else holds the link open.
pub fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = link.as_raw_fd();
    call(LINK_DETACH, &mut attr).map(drop)
}

/// A link, as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its own number.
    pub id: u32,
    /// The program's.
    pub program: u32,
    /// The interface's; 0 once that is gone.
    pub interface: u32,
}

/// Describes an XDP link.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    xdp_link(link)?.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn xdp_link(link: BorrowedFd<'_>) -> io::Result<Option<LinkInfo>> {
    /// The beginning of `struct bpf_link_info` for XDP.
    #[repr(C, align(8))]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        pad: u32,
        interface: u32,
        rest: [u32; 27],
    }
    let mut info = Info::default();
    describe(link, &mut info)?;
    Ok((info.kind == LINK_TYPE_XDP).then_some(LinkInfo {
        id: info.id,
        program: info.program,
        interface: info.interface,
    }))
}

/// The number of the link that holds a program on an interface, whoever's. `None` also without CAP_SYS_ADMIN, which
/// looking through all links needs. Of a link in another network namespace the index means another interface: the
/// program's number is what tells.
pub fn xdp_link_on(interface: u32, program: u32) -> Option<u32> {
    let mut id = 0;
    loop {
        id = next_link(id).ok()?;
        let Ok(link) = by_id(LINK_GET_FD_BY_ID, id) else {
            continue;
        };
        match xdp_link(link.as_fd()) {
            Ok(Some(found)) if found.interface == interface && found.program == program => return Some(id),
            Ok(_) | Err(_) => {}
        }
    }
}

fn next_link(after: u32) -> io::Result<u32> {
    #[repr(C)]
    struct Attr {
        start: u32,
        next: u32,
        flags: u32,
    }
    let mut attr = Attr {
        start: after,
        next: 0,
        flags: 0,
    };
    call(LINK_GET_NEXT_ID, &mut attr)?;
    Ok(attr.next)
}

/// A program, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its number.
    pub id: u32,
    /// Its name, at most 15 bytes of it.
    pub name: String,
    /// Who loaded it.
    pub uid: u32,
    /// When: nanoseconds since boot (CLOCK_BOOTTIME).
    pub loaded_ns: u64,
}

/// Describes a program.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    /// The beginning of `struct bpf_prog_info`.
    #[repr(C, align(8))]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        jited_len: u32,
        xlated_len: u32,
        jited: u64,
        xlated: u64,
        loaded_ns: u64,
        uid: u32,
        map_count: u32,
        maps: u64,
        name: [u8; 16],
        rest: [u64; 20],
    }
    let mut info = Info::default();
    describe(program, &mut info)?;
    let name = info.name.split(|b| *b == 0).next().unwrap_or_default();
    Ok(ProgramInfo {
        id: info.id,
        name: String::from_utf8_lossy(name).into_owned(),
        uid: info.uid,
        loaded_ns: info.loaded_ns,
    })
}

/// Opens what is pinned at that path, whatever it is.
pub fn open_pinned(path: &str) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        path: u64,
        fd: RawFd,
        flags: u32,
    }
    let path = CString::new(path)?;
    let mut attr = Attr {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = call(OBJ_GET, &mut attr)?;
    // SAFETY: BPF_OBJ_GET gave a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins something at a path on a BPF filesystem.
pub fn pin(object: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        path: u64,
        fd: RawFd,
        flags: u32,
    }
    let path = CString::new(path)?;
    let mut attr = Attr {
        path: path.as_ptr() as u64,
        fd: object.as_raw_fd(),
        flags: 0,
    };
    call(OBJ_PIN, &mut attr).map(drop)
}

/// Makes an array of so many programs, all of one kind.
pub fn program_array(places: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        kind: u32,
        key: u32,
        value: u32,
        places: u32,
    }
    let mut attr = Attr {
        kind: PROGRAM_ARRAY,
        key: 4,
        value: 4,
        places,
    };
    let fd = call(MAP_CREATE, &mut attr)?;
    // SAFETY: BPF_MAP_CREATE gave a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the program of that number. Needs CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(PROG_GET_FD_BY_ID, id)
}

fn by_id(command: i32, id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        id: u32,
        next: u32,
        flags: u32,
    }
    let mut attr = Attr {
        id,
        next: 0,
        flags: 0,
    };
    let fd = call(command, &mut attr)?;
    // SAFETY: both commands that open by number give a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Writes one element of an array map. `value` has the map's value size: the caller knows the map.
pub fn write(map: BorrowedFd<'_>, index: u32, value: &[u8]) -> io::Result<()> {
    element(MAP_UPDATE_ELEM, map, index, value.as_ptr() as u64)
}

/// A side as the bytes of `SIDES`' element.
pub fn side_bytes(side: &Side) -> &[u8] {
    const HEAD: usize = 2 * 8 + 4 * 4 + size_of::<abi::hash::Key>();
    const _: () = assert!(
        size_of::<Side>() == HEAD + VIPS * 32 + SERVICES * 40 + BACKENDS * 64 + POOLS * BACKENDS,
        "no padding, which would be bytes without a value"
    );
    // SAFETY: `Side` is `repr(C)`, of integers only and without padding, so all its bytes are initialised; the slice
    // lives as long as the borrow.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(side).cast(), size_of::<Side>()) }
}

/// A ring as the bytes of `RINGS`' element.
pub fn ring_bytes(ring: &Ring) -> &[u8] {
    const _: () = assert!(size_of::<Ring>() == RING_ROOM * 2);
    // SAFETY: an array of integers has no padding; the slice lives as long as the borrow.
    unsafe { std::slice::from_raw_parts(ring.as_ptr().cast(), size_of::<Ring>()) }
}

/// Reads one element of an array map into `value`, which has the map's value size (rounded up to 8 bytes, times the
/// number of possible processors where the map is per processor).
pub fn read(map: BorrowedFd<'_>, index: u32, value: &mut [u8]) -> io::Result<()> {
    element(MAP_LOOKUP_ELEM, map, index, value.as_mut_ptr() as u64)
}

/// Puts a program into an array of programs.
pub fn set_program(array: BorrowedFd<'_>, index: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    write(array, index, &program.as_raw_fd().to_ne_bytes())
}

/// The number of the program in a place of an array of programs.
pub fn program_in(array: BorrowedFd<'_>, index: u32) -> io::Result<Option<u32>> {
    let mut id = [0; 4];
    match read(array, index, &mut id) {
        Ok(()) => Ok(Some(u32::from_ne_bytes(id))),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Empties a place in an array of programs. An empty one stays empty.
pub fn unset_program(array: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    match element(MAP_DELETE_ELEM, array, index, 0) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

fn element(command: i32, map: BorrowedFd<'_>, index: u32, value: u64) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        map: RawFd,
        pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut attr = Attr {
        map: map.as_raw_fd(),
        pad: 0,
        key: (&raw const index) as u64,
        value,
        flags: 0,
    };
    call(command, &mut attr).map(drop)
}

fn describe<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        object: RawFd,
        len: u32,
        info: u64,
    }
    let mut attr = Attr {
        object: object.as_raw_fd(),
        len: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    call(OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

pub(super) fn call<T>(command: i32, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes at `attr`, takes what is beyond them for zero, and of
    // the buffers that it names as many bytes as the map or `len` says; all of them outlive the call.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    match RawFd::try_from(r) {
        Ok(r) if r >= 0 => Ok(r),
        _ => Err(io::Error::last_os_error()),
    }
}
