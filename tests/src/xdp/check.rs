//! A case tried: the program, the case's own words, and the model must all agree.
use super::fixture::{Case, Given, Memory, Step, Want};
use super::frame::Frame;
use super::image::Places;
use super::model::{Counted, Flow, Model, Outcome, Verdict};
use super::names::Names;
use super::object::{Counters, Loan, Object};
use super::scene::{ELSEWHERE, Scene};
use super::tally::Tally;
use super::wire;
use anyhow::{Context, Result, bail, ensure};
use lb_common::abi::flow::{self, WAYS};
use lb_common::abi::reason::Verdict as Kind;
use std::fmt::Write;
use std::mem;

/// Where cases are tried: the program and the judge, side by side; or the judge alone.
pub struct Desk {
    object: Option<Loan>,
    model: Model,
    scene: Scene,
    places: Places,
    sent: usize,
    /// As they were after the last packet.
    counters: Counters,
    /// Packets that the object had counted before.
    before: u64,
}

impl Desk {
    /// Cases begin with `scene`.
    pub fn new(object: impl Into<Option<Loan>>, scene: Scene, places: Places) -> Result<Self> {
        let object = object.into();
        let counted = object.as_ref().map(|object: &Loan| object.all_counters());
        Ok(Self {
            before: counted.transpose()?.unwrap_or_default().total(),
            object,
            model: Model::new(scene.clone()),
            scene,
            places,
            sent: 0,
            counters: Counters::default(),
        })
    }

    /// Packets sent so far.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Whether every packet was counted exactly once, wherever it was counted.
    pub fn adds_up(&self) -> Result<()> {
        if let Some(object) = &self.object {
            let counted = object.all_counters()?.total() - self.before;
            ensure!(
                counted == self.sent as u64,
                "{} sent, {counted} counted",
                self.sent
            );
        }
        Ok(())
    }

