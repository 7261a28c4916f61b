//! The lab's name server: what the `kubernetes` plugin of `CoreDNS` answers for pods and services, and a few names of
//! the outside.
//!
//! There is no balancing behind a service's address yet, so the name of a service leads to its ready pods, as a
//! headless one's does.

mod answer;
mod serve;
mod zone;

pub use self::{answer::answer, serve::serve, zone::Zone};

/// The domain of the cluster.
pub const DOMAIN: &str = "cluster.local";
