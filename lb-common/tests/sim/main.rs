//! Whole clusters, simulated: real routers, real packets, a virtual clock, and everything that goes wrong.
//!
//! `CPLB_SIM_SEEDS=10000` tries so many seeds (300 without it); `CPLB_SIM_SEED=7` replays one and prints its trace.
//! For many seeds, `cargo test --release -p lb-common --test sim`.
mod check;
mod fault;
mod net;
mod node;
mod rng;
mod world;

use check::Demand;
use fault::Fault;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

/// A run from its seed: a rough time, then peace in each part, then one network, then a planned move and a crash.
fn play(world: &mut World) -> Result<(), String> {
    let nodes = world.nodes.len();
    for n in 0..nodes {
        world.inject(Fault::Start(n));
        let pause = world.pause() / 8;
        world.run(pause)?;
    }
    for _ in 0..world.rng.between(0, 12) {
        let pause = world.pause();
        world.run(pause)?;
        let fault = world.any_fault();
        world.inject(fault);
    }
    world.calm_down();
    world.settle()?;
    world.inject(Fault::Split(vec![0; nodes]));
    for n in 0..nodes {
        world.inject(Fault::Start(n));
    }
    world.settle()?;
    planned_move(world)?;
    crash(world)
}

/// One leaves well and comes back: somebody answers at every moment.
fn planned_move(world: &mut World) -> Result<(), String> {
    let Some(holder) = world.some_holder().filter(|_| world.running() > 1) else {
        return Err("nobody to leave".into());
    };
    world.checker.demand = Demand::Never0;
    world.inject(Fault::Leave(holder));
    world.run(world.checker.bounds.settle)?;
    world.check_settled()?;
    world.inject(Fault::Start(holder));
    world.run(world.checker.bounds.settle)?;
    world.checker.demand = Demand::Bounds;
    world.settle()
}

/// The holder dies without a word.
fn crash(world: &mut World) -> Result<(), String> {
    if let Some(holder) = world.some_holder() {
        world.inject(Fault::Kill(holder));
    }
    world.settle()
}

/// What went wrong, and the trace if one was kept.
fn run(seed: u64, trace: bool) -> Result<World, (String, Vec<String>)> {
    let mut world = World::new(seed, trace);
    match play(&mut world) {
        Ok(()) => {
            if trace {
                world.trace.iter().flatten().for_each(|line| println!("{line}"));
            }
            Ok(world)
        }
        Err(what) => {
            let what = format!("{what} (at {})", world.now);
            Err((what, world.trace.into_iter().flatten().collect()))
        }
    }
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fail(seed: u64, what: &str) -> ! {
    if let Err((_, trace)) = run(seed, true) {
        let skipped = trace.len().saturating_sub(400);
        trace.iter().skip(skipped).for_each(|line| println!("{line}"));
    }
    panic!(
        "seed {seed}: {what}\nreplay: CPLB_SIM_SEED={seed} cargo test -p lb-common --test sim -- --nocapture"
    );
}

#[test]
fn clusters_keep_one_holder_whatever_happens() {
    if let Some(seed) = from_env("CPLB_SIM_SEED") {
        if let Err((what, _)) = run(seed, true) {
            fail(seed, &what);
        }
        return;
    }
    let seeds = from_env("CPLB_SIM_SEEDS").unwrap_or(300);
    let (next, steps, failed) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    let reasons = Mutex::new(BTreeSet::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    match run(seed, false) {
                        Ok(world) => {
                            reasons
                                .lock()
                                .expect("no test thread panics")
                                .extend(world.reasons);
                            steps.fetch_add(world.steps, Ordering::Relaxed)
                        }
                        Err((what, _)) => {
                            failed.lock().expect("no test thread panics").push((seed, what));
                            next.store(seeds, Ordering::Relaxed);
                            return;
                        }
                    };
                }
            });
        }
    });
    println!("{seeds} seeds, {} events", steps.load(Ordering::Relaxed));
    let mut failed = failed.into_inner().expect("no test thread panics");
    failed.sort();
    if let Some((seed, what)) = failed.first() {
        fail(*seed, what);
    }
    // A simulation in which little happens proves little.
    let reasons = reasons.into_inner().expect("no test thread panics");
    if seeds >= 300 {
        assert_eq!(reasons, BTreeSet::from(world::REASONS));
    }
}
