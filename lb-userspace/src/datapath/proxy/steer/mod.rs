//! How connections to a virtual IP and port come to a listening socket of ours, although an API server may listen on
//! that port of every address of the node.
//!
//! 1. By a socket lookup program ([`program`]): no rule anywhere, local clients included, gone with this process.
//! 2. Where the kernel or a missing capability forbids that, by listening on the virtual IP and port itself, where they
//!    are free.
//! 3. Where they are not, by an nftables table of our own.
mod program;

use super::listener;
use lb_common::model::ServiceKey;
use lb_common::proxy::{Keepalive, Steering as Asked};
use program::Program;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Which of the three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// By the program.
    Program,
    /// By listening there. Why not by the program.
    Bound(String),
    /// By nftables. Why not by either of the others.
    Redirected(String),
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("steered by a socket lookup program"),
            Self::Bound(why) => write!(f, "listening on the virtual IP itself ({why})"),
            Self::Redirected(why) => write!(f, "redirected by nftables, table inet cplb_proxy ({why})"),
        }
    }
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub(super) enum SteerError {
    /// Somebody else listens there.
    #[error(
        "{key}: the proxy cannot listen there ({error}), and proxy.steering says that nothing else is to be tried"
    )]
    Taken {
        /// The virtual server.
        key: ServiceKey,
        /// Why.
        error: Errno,
    },
    /// No socket at all.
    #[error("{key}: a listening socket: {error}")]
    Socket {
        /// The virtual server.
        key: ServiceKey,
        /// Why.
        error: Errno,
    },
}

/// A virtual server's socket and how it gets its clients.
#[derive(Debug)]
pub(super) struct Steered {
    pub(super) socket: Arc<OwnedFd>,
    pub(super) how: How,
}

/// Every way that was opened.
#[derive(Debug)]
pub(super) struct Steering {
    asked: Asked,
    program: Result<Program, String>,
    redirected: BTreeMap<ServiceKey, u16>,
}

impl Steering {
    /// Loads the program into the network namespace of the calling thread, where it can.
    pub(super) fn open(asked: Asked) -> Self {
        let program = match asked {
            Asked::Auto => Program::load().map_err(|e| e.to_string()),
            Asked::Bind | Asked::Nftables => Err(format!("proxy.steering is {}", asked.name())),
        };
        Self {
            asked,
            program,
            redirected: BTreeMap::new(),
        }
    }

    /// Why the program is not used.
    pub(super) fn missing(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }

    /// A socket that gets the connections to `key`.
    ///
    /// `there` is one that an earlier process had for it.
    pub(super) fn add(
        &mut self,
        key: ServiceKey,
        keepalive: Option<&Keepalive>,
        there: Option<OwnedFd>,
    ) -> Result<Steered, SteerError> {
        let no_socket = |error| SteerError::Socket { key, error };
        let any_port = SocketAddr::new(key.address, 0);
        let mut there = there;
        let why = match &mut self.program {
            Ok(program) => {
                // Any port of the virtual IP, which nobody else is kept from by that.
                let socket = match there.take() {
                    Some(socket) => socket,
                    None => listener::open(any_port, keepalive).map_err(no_socket)?,
                };
                match program.steer(key, &socket) {
                    Ok(()) => {
                        return Ok(Steered {
                            socket: Arc::new(socket),
                            how: How::Program,
                        });
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error.clone(),
        };
        let on_port = |s: &OwnedFd| listener::port(s) == Ok(key.port);
        let bound = match (self.asked, there.take_if(|s| on_port(s))) {
            (Asked::Auto | Asked::Bind, Some(socket)) => Ok(socket),
            (Asked::Auto | Asked::Bind, None) => {
                listener::open(SocketAddr::new(key.address, key.port), keepalive).map_err(Some)
            }
            (Asked::Nftables, _) => Err(None),
        };
        match bound {
            Ok(socket) => Ok(Steered {
                socket: Arc::new(socket),
                how: How::Bound(why),
            }),
            Err(Some(error)) if self.asked == Asked::Bind => Err(SteerError::Taken { key, error }),
            Err(bind) => {
                let socket = match there {
                    Some(socket) => socket,
                    None => listener::open(any_port, keepalive).map_err(no_socket)?,
                };
                let port = listener::port(&socket).map_err(no_socket)?;
                self.redirected.insert(key, port);
                Ok(Steered {
                    socket: Arc::new(socket),
                    how: How::Redirected(match bind {
                        Some(error) => format!("{why}; nor can it listen on the virtual IP itself: {error}"),
                        None => why,
                    }),
                })
            }
        }
    }

    /// What nftables has to redirect, and to which port.
    pub(super) fn redirected(&self) -> &BTreeMap<ServiceKey, u16> {
        &self.redirected
    }

    /// Connections to `key` are nobody's business here any more.
    pub(super) fn remove(&mut self, key: ServiceKey) {
        if let Ok(program) = &mut self.program {
            program.leave(key);
        }
        self.redirected.remove(&key);
    }
}
