//! The eBPF object in this binary: loaded, with its globals set, its maps reachable as descriptors.
use super::verifier;
use crate::sys::bpf;
use crate::sys::bpffs::Pins;
use aya::maps::{Array, Map, MapError};
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::abi::{self, CONTROL_PROGRAM, XDP_PROGRAM, XDP_PROGRAM_FRAGS};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the program is compiled to before the verifier sees it. Another value needs another program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// Log every decision.
    pub trace: bool,
    /// Hand what is passed to the next program.
    pub chain: bool,
}

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The binary has none.
    #[error(
        "this cplb was built without its eBPF program: build it with `cargo xtask build`, or use `datapath: ipvs`"
    )]
    NotBuilt,
    /// The kernel does not let us.
    #[error(
        "{doing}: permission denied: XDP needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (before kernel 5.8: \
         CAP_SYS_ADMIN), and a kernel whose lockdown allows BPF"
    )]
    Permission {
        /// What was being done.
        doing: String,
    },
    /// The kernel has no `bpf(2)`.
    #[error("this kernel has no BPF (CONFIG_BPF_SYSCALL): the XDP datapath cannot be used")]
    NoBpf,
    /// The verifier refused it.
    #[error("the kernel's verifier refused the program {program} ({cause}):\n{words}")]
    Verifier {
        /// Which.
        program: &'static str,
        /// The errno's words.
        cause: io::Error,
        /// The end of its log.
        words: String,
    },
    /// The object is not the one that this binary was written for.
    #[error(
        "the eBPF object in this binary has no {0}: it was built from another revision; run `cargo xtask build`"
    )]
    Lacks(&'static str),
    /// Anything else, with all its causes.
    #[error("{doing}: {causes}")]
    Other {
        /// What was being done.
        doing: String,
        /// From the outermost to the innermost.
        causes: String,
    },
}

impl ObjectError {
    fn from_io(doing: &str, error: &io::Error, causes: String) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission {
                doing: doing.to_owned(),
            },
            Some(libc::ENOSYS) => Self::NoBpf,
            _ => Self::Other {
                doing: doing.to_owned(),
                causes,
            },
        }
    }
}

/// Whether this binary has the object at all.
pub const fn is_built_in() -> bool {
    cfg!(cplb_ebpf)
}

#[cfg(cplb_ebpf)]
static BYTES: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb.o"));
#[cfg(not(cplb_ebpf))]
static BYTES: &[u8] = &[];

/// The loaded object. Dropping it unloads what nobody else holds.
pub struct Object {
    ebpf: Ebpf,
    /// The variant for frames of several buffers, on the same maps, once some interface needs it. It is an object of its
    /// own for its own `NEXT`: the kernel lets programs of one kind only into an array of programs.
    frags: Option<Ebpf>,
    globals: Globals,
    /// In every `NEXT`.
    next: Option<OwnedFd>,
}

impl Object {
    /// Makes the maps and has the kernel verify the program and the control program.
    pub fn load(globals: Globals) -> Result<Self, ObjectError> {
        Self::load_with(globals, &mut EbpfLoader::new())
    }

    /// The same programs with other globals, on the maps of this one: what it remembers and counts goes on.
    pub fn reload(&self, globals: Globals) -> Result<Self, ObjectError> {
        let pins = self.pin_maps()?;
        let state = self.state()?;
        let mut object = Self::load_with(globals, &mut on_maps_of(&pins, &state))?;
        if let Some(next) = self.next.as_ref().filter(|_| globals.chain) {
            object.set_next(next.as_fd()).map_err(|e| next_failed(&e))?;
        }
        if self.frags.is_some() {
            object.need_frags()?;
        }
        Ok(object)
    }

    fn load_with(globals: Globals, loader: &mut EbpfLoader<'_>) -> Result<Self, ObjectError> {
        let mut ebpf = parse(globals, loader)?;
        verify(&mut ebpf, XDP_PROGRAM)?;
        verify(&mut ebpf, CONTROL_PROGRAM)?;
        Ok(Self {
            ebpf,
            frags: None,
            globals,
            next: None,
        })
    }

