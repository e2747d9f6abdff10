//! Every check of reception, over packets made by the codec.
use super::*;
use crate::wire::vrrp::{Addresses, ChecksumForm};
use alloc::vec;
use proptest::prelude::*;
use std::format;
use std::string::ToString;

const OURS: &str = "10.9.0.2";
const THEIRS: &str = "10.9.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config(version: Version) -> ReceiveConfig {
    ReceiveConfig {
        version,
        vrid: Vrid::new(51).unwrap(),
        advert_interval: AdvertInterval::SECOND,
        auth_pass: None,
        source: ip(OURS),
        addresses: vec![ip("10.9.0.100"), ip("10.9.0.101")],
        peers: vec![],
        unicast_min_hop_limit: None,
    }
}

fn meta(source: &str) -> PacketMeta {
    PacketMeta {
        source: ip(source),
        destination: None,
        hop_limit: Some(255),
    }
}

fn packet(version: Version) -> Advertisement {
    Advertisement {
        version,
        vrid: Vrid::new(51).unwrap(),
        priority: 150,
        interval_cs: 100,
        reserved: 0,
        auth: None,
        addresses: Addresses::of(Family::Ipv4, [ip("10.9.0.101"), ip("10.9.0.100")]),
        checksum_form: ChecksumForm::PseudoHeader,
    }
}

fn sent(packet: &Advertisement, from: &str, to: IpAddr) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(ip(from), to, &mut out).unwrap();
    out
}

fn hear(config: &ReceiveConfig, packet: &Advertisement) -> Result<(Advert, Notes), Reject> {
    let to = vrrp::group(Family::of(config.source));
    receive(config, meta(THEIRS), &sent(packet, THEIRS, to))
}

#[test]
fn a_good_advert_is_taken_in_any_order_of_its_vips_and_in_both_checksum_forms() {
    for version in [Version::V2, Version::V3] {
        let (advert, notes) = hear(&config(version), &packet(version)).unwrap();
        assert_eq!(
            (advert.source, advert.priority, advert.interval_cs),
            (ip(THEIRS), 150, 100)
        );
        assert!(notes.is_empty(), "{notes}");
    }
    let (_, notes) = hear(
        &config(Version::V3),
        &Advertisement {
            checksum_form: ChecksumForm::MessageOnly,
            ..packet(Version::V3)
        },
    )
    .unwrap();
    assert_eq!(notes.checksum, ChecksumForm::MessageOnly);
}

#[test]
fn t8_headline_5_other_vips_are_noted_and_not_a_reason_for_a_second_active_router() {
    for version in [Version::V2, Version::V3] {
        let other = Advertisement {
            addresses: Addresses::of(
                Family::Ipv4,
                [ip("10.9.0.100"), ip("10.9.0.200"), ip("10.9.0.201")],
            ),
            ..packet(version)
        };
        let (_, notes) = hear(&config(version), &other).unwrap();
        assert_eq!(
            notes.to_string(),
            "its virtual IPs are not ours: 10.9.0.100, 10.9.0.200, 10.9.0.201"
        );
    }
}

#[test]
fn t4_another_interval_is_refused_in_version_2_and_noted_in_version_3() {
    let other = |version| Advertisement {
        interval_cs: 200,
        ..packet(version)
    };
    let reject = hear(&config(Version::V2), &other(Version::V2)).unwrap_err();
    assert_eq!(reject.kind(), "interval");
    assert!(reject.to_string().contains("2 s and ours is 1 s"), "{reject}");
    let (advert, notes) = hear(&config(Version::V3), &other(Version::V3)).unwrap();
    assert_eq!((advert.interval_cs, notes.interval_cs), (200, Some(200)));
}

#[test]
fn t30_a_foreign_cluster_on_our_vrid_is_named_with_its_vips_and_never_with_a_password() {
    let pass = |p| Some(Auth::from_pass(AuthPass::new(p)));
    let mut ours = config(Version::V2);
    ours.auth_pass = AuthPass::new("ourpass1");
    let theirs = Advertisement {
        auth: pass("hispass2"),
        ..packet(Version::V2)
    };
    let reject = hear(&ours, &theirs).unwrap_err();
    assert_eq!(reject.kind(), "auth");
    assert!(reject.is_foreign());
    let (text, debug) = (reject.to_string(), format!("{reject:?}{theirs:?}{ours:?}"));
    assert!(
        text.contains("10.9.0.1 ") && text.contains("10.9.0.101"),
        "{text}"
    );
    assert!(text.contains("another cluster"), "{text}");
    for secret in ["ourpass1", "hispass2", "104, 105, 115", "111, 117, 114"] {
        assert!(
            !text.contains(secret) && !debug.contains(secret),
            "{text} {debug}"
        );
    }
    let reject = hear(&ours, &packet(Version::V2)).unwrap_err();
    assert!(
        reject
            .to_string()
            .contains("it has no authentication and we have a password"),
        "{reject}"
    );
    let reject = hear(&config(Version::V2), &theirs).unwrap_err();
    assert_eq!(reject.kind(), "auth-type");
    let reject = hear(&config(Version::V3), &theirs).unwrap_err();
    assert!(
        reject.to_string().contains("speaks VRRPv2 and we speak VRRPv3"),
        "{reject}"
    );
    ours.auth_pass = AuthPass::new("hispass2");
    assert!(hear(&ours, &theirs).is_ok());
}

