//! The kernel, one facility a file.
