//! `gateway.networking.k8s.io`: everything but routes, as the CRDs of v1.6 check it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    decode::{Decoder, Fields, Step},
    gateway_values::{
        self as gv, Defaults, at_most, bounded, full_reference, hostname, one_of, precise_hostname, reference,
        section_name, twice,
    },
    meta::label_selector,
    report::ErrorKind,
    text::Fault,
    tree::Node,
    values,
};
use crate::types::{
    BackendTlsPolicy, FromNamespaces, FrontendValidation, FrontendValidationMode, GATEWAY_GROUP, Gateway,
    GatewayAddress, GatewayClass, GrantFrom, GrantTo, Infrastructure, Listener, ListenerSet, ListenerTls, Object,
    ObjectMeta, ParametersReference, PolicyTarget, ReferenceGrant, RouteGroupKind, SubjectAltName, TlsMode,
};

pub(super) fn gateway_class(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with controllerName", |d, node| {
        let mut fields = d.fields(node)?;
        let controller = d.required(&mut fields, "controllerName", "a name, as example.com/controller", |d, node| {
            d.checked(node, |text| {
                let valid = text.len() <= 253
                    && text.split_once('/').is_some_and(|(domain, path)| {
                        values::subdomain_1123(domain).is_ok()
                            && !path.is_empty()
                            && !path.contains(char::is_whitespace)
                    });
                valid.then_some(()).ok_or("a domain, '/' and a path, as example.com/controller")
            })
        });
        let parameters = d.optional(&mut fields, "parametersRef", |d, node| parameters(d, node, true));
        d.optional(&mut fields, "description", Decoder::string);
        d.close(&fields, &[]);
        Some((controller?, parameters))
    });
    let ((controller_name, parameters), meta) = (spec?, meta?);
    Some(Object::GatewayClass(Arc::new(GatewayClass { meta, controller_name, parameters })))
}

fn parameters(d: &mut Decoder<'_>, node: &Node, namespaced: bool) -> Option<ParametersReference> {
    let found = full_reference(d, node, namespaced)?;
    Some(ParametersReference { group: found.group, kind: found.kind, name: found.name, namespace: found.namespace })
}

pub(super) fn gateway(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with gatewayClassName and listeners", |d, node| {
        let mut fields = d.fields(node)?;
        let class_name = d.required(&mut fields, "gatewayClassName", "the name of a GatewayClass", gv::object_name);
        let listeners = listeners(d, &mut fields, 0);
        let addresses = bounded(d, &mut fields, "addresses", (0, 16), address);
        refuse_same_addresses(d, &fields, &addresses);
        let infrastructure = d.optional(&mut fields, "infrastructure", infrastructure).unwrap_or_default();
        let allowed_listeners = d.optional(&mut fields, "allowedListeners", |d, node| {
            let mut fields = d.fields(node)?;
            let from = d.optional(&mut fields, "namespaces", |d, node| from_namespaces(d, node, FromNamespaces::None));
            d.close(&fields, &[]);
            from
        });
        let tls = d.optional(&mut fields, "tls", gateway_tls).unwrap_or_default();
        let default_scope = d.optional(&mut fields, "defaultScope", gv::default_scope).unwrap_or_default();
        d.close(&fields, &[]);
        Some((class_name?, listeners, addresses, infrastructure, allowed_listeners, tls, default_scope))
    });
    let (class_name, listeners, addresses, infrastructure, allowed_listeners, tls, default_scope) = spec?;
    Some(Object::Gateway(Arc::new(Gateway {
        meta: meta?,
        class_name,
        listeners,
        addresses,
        infrastructure,
        allowed_listeners: allowed_listeners.unwrap_or(FromNamespaces::None),
        backend_client_certificate: tls.backend,
        frontend_default: tls.default,
        frontend_per_port: tls.per_port,
        default_scope,
    })))
}

pub(super) fn listener_set(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with parentRef and listeners", |d, node| {
        let mut fields = d.fields(node)?;
        let parent = d.required(&mut fields, "parentRef", "the Gateway to add to", |d, node| {
            reference(d, node, Defaults::GATEWAY)
        });
        let listeners = listeners(d, &mut fields, 1);
        d.close(&fields, &[]);
        Some((parent?, listeners))
    });
    let ((parent, listeners), meta) = (spec?, meta?);
    Some(Object::ListenerSet(Arc::new(ListenerSet { meta, parent, listeners })))
}

