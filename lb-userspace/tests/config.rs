//! Files as people write them: the examples, and fixtures whose reports are kept beside them.
//!
//! A fixture may begin with `# backends: ADDR ...` (as `--backend`) and `# resolve: NAME=ADDR ...` (instead of the DNS).
//! `CPLB_BLESS=1` writes the expected reports anew; read the difference before you commit it.
use lb_userspace::config::{Loaded, Overrides, Report, load_text};
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
