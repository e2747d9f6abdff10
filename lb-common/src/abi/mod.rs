//! What the eBPF program and its loader share: names and layouts, as plain bytes.

/// Name of the XDP program in the object's symbol table.
pub const XDP_PROGRAM: &str = "cplb";
