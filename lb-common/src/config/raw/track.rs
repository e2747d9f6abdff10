//! `track` and `notify` of the native file's instances.
use super::super::duration::GoDuration;
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(feature = "serde")]
use {
    schemars::JsonSchema,
    serde::{Deserialize, Serialize},
};

/// Something that an instance's priority depends on: one of interface, exec and virtualServers.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Track {
    /// An interface of that name is up.
    pub interface: Option<String>,
    /// A program ends with 0.
    pub exec: Option<TrackExec>,
    /// This node's datapath works, and of each virtual server of the instance a real server can be reached from here. Left
    /// out of the whole list: true, with weight -253. false takes that away.
    pub virtual_servers: Option<bool>,
    /// 0: a fault while it fails. -253 to -1: added to the priority while it fails. 1 to 253: added while it does not.
    /// Default: 0; -253 for virtualServers.
    #[cfg_attr(feature = "serde", schemars(range(min = -253, max = 253)))]
    pub weight: Option<i64>,
    /// virtualServers: so many good observations in a row make it well again, 1-255. Default: 3.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 255)))]
    pub rise: Option<i64>,
    /// virtualServers: so many bad ones in a row make it fail, 1-255. Default: 3.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 255)))]
    pub fall: Option<i64>,
}

/// A program that is run again and again.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct TrackExec {
    /// The program's absolute path and its arguments. It gets the instance in CPLB_INSTANCE.
    #[cfg_attr(feature = "serde", schemars(required, length(min = 1, max = 64)))]
    pub command: Option<Vec<String>>,
    /// As whom it runs, by name or number. Default: nobody.
    pub user: Option<String>,
    /// From one start to the next, 100ms to 1h. Default: 2s.
    pub interval: Option<GoDuration>,
    /// When it is killed with all that it started, 10ms to 1h. Default: 1s.
    pub timeout: Option<GoDuration>,
    /// So many successes in a row make it well, 1-255. Default: 2.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 255)))]
    pub rise: Option<i64>,
    /// So many failures in a row make it fail, 1-255. Default: 2.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 255)))]
    pub fall: Option<i64>,
}

/// One that is told of an instance's changes of state: one of exec and socket.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Notify {
    /// A program; it gets `INSTANCE NAME STATE PRIORITY` as keepalived's notify scripts do, and more in CPLB_ variables.
    pub exec: Option<NotifyExec>,
    /// The absolute path of a Unix stream socket; it gets a line of JSON for each change.
    pub socket: Option<String>,
    /// Of which states: master (or active), backup, fault, stop. Default: all.
    #[cfg_attr(feature = "serde", schemars(with = "Option<Vec<ToldName>>", length(min = 1)))]
    pub on: Option<Vec<String>>,
    /// When it is given up, and a program killed with all that it started, 10ms to 10m. Default: 10s for exec, 1s for socket.
    pub timeout: Option<GoDuration>,
}

/// A state. For the schema alone: the validation reads texts, to say what is wrong with one.
#[cfg(feature = "serde")]
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum ToldName {
    Active,
    Master,
    Backup,
    Fault,
    Stop,
}

/// A program that is told.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct NotifyExec {
    /// The program's absolute path and its first arguments.
    #[cfg_attr(feature = "serde", schemars(required, length(min = 1, max = 64)))]
    pub command: Option<Vec<String>>,
    /// As whom it runs, by name or number. Default: nobody.
    pub user: Option<String>,
}
