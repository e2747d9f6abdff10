//! Files as people write them: the examples, and fixtures whose reports are kept beside them.
//!
//! A fixture may begin with `# backends: ADDR ...` (as `--backend`) and `# resolve: NAME=ADDR ...` (instead of the DNS).
//! `CPLB_BLESS=1` writes the expected reports anew; read the difference before you commit it.
use lb_userspace::cli::{check, schema};
use lb_userspace::config::report::Stage;
use lb_userspace::config::{FileKind, Loaded, Overrides, Report, document, load_text};
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
        backends = ["192.168.122.37", "192.168.122.185", "192.168.122.87"].map(str::to_owned).to_vec();
    }
    let names = directive(&text, "resolve");
    let resolver = |name: &str| -> Result<Vec<IpAddr>, String> {
        let pairs = names.iter().filter_map(|n| n.split_once('='));
        let found: Vec<IpAddr> = pairs.filter(|(n, _)| *n == name).map(|(_, a)| a.parse().unwrap()).collect();
        if found.is_empty() { Err("no such host".into()) } else { Ok(found) }
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
    assert!(wrong.is_empty(), "other reports than before; CPLB_BLESS=1 keeps them\n{}", wrong.join("\n"));
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
        if loaded.spec.instances.is_empty() {
            continue; // A disabled k0s file may hold nothing, which a native one may not.
        }
        let text = check::resolved(&loaded.spec).unwrap();
        let again = match load_text("resolved.json", text.as_bytes(), &Overrides::default(), &nobody) {
            Ok(again) => again,
            Err(report) => panic!("{}:\n{report}", path.display()),
        };
        assert_eq!(again.spec, loaded.spec, "{}", path.display());
        assert_eq!(again.kind, FileKind::Native);
    }
}

fn nobody(name: &str) -> Result<Vec<IpAddr>, String> {
    panic!("{name} was looked up");
}

fn json(bytes: &[u8]) -> Option<serde_json::Value> {
    let text = document::text(bytes).ok()?;
    Some(document::parse(&text).ok()?.with_yaml_1_1_booleans(&text).to_json())
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
            assert!(!validator.is_valid(&value), "{} is valid by the schema", path.display());
        }
    }
}

#[test]
fn every_resolved_file_is_valid_by_the_schema() {
    let validator = jsonschema::validator_for(&schema::schema()).unwrap();
    for path in valid_files() {
        let loaded = load(&name(&path), &fs::read(&path).unwrap()).unwrap();
        if !loaded.spec.instances.is_empty() {
            let value = serde_json::from_str(&check::resolved(&loaded.spec).unwrap()).unwrap();
            assert!(validator.is_valid(&value), "{}", path.display());
        }
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
