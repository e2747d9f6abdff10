//! Everything of cplb that has a file descriptor. The pure half is `lb-common`.
//!
//! ```text
//! cli -> config -> daemon -+-> vrrp (own thread): sockets, timers --- RoleView --+
//!                          +-> health: probes -------------------- HealthView ---+--> reconcile (the one writer)
//!                          +-> guardian (own process): takes over when we die    |      |
//!                          +-> admin: status                                     |      v
//!                                                                  sys/*, datapath/* <- Vec<Op>
//! ```
//! Layer rule: `libc`, `neli` and `netlink-*` are used in [`sys`] and [`datapath`] only; nothing above names their types.
pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod datapath;
pub mod guardian;
pub mod handover;
pub mod health;
pub mod logging;
pub mod notify;
pub mod reconcile;
pub mod rundir;
pub mod sys;
pub mod track;
pub mod vrrp;
