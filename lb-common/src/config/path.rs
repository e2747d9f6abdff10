//! Where in a file something is: a list of keys and indices, written as `spec.vrrpInstances[0].virtualIPs[1]`.
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// One step from a node to a node inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Into a mapping.
    Key(String),
    /// Into a list, counted from 0.
    Index(usize),
}

/// The way from the document's root to a node. The node need not exist: a missing key has a path as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Segment>);

impl Path {
    /// The document itself.
    pub const ROOT: Self = Self(Vec::new());

    /// From steps.
    pub const fn new(segments: Vec<Segment>) -> Self {
        Self(segments)
    }

    /// From keys alone: `Path::of(&["spec", "api"])`.
    pub fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|k| Segment::Key((*k).into())).collect())
    }

    /// The node under `key`.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.then(Segment::Key(key.into()))
    }

    /// The `index`th node of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Segment::Index(index))
    }

    /// The node one step further.
    #[must_use]
    pub fn then(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }

    /// `other`, seen from here.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut path = self.clone();
        path.0.extend(other.0.iter().cloned());
        path
    }

    /// The steps, outermost first.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this node is `other` or lies inside it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(k) if i == 0 => f.write_str(k)?,
                Segment::Key(k) => write!(f, ".{k}")?,
                Segment::Index(n) => write!(f, "[{n}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_path_reads_as_people_write_it() {
        let instances = Path::of(&["spec", "vrrpInstances"]);
        let vip = instances.index(0).key("virtualIPs").index(1);
        assert_eq!(vip.to_string(), "spec.vrrpInstances[0].virtualIPs[1]");
        assert_eq!(Path::ROOT.to_string(), "");
        assert!(vip.is_within(&instances));
        assert!(!instances.is_within(&vip));
    }
}
