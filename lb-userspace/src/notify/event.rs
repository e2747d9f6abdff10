//! One change of an instance's state, in keepalived's words and in ours.
use crate::admin::reason_text;
use crate::vrrp::{InstanceView, TransitionRecord};
use lb_common::vrrp::State;
use lb_common::vrrp::notify::Told;
use serde::Serialize;
use std::time::{Duration, UNIX_EPOCH};

/// What hooks are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    /// `INSTANCE`, as keepalived says it.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The instance.
    pub(super) name: String,
    /// `MASTER`, `BACKUP`, `FAULT` or `STOP`.
    #[serde(rename = "state", serialize_with = "word")]
    pub(super) told: Told,
    /// The priority that it has now.
    pub(super) priority: u8,
    /// RFC 9568's name of the state before.
    pub(super) from: &'static str,
    /// RFC 9568's name of the state after.
    pub(super) to: &'static str,
    /// Why, as a sentence.
    pub(super) reason: String,
    /// The virtual router's ID.
    pub(super) vrid: u8,
    /// Where it runs, if anywhere.
    pub(super) interface: Option<String>,
    /// What moves, with prefix lengths.
    #[serde(rename = "virtualIPs")]
    pub(super) virtual_ips: Vec<String>,
    /// When, in RFC 3339.
    pub(super) at: String,
}

fn word<S: serde::Serializer>(told: &Told, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(told.word())
}

impl Event {
    /// `None`: nobody is told of this one.
    pub(super) fn of(view: &InstanceView, transition: &TransitionRecord) -> Option<Self> {
        let told = Told::of(transition.to, transition.reason)?;
        Some(Self {
            kind: "INSTANCE",
            name: view.name.clone(),
            told,
            priority: view.priority,
            from: transition.from.name(),
            to: transition.to.name(),
            reason: reason_text(&transition.reason),
            vrid: view.vrid,
            interface: view.interface.as_ref().map(|i| i.name.clone()),
            virtual_ips: view.virtual_ips.iter().map(ToString::to_string).collect(),
            at: rfc3339(transition.at_ms),
        })
    }

    /// It was taken out of the file, and has let go.
    pub(super) fn gone(view: &InstanceView) -> Self {
        Self {
            kind: "INSTANCE",
            name: view.name.clone(),
            told: Told::Stop,
            priority: view.priority,
            from: view.state.name(),
            to: State::Initialize.name(),
            reason: "it was taken out of the file".into(),
            vrid: view.vrid,
            interface: view.interface.as_ref().map(|i| i.name.clone()),
            virtual_ips: view.virtual_ips.iter().map(ToString::to_string).collect(),
            at: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
        }
    }

    /// The arguments that keepalived gives its notify scripts.
    pub(super) fn arguments(&self) -> [String; 4] {
        [
            self.kind.to_owned(),
            self.name.clone(),
            self.told.word().to_owned(),
            self.priority.to_string(),
        ]
    }

    /// The same and more, for those who would rather not count arguments.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("CPLB_INSTANCE", self.name.clone()),
            ("CPLB_STATE", self.told.word().to_owned()),
            ("CPLB_PRIORITY", self.priority.to_string()),
            ("CPLB_FROM", self.from.to_owned()),
            ("CPLB_TO", self.to.to_owned()),
            ("CPLB_REASON", self.reason.clone()),
            ("CPLB_VRID", self.vrid.to_string()),
            ("CPLB_INTERFACE", self.interface.clone().unwrap_or_default()),
            ("CPLB_VIRTUAL_IPS", self.virtual_ips.join(" ")),
            ("CPLB_AT", self.at.clone()),
        ]
    }

    /// As a socket gets it.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

fn rfc3339(at_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
}
