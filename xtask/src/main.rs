//! `cargo xtask VERB`: everything that is done to this tree apart from `cargo build` and `cargo test`.
//!
//! One verb a file, under `verbs/`. Nothing is installed or downloaded without being named first, and
//! `--no-install` refuses it and says what it would have been. A command that fails is shown in full.
#![warn(missing_docs)]

mod apt;
mod cargo;
mod cmd;
mod ebpf;
mod lab;
mod paths;
mod suite;
mod tools;
mod verbs;
mod vm;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match verbs::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
