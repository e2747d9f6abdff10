//! Which suites there are and where each runs. A new one is found by itself and runs here.
use crate::cargo::Artifact;
use std::path::PathBuf;
use std::time::Duration;

/// Where a suite runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this machine, in network namespaces if it wants any.
    Here,
    /// In the guest, whose kernel has IPVS.
    Guest,
    /// In both: two kernels.
    Both,
}

/// A test program.
#[derive(Debug, Clone)]
pub(crate) struct Suite {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    /// Cargo runs a test in its package's directory.
    pub(crate) directory: PathBuf,
    pub(crate) place: Place,
    /// Tests at a time; suites that measure time want the machine for themselves.
    pub(crate) threads: Option<usize>,
    /// Which tests the guest runs, by a part of their paths: all of them if there is none.
    pub(crate) guest: &'static [&'static str],
    pub(crate) limit: Duration,
}

struct Rule {
    suite: &'static str,
    place: Place,
    threads: Option<usize>,
    /// The guest is emulated, a tenth as fast, and has every test that asks something of its kernel.
    guest: &'static [&'static str],
    minutes: u64,
}

/// What differs from running here with a thread for each processor and five minutes.
const RULES: &[Rule] = &[
    Rule {
        suite: "lb-userspace/ipvs_kernel",
        place: Place::Guest,
        threads: None,
        guest: &[],
        minutes: 5,
    },
    Rule {
        suite: "lb-userspace/sys_guard",
        place: Place::Both,
        threads: None,
        guest: &[],
        minutes: 5,
    },
    Rule {
        suite: "lb-userspace/sys_rtnl",
        place: Place::Both,
        threads: None,
        guest: &[],
        minutes: 5,
    },
    Rule {
        suite: "lb-userspace/xdp_kernel",
        place: Place::Both,
        threads: None,
        // Not `traffic`: the queues of an emulated machine lose frames by themselves, and it counts each one.
        guest: &[
            "connections_to",
            "daemon::",
            "links::",
            "others::",
            "the_program_is",
        ],
        minutes: 5,
    },
    Rule {
        suite: "lb-userspace/vrrp_driver",
        place: Place::Here,
        threads: Some(1),
        guest: &[],
        minutes: 5,
    },
    Rule {
        suite: "lb-tests/ipvs",
        place: Place::Guest,
        threads: Some(1),
        guest: &[],
        minutes: 10,
    },
    // The oldest verifier that it must please, too.
    Rule {
        suite: "lb-tests/xdp_load",
        place: Place::Both,
        threads: None,
        guest: &[],
        minutes: 5,
    },
    Rule {
        suite: "lb-tests/xdp_packets",
        place: Place::Both,
        threads: None,
        guest: &[
            "chain::",
            "control::",
            "memory::",
            "tables::every_case_of_every_table",
            "tables::every_case_where_frames",
        ],
        minutes: 5,
    },
    // Thousands of connections at a time, and their answers are timed.
    Rule {
        suite: "lb-tests/xdp",
        place: Place::Here,
        threads: Some(1),
        guest: &[],
        minutes: 10,
    },
    // Over XDP here, over IPVS there; requests are counted while servers die.
    Rule {
        suite: "lb-tests/health",
        place: Place::Both,
        threads: Some(1),
        guest: &["stops::", "an_outage_of_all"],
        minutes: 15,
    },
    Rule {
        suite: "lb-tests/interop",
        place: Place::Here,
        threads: Some(2),
        guest: &[],
        minutes: 8,
    },
];

/// The suites among what cargo built: pure ones first.
pub(crate) fn discover(built: &[Artifact]) -> Vec<Suite> {
    let mut suites: Vec<Suite> = built.iter().filter(|artifact| artifact.test).map(suite).collect();
    let order = |suite: &Suite| {
        let package = suite.name.split('/').next().unwrap_or_default();
        let packages = ["lb-common", "xtask", "lb-userspace", "lb-tests"];
        (
            packages
                .iter()
                .position(|p| *p == package)
                .unwrap_or(packages.len()),
            suite.name.clone(),
        )
    };
    suites.sort_by_key(order);
    suites
}

fn suite(artifact: &Artifact) -> Suite {
    let target = match artifact.kind.as_str() {
        "lib" => "unit".to_owned(),
        "bin" => format!("unit of {}", artifact.name),
        _ => artifact.name.clone(),
    };
    let name = format!("{}/{target}", artifact.package);
    let rule = RULES.iter().find(|rule| rule.suite == name);
    let default = if target.starts_with("vm_") {
        Place::Guest
    } else {
        Place::Here
    };
    Suite {
        name,
        program: artifact.path.clone(),
        directory: artifact.directory.clone(),
        place: rule.map_or(default, |rule| rule.place),
        threads: rule.and_then(|rule| rule.threads),
        guest: rule.map_or(&[], |rule| rule.guest),
        limit: Duration::from_secs(60 * rule.map_or(5, |rule| rule.minutes)),
    }
}
