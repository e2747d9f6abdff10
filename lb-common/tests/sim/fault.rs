//! What goes wrong, and what operators do.
use crate::net::Weather;
use crate::node::{DOWN, Process};
use crate::world::World;
use lb_common::model::{AdvertInterval, Priority, Version};
use lb_common::time::Duration;
use lb_common::vrrp::Input;

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Start(usize),
    /// SIGKILL of everything.
    Kill(usize),
    /// SIGTERM.
    Leave(usize),
    Hang(usize),
    Resume(usize),
    LinkDown(usize),
    LinkUp(usize),
    /// Which part each node is in.
    Split(Vec<usize>),
    Weather(Weather),
    Weight(usize, i32),
    Reload(usize),
}

impl World {
    pub(crate) fn inject(&mut self, fault: Fault) {
        self.say(format_args!("*** {fault:?}"));
        self.checker.disturbed = self.now;
        self.poked = true;
        let now = self.now;
        match fault {
            Fault::Start(n) => match self.nodes[n].process {
                Process::Stopped | Process::Dead => self.nodes[n].start(now),
                Process::Running | Process::Hung { .. } => {}
            },
            Fault::Kill(n) => {
                if self.nodes[n].is_running() {
                    self.nodes[n].process = Process::Dead;
                    self.nodes[n].abandon_addresses(&mut self.rng, now);
                }
            }
            Fault::Leave(n) => {
                if self.nodes[n].is_running() {
                    self.nodes[n].all(now, &Input::Shutdown);
                }
            }
            Fault::Hang(n) => {
                if self.nodes[n].is_running() {
                    self.nodes[n].process = Process::Hung { since: now };
                    self.nodes[n].abandon_addresses(&mut self.rng, now);
                }
            }
            Fault::Resume(n) => self.nodes[n].resume(now),
            Fault::LinkDown(n) => {
                self.nodes[n].link = false;
                self.nodes[n].all(now, &DOWN);
            }
            Fault::LinkUp(n) => {
                if !self.nodes[n].link {
                    self.nodes[n].link = true;
                    self.nodes[n].all(now, &Input::Startup);
                }
            }
            Fault::Split(parts) => self.net.part = parts,
            Fault::Weather(weather) => {
                self.net.weather = weather;
                self.checker.fair_weather = weather == Weather::default();
            }
            Fault::Weight(n, weight) => {
                self.nodes[n].weight = weight;
                self.nodes[n].all(now, &Input::Weight(weight));
            }
            Fault::Reload(n) => self.reload(n),
        }
    }

    fn reload(&mut self, n: usize) {
        let instance = self.rng.below(self.commons.len());
        let mut params = self.nodes[n].params[instance].clone();
        if params.version == Version::V3 {
            let cs = self.rng.pick(&[self.base_cs, self.base_cs, self.longest_cs]);
            params.advert_interval = AdvertInterval::new(params.version, cs).expect("legal");
        }
        params.priority = Priority::new(self.rng.pick(&[50, 100, 120, 200])).expect("not 0");
        let now = self.now;
        self.nodes[n].reconfigure(now, instance, params);
    }

    /// Something bad, at random.
    pub(crate) fn any_fault(&mut self) -> Fault {
        let n = self.rng.below(self.nodes.len());
        // Half of all mishaps hit whoever holds: the others are not so interesting.
        let n = self.some_holder().filter(|_| self.rng.chance(50)).unwrap_or(n);
        match self.rng.below(20) {
            0..=2 => Fault::Kill(n),
            3..=5 => Fault::Leave(n),
            6..=7 => {
                let longest = self.checker.bounds.none * 2;
                let until = self.now + self.rng.duration(longest);
                self.later.push((until, Fault::Resume(n)));
                Fault::Hang(n)
            }
            8..=11 => Fault::Start(self.rng.below(self.nodes.len())),
            12 => {
                let until = self.now + self.rng.duration(self.checker.bounds.none);
                self.later.push((until, Fault::LinkUp(n)));
                Fault::LinkDown(n)
            }
            13..=14 => {
                let parts = self.rng.between(1, 3);
                let parts = (0..self.nodes.len()).map(|_| self.rng.below(parts)).collect();
                Fault::Split(parts)
            }
            15..=16 => {
                let storm = Weather {
                    lost: self.rng.pick(&[0, 5, 30, 70]),
                    doubled: self.rng.pick(&[0, 20]),
                    delayed: self.rng.pick(&[0, 30]),
                    damaged: self.rng.pick(&[0, 10]),
                };
                Fault::Weather(storm)
            }
            17 => {
                let weight = i32::try_from(self.rng.below(200)).unwrap_or(0) - 100;
                Fault::Weight(n, weight)
            }
            18 => Fault::Reload(n),
            _ => Fault::Weather(Weather::default()),
        }
    }

    /// Good weather, and everybody who was to come back is back. The network stays as it is split.
    pub(crate) fn calm_down(&mut self) {
        let mut later = core::mem::take(&mut self.later);
        later.sort_by_key(|(at, _)| *at);
        for (_, fault) in later {
            self.inject(fault);
        }
        self.inject(Fault::Weather(Weather::default()));
    }

    pub(crate) fn pause(&mut self) -> Duration {
        let longest = self.checker.bounds.none * self.rng.pick(&[1, 1, 2, 4]) / self.rng.pick(&[1, 2, 16]);
        self.rng.duration(longest)
    }
}
