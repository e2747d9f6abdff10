//! From what a file says to a [`Spec`]: the files' shapes, their validation, and the way back.
//!
//! ```text
//! text -> document (lb-userspace) -> raw::File --+-- validate --> Valid { spec, warnings, .. }
//!                              Facts (flags, DNS) +           \-> every Problem, each with its place
//! Spec -> resolved (the native file with every default filled in)
//! ```
//! Nothing here knows YAML or a position: a [`Problem`] has a [`Path`], and whoever read the file knows where that is.
//! [`validate()`] is total: whatever the raw types can hold gives a `Spec` or at least one problem.
pub mod duration;
pub mod facts;
pub mod path;
pub mod problem;
pub mod raw;
pub mod resolved;
mod validate;

pub use duration::GoDuration;
pub use facts::{Backend, Controller, Facts, Host, RealServerSource, controllers};
pub use path::{Path, Segment};
pub use problem::{Findings, Place, Problem, Warning};
pub use validate::validate;

use crate::spec::Spec;
use alloc::vec::Vec;

/// `apiVersion` of the native file.
pub const API_VERSION: &str = "cplb.io/v1alpha1";
/// `kind` of the native file.
pub const KIND: &str = "ControlPlaneLoadBalancer";
/// `apiVersion` of a k0s.yaml.
pub const K0S_API_VERSION: &str = "k0s.k0sproject.io/v1beta1";
/// `kind` of a k0s.yaml.
pub const K0S_KIND: &str = "ClusterConfig";
/// `apiVersion` of a k0sctl.yaml.
pub const K0SCTL_API_VERSION: &str = "k0sctl.k0sproject.io/v1beta1";
/// `kind` of a k0sctl.yaml.
pub const K0SCTL_KIND: &str = "Cluster";

/// A file that holds no nonsense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valid {
    /// What is to be true.
    pub spec: Spec,
    /// What is accepted and should not go unsaid.
    pub warnings: Vec<Warning>,
    /// Where the real servers of each of the spec's virtual servers come from, in the spec's order.
    pub sources: Vec<RealServerSource>,
}