/// The listeners of a gateway or set: the admission rules are about all of them together.
fn listeners(d: &mut Decoder<'_>, fields: &mut Fields<'_>, least: usize) -> Vec<Listener> {
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    bounded(d, fields, "listeners", (least, 64), |d, node| {
        let listener = listener(d, node)?;
        if !names.insert(Arc::clone(&listener.name)) {
            twice(d, node, &listener.name, "each listener name once");
        }
        if !places.insert((listener.port, Arc::clone(&listener.protocol), listener.hostname.clone())) {
            let host = listener.hostname.as_deref().unwrap_or("any host");
            let what = format!("port {}, {}, {host}", listener.port, listener.protocol);
            twice(d, node, &what, "each combination of port, protocol and hostname once");
        }
        Some(listener)
    })
}

fn listener(d: &mut Decoder<'_>, node: &Node) -> Option<Listener> {
    let mut fields = d.fields(node)?;
    let name = d.required(&mut fields, "name", "a name, unique among the listeners", section_name);
    let hostname = d.optional(&mut fields, "hostname", |d, node| {
        // Empty is as good as absent, as upstream documents.
        if d.string(node)?.is_empty() { None } else { hostname(d, node) }
    });
    let port = d.required(&mut fields, "port", "1-65535", Decoder::port);
    let protocol = d.required(&mut fields, "protocol", "HTTP, HTTPS, TLS, TCP or UDP", protocol);
    let tls_node = fields.get("tls");
    let tls = d.optional(&mut fields, "tls", listener_tls);
    let routes = d.optional(&mut fields, "allowedRoutes", allowed_routes);
    d.close(&fields, &[]);
    let (allowed_namespaces, allowed_kinds) = routes.unwrap_or((FromNamespaces::Same, Vec::new()));
    let protocol = protocol?;
    if let Some(node) = tls_node.filter(|_| matches!(&*protocol, "HTTP" | "TCP" | "UDP")) {
        let fault = Fault::new(node.at, ErrorKind::Value, format!("tls on a listener for {protocol}"), "no tls");
        d.within(Step::Field("tls"), |d| d.fault(fault.remedy("remove tls, or make the protocol HTTPS or TLS")));
    }
    if let Some(node) = node.get("hostname").filter(|_| matches!(&*protocol, "TCP" | "UDP") && hostname.is_some()) {
        let found = format!("a hostname on a listener for {protocol}");
        let fault = Fault::new(node.value.at, ErrorKind::Value, found, "no hostname");
        d.within(Step::Field("hostname"), |d| d.fault(fault.remedy("remove the hostname")));
    }
    if &*protocol == "HTTPS" && tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Passthrough) {
        let fault = Fault::new(node.at, ErrorKind::Value, "Passthrough on an HTTPS listener", "Terminate");
        d.within(Step::Field("tls"), |d| d.fault(fault.remedy("make the protocol TLS to pass connections through")));
    }
    Some(Listener {
        name: name?,
        hostname,
        port: port?,
        protocol,
        tls,
        allowed_namespaces,
        allowed_kinds,
        location: d.location(node.at),
    })
}

/// A protocol of the specification in capitals, however it is written; any other name is left to who serves it.
fn protocol(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    const KNOWN: [&str; 5] = ["HTTP", "HTTPS", "TLS", "TCP", "UDP"];
    let text = d.checked(node, |text| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let valid = match text.split_once('/') {
            None => text.bytes().all(inside) && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-'),
            Some((domain, name)) => {
                values::subdomain_1123(domain).is_ok()
                    && !name.is_empty()
                    && name.bytes().all(|byte| inside(byte) || byte == b'.' || byte == b'_')
            }
        };
        let valid = valid && text.len() <= 255;
        valid
            .then_some(())
            .ok_or("HTTP, HTTPS, TLS, TCP, UDP, or another name of letters, digits and '-', as example.com/protocol")
    })?;
    Some(KNOWN.into_iter().find(|known| text.eq_ignore_ascii_case(known)).map_or(text, Arc::from))
}

