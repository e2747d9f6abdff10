//! A file on disk and the flags beside it to a `Spec`, whichever of the three spellings it has.
use super::document::{Node, Value};
use super::report::{Report, Severity, Stage};
use super::structure::{self, Outcome, relocated};
use super::yaml::{self, SyntaxError};
use lb_common::config::raw::{self, File};
use lb_common::config::{
    API_VERSION, Backend, Controller, Facts, Findings, Host, K0S_API_VERSION, K0S_KIND, K0SCTL_API_VERSION,
    K0SCTL_KIND, KIND, Path, Place, Problem, RealServerSource, controllers, validate,
};
use lb_common::model::Family;
use lb_common::spec::Spec;
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};

/// What the command line says besides the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--backend ADDR[:PORT]`: in place of every other source of real servers of that family.
    pub backends: Vec<String>,
}

/// Which of the three spellings a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `kind: ControlPlaneLoadBalancer`.
    Native,
    /// `kind: ClusterConfig`.
    K0s,
    /// `kind: Cluster`.
    K0sctl,
}

impl FileKind {
    /// All of them with their `kind` and `apiVersion`.
    pub const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Native, KIND, API_VERSION),
        (Self::K0s, K0S_KIND, K0S_API_VERSION),
        (Self::K0sctl, K0SCTL_KIND, K0SCTL_API_VERSION),
    ];
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::K0s => "k0s",
            Self::K0sctl => "k0sctl",
        })
    }
}

/// A file that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What is to be true.
    pub spec: Spec,
    /// Which spelling it was in.
    pub kind: FileKind,
    /// Where the real servers of each virtual server come from, in the spec's order.
    pub sources: Vec<RealServerSource>,
    /// What should not go unsaid; empty where there is nothing.
    pub warnings: Report,
}

/// Why there is no `Spec`.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no file to read.
    #[error("cannot read {file}: {error}")]
    Read {
        /// As it was named.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// There is, and this is wrong with it.
    #[error("{0}")]
    Invalid(Box<Report>),
}

/// The addresses of a name, or why there are none.
pub type Resolver<'a> = &'a dyn Fn(&str) -> Result<Vec<IpAddr>, String>;

/// Asks the system, which may ask the DNS and may take its time.
///
/// # Errors
/// What the system says.
pub fn system_resolver(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 0).to_socket_addrs().map_err(|e| e.to_string())?;
    Ok(found.map(|s| s.ip()).collect())
}

/// Reads and checks a file.
///
/// # Errors
/// Where it cannot be read, or everything that is wrong with it.
pub fn load(path: &std::path::Path, overrides: &Overrides) -> Result<Loaded, LoadError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| LoadError::Read {
        file: file.clone(),
        error,
    })?;
    load_text(&file, &bytes, overrides, &system_resolver).map_err(|r| LoadError::Invalid(Box::new(r)))
}

/// Checks the content of a file that is called `file`.
///
/// # Errors
/// Everything that is wrong with it; never an empty report.
pub fn load_text(
    file: &str,
    bytes: &[u8],
    overrides: &Overrides,
    resolver: Resolver<'_>,
) -> Result<Loaded, Report> {
    let text = yaml::text(bytes).map_err(|(e, shown)| syntax(Report::new(file, &shown), &[e]))?;
    let root = yaml::parse(&text).map_err(|e| syntax(Report::new(file, &text), &e))?;
    let mut loading = Loading {
        report: Report::new(file, &text),
        root,
        removed: Vec::new(),
    };
    let kind = match detect(&loading.root) {
        Ok(kind) => kind,
        Err(problem) => {
            loading.note(Severity::Error, Stage::Structure, problem);
            return Err(loading.report);
        }
    };
    let outcome = loading
        .read(kind)
        .map(|raw| loading.check(&raw, overrides, resolver));
    loading.report.sort();
    match outcome {
        Some(Some((spec, sources, warnings))) if loading.report.entries.is_empty() => Ok(Loaded {
            spec,
            kind,
            sources,
            warnings: loading.warnings(&warnings),
        }),
        _ => Err(loading.report),
    }
}

