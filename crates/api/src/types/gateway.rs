//! `gateway.networking.k8s.io` (v1.6): classes, gateways, sets of listeners, grants and how back ends are reached by TLS.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use strait_base::{LabelSelector, Location, Shared};

use super::{ObjectMeta, Reference, SessionPersistence};

/// A `GatewayClass`: who serves the gateways that name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayClass {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `controllerName`: a domain-prefixed path, as `strait.dev/gateway-controller`.
    pub controller_name: Arc<str>,
    /// `parametersRef`.
    pub parameters: Option<ParametersReference>,
}

/// `parametersRef` of a class, or of a gateway's `infrastructure`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParametersReference {
    /// `group`.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`.
    pub name: Arc<str>,
    /// `namespace`; gateways' parameters are in their own.
    pub namespace: Option<Arc<str>>,
}

/// A `Gateway`: addresses with listeners.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `gatewayClassName`.
    pub class_name: Arc<str>,
    /// `listeners`: at most 64, their names each once, and each (port, protocol, hostname) once.
    pub listeners: Vec<Listener>,
    /// `addresses`: at most 16.
    pub addresses: Vec<GatewayAddress>,
    /// `infrastructure`.
    pub infrastructure: Infrastructure,
    /// `allowedListeners.namespaces`: whose listener sets may attach; nobody's where not given.
    pub allowed_listeners: FromNamespaces,
    /// `tls.backend.clientCertificateRef`: how the gateway authenticates to back ends.
    pub backend_client_certificate: Option<ObjectReference>,
    /// `tls.frontend.default.validation`.
    pub frontend_default: Option<FrontendValidation>,
    /// `tls.frontend.perPort`: by port, instead of the default.
    pub frontend_per_port: BTreeMap<u16, Option<FrontendValidation>>,
    /// `defaultScope` (experimental, GEP-3793): which routes that ask for default gateways attach without naming it.
    pub default_scope: GatewayDefaultScope,
}

/// `defaultScope` of a gateway, and `useDefaultGateways` of a route: where both are the same scope, the route attaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GatewayDefaultScope {
    /// `All`: every route that asks for it.
    All,
    /// `None`: no default gateway; a route that asks for none.
    #[default]
    None,
}

/// `infrastructure` of a gateway: what goes onto what is made for it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Infrastructure {
    /// `labels`.
    pub labels: Shared<BTreeMap<Arc<str>, Arc<str>>>,
    /// `annotations`.
    pub annotations: Shared<BTreeMap<Arc<str>, Arc<str>>>,
    /// `parametersRef`.
    pub parameters: Option<ParametersReference>,
}

/// An address that a gateway asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayAddress {
    /// `type`: `IPAddress` (the default), `Hostname` or a domain-prefixed name.
    pub address_type: Arc<str>,
    /// `value`; none asks for any address of the type.
    pub value: Option<Arc<str>>,
    /// Where it stands.
    pub location: Location,
}

/// A `ListenerSet`: listeners that others add to a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerSet {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `parentRef`: a gateway unless it says otherwise.
    pub parent: ObjectReference,
    /// `listeners`, as a gateway's; at least one.
    pub listeners: Vec<Listener>,
}

/// A listener of a gateway or a listener set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// `name`, unique in its object: a section name.
    pub name: Arc<str>,
    /// `hostname`, perhaps with a wildcard as its first label; all hosts where not given.
    pub hostname: Option<Arc<str>>,
    /// `port`, 1-65535.
    pub port: u16,
    /// `protocol`: `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP`, in capitals however it was written, or a name that is no protocol of the specification.
    pub protocol: Arc<str>,
    /// `tls`: on `HTTPS` and `TLS` listeners.
    pub tls: Option<ListenerTls>,
    /// `allowedRoutes.namespaces`; the same namespace where not given.
    pub allowed_namespaces: FromNamespaces,
    /// `allowedRoutes.kinds`; what the protocol takes where empty.
    pub allowed_kinds: Vec<RouteGroupKind>,
    /// Where it stands.
    pub location: Location,
}

/// `tls` of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerTls {
    /// `mode`.
    pub mode: TlsMode,
    /// `certificateRefs`: secrets unless they say otherwise.
    pub certificates: Vec<ObjectReference>,
    /// `options`: the implementation's own.
    pub options: BTreeMap<Arc<str>, Arc<str>>,
}

