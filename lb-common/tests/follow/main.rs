//! The virtual IP follows health and does not flutter: nodes that check each other's servers, seed by seed.
//!
//! `CPLB_SIM_SEEDS=10000` tries a fourth of so many seeds (100 without it): one is as much work as several of the
//! election's own simulation.
#[path = "../sim/rng.rs"]
#[expect(dead_code, reason = "the other simulation needs more of it")]
mod rng;
mod world;

use lb_common::time::Duration;
use world::{Server, Setting, World};

fn seeds() -> u64 {
    let from_env = std::env::var("CPLB_SIM_SEEDS").ok();
    from_env
        .and_then(|s| s.parse().ok())
        .map_or(100, |n: u64| n.div_ceil(4))
}

/// Half of the seeds have staggered priorities; adverts are quick or slow.
fn setting(seed: u64) -> Setting {
    Setting {
        nodes: if seed.is_multiple_of(3) { 5 } else { 3 },
        priority: if seed.is_multiple_of(2) {
            (200, 0)
        } else {
            (200, 30)
        },
        advert: if seed.is_multiple_of(5) { 100 } else { 10 },
        lost: 3,
    }
}

fn millis(world: &mut World, low: u64, high: u64) -> Duration {
    Duration::from_millis(low) + world.rng.duration(Duration::from_millis(high - low))
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn a_minute_of_random_single_failures_moves_nothing() {
    for seed in 0..seeds() {
        let mut world = World::new(seed, setting(seed));
        let (holder, end) = (world.holder(), world.now + seconds(60));
        while world.now < end {
            let nodes = world.servers.len();
            let (node, server) = (world.rng.below(nodes), world.rng.below(nodes));
            match world.rng.below(5) {
                0 => world.servers[server] = Server::Stopping,
                1 => world.servers[server] = Server::Refuses,
                2 => world.servers[server] = Server::Silent,
                _ => world.reaches[node][server] = false,
            }
            let lasts = millis(&mut world, 50, 10_000);
            world.run(lasts);
            world.servers[server] = Server::Well;
            world.reaches[node][server] = true;
            let pause = millis(&mut world, 0, 3_000);
            world.run(pause);
        }
        assert_eq!((world.moves, world.holder()), (0, holder), "seed {seed}");
    }
}

/// k0s #6866's neighbour, OpenShift MCO #3339: an outage of all API servers must not throw the address about.
#[test]
fn what_every_node_sees_moves_nothing() {
    for seed in 0..seeds() {
        let mut world = World::new(seed, setting(seed));
        let holder = world.holder();
        for _ in 0..2 {
            let how = world
                .rng
                .pick(&[Server::Stopping, Server::Refuses, Server::Silent]);
            for server in 0..world.servers.len() {
                world.servers[server] = how;
                let pause = millis(&mut world, 0, 200);
                world.run(pause);
            }
            let lasts = millis(&mut world, 1_000, 40_000);
            world.run(lasts);
            for server in 0..world.servers.len() {
                world.servers[server] = Server::Well;
                let pause = millis(&mut world, 0, 3_000);
                world.run(pause);
            }
            world.run(seconds(40));
        }
        assert_eq!((world.moves, world.holder()), (0, holder), "seed {seed}");
    }
}

#[test]
fn a_holder_that_reaches_nobody_gives_way_once_and_to_one_who_can_serve() {
    for seed in 0..seeds() {
        let setting = setting(seed);
        let mut world = World::new(seed, setting);
        let holder = world.holder();
        world.servers[holder] = Server::Refuses;
        world.reaches[holder] = vec![false; setting.nodes];
        // 4 s until its gates have fallen, 6 observations and a beat, then the others' wait.
        world.run(seconds(4 + 7 + 5));
        let successor = world.holder();
        assert_ne!(successor, holder, "seed {seed}");
        assert!(world.is_able(successor) && !world.is_able(holder), "seed {seed}");
        assert_eq!(world.moves, 1, "seed {seed}");
        world.servers[holder] = Server::Well;
        world.reaches[holder] = vec![true; setting.nodes];
        world.run(seconds(60));
        // The better one takes it back, an equal one does not.
        let expected = if setting.priority.1 == 0 {
            (1, successor)
        } else {
            (2, holder)
        };
        assert_eq!((world.moves, world.holder()), expected, "seed {seed}");
    }
}

/// Without a memory of its falls, a node whose network comes and goes would take the address with it each time.
#[test]
fn a_holder_that_flutters_loses_the_address_ever_more_seldom() {
    for seed in 0..seeds().min(50) {
        let setting = Setting {
            priority: (200, 30),
            ..setting(seed)
        };
        let mut world = World::new(seed, setting);
        let first = world.holder();
        world.servers[first] = Server::Refuses;
        for _ in 0..20 {
            world.reaches[first] = vec![false; setting.nodes];
            world.run(seconds(15));
            world.reaches[first] = vec![true; setting.nodes];
            world.run(seconds(15));
        }
        assert!(
            world.moves <= 6,
            "seed {seed}: {} moves in ten minutes",
            world.moves
        );
        assert_ne!(world.moves, 0, "seed {seed}");
    }
}