fn listener_tls(d: &mut Decoder<'_>, node: &Node) -> Option<ListenerTls> {
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let mode = d.optional(&mut fields, "mode", |d, node| {
        let mode = one_of(d, node, &["Terminate", "Passthrough"])?;
        Some(if mode == "Terminate" { TlsMode::Terminate } else { TlsMode::Passthrough })
    });
    let certificates =
        bounded(d, &mut fields, "certificateRefs", (0, 64), |d, node| reference(d, node, Defaults::SECRET));
    let options = d.optional(&mut fields, "options", |d, node| Some(gv::options(d, node))).unwrap_or_default();
    d.close(&fields, &[]);
    let mode = mode.unwrap_or_default();
    if mode == TlsMode::Terminate && certificates.is_empty() && options.is_empty() && d.errors.len() == before {
        d.missing(node.at, "certificateRefs", "at least one certificate (or options): the mode is Terminate");
    }
    Some(ListenerTls { mode, certificates, options })
}

fn allowed_routes(d: &mut Decoder<'_>, node: &Node) -> Option<(FromNamespaces, Vec<RouteGroupKind>)> {
    let mut fields = d.fields(node)?;
    let from = d.optional(&mut fields, "namespaces", |d, node| from_namespaces(d, node, FromNamespaces::Same));
    let kinds = bounded(d, &mut fields, "kinds", (0, 8), |d, node| {
        let mut fields = d.fields(node)?;
        let group = d.optional(&mut fields, "group", gv::group);
        let kind = d.required(&mut fields, "kind", "a kind of route", gv::kind);
        d.close(&fields, &[]);
        Some(RouteGroupKind { group: group.unwrap_or_else(|| GATEWAY_GROUP.into()), kind: kind? })
    });
    d.close(&fields, &[]);
    Some((from.unwrap_or(FromNamespaces::Same), kinds))
}

fn from_namespaces(d: &mut Decoder<'_>, node: &Node, default: FromNamespaces) -> Option<FromNamespaces> {
    let mut fields = d.fields(node)?;
    let from = d.optional(&mut fields, "from", |d, node| one_of(d, node, &["All", "Same", "Selector", "None"]));
    let selector = d.optional(&mut fields, "selector", label_selector);
    d.close(&fields, &[]);
    match from {
        None => Some(default),
        Some("All") => Some(FromNamespaces::All),
        Some("Same") => Some(FromNamespaces::Same),
        Some("None") => Some(FromNamespaces::None),
        Some(_) => {
            if selector.is_none() && node.get("selector").is_none() {
                d.missing(node.at, "selector", "a label selector: from is Selector");
            }
            selector.map(FromNamespaces::Selector)
        }
    }
}

fn address(d: &mut Decoder<'_>, node: &Node) -> Option<GatewayAddress> {
    let mut fields = d.fields(node)?;
    let address_type = d.optional(&mut fields, "type", |d, node| {
        let text = d.string(node)?;
        if text.contains('/') {
            return d.checked(node, values::qualified_name);
        }
        one_of(d, node, &["IPAddress", "Hostname"]).map(Arc::from)
    });
    let address_type = address_type.unwrap_or_else(|| "IPAddress".into());
    let value = d.optional(&mut fields, "value", |d, node| match &*address_type {
        _ if d.string(node).is_some_and(|text| text.is_empty()) => None,
        "IPAddress" => {
            let text = d.string(node)?;
            match values::address(&text) {
                Ok((address, _)) => Some(Arc::from(address.to_string())),
                Err(allowed) => {
                    d.refuse(node, allowed);
                    None
                }
            }
        }
        "Hostname" => hostname(d, node),
        _ => gv::object_name(d, node),
    });
    d.close(&fields, &[]);
    Some(GatewayAddress { address_type, value, location: d.location(node.at) })
}

fn refuse_same_addresses(d: &mut Decoder<'_>, fields: &Fields<'_>, addresses: &[GatewayAddress]) {
    let mut seen = BTreeSet::new();
    for address in addresses {
        if let Some(value) = &address.value
            && !seen.insert((&address.address_type, value))
            && let Some(entry) = fields.node.get("addresses")
        {
            d.within(Step::Field("addresses"), |d| twice(d, &entry.value, value, "each address once"));
        }
    }
}

fn infrastructure(d: &mut Decoder<'_>, node: &Node) -> Option<Infrastructure> {
    let mut fields = d.fields(node)?;
    let labels = d.optional(&mut fields, "labels", |d, node| {
        let labels = super::meta::labels(d, node).0;
        at_most(d, node, labels.len(), 8, "labels");
        Some(labels)
    });
    let annotations = d.optional(&mut fields, "annotations", |d, node| {
        let annotations = super::meta::annotations(d, node);
        at_most(d, node, annotations.len(), 8, "annotations");
        Some(annotations)
    });
    let parameters = d.optional(&mut fields, "parametersRef", |d, node| parameters(d, node, false));
    d.close(&fields, &[]);
    Some(Infrastructure {
        labels: labels.unwrap_or_default(),
        annotations: annotations.unwrap_or_default(),
        parameters,
    })
}

