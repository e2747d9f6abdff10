//! The tables.
use anyhow::{Context, Result, ensure};
use lb_common::abi::{XDP_PROGRAM, XDP_PROGRAM_FRAGS};
use lb_tests::xdp::check::Desk;
use lb_tests::xdp::fixture;
use lb_tests::xdp::image::Places;
use lb_tests::xdp::object::{Globals, Loan};
use std::collections::BTreeSet;

/// Tries all cases of some tables; the error names all that failed.
fn try_all(program: &str, globals: Globals, places: Places) -> Result<()> {
    try_at(
        program,
        Desk::new(Loan::of(program, globals)?, fixture::scene()?, places)?,
    )
}

fn try_at(program: &str, mut desk: Desk) -> Result<()> {
    let (mut tried, mut failed) = (0, Vec::new());
    for table in fixture::tables()? {
        for case in fixture::table(&table)? {
            tried += 1;
            if let Err(error) = desk.case(&case) {
                failed.push(format!("{table}: {}: {error:#}", case.name));
            }
        }
    }
    desk.adds_up()?;
    println!("{program}: {tried} cases, {} packets", desk.sent());
    ensure!(
        failed.is_empty(),
        "{} of {tried} failed:\n{}",
        failed.len(),
        failed.join("\n\n")
    );
    Ok(())
}

#[test]
fn every_case_of_every_table() -> Result<()> {
    try_all(XDP_PROGRAM, Globals::default(), Places::Usual)
}

#[test]
fn every_case_where_frames_may_span_buffers() -> Result<()> {
    try_all(XDP_PROGRAM_FRAGS, Globals::default(), Places::Usual)
}

#[test]
fn every_case_where_virtual_ips_and_services_are_looked_for_longest() -> Result<()> {
    try_all(XDP_PROGRAM, Globals::default(), Places::Worst)
}

#[test]
fn every_case_while_each_decision_is_logged() -> Result<()> {
    let globals = Globals {
        trace: true,
        chain: false,
    };
    try_all(XDP_PROGRAM, globals, Places::Usual)
}

#[test]
fn every_case_by_the_model_alone() -> Result<()> {
    try_at("the model", Desk::new(None, fixture::scene()?, Places::Usual)?)
}

#[test]
fn names_of_cases_are_told_apart() -> Result<()> {
    let mut all = 0;
    for table in fixture::tables()? {
        let mut names = BTreeSet::new();
        for case in fixture::table(&table)? {
            all += 1;
            ensure!(names.insert(case.name.clone()), "{table}: {}: twice", case.name);
            case.steps().with_context(|| table.clone())?;
        }
    }
    println!("{all} cases");
    Ok(())
}
