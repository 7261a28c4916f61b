//! What keeps ports from being listened on, as whoever opens sockets finds it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// Ports that cannot be listened on: by the gateway as a [`crate::PortPlan`] has it, the port of its listeners, and whether for datagrams.
pub type Hindrances = BTreeMap<(Arc<str>, u16, bool), Hindrance>;

/// Why a port cannot be listened on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hindrance {
    /// What is missing.
    pub kind: HindranceKind,
    /// The same for people.
    pub message: Arc<str>,
}

/// What is missing where a port cannot be listened on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HindranceKind {
    /// The port: another one has it, or it is not permitted. Its listeners are not accepted (`PortUnavailable`).
    Port,
    /// The address, which is none of this host's (`AddressNotUsable`, or `AddressNotAssigned` where the gateway did not ask for it).
    Address(IpAddr),
    /// Sockets or memory (`NoResources`).
    Resources,
}