/// `tls` of a gateway.
#[derive(Default)]
struct GatewayTls {
    backend: Option<crate::types::Reference>,
    default: Option<FrontendValidation>,
    per_port: BTreeMap<u16, Option<FrontendValidation>>,
}

fn gateway_tls(d: &mut Decoder<'_>, node: &Node) -> Option<GatewayTls> {
    let mut fields = d.fields(node)?;
    let backend = d.optional(&mut fields, "backend", |d, node| {
        let mut fields = d.fields(node)?;
        let certificate =
            d.optional(&mut fields, "clientCertificateRef", |d, node| reference(d, node, Defaults::SECRET));
        d.close(&fields, &[]);
        certificate
    });
    let frontend = d.optional(&mut fields, "frontend", |d, node| {
        let mut fields = d.fields(node)?;
        let default = d.required(&mut fields, "default", "what holds for ports that are not listed", tls_config);
        let mut ports = BTreeMap::new();
        bounded(d, &mut fields, "perPort", (0, 64), |d, node| {
            let mut fields = d.fields(node)?;
            let port = d.required(&mut fields, "port", "1-65535", Decoder::port);
            let tls = d.required(&mut fields, "tls", "an object", tls_config);
            d.close(&fields, &[]);
            if ports.insert(port?, tls?).is_some() {
                twice(d, node, &port?.to_string(), "each port once");
            }
            Some(())
        });
        d.close(&fields, &[]);
        Some((default.flatten(), ports))
    });
    d.close(&fields, &[]);
    let (default, per_port) = frontend.unwrap_or_default();
    Some(GatewayTls { backend, default, per_port })
}

/// `TLSConfig`: its validation, or that there is none.
#[expect(clippy::option_option, reason = "outside: could not be read; inside: does not validate")]
fn tls_config(d: &mut Decoder<'_>, node: &Node) -> Option<Option<FrontendValidation>> {
    let mut fields = d.fields(node)?;
    let has_validation = fields.get("validation").is_some();
    let validation = d.optional(&mut fields, "validation", |d, node| {
        let mut fields = d.fields(node)?;
        let ca_certificates =
            bounded(d, &mut fields, "caCertificateRefs", (1, 16), |d, node| full_reference(d, node, true));
        let mode = d.optional(&mut fields, "mode", |d, node| {
            let mode = one_of(d, node, &["AllowValidOnly", "AllowInsecureFallback"])?;
            Some(match mode {
                "AllowValidOnly" => FrontendValidationMode::AllowValidOnly,
                _ => FrontendValidationMode::AllowInsecureFallback,
            })
        });
        d.close(&fields, &[]);
        Some(FrontendValidation { ca_certificates, mode: mode.unwrap_or_default() })
    });
    d.close(&fields, &[]);
    (validation.is_some() || !has_validation).then_some(validation)
}

pub(super) fn reference_grant(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with from and to", |d, node| {
        let mut fields = d.fields(node)?;
        let from = bounded(d, &mut fields, "from", (1, 16), |d, node| {
            let mut fields = d.fields(node)?;
            let group = d.required(&mut fields, "group", "a group (\"\" is the core group)", gv::group);
            let kind = d.required(&mut fields, "kind", "a kind", gv::kind);
            let namespace =
                d.required(&mut fields, "namespace", "a namespace", |d, node| d.checked(node, values::label_1123));
            d.close(&fields, &[]);
            Some(GrantFrom { group: group?, kind: kind?, namespace: namespace? })
        });
        let to = bounded(d, &mut fields, "to", (1, 16), |d, node| {
            let mut fields = d.fields(node)?;
            let group = d.required(&mut fields, "group", "a group (\"\" is the core group)", gv::group);
            let kind = d.required(&mut fields, "kind", "a kind", gv::kind);
            let name = d.optional(&mut fields, "name", gv::object_name);
            d.close(&fields, &[]);
            Some(GrantTo { group: group?, kind: kind?, name })
        });
        d.close(&fields, &[]);
        Some((from, to))
    });
    let ((from, to), meta) = (spec?, meta?);
    Some(Object::ReferenceGrant(Arc::new(ReferenceGrant { meta, from, to })))
}

