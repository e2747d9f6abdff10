//! Files to a Spec. (being built)
