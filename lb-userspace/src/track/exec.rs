//! Programs that are tracked: each is run again and again by a task of its own.
use super::report::Item;
use crate::clock;
use crate::sys::command::{Job, run};
use lb_common::health::{Gate, Outcome, Start};
use lb_common::spec::{Instance, Spec, Tracked};
use lb_common::vrrp::track::TrackExec;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

/// No more of them run at once.
const AT_ONCE: usize = 16;
/// So much of what one says is shown.
const SHOWN: usize = 160;

/// One program of one instance: it is told whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Program {
    instance: String,
    exec: TrackExec,
}

impl Program {
    pub(super) fn of(instance: &Instance, exec: &TrackExec) -> Self {
        Self {
            instance: instance.name.clone(),
            exec: exec.clone(),
        }
    }
}

/// How one run went, and the gate after it.
pub(super) struct Found {
    program: Program,
    gate: Gate,
    known: bool,
    why: Option<String>,
}

struct Entry {
    task: AbortHandle,
    /// `None`: it has not ended yet since the start.
    well: Option<bool>,
    why: Option<String>,
}

/// All of them.
pub(super) struct Programs {
    found: mpsc::Sender<Found>,
    slots: Arc<Semaphore>,
    entries: BTreeMap<Program, Entry>,
}

impl Programs {
    pub(super) fn new(found: mpsc::Sender<Found>) -> Self {
        Self {
            found,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            entries: BTreeMap::new(),
        }
    }

    /// What stays goes on, what is new starts, what is gone is killed.
    pub(super) fn reload(&mut self, spec: &Spec) {
        let mut old = std::mem::take(&mut self.entries);
        for instance in spec.active_instances() {
            for track in &instance.track {
                let exec = match &track.what {
                    Tracked::Exec(exec) => exec,
                    Tracked::Interface(_) | Tracked::VirtualServers(_) => continue,
                };
                let program = Program::of(instance, exec);
                let entry = old.remove(&program).unwrap_or_else(|| self.start(&program));
                self.entries.insert(program, entry);
            }
        }
        old.values().for_each(|e| e.task.abort());
    }

    fn start(&self, program: &Program) -> Entry {
        let task = watch_over(program.clone(), self.found.clone(), self.slots.clone());
        Entry {
            task: tokio::spawn(task).abort_handle(),
            well: None,
            why: None,
        }
    }

    pub(super) fn take(&mut self, found: Found) {
        let Some(entry) = self.entries.get_mut(&found.program) else {
            return;
        };
        let (instance, program) = (&found.program.instance, found.program.exec.run.program());
        let why = found.why.as_deref().unwrap_or_default();
        let well = found.known.then_some(found.gate.is_up());
        match (entry.well, well) {
            (Some(true) | None, Some(false)) => {
                tracing::warn!(%instance, program, why, "a tracked program fails");
            }
            (Some(false), Some(true)) => {
                tracing::info!(%instance, program, "a tracked program is well again")
            }
            (_, None) if entry.why != found.why => {
                tracing::warn!(%instance, program, why, "a tracked program cannot be run: it counts as what it was");
            }
            _ => {}
        }
        entry.well = well.or(entry.well);
        entry.why = found.why;
    }

    pub(super) fn well(&self, program: &Program) -> Option<bool> {
        self.entries.get(program)?.well
    }

    pub(super) fn item(&self, program: &Program) -> Option<Item> {
        let entry = self.entries.get(program)?;
        Some(Item {
            why: entry.why.clone(),
        })
    }
}

/// One program, for ever. When the task is aborted, what runs is killed.
async fn watch_over(program: Program, found: mpsc::Sender<Found>, slots: Arc<Semaphore>) {
    let exec = &program.exec;
    // The first result decides: a node that starts must not win an election that its script would lose it.
    let mut gate = Gate::new(exec.rise, exec.fall, Start::Undecided);
    loop {
        let Ok(slot) = slots.acquire().await else { return };
        let started = clock::now();
        let (outcome, why) = once(&program).await;
        drop(slot);
        if let Some(outcome) = outcome {
            gate.handle(outcome);
        }
        let one = Found {
            program: program.clone(),
            gate,
            known: outcome.is_some(),
            why,
        };
        if found.send(one).await.is_err() {
            return;
        }
        let next = started + exec.interval;
        tokio::time::sleep(next.saturating_since(clock::now())).await;
    }
}

/// `None`: it could not be run, which says nothing of what it was to find out.
async fn once(program: &Program) -> (Option<Outcome>, Option<String>) {
    let exec = &program.exec;
    let job = Job {
        command: exec.run.command.iter().map(String::as_str).collect(),
        user: exec.run.user.as_deref(),
        environment: vec![("CPLB_INSTANCE", program.instance.clone())],
        timeout: exec.timeout,
        may_leave: false,
    };
    match run(&job).await {
        Ok(ended) if ended.code == Some(0) => (Some(Outcome::Good), None),
        Ok(ended) => {
            let line = ended
                .output
                .lines()
                .find(|l| !l.trim().is_empty())
                .unwrap_or_default();
            let said: String = line.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
            let colon = if said.is_empty() { "" } else { ": " };
            (
                Some(Outcome::Dead),
                Some(format!("it {}{colon}{said}", ended.how)),
            )
        }
        Err(error) => (None, Some(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::health::Command;
    use std::time::Duration;

    #[tokio::test]
    async fn a_program_fails_rises_and_what_it_cannot_do_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let flag = dir.path().join("well");
        std::fs::write(&flag, "").unwrap();
        let program = Program {
            instance: "api".into(),
            exec: TrackExec {
                run: Command {
                    command: vec![
                        "/bin/sh".into(),
                        "-c".into(),
                        format!("test \"$CPLB_INSTANCE\" = api && test -e {}", flag.display()),
                    ],
                    user: Some("root".into()),
                },
                interval: Duration::from_millis(100),
                timeout: Duration::from_secs(5),
                rise: 2,
                fall: 2,
            },
        };
        let (found_tx, mut found) = mpsc::channel(64);
        let mut programs = Programs::new(found_tx);
        let entry = programs.start(&program);
        programs.entries.insert(program.clone(), entry);
        assert_eq!(programs.well(&program), None);
        for (there, well) in [(true, true), (false, false), (true, true)] {
            if there {
                std::fs::write(&flag, "").unwrap();
            } else {
                std::fs::remove_file(&flag).unwrap();
            }
            while programs.well(&program) != Some(well) {
                let one = found.recv().await.unwrap();
                programs.take(one);
            }
        }
        let missing = Program {
            exec: TrackExec {
                run: Command {
                    command: vec!["/no/such/program".into()],
                    user: None,
                },
                ..program.exec
            },
            ..program
        };
        let (outcome, why) = once(&missing).await;
        assert_eq!(outcome, None);
        assert!(why.unwrap().contains("/no/such/program cannot be started"));
    }
}