    /// Has the variant for frames of several buffers verified, where that has not been done. Kernels before 5.18 refuse.
    pub fn need_frags(&mut self) -> Result<(), ObjectError> {
        if self.frags.is_none() {
            let pins = self.pin_maps()?;
            let state = self.state()?;
            let mut ebpf = parse(self.globals, &mut on_maps_of(&pins, &state))?;
            verify(&mut ebpf, XDP_PROGRAM_FRAGS)?;
            if let Some(next) = &self.next {
                put_next(&ebpf, abi::map::NEXT_FRAGS, next.as_fd()).map_err(|e| next_failed(&e))?;
            }
            self.frags = Some(ebpf);
        }
        Ok(())
    }

    /// The control word as it is, of which only [`Self::run_control`] makes another.
    fn state(&self) -> Result<[u64; STATE_WORDS], ObjectError> {
        let other = |error: &dyn std::error::Error| ObjectError::Other {
            doing: "reading the control word of the running program".to_owned(),
            causes: causes(error),
        };
        let map = self
            .ebpf
            .map(abi::map::STATE)
            .ok_or(ObjectError::Lacks(abi::map::STATE))?;
        let state = Array::<_, [u64; STATE_WORDS]>::try_from(map).map_err(|e| other(&e))?;
        state.get(&0, 0).map_err(|e| other(&e))
    }

    fn pin_maps(&self) -> Result<Pins, ObjectError> {
        let doing = "pinning the maps of the running program for another one";
        let pins = Pins::new().map_err(|e| ObjectError::from_io(doing, &e, e.to_string()))?;
        for name in SHARED {
            let Some(map) = self.ebpf.map(name) else { continue };
            map.pin(pins.path(name)).map_err(|e| ObjectError::Other {
                doing: doing.to_owned(),
                causes: causes(&e),
            })?;
        }
        Ok(pins)
    }

    /// With what it was loaded.
    pub fn globals(&self) -> Globals {
        self.globals
    }

    /// The program for interfaces, or its variant for frames of several buffers once that was needed.
    pub fn program(&self, frags: bool) -> Result<BorrowedFd<'_>, ObjectError> {
        let (ebpf, name) = match &self.frags {
            Some(ebpf) if frags => (ebpf, XDP_PROGRAM_FRAGS),
            Some(_) | None if frags => return Err(ObjectError::Lacks(XDP_PROGRAM_FRAGS)),
            Some(_) | None => (&self.ebpf, XDP_PROGRAM),
        };
        let fd = program(ebpf, name)?.fd().map_err(|e| ObjectError::Other {
            doing: format!("using the program {name}"),
            causes: causes(&e),
        })?;
        Ok(fd.as_fd())
    }

    /// Lets the programs hand what they pass to `next`. They do so only when loaded with [`Globals::chain`].
    pub fn set_next(&mut self, next: BorrowedFd<'_>) -> io::Result<()> {
        put_next(&self.ebpf, abi::map::NEXT, next)?;
        if let Some(frags) = &self.frags {
            put_next(frags, abi::map::NEXT_FRAGS, next)?;
        }
        self.next = Some(next.try_clone_to_owned()?);
        Ok(())
    }

    /// Runs the control program once over `packet`, which it changes in place.
    pub fn run_control(&self, packet: &mut [u8]) -> Result<(), ObjectError> {
        let given = packet.to_vec();
        let options = TestRunOptions {
            data_in: Some(&given),
            data_out: Some(packet),
            ..TestRunOptions::default()
        };
        let run = program(&self.ebpf, CONTROL_PROGRAM)?.test_run(options);
        run.map(drop).map_err(|e| ObjectError::Other {
            doing: "running the control program".to_owned(),
            causes: causes(&e),
        })
    }

    /// The descriptor of a map.
    pub fn map_fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, ObjectError> {
        map_fd(&self.ebpf, name)
    }

    /// What the programs were loaded from, for reading what they log.
    pub(super) fn logging(&mut self) -> impl Iterator<Item = &mut Ebpf> {
        [Some(&mut self.ebpf), self.frags.as_mut()].into_iter().flatten()
    }
}

