//! Who is told when an instance changes its state, and in which words.
//!
//! The words are keepalived's, so that the scripts that people have go on working: `INSTANCE NAME MASTER PRIORITY`.
use super::{Reason, State};
use crate::health::Command;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// One that is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Hook {
    /// Who.
    pub listener: Listener,
    /// Of which states; empty: of all.
    pub on: Vec<Told>,
    /// How long it may take before it is given up, and killed if it is a program.
    pub timeout: Duration,
}

impl Hook {
    /// Whether it wants to know of `told`.
    pub fn wants(&self, told: Told) -> bool {
        self.on.is_empty() || self.on.contains(&told)
    }
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Listener {
    /// A program, with the words as arguments.
    Exec(Command),
    /// A Unix stream socket, with a line of JSON.
    Socket(String),
}

/// The state that is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Told {
    /// It holds the addresses.
    Master,
    /// Another one does.
    Backup,
    /// Something is in its way.
    Fault,
    /// It takes no part any more.
    Stop,
}

impl Told {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Master, Self::Backup, Self::Fault, Self::Stop];

    /// What a change of state is called; `None`: it is none to anybody outside. Leaving is still being the holder, and
    /// what it ends in is told.
    pub const fn of(to: State, reason: Reason) -> Option<Self> {
        match (to, reason) {
            (State::Active, _) => Some(Self::Master),
            (State::Backup, _) => Some(Self::Backup),
            (State::Initialize, Reason::Fault(_)) => Some(Self::Fault),
            (State::Initialize, _) => Some(Self::Stop),
            (State::Leaving, _) => None,
        }
    }

    /// keepalived's word, in capitals.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
        }
    }

    /// As the file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
            Self::Fault => "fault",
            Self::Stop => "stop",
        }
    }

    /// Of its name in the file; `active` is RFC 9568's word for master.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "active" => Some(Self::Master),
            other => Self::ALL.into_iter().find(|t| t.name() == other),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vrrp::FaultReason;

    #[test]
    fn states_have_keepaliveds_words() {
        let told = |to, reason| Told::of(to, reason).map(Told::word);
        assert_eq!(told(State::Active, Reason::ActiveDown), Some("MASTER"));
        assert_eq!(told(State::Backup, Reason::Startup), Some("BACKUP"));
        assert_eq!(told(State::Leaving, Reason::Shutdown), None);
        assert_eq!(told(State::Initialize, Reason::NoSuccessor), Some("STOP"));
        let fault = Reason::Fault(FaultReason::InterfaceDown);
        assert_eq!(told(State::Initialize, fault), Some("FAULT"));
        assert_eq!(Told::parse("active"), Some(Told::Master));
        assert_eq!(Told::parse("MASTER"), None);
    }
}
