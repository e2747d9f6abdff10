//! Vectors captured from keepalived 2.2.7, and properties over everything else.
use super::*;
use proptest::prelude::*;
use std::string::ToString;
use std::vec;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
const GROUP: IpAddr = IpAddr::V4(GROUP_V4);

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|b| char::from(b).to_digit(16))
        .map(|d| u8::try_from(d).unwrap())
        .collect();
    digits.chunks(2).map(|p| p[0] << 4 | p[1]).collect()
}

fn v4(addresses: &[[u8; 4]]) -> Addresses {
    Addresses::V4(addresses.iter().map(|a| (*a).into()).collect())
}

fn advert(version: Version, vrid: u8, priority: u8, addresses: Addresses) -> Advertisement {
    Advertisement {
        version,
        vrid: Vrid::new(vrid).unwrap(),
        priority,
        interval_cs: 100,
        reserved: 0,
        auth: (version == Version::V2).then_some(Auth::NONE),
        addresses,
        checksum_form: match version {
            Version::V2 => ChecksumForm::MessageOnly,
            Version::V3 => ChecksumForm::PseudoHeader,
        },
    }
}

fn both_ways(bytes: &str, from: IpAddr, to: IpAddr, expected: &Advertisement) {
    let bytes = hex(bytes);
    assert_eq!(decode(&bytes, from, to).as_ref(), Ok(expected));
    let mut out = Vec::new();
    expected.encode(from, to, &mut out).unwrap();
    assert_eq!(out, bytes);
}

#[test]
fn golden_v2_without_authentication() {
    let vips = v4(&[[10, 9, 0, 100], [10, 9, 0, 101]]);
    both_ways(
        "21339602000133ee 0a090064 0a090065 0000000000000000",
        SOURCE,
        GROUP,
        &advert(Version::V2, 51, 150, vips.clone()),
    );
    both_ways(
        "213300020001c9ee 0a090064 0a090065 0000000000000000",
        SOURCE,
        GROUP,
        &advert(Version::V2, 51, 0, vips),
    );
}

#[test]
fn golden_v2_with_a_password_t2() {
    let mut a = advert(Version::V2, 52, 150, v4(&[[10, 9, 0, 102]]));
    a.auth = Some(Auth::from_pass(AuthPass::new("secret99")));
    both_ways("213496010101c7d4 0a090066 7365637265743939", SOURCE, GROUP, &a);
    assert!(!std::format!("{a:?}").contains("115"), "Debug shows the password");
}

#[test]
fn golden_v3_ipv4_in_both_checksum_forms_t1() {
    let mut a = advert(Version::V3, 53, 150, v4(&[[10, 9, 0, 103], [10, 9, 0, 104]]));
    both_ways("31359602006438e6 0a090067 0a090068", SOURCE, GROUP, &a);
    a.checksum_form = ChecksumForm::MessageOnly;
    both_ways("3135960200642383 0a090067 0a090068", SOURCE, GROUP, &a);
}

#[test]
fn golden_v3_ipv6() {
    let from = "fe80::886c:56ff:fe7d:4c7c".parse().unwrap();
    let vips = ["fe80::5454", "2001:db8::54"].map(|a| a.parse().unwrap());
    both_ways(
        "3136960200648eec fe800000000000000000000000005454 20010db8000000000000000000000054",
        from,
        group(Family::Ipv6),
        &advert(Version::V3, 54, 150, Addresses::of(Family::Ipv6, vips)),
    );
}

