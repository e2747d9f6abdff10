//! A case tried: the program, the case's own words, and the model must all agree.
use super::fixture::{Case, Given, Memory, Step, Want};
use super::frame::Frame;
use super::image::Places;
use super::model::{Counted, Flow, Model, Outcome, Verdict};
use super::names::Names;
use super::object::{Counters, Object};
use super::scene::{ELSEWHERE, Scene};
use super::wire;
use anyhow::{Context, Result, bail, ensure};
use lb_common::abi::flow::{self, WAYS};
use lb_common::abi::reason::Verdict as Kind;
use std::fmt::Write;

/// Where cases are tried: the program and the judge, side by side.
pub struct Desk {
    object: Object,
    model: Model,
    scene: Scene,
    places: Places,
    sent: usize,
}

impl Desk {
    /// Cases begin with `scene`.
    pub fn new(object: Object, scene: Scene, places: Places) -> Self {
        Self {
            object,
            model: Model::new(scene.clone()),
            scene,
            places,
            sent: 0,
        }
    }

    /// Packets sent so far.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Begins anew: the scene as it is in the file, no memory.
    pub fn begin(&mut self) -> Result<()> {
        self.model.scene = self.scene.clone();
        self.model.forget();
        self.object.install(&self.model.scene, self.places)
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
        if !given.pools.is_empty() {
            self.object.write_rings(&self.model.scene)?;
        }
        self.object.change(&self.model.scene, self.places)?;
        given.remember.iter().try_for_each(|memory| self.remember(memory))
    }

    fn remember(&mut self, memory: &Memory) -> Result<()> {
        let (hash, table) = self.place(&memory.of)?;
        let (number, _) = self.model.scene.backend(&memory.backend)?;
        let stamp = self.model.now.wrapping_sub(memory.age);
        let word = flow::word(hash, stamp, u64::from(memory.established), number.into());
        match table {
            Table::Fragments => {
                let place = flow::fragment_of(hash) as usize;
                self.model.fragments[place] = word;
                self.object.fragments.set(place, word);
            }
            Table::Flows => {
                let set = flow::set_of(hash) as usize;
                let way = self.model.flows[set].iter().position(|w| flow::is_empty(*w));
                let way = way.context("the set is full")?;
                self.model.flows[set][way] = word;
                self.object.flows.set(set * WAYS + way, word);
            }
        }
        Ok(())
    }

