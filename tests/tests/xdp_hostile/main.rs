//! The XDP program under everything that nobody would send: ten million packets, each judged in full, and floods.
//!
//! A call of `BPF_PROG_TEST_RUN` takes little more than a microsecond, so each packet is made here, run, and compared
//! with what the model says of it: verdict, every byte, and in the end every counter and every word of the tables.
//!
//! `CPLB_HOSTILE_SEED` (a number), `CPLB_HOSTILE_PACKETS` (how many), `CPLB_HOSTILE_BATCH` (only this one) by environment.
mod flood;
mod kernel_log;
mod mutate;
mod rng;
mod storm;
mod world;

use std::env;
use std::str::FromStr;

/// A number from the environment.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let value = text.parse().ok();
    assert!(value.is_some(), "{name}={text} is no number");
    value
}
