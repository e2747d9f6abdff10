//! `cplb cleanup`.
use super::RunDirArg;
use crate::reconcile::{Extent, Kernel, Purpose};
use crate::rundir::RunDir;
use std::process::ExitCode;
use std::time::Duration;

/// Where the crashed daemon ran.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    run_dir: RunDirArg,
    /// While a daemon or its guardian still leaves, wait for so many seconds before refusing.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    wait: u64,
    /// Leave what lets the API server here take the packets of directors elsewhere: dummyvip0 with its addresses.
    #[arg(long)]
    keep_real_server: bool,
}

/// Takes down everything that carries our mark or stands in the journal. Refuses while a daemon runs.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let run_dir = RunDir::open(&args.run_dir.run_dir, Duration::from_secs(args.wait))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut kernel = Kernel::open(&run_dir.journal(), Purpose::Leave).await?;
        let extent = if args.keep_real_server {
            Extent::ButRealServer
        } else {
            Extent::Everything
        };
        let (done, problems) = kernel.clear_and_tell(extent).await;
        for op in &done {
            println!("{op}");
        }
        if done.is_empty() && problems.is_empty() {
            println!("nothing of cplb's is on this host");
        }
        for problem in &problems {
            eprintln!("cplb: {problem}");
        }
        Ok(if problems.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(super::FAILED)
        })
    })
}
