//! Living beside another XDP program: an interface takes one program only.
//!
//! Either ours is on the interface and hands what it passes to theirs (`xdp.next`: a pinned program), or theirs is there
//! and calls ours (`xdp.rootArray`: an entry of a pinned array of programs that it tail-calls).
use super::object::Object;
use crate::sys::bpf;
use lb_common::abi;
use lb_common::spec::RootArray;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The program that ours hands on to.
#[derive(Debug)]
pub(super) struct Next {
    path: String,
    program: OwnedFd,
    id: u32,
}

impl Next {
    /// Opens the program that is pinned there now.
    pub(super) fn open(path: &str) -> Result<Self, String> {
        let what = |error: &io::Error| {
            format!(
                "`xdp.next` names {path}, which cannot be used as an XDP program ({error}): what ours passes goes where it \
                 went before, at first to the kernel"
            )
        };
        let program = bpf::open_pinned(path).map_err(|e| what(&e))?;
        let info = bpf::program_info(program.as_fd()).map_err(|e| what(&e))?;
        Ok(Self {
            path: path.to_owned(),
            program,
            id: info.id,
        })
    }

    /// Whether it is the same program under the same name.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.id, &self.path) == (other.id, &other.path)
    }

    /// Lets `object`'s programs call it.
    pub(super) fn put_into(&self, object: &mut Object) -> Result<(), String> {
        object.set_next(self.program.as_fd()).map_err(|error| {
            format!(
                "the program {} at {} (`xdp.next`) cannot follow ours ({error}): it has to be an XDP program, and for \
                 frames of several buffers where ours is (`xdp.frags`)",
                self.id, self.path
            )
        })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// Our program in somebody else's array. It stays there until it is taken out, also when this process dies: then its
/// lease runs out, and it passes everything. So the place is written down before the program is put there.
#[derive(Debug)]
pub(super) struct Root {
    array: RootArray,
    map: OwnedFd,
    /// The number of the program that was put there.
    program: u32,
    /// Whether it is the variant for frames of several buffers.
    frags: bool,
}

impl Root {
    /// Puts the program there, whatever is there now: see [`is_free`].
    pub(super) fn enter(object: &mut Object, array: &RootArray) -> Result<Self, String> {
        let mut root = Self {
            array: array.clone(),
            map: open_array(array)?,
            program: 0,
            frags: false,
        };
        let Err(plain) = root.put(object) else {
            return Ok(root);
        };
        // An array takes programs of one kind only.
        root.frags = true;
        let second = object.need_frags().map_err(|e| e.to_string());
        match second.and_then(|()| root.put(object)) {
            Ok(()) => Ok(root),
            Err(frags) => Err(format!(
                "the XDP program cannot be put into {}: {plain}; for frames of several buffers: {frags}",
                shown(array)
            )),
        }
    }

    /// Puts the program of another object there, in the place of the one before it.
    pub(super) fn put(&mut self, object: &Object) -> Result<(), String> {
        let program = object.program(self.frags).map_err(|e| e.to_string())?;
        bpf::set_program(self.map.as_fd(), self.array.index, program).map_err(|e| e.to_string())?;
        let info = bpf::program_info(program).map_err(|e| e.to_string())?;
        self.program = info.id;
        Ok(())
    }

    /// Whether it is still there, in this array.
    pub(super) fn is_intact(&self, array: &RootArray) -> bool {
        let there = bpf::program_in(self.map.as_fd(), self.array.index);
        self.array == *array && there.is_ok_and(|id| id == Some(self.program))
    }

    /// Takes it out.
    pub(super) fn leave(self) {
        if let Err(why) = take_out(&self.array) {
            tracing::warn!(
                why,
                "the XDP program stays in `xdp.rootArray`, and passes everything"
            );
        }
    }
}

/// Whether our program can be put there without taking somebody else's out.
///
/// # Errors
/// A sentence: why not.
pub fn is_free(array: &RootArray) -> Result<(), String> {
    let map = open_array(array)?;
    match bpf::program_in(map.as_fd(), array.index) {
        Ok(None) => Ok(()),
        Ok(Some(id)) => Err(format!(
            "{} has program {id} already, which is somebody else's: choose another entry, or take that one out",
            shown(array)
        )),
        Err(e) => Err(format!("{} cannot be read ({e})", shown(array))),
    }
}

/// Takes a program of ours out of an array. True if one was there.
///
/// # Errors
/// A sentence: why not.
pub fn take_out(array: &RootArray) -> Result<bool, String> {
    let failed = |e: io::Error| format!("taking the XDP program out of {}: {e}", shown(array));
    let map = match bpf::open_pinned(&array.path) {
        Ok(map) => map,
        // Gone with everything in it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed(e)),
    };
    let Some(id) = bpf::program_in(map.as_fd(), array.index).map_err(failed)? else {
        return Ok(false);
    };
    // Who may not ask for its name takes it for what the journal says that it is.
    let name = bpf::program_by_id(id)
        .and_then(|p| bpf::program_info(p.as_fd()))
        .map(|info| info.name);
    if name.is_ok_and(|n| n != abi::XDP_PROGRAM && n != abi::XDP_PROGRAM_FRAGS) {
        return Ok(false);
    }
    bpf::unset_program(map.as_fd(), array.index).map_err(failed)?;
    Ok(true)
}

fn open_array(array: &RootArray) -> Result<OwnedFd, String> {
    bpf::open_pinned(&array.path).map_err(|e| {
        format!(
            "`xdp.rootArray` names {}, which cannot be opened as an array of programs ({e})",
            array.path
        )
    })
}

/// For sentences and `status`.
pub(super) fn shown(array: &RootArray) -> String {
    format!("entry {} of {} (`xdp.rootArray`)", array.index, array.path)
}
