//! One validation for the three files: k0s's two are lowered to the native shapes first, for the names are the same, and
//! what differs (k0s's defaults, words and narrower choices) is asked of the [`Dialect`].
mod advert;
mod backends;
mod cross;
mod extras;
mod health;
mod instance;
mod k0s;
mod policy;
mod program;
mod proxy;
mod server;
#[cfg(test)]
mod tests;
mod track;
mod unicast;
mod xdp;

use super::facts::Facts;
use super::path::Path;
use super::problem::{Findings, Problem};
use super::raw::k0s::ClusterConfig;
use super::raw::{
    ConnectionSync, File, IpvsTimeouts, Proxy, SyncGroup, VirtualServer, VrrpInstance, Xdp, native,
};
use super::{Valid, facts};
use crate::spec::{Instance, Spec};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use program::program;

/// Whose rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Native,
    K0s,
    K0sctl,
}

impl Dialect {
    const fn is_native(self) -> bool {
        matches!(self, Self::Native)
    }

    /// What to do where no real server is named.
    fn ways(self) -> String {
        facts::ways(matches!(self, Self::K0sctl), self.is_native())
    }
}

/// k0s's limit as well.
const MAX_INSTANCES: usize = 255;

/// Any of the files in one shape, not yet validated.
struct Draft {
    dialect: Dialect,
    name: String,
    enabled: bool,
    /// Where `vrrpInstances` and `virtualServers` are.
    base: Path,
    api_port: u16,
    instances: Vec<VrrpInstance>,
    servers: Vec<VirtualServer>,
    sync_groups: Vec<SyncGroup>,
    connection_sync: Option<ConnectionSync>,
    timeouts: Option<IpvsTimeouts>,
    xdp: Option<Xdp>,
    proxy: Option<Proxy>,
}

impl Draft {
    fn instance_path(&self, index: usize) -> Path {
        self.base.key("vrrpInstances").index(index)
    }

    fn server_path(&self, index: usize) -> Path {
        self.base.key("virtualServers").index(index)
    }
}

/// Instances as far as they are sound, each with its place in the file.
struct Instances {
    list: Vec<(usize, Instance)>,
    /// Whether all of them are: only then may something that refers to one be called wrong.
    complete: bool,
}

/// Checks `file` and what is known besides, and finds everything that is wrong with them.
///
/// # Errors
/// All problems; never none.
pub fn validate(file: &File, facts: &Facts) -> Result<Valid, Vec<Problem>> {
    let mut f = Findings::default();
    let draft = match file {
        File::Native(n) => native(n, &mut f),
        File::K0s(c) => k0s::lower(c, None, &Path::ROOT, Dialect::K0s, &mut f),
        File::K0sctl(c) => {
            let at = Path::of(&["spec", "k0s", "config"]);
            let config = c
                .spec
                .as_ref()
                .and_then(|s| s.k0s.as_ref())
                .and_then(|k| k.config.as_ref());
            let name = c.metadata.as_ref().and_then(|m| m.name.as_deref());
            k0s::lower(
                config.unwrap_or(&ClusterConfig::default()),
                name,
                &at,
                Dialect::K0sctl,
                &mut f,
            )
        }
    };
    let valid = draft.and_then(|d| assemble(&d, facts, &mut f));
    match valid {
        Some((spec, sources)) if f.problems.is_empty() => Ok(Valid {
            spec,
            warnings: f.warnings,
            sources,
        }),
        _ => Err(f.problems),
    }
}

