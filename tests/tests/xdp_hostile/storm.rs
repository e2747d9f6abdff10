//! Ten million packets, in batches: each batch has its seed, its scene and empty memory, so any can be had again alone.
use crate::kernel_log::KernelLog;
use crate::mutate::Corpus;
use crate::rng::Rng;
use crate::{setting, world};
use anyhow::{Context, Result, anyhow, bail, ensure};
use lb_common::abi::{GUARD_TTL, XDP_PROGRAM, XDP_PROGRAM_FRAGS};
use lb_tests::xdp::check;
use lb_tests::xdp::fixture;
use lb_tests::xdp::image::Places;
use lb_tests::xdp::model::{Counted, Model, Outcome, Verdict};
use lb_tests::xdp::object::{Globals, Object};
use lb_tests::xdp::scene::Scene;
use lb_tests::xdp::tally::Tally;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

const PACKETS: u64 = 10_000_000;
const BATCH: u64 = 50_000;
const SEED: u64 = 20_261_120;

struct Storm {
    seed: u64,
    batches: u64,
    next: AtomicU64,
    failed: AtomicBool,
    usual: Scene,
    corpus: Corpus,
}

#[test]
fn ten_million_hostile_packets_are_each_treated_as_the_rules_say() -> Result<()> {
    let only: Option<u64> = setting("CPLB_HOSTILE_BATCH");
    let packets = setting("CPLB_HOSTILE_PACKETS").unwrap_or(PACKETS);
    let usual = fixture::scene()?;
    let storm = Storm {
        seed: setting("CPLB_HOSTILE_SEED").unwrap_or(SEED),
        batches: only.map_or(packets.div_ceil(BATCH), |batch| batch + 1),
        next: AtomicU64::new(only.unwrap_or(0)),
        failed: AtomicBool::new(false),
        corpus: Corpus::of(&usual)?,
        usual,
    };
    let mut log = KernelLog::open();
    let started = Instant::now();
    let workers = thread::available_parallelism()?.get().min(8);
    let total = thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|cpu| {
                let storm = &storm;
                scope.spawn(move || {
                    let worked = storm.work(cpu);
                    if worked.is_err() {
                        storm.failed.store(true, Ordering::Relaxed);
                    }
                    worked
                })
            })
            .collect();
        let mut total = Tally::default();
        for handle in handles {
            total.add(&handle.join().map_err(|_| anyhow!("a worker panicked"))??);
        }
        anyhow::Ok(total)
    });
    let total = total.with_context(|| format!("CPLB_HOSTILE_SEED={}", storm.seed))?;
    println!(
        "seed {}: {} packets on {workers} processors in {:.1} s: {} forwarded; {}",
        storm.seed,
        total.packets(),
        started.elapsed().as_secs_f64(),
        total.forwarded(),
        total.reasons()
    );
    match &mut log {
        Some(log) => println!("the kernel wrote {} lines, no complaint", log.check()?),
        None => println!("/dev/kmsg cannot be read here"),
    }
    ensure!(total.packets() == (storm.batches - only.unwrap_or(0)) * BATCH);
    Ok(())
}

impl Storm {
    /// Takes batches until there are none.
    fn work(&self, cpu: usize) -> Result<Tally> {
        stay_on(cpu)?;
        let mut objects = [
            Object::load(XDP_PROGRAM, Globals::default())?,
            Object::load(XDP_PROGRAM_FRAGS, Globals::default())?,
        ];
        let mut total = Tally::default();
        while !self.failed.load(Ordering::Relaxed) {
            let batch = self.next.fetch_add(1, Ordering::Relaxed);
            if batch >= self.batches {
                break;
            }
            let object = &mut objects[usize::from(batch % 4 == 3)];
            let tried = self.batch(batch, object);
            total.add(&tried.with_context(|| format!("CPLB_HOSTILE_BATCH={batch}"))?);
        }
        // All counters, also those of no service and no backend.
        let counted: Result<u64> = objects.iter().map(|o| Ok(o.all_counters()?.total())).sum();
        let (counted, sent) = (counted?, total.packets());
        ensure!(counted == sent, "{counted} counted, {sent} sent");
        Ok(total)
    }

    fn batch(&self, batch: u64, object: &mut Object) -> Result<Tally> {
        let mut rng = Rng::new(self.seed, batch);
        let mut model = Model::new(world::scene(&self.usual, &mut rng)?);
        object.install(&model.scene, Places::Usual)?;
        world::fill(&mut rng, &mut model, object);
        let before = object.counters(&self.usual)?;
        let (mut tally, mut frame, mut out) = (Tally::default(), Vec::new(), vec![0; 4096]);
        for i in 0..BATCH {
            self.corpus.next(&mut rng, &mut frame);
            let ran = object.run(&frame, &mut out)?;
            let outcome = model.judge(&frame);
            let out = &out[..ran.len];
            let same = out == if outcome.changed { &model.out } else { &frame };
            if ran.verdict != outcome.verdict as u32 || !same {
                bail!(
                    "packet {i}: {}\nit was {}, and is now\n{}\nthe model says {outcome:?} and\n{}",
                    check::hex(&frame),
                    ran.verdict,
                    check::hex(out),
                    check::hex(if outcome.changed { &model.out } else { &frame })
                );
            }
            let kept = self.law(&model, &outcome, &frame, out);
            kept.with_context(|| format!("packet {i}: {}", check::hex(&frame)))?;
            tally.count(&outcome, frame.len());
        }
        let counted = Tally::between(&before, &object.counters(&self.usual)?);
        ensure!(counted == tally, "counted\n{counted}instead of\n{tally}");
        check::memory(object, &model)?;
        Ok(tally)
    }

    /// What holds whatever the model thinks.
    fn law(&self, model: &Model, outcome: &Outcome, frame: &[u8], out: &[u8]) -> Result<()> {
        match outcome.verdict {
            Verdict::Drop => return Ok(()),
            Verdict::Pass => {
                ensure!(out == frame, "passed, and not as it came");
                return Ok(());
            }
            Verdict::Tx | Verdict::Redirect => {}
        }
        let Counted::Traffic { .. } = outcome.counted else {
            ensure!(out[..6] == frame[6..12], "an answer to somebody else");
            return Ok(());
        };
        let to = model.scene.backends.values().find(|b| b.mac == out[..6]);
        let to = to.context("forwarded to nobody's MAC address")?;
        let at = frame.len().abs_diff(out.len());
        ensure!(to.tunnel.is_some() == (at > 0), "in a tunnel or not");
        let mut ip = 14;
        while matches!(out[ip - 2..ip], [0x81, 0] | [0x88, 0xa8]) {
            ip += 4;
        }
        let inner = &out[ip + at..];
        let ttl = inner[if inner[0] >> 4 == 6 { 7 } else { 8 }];
        ensure!(ttl == GUARD_TTL, "forwarded with TTL {ttl}");
        Ok(())
    }
}

/// What a processor may remember is bounded for each of them, so a worker stays on one.
fn stay_on(nth: usize) -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut set = CpuSet::new();
    set.set(cpus.nth(nth).context("fewer processors than workers")?)?;
    Ok(sched_setaffinity(this, &set)?)
}