#[test]
fn version_2_without_authentication_ignores_what_stands_in_the_password_s_place() {
    let garbage = Advertisement {
        auth: Some(Auth {
            kind: AuthType::None,
            data: *b"garbage!",
        }),
        ..packet(Version::V2)
    };
    assert!(hear(&config(Version::V2), &garbage).is_ok());
}

#[test]
fn t11_t28_multicast_insists_on_a_ttl_of_255_and_unicast_only_where_asked() {
    let group = vrrp::group(Family::Ipv4);
    let bytes = sent(&packet(Version::V3), THEIRS, group);
    let with = |hop_limit| PacketMeta {
        hop_limit,
        ..meta(THEIRS)
    };
    for hops in [Some(254), Some(0), None] {
        let reject = receive(&config(Version::V3), with(hops), &bytes).unwrap_err();
        assert_eq!(reject.kind(), "ttl");
    }
    let mut unicast = config(Version::V3);
    unicast.peers = vec![ip(THEIRS)];
    let bytes = sent(&packet(Version::V3), THEIRS, ip(OURS));
    assert!(receive(&unicast, with(None), &bytes).is_ok());
    assert!(receive(&unicast, with(Some(3)), &bytes).is_ok());
    unicast.unicast_min_hop_limit = Some(254);
    assert!(receive(&unicast, with(Some(254)), &bytes).is_ok());
    assert_eq!(
        receive(&unicast, with(Some(253)), &bytes).unwrap_err().kind(),
        "ttl"
    );
}

#[test]
fn who_may_send_is_checked_before_anything_is_read() {
    let bad = [0; 3];
    let reject = receive(&config(Version::V3), meta(OURS), &bad).unwrap_err();
    assert_eq!(reject.kind(), "looped");
    let mut unicast = config(Version::V3);
    unicast.peers = vec![ip("10.9.0.7")];
    assert_eq!(receive(&unicast, meta(THEIRS), &bad).unwrap_err().kind(), "peer");
    let mut six = config(Version::V3);
    six.source = ip("fe80::2");
    assert_eq!(
        receive(&six, meta("2001:db8::1"), &bad).unwrap_err().kind(),
        "source"
    );
    assert_eq!(receive(&six, meta("fe80::1"), &bad).unwrap_err().kind(), "length");
}

#[test]
fn t12_another_virtual_router_s_advert_is_not_ours() {
    let mut other = packet(Version::V3);
    other.vrid = Vrid::new(52).unwrap();
    let reject = hear(&config(Version::V3), &other).unwrap_err();
    assert_eq!(reject.kind(), "vrid");
    assert!(!reject.is_foreign());
}

#[test]
fn over_ipv6_a_first_vip_that_is_not_link_local_is_noted() {
    let mut six = config(Version::V3);
    six.source = ip("fe80::2");
    six.addresses = vec![ip("2001:db8::100")];
    let sender = "fe80::1";
    let with = |addresses: &[&str]| Advertisement {
        addresses: Addresses::of(Family::Ipv6, addresses.iter().map(|a| ip(a))),
        ..packet(Version::V3)
    };
    let group = vrrp::group(Family::Ipv6);
    let (_, notes) = receive(
        &six,
        meta(sender),
        &sent(&with(&["2001:db8::100"]), sender, group),
    )
    .unwrap();
    assert!(
        !notes.first_not_link_local && notes.addresses.is_none(),
        "both sides have it so"
    );
    six.addresses.push(ip("fe80::100"));
    let good = sent(&with(&["fe80::100", "2001:db8::100"]), sender, group);
    assert!(receive(&six, meta(sender), &good).unwrap().1.is_empty());
}

#[test]
fn t6_headline_4_malformed_packets_are_refused_under_the_codec_s_names() {
    let group = vrrp::group(Family::Ipv4);
    let mut bytes = sent(&packet(Version::V3), THEIRS, group);
    bytes.extend_from_slice(&[0; 8]);
    let reject = receive(&config(Version::V3), meta(THEIRS), &bytes).unwrap_err();
    assert_eq!(reject.kind(), "length");
    assert!(
        reject
            .to_string()
            .starts_with("advert from 10.9.0.1 ignored: 8 bytes follow"),
        "{reject}"
    );
    // Interval 0 with a checksum that fits.
    let mut zero = packet(Version::V3);
    zero.checksum_form = ChecksumForm::MessageOnly;
    let mut bytes = sent(&zero, THEIRS, group);
    bytes[4..8].fill(0);
    let sum = crate::wire::checksum::of(&bytes).to_be_bytes();
    bytes[6..8].copy_from_slice(&sum);
    assert_eq!(
        receive(&config(Version::V3), meta(THEIRS), &bytes)
            .unwrap_err()
            .kind(),
        "interval"
    );
}

#[test]
fn a_long_list_of_vips_does_not_fill_the_log() {
    let many = Advertisement {
        addresses: Addresses::of(Family::Ipv4, (0..200_u8).map(|n| IpAddr::from([10, 1, 0, n]))),
        ..packet(Version::V3)
    };
    let text = hear(&config(Version::V3), &many).unwrap().1.to_string();
    assert!(text.ends_with("10.1.0.7 and 192 more"), "{text}");
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_taken_is_sane(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        version in 2..=3_u8,
        hops: Option<u8>,
    ) {
        let version = Version::try_from(version).unwrap();
        let meta = PacketMeta { hop_limit: hops, ..meta(THEIRS) };
        if let Ok((advert, _)) = receive(&config(version), meta, &bytes) {
            prop_assert!(advert.interval_cs > 0 && hops == Some(255));
        }
    }
}
