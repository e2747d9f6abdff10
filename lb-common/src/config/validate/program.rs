//! A program that the file names: `command` and `user`.
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use crate::health::Command;
use alloc::format;
use alloc::string::String;

const MAX_ARGUMENTS: usize = 64;
const MAX_BYTES: usize = 16 * 1024;

/// `at` is where `command` and `user` are. `None`: they have problems, and they are noted.
pub(super) fn program(
    command: Option<&[String]>,
    user: Option<&str>,
    at: &Path,
    f: &mut Findings,
) -> Option<Command> {
    let before = f.problems.len();
    let at_command = at.key("command");
    let command = command.unwrap_or_default();
    match command.first() {
        None => f.refuse(
            Problem::new(&at_command, "command must be defined")
                .help("give the program and its arguments as a list: [/usr/local/bin/check, --fast]"),
        ),
        Some(p) if !p.starts_with('/') => f.refuse(
            Problem::new(&at_command.index(0), format!("{p:?} is no absolute path"))
                .help("no shell and no search path is in between; for a shell write [/bin/sh, -c, TEXT]"),
        ),
        Some(_) => {}
    }
    let bytes: usize = command.iter().map(String::len).sum();
    if command.len() > MAX_ARGUMENTS || bytes > MAX_BYTES {
        let message = format!("at most {MAX_ARGUMENTS} arguments and {MAX_BYTES} bytes of them are taken");
        f.refuse(Problem::new(&at_command, message));
    }
    if let Some(i) = command.iter().position(|a| a.contains('\0')) {
        f.refuse(Problem::new(
            &at_command.index(i),
            "an argument cannot hold a NUL character",
        ));
    }
    let sound =
        |u: &str| !u.is_empty() && u.len() <= 32 && u.chars().all(|c| c.is_ascii_graphic() && c != ':');
    if user.is_some_and(|u| !sound(u)) {
        f.refuse(
            Problem::new(&at.key("user"), "user is a name or a number of an account")
                .help("leave it out for nobody, or write root if it has to be"),
        );
    }
    (f.problems.len() == before).then(|| Command {
        command: command.into(),
        user: user.map(Into::into),
    })
}
