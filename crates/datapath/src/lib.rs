//! Loads the BPF programs, keeps their maps equal to a plan, reads their events.
//!
//! [`netns`], [`netlink`] and [`sysctl`] are the one place for network namespaces and for links, addresses and routes.

pub mod netlink;
pub mod netns;
pub mod sysctl;
