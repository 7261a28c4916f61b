//! Gateways with their listeners, those of listener sets included.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use serde_json::{Value, json};
use strait_api::{
    FromNamespaces, FrontendValidation, FrontendValidationMode, GATEWAY_GROUP, Gateway, GatewayClass, Kind, Listener,
    ListenerSet, ObjectKey, ObjectMeta, ObjectReference, TlsMode,
};

use super::{
    GATEWAY_VERSION,
    certificates::Certificates,
    conflicts, tls,
    world::{Name, World, name},
};
use crate::{
    addresses::{Assigned, wanted},
    plan::{CertificateId, ClientValidation},
    status::{Condition, Status, conditions},
};

/// A gateway, and what is known of it so far.
pub(super) struct GatewayState {
    pub(super) gateway: Arc<Gateway>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) listeners: Vec<ListenerState>,
    /// The gateway's own certificate for back ends.
    pub(super) client_certificate: Option<CertificateId>,
    accepted: Condition,
    resolved: Option<Condition>,
    insecure_validation: bool,
}

/// A listener, and what is known of it so far.
pub(super) struct ListenerState {
    pub(super) listener: Listener,
    /// The set that it comes from, if it is not the gateway's own.
    pub(super) set: Option<Arc<ListenerSet>>,
    /// Kinds of routes that it takes.
    pub(super) kinds: Vec<&'static str>,
    pub(super) certificates: Vec<CertificateId>,
    pub(super) clients: Option<ClientValidation>,
    pub(super) attached: u32,
    accepted: Condition,
    resolved: Condition,
    conflict: Option<Condition>,
    /// Another listener does handshakes for some of the same names.
    overlap: Option<Condition>,
}

impl ListenerState {
    /// Whether it is accepted, conflicts aside.
    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.holds
    }

    /// Whether routes may attach.
    pub(super) fn takes_routes(&self) -> bool {
        self.accepted.holds && self.conflict.is_none()
    }

    /// Whether it is served. One whose references lead nowhere is not: its certificate is missing.
    pub(super) fn is_served(&self) -> bool {
        self.takes_routes() && (self.resolved.holds || self.resolved.reason == "InvalidRouteKinds")
    }

    /// The namespace that `Same` means, and that its references are relative to.
    pub(super) fn namespace<'s>(&'s self, gateway: &'s Gateway) -> &'s str {
        self.set.as_ref().map_or(&gateway.meta.namespace, |set| &set.meta.namespace)
    }

    fn status(&self, generation: i64, programmed: bool, now: &str) -> Value {
        let accepted = match &self.conflict {
            Some(conflict) => Condition::no(conflict.reason, Arc::clone(&conflict.message)),
            None => self.accepted.clone(),
        };
        let conflicted = match &self.conflict {
            Some(conflict) => Condition { holds: true, ..conflict.clone() },
            None => Condition::no("NoConflicts", ""),
        };
        let programmed = match (self.is_served(), programmed) {
            (true, true) => Condition::yes("Programmed"),
            (true, false) => Condition::no("Pending", "the gateway has no address"),
            (false, _) => Condition::no("Invalid", "the listener is not valid"),
        };
        let mut all = vec![
            ("Accepted", &accepted),
            ("Programmed", &programmed),
            ("ResolvedRefs", &self.resolved),
            ("Conflicted", &conflicted),
        ];
        all.extend(self.overlap.iter().map(|overlap| ("OverlappingTLSConfig", overlap)));
        let kinds: Vec<_> = self.kinds.iter().map(|kind| json!({"group": GATEWAY_GROUP, "kind": kind})).collect();
        json!({
            "name": &*self.listener.name,
            "supportedKinds": kinds,
            "attachedRoutes": self.attached,
            "conditions": conditions(&all, generation, now),
        })
    }
}

