//! The maps, and the only places where their memory is touched.
#![expect(
    unsafe_code,
    reason = "map values are memory that the kernel and user space share with the program"
)]
use crate::packet::ethernet::Macs;
use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr;
use lb_common::abi::control::State;
use lb_common::abi::flow::{self, Set, WAYS};
use lb_common::abi::tables::{BACKENDS, POOLS, RING_ROOM, SERVICES};
use lb_common::abi::{Backend, REASONS as REASON_COUNT, Ring, Side, Traffic, Vip};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// A section of its own, which the loader makes a map of, and whose address is in the program: nothing is looked up.
/// The name is `lb_common::abi::map::STATE`.
#[unsafe(no_mangle)]
#[cfg_attr(target_arch = "bpf", unsafe(link_section = ".bss.STATE"))]
static STATE: Shared = Shared(UnsafeCell::new(State {
    active: 0,
    lease_until: 0,
    stamp_shift: 0,
    inserts: 0,
}));
#[btf_map]
static SIDES: Array<Side, 2> = Array::new();
#[btf_map]
static RINGS: Array<Ring, { 2 * POOLS }> = Array::new();
#[btf_map]
static FLOWS: Array<Set, { flow::SETS }, MMAPABLE> = Array::new();
#[btf_map]
static FRAGS: Array<u64, { flow::FRAGS }, MMAPABLE> = Array::new();
#[btf_map]
static BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();
#[btf_map]
static SERVICE_STATS: PerCpuArray<Traffic, SERVICES> = PerCpuArray::new();
#[btf_map]
static BACKEND_STATS: PerCpuArray<Traffic, BACKENDS> = PerCpuArray::new();
#[btf_map]
static REASONS: PerCpuArray<u64, { REASON_COUNT as usize }> = PerCpuArray::new();

#[btf_map]
static NEXT: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static NEXT_FRAGS: ProgramArray<1> = ProgramArray::new();

/// Whether there is a next program at all: without one, the verifier takes the call out.
#[unsafe(no_mangle)]
static CHAIN: Global<u8> = Global::new(0);

/// Goes on in the next program. A program array takes only programs that are of one mind about frames in several
/// buffers, so there are two.
#[inline(always)]
pub(crate) fn next<const FRAGS: bool>(ctx: &XdpContext) {
    if CHAIN.load() == 0 {
        return;
    }
    // SAFETY: nothing is to be dropped, and where there is no program it returns.
    unsafe {
        if FRAGS {
            NEXT_FRAGS.tail_call(ctx, 0);
        } else {
            NEXT.tail_call(ctx, 0);
        }
    }
}
#[repr(transparent)]
struct Shared(UnsafeCell<State>);

// SAFETY: each field is a word that is read and written whole.
unsafe impl Sync for Shared {}

/// The control word. Every field is read and written whole: the control program may change it meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Control(*mut State);

macro_rules! fields {
    ($($get:ident, $set:ident;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $get(self) -> u64 {
                // SAFETY: points into the map's one value, which lives as long as the program.
                unsafe { ptr::read_volatile(&raw const (*self.0).$get) }
            }

            #[inline(always)]
            pub(crate) fn $set(self, value: u64) {
                // SAFETY: as above.
                unsafe { ptr::write_volatile(&raw mut (*self.0).$get, value) }
            }
        )*
    };
}

impl Control {
    #[inline(always)]
    pub(crate) fn get() -> Self {
        Self(STATE.0.get())
    }

    fields! {
        active, set_active;
        lease_until, set_lease_until;
        stamp_shift, set_stamp_shift;
        inserts, set_inserts;
    }
}

/// A side. User space does not write the one in force, and not the other one either before the packets that saw it are
/// through.
#[inline(always)]
pub(crate) fn side(active: u64) -> Option<&'static Side> {
    // SAFETY: array elements stay where they are for as long as the program runs.
    SIDES.get_ptr((active & 1) as u32).map(|side| unsafe { &*side })
}

/// The same value, of which neither compiler nor verifier knows more than that it is below `BELOW`, a power of two.
///
/// Where several ways meet, the compiler would write what follows once for each constant that they bring, and the
/// verifier would go through it once for each: 3 lengths of a link header, 2 families, 5 meanings...
#[inline(always)]
pub(crate) fn plain<const BELOW: u32>(side: &'static Side, value: u32) -> u32 {
    const { assert!(BELOW.is_power_of_two(), "it becomes a mask") };
    // SAFETY: a field of it.
    let zero = unsafe { ptr::read_volatile(&raw const side.zero) };
    value.wrapping_add(zero) & (BELOW - 1)
}

/// What the pool's Maglev table says of a place below `RING`.
#[inline(always)]
pub(crate) fn ring(active: u64, pool: u32, place: u32) -> u32 {
    let pool = (active as u32 & 1) * POOLS as u32 + (pool & (POOLS as u32 - 1));
    let Some(ring) = RINGS.get_ptr(pool) else { return 0 };
    let place = place as usize & (RING_ROOM - 1);
    // SAFETY: the place is within the table by its mask.
    u32::from(unsafe { *ring.cast::<u16>().add(place) })
}

