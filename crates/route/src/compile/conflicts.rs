//! Listeners of one gateway that cannot be told apart.

use std::collections::BTreeMap;

use strait_api::Listener;

use super::gateways::ListenerState;
use crate::status::Condition;

/// What a listener speaks, and its hostname.
type Host<'a> = (u8, Option<&'a str>);

/// What listeners ask for on one port.
#[derive(Default)]
struct Claims<'a> {
    /// Listeners by what they speak.
    groups: BTreeMap<u8, Vec<usize>>,
    /// By their hosts; each with its protocol.
    hosts: BTreeMap<Host<'a>, Vec<(usize, &'a str)>>,
}

/// A port; UDP is beside the others.
pub(super) type Port = (u16, bool);

pub(super) fn port(listener: &Listener) -> Port {
    (listener.port, &*listener.protocol == "UDP")
}

/// One port speaks one of HTTP, TLS and TCP.
fn group(listener: &Listener) -> u8 {
    match &*listener.protocol {
        "HTTP" => 0,
        "HTTPS" | "TLS" => 1,
        "TCP" => 2,
        _ => 3,
    }
}

impl<'a> Claims<'a> {
    fn add(&mut self, index: usize, listener: &'a Listener) {
        self.groups.entry(group(listener)).or_default().push(index);
        let claimed = (index, &*listener.protocol);
        self.hosts.entry((group(listener), listener.hostname.as_deref())).or_default().push(claimed);
    }

    /// Why a listener cannot be told apart from another one, and from which. Only listeners of sets have a reason for both at once.
    fn against(&self, index: usize, state: &ListenerState) -> Option<(&'static str, usize)> {
        let listener = &state.listener;
        let mut others = self.groups.iter().filter(|(of, _)| **of != group(listener));
        let same = self.hosts.get(&(group(listener), listener.hostname.as_deref()));
        let mut same = same.into_iter().flatten().filter(|(other, _)| *other != index);
        // HTTPS and TLS share a port, but no hostname: what is done with a connection must be certain.
        let unlike = || same.clone().find(|(_, protocol)| *protocol != &*listener.protocol).map(|(other, _)| *other);
        let protocol = others.find_map(|(_, all)| all.first().copied()).or_else(unlike);
        let host = same.find(|(_, protocol)| *protocol == &*listener.protocol).map(|(other, _)| *other);
        match (protocol, host) {
            (Some(_), Some(other)) if state.set.is_some() => Some(("ListenerConflict", other)),
            (Some(other), _) => Some(("ProtocolConflict", other)),
            (None, Some(other)) => Some(("HostnameConflict", other)),
            (None, None) => None,
        }
    }
}

/// The conflict of each listener, if it has one. The gateway's own come first, then sets by age: a later one yields; of the gateway's own all yield.
pub(super) fn conflicts(listeners: &[ListenerState]) -> Vec<Option<Condition>> {
    let mut claims: BTreeMap<Port, Claims<'_>> = BTreeMap::new();
    let accepted = || listeners.iter().enumerate().filter(|(_, state)| state.is_accepted());
    for (index, state) in accepted().filter(|(_, state)| state.set.is_none()) {
        claims.entry(port(&state.listener)).or_default().add(index, &state.listener);
    }
    let mut out = vec![None; listeners.len()];
    for (index, state) in accepted() {
        let claims = claims.entry(port(&state.listener)).or_default();
        if let Some((reason, other)) = claims.against(index, state) {
            let message = format!("listener {} has the same port", listeners[other].listener.name);
            out[index] = Some(Condition::no(reason, message));
        } else if state.set.is_some() {
            claims.add(index, &state.listener);
        }
    }
    out
}