impl GatewayState {
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        world: &World<'_>,
        certificates: &mut Certificates,
        assigned: &Assigned,
    ) -> Self {
        let namespace = &*gateway.meta.namespace;
        let key = (Arc::clone(&gateway.meta.namespace), Arc::clone(&gateway.meta.name));
        let addresses = assigned.get(&key).cloned().unwrap_or_default();
        let mut resolved = None;
        let client_certificate =
            gateway.backend_client_certificate.as_ref().and_then(|reference| {
                match tls::certificate(reference, (GATEWAY_GROUP, "Gateway", namespace), world) {
                    Ok(certificate) => Some(certificates.add(certificate)),
                    Err(condition) => {
                        let reason = if condition.reason == "RefNotPermitted" {
                            "RefNotPermitted"
                        } else {
                            "InvalidClientCertificateRef"
                        };
                        resolved = Some(Condition { reason, ..condition });
                        None
                    }
                }
            });
        let mut state = Self {
            gateway: Arc::clone(gateway),
            addresses,
            listeners: Vec::new(),
            client_certificate,
            accepted: accepted(gateway),
            resolved,
            insecure_validation: false,
        };
        for listener in &gateway.listeners {
            let listener = state.listener(listener, None, world, certificates);
            state.listeners.push(listener);
        }
        state
    }

    fn listener(
        &mut self,
        listener: &Listener,
        set: Option<&Arc<ListenerSet>>,
        world: &World<'_>,
        store: &mut Certificates,
    ) -> ListenerState {
        let possible = kinds(&listener.protocol);
        let asked = &listener.allowed_kinds;
        let known = |kind: &&'static str| {
            asked.is_empty() || asked.iter().any(|asked| &*asked.kind == *kind && &*asked.group == GATEWAY_GROUP)
        };
        let kinds: Vec<&'static str> = possible.iter().copied().filter(known).collect();
        let impossible = asked.iter().find(|asked| &*asked.group != GATEWAY_GROUP || !possible.contains(&&*asked.kind));
        let mut resolved = match impossible {
            None => Condition::yes("ResolvedRefs"),
            Some(kind) => {
                let message = format!("a listener for {} takes no {} ({})", listener.protocol, kind.kind, kind.group);
                Condition::no("InvalidRouteKinds", message)
            }
        };
        let mut accepted = if possible.is_empty() {
            Condition::no("UnsupportedProtocol", format!("the protocol {} is not spoken", listener.protocol))
        } else {
            Condition::yes("Accepted")
        };
        let mut certificates = Vec::new();
        let home = set.map_or(&self.gateway.meta.namespace, |set| &set.meta.namespace);
        let kind = if set.is_some() { "ListenerSet" } else { "Gateway" };
        if let Some(tls) = listener.tls.as_ref().filter(|tls| tls.mode == TlsMode::Terminate) {
            let (found, wrong) = tls::listener_certificates(tls, (kind, home), world, store);
            certificates = found;
            if let Some(wrong) = wrong {
                resolved = wrong;
            }
        } else if matches!(&*listener.protocol, "HTTPS" | "TLS") && listener.tls.is_none() {
            accepted = Condition::no("InvalidCertificateRef", "a listener for TLS needs tls");
        }
        let mut clients = None;
        if &*listener.protocol == "HTTPS" || (&*listener.protocol == "TLS" && !certificates.is_empty()) {
            let gateway = Arc::clone(&self.gateway);
            let validation = gateway.frontend_per_port.get(&listener.port).unwrap_or(&gateway.frontend_default);
            if let Some(validation) = validation {
                let (found, wrong) = self.client_validation(validation, world);
                clients = Some(found);
                if let Some(wrong) = wrong {
                    let reason = wrong.reason;
                    if clients.as_ref().is_some_and(|clients| clients.authorities.is_empty()) {
                        accepted = Condition::no("NoValidCACertificate", Arc::clone(&wrong.message));
                    }
                    resolved = Condition {
                        reason: if reason == "InvalidKind" { "InvalidCACertificateKind" } else { reason },
                        ..wrong
                    };
                }
            }
        }
        ListenerState {
            listener: listener.clone(),
            set: set.cloned(),
            kinds,
            certificates,
            clients,
            attached: 0,
            accepted,
            resolved,
            conflict: None,
            overlap: None,
        }
    }

    fn client_validation(
        &mut self,
        validation: &FrontendValidation,
        world: &World<'_>,
    ) -> (ClientValidation, Option<Condition>) {
        let from = (GATEWAY_GROUP, "Gateway", &*self.gateway.meta.namespace);
        let (pem, wrong) = tls::authorities(&validation.ca_certificates, from, world);
        let insecure_fallback = validation.mode == FrontendValidationMode::AllowInsecureFallback;
        self.insecure_validation |= insecure_fallback;
        let names = Vec::new();
        (ClientValidation { authorities: pem.into(), insecure_fallback, optional: false, names }, wrong)
    }

    /// Finds listeners that cannot be told apart, and those whose TLS overlaps.
    pub(super) fn find_conflicts(&mut self) {
        let conflicts = conflicts::conflicts(&self.listeners);
        self.listeners.iter_mut().zip(conflicts).for_each(|(listener, conflict)| listener.conflict = conflict);
        let overlaps = conflicts::overlaps(&self.listeners);
        self.listeners.iter_mut().zip(overlaps).for_each(|(listener, overlap)| listener.overlap = overlap);
    }

    /// Whether it has an address, and a listener that is served.
    fn is_programmed(&self) -> bool {
        !self.addresses.is_empty() && self.accepted.holds && self.listeners.iter().any(ListenerState::is_served)
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.holds
    }

    /// Whether every route finds in `other` what it finds here: the listeners that take it, and how back ends are reached.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        let of_listener = |of: &ListenerState| {
            let set = of.set.as_ref().map(|set| name(&set.meta));
            let listener = &of.listener;
            (
                set,
                Arc::clone(&listener.name),
                (listener.port, Arc::clone(&listener.protocol)),
                listener.hostname.clone(),
                of.takes_routes(),
                of.kinds.clone(),
            )
        };
        self.accepted.holds == other.accepted.holds
            && self.client_certificate == other.client_certificate
            && self.listeners.len() == other.listeners.len()
            && self.listeners.iter().zip(&other.listeners).all(|(a, b)| {
                of_listener(a) == of_listener(b) && a.listener.allowed_namespaces == b.listener.allowed_namespaces
            })
    }

    /// Takes over what is counted.
    pub(super) fn keep_counts(&mut self, before: &Self) {
        for (listener, before) in self.listeners.iter_mut().zip(&before.listeners) {
            listener.attached = before.attached;
        }
    }

    /// The secrets and config maps that it and its listeners refer to, whether they are there or not.
    pub(super) fn references(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        let home = &self.gateway.meta.namespace;
        let frontends = self.gateway.frontend_per_port.values().chain([&self.gateway.frontend_default]).flatten();
        let own = self.gateway.backend_client_certificate.iter();
        let own = own.chain(frontends.flat_map(|of| &of.ca_certificates)).map(move |reference| (home, reference));
        let of_listeners = self.listeners.iter().flat_map(move |of| {
            let home = of.set.as_ref().map_or(home, |set| &set.meta.namespace);
            let certificates = of.listener.tls.iter().flat_map(|tls| &tls.certificates);
            certificates.map(move |reference| (home, reference))
        });
        own.chain(of_listeners).filter_map(|(home, reference)| referred(home, reference))
    }

    fn programmed(&self) -> Condition {
        let unusable = wanted(&self.gateway).find(|wanted| !self.addresses.contains(wanted));
        if let Some(address) = unusable {
            let message = format!("{address} is not in the pool, or another gateway has it");
            Condition::no("AddressNotUsable", message)
        } else if self.addresses.is_empty() {
            Condition::no("AddressNotAssigned", "there is no address left in the pool")
        } else if self.is_programmed() {
            Condition::yes("Programmed")
        } else {
            Condition::no("Invalid", "no listener can be served")
        }
    }

    pub(super) fn status(&self, now: &str) -> Status {
        let generation = self.gateway.meta.generation;
        let own = || self.listeners.iter().filter(|listener| listener.set.is_none());
        let valid = own().filter(|listener| listener.is_served()).count();
        let accepted = match (self.accepted.holds, valid == own().count(), valid > 0) {
            (false, ..) => self.accepted.clone(),
            (true, true, _) => Condition::yes("Accepted"),
            (true, false, some) => Condition {
                holds: some,
                ..Condition::no("ListenersNotValid", "some listeners are not valid; see their conditions")
            },
        };
        let programmed = self.programmed();
        let unresolved = own().find(|listener| !listener.resolved.holds);
        let resolved = match (&self.resolved, unresolved) {
            (Some(condition), _) => condition.clone(),
            (None, Some(listener)) => Condition::no(
                "ListenersNotResolved",
                format!("listener {}: {}", listener.listener.name, listener.resolved.message),
            ),
            (None, None) => Condition::yes("ResolvedRefs"),
        };
        let insecure = Condition {
            holds: true,
            ..Condition::no("ConfigurationChanged", "clients without valid certificates are served")
        };
        let mut all = vec![("Accepted", &accepted), ("Programmed", &programmed), ("ResolvedRefs", &resolved)];
        if self.insecure_validation {
            all.push(("InsecureFrontendValidationMode", &insecure));
        }
        let addresses: Vec<_> =
            self.addresses.iter().map(|address| json!({"type": "IPAddress", "value": address.to_string()})).collect();
        let listeners: Vec<_> = own().map(|listener| listener.status(generation, self.is_programmed(), now)).collect();
        let mut status = json!({
            "addresses": addresses,
            "conditions": conditions(&all, generation, now),
            "listeners": listeners,
        });
        let sets: BTreeSet<(&str, &str)> = self
            .listeners
            .iter()
            .filter(|listener| listener.is_served() && self.accepted.holds)
            .filter_map(|listener| listener.set.as_ref().map(|set| (&*set.meta.namespace, &*set.meta.name)))
            .collect();
        if !sets.is_empty() {
            status["attachedListenerSets"] = json!(sets.len());
        }
        let meta = &self.gateway.meta;
        let object =
            ObjectKey { kind: Kind::Gateway, namespace: Arc::clone(&meta.namespace), name: Arc::clone(&meta.name) };
        Status { object, api_version: GATEWAY_VERSION, status }
    }
}