fn native(file: &native::ControlPlaneLoadBalancer, f: &mut Findings) -> Option<Draft> {
    let base = Path::of(&["spec"]);
    let name = file.metadata.as_ref().and_then(|m| m.name.clone());
    if name.as_deref().is_some_and(|n| !is_name(n)) {
        f.refuse(bad_name(&Path::of(&["metadata", "name"])));
    }
    let Some(spec) = &file.spec else {
        f.refuse(
            Problem::new(&base, "spec must be defined")
                .help("put vrrpInstances and virtualServers under spec"),
        );
        return None;
    };
    let enabled = spec.enabled.unwrap_or(true);
    let at = base.key("vrrpInstances");
    match &spec.vrrp_instances {
        None => f.refuse(
            Problem::new(&at, "vrrpInstances must be defined").help("at least one with virtualIPs is needed"),
        ),
        Some(list) if list.is_empty() && enabled => {
            f.warn(Problem::new(
                &at,
                "there is nothing to do until vrrpInstances are given",
            ));
        }
        Some(_) => {}
    }
    let api_port = match spec.api.as_ref().and_then(|a| a.port) {
        None => Some(6443),
        Some(p) => f.take(port(p, &base.key("api").key("port"), "port")),
    };
    Some(Draft {
        dialect: Dialect::Native,
        name: name.unwrap_or_else(|| "cplb".into()),
        enabled,
        api_port: api_port.unwrap_or(6443),
        instances: spec.vrrp_instances.clone().unwrap_or_default(),
        servers: spec.virtual_servers.clone().unwrap_or_default(),
        sync_groups: spec.sync_groups.clone().unwrap_or_default(),
        connection_sync: spec.connection_sync.clone(),
        timeouts: spec.ipvs_timeouts.clone(),
        xdp: spec.xdp.clone(),
        proxy: spec.proxy.as_deref().cloned(),
        base,
    })
}

fn assemble(d: &Draft, facts: &Facts, f: &mut Findings) -> Option<(Spec, Vec<super::RealServerSource>)> {
    if !at_most(d.instances.len(), MAX_INSTANCES, &d.base.key("vrrpInstances"), f) {
        return None;
    }
    let mut list = Vec::new();
    for (i, raw) in d.instances.iter().enumerate() {
        let place = (i, &d.instance_path(i));
        if let Some(instance) = instance::check(d.dialect, raw, place, &d.servers, f) {
            list.push((i, instance));
        }
    }
    let all = Instances {
        complete: list.len() == d.instances.len(),
        list,
    };
    cross::check(d, &all, f);
    let sync_groups = extras::sync_groups(d, &all, f);
    let connection_sync = extras::connection_sync(d, &all, f);
    let timeouts = extras::timeouts(d, f);
    let xdp = xdp::block(d, f);
    let proxy = proxy::block(d, f);
    let (virtual_servers, sources) = server::check_all(d, &all, facts, f);
    if !f.problems.is_empty() || !all.complete {
        return None;
    }
    let spec = Spec {
        name: d.name.clone(),
        enabled: d.enabled,
        instances: all.list.into_iter().map(|(_, i)| i).collect(),
        sync_groups,
        virtual_servers,
        connection_sync,
        timeouts,
        xdp: xdp?,
        proxy: proxy?,
    };
    xdp::whole(d, &spec, f);
    proxy::whole(d, &spec, f);
    Some((spec, sources))
}

/// A name that can stand in a log line, a metric's label and a path of the status.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

fn bad_name(at: &Path) -> Problem {
    Problem::new(
        at,
        "a name is 1 to 253 bytes long, without spaces and control characters",
    )
}

/// A name that the kernel would give an interface (`dev_valid_name`).
fn is_interface(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() < 16
        && !name
            .chars()
            .any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

fn bad_interface(at: &Path, name: &str) -> Problem {
    Problem::new(at, format!("{name:?} cannot be an interface"))
        .help("write a name of at most 15 bytes such as eth0")
}

/// Whether a list is no longer than what is worth comparing each of with all others; says so where it is.
fn at_most(length: usize, most: usize, at: &Path, f: &mut Findings) -> bool {
    if length > most {
        f.refuse(Problem::new(
            at,
            format!("{length} entries, but at most {most} are taken"),
        ));
    }
    length <= most
}

/// A number within a range, both ends included.
fn number<T: TryFrom<i64>>(value: i64, min: i64, max: i64, at: &Path, what: &str) -> Result<T, Problem> {
    let wrong = || {
        Problem::new(
            at,
            format!("{what} must be in the range of {min} to {max}. Got: {value}"),
        )
    };
    if value < min || value > max {
        return Err(wrong());
    }
    T::try_from(value).map_err(|_| wrong())
}

fn one_of(names: &[&str]) -> String {
    format!("write one of {}", names.join(", "))
}

fn port(value: i64, at: &Path, what: &str) -> Result<u16, Problem> {
    number(value, 1, 65535, at, what)
}
