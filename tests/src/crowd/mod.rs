//! Many connections at once, of which each knows whether it is still the one it was.
//!
//! A [`server`] answers each line with who it is, whose connection it sees and how many lines that connection had; a
//! [`Crowd`] asks on all of its connections, again and again, and compares. So a connection that was moved, reset,
//! forgotten or rewritten is told from one that goes on. Both are one thread around `epoll`, with or without TLS.
//!
//! | client sends | server answers |
//! | --- | --- |
//! | `ask` | `NODE CLIENT COUNT` |
//! | `put N`, and N bytes | the same, once it has them all |
//! | `get N` | the same, and N bytes behind it |
//! | `GET /readyz` of HTTP | 200 and `ok`, 500 once it was told to stop |
//! | `GET /...` of HTTP | 200 and `NODE` |
mod client;
mod conduit;
pub mod server;
mod transfer;

pub use client::{Broken, Crowd, Member, Plan, Reach};
pub use transfer::{Line, addresses, datagram, line};

use anyhow::{Context, Result};
use std::net::SocketAddr;

/// What a server says of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Which node speaks.
    pub node: String,
    /// Whose connection it sees.
    pub client: SocketAddr,
    /// Lines that this connection had so far, this one with them.
    pub count: u64,
}

impl Word {
    fn parse(text: &str) -> Result<Self> {
        let mut words = text.split(' ');
        let mut next = || {
            words
                .next()
                .with_context(|| format!("no answer of a server: {text:?}"))
        };
        Ok(Self {
            node: next()?.to_owned(),
            client: next()?.parse()?,
            count: next()?.parse()?,
        })
    }

    fn render(&self) -> String {
        format!("{} {} {}\n", self.node, self.client, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_was_written() {
        let word = Word {
            node: "c1".into(),
            client: "[fd00::9]:40000".parse().unwrap(),
            count: 7,
        };
        assert_eq!(Word::parse(word.render().trim_end()).unwrap(), word);
        assert!(Word::parse("c1 nobody 7").is_err() && Word::parse("c1").is_err());
    }
}