/// The secret or config map that a reference names.
pub(super) fn referred(home: &Arc<str>, reference: &ObjectReference) -> Option<ObjectKey> {
    let kind = match &*reference.kind {
        "Secret" => Kind::Secret,
        "ConfigMap" => Kind::ConfigMap,
        _ => return None,
    };
    let namespace = Arc::clone(reference.namespace.as_ref().unwrap_or(home));
    Some(ObjectKey { kind, namespace, name: Arc::clone(&reference.name) })
}

fn accepted(gateway: &Gateway) -> Condition {
    if gateway.infrastructure.parameters.is_some() {
        return Condition::no("InvalidParameters", "this controller takes no parameters: remove parametersRef");
    }
    match gateway.addresses.iter().find(|address| &*address.address_type != "IPAddress") {
        Some(address) => {
            let message = format!("addresses of type {} are not known; IPAddress is", address.address_type);
            Condition::no("UnsupportedAddress", message)
        }
        None => Condition::yes("Accepted"),
    }
}

/// The kinds of routes that a protocol takes; none where it is not spoken.
fn kinds(protocol: &str) -> &'static [&'static str] {
    match protocol {
        "HTTP" | "HTTPS" => &["HTTPRoute", "GRPCRoute"],
        "TLS" => &["TLSRoute"],
        "TCP" => &["TCPRoute"],
        "UDP" => &["UDPRoute"],
        _ => &[],
    }
}

