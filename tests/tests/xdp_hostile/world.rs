//! What a batch of packets meets: a scene of its own, and tables with something in them.
use crate::rng::Rng;
use anyhow::Result;
use lb_common::abi::flow::{self, SETS, STAMPS, WAYS};
use lb_tests::xdp::model::Model;
use lb_tests::xdp::object::Object;
use lb_tests::xdp::scene::Scene;

/// The scene with some of it in another state.
pub(crate) fn scene(usual: &Scene, rng: &mut Rng) -> Result<Scene> {
    let mut scene = usual.clone();
    let names: Vec<String> = scene.backends.values().map(|b| b.name.clone()).collect();
    for name in &names {
        let state = rng.pick(&["up", "up", "up", "draining", "dead", "silent"]);
        if name != "home" {
            scene.change(name, state)?;
        }
    }
    for pool in ["one", "two", "three"] {
        let state = rng.pick(&["up", "draining", "dead"]);
        if rng.once_in(4) {
            scene.change_member(pool, "b3", state)?;
        }
    }
    for (_, pattern) in &mut scene.pools {
        if rng.once_in(4) {
            let numbers: Vec<u16> = scene.backends.keys().copied().chain([0]).collect();
            *pattern = (0..7).map(|_| rng.pick(&numbers)).collect();
        }
    }
    if rng.once_in(4) {
        scene.inserts = rng.below(3000) as u64;
    }
    if rng.once_in(8) {
        scene.vips.retain(|_| !rng.once_in(3));
    }
    scene.lease = !rng.once_in(20);
    Ok(scene)
}

/// Words of flows that nobody has, some in every set: so that room has to be made.
pub(crate) fn fill(rng: &mut Rng, model: &mut Model, object: &Object) {
    let fullness = rng.below(WAYS + 1);
    let backends: Vec<u16> = model.scene.backends.keys().copied().collect();
    for set in 0..SETS {
        for way in 0..WAYS {
            let word = if rng.below(WAYS) < fullness {
                let age = rng.pick(&[0, 1, flow::STALE, flow::STALE + 1, STAMPS - 1]);
                let class = rng.next() & 1;
                let backend = rng.pick(&backends);
                flow::word(rng.next(), STAMPS - age, class, backend.into())
            } else {
                0
            };
            model.flows[set][way] = word;
            object.flows.set(set * WAYS + way, word);
        }
    }
}
