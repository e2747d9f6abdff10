//! Where nothing else steers connections to the userspace proxy: an nftables table of our own, `inet cplb_proxy`, that
//! gives them to the port that the proxy listens on.
//!
//! ```text
//! PREROUTING -100  from outside     to a virtual IP in `held4` or `held6`, and its port: to the proxy's port of it
//! OUTPUT     -100  from the node    the same
//! ```
//! What is held expires by itself unless it is [renewed](Redirect::renew), as the guard's does: a node whose processes
//! were all killed must not send its own clients to a port that nobody listens on.
use super::expr::{Base, Expressions, Field, Meta, Register};
use super::nft::{Element, Keys, Kind, Nft, SetKind, comment, request};
use super::{GuardError, Refusal};
use crate::sys::rtnl::attr;
use crate::sys::rtnl::channel::{CREATE, Request};
use lb_common::model::ServiceKey;
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// The table's name, of family inet.
pub const TABLE: &str = "cplb_proxy";
/// Changes with everything below that a table of an older version would lack.
const FORMAT: u32 = 1;
/// `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_OUT`.
const CHAINS: [(&str, u32); 2] = [("outside", 0), ("own", 3)];
/// `NF_IP_PRI_NAT_DST`.
const PRIORITY: i32 = -100;
const TCP: u8 = 6;

/// Which connections go where: virtual server to port.
pub type Ports = BTreeMap<ServiceKey, u16>;

/// The table in one network namespace.
pub struct Redirect {
    nft: Nft,
}

impl std::fmt::Debug for Redirect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redirect")
    }
}

impl Redirect {
    /// Opens it in the network namespace of the calling thread, and changes nothing. Needs a tokio runtime with I/O.
    pub fn open() -> Result<Self, String> {
        Nft::open(TABLE).map(|nft| Self { nft }).map_err(|e| words(&e))
    }

    /// Makes the table redirect exactly these, in one transaction. Nothing is redirected until [`Self::renew`].
    pub async fn apply(&mut self, ports: &Ports) -> Result<(), String> {
        if self
            .redirected()
            .await?
            .is_some_and(|there| there == expected(ports))
        {
            return Ok(());
        }
        // Adding makes sure that there is one to delete.
        let mut requests = vec![
            self.nft.new_table(),
            self.nft.delete_table(),
            self.nft.new_table(),
        ];
        for family in &FAMILIES {
            requests.push(
                self.nft
                    .new_set(family.held, family.id, family.keys, SetKind::Expiring),
            );
        }
        requests.extend(CHAINS.iter().map(|(name, hook)| self.chain(name, *hook)));
        for (name, _) in CHAINS {
            for (key, port) in ports {
                requests.push(self.nft.new_rule(name, &note(key, *port), rule(key, *port)));
            }
        }
        self.nft
            .commit("setting the proxy's table", requests)
            .await
            .map_err(|e| words(&e))
    }

    /// This node holds exactly these virtual IPs, until `timeout` from now.
    pub async fn renew(&mut self, held: &BTreeSet<IpAddr>, timeout: Duration) -> Result<(), String> {
        let mut requests = Vec::new();
        for family in &FAMILIES {
            requests.push(self.nft.flush(family.held));
            let elements: Vec<_> = held
                .iter()
                .filter(|a| a.is_ipv4() == (family.keys.length == 4))
                .map(|address| Element {
                    key: attr::octets(*address),
                    value: None,
                    timeout: Some(timeout),
                })
                .collect();
            requests.extend(self.nft.add(family.held, &elements));
        }
        self.nft
            .commit("renewing what the proxy's table holds", requests)
            .await
            .map_err(|e| words(&e))
    }

    /// Whether there is such a table, of whichever version.
    pub async fn is_there(&mut self) -> bool {
        let found = self.nft.elements(FAMILIES[0].held).await;
        matches!(found, Ok(Some(_)))
    }

    /// Takes the table away. One that is not there is removed already.
    pub async fn remove(&mut self) -> Result<(), String> {
        let requests = vec![self.nft.new_table(), self.nft.delete_table()];
        match self.nft.commit("removing the proxy's table", requests).await {
            Err(GuardError::Refused { refusal, .. })
                if matches!(refusal.errno, Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) =>
            {
                Ok(())
            }
            other => other.map_err(|e| words(&e)),
        }
    }

    /// The notes of its rules; `None` where there is no table.
    async fn redirected(&mut self) -> Result<Option<Vec<String>>, String> {
        let filter = self.nft.named(1);
        let found = self
            .nft
            .list(Kind::GetRule, filter)
            .await
            .map_err(|e| words(&e))?;
        let Some(found) = found.filter(|list| !list.is_empty()) else {
            return Ok(None);
        };
        let mut notes: Vec<String> = found
            .iter()
            .map(|rule| comment(rule).unwrap_or_default().to_owned())
            .collect();
        notes.sort_unstable();
        Ok(Some(notes))
    }

    fn chain(&self, name: &str, hook: u32) -> Request {
        let place = attr::Body::default()
            .be32(1, hook)
            .be32(2, PRIORITY.cast_unsigned());
        let body = self.nft.named(1).text(3, name).nest(4, place).text(7, "nat");
        request(Kind::NewChain, CREATE, body)
    }
}

/// What differs between the families.
struct Family {
    number: u8,
    id: u32,
    destination: Field,
    keys: Keys,
    held: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        number: libc::AF_INET as u8,
        id: 1,
        destination: Field {
            base: Base::Network,
            offset: 16,
            length: 4,
        },
        keys: Keys { kind: 7, length: 4 },
        held: "held4",
    },
    Family {
        number: libc::AF_INET6 as u8,
        id: 2,
        destination: Field {
            base: Base::Network,
            offset: 24,
            length: 16,
        },
        keys: Keys { kind: 8, length: 16 },
        held: "held6",
    },
];

const DESTINATION_PORT: Field = Field {
    base: Base::Transport,
    offset: 2,
    length: 2,
};

fn rule(key: &ServiceKey, port: u16) -> Expressions {
    let [four, six] = &FAMILIES;
    let family = if key.address.is_ipv4() { four } else { six };
    let address = attr::octets(key.address);
    Expressions::default()
        .meta(Meta::Family, Register::Three)
        .equals(Register::Three, &[family.number])
        .meta(Meta::Transport, Register::Three)
        .equals(Register::Three, &[TCP])
        .load(family.destination, Register::One)
        .equals(Register::One, &address)
        .within(family.held, Register::One)
        .load(DESTINATION_PORT, Register::Three)
        .equals(Register::Three, &key.port.to_be_bytes())
        .counter()
        .immediate(Register::Two, &port.to_be_bytes())
        .translate_to(family.number, Register::One, Register::Two)
}

fn note(key: &ServiceKey, port: u16) -> String {
    format!("cplb {FORMAT}: {key} to {port}")
}

fn expected(ports: &Ports) -> Vec<String> {
    let both = CHAINS.iter().flat_map(|_| ports.iter().map(|(k, p)| note(k, *p)));
    let mut notes: Vec<String> = both.collect();
    notes.sort_unstable();
    notes
}

/// Not in the guard's words.
fn words(error: &GuardError) -> String {
    match error {
        GuardError::Unsupported { reason } => format!("this kernel has no nf_tables: {reason}"),
        GuardError::Refused {
            action,
            refusal:
                refusal @ Refusal {
                    errno: Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::ENOENT,
                    ..
                },
        } => {
            format!("{action}: {refusal} (modules nf_tables, nft_chain_nat, nft_nat)")
        }
        other => other.to_string(),
    }
}