/// The gateways that are this controller's, with the listeners of their sets, the older sets first; and the statuses of sets that are not
/// allowed.
pub(super) fn states(
    classes: &BTreeMap<Arc<str>, Option<Arc<GatewayClass>>>,
    world: &World<'_>,
    certificates: &mut Certificates,
    assigned: &Assigned,
    now: &str,
) -> (BTreeMap<Name, GatewayState>, Vec<Status>) {
    let ours = world.index.gateways.iter().filter(|(_, gateway)| classes.contains_key(&*gateway.class_name));
    let mut gateways: BTreeMap<Name, GatewayState> =
        ours.map(|(name, gateway)| (name.clone(), GatewayState::new(gateway, world, certificates, assigned))).collect();
    let refused = attach_listener_sets(&mut gateways, world, certificates, now);
    gateways.values_mut().for_each(GatewayState::find_conflicts);
    (gateways, refused)
}

fn attach_listener_sets(
    gateways: &mut BTreeMap<Name, GatewayState>,
    world: &World<'_>,
    certificates: &mut Certificates,
    now: &str,
) -> Vec<Status> {
    let mut sets: Vec<&Arc<ListenerSet>> = world.index.sets.values().collect();
    sets.sort_by_cached_key(|set| age(&set.meta));
    let mut refused = Vec::new();
    for set in sets {
        let Some((namespace, name)) = gateway_of(set) else { continue };
        let Some(state) = gateways.get_mut(&(Arc::clone(namespace), Arc::clone(name))) else { continue };
        if allows(&state.gateway.allowed_listeners, namespace, &set.meta.namespace, world) {
            for listener in &set.listeners {
                let listener = state.listener(listener, Some(set), world, certificates);
                state.listeners.push(listener);
            }
        } else {
            let condition = Condition::no("NotAllowed", format!("Gateway {namespace}/{name} allows no sets from here"));
            let all = [("Accepted", &condition), ("Programmed", &condition)];
            let status = json!({"conditions": conditions(&all, set.meta.generation, now), "listeners": []});
            refused.push(Status { object: set_key(set), api_version: GATEWAY_VERSION, status });
        }
    }
    refused
}

