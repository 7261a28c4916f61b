//! Gateways with their listeners, those of listener sets included.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde_json::json;
use strait_api::{
    FromNamespaces, FrontendValidation, FrontendValidationMode, GATEWAY_GROUP, Gateway, GatewayClass, Kind, Listener,
    ListenerSet, ObjectKey, ObjectMeta, ObjectReference, TlsMode,
};

use super::{
    GATEWAY_VERSION,
    certificates::Certificates,
    conflicts,
    overlaps::overlaps,
    proxies, tls,
    world::{Name, World, name},
};
use crate::{
    addresses::Assigned,
    plan::{CertificateId, ClientValidation},
    status::{Condition, Status, conditions},
};

/// So many listeners a gateway may have, those of its sets included: each may be a port of its own, with sockets for every worker.
const MOST_LISTENERS: usize = 4096;

/// A gateway, and what is known of it so far.
pub(super) struct GatewayState {
    pub(super) gateway: Arc<Gateway>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) listeners: Vec<ListenerState>,
    /// The gateway's own certificate for back ends.
    pub(super) client_certificate: Option<CertificateId>,
    /// How many proxies before it are believed about clients, if it is said.
    pub(super) trusted_proxies: Option<u8>,
    pub(super) accepted: Condition,
    /// What is wrong with its own references.
    pub(super) resolved: Option<Condition>,
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
    pub(super) accepted: Condition,
    pub(super) resolved: Condition,
    pub(super) conflict: Option<Condition>,
    /// Another listener does handshakes for some of the same names.
    pub(super) overlap: Option<Condition>,
    /// Whether it lacks a certificate that it is to show.
    uncertified: bool,
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

    /// Whether it is served. One that lacks a certificate is not; without one of several authorities it goes by the others.
    pub(super) fn is_served(&self) -> bool {
        self.takes_routes() && !self.uncertified
    }

    /// The namespace that `Same` means, and that its references are relative to.
    pub(super) fn namespace<'s>(&'s self, gateway: &'s Gateway) -> &'s str {
        self.set.as_ref().map_or(&gateway.meta.namespace, |set| &set.meta.namespace)
    }
}

impl GatewayState {
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        class: Option<&GatewayClass>,
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
            trusted_proxies: proxies::of_gateway(gateway, world).trusted,
            accepted: accepted(gateway, class),
            resolved,
        };
        for listener in &gateway.listeners {
            let listener = state.listener(listener, None, world, certificates);
            state.listeners.push(listener);
        }
        state
    }

    fn listener(
        &self,
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
        // What somebody asks for and does not get may be what keeps others out: versions, certificates of clients.
        if let Some(option) = listener.tls.as_ref().and_then(|tls| tls.options.keys().next()) {
            accepted = Condition::no("UnsupportedValue", format!("the option {option} of tls is not known"));
        }
        let (mut certificates, mut uncertified) = (Vec::new(), false);
        let home = set.map_or(&self.gateway.meta.namespace, |set| &set.meta.namespace);
        let kind = if set.is_some() { "ListenerSet" } else { "Gateway" };
        if let Some(tls) = listener.tls.as_ref().filter(|tls| tls.mode == TlsMode::Terminate) {
            let (found, wrong) = tls::listener_certificates(tls, (kind, home), world, store);
            certificates = found;
            uncertified = wrong.is_some() || certificates.is_empty();
            resolved = wrong.unwrap_or(resolved);
        } else if matches!(&*listener.protocol, "HTTPS" | "TLS") && listener.tls.is_none() {
            uncertified = true;
            resolved = Condition::no("InvalidCertificateRef", "a listener for TLS needs tls with certificateRefs");
        }
        let mut clients = None;
        if &*listener.protocol == "HTTPS" || (&*listener.protocol == "TLS" && !certificates.is_empty()) {
            let gateway = &self.gateway;
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
            uncertified,
        }
    }

    fn client_validation(
        &self,
        validation: &FrontendValidation,
        world: &World<'_>,
    ) -> (ClientValidation, Option<Condition>) {
        let from = (GATEWAY_GROUP, "Gateway", &*self.gateway.meta.namespace);
        let (pem, wrong) = tls::authorities(&validation.ca_certificates, from, world);
        let insecure_fallback = validation.mode == FrontendValidationMode::AllowInsecureFallback;
        let names = Vec::new();
        (ClientValidation { authorities: pem.into(), insecure_fallback, optional: false, names }, wrong)
    }

    /// Finds listeners that cannot be told apart, and those whose TLS overlaps.
    pub(super) fn find_conflicts(&mut self, certificates: &Certificates) {
        let conflicts = conflicts::conflicts(&self.listeners);
        self.listeners.iter_mut().zip(conflicts).for_each(|(listener, conflict)| listener.conflict = conflict);
        let overlaps = overlaps(&self.listeners, certificates);
        self.listeners.iter_mut().zip(overlaps).for_each(|(listener, overlap)| listener.overlap = overlap);
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
            && self.gateway.default_scope == other.gateway.default_scope
            && self.client_certificate == other.client_certificate
            && self.listeners.len() == other.listeners.len()
            && self.listeners.iter().zip(&other.listeners).all(|(a, b)| {
                of_listener(a) == of_listener(b) && a.listener.allowed_namespaces == b.listener.allowed_namespaces
            })
    }

    /// The certificates that it took into use.
    pub(super) fn certificates(&self) -> impl Iterator<Item = CertificateId> + '_ {
        let of_listeners = self.listeners.iter().flat_map(|listener| &listener.certificates);
        self.client_certificate.iter().chain(of_listeners).copied()
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

/// Whether gateways of a class can be served.
pub(super) fn class_accepted(class: &GatewayClass) -> Condition {
    match &class.parameters {
        None => Condition::yes("Accepted"),
        Some(_) => Condition::no("InvalidParameters", "this controller takes no parameters: remove parametersRef"),
    }
}

fn accepted(gateway: &Gateway, class: Option<&GatewayClass>) -> Condition {
    // Who can say what the parameters of the class would ask for?
    if let Some((class, of)) = class.map(|class| (class, class_accepted(class))).filter(|(_, of)| !of.holds) {
        return Condition::no("Invalid", format!("GatewayClass {} is not accepted: {}", class.meta.name, of.message));
    }
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
    let state = |(name, gateway): (&Name, &Arc<Gateway>)| {
        let class = classes.get(&*gateway.class_name).and_then(Option::as_deref);
        (name.clone(), GatewayState::new(gateway, class, world, certificates, assigned))
    };
    let mut gateways: BTreeMap<Name, GatewayState> = ours.map(state).collect();
    let refused = attach_listener_sets(&mut gateways, world, certificates, now);
    for state in gateways.values_mut() {
        state.find_conflicts(certificates);
    }
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
                let mut listener = state.listener(listener, Some(set), world, certificates);
                if state.listeners.len() >= MOST_LISTENERS && listener.is_accepted() {
                    let message = format!("the Gateway has {MOST_LISTENERS} listeners already, as many as it may");
                    listener.accepted = Condition::no("TooManyListeners", message);
                }
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

pub(super) fn set_key(set: &ListenerSet) -> ObjectKey {
    ObjectKey { kind: Kind::ListenerSet, namespace: Arc::clone(&set.meta.namespace), name: Arc::clone(&set.meta.name) }
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