    /// Begins anew: the scene as it is in the file, no memory.
    pub fn begin(&mut self) -> Result<()> {
        self.model.scene = self.scene.clone();
        self.model.forget();
        match &mut self.object {
            Some(object) => {
                object.install(&self.model.scene, self.places)?;
                self.counters = object.counters(&self.scene)?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Tries all packets of a case.
    pub fn case(&mut self, case: &Case) -> Result<()> {
        self.begin()?;
        for (i, step) in case.steps()?.iter().enumerate() {
            self.given(&step.given)?;
            let tried = self.step(step, case.unsound);
            tried.with_context(|| format!("packet {}: {}: wanted {}", i + 1, step.send, step.want))?;
        }
        Ok(())
    }

    /// Changes the scene for both.
    pub fn given(&mut self, given: &Given) -> Result<()> {
        let scene = &mut self.model.scene;
        for (name, state) in &given.backends {
            scene.change(name, state)?;
        }
        for (pool, members) in &given.members {
            for (name, state) in members {
                scene.change_member(pool, name, state)?;
            }
        }
        if let Some(lease) = &given.lease {
            ensure!(lease == "ended", "a lease can be ended");
            scene.lease = false;
        }
        if let Some(held) = &given.held {
            scene.vips.retain(|vip| held.contains(&vip.name));
        }
        scene.inserts = given.inserts.unwrap_or(scene.inserts);
        for (name, pattern) in &given.pools {
            let pattern = scene.pattern(pattern)?;
            let pool = scene.pools.iter_mut().find(|(known, _)| known == name);
            pool.context(name.clone())?.1 = pattern;
        }
        if let Some(object) = &mut self.object {
            if !given.pools.is_empty() {
                object.write_rings(&self.model.scene)?;
            }
            object.change(&self.model.scene, self.places)?;
        }
        given.remember.iter().try_for_each(|memory| self.remember(memory))
    }

    fn remember(&mut self, memory: &Memory) -> Result<()> {
        let place = self.place(&memory.of)?;
        let (number, _) = self.model.scene.backend(&memory.backend)?;
        let stamp = self.model.now.wrapping_sub(memory.age);
        match place {
            Place::Fragments { hash, stats } => {
                let word = flow::fragment_word(hash, stamp, stats, number.into());
                let place = flow::fragment_of(hash) as usize;
                self.model.fragments[place] = word;
                if let Some(object) = &self.object {
                    object.fragments.set(place, word);
                }
            }
            Place::Flows(hash) => {
                let word = flow::word(hash, stamp, u64::from(memory.established), number.into());
                let set = flow::set_of(hash) as usize;
                // Its own place, and if that is taken another one.
                let first = flow::first_of(hash);
                let free = |way: &usize| flow::is_empty(self.model.flows[set][*way]);
                let way = std::iter::once(first).chain(0..WAYS).find(free);
                let way = way.context("the set is full")?;
                self.model.flows[set][way] = word;
                if let Some(object) = &self.object {
                    object.flows.set(set * WAYS + way, word);
                }
            }
        }
        Ok(())
    }

    /// Where what is said of a flow is remembered.
    fn place(&self, text: &str) -> Result<Place> {
        let (scene, words) = (&self.model.scene, text.split_whitespace().collect::<Vec<_>>());
        let names = &scene.names;
        let service = |flow: &Flow| {
            let vip = scene.vips.iter().find(|v| v.address == flow.dst);
            let vip = vip.context("no such VIP")?.index;
            let wanted = (vip, flow.protocol, flow.dst_port);
            let mut all = scene.services.iter();
            all.find(|s| (s.vip, s.protocol, s.port) == wanted)
                .context("no such service")
        };
        Ok(match &words[..] {
            ["fragment", protocol, src, dst, id] => {
                let flow = flow_of(names, protocol, &format!("{src}:0"), dst)?;
                let id = u32::from_str_radix(id.trim_start_matches("0x"), 16)?;
                let id = if flow.src.is_ipv4() {
                    u32::from(u16::from_ne_bytes(u16::try_from(id)?.to_be_bytes()))
                } else {
                    id.to_be()
                };
                Place::Fragments {
                    hash: flow.fragment_hash(&scene.key, id, flow.protocol),
                    stats: service(&flow)?.stats,
                }
            }
            ["client", protocol, src, dst] => {
                let flow = flow_of(names, protocol, &format!("{src}:0"), dst)?;
                let hash = self.model.affinity_hash(&flow, service(&flow)?);
                Place::Flows(hash.context("no affinity")?)
            }
            [protocol, src, dst] => Place::Flows(flow_of(names, protocol, src, dst)?.hash(&scene.key)),
            _ => bail!("{text}: no flow"),
        })
    }

    fn step(&mut self, step: &Step, unsound: bool) -> Result<()> {
        let frame = Frame::parse(&step.send)?;
        let bytes = frame.bytes(&self.model.scene.names)?;
        let (ran, out) = self.packet(&bytes)?;
        let want = step.want()?;
        self.verdict(&want, &ran)
            .with_context(|| format!("it was {ran:?}"))?;
        let expected = self.expected(step, &frame, &ran)?;
        same(&out, expected.as_deref().unwrap_or(&bytes)).context("the frame")?;
        if expected.is_some() && !unsound {
            wire::sound(&out).context("what left is not sound")?;
        }
        for (flow, memory) in &step.then {
            self.then(flow, memory)?;
        }
        Ok(())
    }

    /// One packet through both. They must agree on everything: verdict, bytes, counters, what is remembered.
    pub fn packet(&mut self, bytes: &[u8]) -> Result<(Outcome, Vec<u8>)> {
        let outcome = self.model.judge(bytes);
        self.sent += 1;
        let model = if outcome.changed { &self.model.out } else { bytes };
        let Some(object) = &self.object else {
            return Ok((outcome, model.to_vec()));
        };
        let mut out = vec![0; bytes.len() + 2048];
        let ran = object.run(bytes, &mut out)?;
        out.truncate(ran.len);
        let counters = object.counters(&self.scene)?;
        let counted = Tally::between(&mem::replace(&mut self.counters, counters), &self.counters);
        let mut wanted = Tally::default();
        wanted.count(&outcome, bytes.len());
        ensure!(
            ran.verdict == outcome.verdict as u32 && counted == wanted,
            "the model says {outcome:?}; the program returned {} and counted\n{counted}instead of\n{wanted}",
            ran.verdict
        );
        same(&out, model).context("the frame, by the model")?;
        memory(object, &self.model)?;
        Ok((outcome, out))
    }

    /// One packet through both, of which only verdict and bytes are compared.
    pub fn quick(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let object = self.object.as_ref().context("no program")?;
        let mut out = vec![0; bytes.len() + 2048];
        let ran = object.run(bytes, &mut out)?;
        self.sent += 1;
        out.truncate(ran.len);
        let outcome = self.model.judge(bytes);
        ensure!(
            ran.verdict == outcome.verdict as u32,
            "{}, the model says {outcome:?}",
            ran.verdict
        );
        same(&out, if outcome.changed { &self.model.out } else { bytes })?;
        Ok(out)
    }

    /// The hash of what is said of a flow.
    pub fn hash(&self, flow: &str) -> Result<u64> {
        match self.place(flow)? {
            Place::Flows(hash) | Place::Fragments { hash, .. } => Ok(hash),
        }
    }

    /// The words of the set of a hash.
    pub fn read_set(&self, hash: u64) -> [u64; WAYS] {
        let set = flow::set_of(hash) as usize;
        match &self.object {
            Some(object) => std::array::from_fn(|way| object.flows.get(set * WAYS + way)),
            None => self.model.flows[set],
        }
    }

    /// Writes them, for both.
    pub fn write_set(&mut self, hash: u64, words: [u64; WAYS]) {
        let set = flow::set_of(hash) as usize;
        self.model.flows[set] = words;
        for (way, word) in words.into_iter().enumerate() {
            if let Some(object) = &self.object {
                object.flows.set(set * WAYS + way, word);
            }
        }
    }

    fn verdict(&mut self, want: &Want, ran: &Outcome) -> Result<()> {
        match (want, &ran.counted) {
            (Want::Reason(wanted), Counted::Reason(reason)) => ensure!(wanted == reason),
            (
                Want::Backend {
                    verdict,
                    backend,
                    new,
                    remembered,
                },
                Counted::Traffic {
                    backend: number,
                    new: began,
                    remembered: known,
                    ..
                },
            ) => {
                ensure!((verdict, new, remembered) == (&ran.verdict, began, known));
                if let Some(name) = backend {
                    ensure!(self.model.scene.backend(name)?.0 == *number);
                }
            }
            (Want::Reason(_), Counted::Traffic { .. }) => bail!("it went to a backend"),
            (Want::Backend { .. }, Counted::Reason(_)) => bail!("it went to no backend"),
        }
        Ok(())
    }

    /// What should leave, if something does.
    fn expected(&self, step: &Step, frame: &Frame, ran: &Outcome) -> Result<Option<Vec<u8>>> {
        let names = &self.model.scene.names;
        if let Some(out) = step.out()? {
            return out.bytes(names).map(Some);
        }
        match ran.counted {
            Counted::Traffic { backend, .. } if ran.verdict != Verdict::Pass => {
                let backend = &self.model.scene.backends[&backend];
                let us = if backend.ifindex == ELSEWHERE { "us2" } else { "us" };
                frame.forwarded(us, &backend.name)?.bytes(names).map(Some)
            }
            Counted::Reason(reason) if reason.verdict() == Kind::Answer => {
                bail!("what is told has to be said")
            }
            Counted::Reason(_) | Counted::Traffic { .. } => Ok(None),
        }
    }

    fn then(&mut self, flow: &str, memory: &str) -> Result<()> {
        let said = match self.place(flow)? {
            Place::Fragments { hash, stats } => {
                let place = flow::fragment_of(hash) as usize;
                let object = self.object.as_ref();
                let word = object.map_or(self.model.fragments[place], |object| object.fragments.get(place));
                match u16::try_from(flow::backend(word))? {
                    _ if !flow::is_fragment_of(word, hash, self.model.now) => "nothing".to_owned(),
                    0 => "passed".to_owned(),
                    _ if flow::fragment_stats(word) != stats => "of another service".to_owned(),
                    number => self.model.scene.backends[&number].name.clone(),
                }
            }
            Place::Flows(hash) => {
                let word = self
                    .read_set(hash)
                    .into_iter()
                    .find(|word| flow::is_of(*word, hash));
                word.map_or_else(|| "nothing".to_owned(), |word| self.said(word))
            }
        };
        ensure!(said == memory, "{flow}: remembered is {said}, not {memory}");
        Ok(())
    }

    fn said(&self, word: u64) -> String {
        let number = u16::try_from(flow::backend(word)).unwrap_or(0);
        let name = self
            .model
            .scene
            .backends
            .get(&number)
            .map_or("nobody", |b| &b.name);
        let class = if flow::class(word) == flow::ESTABLISHED {
            "established"
        } else {
            "probation"
        };
        match flow::age(word, self.model.now) {
            0 => format!("{name} {class}"),
            age => format!("{name} {class} age {age}"),
        }
    }
}

/// A word's table and hash.
enum Place {
    Flows(u64),
    Fragments { hash: u64, stats: u32 },
}

fn flow_of(names: &Names, protocol: &str, src: &str, dst: &str) -> Result<Flow> {
    let end = |text: &str| -> Result<_> {
        let (name, port) = text.rsplit_once(':').context("name:port")?;
        Ok((names.ip(name)?, port.parse()?))
    };
    let ((src, src_port), (dst, dst_port)) = (end(src)?, end(dst)?);
    Ok(Flow {
        src,
        dst,
        src_port,
        dst_port,
        protocol: match protocol {
            "tcp" => 6,
            "udp" => 17,
            other => bail!("{other} is not balanced"),
        },
    })
}

/// Whether both remember the same.
pub fn memory(object: &Object, model: &Model) -> Result<()> {
    let mut flows = object.flows.all().zip(model.flows.iter().flatten().copied());
    if let Some(at) = flows.position(|(ours, theirs)| ours != theirs) {
        let set = at / WAYS;
        let words: [u64; WAYS] = std::array::from_fn(|way| object.flows.get(set * WAYS + way));
        bail!(
            "set {set} of the flow table: {words:x?}, the model has {:x?}",
            model.flows[set]
        );
    }
    let mut fragments = object.fragments.all().zip(model.fragments.iter().copied());
    let differs = fragments.position(|(ours, theirs)| ours != theirs);
    ensure!(differs.is_none(), "the table of fragments differs at {differs:?}");
    Ok(())
}

/// Fails with the first byte that differs.
fn same(ours: &[u8], theirs: &[u8]) -> Result<()> {
    if ours == theirs {
        return Ok(());
    }
    let at = ours.iter().zip(theirs).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| ours.len().min(theirs.len()));
    bail!(
        "differs at byte {at}; {} bytes instead of {}\nis     {}\nshould {}",
        ours.len(),
        theirs.len(),
        hex(ours),
        hex(theirs)
    )
}

/// The first bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let start = bytes.iter().take(400).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    if bytes.len() > 400 { start + "..." } else { start }
}