    /// The hash of what is said of a flow, and the table that it is for.
    fn place(&self, text: &str) -> Result<(u64, Table)> {
        let (scene, words) = (&self.model.scene, text.split_whitespace().collect::<Vec<_>>());
        let names = &scene.names;
        Ok(match &words[..] {
            ["fragment", protocol, src, dst, id] => {
                let flow = flow_of(names, protocol, &format!("{src}:0"), &format!("{dst}:0"))?;
                let id = u32::from_str_radix(id.trim_start_matches("0x"), 16)?;
                let id = if flow.src.is_ipv4() {
                    u32::from(u16::from_ne_bytes(u16::try_from(id)?.to_be_bytes()))
                } else {
                    id.to_be()
                };
                (flow.fragment_hash(&scene.key, id), Table::Fragments)
            }
            ["client", protocol, src, dst] => {
                let flow = flow_of(names, protocol, &format!("{src}:0"), dst)?;
                let vip = scene
                    .vips
                    .iter()
                    .find(|v| v.address == flow.dst)
                    .context("no such VIP")?;
                let wanted = (vip.index, flow.protocol, flow.dst_port);
                let service = scene
                    .services
                    .iter()
                    .find(|s| (s.vip, s.protocol, s.port) == wanted);
                let hash = self
                    .model
                    .affinity_hash(&flow, service.context("no such service")?);
                (hash.context("no affinity")?, Table::Flows)
            }
            [protocol, src, dst] => (flow_of(names, protocol, src, dst)?.hash(&scene.key), Table::Flows),
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
        let before = self.object.counters()?;
        let mut out = vec![0; bytes.len() + 2048];
        let ran = self.object.run(bytes, &mut out)?;
        self.sent += 1;
        out.truncate(ran.len);
        let outcome = self.model.judge(bytes);
        let counted = counted(&before, &self.object.counters()?);
        let wanted = wanted(&outcome, bytes.len());
        ensure!(
            ran.verdict == outcome.verdict as u32 && counted == wanted,
            "the model says {outcome:?}; the program returned {} and counted\n{counted}instead of\n{wanted}",
            ran.verdict
        );
        let model = if outcome.changed { &self.model.out } else { bytes };
        same(&out, model).context("the frame, by the model")?;
        self.memory()?;
        Ok((outcome, out))
    }

    /// One packet through both, of which only verdict and bytes are compared.
    pub fn quick(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; bytes.len() + 2048];
        let ran = self.object.run(bytes, &mut out)?;
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
        Ok(self.place(flow)?.0)
    }

    /// The words of the set of a hash.
    pub fn read_set(&self, hash: u64) -> [u64; WAYS] {
        let set = flow::set_of(hash) as usize * WAYS;
        std::array::from_fn(|way| self.object.flows.get(set + way))
    }

    /// Writes them, for both.
    pub fn write_set(&mut self, hash: u64, words: [u64; WAYS]) {
        let set = flow::set_of(hash) as usize;
        self.model.flows[set] = words;
        for (way, word) in words.into_iter().enumerate() {
            self.object.flows.set(set * WAYS + way, word);
        }
    }

    fn memory(&self) -> Result<()> {
        let mut flows = self
            .object
            .flows
            .all()
            .zip(self.model.flows.iter().flatten().copied());
        let differs = flows.position(|(ours, theirs)| ours != theirs);
        if let Some(at) = differs {
            let set = at / WAYS;
            let words: Vec<u64> = (0..WAYS)
                .map(|way| self.object.flows.get(set * WAYS + way))
                .collect();
            bail!(
                "set {set} of the flow table: {words:x?}, the model has {:x?}",
                self.model.flows[set]
            );
        }
        let mut fragments = self
            .object
            .fragments
            .all()
            .zip(self.model.fragments.iter().copied());
        let differs = fragments.position(|(ours, theirs)| ours != theirs);
        ensure!(differs.is_none(), "the table of fragments differs at {differs:?}");
        Ok(())
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
        let (hash, table) = self.place(flow)?;
        let word = match table {
            Table::Fragments => Some(self.object.fragments.get(flow::fragment_of(hash) as usize)),
            Table::Flows => {
                let set = flow::set_of(hash) as usize * WAYS;
                let mut words = (0..WAYS).map(|way| self.object.flows.get(set + way));
                words.find(|word| flow::is_of(*word, hash))
            }
        };
        let said = match word.filter(|word| flow::is_of(*word, hash)) {
            None => "nothing".to_owned(),
            Some(word) => {
                let backend = u16::try_from(flow::backend(word))?;
                let name = &self.model.scene.backends[&backend].name;
                let class = if flow::class(word) == flow::ESTABLISHED {
                    "established"
                } else {
                    "probation"
                };
                let age = flow::age(word, self.model.now);
                match age {
                    0 => format!("{name} {class}"),
                    _ => format!("{name} {class} age {age}"),
                }
            }
        };
        ensure!(said == memory, "{flow}: remembered is {said}, not {memory}");
        Ok(())
    }
}

enum Table {
    Flows,
    Fragments,
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

/// What was counted between, one line each.
fn counted(before: &Counters, after: &Counters) -> String {
    let mut text = String::new();
    for (i, (old, new)) in before.reasons.iter().zip(&after.reasons).enumerate() {
        if old != new {
            let _ = writeln!(text, "reason {i}: {}", new - old);
        }
    }
    let tables = [
        ("service", &before.services, &after.services),
        ("backend", &before.backends, &after.backends),
    ];
    for (name, before, after) in tables {
        for (i, (old, new)) in before
            .iter()
            .zip(after)
            .enumerate()
            .filter(|(_, (old, new))| old != new)
        {
            let _ = writeln!(
                text,
                "{name} {i}: packets {} bytes {} new {} remembered {}",
                new.packets - old.packets,
                new.bytes - old.bytes,
                new.new_flows - old.new_flows,
                new.remembered - old.remembered
            );
        }
    }
    text
}

/// What should be counted, in the same words.
fn wanted(outcome: &Outcome, len: usize) -> String {
    match outcome.counted {
        Counted::Reason(reason) => format!("reason {}: 1\n", reason as u32),
        Counted::Traffic {
            service,
            backend,
            new,
            remembered,
        } => {
            let (new, remembered) = (u8::from(new), u8::from(remembered));
            let traffic = format!("packets 1 bytes {len} new {new} remembered {remembered}\n");
            let service = service.map(|service| format!("service {service}: {traffic}"));
            format!("{}backend {backend}: {traffic}", service.unwrap_or_default())
        }
    }
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

fn hex(bytes: &[u8]) -> String {
    let start = bytes.iter().take(160).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    if bytes.len() > 160 { start + "..." } else { start }
}
