//! What a person wants to know of tracking.
use lb_common::spec::{Track, Tracked};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Every instance that tracks something outside the election.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackReport {
    /// By the instance's name, in the file's order each.
    pub instances: BTreeMap<String, Vec<TrackView>>,
}

/// One item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackView {
    /// `virtualServers`, or the program.
    pub what: String,
    /// As in the file; 0: a fault while it fails.
    pub weight: i16,
    /// Whether it is well; `None`: not known yet.
    pub well: Option<bool>,
    /// Why it is not, or what the last bad result was.
    pub why: Option<String>,
}

/// What its keeper knows of an item.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    pub(super) why: Option<String>,
}

pub(super) fn view(track: &Track, item: Item, well: Option<bool>) -> TrackView {
    let what = match &track.what {
        Tracked::Interface(name) => name.clone(),
        Tracked::Exec(exec) => exec.run.command.join(" "),
        Tracked::VirtualServers(_) => "virtualServers".into(),
    };
    TrackView {
        what,
        weight: track.weight,
        well,
        why: item.why,
    }
}
