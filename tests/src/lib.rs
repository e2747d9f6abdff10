//! What the suites are built from: nodes in network namespaces, servers and clients in them, and what watches them.
//!
//! | module | has |
//! | --- | --- |
//! | [`netns`] | a namespace of network, mounts and `/run`, to run closures and programs in |
//! | [`topology`] | [`Lab`](topology::Lab): nodes on one switch, cables that can be cut |
//! | [`veth`] | native XDP between nodes |
//! | [`daemon`] | a started program with all its descendants, its log and every way to end it |
//! | [`cplb`], [`keepalived`] | the two daemons, started in a node |
//! | [`apiserver`], [`client`] | TLS servers that say who they are and whom they saw, and their client |
//! | [`load`] | a server and clients that keep a TCP proxy busy |
//! | [`crowd`] | thousands of connections that know whether they are still the same |
//! | [`prober`] | an echo every 2 ms, and the gaps in the answers |
//! | [`capture`] | frames with timestamps, and how often each crossed the switch |
//! | [`inject`] | frames as somebody else on the wire would send them |
//! | [`forge`] | whole frames: segments of no connection, floods, a router's word that a packet was too long |
//! | [`decap`] | the far end of a tunnel |
//! | [`native`], [`adverts`], [`standing`] | our own file, adverts as bytes and as seen, what a daemon of ours says |
//! | [`cases`], [`pair`], [`ready`] | rows of a table, side by side; two of ours; addresses that can be used |
//! | [`xdp`] | the XDP program run packet by packet, without a network |
//! | [`programs`] | where the lab's own programs are |
//! | [`wait`] | waiting for a condition with a limit, and [`skip!`] |
//!
//! Nothing here leaves the namespaces that it made, and everything is taken down when it is dropped, also after a
//! panic. What a killed run left behind is swept at the next start.
#![warn(missing_docs)]

pub mod adverts;
pub mod apiserver;
pub mod bench;
pub mod capture;
pub mod cases;
pub mod client;
pub mod cplb;
pub mod crowd;
pub mod daemon;
pub mod decap;
pub mod forge;
pub mod guest;
pub mod inject;
pub mod keepalived;
pub mod load;
pub mod native;
pub mod netns;
pub mod pair;
pub mod prober;
pub mod programs;
pub mod ready;
pub mod standing;
pub mod topology;
pub mod veth;
pub mod wait;
pub mod xdp;
