//! `cplb`: see `lb_userspace`.
fn main() {}