pub(super) fn backend_tls_policy(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with targetRefs and validation", |d, node| {
        let mut fields = d.fields(node)?;
        let mut seen = BTreeSet::new();
        let targets = bounded(d, &mut fields, "targetRefs", (1, 16), |d, node| {
            let target = policy_target(d, node)?;
            let key = (target.group.clone(), target.kind.clone(), target.name.clone(), target.section_name.clone());
            if !seen.insert(key) {
                twice(d, node, &target.name, "each target and section once");
            }
            Some(target)
        });
        let validation = d.required(&mut fields, "validation", "an object with hostname", backend_validation);
        let options = d.optional(&mut fields, "options", |d, node| Some(gv::options(d, node))).unwrap_or_default();
        d.close(&fields, &[]);
        Some((targets, validation?, options))
    });
    let ((targets, validation, options), meta) = (spec?, meta?);
    Some(Object::BackendTlsPolicy(Arc::new(BackendTlsPolicy {
        meta,
        targets,
        ca_certificates: validation.certificates,
        system_ca_certificates: validation.system,
        hostname: validation.hostname,
        subject_alt_names: validation.names,
        options,
    })))
}

fn policy_target(d: &mut Decoder<'_>, node: &Node) -> Option<PolicyTarget> {
    let mut fields = d.fields(node)?;
    let group = d.required(&mut fields, "group", "a group (\"\" is the core group)", gv::group);
    let kind = d.required(&mut fields, "kind", "a kind", gv::kind);
    let name = d.required(&mut fields, "name", "the name of the object", gv::object_name);
    let section_name = d.optional(&mut fields, "sectionName", section_name);
    d.close(&fields, &[]);
    Some(PolicyTarget { group: group?, kind: kind?, name: name?, section_name, location: d.location(node.at) })
}

/// `validation` of a backend TLS policy.
struct BackendValidation {
    certificates: Vec<crate::types::Reference>,
    system: bool,
    hostname: Arc<str>,
    names: Vec<SubjectAltName>,
}

fn backend_validation(d: &mut Decoder<'_>, node: &Node) -> Option<BackendValidation> {
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let certificates = bounded(d, &mut fields, "caCertificateRefs", (0, 8), |d, node| full_reference(d, node, false));
    let well_known = d.optional(&mut fields, "wellKnownCACertificates", |d, node| {
        // The API server takes domain-prefixed names too; none is known.
        let text = d.string(node)?;
        if text.is_empty() { None } else { one_of(d, node, &["System"]) }
    });
    let hostname = d.required(&mut fields, "hostname", "the server name of the back end", precise_hostname);
    let names = bounded(d, &mut fields, "subjectAltNames", (0, 5), |d, node| {
        let mut fields = d.fields(node)?;
        let kind = d.required(&mut fields, "type", "Hostname or URI", |d, node| one_of(d, node, &["Hostname", "URI"]));
        let host = d.optional(&mut fields, "hostname", hostname_of_name);
        let uri = d.optional(&mut fields, "uri", uri);
        d.close(&fields, &[]);
        match (kind?, host, uri) {
            ("Hostname", Some(host), None) => Some(SubjectAltName::Hostname(host)),
            ("URI", None, Some(uri)) => Some(SubjectAltName::Uri(uri)),
            (kind, ..) => {
                let field = if kind == "URI" { "uri" } else { "hostname" };
                let found = format!("type {kind} without {field}, or with the other");
                d.fault(Fault::new(node.at, ErrorKind::Value, found, format!("{field} alone")));
                None
            }
        }
    });
    d.close(&fields, &[]);
    match (certificates.is_empty(), well_known.is_some()) {
        (true, false) if d.errors.len() == before => {
            d.missing(node.at, "caCertificateRefs", "one to eight references, or wellKnownCACertificates: System");
        }
        (false, true) => {
            let found = "caCertificateRefs beside wellKnownCACertificates";
            d.fault(Fault::new(node.at, ErrorKind::Value, found, "one of the two"));
        }
        _ => {}
    }
    Some(BackendValidation { certificates, system: well_known.is_some(), hostname: hostname?, names })
}

fn hostname_of_name(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    if d.string(node)?.is_empty() { None } else { hostname(d, node) }
}

fn uri(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        let valid = text.len() <= 253
            && text.split_once("://").is_some_and(|(scheme, rest)| {
                scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
                    && !rest.is_empty()
                    && !rest.contains(char::is_whitespace)
            });
        valid.then_some(()).ok_or("an absolute URI, as spiffe://example.com/ns/a/sa/b")
    })
}
