//! `cplb check`: whether a file can be used, without touching the kernel.
use crate::config::load::{Resolver, load_text, system_resolver};
use crate::config::{LoadError, Loaded, Overrides, Report};
use lb_common::config::GoDuration;
use lb_common::config::raw::native::ControlPlaneLoadBalancer;
use lb_common::health::{Probe, Trust};
use lb_common::model::Scheduler;
use lb_common::plan::xdp_cannot;
use lb_common::spec::{
    DatapathKind, Instance, InterfaceSelector, Listener, Spec, Track, Tracked, Transport, VirtualServer,
};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// What `cplb check` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub file: super::ConfigArg,
    /// Print the resolved file, or every problem, as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints what it finds; 0, or 2 where the file cannot be used, or 1 where the answer cannot be printed.
pub fn run(args: &Args) -> ExitCode {
    let colour = io::stderr().is_terminal();
    match execute(
        args,
        colour,
        &system_resolver,
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    ) {
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

/// The same with everything handed in.
///
/// # Errors
/// Where the answer cannot be written.
pub fn execute(
    args: &Args,
    colour: bool,
    resolver: Resolver<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let overrides = Overrides {
        backends: args.file.backends.clone(),
    };
    let file = args.file.config.display().to_string();
    let loaded = match std::fs::read(&args.file.config) {
        Ok(bytes) => {
            load_text(&file, &bytes, &overrides, resolver).map_err(|r| LoadError::Invalid(Box::new(r)))
        }
        Err(error) => Err(LoadError::Read { file, error }),
    };
    match loaded {
        Ok(loaded) => {
            if !loaded.warnings.entries.is_empty() {
                writeln!(err, "{}", loaded.warnings.render(colour))?;
            }
            if args.json {
                writeln!(out, "{}", resolved(&loaded.spec)?)?;
            } else {
                summary(args, &loaded, out)?;
            }
            Ok(0)
        }
        Err(e) if args.json => {
            writeln!(out, "{}", problems(&e)?)?;
            Ok(2)
        }
        Err(LoadError::Invalid(report)) => {
            writeln!(err, "{}", report.render(colour))?;
            Ok(2)
        }
        Err(e) => {
            writeln!(err, "error: {e}")?;
            Ok(2)
        }
    }
}

/// The resolved file: native, with every default filled in.
///
/// # Errors
/// Never in practice: every field is a plain value.
pub fn resolved(spec: &Spec) -> io::Result<String> {
    let mut value = serde_json::to_value(ControlPlaneLoadBalancer::from(spec))?;
    strip_nulls(&mut value);
    Ok(serde_json::to_string_pretty(&value)?)
}

/// What was left out is left out, not null.
fn strip_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

fn problems(e: &LoadError) -> io::Result<String> {
    let list = match e {
        LoadError::Invalid(report) => report_json(report)?,
        LoadError::Read { file, error } => serde_json::json!([{
            "file": file,
            "line": null,
            "column": null,
            "path": "",
            "message": format!("cannot read the file: {error}"),
            "help": null,
        }]),
    };
    Ok(serde_json::to_string_pretty(
        &serde_json::json!({ "problems": list }),
    )?)
}

fn report_json(report: &Report) -> io::Result<serde_json::Value> {
    Ok(serde_json::to_value(&report.entries)?)
}

fn summary(args: &Args, loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let spec = &loaded.spec;
    let state = if spec.enabled {
        ""
    } else {
        ", but not enabled: nothing would be done"
    };
    writeln!(
        out,
        "{}: valid ({} file, {}){state}",
        args.file.config.display(),
        loaded.kind,
        spec.name
    )?;
    for i in &spec.instances {
        instance(i, out)?;
    }
    for g in &spec.sync_groups {
        let names: Vec<&str> = g
            .members
            .iter()
            .filter_map(|m| spec.instances.get(*m))
            .map(|i| i.name.as_str())
            .collect();
        writeln!(out, "sync group {}: {}", g.name, names.join(", "))?;
    }
    for (n, v) in spec.virtual_servers.iter().enumerate() {
        server(v, out)?;
        if let Some(source) = loaded.sources.get(n) {
            writeln!(out, "  from {source}")?;
        }
    }
    let proxied = spec
        .virtual_servers
        .iter()
        .any(|v| v.datapath == DatapathKind::Proxy);
    if let Some(port) = spec.proxy.bind_port.filter(|_| proxied) {
        writeln!(
            out,
            "the proxy listens on port {port} of every address of the node as well"
        )?;
    }
    if spec.virtual_servers.is_empty() {
        writeln!(out, "no virtual servers: the virtual IP alone")?;
    }
    Ok(())
}

fn instance(i: &Instance, out: &mut dyn Write) -> io::Result<()> {
    let vips: Vec<String> = i.virtual_ips.iter().map(ToString::to_string).collect();
    let interface = match &i.interface {
        InterfaceSelector::Auto => "the interface of its subnet".to_owned(),
        InterfaceSelector::Name(name) => name.clone(),
        InterfaceSelector::Mac(mac) => mac.to_string(),
    };
    let transport = match &i.transport {
        Transport::Multicast => "multicast".to_owned(),
        Transport::Unicast { peers, .. } => {
            format!(
                "unicast to {}",
                peers
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
    };
    writeln!(out, "instance {}: {} on {interface}", i.name, vips.join(", "))?;
    let every = GoDuration::from(i.advert_interval.duration());
    writeln!(
        out,
        "  {}, virtual router {}, priority {}, an advert every {every}, {transport}",
        i.version, i.vrid, i.priority
    )?;
    for t in &i.track {
        writeln!(out, "  depends on {}", tracked(t))?;
    }
    for hook in &i.notify {
        let who = match &hook.listener {
            Listener::Exec(c) => format!(
                "{} as {}",
                c.command.join(" "),
                c.user.as_deref().unwrap_or("nobody")
            ),
            Listener::Socket(path) => path.clone(),
        };
        let states: Vec<&str> = hook.on.iter().map(|t| t.name()).collect();
        let of = if states.is_empty() {
            "every change".to_owned()
        } else {
            states.join(", ")
        };
        writeln!(out, "  tells {who} of {of}")?;
    }
    Ok(())
}

fn tracked(t: &Track) -> String {
    let what = match &t.what {
        Tracked::Interface(name) => format!("the interface {name}"),
        Tracked::Exec(e) => {
            let user = e.run.user.as_deref().unwrap_or("nobody");
            let every = GoDuration::from(e.interval);
            format!("{} as {user} every {every}", e.run.command.join(" "))
        }
        Tracked::VirtualServers(_) => "whether this node can serve its virtual servers".to_owned(),
    };
    let effect = match t.weight {
        0 => "takes no part while it fails".to_owned(),
        w if w < 0 => format!("{w} while it fails"),
        w => format!("+{w} while it does not fail"),
    };
    format!("{what}: {effect}")
}

/// How real servers are asked, in a line.
fn checked(v: &VirtualServer) -> String {
    let c = &v.health_check;
    let what = match &c.probe {
        Probe::None => return "not checked".to_owned(),
        Probe::Http(h) => format!("http {}", h.path),
        Probe::Https(both) => {
            let trust = match &both.0.trust {
                Trust::Anybody => "anybody's certificate".to_owned(),
                Trust::Authority(file) => format!("by the authority of {file}"),
                Trust::Fingerprints(all) => format!("one of {} certificates", all.len()),
            };
            format!("https {} ({trust})", both.1.path)
        }
        Probe::Exec(e) => format!(
            "{} as {}",
            e.command.join(" "),
            e.user.as_deref().unwrap_or("nobody")
        ),
        Probe::Tcp | Probe::Tls(_) | Probe::Icmp | Probe::Udp(_) => c.kind().to_string(),
    };
    let (every, limit) = (GoDuration::from(c.interval), GoDuration::from(c.timeout));
    format!(
        "checked by {what} every {every} within {limit}, rise {}, fall {}",
        c.rise, c.fall
    )
}

/// Which, as far as the file alone can say.
fn datapath(v: &VirtualServer) -> String {
    match (v.datapath, xdp_cannot(v)) {
        (DatapathKind::Auto, None) => "ipvs, or xdp where the kernel has no IPVS".into(),
        (DatapathKind::Auto, Some(why)) => format!("ipvs; not xdp: {why}"),
        (DatapathKind::Ipvs, _) => "ipvs".into(),
        (DatapathKind::Xdp, _) => "xdp".into(),
        (DatapathKind::Proxy, _) => "proxy".into(),
    }
}

fn server(v: &VirtualServer, out: &mut dyn Write) -> io::Result<()> {
    let persistence = v.persistence.map_or_else(
        || "no persistence".to_owned(),
        |p| format!("persistence {}", GoDuration::from(p.timeout)),
    );
    let key = v.key.to_string();
    let name = if v.name == key {
        key
    } else {
        format!("{} ({key})", v.name)
    };
    let algorithm = match v.datapath {
        DatapathKind::Xdp => "maglev",
        DatapathKind::Auto | DatapathKind::Ipvs | DatapathKind::Proxy => v.scheduler.name(),
    };
    if v.datapath == DatapathKind::Proxy {
        let algorithm = if v.scheduler == Scheduler::SourceHash {
            "source"
        } else {
            algorithm
        };
        writeln!(out, "virtual server {name}: {algorithm}")?;
    } else {
        let kind = v.forwarding.name();
        writeln!(out, "virtual server {name}: {algorithm}, {kind}, {persistence}")?;
    }
    writeln!(out, "  datapath {}", datapath(v))?;
    writeln!(out, "  {}", checked(v))?;
    for r in &v.real_servers {
        let address = std::net::SocketAddr::new(r.address, r.port);
        writeln!(out, "  real server {address}, weight {}", r.weight)?;
    }
    Ok(())
}
