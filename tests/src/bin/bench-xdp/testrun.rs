//! Nanoseconds a packet by `BPF_PROG_TEST_RUN`: every program on the same frames, in turns, so that what else the machine
//! does is spread over all of them; of a few slices in a row the least disturbed counts. Figures include the test's own
//! loop; the first rows show what that is.
use crate::cases::{self, Case, Reach, port};
use crate::frames::{ACK, Frame, VIP4};
use crate::katran::Katran;
use crate::objects::{self, Tools};
use crate::ours::Ours;
use crate::report::{Row, Section, progress};
use crate::spread::Spread;
use anyhow::{Context, Result, ensure};
use lb_common::abi::bench::program;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// In `BPF_PROG_TEST_RUN` frames come in by the loopback interface.
const INTERFACE: u32 = 1;
/// Rounds that there are whatever the time.
const FEWEST: u32 = 3;
/// Of one figure; the least disturbed counts.
pub(crate) const SLICES: u32 = 10;
/// Rows on which the variants of our program are held against each other.
const VARIANTS: usize = 6;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Ours,
    /// The same with a line for each decision.
    TraceOn,
    /// Compiled without the tracing.
    NoTrace,
    Katran,
}

/// What one part of the bench takes.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) rounds: u32,
    pub(crate) repeat: u32,
    pub(crate) katran: Option<&'a [u8]>,
    /// Part of the names of the rows that are measured.
    pub(crate) rows: &'a str,
    /// After which no more rounds begin.
    pub(crate) limit: Duration,
}

struct Bench {
    tools: Tools,
    ours: BTreeMap<Who, Ours>,
    katran: Option<Katran>,
    cases: Vec<Case>,
    /// Of flows that never come again.
    next: u32,
    repeat: u32,
    figures: BTreeMap<(usize, Who), Vec<f64>>,
    floors: BTreeMap<&'static str, Vec<f64>>,
    /// Rows that were not what they say, and are not measured again.
    wrong: BTreeMap<(usize, Who), String>,
}

impl Setting<'_> {
    /// Calls `each` for every round, as long as there is time. The answer is what the figures are of.
    pub(crate) fn rounds(&self, part: &str, mut each: impl FnMut() -> Result<()>) -> Result<String> {
        let started = Instant::now();
        let mut done = 0;
        while done < self.rounds && (done < FEWEST || started.elapsed() < self.limit) {
            progress(format!("{part}: round {} of {}", done + 1, self.rounds));
            each()?;
            done += 1;
        }
        Ok(format!(
            "{done} times the best of {SLICES}, median (least - most)"
        ))
    }
}

/// Measures all of it.
pub(crate) fn measure(setting: &Setting<'_>) -> Result<Vec<Section>> {
    let mut bench = Bench::load(setting)?;
    let said = setting.rounds("TEST_RUN", || bench.round())?;
    let mut sections = vec![
        bench.floor_section(&said),
        bench.section(&said),
        bench.variants(&said),
    ];
    if !bench.wrong.is_empty() {
        sections.push(bench.complaints());
    }
    Ok(sections)
}

impl Bench {
    fn load(setting: &Setting<'_>) -> Result<Self> {
        let object = objects::read("CPLB_EBPF", "lb.o")?;
        let mut ours = BTreeMap::new();
        ours.insert(Who::Ours, Ours::load(&object, false, INTERFACE)?);
        ours.insert(Who::TraceOn, Ours::load(&object, true, INTERFACE)?);
        if let Ok(object) = objects::read("CPLB_EBPF_PLAIN", "lb-plain.o") {
            ours.insert(Who::NoTrace, Ours::load(&object, false, INTERFACE)?);
        }
        let mut cases = cases::all();
        cases.retain(|case| case.name.contains(setting.rows));
        ensure!(!cases.is_empty(), "no row's name has {:?} in it", setting.rows);
        Ok(Self {
            tools: Tools::load()?,
            ours,
            katran: setting.katran.map(Katran::load).transpose()?,
            cases,
            next: 0,
            repeat: setting.repeat,
            figures: BTreeMap::new(),
            floors: BTreeMap::new(),
            wrong: BTreeMap::new(),
        })
    }

