//! Listeners of one gateway that cannot be told apart, or whose TLS overlaps.

use std::collections::BTreeMap;

use strait_api::Listener;

use super::{attach::terminates, gateways::ListenerState};
use crate::{hosts::intersection, status::Condition};

/// What listeners ask for on one port.
#[derive(Default)]
struct Claims<'a> {
    /// Listeners by what they speak.
    groups: BTreeMap<u8, Vec<usize>>,
    hosts: BTreeMap<Option<&'a str>, Vec<usize>>,
}

/// A port; UDP is beside the others.
type Port = (u16, bool);

fn port(listener: &Listener) -> Port {
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
        self.hosts.entry(listener.hostname.as_deref()).or_default().push(index);
    }

    /// Why a listener cannot be told apart from another one, and from which.
    fn against(&self, index: usize, listener: &Listener) -> Option<(&'static str, usize)> {
        let mut others = self.groups.iter().filter(|(of, _)| **of != group(listener));
        if let Some(other) = others.find_map(|(_, all)| all.first()) {
            return Some(("ProtocolConflict", *other));
        }
        let same = self.hosts.get(&listener.hostname.as_deref())?;
        same.iter().find(|other| **other != index).map(|other| ("HostnameConflict", *other))
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
        if let Some((reason, other)) = claims.against(index, &state.listener) {
            let message = format!("listener {} has the same port", listeners[other].listener.name);
            out[index] = Some(Condition::no(reason, message));
        } else if state.set.is_some() {
            claims.add(index, &state.listener);
        }
    }
    out
}

/// Of each listener that takes routes, another one on its port that does handshakes for some of the same names.
pub(super) fn overlaps(listeners: &[ListenerState]) -> Vec<Option<Condition>> {
    let mut ports: BTreeMap<Port, Vec<usize>> = BTreeMap::new();
    for (index, state) in listeners.iter().enumerate() {
        if state.takes_routes() && terminates(&state.listener) {
            ports.entry(port(&state.listener)).or_default().push(index);
        }
    }
    let mut out = vec![None; listeners.len()];
    for all in ports.values() {
        for index in all {
            let of = &listeners[*index].listener;
            let overlaps = |other: &&usize| {
                let other = (**other != *index).then(|| &listeners[**other].listener);
                other.is_some_and(|other| intersection(of.hostname.as_ref(), other.hostname.as_ref()).is_some())
            };
            if let Some(other) = all.iter().find(overlaps) {
                let message = format!("listener {} has hostnames in common", listeners[*other].listener.name);
                out[*index] = Some(Condition { holds: true, ..Condition::no("OverlappingHostnames", message) });
            }
        }
    }
    out
}
