//! A status as a person reads it.
mod proxy;
mod xdp;

use super::{ServiceView, Status};
use crate::health::TargetReport;
use crate::track::TrackView;
use crate::vrrp::{InstanceView, TransitionRecord};
use lb_common::health::Health;
use lb_common::vrrp::{Reason, State};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The whole page. `before` is an earlier status, if there is one: then there are rates.
pub fn render(s: &Status, before: Option<&Status>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = head(&mut out, s);
    let _ = instances(&mut out, s);
    let _ = services(&mut out, s);
    if let Some(now) = &s.kernel.xdp {
        let _ = xdp::xdp(&mut out, now, before.and_then(|b| b.kernel.xdp.as_ref()));
    }
    if let Some(now) = &s.kernel.proxy {
        let _ = proxy::proxy(&mut out, now);
    }
    let _ = health(&mut out, s);
    let _ = transitions(&mut out, s);
    let _ = problems(&mut out, s);
    out
}

fn head(out: &mut String, s: &Status) -> std::fmt::Result {
    writeln!(
        out,
        "cplb {}  {}  process {}  up {}",
        s.version,
        s.name,
        s.pid,
        ago(s.started_ms)
    )?;
    writeln!(out, "file {}", s.config)?;
    match &s.reload {
        Some(r) if r.error.is_some() => {
            writeln!(
                out,
                "     the change of {} ago was REFUSED, the file before it is in force:",
                ago(r.at_ms)
            )?;
            for line in r.error.as_deref().unwrap_or_default().lines() {
                writeln!(out, "     {line}")?;
            }
        }
        Some(r) => writeln!(out, "     read again {} ago", ago(r.at_ms))?,
        None => {}
    }
    Ok(())
}

fn instances(out: &mut String, s: &Status) -> std::fmt::Result {
    writeln!(
        out,
        "\n{:<16} {:>4} {:<11} {:>4} {:<12} {:<34} ACTIVE ROUTER",
        "INSTANCE", "VRID", "STATE", "PRIO", "INTERFACE", "VIRTUAL IPS"
    )?;
    for i in &s.roles.instances {
        let vips = i
            .virtual_ips
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        let interface = i.interface.as_ref().map_or("-", |r| r.name.as_str());
        writeln!(
            out,
            "{:<16} {:>4} {:<11} {:>4} {:<12} {:<34} {}",
            i.name,
            i.vrid,
            i.state.name(),
            i.priority,
            interface,
            vips,
            active(i)
        )?;
        if let Some(conflict) = &i.conflict {
            writeln!(out, "  ! {conflict}")?;
        }
        for t in s.track.instances.get(&i.name).into_iter().flatten() {
            tracked(out, t)?;
        }
        if let Some(rejected) = &i.last_rejected {
            let total: u64 = i.counters.rejected.values().sum();
            writeln!(
                out,
                "  ! {total} packets rejected, the last {} ago from {}: {}",
                ago(rejected.at_ms),
                rejected.source,
                rejected.why
            )?;
        }
    }
    Ok(())
}

/// What is well goes without saying.
fn tracked(out: &mut String, t: &TrackView) -> std::fmt::Result {
    let effect = match t.weight {
        0 => "a fault".to_owned(),
        w if w < 0 => format!("{w} to the priority"),
        w => format!("without its +{w}"),
    };
    match (t.well, &t.why) {
        (Some(false), why) => {
            let why = why.as_deref().unwrap_or("it is to be well for a while yet");
            writeln!(out, "  ! {} fails ({effect}): {why}", t.what)
        }
        (_, Some(why)) => writeln!(out, "  ! {} may fail soon: {why}", t.what),
        (_, None) => Ok(()),
    }
}

fn active(i: &InstanceView) -> String {
    match (i.state, i.active) {
        (State::Active, _) => "this node".into(),
        (State::Leaving, _) => "this node, until the successor is heard".into(),
        (State::Backup, Some(h)) => format!("{} (priority {})", h.address, h.priority),
        (State::Backup, None) => "not heard yet".into(),
        (State::Initialize, _) => i.fault.map_or_else(
            || "-".into(),
            |f| format!("takes no part: {}", reason_text(&Reason::Fault(f))),
        ),
    }
}

fn services(out: &mut String, s: &Status) -> std::fmt::Result {
    let k = &s.kernel;
    if k.services.is_empty() && !k.balances {
        return Ok(());
    }
    writeln!(out, "\nVIRTUAL SERVERS   {}", k.datapath)?;
    let forwards = k.xdp.as_ref().is_some_and(|x| !x.services.is_empty());
    if k.services.is_empty() && !forwards && k.proxy.is_none() {
        writeln!(
            out,
            "  none on this node: only the holder of a virtual IP directs"
        )?;
    }
    for v in &k.services {
        service(out, v)?;
    }
    if let Some(guard) = &k.guard {
        writeln!(
            out,
            "  guard: {} packets of other directors delivered here and not sent round again",
            guard.guarded_packets
        )?;
    }
    Ok(())
}

