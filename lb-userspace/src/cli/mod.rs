//! The verbs of `cplb`, one a file: arguments, and a function that does it.
pub mod check;
pub mod schema;
