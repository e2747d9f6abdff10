//! The eBPF object with its maps, and packets run through it by `BPF_PROG_TEST_RUN`.
use super::image::{self, Places};
use super::scene::Scene;
use anyhow::{Context, Result};
use aya::maps::{Array, MapData, PerCpuArray, PerCpuValues, ProgramArray};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod, TestRun, TestRunOptions};
use lb_common::abi::control::{self, Command, Report};
use lb_common::abi::flow::{FRAGS, SETS, WAYS};
use lb_common::abi::tables::{POOLS, Ring, Side};
use lb_common::abi::{self, CONTROL_PROGRAM, REASONS, State, Traffic, map};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;

mod memory;
mod pool;
pub use memory::Words;
pub use pool::Loan;

/// A value of a map.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T>(T);

#[expect(unsafe_code, reason = "what aya may copy as bytes has to be promised")]
// SAFETY: only used with the structs of `lb_common::abi`, which are `repr(C)` integers without padding.
unsafe impl<T: Copy + 'static> Pod for Plain<T> {}

/// What is set before the verifier sees the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// Log each decision.
    pub trace: bool,
    /// Hand what is passed to the next program.
    pub chain: bool,
}

/// A loaded object.
pub struct Object {
    program: String,
    ebpf: Ebpf,
    state: Array<MapData, Plain<State>>,
    sides: Array<MapData, Plain<Side>>,
    rings: Array<MapData, Plain<Ring>>,
    services: PerCpuArray<MapData, Plain<Traffic>>,
    backends: PerCpuArray<MapData, Plain<Traffic>>,
    reasons: PerCpuArray<MapData, u64>,
    budget: PerCpuArray<MapData, [u64; 2]>,
    /// The flow table: sets of eight words.
    pub flows: Words,
    /// The table of fragmented packets.
    pub fragments: Words,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What the program returned.
    pub verdict: u32,
    /// The frame's length now; its bytes are in the buffer.
    pub len: usize,
}

/// Counters, summed over processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By reason.
    pub reasons: Vec<u64>,
    /// By a service's place.
    pub services: BTreeMap<u32, Traffic>,
    /// By a backend's number.
    pub backends: BTreeMap<u32, Traffic>,
}

impl Counters {
    /// Packets counted by reason or by service.
    pub fn total(&self) -> u64 {
        self.reasons.iter().sum::<u64>() + self.services.values().map(|s| s.packets).sum::<u64>()
    }
}

/// The object's bytes. `cargo xtask test` names the file; without it the usual place below the workspace is tried.
pub fn bytes() -> Result<Vec<u8>> {
    let usual = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/lb.o");
    let path = env::var_os("CPLB_EBPF").map_or_else(usual, PathBuf::from);
    fs::read(&path).with_context(|| format!("no eBPF object at {}: cargo xtask build-ebpf", path.display()))
}

