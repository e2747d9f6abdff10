//! What the program is given in a test, in the words of an operator: virtual IPs, services, pools, backends.
//!
//! `tests/fixtures/xdp/scene.yaml` is the one that the tables share; a case says what is different.
use super::names::{Mac, Names};
use anyhow::{Context, Result, bail, ensure};
use lb_common::abi::hash::Key;
use lb_common::abi::tables;
use saphyr::{LoadableYamlNode, Yaml};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A scene.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Names of addresses: of the scene's `names`, its virtual IPs and its backends.
    pub names: Names,
    /// Of the hash.
    pub key: Key,
    /// Whether the lease runs.
    pub lease: bool,
    /// New words of the flow table that a processor may make in 1/64 of a unit.
    pub inserts: u64,
    /// Jiffies are divided by two so often; 63: the time stands still at 0.
    pub stamp_shift: u64,
    /// Virtual IPs.
    pub vips: Vec<Vip>,
    /// Virtual servers.
    pub services: Vec<Service>,
    /// Patterns that fill rings: names of backends, `-` for nobody.
    pub pools: Vec<(String, Vec<u16>)>,
    /// Pools whose places never had another backend.
    pub settled: BTreeSet<String>,
    /// Backends by number.
    pub backends: BTreeMap<u16, Backend>,
    /// What a backend is to one pool, where that differs: by pool and number.
    pub members: BTreeMap<(usize, u16), u8>,
}

/// A virtual IP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vip {
    /// What frames call it.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its number.
    pub index: u16,
    /// Tags that frames for it have, outer one first.
    #[serde(default)]
    pub vlans: Vec<u16>,
    /// MAC address of its interface; filled in from `us`.
    #[serde(skip)]
    pub mac: Mac,
}

/// A virtual server.
#[derive(Clone, Debug)]
pub struct Service {
    /// Number of its virtual IP.
    pub vip: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// 0: every port.
    pub port: u16,
    /// Which of the pools.
    pub pool: usize,
    /// Length of the mask that affinity goes by, and for how many units it lasts.
    pub affinity: Option<(u8, u32)>,
    /// Its place in `SERVICE_STATS`.
    pub stats: u32,
}

/// Where packets go.
#[derive(Clone, Debug)]
pub struct Backend {
    /// What cases call it.
    pub name: String,
    /// `BACKEND_*`.
    pub flags: u32,
    /// `MEMBER_*`: what it is to all pools.
    pub member: u8,
    /// Interface to send from.
    pub ifindex: u32,
    /// Of the backend, or of the next hop to it.
    pub mac: Mac,
    /// Of the interface to send from.
    pub src_mac: Mac,
    /// For a tunnel.
    pub mtu: u32,
    /// Outer source and destination.
    pub tunnel: Option<(IpAddr, IpAddr)>,
}

/// Ingress of `BPF_PROG_TEST_RUN`: the loopback interface.
pub const INGRESS: u32 = 1;
/// Where backends that are elsewhere are sent to.
pub const ELSEWHERE: u32 = 2;

impl Scene {
    /// Reads a scene's file.
    pub fn parse(text: &str) -> Result<Self> {
        let written: Written = yaml(text)?;
        written.scene()
    }

    /// A backend's number and itself, by its name.
    pub fn backend(&mut self, name: &str) -> Result<(u16, &mut Backend)> {
        let found = self.backends.iter_mut().find(|(_, b)| b.name == name);
        let (number, backend) = found.with_context(|| format!("no backend is called {name}"))?;
        Ok((*number, backend))
    }

    /// Numbers for a pool's pattern.
    pub fn pattern(&self, names: &[String]) -> Result<Vec<u16>> {
        let number = |name: &String| {
            let found = self.backends.iter().find(|(_, b)| b.name == *name);
            match found {
                _ if name == "-" => Ok(0),
                Some((number, _)) => Ok(*number),
                None => bail!("no backend is called {name}"),
            }
        };
        names.iter().map(number).collect()
    }

    /// The backend's number at a ring's place.
    pub fn ring(&self, pool: usize, place: u32) -> u16 {
        let pattern = &self.pools[pool].1;
        pattern[place as usize % pattern.len()]
    }

    /// Whether the pool's places never had another backend.
    pub fn is_settled(&self, pool: usize) -> bool {
        self.settled.contains(&self.pools[pool].0)
    }

    /// Puts a backend into a state: `up`, `dead`, `draining`, `silent` (no neighbour).
    pub fn change(&mut self, name: &str, state: &str) -> Result<()> {
        let (_, backend) = self.backend(name)?;
        backend.member = member(if state == "silent" { "up" } else { state })?;
        backend.flags |= tables::BACKEND_REACHABLE;
        if state == "silent" {
            backend.flags &= !tables::BACKEND_REACHABLE;
        }
        Ok(())
    }

    /// Says what a backend is to one pool alone: `up`, `dead`, `draining`.
    pub fn change_member(&mut self, pool: &str, name: &str, state: &str) -> Result<()> {
        let pool = self.pools.iter().position(|(known, _)| known == pool);
        let (number, _) = self.backend(name)?;
        let pool = pool.context("no such pool")?;
        self.members.insert((pool, number), member(state)?);
        Ok(())
    }

    /// `MEMBER_*`: what a backend is to a pool.
    pub fn member(&self, pool: usize, number: u16) -> u8 {
        let everywhere = || self.backends.get(&number).map_or(0, |b| b.member);
        self.members
            .get(&(pool, number))
            .copied()
            .unwrap_or_else(everywhere)
    }
}

