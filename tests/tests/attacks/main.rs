//! What others on the wire may send, while two of ours run: nobody moves, the adverts keep their beat, it is counted,
//! and one line names the sender.
mod packets;
mod pair;

use anyhow::{Context, Result, ensure};
use lb_tests::adverts::{self, Advert};
use lb_tests::capture::Capture;
use lb_tests::cases::side_by_side;
use lb_tests::inject::{FrameSender, VrrpSender};
use lb_tests::keepalived;
use lb_tests::standing;
use lb_tests::wait;
use packets::Bad;
use pair::{PASSWORD, PATIENCE, Pair, VRID, Wire};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Less than an interval, so that a timer that such a packet restarts would never fire.
fn sooner_than(interval: Duration) -> Duration {
    interval * 9 / 10
}

fn is_not_believed(bad: &Bad) -> Result<()> {
    let lab = lb_tests::pair::lab()?;
    let pair = Pair::start(&lab, bad.wire)?;
    let from = adverts::source_of(pair.attacker()?, bad.wire.is_ipv6())?;
    let holder = adverts::source_of(lab.node("c1")?, bad.wire.is_ipv6())?;
    let packet = (bad.make)(from, bad.wire.vip())?;
    let sender = VrrpSender::new(pair.attacker()?, from, bad.ttl)?;
    let mut sent = 0;
    let beats = if bad.wire == Wire::V2 { 6 } else { 30 };
    let beat = pair.beat(beats, || {
        sender.send(&packet)?;
        sent += 1;
        thread::sleep(sooner_than(bad.wire.interval()));
        Ok(())
    })?;
    beat.is_kept(holder)?;
    ensure!(beat.of(lab.node("c2")?.ipv4()?) == 0, "the backup spoke");
    pair.is_unmoved()?;
    pair.refused(bad.kind, sent, from)?;
    Ok(())
}

#[test]
fn invalid_packets_of_version_2_change_nothing() -> Result<()> {
    let rows: Vec<&Bad> = packets::ALL.iter().filter(|bad| bad.wire == Wire::V2).collect();
    side_by_side(9, &rows, |bad| bad.name.to_owned(), |bad| is_not_believed(bad))
}

#[test]
fn invalid_packets_of_version_3_change_nothing() -> Result<()> {
    let rows: Vec<&Bad> = packets::ALL.iter().filter(|bad| bad.wire != Wire::V2).collect();
    side_by_side(3, &rows, |bad| bad.name.to_owned(), |bad| is_not_believed(bad))
}

/// A neighbour's keepalived with its own password and its own addresses; it believes that it is the master of ours.
#[test]
fn a_foreign_cluster_on_our_number_is_named_and_ignored() -> Result<()> {
    let lab = lb_tests::pair::lab()?;
    let pair = Pair::start(&lab, Wire::V2)?;
    let mut foreign = keepalived::Instance::new(VRID, &["192.168.122.210/24"]);
    (foreign.version, foreign.priority) = (2, 250);
    foreign.auth_pass = Some("sesame1".into());
    let foreigner = pair.attacker()?;
    // Else our adverts, bad ones to it, would keep its own from being sent.
    foreign.extra.push("lower_prio_no_advert true".into());
    let theirs: IpAddr = "192.168.122.210".parse()?;
    let _keepalived = keepalived::start(foreigner, &keepalived::configuration(&[foreign]))?;
    wait::until("the foreign holder", PATIENCE, || {
        foreigner.holds(theirs).then_some(())
    })?;
    let beat = pair.beat(5, || {
        thread::sleep(Duration::from_millis(200));
        Ok(())
    })?;
    beat.is_kept(lab.node("c1")?.ipv4()?)?;
    ensure!(beat.of(foreigner.ipv4()?) > 2, "the foreign cluster speaks");
    pair.is_unmoved()?;
    let line = pair.refused("auth", 3, foreigner.ipv4()?)?;
    ensure!(line["foreign"] == true, "{line}");
    ensure!(
        line["message"]
            .as_str()
            .is_some_and(|m| m.contains("192.168.122.210")),
        "{line}"
    );
    ensure!(!pair.holder.log().contains("sesame1"), "a password in the log");
    Ok(())
}

/// While an address is being added node by node, the lists differ. keepalived 2.2.7 refuses such adverts, and has two
/// masters.
#[test]
fn a_list_of_addresses_that_differs_is_said_and_makes_no_second_holder() -> Result<()> {
    let rows: Vec<(Wire, usize)> = [Wire::V2, Wire::V3]
        .into_iter()
        .flat_map(|w| [(w, 0), (w, 1)])
        .collect();
    let name = |(wire, longer): &(Wire, usize)| format!("{wire:?}, the longer list on c{}", longer + 1);
    side_by_side(4, &rows, name, |&(wire, longer)| {
        let lab = lb_tests::pair::lab()?;
        let mut instances = [wire.instance(200), wire.instance(100)];
        instances[longer].addresses.push("192.168.122.201/24".into());
        let pair = Pair::start_with(&lab, wire, instances)?;
        let beats = if wire == Wire::V2 { 5 } else { 20 };
        let beat = pair.beat(beats, || {
            thread::sleep(Duration::from_millis(100));
            Ok(())
        })?;
        beat.is_kept(lab.node("c1")?.ipv4()?)?;
        pair.is_unmoved()?;
        let odd = |message: &&String| message.contains("its virtual IPs are not ours");
        let said: Vec<String> = standing::messages(&pair.backup.log());
        let said: Vec<&String> = said.iter().filter(odd).collect();
        ensure!(said.len() == 1, "said {} times: {said:?}", said.len());
        ensure!(said[0].contains("192.168.122.37"), "{said:?}");
        Ok(())
    })
}

