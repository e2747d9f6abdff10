//! The XDP datapath end to end: three controllers that run `cplb`, native XDP on veth, real TLS and UDP through the
//! virtual IPs of both families, and everything that may go wrong while thousands of connections go on.
//!
//! Virtual IPs, servers and clients are those of [`cluster`]; what passes the switch is [`wire`]'s.
mod basics;
mod cluster;
mod drain;
mod flows;
mod holder;
mod pmtu;
mod stopped;
mod tunnel;
mod wire;
