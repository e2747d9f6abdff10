//! What the lab needs: the programs that are built for it and the tools that it calls, here or in the guest.
use crate::apt::Apt;
use crate::cargo::{self, Artifact};
use crate::vm::Image;
use crate::{cmd, paths, tools};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Everything of one build in the lab's profile, linked statically so that the guest needs no libraries for it.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) built: Vec<Artifact>,
}

impl Lab {
    /// Builds the programs and the suites of all packages.
    pub(crate) fn everything() -> Result<Self> {
        cmd::say("building cplb, the lab and the suites");
        let mut command = cargo::static_cargo("test");
        command.args(["--profile", cargo::LAB_PROFILE, "--no-run"]);
        command.args([
            "--workspace",
            "--exclude",
            "lb-ebpf",
            "--lib",
            "--bins",
            "--tests",
        ]);
        Ok(Self {
            built: cargo::artifacts(&mut command)?,
        })
    }

    /// Builds the programs alone.
    pub(crate) fn programs() -> Result<Self> {
        cmd::say("building cplb and the lab");
        let mut command = cargo::static_cargo("build");
        command.args(["--profile", cargo::LAB_PROFILE]);
        command.args(["--package", "lb-userspace", "--package", "lb-tests", "--bins"]);
        Ok(Self {
            built: cargo::artifacts(&mut command)?,
        })
    }

    /// A binary of that build.
    pub(crate) fn program(&self, name: &str) -> Result<&Path> {
        let found = self
            .built
            .iter()
            .find(|a| a.name == name && a.kind == "bin" && !a.test);
        found
            .map(|a| a.path.as_path())
            .with_context(|| format!("no binary {name} was built"))
    }

    /// What the lab's programs find their way by on this machine.
    pub(crate) fn environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let mut vars = tools::environment()?;
        vars.push(("CPLB_BIN", self.program("cplb")?.into()));
        vars.push(("CPLB_EBPF", paths::ebpf_object().into()));
        Ok(vars)
    }

    /// An image with all of it at the places where the guest looks.
    pub(crate) fn image(&self, apt: &Apt) -> Result<Image> {
        tools::ensure(apt, tools::SUITES, "used by the suites")?;
        let mut image = Image::new(self.program("vm-init")?)?;
        for tool in tools::SUITES {
            image.tool(tool.program)?;
        }
        for name in HANDY.iter().filter(|name| tools::find(name).is_some()) {
            image.tool(name)?;
        }
        image.program(self.program("cplb")?, "/usr/bin/cplb")?;
        image.program(self.program("crowd")?, "/usr/bin/crowd")?;
        let object = paths::ebpf_object();
        if object.is_file() {
            image.file(&object, "/usr/lib/cplb/lb.o");
        }
        // Tests name these by the path that they were compiled with.
        for data in ["examples", "tests/fixtures"] {
            let dir: PathBuf = paths::root().join(data);
            if dir.is_dir() {
                image.tree(&dir, &dir.to_string_lossy())?;
            }
        }
        Ok(image)
    }
}

/// The environment of the lab's programs in the guest.
pub(crate) fn guest_environment() -> Vec<(String, String)> {
    let pairs = [
        ("CPLB_BIN", "/usr/bin/cplb"),
        ("CPLB_EBPF", "/usr/lib/cplb/lb.o"),
        ("RUST_BACKTRACE", "1"),
    ];
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// What tests and people call in a guest, packed where this machine has them.
pub(crate) const HANDY: &[&str] = &[
    "sh", "cat", "ls", "grep", "sed", "sleep", "ping", "sysctl", "tc", "tcpdump", "ss", "bridge", "nft",
    "strace", "ps", "kill", "head", "tail", "mkdir", "uname", "dmesg", "timeout", "seq", "nc", "id", "env",
    "true", "false", "mount", "umount",
];