impl Object {
    /// Loads the object and one of its XDP programs with maps of its own.
    pub fn load(program: &str, globals: Globals) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for (name, on) in [
            (abi::global::TRACE, globals.trace),
            (abi::global::CHAIN, globals.chain),
        ] {
            if on {
                loader.override_global(name, &1_u8, true);
            }
        }
        let mut ebpf = loader.load(&bytes()?).context("loading the object")?;
        for name in [program, CONTROL_PROGRAM] {
            let xdp: &mut Xdp = ebpf.program_mut(name).context(name.to_owned())?.try_into()?;
            xdp.load().with_context(|| format!("the verifier, of {name}"))?;
        }
        let mut take = |name: &'static str| ebpf.take_map(name).context(name);
        Ok(Self {
            program: program.to_owned(),
            state: Array::try_from(take(map::STATE)?)?,
            sides: Array::try_from(take(map::SIDES)?)?,
            rings: Array::try_from(take(map::RINGS)?)?,
            services: PerCpuArray::try_from(take(map::SERVICE_STATS)?)?,
            backends: PerCpuArray::try_from(take(map::BACKEND_STATS)?)?,
            reasons: PerCpuArray::try_from(take(map::REASONS)?)?,
            flows: Words::map(&take(map::FLOWS)?, SETS * WAYS)?,
            fragments: Words::map(&take(map::FRAGS)?, FRAGS)?,
            budget: PerCpuArray::try_from(take(map::BUDGET)?)?,
            ebpf,
        })
    }

    /// Writes a scene into the maps, as side 0, and forgets all flows. Counters go on.
    pub fn install(&mut self, scene: &Scene, places: Places) -> Result<()> {
        self.change(scene, places)?;
        self.write_rings(scene)?;
        self.flows.clear();
        self.fragments.clear();
        let processors = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        Ok(self
            .budget
            .set(0, PerCpuValues::try_from(vec![[0; 2]; processors])?, 0)?)
    }

    /// Writes the rings of side 0.
    pub fn write_rings(&mut self, scene: &Scene) -> Result<()> {
        for pool in 0..scene.pools.len() {
            let ring = Plain(*image::ring(scene, pool));
            self.rings.set(u32::try_from(pool)?, ring, 0)?;
        }
        Ok(())
    }

    /// Writes all of a scene but its rings, and forgets nothing.
    pub fn change(&mut self, scene: &Scene, places: Places) -> Result<()> {
        self.sides.set(0, Plain(*image::side(scene, places)?), 0)?;
        let state = State {
            active: 0,
            // Within half of what 64 bits hold, so that it is after now, or before it, however it is compared.
            lease_until: if scene.lease { u64::MAX >> 2 } else { 0 },
            stamp_shift: scene.stamp_shift,
            inserts: scene.inserts,
        };
        self.state.set(0, Plain(state), 0)?;
        Ok(())
    }

    /// Writes `STATE` as it is.
    pub fn set_state(&mut self, state: State) -> Result<()> {
        Ok(self.state.set(0, Plain(state), 0)?)
    }

    /// Reads `STATE`.
    pub fn state(&self) -> Result<State> {
        Ok(self.state.get(&0, 0)?.0)
    }

    /// Writes one side and its rings.
    pub fn write_side(&mut self, side: u32, scene: &Scene) -> Result<()> {
        self.sides
            .set(side, Plain(*image::side(scene, Places::Usual)?), 0)?;
        for pool in 0..scene.pools.len() {
            let ring = Plain(*image::ring(scene, pool));
            self.rings
                .set(side * POOLS as u32 + u32::try_from(pool)?, ring, 0)?;
        }
        Ok(())
    }

    /// Lets `other` see what this one passes.
    pub fn chain(&mut self, other: &Self) -> Result<()> {
        let program = other.xdp(&other.program)?.fd()?;
        let name = self.next();
        let map = self.ebpf.map_mut(name).context(name)?;
        Ok(ProgramArray::try_from(map)?.set(0, program, 0)?)
    }

    /// Lets nobody see it.
    pub fn unchain(&mut self) -> Result<()> {
        let name = self.next();
        let map = self.ebpf.map_mut(name).context(name)?;
        // One that is empty already is no error of anybody's.
        let _ = ProgramArray::try_from(map)?.clear_index(&0);
        Ok(())
    }

    fn next(&self) -> &'static str {
        if self.program == abi::XDP_PROGRAM_FRAGS {
            map::NEXT_FRAGS
        } else {
            map::NEXT
        }
    }

    fn xdp(&self, name: &str) -> Result<&Xdp> {
        Ok(self.ebpf.program(name).context("no such program")?.try_into()?)
    }

    /// Runs the program once. `out` gets the frame as the program left it.
    pub fn run(&self, frame: &[u8], out: &mut [u8]) -> Result<Ran> {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(out),
            ..TestRunOptions::default()
        };
        let result = self.xdp(&self.program)?.test_run(options)?;
        Ok(Ran {
            verdict: result.return_value,
            len: result.data_size_out as usize,
        })
    }

    /// Runs the control program.
    pub fn control(&self, command: Command) -> Result<Report> {
        let words = [
            command.magic,
            command.set,
            command.active,
            command.lease_jiffies,
            command.stamp_shift,
            command.inserts,
            0,
            0,
            0,
        ];
        let packet: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut out = [0; size_of::<Command>()];
        let options = TestRunOptions {
            data_in: Some(&packet),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        self.xdp(CONTROL_PROGRAM)?.test_run(options)?;
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| out[8 * at + i]));
        Ok(Report {
            jiffies: word(6),
            nanoseconds: word(7),
            done: word(8),
        })
    }

    /// What the kernel's clocks say to the program.
    pub fn now(&self) -> Result<Report> {
        self.control(Command {
            magic: control::MAGIC,
            ..Command::default()
        })
    }

    /// Reads the counters that a scene can move.
    pub fn counters(&self, scene: &Scene) -> Result<Counters> {
        let services = scene.services.iter().map(|s| s.stats);
        let backends = scene.backends.keys().map(|number| u32::from(*number));
        self.read(services.collect(), backends.collect())
    }

    /// Reads all counters: slowly.
    pub fn all_counters(&self) -> Result<Counters> {
        self.read(
            (0..self.services.len()).collect(),
            (0..self.backends.len()).collect(),
        )
    }

    fn read(&self, services: Vec<u32>, backends: Vec<u32>) -> Result<Counters> {
        let reasons = (0..REASONS).map(|i| Ok(self.reasons.get(&i, 0)?.iter().sum()));
        Ok(Counters {
            reasons: reasons.collect::<Result<_>>()?,
            services: traffic(&self.services, services)?,
            backends: traffic(&self.backends, backends)?,
        })
    }
}

fn traffic(map: &PerCpuArray<MapData, Plain<Traffic>>, places: Vec<u32>) -> Result<BTreeMap<u32, Traffic>> {
    let sum = |all: Traffic, one: &Plain<Traffic>| Traffic {
        packets: all.packets + one.0.packets,
        bytes: all.bytes + one.0.bytes,
        new_flows: all.new_flows + one.0.new_flows,
        remembered: all.remembered + one.0.remembered,
    };
    let all = places
        .into_iter()
        .map(|i| Ok((i, map.get(&i, 0)?.iter().fold(Traffic::default(), sum))));
    all.collect()
}
