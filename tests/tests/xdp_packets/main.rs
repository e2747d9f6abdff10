//! The XDP program packet by packet, through the kernel: the tables of `tests/fixtures/xdp`, and what no table can say.
mod chain;
mod control;
mod many;
mod memory;
mod tables;

use anyhow::Result;
use lb_common::abi::XDP_PROGRAM;
use lb_tests::xdp::check::Desk;
use lb_tests::xdp::fixture;
use lb_tests::xdp::image::Places;
use lb_tests::xdp::object::{Globals, Loan};

/// A program with the usual scene.
fn desk_of(program: &str) -> Result<Desk> {
    let object = Loan::of(program, Globals::default())?;
    let mut desk = Desk::new(object, fixture::scene()?, Places::Usual)?;
    desk.begin()?;
    Ok(desk)
}

/// The usual program with the usual scene.
fn desk() -> Result<Desk> {
    desk_of(XDP_PROGRAM)
}
