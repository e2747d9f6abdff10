//! `cplb schema`: the JSON Schema of all three files, made of the types that read them.
use crate::config::FileKind;
use lb_common::config::raw::{k0s, k0sctl, native};
use schemars::SchemaGenerator;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::process::ExitCode;

/// What `cplb schema` is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {}

/// Prints it.
pub fn run(_: &Args) -> ExitCode {
    let text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// One of three shapes, told apart by `kind`. k0s's files may hold anything beside what is read of them.
pub fn schema() -> Value {
    let mut generator = SchemaGenerator::default();
    let native = generator.subschema_for::<native::ControlPlaneLoadBalancer>();
    let k0s = generator.subschema_for::<k0s::ClusterConfig>();
    let k0sctl = generator.subschema_for::<k0sctl::Cluster>();
    let definitions = generator.take_definitions(true);
    let one_of: Vec<Value> = FileKind::ALL
        .iter()
        .map(|(file, kind, version)| {
            let shape = match file {
                FileKind::Native => &native,
                FileKind::K0s => &k0s,
                FileKind::K0sctl => &k0sctl,
            };
            json!({
                "title": kind,
                "allOf": [shape],
                "properties": { "apiVersion": { "const": version }, "kind": { "const": kind } },
                "required": ["apiVersion", "kind"],
            })
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cplb",
        "description": "A control plane's address and what is balanced behind it: a native file, a k0s.yaml or a k0sctl.yaml.",
        "type": "object",
        "oneOf": one_of,
        "$defs": definitions,
    })
}
