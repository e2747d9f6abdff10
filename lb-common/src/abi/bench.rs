//! What `cargo xtask bench xdp` shares with its own programs (`lb-bench`, a second object that is never shipped).

/// Bytes at the start of a frame that are put back before each run: a program may have rewritten them.
pub const HEAD: usize = 64;

/// What the drivers are told, the one element of [`map::DRIVE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drive {
    /// The frame's first bytes.
    pub head: [u64; HEAD / 8],
    /// The frame's length; what the program before put in front is taken off.
    pub length: u32,
    /// How many flows, less one, where that many are a power of two: the low 16 bits of the packet's number are added
    /// to the source port, the others to the source address. 0: every packet is of one flow.
    pub flows: u32,
    /// The number of the next packet.
    pub count: u32,
    /// Where the generators send to.
    pub ifindex: u32,
}

/// The maps' names.
pub mod map {
    /// [`super::Drive`], one.
    pub const DRIVE: &str = "DRIVE";
    /// A `ProgramArray` of one: the program under test.
    pub const PROGS: &str = "PROGS";
    /// `u64` per processor, one: frames that `seen` dropped.
    pub const SEEN: &str = "SEEN";
}

/// The programs' names.
pub mod program {
    /// Puts an IPv4 frame back, chooses its flow and jumps into `PROGS`.
    pub const DRIVE4: &str = "drive4";
    /// The same for IPv6.
    pub const DRIVE6: &str = "drive6";
    /// Puts an IPv4 frame back, chooses its flow and sends it to the interface: for live frames.
    pub const GENERATE4: &str = "generate4";
    /// Floor: returns `XDP_PASS`.
    pub const RETURN: &str = "floor_return";
    /// Floor: parses Ethernet, IPv4 and TCP and looks one array up.
    pub const LOOKUP: &str = "floor_lookup";
    /// Floor: parses and looks at one cache line of a table as large as `FLOWS`.
    pub const LINE: &str = "floor_line";
    /// Floor: rewrites both MAC addresses and returns `XDP_TX`.
    pub const BARE: &str = "bare_tx";
    /// Floor: drops.
    pub const DROP: &str = "floor_drop";
    /// Counts and drops: the other end of the wire.
    pub const SEEN: &str = "seen";
}
