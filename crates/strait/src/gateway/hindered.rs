//! Ports that cannot be listened on: what statuses say of them, and that they are tried again.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use strait_proxy::GateError;
use strait_route::{Hindrance, HindranceKind, Hindrances};

/// After how long what could not be listened on is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// Places, each with whether it is for datagrams.
#[derive(Default)]
pub(super) struct Hindered(BTreeSet<(SocketAddr, bool)>);

impl Hindered {
    pub(super) fn is_some(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn contains(&self, address: IpAddr, port: u16, udp: bool) -> bool {
        self.0.contains(&(SocketAddr::new(address, port), udp))
    }

    /// Takes in what cannot be listened on now. Gives the places that were so before and are not any more.
    pub(super) fn replace(&mut self, errors: &[GateError]) -> Vec<(SocketAddr, bool)> {
        let now = errors.iter().filter_map(|error| match error {
            GateError::Listen { at, udp, .. } => Some((*at, *udp)),
            GateError::Admin { .. } | GateError::AccessLog(_) | GateError::Worker(_) => None,
        });
        let before = std::mem::replace(&mut self.0, now.collect());
        before.difference(&self.0).copied().collect()
    }
}

/// The same by gateways and ports of their listeners. Of several addresses the first is told.
pub(super) fn hindrances(errors: &[GateError]) -> Hindrances {
    let mut all = Hindrances::new();
    for error in errors {
        let GateError::Listen { at, gateway, port, udp, source } = error else { continue };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "whatever else there is, the port and the address are not it"
        )]
        let kind = match source.kind() {
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied => HindranceKind::Port,
            ErrorKind::AddrNotAvailable => HindranceKind::Address(at.ip()),
            _ => HindranceKind::Resources,
        };
        let message = format!("cannot listen on {at}: {source}; it is tried again every second").into();
        all.entry((Arc::clone(gateway), *port, *udp)).or_insert(Hindrance { kind, message });
    }
    all
}
