//! From objects as users write them to the IR, a file for each kind.

pub(crate) mod network_policy;
