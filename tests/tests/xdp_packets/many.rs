//! Packets that a loop writes better than a table: every length, every checksum, every TTL.
use super::{desk, desk_of};
use anyhow::{Context, Result, ensure};
use lb_common::abi::XDP_PROGRAM_FRAGS;
use lb_tests::xdp::fixture;
use lb_tests::xdp::frame::Frame;
use lb_tests::xdp::model::Verdict;

/// Frames that are cut at every byte.
const WHOLE: &[&str] = &[
    "ether / ip / tcp / data 20",
    "ether / ip options=0101010101010100 / tcp options=01010100 / data 9",
    "ether / ip6 / tcp / data 20",
    "ether / ip6 / hop / dest len=1 / route / tcp / data 9",
    "ether / ip6 / fragment mf=1 / udp / data 24",
    "ether / ip / udp / data 20",
    "ether / ip6 / udp / data 20",
    "ether / ip mf=1 / udp / data 24",
    "ether / vlan id=200 / vlan id=100 / ip dst=qinq / tcp / data 9",
    "ether / vlan id=100 / ip6 dst=tagged6 / auth / tcp / data 9",
    "ether / ip src=10.1.1.1 / icmp type=3 code=4 mtu=1400 / ip src=vip dst=c1 options=01010100 / tcp sport=443 dport=40000",
    "ether / ip6 src=2001:db8:ff::1 / icmp6 type=2 mtu=1400 / ip6 src=vip6 dst=c1v6 / dest / tcp sport=443 dport=40000",
    "ether / ip / tcp dport=8004 / data 20",
    "ether / ip6 / tcp dport=8006 / data 20",
    "ether / ip / icmp / data 20",
    "ether / ip dst=node / tcp / data 20",
];

#[test]
fn a_frame_that_is_cut_anywhere_goes_to_nobody() -> Result<()> {
    let mut desk = desk()?;
    for text in WHOLE {
        let whole = Frame::parse(text)?.bytes(&fixture::scene()?.names)?;
        let (last, _) = desk.packet(&whole).context(*text)?;
        for len in 14..whole.len() {
            desk.begin()?;
            let (outcome, _) = desk
                .packet(&whole[..len])
                .with_context(|| format!("{text}: the first {len} bytes"))?;
            let kept = matches!(outcome.verdict, Verdict::Pass | Verdict::Drop);
            ensure!(kept, "{text}: the first {len} bytes left");
        }
        ensure!(
            last.verdict != Verdict::Drop,
            "{text}: the whole of it was dropped"
        );
    }
    println!("{} packets", desk.sent());
    Ok(())
}

#[test]
fn a_packet_that_is_cut_and_says_so_is_read_no_further_than_it_says() -> Result<()> {
    let mut desk = desk()?;
    let names = fixture::scene()?.names;
    for text in WHOLE {
        let mut whole = Frame::parse(text)?.bytes(&names)?;
        let start = if text.contains("vlan") {
            22 - if text.contains("qinq") { 0 } else { 4 }
        } else {
            14
        };
        let v4 = whole[start] >> 4 == 4;
        for len in 0..whole.len() - start - if v4 { 0 } else { 40 } {
            let at = start + if v4 { 2 } else { 4 };
            whole[at..at + 2].copy_from_slice(&u16::try_from(len)?.to_be_bytes());
            desk.packet(&whole)
                .with_context(|| format!("{text}: of length {len}"))?;
        }
    }
    println!("{} packets", desk.sent());
    Ok(())
}

#[test]
fn options_and_extension_headers_of_every_length_are_looked_through() -> Result<()> {
    let mut desk = desk()?;
    let names = fixture::scene()?.names;
    let mut all = Vec::new();
    for (transport, verdict) in [
        ("tcp", Verdict::Tx),
        ("udp", Verdict::Tx),
        ("tcp dport=80", Verdict::Pass),
    ] {
        for words in 1..=10 {
            all.push((
                format!("ether / ip options={} / {transport}", "01".repeat(4 * words)),
                verdict,
            ));
        }
        for kind in ["hop", "dest", "route", "auth"] {
            // The lengths that a frame has room for.
            for len in (1..64).chain([100, 170]) {
                all.push((format!("ether / ip6 / {kind} len={len} / {transport}"), verdict));
            }
        }
        for headers in 0..=8 {
            let (chain, within) = (" / dest".repeat(headers), headers <= 6);
            let verdict = if within { verdict } else { Verdict::Pass };
            all.push((format!("ether / ip6{chain} / {transport}"), verdict));
        }
    }
    for (text, verdict) in all {
        let bytes = Frame::parse(&text)?.bytes(&names)?;
        let (outcome, _) = desk.packet(&bytes).with_context(|| text.clone())?;
        ensure!(outcome.verdict == verdict, "{text}: {outcome:?}");
    }
    println!("{} packets", desk.sent());
    Ok(())
}

#[test]
fn the_checksum_of_every_header_stays_right() -> Result<()> {
    let mut desk = desk()?;
    let names = fixture::scene()?.names;
    for service in [443, 8004] {
        for id in (0..=u16::MAX).step_by(7) {
            let text = format!(
                "ether / ip id={id} ttl={} tos={} / tcp dport={service}",
                5 + id % 250,
                id % 256
            );
            let bytes = Frame::parse(&text)?.bytes(&names)?;
            let out = desk.quick(&bytes).context(text)?;
            // Two of them where it is tunnelled; the model compared every byte, and this is not the model.
            for start in (14..out.len() - 20)
                .step_by(20)
                .take(if service == 443 { 1 } else { 2 })
            {
                let words = out[start..start + 20].chunks(2);
                let sum: u32 = words.map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
                ensure!(
                    (sum >> 16) + (sum & 0xffff) == 0xffff,
                    "id {id}: header at {start}: {out:02x?}"
                );
            }
        }
    }
    println!("{} packets", desk.sent());
    Ok(())
}

#[test]
fn frames_of_several_buffers_are_forwarded_where_the_program_takes_them() -> Result<()> {
    let mut desk = desk_of(XDP_PROGRAM_FRAGS)?;
    let names = fixture::scene()?.names;
    for payload in [3400, 3600, 5000, 8946] {
        for text in [
            "ip / tcp",
            "ip6 / tcp",
            "ip / udp",
            "ip6 / hop / udp",
            "ip / tcp dport=8003",
            "ip dst=node / tcp",
        ] {
            let text = format!("ether / {text} / data {payload}");
            let bytes = Frame::parse(&text)?.bytes(&names)?;
            desk.packet(&bytes).with_context(|| text.clone())?;
            let (outcome, _) = desk
                .packet(&bytes[..bytes.len() - 1])
                .with_context(|| text.clone())?;
            let kept = matches!(outcome.verdict, Verdict::Pass | Verdict::Drop);
            ensure!(kept, "{text}: a byte less left");
        }
    }
    println!("{} packets", desk.sent());
    Ok(())
}
