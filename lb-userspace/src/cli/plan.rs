//! `cplb plan`: what `run` would change on this host, as a diff, first as a backup and then as the holder.
use super::{BAD_INPUT, ConfigArg, RunDirArg};
use crate::config;
use crate::reconcile::{self, Kernel, Purpose};
use crate::vrrp;
use lb_common::plan::{Op, Role};
use std::process::ExitCode;

/// Of what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    run_dir: RunDirArg,
}

/// Reads, plans, prints; writes nothing.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let overrides = config::Overrides {
        backends: args.config.backends.clone(),
    };
    let loaded = match config::load(&args.config.config, &overrides) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    loaded.warn();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut kernel = Kernel::open(&args.run_dir.run_dir.join("journal.json"), Purpose::Look).await?;
        let found = vrrp::resolve_interfaces(&loaded.spec)?;
        let role = |holds: bool| -> Vec<Role> {
            found
                .iter()
                .map(|(instance, interface)| Role {
                    name: instance.name.clone(),
                    interface: interface.clone(),
                    virtual_ips: instance.virtual_ips.clone(),
                    holds: holds && interface.is_some(),
                })
                .collect()
        };
        for (instance, _) in found.iter().filter(|(_, interface)| interface.is_none()) {
            println!(
                "! {}: no interface matches: it would take no part until one does",
                instance.name
            );
        }
        let backup = reconcile::planned(&loaded.spec, &role(false), &mut kernel).await?;
        let holder = reconcile::planned(&loaded.spec, &role(true), &mut kernel).await?;
        section(
            "at the start, and while another node holds the virtual IPs",
            &backup,
        );
        let more: Vec<Op> = holder.into_iter().filter(|op| !backup.contains(op)).collect();
        section("besides, while this node holds all of them", &more);
        for line in reconcile::foreseen(&loaded.spec, &role(true), &mut kernel).await? {
            println!("! {line}");
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn section(title: &str, ops: &[Op]) {
    println!("{title}:");
    if ops.is_empty() {
        println!("  nothing to change");
    }
    for op in ops {
        println!("  {op}");
    }
}
