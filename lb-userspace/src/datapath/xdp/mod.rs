mod control;
pub mod object;
mod verifier;