fn member(state: &str) -> Result<u8> {
    match state {
        "up" => Ok(tables::MEMBER_ALIVE | tables::MEMBER_NEW),
        "draining" => Ok(tables::MEMBER_ALIVE),
        "dead" => Ok(0),
        other => bail!("no state of a backend is called {other}"),
    }
}

/// As it is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    names: BTreeMap<String, String>,
    vips: Vec<Vip>,
    backends: Vec<WrittenBackend>,
    pools: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    settled: BTreeSet<String>,
    services: Vec<WrittenService>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBackend {
    name: String,
    number: u16,
    mac: String,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    local: bool,
    #[serde(default)]
    elsewhere: bool,
    #[serde(default)]
    tunnel: Option<[IpAddr; 2]>,
    #[serde(default)]
    mtu: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenService {
    on: Vec<String>,
    port: String,
    pool: String,
    #[serde(default)]
    affinity: Option<u32>,
    #[serde(default)]
    mask: Option<u8>,
}

impl Written {
    fn scene(self) -> Result<Scene> {
        let mut names = Names::default();
        for (name, address) in &self.names {
            names.add(name, address)?;
        }
        let us = names.mac("us")?;
        let mut vips = self.vips;
        for vip in &mut vips {
            vip.mac = us;
            names.add(&vip.name, &vip.address.to_string())?;
        }
        let mut words = [0; 12];
        for (i, word) in (0x9d2c_5681_u32..).zip(&mut words) {
            *word = i.wrapping_mul(0x85eb_ca6b);
        }
        let mut scene = Scene {
            names,
            key: Key {
                words,
                last: 0x1b87_3593_cc9e_2d51,
            },
            lease: true,
            inserts: u64::MAX,
            stamp_shift: 63,
            vips,
            services: Vec::new(),
            pools: Vec::new(),
            settled: self.settled,
            backends: BTreeMap::new(),
            members: BTreeMap::new(),
        };
        for backend in self.backends {
            backend.add(&mut scene, us)?;
        }
        for (name, pattern) in self.pools {
            let pattern = scene.pattern(&pattern)?;
            scene.pools.push((name, pattern));
        }
        for service in self.services {
            service.add(&mut scene)?;
        }
        Ok(scene)
    }
}

impl WrittenBackend {
    fn add(self, scene: &mut Scene, us: Mac) -> Result<()> {
        scene.names.add(&self.name, &self.mac)?;
        let tunnel = self.tunnel.map(|[from, to]| (from, to));
        let kind = match tunnel {
            Some((IpAddr::V4(_), _)) => tables::BACKEND_TUNNEL4,
            Some((IpAddr::V6(_), _)) => tables::BACKEND_TUNNEL6,
            None if self.local => tables::BACKEND_LOCAL,
            None => 0,
        };
        let backend = Backend {
            name: self.name.clone(),
            flags: kind,
            member: 0,
            ifindex: if self.elsewhere { ELSEWHERE } else { INGRESS },
            mac: scene.names.mac(&self.name)?,
            src_mac: if self.elsewhere {
                scene.names.mac("us2")?
            } else {
                us
            },
            mtu: self.mtu,
            tunnel,
        };
        ensure!(scene.backends.insert(self.number, backend).is_none());
        scene.change(&self.name, self.state.as_deref().unwrap_or("up"))
    }
}

impl WrittenService {
    fn add(&self, scene: &mut Scene) -> Result<()> {
        let (protocol, port) = self.port.split_once(' ').context("a port is like: tcp 443")?;
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            other => bail!("{other} is not balanced"),
        };
        let pool = scene.pools.iter().position(|(name, _)| *name == self.pool);
        for name in &self.on {
            let vip = scene
                .vips
                .iter()
                .find(|v| v.name == *name)
                .context(name.clone())?;
            scene.services.push(Service {
                vip: vip.index,
                protocol,
                port: port.parse()?,
                pool: pool.with_context(|| format!("no pool is called {}", self.pool))?,
                affinity: self.affinity.map(|units| {
                    (
                        self.mask.unwrap_or(if vip.address.is_ipv4() { 32 } else { 128 }),
                        units,
                    )
                }),
                // Never equal to anything else's number.
                stats: 500 + u32::try_from(scene.services.len())?,
            });
        }
        Ok(())
    }
}

/// Reads a YAML document into something that serde knows.
pub fn yaml<T: DeserializeOwned>(text: &str) -> Result<T> {
    let documents = Yaml::load_from_str(text)?;
    let [document] = &documents[..] else {
        bail!("one YAML document, please")
    };
    Ok(serde_json::from_value(value(document)?)?)
}

fn value(yaml: &Yaml<'_>) -> Result<Value> {
    if let Some(items) = yaml.as_sequence() {
        return items
            .iter()
            .map(value)
            .collect::<Result<Vec<_>>>()
            .map(Value::Array);
    }
    if let Some(mapping) = yaml.as_mapping() {
        let mut map = Map::new();
        for (key, item) in mapping {
            let key = key.as_str().context("a key that is no text")?;
            ensure!(map.insert(key.to_owned(), value(item)?).is_none(), "{key}: twice");
        }
        return Ok(Value::Object(map));
    }
    if let Some(text) = yaml.as_str() {
        return Ok(Value::String(text.to_owned()));
    }
    if let Some(number) = yaml.as_integer() {
        return Ok(Value::Number(Number::from(number)));
    }
    if let Some(truth) = yaml.as_bool() {
        return Ok(Value::Bool(truth));
    }
    ensure!(
        yaml.is_null(),
        "neither text nor a number, a list or a mapping: {yaml:?}"
    );
    Ok(Value::Null)
}