/// A backend by its number.
#[inline(always)]
pub(crate) fn backend(side: &'static Side, number: u32) -> &'static Backend {
    let number = number as usize & (BACKENDS - 1);
    // SAFETY: the number is within the table by its mask.
    unsafe { side.backends.as_ptr().add(number).as_ref_unchecked() }
}

/// The virtual IP's MAC address as the first bytes of a word.
#[inline(always)]
pub(crate) fn mac(vip: &Vip) -> u64 {
    const {
        assert!(
            offset_of!(Vip, pad) == offset_of!(Vip, mac) + 6 && offset_of!(Vip, mac).is_multiple_of(8),
            "it is read as a word"
        );
    };
    // SAFETY: both fields, of bytes, one after the other.
    unsafe { *ptr::from_ref(vip).byte_add(offset_of!(Vip, mac)).cast() }
}

/// Its MAC addresses as a frame begins with them: the backend's, then the interface's.
#[inline(always)]
pub(crate) fn macs(backend: &Backend) -> Macs {
    const {
        assert!(
            offset_of!(Backend, src_mac) == offset_of!(Backend, mac) + 6,
            "they are read as one"
        )
    };
    // SAFETY: both fields, of bytes, one after the other.
    let macs: &Macs = unsafe { &*ptr::from_ref(backend).byte_add(offset_of!(Backend, mac)).cast() };
    Macs {
        first: macs.first,
        last: macs.last,
    }
}

/// An outer address as IPv6's header has it.
#[inline(always)]
pub(crate) fn outer(address: &[u32; 4]) -> [u64; 2] {
    // SAFETY: the same bytes.
    unsafe { ptr::from_ref(address).cast::<[u64; 2]>().read_unaligned() }
}

/// What a backend is to a pool: `MEMBER_*`.
#[inline(always)]
pub(crate) fn member(side: &'static Side, pool: u32, number: u32) -> u8 {
    let pool = unseen(pool as usize) & (POOLS - 1);
    let number = number as usize & (BACKENDS - 1);
    // SAFETY: both are within the table by their masks.
    unsafe { *side.members.as_ptr().cast::<u8>().add(pool * BACKENDS + number) }
}

/// The same value, of which the compiler knows nothing: it would put two numbers whose bits do not meet together by an
/// `or` of 32 bits, of whose result Linux 6.1 knows no bound.
#[inline(always)]
fn unseen(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: arithmetic on a register.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}

/// One word of `FLOWS` or `FRAGS`, shared by all processors: read whole and written whole.
#[derive(Clone, Copy)]
pub(crate) struct Slot(*mut u64);

impl Slot {
    #[inline(always)]
    pub(crate) fn read(self) -> u64 {
        // SAFETY: points at a word of a map's value.
        unsafe { ptr::read_volatile(self.0) }
    }

    #[inline(always)]
    pub(crate) fn write(self, word: u64) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.0, word) }
    }
}

/// The set of words where a flow with some hash can be.
#[derive(Clone, Copy)]
pub(crate) struct Ways(*mut u64);

impl Ways {
    #[inline(always)]
    pub(crate) fn way(self, way: usize) -> Slot {
        // SAFETY: the mask keeps it within the set.
        Slot(unsafe { self.0.add(way & (WAYS - 1)) })
    }
}

/// Where a flow with this hash can be.
#[inline(always)]
pub(crate) fn ways(hash: u64) -> Option<Ways> {
    FLOWS.get_ptr_mut(flow::set_of(hash)).map(|set| Ways(set.cast()))
}

/// Where the word of a fragmented packet with this hash is.
#[inline(always)]
pub(crate) fn fragment(hash: u64) -> Option<Slot> {
    FRAGS.get_ptr_mut(flow::fragment_of(hash)).map(Slot)
}

/// How many words this processor has added to `FLOWS`.
#[repr(C)]
pub(crate) struct Budget {
    /// In this part of a stamp's unit.
    pub(crate) window: u64,
    pub(crate) used: u64,
}

#[inline(always)]
pub(crate) fn budget() -> Option<&'static mut Budget> {
    // SAFETY: the element is this processor's own, and nothing interrupts an XDP program to run another one on it.
    BUDGET.get_ptr_mut(0).map(|budget| unsafe { &mut *budget })
}

/// This processor's counters.
#[inline(always)]
pub(crate) fn reason(reason: u32) -> Option<&'static mut u64> {
    // SAFETY: the element is this processor's own, and nothing interrupts an XDP program to run another one on it.
    REASONS.get_ptr_mut(reason).map(|count| unsafe { &mut *count })
}

#[inline(always)]
pub(crate) fn service_stats(service: u32) -> Option<&'static mut Traffic> {
    // SAFETY: as above.
    SERVICE_STATS
        .get_ptr_mut(service)
        .map(|stats| unsafe { &mut *stats })
}

#[inline(always)]
pub(crate) fn backend_stats(backend: u32) -> Option<&'static mut Traffic> {
    // SAFETY: as above.
    BACKEND_STATS
        .get_ptr_mut(backend)
        .map(|stats| unsafe { &mut *stats })
}

/// The kernel's clock that costs nothing.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: the helper takes and does nothing.
    unsafe { bpf_jiffies64() }
}

/// `CLOCK_MONOTONIC`. Never on a packet's way.
#[inline(always)]
pub(crate) fn nanoseconds() -> u64 {
    // SAFETY: the helper takes and does nothing.
    unsafe { bpf_ktime_get_ns() }
}
