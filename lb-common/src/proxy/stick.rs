//! Source stickiness: weighted rendezvous hashing.
//!
//! Each server has a number for each client, and the client goes to the server with the best one. So it goes to the
//! same server on every node whatever the servers' order, a server that leaves moves only its own clients, and one that
//! comes back gets exactly these again.
use core::net::IpAddr;

/// A client's address as [`stick`] takes it. An IPv4 address and the same mapped into IPv6 are one client.
pub fn client(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(a) => mix(u64::from(a.to_bits())),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
            let (high, low) = ((bits >> 64) as u64, bits as u64);
            mix(mix(high) ^ low)
        }
    }
}

/// The index of the server that `client` goes to. `servers` gives what names a server, the same on every node, and its
/// weight; those of weight 0 get nobody.
pub fn stick(client: u64, servers: impl IntoIterator<Item = (u64, u32)>) -> Option<usize> {
    let mut best: Option<(usize, u64, u32)> = None;
    for (i, (name, weight)) in servers.into_iter().enumerate() {
        if weight == 0 {
            continue;
        }
        let cost = cost(mix(client ^ mix(name)));
        // cost / weight, without a division: the smaller wins.
        let better = best.is_none_or(|(_, least, of)| {
            u128::from(cost) * u128::from(of) < u128::from(least) * u128::from(weight)
        });
        if better {
            best = Some((i, cost, weight));
        }
    }
    best.map(|(i, ..)| i)
}

/// `-log2(hash / 2^64)` in units of 2^-32: exponentially distributed, which is what makes shares proportional to
/// weights (Thaler and Ravishankar's rendezvous hashing with the logarithm of Schindelhauer and Schomaker).
fn cost(hash: u64) -> u64 {
    let zeros = hash.leading_zeros().min(63);
    // 1 <= mantissa < 2, in units of 2^-63.
    let mut mantissa = hash << zeros | 1;
    let mut fraction = 0u64;
    for bit in (0..32).rev() {
        // Squared: the next bit of the logarithm is whether that is 2 or more.
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        if square >> 64 != 0 {
            fraction |= 1 << bit;
        }
        let shift = u32::from(square >> 64 != 0);
        #[expect(clippy::cast_possible_truncation, reason = "below 2^64 after the shift")]
        let next = (square >> shift) as u64;
        mantissa = next;
    }
    // log2(hash) = 63 - zeros + fraction.
    ((u64::from(zeros) + 1) << 32) - fraction
}

/// The finaliser of SplitMix64: every bit of the input changes every bit of the output with a chance of one half.
const fn mix(mut h: u64) -> u64 {
    h = h.wrapping_add(0x9e37_79b9_7f4a_7c15);
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn shares(servers: &[(u64, u32)], clients: u32) -> Vec<u32> {
        let mut counts = vec![0; servers.len()];
        for c in 0..clients {
            let at = stick(client(IpAddr::V4(c.into())), servers.iter().copied()).unwrap();
            counts[at] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_proportional_to_weights() {
        let servers = [(11, 1), (12, 2), (13, 5), (14, 0)];
        let counts = shares(&servers, 80_000);
        for (count, (_, weight)) in counts.iter().zip(servers) {
            assert!(count.abs_diff(weight * 10_000) < 400, "{counts:?}");
        }
    }

    #[test]
    fn only_the_clients_of_a_server_that_leaves_move_and_the_order_does_not_matter() {
        let all = [(21, 1), (22, 3), (23, 1), (24, 2)];
        let less = [(24, 2), (21, 1), (23, 1)];
        for c in 0..20_000u32 {
            let c = client(IpAddr::V4(c.into()));
            let before = all[stick(c, all).unwrap()];
            let after = less[stick(c, less).unwrap()];
            assert!(before.0 == 22 || before == after);
        }
        assert_eq!(stick(1, []), None);
        assert_eq!(stick(1, [(1, 0)]), None);
    }

    #[test]
    fn a_mapped_address_is_the_same_client() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(client("192.0.2.1".parse().unwrap()), client(mapped));
        assert_ne!(
            client("2001:db8::1".parse().unwrap()),
            client("2001:db8::2".parse().unwrap())
        );
    }

    #[test]
    fn the_logarithm_is_one() {
        for (hash, log) in [
            (1u64 << 63, 1.0),
            (3 << 62, 0.415_037_5),
            (1 << 62, 2.0),
            (1, 64.0),
        ] {
            let got = cost(hash) as f64 / 4_294_967_296.0;
            assert!((got - log).abs() < 1e-6, "{hash:x}: {got} for {log}");
        }
    }
}
