//! The XDP datapath as a person reads it.
use crate::datapath::xdp::view::{
    BackendView, ForwarderView, InterfaceView, MemberView, TrafficView, XdpView,
};
use std::collections::BTreeMap;
use std::fmt::{Result, Write};
use std::time::Duration;

/// `before` is an earlier reading: then there are rates.
pub(super) fn xdp(out: &mut String, now: &XdpView, before: Option<&XdpView>) -> Result {
    let before = before.and_then(|b| {
        let since = now.read_ms.checked_sub(b.read_ms).filter(|ms| *ms > 0)?;
        Some((b, Duration::from_millis(since)))
    });
    writeln!(out, "\nXDP")?;
    match &now.root_array {
        Some(array) => writeln!(out, "  called from {array}")?,
        None if now.interfaces.is_empty() => writeln!(out, "  on no interface")?,
        None => {}
    }
    for i in &now.interfaces {
        interface(out, i)?;
    }
    if let Some(next) = &now.next {
        writeln!(out, "  what is passed goes on to {next}")?;
    }
    for service in &now.services {
        let was = before.and_then(|(b, since)| {
            let same = b.services.iter().find(|s| s.key == service.key)?;
            Some((same, since))
        });
        forwarder(out, service, was)?;
    }
    backends(out, now, before)?;
    if let Some(f) = &now.flows {
        writeln!(
            out,
            "  remembered flows: {} established, {} seen once, room for {}",
            f.established, f.probation, f.room
        )?;
    }
    for (what, list, was) in [
        (
            "passed to the kernel",
            &now.passed,
            before.map(|(b, _)| &b.passed),
        ),
        ("DROPPED", &now.dropped, before.map(|(b, _)| &b.dropped)),
        (
            "answered with ICMP",
            &now.answered,
            before.map(|(b, _)| &b.answered),
        ),
    ] {
        reasons(out, what, list, was.zip(before.map(|(_, since)| since)))?;
    }
    if now.trace {
        writeln!(out, "  every decision is logged, which costs more than deciding")?;
    }
    Ok(())
}

fn interface(out: &mut String, i: &InterfaceView) -> Result {
    let program = i.program.map(|p| format!(", program {p}")).unwrap_or_default();
    let why = i.why.as_ref().map(|w| format!(": {w}")).unwrap_or_default();
    writeln!(out, "  {} {}{program}{why}", i.name, i.mode)
}

fn forwarder(out: &mut String, s: &ForwarderView, before: Option<(&ForwarderView, Duration)>) -> Result {
    let sticky = s.affinity.map(|a| format!(" persistent {a}")).unwrap_or_default();
    let was = before.map(|(b, since)| (b.traffic, since));
    writeln!(
        out,
        "{} {}{sticky}   {} packets, {} bytes, {} new flows{}",
        s.key,
        s.method,
        s.traffic.packets,
        s.traffic.bytes,
        s.traffic.new_flows,
        rates(s.traffic, was)
    )?;
    let members: Vec<String> = s.backends.iter().map(member).collect();
    writeln!(out, "  real servers: {}", members.join(", "))
}

fn member(m: &MemberView) -> String {
    let state = match (m.up, m.weight) {
        (false, _) => ", DOWN",
        (true, 0) => ", drains",
        (true, _) => "",
    };
    format!("{} (weight {}{state})", m.address, m.weight)
}

fn backends(out: &mut String, now: &XdpView, before: Option<(&XdpView, Duration)>) -> Result {
    if now.backends.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "  {:<40} {:<6} {:>12} {:>14} {:>10}  WAY",
        "REAL SERVER", "METHOD", "PACKETS", "BYTES", "NEW FLOWS"
    )?;
    for b in &now.backends {
        let was = before.and_then(|(v, since)| {
            let same = |o: &&BackendView| o.address == b.address && o.method == b.method;
            Some((v.backends.iter().find(same)?.traffic, since))
        });
        writeln!(
            out,
            "  {:<40} {:<6} {:>12} {:>14} {:>10}  {}{}",
            b.address.to_string(),
            b.method,
            b.traffic.packets,
            b.traffic.bytes,
            b.traffic.new_flows,
            b.way,
            rates(b.traffic, was)
        )?;
    }
    Ok(())
}

