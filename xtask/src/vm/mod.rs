//! A small guest with Debian's cloud kernel, for kernels that lack IPVS or dummy devices.
//!
//! No disk and no distribution: an initramfs with `vm-init`, the programs of the run and their shared libraries.
//! Plain emulation boots it in seconds; KVM is used only where a probe shows that a guest really boots.
pub(crate) mod console;
pub(crate) mod cpio;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod modules;
pub(crate) mod qemu;

pub(crate) use image::{Command, Image};
pub(crate) use qemu::{Clock, Machine};
