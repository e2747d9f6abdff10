//! `cplb`: see [`lb_userspace`].
use std::process::ExitCode;

fn main() -> ExitCode {
    lb_userspace::cli::main()
}
