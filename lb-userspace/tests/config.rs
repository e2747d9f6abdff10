//! Files as people write them: the examples, and fixtures whose reports are kept beside them.
//!
//! A fixture may begin with `# backends: ADDR ...` (as `--backend`) and `# resolve: NAME=ADDR ...` (instead of the DNS).
//! `CPLB_BLESS=1` writes the expected reports anew; read the difference before you commit it.
#![expect(clippy::unwrap_used, reason = "a test may")]
use lb_userspace::cli::{check, schema};
use lb_userspace::config::report::Stage;
use lb_userspace::config::{FileKind, Loaded, Overrides, Report, load_text, yaml};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files
}

/// The words after `# key:` in the comments at the top.
fn directive(text: &str, key: &str) -> Vec<String> {
    let prefix = format!("# {key}: ");
    let mut comments = text.lines().take_while(|l| l.starts_with('#'));
    let line = comments.find_map(|l| l.strip_prefix(&prefix)).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

fn load(name: &str, bytes: &[u8]) -> Result<Loaded, Report> {
    let text = String::from_utf8_lossy(bytes);
    let mut backends = directive(&text, "backends");
    if name == "k0s.yaml" {
        backends = ["192.168.122.37", "192.168.122.185", "192.168.122.87"]
            .map(str::to_owned)
            .to_vec();
    }
    let names = directive(&text, "resolve");
    let resolver = |name: &str| -> Result<Vec<IpAddr>, String> {
        let pairs = names.iter().filter_map(|n| n.split_once('='));
        let found: Vec<IpAddr> = pairs
            .filter(|(n, _)| *n == name)
            .map(|(_, a)| a.parse().unwrap())
            .collect();
        if found.is_empty() {
            Err("no such host".into())
        } else {
            Ok(found)
        }
    };
    load_text(name, bytes, &Overrides { backends }, &resolver)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn valid_files() -> Vec<PathBuf> {
    [files("examples"), files("tests/fixtures/config/valid")].concat()
}

#[test]
fn every_example_and_valid_fixture_loads() {
    for path in valid_files() {
        let loaded = load(&name(&path), &fs::read(&path).unwrap());
        if let Err(report) = loaded {
            panic!("{}:\n{report}", path.display());
        }
    }
}

#[test]
fn every_invalid_fixture_is_refused_with_the_report_beside_it() {
    let bless = std::env::var_os("CPLB_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in files("tests/fixtures/config/invalid") {
        let bytes = fs::read(&path).unwrap();
        let Err(report) = load(&name(&path), &bytes) else {
            panic!("{} was accepted", path.display());
        };
        assert_sound(&report);
        let (text, expected) = (format!("{report}\n"), path.with_extension("txt"));
        if bless {
            fs::write(&expected, text).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "other reports than before; CPLB_BLESS=1 keeps them\n{}",
        wrong.join("\n")
    );
}

/// What holds for every report: it is not empty, and each entry has a place that exists.
fn assert_sound(report: &Report) {
    assert!(!report.entries.is_empty());
    for e in &report.entries {
        match (&e.file, &e.span) {
            (Some(_), Some(span)) => {
                assert!(report.source.get(span.clone()).is_some(), "{e:?}");
                assert!(e.line.is_some() && e.column.is_some(), "{e:?}");
            }
            (None, None) => assert!(e.path.starts_with("--backend"), "{e:?}"),
            _ => panic!("half a place: {e:?}"),
        }
        assert!(!e.message.is_empty());
    }
    let _ = report.to_string();
}

#[test]
fn the_resolved_file_loads_to_the_same_spec_without_a_warning_that_was_not_there() {
    for path in valid_files() {
        let loaded = load(&name(&path), &fs::read(&path).unwrap()).unwrap();
        let text = check::resolved(&loaded.spec).unwrap();
        let again = match load_text("resolved.json", text.as_bytes(), &Overrides::default(), &nobody) {
            Ok(again) => again,
            Err(report) => panic!("{}:\n{report}", path.display()),
        };
        assert_eq!(again.spec, loaded.spec, "{}", path.display());
        assert_eq!(again.kind, FileKind::Native);
        let (before, after) = (&loaded.warnings.entries, &again.warnings.entries);
        assert!(
            after.len() <= before.len(),
            "{}: {}",
            path.display(),
            again.warnings
        );
    }
}

fn nobody(name: &str) -> Result<Vec<IpAddr>, String> {
    panic!("{name} was looked up");
}

fn json(bytes: &[u8]) -> Option<serde_json::Value> {
    let text = yaml::text(bytes).ok()?;
    Some(yaml::parse(&text).ok()?.with_yaml_1_1_booleans(&text).to_json())
}

#[test]
fn the_schema_takes_what_is_taken_and_refuses_what_has_the_wrong_form() {
    let schema = schema::schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for path in valid_files() {
        let value = json(&fs::read(&path).unwrap()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|e| format!("{e:#?}")).collect();
        assert!(errors.is_empty(), "{}: {}", path.display(), errors.join("\n"));
    }
    for path in files("tests/fixtures/config/invalid") {
        let bytes = fs::read(&path).unwrap();
        let report = load(&name(&path), &bytes).unwrap_err();
        if report.entries.iter().any(|e| e.stage == Stage::Structure) {
            let value = json(&bytes).unwrap();
            assert!(
                !validator.is_valid(&value),
                "{} is valid by the schema",
                path.display()
            );
        }
    }
}

#[test]
fn every_resolved_file_is_valid_by_the_schema() {
    let validator = jsonschema::validator_for(&schema::schema()).unwrap();
    for path in valid_files() {
        let loaded = load(&name(&path), &fs::read(&path).unwrap()).unwrap();
        let value = serde_json::from_str(&check::resolved(&loaded.spec).unwrap()).unwrap();
        assert!(validator.is_valid(&value), "{}", path.display());
    }
}

#[test]
fn warnings_say_what_has_no_effect() {
    let mut all = String::new();
    for path in valid_files() {
        let loaded = load(&name(&path), &fs::read(&path).unwrap()).unwrap();
        if !loaded.warnings.entries.is_empty() {
            all.push_str(&format!("{}\n\n", loaded.warnings));
        }
    }
    let expected = root().join("tests/fixtures/config/valid/warnings.txt");
    if std::env::var_os("CPLB_BLESS").is_some() {
        fs::write(&expected, &all).unwrap();
    }
    assert_eq!(all, fs::read_to_string(&expected).unwrap_or_default());
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// One change to a file: bytes taken out, and others put in their place.
    fn mutated(mut bytes: Vec<u8>, changes: &[(usize, usize, Vec<u8>)]) -> Vec<u8> {
        for (at, length, new) in changes {
            let start = at % (bytes.len() + 1);
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, new.iter().copied());
        }
        bytes
    }

    fn scraps() -> impl Strategy<Value = Vec<u8>> {
        let words = [
            "",
            "\n",
            "\n  ",
            "- ",
            ": ",
            "{",
            "}",
            "[",
            "]",
            "\"",
            "'",
            "&a ",
            "*a",
            "|\n",
            ">-\n",
            "!!int ",
            "? ",
            "#",
            "\t",
            "~",
            "-1",
            "0",
            "1e400",
            ".nan",
            "99999999999999999999",
            "---\n",
            "...\n",
            "%TAG\n",
            "\u{0}",
            "é",
            "\u{feff}",
            "\r",
            "kind",
            "spec",
            "<<: ",
            "true",
            "192.0.2.200/24",
            "::1",
            "\u{85}",
            "\u{2028}",
        ];
        prop_oneof![
            4 => prop::sample::select(words.to_vec()).prop_map(|w| w.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..8),
        ]
    }

    fn changes() -> impl Strategy<Value = Vec<(usize, usize, Vec<u8>)>> {
        prop::collection::vec((any::<usize>(), 0_usize..12, scraps()), 1..6)
    }

    /// A `Spec`, or at least one problem with a place; a panic fails the test by itself.
    fn total(bytes: &[u8]) {
        let resolver = |_: &str| Err("no such host".to_owned());
        let overrides = Overrides {
            backends: vec!["192.0.2.1".into()],
        };
        match load_text("mutated.yaml", bytes, &overrides, &resolver) {
            Ok(loaded) => {
                let _ = loaded.warnings.to_string();
                let text = check::resolved(&loaded.spec).unwrap();
                let again = load_text("resolved", text.as_bytes(), &Overrides::default(), &nobody);
                assert_eq!(again.map(|l| l.spec).map_err(|r| r.to_string()), Ok(loaded.spec));
            }
            Err(report) => assert_sound(&report),
        }
    }

    fn corpus() -> Vec<Vec<u8>> {
        let all = [valid_files(), files("tests/fixtures/config/invalid")].concat();
        all.iter().map(|p| fs::read(p).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn random_bytes_give_problems_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            total(&bytes);
        }

        #[test]
        fn scraps_of_yaml_give_problems_and_no_panic(scraps in prop::collection::vec(scraps(), 0..40)) {
            total(&scraps.concat());
        }

        #[test]
        fn a_damaged_file_gives_a_spec_or_problems(file in prop::sample::select(corpus()), changes in changes()) {
            total(&mutated(file, &changes));
        }
    }

    fn config() -> ProptestConfig {
        ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }
}

mod command {
    use super::*;
    use lb_userspace::cli::ConfigArg;

    fn run(file: &str, backends: &[&str], json: bool) -> (u8, String, String) {
        let args = check::Args {
            file: ConfigArg {
                config: root().join(file),
                backends: backends.iter().map(|b| (*b).to_owned()).collect(),
            },
            json,
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check::execute(&args, false, &nobody, &mut out, &mut err).unwrap();
        (
            code,
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let (code, out, err) = run("examples/k0s.yaml", &["192.168.122.37", "192.168.122.185"], false);
        assert_eq!((code, err.as_str()), (0, ""));
        let expected = "valid (k0s file, k0s)\n\
            instance k0s-vip-0: 192.168.122.200/24 on eth0\n  \
              VRRPv2, virtual router 51, priority 200, an advert every 1s, multicast\n  \
              depends on whether this node can serve its virtual servers: -253 while it fails\n\
            virtual server TCP 192.168.122.200:6443: rr, DR, persistence 6m0s\n  \
              datapath ipvs, or xdp where the kernel has no IPVS\n  \
              checked by https /readyz (anybody's certificate) every 1s within 1s, rise 2, fall 3\n  \
              real server 192.168.122.37:6443, weight 1\n  \
              real server 192.168.122.185:6443, weight 1\n  \
              from --backend\n";
        assert_eq!(out.split_once(": ").unwrap().1, expected);
    }

    #[test]
    fn the_datapath_of_each_virtual_server_is_said() {
        let (code, out, err) = run("examples/xdp.yaml", &[], false);
        assert_eq!((code, err.as_str()), (0, ""));
        let wanted = "virtual server api:6443 (TCP 192.168.122.200:6443): maglev, DR, persistence 6m0s\n  datapath xdp\n";
        assert!(out.contains(wanted), "{out}");
        let (_, out, _) = run("examples/native.yaml", &[], false);
        let nat = "  datapath ipvs; not xdp: it rewrites no addresses, since real servers answer the client themselves\n";
        assert!(out.contains(nat), "{out}");
    }

    #[test]
    fn the_seed_is_kept_in_the_resolved_file_as_passwords_are() {
        let (_, out, _) = run("tests/fixtures/config/valid/native-xdp-seed.yaml", &[], true);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["spec"]["xdp"]["hashSeed"], "sixteen letters!");
        assert_eq!(value["spec"]["xdp"]["mode"], "generic");
        assert_eq!(value["spec"]["virtualServers"][0]["lbAlgo"], "maglev");
    }

    #[test]
    fn problems_are_told_to_programs_too() {
        let (code, out, err) = run("tests/fixtures/config/invalid/k0s-vip-no-cidr.yaml", &[], true);
        assert_eq!((code, err.as_str()), (2, ""));
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        let first = &value["problems"][0];
        assert_eq!(first["message"], "VirtualIPs must be a CIDR. Got: 192.0.2.200");
        assert_eq!(
            (first["line"].as_u64(), first["column"].as_u64()),
            (Some(9), Some(26))
        );
        let path = "spec.network.controlPlaneLoadBalancing.keepalived.vrrpInstances[0].virtualIPs[0]";
        assert_eq!(first["path"], path);
        assert_eq!(value["problems"].as_array().unwrap().len(), 4);
    }

    #[test]
    fn a_file_that_is_not_there_is_bad_input() {
        let (code, out, err) = run("no/such/file.yaml", &[], false);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with("error: cannot read "), "{err}");
        let (code, out, _) = run("no/such/file.yaml", &[], true);
        assert!(code == 2 && out.contains("cannot read the file"));
    }

    #[test]
    fn the_resolved_file_has_every_default() {
        let (code, out, _) = run("examples/vip-only.yaml", &[], true);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        let instance = &value["spec"]["vrrpInstances"][0];
        assert_eq!(code, 0);
        assert_eq!(instance["name"], "k0s-vip-0");
        assert_eq!(instance["advertInterval"], "1s");
        assert_eq!(instance["version"], 3);
        assert!(instance.get("authPass").is_none());
    }
}

#[test]
fn bytes_that_are_no_text_and_files_that_are_too_long_have_a_place() {
    let report = load("latin1.yaml", b"kind: \xe9").unwrap_err();
    assert_eq!(report.entries[0].message, "this is not UTF-8");
    assert_eq!(
        (report.entries[0].line, report.entries[0].column),
        (Some(1), Some(7))
    );
    assert_sound(&report);
    let report = load("long.yaml", &vec![b'#'; 2 << 20]).unwrap_err();
    assert!(report.entries[0].message.contains("bytes long"));
    assert_sound(&report);
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_read_as_nothing() {
    let text = fs::read_to_string(root().join("examples/vip-only.yaml")).unwrap();
    let plain = load("a", text.as_bytes()).unwrap();
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(load("b", windows.as_bytes()).unwrap().spec, plain.spec);
}

/// Aliases build what no line shows: each of these nests the one before two hundred deep.
fn towers(levels: usize) -> String {
    let (open, close) = ("[".repeat(200), "]".repeat(200));
    let mut text = format!("a0: &a0 {open}{close}\n");
    for n in 1..levels {
        text.push_str(&format!("a{n}: &a{n} {open}*a{}{close}\n", n - 1));
    }
    text
}

#[test]
fn no_nesting_is_too_deep_for_the_stack() {
    let lines: String = (0..160).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let stairs = format!("{lines}{}{}x", " ".repeat(100), "- ".repeat(30));
    let brackets = format!("{}a: {}{}", "- ".repeat(70), "[".repeat(254), "]".repeat(254));
    for text in [lines, stairs, brackets, towers(20), towers(31), towers(40)] {
        let report = load("deep.yaml", text.as_bytes()).unwrap_err();
        assert_sound(&report);
    }
}

/// A long file, filled with whatever is compared with its neighbours, gets an answer: the daemon reads files while it
/// holds the address. No time is asserted; a square of the length would make this test's very long.
#[test]
fn long_files_get_an_answer() {
    let head = "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nspec:\n";
    let fill = |line: &dyn Fn(usize) -> String| {
        let mut text = String::from(head);
        for n in 0.. {
            let next = line(n);
            if text.len() + next.len() > 1 << 18 {
                break;
            }
            text.push_str(&next);
        }
        text
    };
    let with = |start: &str, line: &dyn Fn(usize) -> String| {
        fill(&|n| {
            if n == 0 {
                format!("{start}{}", line(n))
            } else {
                line(n)
            }
        })
    };
    let files = [
        fill(&|n| format!("  k{n}: 1\n")),
        with("  vrrpInstances:\n", &|n| {
            format!(
                "    - virtualIPs: [10.{}.{}.{}/8]\n",
                n >> 16,
                n >> 8 & 255,
                n & 255
            )
        }),
        with("  vrrpInstances:\n", &|_| "    - 1\n".into()),
        with("  virtualServers:\n", &|n| {
            format!("    - ipAddress: 10.{}.{}.1\n", n >> 8 & 255, n & 255)
        }),
        with(
            "  vrrpInstances:\n    - virtualIPs: [192.0.2.1/24]\n  virtualServers:\n    - ipAddress: 192.0.2.1\n      realServers:\n",
            &|n| format!("        - address: 10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255),
        ),
        with(
            "  vrrpInstances:\n    - virtualIPs: [192.0.2.1/24]\n      unicastPeers:\n",
            &|n| format!("        - 10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255),
        ),
        with(
            "  vrrpInstances:\n    - virtualIPs: [192.0.2.1/24]\n      track:\n",
            &|n| format!("        - interface: e{n}\n"),
        ),
        with("  syncGroups:\n", &|n| format!("    - name: g{n}\n")),
    ];
    for text in files {
        let report = load("large.yaml", text.as_bytes()).unwrap_err();
        assert_sound(&report);
    }
}
