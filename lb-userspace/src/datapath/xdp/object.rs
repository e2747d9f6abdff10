//! The eBPF object in this binary: loaded, with its globals set, its maps reachable as descriptors.
use super::verifier;
use crate::sys::bpffs::Pins;
use aya::maps::{Map, MapError};
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::abi::{self, CONTROL_PROGRAM, XDP_PROGRAM, XDP_PROGRAM_FRAGS};
use std::error::Error as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

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
    #[error("the eBPF object in this binary has no {0}: it was built from another revision; run `cargo xtask build`")]
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
    globals: Globals,
}

impl Object {
    /// Makes the maps and has the kernel verify the program and the control program.
    pub fn load(globals: Globals) -> Result<Self, ObjectError> {
        Self::load_with(globals, &mut EbpfLoader::new())
    }

    /// The same programs with other globals, on the maps of this one: what it remembers and counts goes on.
    pub fn reload(&self, globals: Globals) -> Result<Self, ObjectError> {
        let doing = "pinning the maps of the running program for its successor";
        let pins = Pins::new().map_err(|e| ObjectError::from_io(doing, &e, e.to_string()))?;
        let mut loader = EbpfLoader::new();
        for name in SHARED {
            let map = self.map(name)?;
            let path = pins.path(name);
            map.pin(&path).map_err(|e| ObjectError::Other {
                doing: doing.to_owned(),
                causes: causes(&e),
            })?;
            loader.map_pin_path(name, path);
        }
        Self::load_with(globals, &mut loader)
    }

    fn load_with<'a>(globals: Globals, loader: &mut EbpfLoader<'a>) -> Result<Self, ObjectError> {
        const FLAGS: [u8; 2] = [0, 1];
        if BYTES.is_empty() {
            return Err(ObjectError::NotBuilt);
        }
        let flag = |on: bool| &FLAGS[usize::from(on)];
        let ebpf = loader
            .override_global(abi::global::TRACE, flag(globals.trace), true)
            .override_global(abi::global::CHAIN, flag(globals.chain), true)
            .load(BYTES)
            .map_err(|e| loading(&e))?;
        let mut object = Self { ebpf, globals };
        object.verify(XDP_PROGRAM)?;
        object.verify(CONTROL_PROGRAM)?;
        for name in SHARED {
            object.map(name)?;
        }
        Ok(object)
    }

    /// With what it was loaded.
    pub fn globals(&self) -> Globals {
        self.globals
    }

    /// Has the variant for frames of several buffers verified, where that has not been done. Kernels before 5.18 refuse.
    pub fn verify_frags(&mut self) -> Result<(), ObjectError> {
        self.verify(XDP_PROGRAM_FRAGS)
    }

    fn verify(&mut self, name: &'static str) -> Result<(), ObjectError> {
        let program = self.ebpf.program_mut(name).ok_or(ObjectError::Lacks(name))?;
        let program: &mut Xdp = program.try_into().map_err(|_| ObjectError::Lacks(name))?;
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
            Err(ProgramError::LoadError {
                io_error,
                verifier_log,
            }) => {
                let words = verifier::digest(&verifier_log.to_string());
                if words.is_empty() {
                    let doing = format!("loading the program {name}");
                    let causes = io_error.to_string();
                    return Err(ObjectError::from_io(&doing, &io_error, causes));
                }
                Err(ObjectError::Verifier {
                    program: name,
                    cause: io_error,
                    words,
                })
            }
            Err(error) => Err(ObjectError::Other {
                doing: format!("loading the program {name}"),
                causes: causes(&error),
            }),
        }
    }

    /// The program for interfaces, or its variant for frames of several buffers once that is verified.
    pub fn program(&self, frags: bool) -> Result<BorrowedFd<'_>, ObjectError> {
        let name = if frags { XDP_PROGRAM_FRAGS } else { XDP_PROGRAM };
        let program = self.named(name)?;
        program
            .fd()
            .map(AsFd::as_fd)
            .map_err(|e| ObjectError::Other {
                doing: format!("using the program {name}"),
                causes: causes(&e),
            })
    }

    fn named(&self, name: &'static str) -> Result<&Xdp, ObjectError> {
        self.ebpf
            .program(name)
            .and_then(|p| p.try_into().ok())
            .ok_or(ObjectError::Lacks(name))
    }

    /// Runs the control program once over `packet`, which it changes in place.
    pub fn run_control(&self, packet: &mut [u8]) -> Result<(), ObjectError> {
        let program = self.named(CONTROL_PROGRAM)?;
        let given = packet.to_vec();
        let options = TestRunOptions {
            data_in: Some(&given),
            data_out: Some(packet),
            ..TestRunOptions::default()
        };
        program
            .test_run(options)
            .map(drop)
            .map_err(|e| ObjectError::Other {
                doing: "running the control program".to_owned(),
                causes: causes(&e),
            })
    }

    /// The descriptor of a map.
    pub fn map_fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, ObjectError> {
        match self.map(name)? {
            Map::Array(data) | Map::PerCpuArray(data) | Map::ProgramArray(data) => Ok(data.fd().as_fd()),
            _ => Err(ObjectError::Lacks(name)),
        }
    }

    fn map(&self, name: &'static str) -> Result<&Map, ObjectError> {
        self.ebpf.map(name).ok_or(ObjectError::Lacks(name))
    }

    /// For reading what the program logs.
    pub(super) fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

/// The maps that a program takes over from the one before it.
const SHARED: [&str; 9] = [
    abi::map::STATE,
    abi::map::SIDES,
    abi::map::RINGS,
    abi::map::FLOWS,
    abi::map::FRAGS,
    abi::map::SERVICE_STATS,
    abi::map::BACKEND_STATS,
    abi::map::REASONS,
    abi::map::NEXT,
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
