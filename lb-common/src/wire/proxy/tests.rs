use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

fn addresses(from: &str, to: &str) -> Addresses {
    Addresses::new(from.parse().unwrap(), to.parse().unwrap())
}

#[test]
fn the_documents_own_examples() {
    let four = addresses("192.168.0.1:56324", "192.168.0.11:443");
    let line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    assert_eq!(encode(Version::V1, &four), line);
    assert_eq!(
        decode(b"PROXY UNKNOWN ffff:f...f:ffff 65535\r\nGET /"),
        Ok(Decoded::Header {
            length: 37,
            addresses: None
        })
    );
    let mut binary = Vec::from(*SIGNATURE);
    binary.extend([
        0x21, 0x11, 0, 12, 192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb,
    ]);
    assert_eq!(encode(Version::V2, &four), binary);
    // LOCAL: the proxy's own connection; whatever it says of addresses does not count.
    *binary.get_mut(12).unwrap() = 0x20;
    assert_eq!(
        decode(&binary),
        Ok(Decoded::Header {
            length: 28,
            addresses: None
        })
    );
}

#[test]
fn mixed_families_are_written_as_ipv6_and_a_mapped_address_as_ipv4() {
    let mixed = addresses("192.0.2.1:1", "[2001:db8::1]:2");
    assert_eq!(
        encode(Version::V1, &mixed),
        b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n"
    );
    let mapped = addresses("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2");
    assert_eq!(
        encode(Version::V1, &mapped),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    );
}

#[test]
fn what_is_no_header_is_refused_as_early_as_it_shows() {
    for (bytes, refusal) in [
        (&b"G"[..], Refusal::Signature),
        (b"\x16\x03\x01", Refusal::Signature),
        (b"PROXZ", Refusal::Signature),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Refusal::Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", Refusal::Line),
        (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", Refusal::Line),
        (b"PROXY TCP4 192.0.2.1 2001:db8::1 1 2\r\n", Refusal::Line),
        (b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Refusal::Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", Refusal::Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", Refusal::Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", Refusal::Line),
        (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", Refusal::Line),
        (b"PROXY TCP4 \xff 192.0.2.2 1 2\r\n", Refusal::Line),
        (b"\r\n\r\n\0\r\nQUIT\n\x11", Refusal::Version),
        (b"\r\n\r\n\0\r\nQUIT\n\x22", Refusal::Version),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x02ab", Refusal::Length),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", Refusal::Length),
    ] {
        assert_eq!(decode(bytes), Err(refusal), "{}", bytes.escape_ascii());
    }
    let mut long = Vec::from(*b"PROXY UNKNOWN ");
    long.resize(107, b'x');
    assert_eq!(decode(&long), Err(Refusal::LongLine));
}

#[test]
fn extensions_belong_to_the_header() {
    let mut bytes = encode(Version::V2, &addresses("[2001:db8::1]:1", "[2001:db8::2]:2"));
    bytes.extend([0x04, 0, 3, 1, 2, 3]);
    *bytes.get_mut(15).unwrap() += 6;
    bytes.extend(b"GET /");
    let length = 16 + 36 + 6;
    let expected = Some(addresses("[2001:db8::1]:1", "[2001:db8::2]:2"));
    assert_eq!(
        decode(&bytes),
        Ok(Decoded::Header {
            length,
            addresses: expected
        })
    );
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<u32>(), any::<u16>())
            .prop_map(|(a, p)| SocketAddr::new(core::net::Ipv4Addr::from(a).into(), p)),
        (any::<u128>(), any::<u16>())
            .prop_map(|(a, p)| SocketAddr::new(core::net::Ipv6Addr::from(a).into(), p)),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic_and_a_header_is_never_longer_than_what_it_was_read_from(
        start in prop_oneof![Just(&b""[..]), Just(&b"PROXY "[..]), Just(&b"\r\n\r\n\0\r\nQUIT\n\x21"[..])],
        rest in proptest::collection::vec(any::<u8>(), 0..300)
    ) {
        let mut bytes = Vec::from(start);
        bytes.extend(rest);
        if let Ok(Decoded::Header { length, .. }) = decode(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }

    #[test]
    fn what_was_written_is_read_and_each_beginning_of_it_is_partial(
        from in any_address(), to in any_address(), v2: bool
    ) {
        let version = if v2 { Version::V2 } else { Version::V1 };
        let bytes = encode(version, &Addresses::new(from, to));
        let Ok(Decoded::Header { length, addresses: Some(read) }) = decode(&bytes) else {
            return Err(TestCaseError::fail("no header"));
        };
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(read.source.ip().to_canonical(), from.ip().to_canonical());
        prop_assert_eq!(read.destination.ip().to_canonical(), to.ip().to_canonical());
        prop_assert_eq!((read.source.port(), read.destination.port()), (from.port(), to.port()));
        for n in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..n]), Ok(Decoded::Partial));
        }
    }
}
