//! Statuses of gateways, their listeners and listener sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};
use strait_api::{FrontendValidationMode, GATEWAY_GROUP, GatewayDefaultScope, Kind, ListenerSet, ObjectKey};

use super::{
    GATEWAY_VERSION,
    gateways::{GatewayState, ListenerState, set_key},
};
use crate::{
    addresses::wanted,
    hindrance::{Hindrance, HindranceKind, Hindrances},
    status::{Condition, Status, conditions},
};

/// A listener, and what keeps it from being listened on.
#[derive(Clone, Copy)]
struct Listening<'s> {
    state: &'s ListenerState,
    hindrance: Option<&'s Hindrance>,
}

impl Listening<'_> {
    /// The condition of a port that cannot be had.
    fn unavailable(&self) -> Option<Condition> {
        let of = self.hindrance.filter(|of| of.kind == HindranceKind::Port)?;
        Some(Condition::no("PortUnavailable", Arc::clone(&of.message)))
    }

    /// Whether it is served, as far as it lies with its objects and port.
    fn is_valid(&self) -> bool {
        self.state.is_served() && self.unavailable().is_none()
    }

    /// `offline` is why no listener of the gateway is served.
    fn status(&self, generation: i64, offline: Option<&str>, now: &str) -> Value {
        let state = self.state;
        let unavailable = self.unavailable();
        let (accepted, conflicted) = if let Some(conflict) = &state.conflict {
            (conflict.clone(), Condition { holds: true, ..conflict.clone() })
        } else {
            let accepted = unavailable.clone().unwrap_or_else(|| state.accepted.clone());
            (accepted, Condition::no("NoConflicts", ""))
        };
        let programmed = match (unavailable, self.hindrance) {
            // Sets have a reason for it, gateways' own listeners have none but that they are not online yet.
            (Some(unavailable), _) if state.set.is_some() => unavailable,
            (_, Some(of)) => Condition::no("Pending", Arc::clone(&of.message)),
            (_, None) if !state.is_served() => Condition::no("Invalid", "the listener is not valid"),
            (_, None) => offline.map_or(Condition::yes("Programmed"), |why| Condition::no("Pending", why)),
        };
        let mut all = vec![
            ("Accepted", &accepted),
            ("Programmed", &programmed),
            ("ResolvedRefs", &state.resolved),
            ("Conflicted", &conflicted),
        ];
        all.extend(state.overlap.iter().map(|overlap| ("OverlappingTLSConfig", overlap)));
        let kinds: Vec<_> = state.kinds.iter().map(|kind| json!({"group": GATEWAY_GROUP, "kind": kind})).collect();
        json!({
            "name": &*state.listener.name,
            "supportedKinds": kinds,
            "attachedRoutes": state.attached,
            "conditions": conditions(&all, generation, now),
        })
    }
}

