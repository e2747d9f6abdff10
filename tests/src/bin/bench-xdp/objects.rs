//! The two objects that `cargo xtask build-ebpf` makes, loaded: the bench's own programs, and the product.
use crate::frames::Frame;
use anyhow::{Context, Result};
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, TestRunResult, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use lb_common::abi::bench::{Drive, map, program};
use std::env;
use std::fs;
use std::path::PathBuf;

/// A layout of `lb_common::abi` as the kernel copies it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Plain<T>(pub(crate) T);

#[expect(unsafe_code, reason = "aya has no other way to be told that a type is plain")]
// SAFETY: only instantiated with types of lb_common::abi: integers and arrays in `repr(C)` without padding, for which any
// bytes are a value.
unsafe impl<T: Copy + 'static> Pod for Plain<T> {}

/// `cargo xtask bench` names the objects; without it the usual place below the workspace is tried.
pub(crate) fn read(variable: &str, usual: &str) -> Result<Vec<u8>> {
    let below = || {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../target/ebpf")
            .join(usual)
    };
    let path = env::var_os(variable).map_or_else(below, PathBuf::from);
    fs::read(&path).with_context(|| format!("{}: cargo xtask build-ebpf makes it", path.display()))
}

/// A program of an object, as XDP.
pub(crate) fn xdp<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    let found = ebpf.program(name).with_context(|| format!("no program {name}"))?;
    found.try_into().with_context(|| format!("program {name}"))
}

/// Has the verifier look at a program.
pub(crate) fn load(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let found = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    let xdp: &mut Xdp = found.try_into().with_context(|| format!("program {name}"))?;
    xdp.load().with_context(|| format!("the verifier refuses {name}"))
}

/// The bench's own programs.
pub(crate) struct Tools {
    ebpf: Ebpf,
    drive: Array<MapData, Plain<Drive>>,
    jump: ProgramArray<MapData>,
    seen: PerCpuArray<MapData, u64>,
}

impl Tools {
    /// Loads all of them.
    pub(crate) fn load() -> Result<Self> {
        let bytes = read("CPLB_EBPF_BENCH", "lb-bench.o")?;
        let mut ebpf = EbpfLoader::new().load(&bytes).context("lb-bench")?;
        for name in [
            program::DRIVE4,
            program::DRIVE6,
            program::GENERATE4,
            program::RETURN,
            program::LOOKUP,
            program::LINE,
            program::BARE,
            program::DROP,
            program::SEEN,
        ] {
            load(&mut ebpf, name)?;
        }
        let mut take = |name| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let (drive, jump, seen) = (take(map::DRIVE)?, take(map::PROGS)?, take(map::SEEN)?);
        Ok(Self {
            drive: drive.try_into()?,
            jump: jump.try_into()?,
            seen: seen.try_into()?,
            ebpf,
        })
    }

    /// One of them.
    pub(crate) fn program(&self, name: &str) -> Result<&Xdp> {
        xdp(&self.ebpf, name)
    }

    /// The same, to attach it.
    pub(crate) fn program_mut(&mut self, name: &str) -> Result<&mut Xdp> {
        let found = self.ebpf.program_mut(name);
        Ok(found.with_context(|| format!("no program {name}"))?.try_into()?)
    }

    /// What the drivers jump to from now on.
    pub(crate) fn jump_to(&mut self, to: &ProgramFd) -> Result<()> {
        self.jump
            .set(0, to, 0)
            .context("the kernel does not let the driver jump into this program")
    }

    /// What the drivers and generators do from now on.
    pub(crate) fn drive(&mut self, drive: Drive) -> Result<()> {
        Ok(self.drive.set(0, Plain(drive), 0)?)
    }

    /// Runs the program that was jumped to so often on this frame, driven.
    pub(crate) fn driven(&self, frame: &Frame, repeat: u32) -> Result<TestRunResult> {
        let driver = if frame.is_v6() {
            program::DRIVE6
        } else {
            program::DRIVE4
        };
        run(self.program(driver)?, frame, repeat)
    }

    /// How many frames reached the other end so far.
    pub(crate) fn seen(&self) -> Result<u64> {
        Ok(self.seen.get(&0, 0)?.iter().sum())
    }
}

/// `BPF_PROG_TEST_RUN`.
pub(crate) fn run(program: &Xdp, frame: &Frame, repeat: u32) -> Result<TestRunResult> {
    let options = TestRunOptions {
        data_in: Some(frame.bytes()),
        repeat,
        ..TestRunOptions::default()
    };
    program.test_run(options).context("BPF_PROG_TEST_RUN")
}
