//! Logs: for people on a terminal, JSON lines otherwise, on standard error.
//!
//! Lines go through a thread of their own: a terminal or a pipe that nobody reads must not hold up the election. When
//! its queue is full, lines are dropped and counted, not waited for.
use clap::ValueEnum;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to log: error, warn, info, debug, trace, or per module (`info,lb_userspace::vrrp=trace`).
    #[arg(
        long,
        global = true,
        env = "CPLB_LOG",
        value_name = "FILTER",
        default_value = "info",
        help_heading = "Logging"
    )]
    log: String,
    /// How lines look.
    #[arg(
        long,
        global = true,
        env = "CPLB_LOG_FORMAT",
        value_enum,
        default_value = "auto",
        help_heading = "Logging"
    )]
    log_format: Format,
}

/// Writes what is queued when it is dropped.
static GUARD: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Writes what is queued. To be called before the process ends, whichever way; nothing is logged after it.
pub fn flush() {
    let guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(guard);
}

/// Installs the subscriber. A filter that cannot be read is said, and `info` used.
pub fn init(args: &Args) {
    let (filter, bad) = match EnvFilter::try_new(&args.log) {
        Ok(filter) => (filter, None),
        Err(e) => (EnvFilter::new("info"), Some(e.to_string())),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(16_384)
        .thread_name("log")
        .finish(std::io::stderr());
    *GUARD.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    let terminal = std::io::stderr().is_terminal();
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false);
    let json = match args.log_format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let set = if json {
        tracing::subscriber::set_global_default(base.json().flatten_event(true).finish())
    } else {
        tracing::subscriber::set_global_default(base.with_ansi(terminal).finish())
    };
    if set.is_err() {
        eprintln!("cplb: a log subscriber was installed already");
    }
    if let Some(why) = bad {
        tracing::warn!(filter = args.log, why, "--log cannot be read: logging at info");
    }
}