impl GatewayState {
    /// Its listeners, those of sets included, with what keeps them from being listened on.
    fn listening<'s>(&'s self, hindrances: &'s Hindrances) -> Vec<Listening<'s>> {
        let meta = &self.gateway.meta;
        let name: Arc<str> = format!("{}/{}", meta.namespace, meta.name).into();
        let of = |state: &'s ListenerState| {
            let listener = &state.listener;
            let key = || (Arc::clone(&name), listener.port, &*listener.protocol == "UDP");
            let hindrance = if state.is_served() && !hindrances.is_empty() { hindrances.get(&key()) } else { None };
            Listening { state, hindrance }
        };
        self.listeners.iter().map(of).collect()
    }

    /// Why none of its listeners is served, whatever they are.
    fn offline(&self) -> Option<&'static str> {
        match (self.accepted.holds, self.addresses.is_empty()) {
            (false, _) => Some("the gateway is not accepted"),
            (true, true) => Some("the gateway has no address"),
            (true, false) => None,
        }
    }

    fn programmed(&self, all: &[Listening<'_>]) -> Condition {
        let unusable = wanted(&self.gateway).find(|wanted| !self.addresses.contains(wanted));
        let hindrance = |kind: fn(&HindranceKind) -> bool| {
            all.iter().filter_map(|of| of.hindrance).find(|hindrance| kind(&hindrance.kind))
        };
        if let Some(address) = unusable {
            let message = format!("{address} is not in the pool, or another gateway has it");
            Condition::no("AddressNotUsable", message)
        } else if self.addresses.is_empty() {
            Condition::no("AddressNotAssigned", "there is no address left in the pool")
        } else if let Some(of) = hindrance(|kind| matches!(kind, HindranceKind::Address(_))) {
            let asked_for = wanted(&self.gateway).any(|wanted| of.kind == HindranceKind::Address(wanted));
            let reason = if asked_for { "AddressNotUsable" } else { "AddressNotAssigned" };
            Condition::no(reason, Arc::clone(&of.message))
        } else if let Some(of) = hindrance(|kind| *kind == HindranceKind::Resources) {
            Condition::no("NoResources", Arc::clone(&of.message))
        } else if self.accepted.holds && all.iter().any(Listening::is_valid) {
            Condition::yes("Programmed")
        } else {
            Condition::no("Invalid", "no listener can be served")
        }
    }

    /// Its own references first, then those of its listeners.
    fn resolved(&self) -> Condition {
        let unresolved = self.listeners.iter().find(|listener| listener.set.is_none() && !listener.resolved.holds);
        match (&self.resolved, unresolved) {
            (Some(condition), _) => condition.clone(),
            (None, Some(listener)) => Condition::no(
                "ListenersNotResolved",
                format!("listener {}: {}", listener.listener.name, listener.resolved.message),
            ),
            (None, None) => Condition::yes("ResolvedRefs"),
        }
    }

    pub(super) fn status(&self, hindrances: &Hindrances, now: &str) -> Status {
        let generation = self.gateway.meta.generation;
        let all = self.listening(hindrances);
        let (own, of_sets): (Vec<Listening<'_>>, Vec<_>) = all.iter().partition(|of| of.state.set.is_none());
        let (valid, others): (Vec<&Listening<'_>>, Vec<_>) = own.iter().partition(|of: &&Listening<'_>| of.is_valid());
        let accepted = match (self.accepted.holds, others.is_empty()) {
            (false, _) => self.accepted.clone(),
            (true, true) => Condition::yes("Accepted"),
            (true, false) => {
                let others = names(&others);
                let message = match names(&valid) {
                    valid if valid.is_empty() => format!("listeners that are not valid: {others}"),
                    valid => format!("listeners that are not valid: {others}; that are: {valid}"),
                };
                Condition { holds: !valid.is_empty(), ..Condition::no("ListenersNotValid", message) }
            }
        };
        let programmed = self.programmed(&all);
        let resolved = self.resolved();
        let mut kinds = vec![("Accepted", &accepted), ("Programmed", &programmed), ("ResolvedRefs", &resolved)];
        let insecure = Condition::because("ConfigurationChanged", "clients without valid certificates are served");
        if self.allows_insecure_fallback() {
            kinds.push(("InsecureFrontendValidationMode", &insecure));
        }
        let default = Condition::because("DefaultGateway", "the gateway has the default scope All");
        if self.gateway.default_scope == GatewayDefaultScope::All {
            kinds.push(("DefaultGateway", &default));
        }
        let addresses: Vec<_> =
            self.addresses.iter().map(|address| json!({"type": "IPAddress", "value": address.to_string()})).collect();
        let listeners: Vec<_> = own.iter().map(|of| of.status(generation, self.offline(), now)).collect();
        let mut status = json!({
            "addresses": addresses,
            "conditions": conditions(&kinds, generation, now),
            "listeners": listeners,
        });
        let sets: BTreeSet<(&str, &str)> = of_sets
            .iter()
            .filter(|of| of.is_valid() && self.accepted.holds)
            .filter_map(|of| of.state.set.as_ref().map(|set| (&*set.meta.namespace, &*set.meta.name)))
            .collect();
        if !sets.is_empty() {
            status["attachedListenerSets"] = json!(sets.len());
        }
        let meta = &self.gateway.meta;
        let object =
            ObjectKey { kind: Kind::Gateway, namespace: Arc::clone(&meta.namespace), name: Arc::clone(&meta.name) };
        Status { object, api_version: GATEWAY_VERSION, status }
    }

    /// The statuses of its sets.
    pub(super) fn set_statuses(&self, hindrances: &Hindrances, now: &str) -> Vec<Status> {
        let mut by_set: BTreeMap<ObjectKey, (&ListenerSet, Vec<Listening<'_>>)> = BTreeMap::new();
        for of in self.listening(hindrances) {
            if let Some(set) = &of.state.set {
                by_set.entry(set_key(set)).or_insert_with(|| (set, Vec::new())).1.push(of);
            }
        }
        let status = |(object, (set, listeners)): (ObjectKey, (&ListenerSet, Vec<Listening<'_>>))| {
            let (accepted, programmed) = self.of_set(set, &listeners);
            let generation = set.meta.generation;
            let conditions = conditions(&[("Accepted", &accepted), ("Programmed", &programmed)], generation, now);
            let listeners: Vec<_> =
                listeners.iter().map(|listener| listener.status(generation, self.offline(), now)).collect();
            let status = json!({"conditions": conditions, "listeners": listeners});
            Status { object, api_version: GATEWAY_VERSION, status }
        };
        by_set.into_iter().map(status).collect()
    }

    /// Whether a set is accepted, and whether it is programmed.
    fn of_set(&self, set: &ListenerSet, all: &[Listening<'_>]) -> (Condition, Condition) {
        let parent = &set.parent.name;
        let (valid, others): (Vec<&Listening<'_>>, Vec<_>) = all.iter().partition(|of| of.is_valid());
        let invalid =
            || Condition::no("ListenersNotValid", format!("listeners that are not valid: {}", names(&others)));
        if !self.is_accepted() {
            let why = format!("Gateway {parent} is not accepted");
            return (Condition::no("ParentNotAccepted", why.clone()), Condition::no("ParentNotProgrammed", why));
        }
        if valid.is_empty() {
            let unavailable = all.iter().find_map(Listening::unavailable);
            return (invalid(), unavailable.unwrap_or_else(invalid));
        }
        let accepted =
            if others.is_empty() { Condition::yes("Accepted") } else { Condition { holds: true, ..invalid() } };
        let programmed = if self.offline().is_none() && valid.iter().any(|of| of.hindrance.is_none()) {
            Condition::yes("Programmed")
        } else {
            let why = format!("Gateway {parent} is not programmed: {}", self.programmed(all).message);
            Condition::no("ParentNotProgrammed", why)
        };
        (accepted, programmed)
    }

    /// Whether some clients are served without a valid certificate, at any port.
    fn allows_insecure_fallback(&self) -> bool {
        let gateway = &self.gateway;
        let mut all = gateway.frontend_per_port.values().chain([&gateway.frontend_default]).flatten();
        all.any(|validation| validation.mode == FrontendValidationMode::AllowInsecureFallback)
    }
}

fn names(of: &[&Listening<'_>]) -> String {
    of.iter().map(|of| &*of.state.listener.name).collect::<Vec<_>>().join(", ")
}