fn reasons(
    out: &mut String,
    what: &str,
    list: &BTreeMap<String, u64>,
    before: Option<(&BTreeMap<String, u64>, Duration)>,
) -> Result {
    if list.is_empty() {
        return Ok(());
    }
    let each: Vec<String> = list
        .iter()
        .map(|(name, count)| {
            let rate = before.map(|(b, since)| {
                let was = b.get(name).copied().unwrap_or_default();
                format!(" ({}/s)", per_second(*count, was, since))
            });
            format!("{name} {count}{}", rate.unwrap_or_default())
        })
        .collect();
    writeln!(out, "  {what}: {}", each.join(", "))
}

fn rates(now: TrafficView, before: Option<(TrafficView, Duration)>) -> String {
    let Some((was, since)) = before else {
        return String::new();
    };
    format!(
        "   {} packets/s, {} bytes/s, {} new flows/s",
        per_second(now.packets, was.packets, since),
        per_second(now.bytes, was.bytes, since),
        per_second(now.new_flows, was.new_flows, since)
    )
}

/// Counters that went back were begun anew.
fn per_second(now: u64, was: u64, since: Duration) -> u64 {
    let milliseconds = since.as_millis().max(1);
    let more = u128::from(now.checked_sub(was).unwrap_or(now));
    u64::try_from((more * 1000 + milliseconds / 2) / milliseconds).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::xdp::view::FlowsView;
    use lb_common::model::{Protocol, ServiceKey};

    fn view(read_ms: u64, packets: u64) -> XdpView {
        let traffic = TrafficView {
            packets,
            bytes: packets * 100,
            new_flows: packets / 10,
            remembered: 0,
        };
        let member = |address: &str, weight, up| MemberView {
            address: address.parse().unwrap(),
            weight,
            up,
        };
        XdpView {
            read_ms,
            interfaces: vec![InterfaceView {
                name: "br0".into(),
                mode: "generic".into(),
                why: Some("br0 is a bridge device".into()),
                program: Some(7),
            }],
            services: vec![ForwarderView {
                key: ServiceKey {
                    address: "192.0.2.1".parse().unwrap(),
                    port: 6443,
                    protocol: Protocol::Tcp,
                },
                method: "DR".into(),
                affinity: Some(360),
                traffic,
                backends: vec![
                    member("192.0.2.11", 1, true),
                    member("192.0.2.12", 0, true),
                    member("192.0.2.13", 1, false),
                ],
            }],
            backends: vec![BackendView {
                address: "192.0.2.11".parse().unwrap(),
                method: "DR".into(),
                way: "02:00:00:00:00:02 on eth0".into(),
                traffic,
            }],
            passed: BTreeMap::from([("not_vip".into(), packets)]),
            dropped: BTreeMap::from([("bad_ip".into(), 3)]),
            flows: Some(FlowsView {
                probation: 1,
                established: 2,
                room: 3,
            }),
            ..XdpView::default()
        }
    }

    #[test]
    fn all_that_is_known_is_on_the_page() {
        let mut out = String::new();
        xdp(&mut out, &view(1000, 1000), None).unwrap();
        for part in [
            "  br0 generic, program 7: br0 is a bridge device\n",
            "TCP 192.0.2.1:6443 DR persistent 360   1000 packets, 100000 bytes, 100 new flows\n",
            "  real servers: 192.0.2.11 (weight 1), 192.0.2.12 (weight 0, drains), 192.0.2.13 (weight 1, DOWN)\n",
            "100  02:00:00:00:00:02 on eth0\n",
            "  remembered flows: 2 established, 1 seen once, room for 3\n",
            "  passed to the kernel: not_vip 1000\n",
            "  DROPPED: bad_ip 3\n",
        ] {
            assert!(out.contains(part), "{part:?} in\n{out}");
        }
        assert!(!out.contains("/s"), "{out}");
        assert!(!out.contains("answered"), "{out}");
    }

    #[test]
    fn beside_an_earlier_look_there_are_rates() {
        let mut out = String::new();
        let before = view(500, 500);
        xdp(&mut out, &view(1000, 1000), Some(&before)).unwrap();
        assert!(
            out.contains("1000 packets/s, 100000 bytes/s, 100 new flows/s"),
            "{out}"
        );
        assert!(out.contains("not_vip 1000 (1000/s)"), "{out}");
        assert_eq!(per_second(5, 100, Duration::from_secs(1)), 5, "begun anew");
        assert_eq!(per_second(5, 5, Duration::ZERO), 0);
    }
}
