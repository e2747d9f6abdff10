//! The table of a pool.