fn service(out: &mut String, v: &ServiceView) -> std::fmt::Result {
    let sticky = v
        .service
        .persistence
        .map(|p| format!(" persistent {}", p.timeout.as_secs()))
        .unwrap_or_default();
    writeln!(
        out,
        "{} {}{sticky}   {} connections, {} packets, {} bytes in",
        v.service.key, v.service.scheduler, v.connections, v.packets_in, v.bytes_in
    )?;
    writeln!(
        out,
        "  {:<44} {:<7} {:>6} {:>8} {:>8} {:>8} {:>8}",
        "REAL SERVER", "METHOD", "WEIGHT", "ACTIVE", "INACTIVE", "PERSIST", "TOTAL"
    )?;
    for d in &v.destinations {
        writeln!(
            out,
            "  {:<44} {:<7} {:>6} {:>8} {:>8} {:>8} {:>8}",
            d.address.to_string(),
            d.forwarding,
            d.weight,
            d.active,
            d.inactive,
            d.persistent,
            d.connections
        )?;
    }
    Ok(())
}

fn health(out: &mut String, s: &Status) -> std::fmt::Result {
    if s.health.servers.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<46} {:<8} {:<6} {:>10} {:>9} {:>9}  LAST RESULT",
        "REAL SERVER", "HEALTH", "CHECK", "LATENCY", "CHECKS", "FAILED"
    )?;
    for (address, t) in &s.health.servers {
        let latency = t
            .latency_us
            .map_or_else(|| "-".into(), |us| format!("{}.{:03} ms", us / 1000, us % 1000));
        writeln!(
            out,
            "{:<46} {:<8} {:<6} {:>10} {:>9} {:>9}  {}",
            address.to_string(),
            health_word(t),
            t.check,
            latency,
            t.checks,
            t.failures,
            last_result(t)
        )?;
    }
    Ok(())
}

fn health_word(t: &TargetReport) -> String {
    match (t.state, t.share) {
        (Health::Up, Some(share)) => format!("up {share}%"),
        (Health::Up, None) => "up".into(),
        (Health::Unready, _) => "UNREADY".into(),
        (Health::Down, _) => "DOWN".into(),
    }
}

/// What the last check said, else what the last bad one said and how long ago.
fn last_result(t: &TargetReport) -> String {
    match (&t.last_result, &t.last_error, t.last_error_ms) {
        (Some(now), _, _) => now.clone(),
        (None, Some(error), Some(at)) => format!("well; {} ago: {error}", ago(at)),
        (None, _, _) => String::new(),
    }
}

fn transitions(out: &mut String, s: &Status) -> std::fmt::Result {
    let mut all: Vec<(&str, &TransitionRecord)> = s
        .roles
        .instances
        .iter()
        .flat_map(|i| i.transitions.iter().map(|t| (i.name.as_str(), t)))
        .collect();
    all.sort_by_key(|(_, t)| t.at_ms);
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nLAST TRANSITIONS")?;
    for (name, t) in all.iter().rev().take(10).rev() {
        writeln!(
            out,
            "  {}  {name}  {} -> {}: {}",
            timestamp(t.at_ms),
            t.from,
            t.to,
            reason_text(&t.reason)
        )?;
    }
    Ok(())
}

fn problems(out: &mut String, s: &Status) -> std::fmt::Result {
    if !s.kernel.remarks.is_empty() {
        writeln!(out, "\nREMARKS")?;
    }
    for r in &s.kernel.remarks {
        writeln!(out, "  {r}")?;
    }
    let mut all = s.kernel.problems.iter().chain(&s.health.problems).peekable();
    if all.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "\nPROBLEMS")?;
    for p in all {
        writeln!(out, "  ! {p}")?;
    }
    Ok(())
}

/// A reason as a sentence.
pub fn reason_text(r: &Reason) -> String {
    use lb_common::vrrp::FaultReason as F;
    match r {
        Reason::Startup => "the interface is usable".into(),
        Reason::Resumed => "it took over from the daemon before it".into(),
        Reason::Owner => "this node owns the address (priority 255)".into(),
        Reason::ActiveDown => "nothing was heard for Active_Down_Interval".into(),
        Reason::ActiveLeft => "the Active router said that it leaves".into(),
        Reason::Preempted => "this node's priority is higher".into(),
        Reason::Better { by, priority } => format!("{by} is better (priority {priority})"),
        Reason::Shutdown => "this node was told to stop".into(),
        Reason::Succeeded { by } => format!("{by} has taken over"),
        Reason::NoSuccessor => "nobody took over in time".into(),
        Reason::Overslept => "this process slept too long to know who is Active".into(),
        Reason::SyncGroup => "its sync group decided".into(),
        Reason::Fault(F::NoInterface) => "its interface does not exist".into(),
        Reason::Fault(F::InterfaceDown) => "its interface is down or has no carrier".into(),
        Reason::Fault(F::NoAddress) => {
            "its interface has no address of its own that adverts could leave from".into()
        }
        Reason::Fault(F::Tracked) => "something that it tracks is down".into(),
        Reason::Fault(F::SyncGroup) => "a member of its sync group is at fault".into(),
        Reason::Fault(F::Socket) => "its socket cannot be used".into(),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn ago(at_ms: u64) -> String {
    let seconds = now_ms().saturating_sub(at_ms) / 1000;
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

fn timestamp(at_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
}
