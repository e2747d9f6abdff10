//! Embeds the eBPF objects that `cargo xtask build-ebpf` made.
//!
//! Where there is none, an empty one is embedded and its `cfg` is not set: `cargo build` alone must work without a
//! compiler for BPF.
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rustc-check-cfg=cfg(cplb_ebpf, cplb_steer)");
    println!("cargo::rerun-if-changed=build.rs");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf");
    // Cargo reruns us for ever if what it is to watch does not exist.
    let watched = fs::create_dir_all(&dir).is_ok();
    if watched {
        println!("cargo::rerun-if-changed={}", dir.display());
    }
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    for (name, cfg) in [("lb.o", "cplb_ebpf"), ("steer.o", "cplb_steer")] {
        let object = fs::read(dir.join(name)).unwrap_or_default();
        if !object.is_empty() {
            println!("cargo::rustc-cfg={cfg}");
        }
        fs::write(Path::new(&out).join(name), object)?;
    }
    Ok(())
}