/// RFC 9568 has a worse router told at once, but a stream must not multiply the adverts: keepalived answers every one.
#[test]
fn a_stream_of_lower_priority_is_answered_once_an_interval_at_most() -> Result<()> {
    let rows = [Wire::V2, Wire::V3];
    side_by_side(
        2,
        &rows,
        |wire| format!("{wire:?}"),
        |&wire| {
            let lab = lb_tests::pair::lab()?;
            let pair = Pair::start(&lab, wire)?;
            let from = pair.attacker()?.ipv4()?;
            let advert = match wire {
                Wire::V2 => Advert::v2(VRID, Some(PASSWORD), &[wire.vip()]),
                Wire::V3 | Wire::V3Ipv6 => Advert::v3(VRID, 10, &[wire.vip()]),
            };
            let packet = advert.with_priority(50).bytes(from)?;
            let sender = VrrpSender::new(pair.attacker()?, from, 255)?;
            let beats = if wire == Wire::V2 { 6 } else { 30 };
            let beat = pair.beat(beats, || {
                sender.send(&packet)?;
                thread::sleep(wire.interval() / 5);
                Ok(())
            })?;
            let (found, beats) = (beat.of(lab.node("c1")?.ipv4()?), beats as usize);
            let bounds = beats - beats / 10 - 1..=2 * beats + 3;
            ensure!(bounds.contains(&found), "{found} adverts in {beats} intervals");
            pair.is_unmoved()
        },
    )
}

/// A bridge that reflects. Over IPv4 the kernel itself drops a packet with its own address, over IPv6 it does not.
#[test]
fn its_own_advert_come_back_is_nothing() -> Result<()> {
    let lab = lb_tests::pair::lab()?;
    let pair = Pair::start(&lab, Wire::V3Ipv6)?;
    let own = adverts::source_of(lab.node("c1")?, true)?;
    let capture = Capture::start(lab.switch(), move |f| f.vrrp().is_some_and(|ip| ip.source == own))?;
    thread::sleep(Wire::V3Ipv6.interval() * 5);
    let mut frame = capture.finish()?.pop().context("no advert to reflect")?.bytes;
    let mirror = FrameSender::new(pair.attacker()?, "eth0")?;
    // The switch must not learn that the holder is here.
    frame[6..12].copy_from_slice(&mirror.mac());
    let mut sent = 0;
    pair.beat(20, || {
        mirror.send(&frame)?;
        sent += 1;
        thread::sleep(Duration::from_millis(30));
        Ok(())
    })?;
    pair.is_unmoved()?;
    let enough = |s: &standing::Standing| s.roles().iter().all(|r| r.rejected("looped") >= sent);
    standing::wait(&pair.holder, "its own adverts are counted", PATIENCE, enough)?;
    pair::one_line(&pair.holder, "looped", own).map(drop)
}

/// 20,000 packets as fast as they can be sent, bad and good ones of a lower priority in turn.
#[test]
fn a_flood_moves_nobody() -> Result<()> {
    const FLOOD: u32 = 20_000;
    let lab = lb_tests::pair::lab()?;
    let wire = Wire::V3;
    let pair = Pair::start(&lab, wire)?;
    let from = pair.attacker()?.ipv4()?;
    let good = Advert::v3(VRID, 10, &[wire.vip()]).with_priority(1).bytes(from)?;
    let mut bad = good.clone();
    bad[6] ^= 0x55;
    let sender = VrrpSender::new(pair.attacker()?, from, 255)?;
    let counted = || -> Result<u64> {
        let now = standing::of(pair.holder.node())?;
        Ok(now.roles()[0].counter("sent"))
    };
    let (before, started) = (counted()?, Instant::now());
    for n in 0..FLOOD {
        // A full queue is the sender's own affair.
        let _ = sender.send(if n % 2 == 0 { &bad } else { &good });
    }
    thread::sleep(wire.interval() * 10);
    let expected = started.elapsed().as_millis() / wire.interval().as_millis();
    let sent = u128::from(counted()? - before);
    // What is lower is answered once an interval.
    ensure!(
        sent + 3 >= expected && sent <= 2 * expected + 3,
        "{sent} adverts where {expected} were due"
    );
    pair.is_unmoved()?;
    for cplb in pair.both() {
        let many = |s: &standing::Standing| s.roles().iter().all(|r| r.rejected("checksum") > 1000);
        standing::wait(cplb, "the flood is counted", PATIENCE, many)?;
        pair::one_line(cplb, "checksum", from)?;
        let lines = cplb.log().lines().count();
        ensure!(lines < 60, "{lines} lines in the log");
    }
    Ok(())
}