/// The loader writes what a section of the object begins with into its map, also where the map is there: so that is to
/// begin with what is in force.
fn on_maps_of<'a>(pins: &Pins, state: &'a [u64; STATE_WORDS]) -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    loader.override_global(abi::global::STATE, state, true);
    for name in SHARED {
        loader.map_pin_path(name, pins.path(name));
    }
    loader
}

fn parse(globals: Globals, loader: &mut EbpfLoader<'_>) -> Result<Ebpf, ObjectError> {
    if BYTES.is_empty() {
        return Err(ObjectError::NotBuilt);
    }
    let flag = |on: bool| if on { &1_u8 } else { &0_u8 };
    loader
        .override_global(abi::global::TRACE, flag(globals.trace), globals.trace)
        .override_global(abi::global::CHAIN, flag(globals.chain), globals.chain)
        .load(BYTES)
        .map_err(|e| loading(&e))
}

fn put_next(ebpf: &Ebpf, array: &'static str, next: BorrowedFd<'_>) -> io::Result<()> {
    let array = map_fd(ebpf, array).map_err(io::Error::other)?;
    bpf::set_program(array, 0, next)
}

fn next_failed(error: &io::Error) -> ObjectError {
    ObjectError::Other {
        doing: "letting another program follow the XDP program (`xdp.next`)".to_owned(),
        causes: error.to_string(),
    }
}

fn program<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a Xdp, ObjectError> {
    ebpf.program(name)
        .and_then(|p| p.try_into().ok())
        .ok_or(ObjectError::Lacks(name))
}

fn map_fd<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, ObjectError> {
    match ebpf.map(name).ok_or(ObjectError::Lacks(name))? {
        Map::Array(data) | Map::PerCpuArray(data) | Map::ProgramArray(data) => Ok(data.fd().as_fd()),
        _ => Err(ObjectError::Lacks(name)),
    }
}

fn verify(ebpf: &mut Ebpf, name: &'static str) -> Result<(), ObjectError> {
    let program = ebpf.program_mut(name).ok_or(ObjectError::Lacks(name))?;
    let program: &mut Xdp = program.try_into().map_err(|_| ObjectError::Lacks(name))?;
    let doing = || format!("loading the program {name}");
    match program.load() {
        Ok(()) => Ok(()),
        Err(ProgramError::LoadError {
            io_error,
            verifier_log,
        }) => {
            let words = verifier::digest(&verifier_log.to_string());
            if words.is_empty() {
                return Err(ObjectError::from_io(&doing(), &io_error, io_error.to_string()));
            }
            Err(ObjectError::Verifier {
                program: name,
                cause: io_error,
                words,
            })
        }
        Err(error) => Err(ObjectError::Other {
            doing: doing(),
            causes: causes(&error),
        }),
    }
}

/// [`abi::control::State`].
const STATE_WORDS: usize = size_of::<abi::control::State>() / size_of::<u64>();

/// The maps that a program takes over from the one before it.
const SHARED: [&str; 8] = [
    abi::map::STATE,
    abi::map::SIDES,
    abi::map::RINGS,
    abi::map::FLOWS,
    abi::map::FRAGS,
    abi::map::SERVICE_STATS,
    abi::map::BACKEND_STATS,
    abi::map::REASONS,
];

fn loading(error: &EbpfError) -> ObjectError {
    let doing = "making the maps of the XDP program";
    let causes = causes(error);
    match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => {
            ObjectError::from_io(doing, io_error, causes)
        }
        _ => ObjectError::Other {
            doing: "loading the eBPF object".to_owned(),
            causes,
        },
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
