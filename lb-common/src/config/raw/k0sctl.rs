//! What is read of a k0sctl.yaml: the hosts' roles and addresses, and the k0s configuration inside it.
use super::k0s;
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(feature = "serde")]
use {
    schemars::JsonSchema,
    serde::{Deserialize, Serialize},
};

/// k0sctl's `Cluster`.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct Cluster {
    /// Names the cluster.
    pub metadata: Option<k0s::Metadata>,
    /// The cluster.
    pub spec: Option<ClusterSpec>,
}

/// k0sctl's spec; only these are read.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct ClusterSpec {
    /// The machines; the controllers among them are the real servers.
    pub hosts: Option<Vec<Host>>,
    /// k0s.
    pub k0s: Option<K0s>,
}

/// k0sctl's `spec.k0s`; only the configuration is read.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct K0s {
    /// What goes to every controller as its k0s.yaml.
    pub config: Option<k0s::ClusterConfig>,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct Host {
    /// controller and controller+worker are real servers; worker is not; single cannot be load-balanced.
    pub role: Option<String>,
    /// The address between nodes. Default: that of the connection.
    pub private_address: Option<String>,
    /// How k0sctl reaches it.
    pub ssh: Option<Connection>,
    /// How k0sctl reaches it, by the ssh program.
    #[cfg_attr(feature = "serde", serde(rename = "openSSH"))]
    pub open_ssh: Option<Connection>,
    /// Whether it is the machine that k0sctl runs on.
    pub localhost: Option<Localhost>,
}

/// How k0sctl reaches a machine; only the address is read.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct Connection {
    /// An IP address or a name.
    pub address: Option<String>,
}

/// The machine that k0sctl runs on.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase")
)]
pub struct Localhost {
    /// Whether it is.
    pub enabled: Option<bool>,
}