fn syntax(mut report: Report, errors: &[SyntaxError]) -> Report {
    for e in errors {
        let mut problem = Problem::new(&Path::ROOT, e.message.clone());
        problem.help.clone_from(&e.help);
        report.add(Severity::Error, Stage::Syntax, &problem, Some(e.span.clone()));
    }
    report.sort();
    report
}

/// Which spelling it is, by `kind`, and whether its `apiVersion` goes with that.
fn detect(root: &Node) -> Result<FileKind, Problem> {
    let root_path = Path::ROOT;
    if !matches!(root.value, Value::Map(_)) {
        return Err(Problem::new(
            &root_path,
            "a configuration is a mapping with apiVersion and kind",
        )
        .help(kinds()));
    }
    let at = root_path.key("kind");
    let Some(kind) = root.text("kind") else {
        return Err(Problem::new(&at, "kind must be defined").help(kinds()));
    };
    let found = FileKind::ALL.iter().find(|(_, k, _)| *k == kind);
    let Some((kind, name, version)) = found else {
        return Err(Problem::new(&at, format!("unknown kind {kind:?}")).help(kinds()));
    };
    let at = root_path.key("apiVersion");
    match root.text("apiVersion") {
        Some(v) if v == *version => Ok(*kind),
        Some(v) => Err(
            Problem::new(&at, format!("unknown apiVersion {v:?} of the kind {name}"))
                .help(format!("write {version}")),
        ),
        None => Err(Problem::new(&at, "apiVersion must be defined").help(format!("write {version}"))),
    }
}

fn kinds() -> String {
    let all: Vec<String> = FileKind::ALL
        .iter()
        .map(|(_, kind, version)| format!("{kind} ({version})"))
        .collect();
    format!("the kinds are {}", all.join(", "))
}

/// A file on its way.
struct Loading {
    report: Report,
    root: Node,
    removed: Vec<Path>,
}

type Checked = (Spec, Vec<RealServerSource>, Vec<Problem>);

impl Loading {
    fn note(&mut self, severity: Severity, stage: Stage, problem: Problem) {
        let span = self.root.locate(&problem.place, &self.report.source);
        let problem = relocated(problem, &self.root);
        self.report.add(severity, stage, &problem, span);
    }

    /// The raw types, every mistake of form noted.
    fn read(&mut self, kind: FileKind) -> Option<File> {
        let text = self.report.source.clone();
        if kind != FileKind::Native {
            self.root = self.root.clone().with_yaml_1_1_booleans(&text);
        }
        match kind {
            FileKind::Native => {
                let outcome = structure::read(&mut self.root, &text, true);
                self.absorb(outcome).map(File::Native)
            }
            FileKind::K0s => {
                let outcome = structure::read(&mut self.root, &text, false);
                self.absorb(outcome).map(File::K0s)
            }
            FileKind::K0sctl => {
                let outcome = structure::read(&mut self.root, &text, false);
                self.absorb(outcome).map(File::K0sctl)
            }
        }
    }

    fn absorb<T>(&mut self, outcome: Outcome<T>) -> Option<T> {
        for p in outcome.problems {
            self.report
                .add(Severity::Error, Stage::Structure, &p.problem, p.span);
        }
        self.removed = outcome.removed;
        outcome.raw
    }