/// `tls.mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsMode {
    /// The gateway holds the certificate.
    #[default]
    Terminate,
    /// The connection goes through as it is, chosen by its server name.
    Passthrough,
}

/// From which namespaces routes or listener sets may attach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FromNamespaces {
    /// `All`.
    All,
    /// `Same`: the one of the gateway or listener set.
    Same,
    /// `Selector`: those whose labels match.
    Selector(LabelSelector),
    /// `None`.
    None,
}

/// A kind of route that a listener takes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RouteGroupKind {
    /// `group`; that of the Gateway API where not given.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
}

/// `validation` of clients' certificates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontendValidation {
    /// `caCertificateRefs`: config maps or secrets; one to sixteen.
    pub ca_certificates: Vec<ObjectReference>,
    /// `mode`.
    pub mode: FrontendValidationMode,
}

/// `mode` of the validation of clients' certificates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FrontendValidationMode {
    /// A client without a valid certificate is refused.
    #[default]
    AllowValidOnly,
    /// A client without one, or with an invalid one, is served all the same; the back end decides.
    AllowInsecureFallback,
}

/// A reference to an object, by group, kind, namespace and name.
pub type ObjectReference = Reference;

/// A `ReferenceGrant`: objects of its namespace may be referred to from others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReferenceGrant {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `from`: at least one.
    pub from: Vec<GrantFrom>,
    /// `to`: at least one.
    pub to: Vec<GrantTo>,
}

/// Who may refer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantFrom {
    /// `group`.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `namespace`.
    pub namespace: Arc<str>,
}

/// To what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantTo {
    /// `group`; empty for the core group.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`; all of the kind where not given.
    pub name: Option<Arc<str>>,
}

/// A `BackendTLSPolicy`: how a gateway speaks TLS to a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendTlsPolicy {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `targetRefs`: one to sixteen, in its own namespace.
    pub targets: Vec<PolicyTarget>,
    /// `validation.caCertificateRefs`: at most eight, of its own namespace.
    pub ca_certificates: Vec<ObjectReference>,
    /// `validation.wellKnownCACertificates: System`, in place of references.
    pub system_ca_certificates: bool,
    /// `validation.hostname`: server name of the handshake, and in the certificate unless alternative names are given.
    pub hostname: Arc<str>,
    /// `validation.subjectAltNames`: one of them must be in the certificate; at most five.
    pub subject_alt_names: Vec<SubjectAltName>,
    /// `options`: the implementation's own.
    pub options: BTreeMap<Arc<str>, Arc<str>>,
}

/// An `XBackendTrafficPolicy`: how traffic to a service is handled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendTrafficPolicy {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `targetRefs`: one to sixteen, in its own namespace, without section names.
    pub targets: Vec<PolicyTarget>,
    /// `retryConstraint`.
    pub retry_constraint: Option<RetryConstraint>,
    /// `sessionPersistence`.
    pub session_persistence: Option<SessionPersistence>,
}

/// `retryConstraint`: how many of the requests to a back end may be retries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryConstraint {
    /// `budget.percent` of the requests, 0-100.
    pub percent: u32,
    /// `budget.interval` that the requests are counted in: a second to an hour.
    pub interval: Duration,
    /// `minRetryRate.count`: so many retries are always allowed, 1-1,000,000.
    pub min_retries: u32,
    /// `minRetryRate.interval` that they are counted in: at most an hour.
    pub min_retries_interval: Duration,
}

impl Default for RetryConstraint {
    fn default() -> Self {
        Self {
            percent: 20,
            interval: Duration::from_secs(10),
            min_retries: 10,
            min_retries_interval: Duration::from_secs(1),
        }
    }
}

/// What a policy is attached to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyTarget {
    /// `group`; empty for the core group.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`, in the policy's namespace.
    pub name: Arc<str>,
    /// `sectionName`: of a service, the name of a port.
    pub section_name: Option<Arc<str>>,
    /// Where it stands.
    pub location: Location,
}

/// A name that a back end's certificate may hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubjectAltName {
    /// `Hostname`, perhaps with a wildcard as its first label.
    Hostname(Arc<str>),
    /// `URI`, as a SPIFFE id.
    Uri(Arc<str>),
}
