//! The hash's key: the same on every node that has the same file, and unknown to everybody else.
//!
//! It is the first 56 bytes of SHA-512 over a label and, each with its length in front (32 bits, big endian), either
//! `xdp.hashSeed` or, without one, three things of one instance: its virtual router ID, its first virtual IP as text and
//! its password. That instance is the one with the lowest ID among those with a password, else among all; `priority`,
//! `unicastSourceIP` and whatever else differs from node to node has no part in it, nor have the virtual IPs that come
//! later: another key is another place for every flow.
//!
//! A password of VRRP is no good secret: it is short, and with version 2 whoever is on the nodes' network reads it from
//! any advert. It keeps those outside from aiming their flows at one backend, which is what the key is for.
use crate::abi::hash::Key;
use crate::spec::{Instance, Spec};
use alloc::string::ToString;
use sha2::{Digest, Sha512};

/// Another label, another key for everything: it changes when flows cannot stay where they are anyway.
const LABEL: &[u8] = b"cplb xdp hash key 1";

/// The key of this file.
pub fn key(spec: &Spec) -> Key {
    let mut hash = Sha512::new_with_prefix(LABEL);
    match (&spec.xdp.hash_seed, source(spec)) {
        (Some(seed), _) => put(&mut hash, seed.text().as_bytes()),
        (None, Some(instance)) => {
            let vip = instance.virtual_ips.first().map(|v| v.addr().to_string());
            put(&mut hash, &[instance.vrid.get()]);
            put(&mut hash, vip.unwrap_or_default().as_bytes());
            put(&mut hash, &instance.auth_pass.map_or([0; 8], |p| p.bytes()));
        }
        (None, None) => {}
    }
    let digest = hash.finalize();
    let mut bytes = digest.iter().copied();
    let mut next = || bytes.next().unwrap_or(0);
    Key {
        words: core::array::from_fn(|_| u32::from_be_bytes(core::array::from_fn(|_| next()))),
        last: u64::from_be_bytes(core::array::from_fn(|_| next())),
    }
}

/// Whether somebody who does not see the file can compute the key: there is neither a seed nor a password.
pub fn is_guessable(spec: &Spec) -> bool {
    spec.xdp.hash_seed.is_none() && spec.instances.iter().all(|i| i.auth_pass.is_none())
}

fn put(hash: &mut Sha512, part: &[u8]) {
    hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    hash.update(part);
}

/// The instance that the key is made of.
fn source(spec: &Spec) -> Option<&Instance> {
    let order = |i: &&Instance| (i.auth_pass.is_none(), i.vrid, i.virtual_ips.first().copied());
    spec.instances.iter().min_by_key(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AuthPass, Priority, Vrid};
    use crate::plan::testing::{instance, spec};
    use crate::spec::{HashSeed, Transport};
    use std::string::String;

    fn with(change: impl Fn(&mut Spec)) -> Key {
        let mut spec = spec();
        change(&mut spec);
        key(&spec)
    }

    fn seeded(text: &str) -> Option<HashSeed> {
        HashSeed::try_from(String::from(text)).ok()
    }

    #[test]
    fn what_differs_by_node_has_no_part_in_it() {
        let wanted = with(|_| {});
        let changes: [fn(&mut Spec); 5] = [
            |s| s.name = "other".into(),
            |s| s.instances[0].priority = Priority::new(100).unwrap(),
            |s| {
                s.instances[0].transport = Transport::Unicast {
                    source: Some([192, 0, 2, 9].into()),
                    peers: [[192, 0, 2, 8].into()].into(),
                }
            },
            |s| s.instances.reverse(),
            |s| s.instances.push(instance(7)),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            assert_eq!(with(change), wanted, "change {n}");
        }
    }

    #[test]
    fn seed_password_router_and_address_each_make_another() {
        let changes: [fn(&mut Spec); 6] = [
            |_| {},
            |s| s.xdp.hash_seed = seeded("sixteen letters!"),
            |s| s.xdp.hash_seed = seeded("sixteen letters?"),
            |s| s.instances[0].auth_pass = AuthPass::new("Example"),
            |s| s.instances[0].vrid = Vrid::new(9).unwrap(),
            |s| s.instances[0].virtual_ips = ["192.0.2.77/24".parse().unwrap()].into(),
        ];
        let keys = changes.map(with);
        for (i, a) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(a), "{i}");
            assert!(a.words.iter().all(|w| *w != 0) && a.last != 0);
        }
    }

    #[test]
    fn with_a_seed_nothing_else_matters() {
        let seed = |s: &mut Spec| s.xdp.hash_seed = seeded("sixteen letters!");
        let other = with(|s| {
            seed(s);
            s.instances[0].auth_pass = AuthPass::new("Example");
            s.instances.truncate(1);
        });
        assert_eq!(with(seed), other);
    }

    #[test]
    fn what_is_secret_about_it() {
        let mut spec = spec();
        assert!(is_guessable(&spec));
        spec.instances[1].auth_pass = AuthPass::new("Example");
        assert!(!is_guessable(&spec));
        spec.instances[1].auth_pass = None;
        spec.xdp.hash_seed = seeded("sixteen letters!");
        assert!(!is_guessable(&spec));
        assert_eq!(seeded("fifteen letters"), None);
        assert_eq!(std::format!("{:?}", spec.xdp.hash_seed), "Some(HashSeed(…))");
    }

    /// Nodes of different releases must agree.
    #[test]
    fn the_key_is_what_it_was_in_the_first_release() {
        let key = with(|s| s.xdp.hash_seed = seeded("sixteen letters!"));
        let wanted = (0x6845_ccf4, 0xd96d_24fd, 0x88e0_818d_6bcf_1583);
        assert_eq!((key.words[0], key.words[11], key.last), wanted);
    }
}
