//! Where things are. All of it is below `target/`, so `cargo clean` removes everything that xtask made.
use std::path::{Path, PathBuf};

/// The workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The eBPF object. `lb-userspace/build.rs` looks for it here, whatever cargo's build directory is.
pub(crate) fn ebpf_object() -> PathBuf {
    root().join("target/ebpf/lb.o")
}

/// The object of the userspace proxy's program, beside the other and embedded like it.
pub(crate) fn ebpf_steer_object() -> PathBuf {
    root().join("target/ebpf/steer.o")
}

/// The object with the bench's own programs, which nothing embeds.
pub(crate) fn ebpf_bench_object() -> PathBuf {
    root().join("target/ebpf/lb-bench.o")
}

/// What was built or unpacked for our own use.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// The guest's kernel and images.
pub(crate) fn vm() -> PathBuf {
    root().join("target/vm")
}
