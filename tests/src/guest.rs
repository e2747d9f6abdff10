//! What `cargo xtask` asks of `vm-init`, and the markers that it answers with on the console.
use serde::{Deserialize, Serialize};
use std::env;

/// Starts a line of `vm-init`; nothing else writes it.
pub const MARK: &str = "@@cplb-vm ";
/// Where the plan is in the guest.
pub const PLAN: &str = "/vm/plan.json";
/// Set in the environment of everything that runs in the guest.
pub const VARIABLE: &str = "CPLB_VM";

/// Whether this process runs in the guest.
pub fn inside() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// What the guest does.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Loaded in this order.
    pub modules: Vec<String>,
    /// Run in this order, one after another.
    pub commands: Vec<Command>,
}

/// One program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// What the markers call it.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// After which it is killed.
    pub limit_seconds: u64,
}
