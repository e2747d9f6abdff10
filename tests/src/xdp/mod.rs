//! The XDP program run through the kernel, packet by packet, and what it should have done.
//!
//! | module | has |
//! | --- | --- |
//! | [`frame`], [`names`] | a frame as a line of text, and what addresses are called there |
//! | [`scene`], [`image`] | virtual IPs, services and backends, and the maps' bytes for them |
//! | [`object`] | the loaded program with its maps; `BPF_PROG_TEST_RUN` |
//! | [`model`] | the rules said again, as the judge |
//! | [`fixture`], [`check`] | the tables of `tests/fixtures/xdp`, and a case tried |
//! | [`tally`] | what was counted |
//! | [`wire`] | whether a frame is sound: lengths and checksums by `etherparse` |
mod build;
pub mod check;
pub mod fixture;
pub mod frame;
pub mod image;
pub mod model;
pub mod names;
pub mod object;
pub mod scene;
pub mod tally;
pub mod wire;
