//! Health end to end: API servers that stop, die, hang and vanish behind whichever datapath this kernel has, the virtual
//! IP that follows health, and the operator's programs that are asked and told.
//!
//! Times are printed and never asserted: how many requests failed, where none may, is.
mod cluster;
mod follow;
mod hooks;
mod requests;
mod stops;