/// Namespace and name of the gateway that a set is for, if it is for one.
pub(super) fn gateway_of(set: &ListenerSet) -> Option<(&Arc<str>, &Arc<str>)> {
    let parent = &set.parent;
    let of_gateway = &*parent.group == GATEWAY_GROUP && &*parent.kind == "Gateway";
    of_gateway.then(|| (parent.namespace.as_ref().unwrap_or(&set.meta.namespace), &parent.name))
}

fn set_key(set: &ListenerSet) -> ObjectKey {
    ObjectKey { kind: Kind::ListenerSet, namespace: Arc::clone(&set.meta.namespace), name: Arc::clone(&set.meta.name) }
}

impl GatewayState {
    /// The statuses of its sets.
    pub(super) fn set_statuses(&self, now: &str) -> Vec<Status> {
        let mut statuses = Vec::new();
        let mut by_set: BTreeMap<ObjectKey, (&ListenerSet, Vec<&ListenerState>)> = BTreeMap::new();
        for listener in &self.listeners {
            if let Some(set) = &listener.set {
                by_set.entry(set_key(set)).or_insert_with(|| (set, Vec::new())).1.push(listener);
            }
        }
        for (object, (set, listeners)) in by_set {
            let served = listeners.iter().filter(|listener| listener.is_served()).count();
            let invalid = Condition::no("ListenersNotValid", "see its listeners' conditions");
            let parent = &set.parent.name;
            let (accepted, programmed) = match (served, listeners.len()) {
                _ if !self.is_accepted() => {
                    let accepted = Condition::no("ParentNotAccepted", format!("Gateway {parent} is not accepted"));
                    (accepted, Condition::no("ParentNotProgrammed", format!("Gateway {parent} is not accepted")))
                }
                (0, _) => (invalid.clone(), invalid),
                _ if self.addresses.is_empty() => {
                    let programmed = Condition::no("ParentNotProgrammed", format!("Gateway {parent} has no address"));
                    (Condition::yes("Accepted"), programmed)
                }
                (served, all) if served == all => (Condition::yes("Accepted"), Condition::yes("Programmed")),
                _ => (Condition { holds: true, ..invalid }, Condition::yes("Programmed")),
            };
            let all = [("Accepted", &accepted), ("Programmed", &programmed)];
            let generation = set.meta.generation;
            let programmed = self.is_programmed();
            let listeners: Vec<_> =
                listeners.iter().map(|listener| listener.status(generation, programmed, now)).collect();
            let status = json!({"conditions": conditions(&all, generation, now), "listeners": listeners});
            statuses.push(Status { object, api_version: GATEWAY_VERSION, status });
        }
        statuses
    }
}

/// By what one object comes before another of its kind: its age, then `namespace/name`.
pub(super) fn age(meta: &ObjectMeta) -> (i64, String) {
    (meta.created.unwrap_or(i64::MAX), format!("{}/{}", meta.namespace, meta.name))
}

/// Whether `from` allows what is in the namespace `guest`, at something in `home`.
pub(super) fn allows(from: &FromNamespaces, home: &str, guest: &str, world: &World<'_>) -> bool {
    match from {
        FromNamespaces::All => true,
        FromNamespaces::Same => home == guest,
        FromNamespaces::None => false,
        FromNamespaces::Selector(selector) => selector.matches(&world.namespace_labels(guest)),
    }
}