#[test]
fn t6_what_is_malformed_is_named_by_its_counter() {
    let good = hex("31359602006438e6 0a090067 0a090068");
    let with = |i: usize, b: u8| {
        let mut m = good.clone();
        m[i] = b;
        refit(&mut m);
        m
    };
    let mut long = good.clone();
    long.extend_from_slice(&[0; 28]);
    for (message, kind, words) in [
        (vec![], "length", "0 bytes where 8"),
        (good[..15].to_vec(), "length", "15 bytes where 16"),
        (
            long,
            "length",
            "28 bytes follow the message (as keepalived 2.4's auth_hmac",
        ),
        (with(0, 0x41), "version", "version 4"),
        (with(0, 0x32), "type", "type 2"),
        (with(1, 0), "vrid", "ID 0"),
        (with(3, 1), "length", "4 bytes follow"),
        (with(5, 0), "interval", "interval is 0"),
        ([&good[..7], &[0], &good[8..]].concat(), "checksum", "0x3800"),
        (hex("3135960000642450"), "checksum", "checksum"),
    ] {
        let error = decode(&message, SOURCE, GROUP).unwrap_err();
        assert_eq!(error.kind(), kind, "{message:02x?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let mut none = hex("3135960000640000");
    refit(&mut none);
    assert_eq!(decode(&none, SOURCE, GROUP), Err(DecodeError::Count));
}

#[test]
fn version_2_is_not_read_over_ipv6_nor_with_a_pseudo_header() {
    let message = hex("213496010101c7d4 0a090066 7365637265743939");
    let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
    assert_eq!(decode(&message, six, six), Err(DecodeError::Version(2)));
    let mut pseudo = message.clone();
    pseudo[6..8].fill(0);
    let sum = crate::wire::checksum::Sum::pseudo(SOURCE, GROUP, PROTOCOL, pseudo.len()).unwrap();
    pseudo.splice(
        6..8,
        sum.bytes(&message[..6])
            .bytes(&message[8..])
            .finish()
            .to_be_bytes(),
    );
    assert_eq!(decode(&pseudo, SOURCE, GROUP).unwrap_err().kind(), "checksum");
}

#[test]
fn t5_what_a_version_cannot_carry_is_not_sent() {
    let mut out = Vec::new();
    let mut a = advert(Version::V2, 1, 1, v4(&[[1, 2, 3, 4]]));
    for cs in [0, 50, 150, 25_600] {
        a.interval_cs = cs;
        assert!(a.encode(SOURCE, GROUP, &mut out).is_err(), "{cs}");
    }
    a = advert(Version::V3, 1, 1, v4(&[[1, 2, 3, 4]]));
    for cs in [0, 4096] {
        a.interval_cs = cs;
        assert!(a.encode(SOURCE, GROUP, &mut out).is_err(), "{cs}");
    }
    a = advert(Version::V3, 1, 1, v4(&[]));
    assert_eq!(a.encode(SOURCE, GROUP, &mut out), Err(EncodeError::Count(0)));
    a.addresses = v4(&[[1; 4]; 256]);
    assert_eq!(a.encode(SOURCE, GROUP, &mut out), Err(EncodeError::Count(256)));
    a.addresses = Addresses::V6(vec![Ipv6Addr::LOCALHOST]);
    assert_eq!(a.encode(SOURCE, GROUP, &mut out), Err(EncodeError::Family));
    assert!(out.is_empty());
}

/// Puts a checksum that fits (message only) into `m`.
fn refit(m: &mut [u8]) {
    m[6..8].fill(0);
    let c = crate::wire::checksum::of(m).to_be_bytes();
    m[6..8].copy_from_slice(&c);
}

fn any_advert() -> impl Strategy<Value = (Advertisement, IpAddr, IpAddr)> {
    let v4s = prop::collection::vec(any::<[u8; 4]>(), 1..=255)
        .prop_map(|a| Addresses::V4(a.into_iter().map(Into::into).collect()));
    let v6s = prop::collection::vec(any::<[u8; 16]>(), 1..=255)
        .prop_map(|a| Addresses::V6(a.into_iter().map(Into::into).collect()));
    let ends = (any::<[u8; 16]>(), any::<[u8; 16]>());
    let fields = (
        1..=255_u8,
        any::<u8>(),
        1..=4095_u16,
        0..16_u8,
        any::<(u8, [u8; 8])>(),
    );
    (any::<bool>(), any::<bool>(), prop_oneof![v4s, v6s], fields, ends).prop_map(
        |(two, alone, addresses, (vrid, priority, cs, reserved, (kind, data)), (s, d))| {
            let family = addresses.family();
            let version = if two && family == Family::Ipv4 {
                Version::V2
            } else {
                Version::V3
            };
            let end = |o: [u8; 16]| match family {
                Family::Ipv4 => IpAddr::from([o[0], o[1], o[2], o[3]]),
                Family::Ipv6 => IpAddr::from(o),
            };
            let choice = if alone {
                ChecksumForm::MessageOnly
            } else {
                ChecksumForm::PseudoHeader
            };
            let auth = Auth {
                kind: AuthType::from(kind),
                data,
            };
            let advert = Advertisement {
                version,
                vrid: Vrid::new(vrid).unwrap(),
                priority,
                interval_cs: if version == Version::V2 {
                    (cs % 255 + 1) * 100
                } else {
                    cs
                },
                reserved: if version == Version::V2 { 0 } else { reserved },
                auth: (version == Version::V2).then_some(auth),
                checksum_form: Advertisement::fixed_form(version, family).unwrap_or(choice),
                addresses,
            };
            (advert, end(s), end(d))
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_as_it_was((advert, from, to) in any_advert()) {
        let mut bytes = Vec::new();
        advert.encode(from, to, &mut bytes).unwrap();
        let mut back = decode(&bytes, from, to).unwrap();
        // Where the pseudo-header sums to nothing, both forms are the same bytes.
        if back.checksum_form != advert.checksum_form {
            let mut again = Vec::new();
            back.encode(from, to, &mut again).unwrap();
            prop_assert_eq!(&again, &bytes);
            back.checksum_form = advert.checksum_form;
        }
        prop_assert_eq!(back, advert);
    }

    #[test]
    fn what_is_decoded_is_encoded_as_it_was(
        mut m in prop::collection::vec(any::<u8>(), 8..64),
        version in 2..=3_u8,
        fit: bool,
    ) {
        m[0] = version << 4 | 1;
        if fit {
            let auth = if version == 2 { 8 } else { 0 };
            m[3] = u8::try_from(m.len().saturating_sub(8 + auth) / 4).unwrap();
            m.truncate(8 + auth + usize::from(m[3]) * 4);
            refit(&mut m);
        }
        if let Ok(advert) = decode(&m, SOURCE, GROUP) {
            let mut out = Vec::new();
            advert.encode(SOURCE, GROUP, &mut out).unwrap();
            prop_assert_eq!(out, m);
        }
    }

    #[test]
    fn no_bytes_panic(m in prop::collection::vec(any::<u8>(), 0..2048), s: [u8; 16], d: [u8; 16], six: bool) {
        let (from, to) = if six { (IpAddr::from(s), IpAddr::from(d)) } else { (SOURCE, GROUP) };
        let _ = decode(&m, from, to);
        let _ = decode(&m, SOURCE, to);
        let _ = peek_vrid(&m);
    }

    #[test]
    fn one_flipped_bit_is_noticed((advert, from, to) in any_advert(), at: prop::sample::Index) {
        let mut bytes = Vec::new();
        advert.encode(from, to, &mut bytes).unwrap();
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // About once in 65536 the damage makes the other form fit; RFC 1071 offers no better.
        if let Ok(other) = decode(&bytes, from, to) {
            prop_assert_ne!(other.checksum_form, advert.checksum_form);
        }
    }
}