    /// What the raw types mean, every other mistake noted.
    fn check(&mut self, raw: &File, overrides: &Overrides, resolver: Resolver<'_>) -> Option<Checked> {
        let mut findings = Findings::default();
        let backends: Vec<Backend> = overrides
            .backends
            .iter()
            // `CPLB_BACKENDS=` in an EnvironmentFile is none.
            .filter(|t| !t.trim().is_empty())
            .filter_map(|t| findings.take(Backend::parse(t)))
            .collect();
        let flags_fail = !findings.problems.is_empty();
        let controllers = hosts(raw, &backends, resolver, &mut findings);
        let hosts_fail = !findings.problems.is_empty();
        let facts = Facts {
            backends,
            controllers,
        };
        let valid = match validate(raw, &facts) {
            Ok(valid) => Some(valid),
            Err(problems) => {
                let unknown_servers = |p: &Problem| p.follows && (flags_fail || hosts_fail);
                findings
                    .problems
                    .extend(problems.into_iter().filter(|p| !unknown_servers(p)));
                None
            }
        };
        for problem in findings.problems {
            if !self.is_consequence(&problem) {
                self.note(Severity::Error, Stage::Meaning, problem);
            }
        }
        valid.map(|mut v| {
            v.warnings.splice(0..0, findings.warnings);
            (v.spec, v.sources, v.warnings)
        })
    }

    /// Whether a problem only repeats that something was taken out.
    fn is_consequence(&self, problem: &Problem) -> bool {
        let Some(path) = problem.path().map(|p| self.root.original(p)) else {
            return false;
        };
        let missing =
            problem.message.ends_with("must be defined") || problem.message.ends_with("nothing to do");
        self.removed
            .iter()
            .any(|r| path.is_within(r) || (missing && r.is_within(&path)))
            || (problem.follows && !self.removed.is_empty())
    }

    fn warnings(&self, warnings: &[Problem]) -> Report {
        let mut report = Report::new(&self.report.file, &self.report.source);
        for w in warnings {
            let span = self.root.locate(&w.place, &report.source);
            report.add(Severity::Warning, Stage::Meaning, w, span);
        }
        report.sort();
        report
    }
}

/// The controllers of a k0sctl file, names resolved; nobody is asked where the answer would not be used.
fn hosts(raw: &File, backends: &[Backend], resolver: Resolver<'_>, f: &mut Findings) -> Vec<Controller> {
    let File::K0sctl(cluster) = raw else {
        return Vec::new();
    };
    let hosts = controllers(cluster, f);
    if !is_asked_for(cluster, backends) {
        return Vec::new();
    }
    hosts.iter().flat_map(|h| resolved(h, resolver, f)).collect()
}

/// Whether a virtual server is of a family that no `--backend` is of.
fn is_asked_for(cluster: &raw::k0sctl::Cluster, backends: &[Backend]) -> bool {
    let config = cluster
        .spec
        .as_ref()
        .and_then(|s| s.k0s.as_ref())
        .and_then(|k| k.config.as_ref());
    let network = config
        .and_then(|c| c.spec.as_ref())
        .and_then(|s| s.network.as_ref());
    let block = network.and_then(|n| n.control_plane_load_balancing.as_ref());
    let servers = block
        .and_then(|b| b.keepalived.as_ref())
        .and_then(|k| k.virtual_servers.as_ref());
    let mut addresses = servers
        .into_iter()
        .flatten()
        .filter_map(|s| s.ip_address.as_ref()?.parse().ok());
    addresses.any(|a| !backends.iter().any(|b| Family::of(b.address) == Family::of(a)))
}

/// The first address of each family: one host is one real server.
fn resolved(host: &Host, resolver: Resolver<'_>, f: &mut Findings) -> Vec<Controller> {
    let addresses = match host.text.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => match resolver(&host.text) {
            Ok(found) if !found.is_empty() => found,
            other => {
                let why = other.err().unwrap_or_else(|| "it has no address".into());
                f.refuse(Problem {
                    place: Place::Value(host.path.clone()),
                    message: format!("{} cannot be resolved: {why}", host.text),
                    help: Some("write its IP address as privateAddress".into()),
                    follows: false,
                });
                Vec::new()
            }
        },
    };
    let of = |family| addresses.iter().find(|a| Family::of(**a) == family);
    let both = [of(Family::Ipv4), of(Family::Ipv6)];
    both.into_iter()
        .flatten()
        .map(|address| Controller {
            path: host.path.clone(),
            text: host.text.clone(),
            address: *address,
        })
        .collect()
}