    fn round(&mut self) -> Result<()> {
        self.floors()?;
        for case in 0..self.cases.len() {
            for who in self.who(case) {
                match self.one(case, who) {
                    Ok(figure) => self.figures.entry((case, who)).or_default().push(figure),
                    Err(error) => {
                        self.wrong.insert((case, who), format!("{error:#}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// In which order changes by the row, so that nobody always comes after the same one.
    fn who(&self, case: usize) -> Vec<Who> {
        let variants = case < VARIANTS;
        let mut list: Vec<Who> = self.ours.keys().copied().collect();
        list.retain(|who| *who == Who::Ours || variants);
        if self.katran.is_some() && self.cases[case].katran.is_some() {
            list.push(Who::Katran);
        }
        list.retain(|who| !self.wrong.contains_key(&(case, *who)));
        if list.is_empty() {
            return list;
        }
        let turn = self.figures.values().map(Vec::len).sum::<usize>() % list.len();
        list.rotate_left(turn);
        list
    }

    /// One figure.
    fn one(&mut self, case: usize, who: Who) -> Result<f64> {
        let case = &self.cases[case];
        let repeat = if who == Who::TraceOn {
            self.repeat / 10
        } else {
            self.repeat
        };
        let (fd, verdict) = if who == Who::Katran {
            let katran = self.katran.as_ref().context("Katran is not loaded")?;
            (
                katran.program()?,
                case.katran.context("Katran cannot do this row")?,
            )
        } else {
            let ours = self.ours.get_mut(&who).context("not loaded")?;
            ours.forget()?;
            ours.cap(case.capped)?;
            (ours.program()?, case.verdict)
        };
        self.tools.jump_to(fd)?;
        let first = if case.flows == cases::NEW { self.next } else { 0 };
        self.tools.drive(case.frame.drive(case.flows, first, INTERFACE))?;
        if case.warm_up() > 0 {
            self.tools.driven(&case.frame, case.warm_up())?;
        }
        let before = self.counted(who)?;
        let mut best = f64::INFINITY;
        for _ in 0..SLICES {
            let result = self.tools.driven(&case.frame, repeat / SLICES)?;
            ensure!(
                result.return_value == verdict,
                "the verdict is {}, not {verdict}",
                result.return_value
            );
            best = best.min(result.duration.as_nanos() as f64);
        }
        let packets = repeat / SLICES * SLICES;
        self.next = self.next.wrapping_add(packets);
        self.check(case, who, &before, u64::from(packets))?;
        Ok(best)
    }

    fn counted(&self, who: Who) -> Result<Before> {
        Ok(match (who, &self.katran) {
            (Who::Katran, Some(katran)) => Before::Katran(katran.misses()?),
            _ => Before::Ours(self.ours.get(&who).context("not loaded")?.counts()?),
        })
    }

    fn check(&self, case: &Case, who: Who, before: &Before, packets: u64) -> Result<()> {
        match (before, &self.katran) {
            (Before::Katran(misses), Some(katran)) => katran.check(case, *misses, packets),
            (Before::Katran(_), None) => Ok(()),
            (Before::Ours(counts), _) => {
                let ours = self.ours.get(&who).context("not loaded")?;
                ours.check(case, counts, packets)
            }
        }
    }

    fn floors(&mut self) -> Result<()> {
        let hit = Frame::tcp(VIP4, port::DIRECT, ACK);
        let floors: [(&str, &str, Option<u32>); 6] = [
            (RETURN, program::RETURN, None),
            (LOOKUP, program::LOOKUP, None),
            (DRIVEN_RETURN, program::RETURN, Some(0)),
            (DRIVEN_RETURN_MANY, program::RETURN, Some(cases::NEW)),
            (DRIVEN_LOOKUP, program::LOOKUP, Some(0)),
            (DRIVEN_LINE, program::LINE, Some(cases::NEW)),
        ];
        let slice = self.repeat / SLICES;
        for (label, name, driven) in floors {
            if let Some(flows) = driven {
                let fd = self.tools.program(name)?.fd()?.try_clone()?;
                self.tools.jump_to(&fd)?;
                self.tools.drive(hit.drive(flows, 0, INTERFACE))?;
            }
            let mut best = f64::INFINITY;
            for _ in 0..SLICES {
                let result = match driven {
                    Some(_) => self.tools.driven(&hit, slice)?,
                    None => objects::run(self.tools.program(name)?, &hit, slice)?,
                };
                best = best.min(result.duration.as_nanos() as f64);
            }
            self.floors.entry(label).or_default().push(best);
        }
        Ok(())
    }

    fn floor_section(&self, said: &str) -> Section {
        let rows = self.floors.iter().filter_map(|(label, figures)| {
            let mut row = Row::new(label);
            row.cell("ns", Spread::of(figures)?, 0);
            Some(row)
        });
        Section::new(
            "floors",
            &format!("The test's own loop, and what drives the programs below, nanoseconds a packet, {said}"),
            rows.collect(),
        )
    }

    fn section(&self, said: &str) -> Section {
        let rows = (0..self.cases.len()).map(|place| {
            let case = &self.cases[place];
            let figures = |who| Spread::of(self.figures.get(&(place, who))?);
            let mut row = Row::new(case.name);
            let (ours, theirs) = (figures(Who::Ours), figures(Who::Katran));
            match ours {
                Some(ours) => row.cell("cplb ns", ours, 0),
                None => row.text("cplb ns", "-"),
            }
            if let Some(theirs) = theirs {
                row.cell("Katran ns", theirs, 0);
            }
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                row.ratio("ratio", ours.ratio(&theirs));
            }
            if let (Some(ours), Some(reach)) = (ours, case.reach) {
                compare(&mut row, reach, &ours, theirs.as_ref());
            }
            row
        });
        Section::new(
            "testRun",
            &format!("BPF_PROG_TEST_RUN, nanoseconds a packet, the loop and the driver included, {said}"),
            rows.collect(),
        )
    }

    fn complaints(&self) -> Section {
        let rows = self.wrong.iter().map(|((case, who), why)| {
            let mut row = Row::new(self.cases[*case].name);
            row.text("whose", &format!("{who:?}"));
            row.text("why", why);
            row
        });
        Section::not_measured(rows.collect())
    }

    fn variants(&self, said: &str) -> Section {
        let names = [
            (Who::Ours, "trace off"),
            (Who::NoTrace, "compiled without"),
            (Who::TraceOn, "trace on"),
        ];
        let mut rows: Vec<Row> = Vec::new();
        for place in 0..VARIANTS.min(self.cases.len()) {
            let mut row = Row::new(self.cases[place].name);
            for (who, label) in names {
                if let Some(spread) = self.figures.get(&(place, who)).and_then(|f| Spread::of(f)) {
                    row.cell(label, spread, 0);
                }
            }
            rows.push(row);
        }
        let mut sizes = Row::new("instructions after the verifier");
        for (who, label) in names {
            if let Some(count) = self.ours.get(&who).and_then(Ours::instructions) {
                sizes.text(label, &count.to_string());
            }
        }
        rows.push(sizes);
        Section::new(
            "trace",
            &format!("What a line for each decision costs, nanoseconds a packet, {said}"),
            rows,
        )
    }
}

enum Before {
    Ours(crate::ours::Counts),
    Katran(u64),
}

const RETURN: &str = "1 return only";
const LOOKUP: &str = "2 parse and one array lookup";
const DRIVEN_RETURN: &str = "3 driver and return (one flow)";
const DRIVEN_RETURN_MANY: &str = "4 driver and return (each packet another flow)";
const DRIVEN_LOOKUP: &str = "5 driver, parse and one array lookup";
const DRIVEN_LINE: &str = "6 driver, parse and a line of a table like FLOWS (each packet another flow)";

/// Beside Katran where it ran; else by the nanoseconds of the machine where the reaches were set.
fn compare(row: &mut Row, reach: Reach, ours: &Spread, theirs: Option<&Spread>) {
    let (wanted, met) = match (reach, theirs) {
        (Reach::Katran { share, .. }, Some(theirs)) => {
            (format!("{share:.2} of Katran"), ours.ratio(theirs) <= share)
        }
        (Reach::Katran { there, .. }, None) | (Reach::Nanoseconds(there), _) => {
            (format!("{there:.0} ns"), ours.median <= there)
        }
    };
    row.reach(&wanted, met);
}
