//! `gateway.networking.k8s.io` (v1.6): routes.

use std::{sync::Arc, time::Duration};

use strait_base::Location;

use super::{GatewayDefaultScope, Kind, ObjectMeta};

/// The group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// A route of any kind: where it attaches, which hosts it is for, and its rules in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// `parentRefs`: at most 32.
    pub parents: Vec<ParentReference>,
    /// `useDefaultGateways` (experimental, GEP-3793): it attaches to all gateways of this scope beside those that it names.
    pub default_gateways: GatewayDefaultScope,
    /// `hostnames`, perhaps with a wildcard as first label; none for kinds without.
    pub hostnames: Vec<Arc<str>>,
    /// `rules`, by kind.
    pub rules: RouteRules,
}

impl Route {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self.rules {
            RouteRules::Http(_) => Kind::HttpRoute,
            RouteRules::Grpc(_) => Kind::GrpcRoute,
            RouteRules::Tls(_) => Kind::TlsRoute,
            RouteRules::Tcp(_) => Kind::TcpRoute,
            RouteRules::Udp(_) => Kind::UdpRoute,
        }
    }
}

/// The rules of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteRules {
    /// Of an `HTTPRoute`.
    Http(Vec<HttpRouteRule>),
    /// Of a `GRPCRoute`.
    Grpc(Vec<GrpcRouteRule>),
    /// Of a `TLSRoute`.
    Tls(Vec<L4RouteRule>),
    /// Of a `TCPRoute`.
    Tcp(Vec<L4RouteRule>),
    /// Of a `UDPRoute`.
    Udp(Vec<L4RouteRule>),
}

/// `parentRefs[]`: a gateway unless it says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParentReference {
    /// `group`.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `namespace`, where given.
    pub namespace: Option<Arc<str>>,
    /// `name`.
    pub name: Arc<str>,
    /// `sectionName`: one listener.
    pub section_name: Option<Arc<str>>,
    /// `port`: the listeners of that port.
    pub port: Option<u16>,
    /// Where it stands.
    pub location: Location,
}

/// A reference to an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// `group`; empty for the core group.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `namespace`, where given: the referrer's otherwise.
    pub namespace: Option<Arc<str>>,
    /// `name`.
    pub name: Arc<str>,
    /// Where it stands.
    pub location: Location,
}

/// `backendRefs[]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendReference {
    /// A service unless it says otherwise.
    pub target: Reference,
    /// `port`: required for a service.
    pub port: Option<u16>,
    /// `weight`, 0-1,000,000; 1 where not given.
    pub weight: u32,
    /// `filters`, for what goes to this back end alone.
    pub filters: Vec<RouteFilter>,
}

/// A rule of an `HTTPRoute`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpRouteRule {
    /// `name`.
    pub name: Option<Arc<str>>,
    /// `matches`: any of them; the prefix `/` where none is given.
    pub matches: Vec<HttpRouteMatch>,
    /// `filters`.
    pub filters: Vec<RouteFilter>,
    /// `backendRefs`.
    pub backends: Vec<BackendReference>,
    /// `timeouts.request`; zero is without end.
    pub request_timeout: Option<Duration>,
    /// `timeouts.backendRequest`; zero is without end.
    pub backend_request_timeout: Option<Duration>,
    /// `retry`.
    pub retry: Option<RouteRetry>,
    /// `sessionPersistence`.
    pub session_persistence: Option<SessionPersistence>,
    /// Where it stands.
    pub location: Location,
}

/// One item of `matches`: all of it must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpRouteMatch {
    /// `path`.
    pub path: PathMatch,
    /// `headers`: each name once, the first counts.
    pub headers: Vec<NamedMatch>,
    /// `queryParams`: each name once, the first counts.
    pub query_params: Vec<NamedMatch>,
    /// `method`.
    pub method: Option<Arc<str>>,
    /// Where it stands.
    pub location: Location,
}

/// How a path is matched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathMatch {
    /// `Exact`.
    Exact(Arc<str>),
    /// `PathPrefix`, by elements: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(Arc<str>),
    /// `RegularExpression`, of the whole path.
    Regex(Arc<str>),
}

/// How a header or query parameter is matched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedMatch {
    /// Header names are in small letters.
    pub name: Arc<str>,
    /// What its value must be.
    pub value: ValueMatch,
}

/// How a value is matched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueMatch {
    /// `Exact`.
    Exact(Arc<str>),
    /// `RegularExpression`, of the whole value.
    Regex(Arc<str>),
}

/// A rule of a `GRPCRoute`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrpcRouteRule {
    /// `name`.
    pub name: Option<Arc<str>>,
    /// `matches`: any of them; everything where none is given.
    pub matches: Vec<GrpcRouteMatch>,
    /// `filters`.
    pub filters: Vec<RouteFilter>,
    /// `backendRefs`.
    pub backends: Vec<BackendReference>,
    /// `sessionPersistence`.
    pub session_persistence: Option<SessionPersistence>,
    /// Where it stands.
    pub location: Location,
}

/// One item of a gRPC rule's `matches`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrpcRouteMatch {
    /// `method`.
    pub method: Option<GrpcMethodMatch>,
    /// `headers`.
    pub headers: Vec<NamedMatch>,
    /// Where it stands.
    pub location: Location,
}

/// `method` of a gRPC match: at least one of the two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrpcMethodMatch {
    /// `service`.
    pub service: Option<ValueMatch>,
    /// `method`.
    pub method: Option<ValueMatch>,
}

/// A rule of a `TLSRoute`, `TCPRoute` or `UDPRoute`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct L4RouteRule {
    /// `name`.
    pub name: Option<Arc<str>>,
    /// `backendRefs`; without filters.
    pub backends: Vec<BackendReference>,
    /// Where it stands.
    pub location: Location,
}

/// A filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouteFilter {
    /// `RequestHeaderModifier`.
    RequestHeaders(HeaderModifier),
    /// `ResponseHeaderModifier`.
    ResponseHeaders(HeaderModifier),
    /// `RequestRedirect`.
    Redirect(RequestRedirect),
    /// `URLRewrite`.
    Rewrite(UrlRewrite),
    /// `RequestMirror`.
    Mirror(RequestMirror),
    /// `CORS`.
    Cors(Cors),
    /// `ExternalAuth`.
    ExternalAuth(ExternalAuth),
    /// `ExtensionRef`: none is known.
    Extension(Reference),
}

/// Edits of headers: set, then add, then remove. Names are in small letters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeaderModifier {
    /// `set`.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// `add`.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// `remove`.
    pub remove: Vec<Arc<str>>,
}

/// `requestRedirect`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestRedirect {
    /// `scheme`: `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// `hostname`.
    pub hostname: Option<Arc<str>>,
    /// `path`.
    pub path: Option<PathModifier>,
    /// `port`.
    pub port: Option<u16>,
    /// `statusCode`: 301, 302, 303, 307 or 308; 302 where not given.
    pub status_code: u16,
}

/// `urlRewrite`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlRewrite {
    /// `hostname`.
    pub hostname: Option<Arc<str>>,
    /// `path`.
    pub path: Option<PathModifier>,
}

/// How a path is replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathModifier {
    /// `ReplaceFullPath`.
    Full(Arc<str>),
    /// `ReplacePrefixMatch`: only beside a single `PathPrefix` match.
    Prefix(Arc<str>),
}

/// `requestMirror`: a copy goes to another back end too, whose answer is dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestMirror {
    /// `backendRef`.
    pub backend: BackendReference,
    /// `percent` or `fraction` as numerator and denominator; all where neither is given.
    pub fraction: (u32, u32),
}

/// `cors`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cors {
    /// `allowOrigins`: `*`, or `scheme://host[:port]` where the host may start with a wildcard.
    pub allow_origins: Vec<Arc<str>>,
    /// `allowCredentials`.
    pub allow_credentials: bool,
    /// `allowMethods`.
    pub allow_methods: Vec<Arc<str>>,
    /// `allowHeaders`.
    pub allow_headers: Vec<Arc<str>>,
    /// `exposeHeaders`.
    pub expose_headers: Vec<Arc<str>>,
    /// `maxAge` in seconds; 5 where not given.
    pub max_age: u32,
}

/// `retry` of an HTTP rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteRetry {
    /// `codes`: 400-599.
    pub codes: Vec<u16>,
    /// `attempts`.
    pub attempts: Option<u32>,
    /// `backoff`.
    pub backoff: Option<Duration>,
}

/// `externalAuth`: another service decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalAuth {
    /// `backendRef`.
    pub backend: BackendReference,
    /// `protocol: GRPC`, Envoy's; HTTP otherwise.
    pub grpc: bool,
}

/// `sessionPersistence`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPersistence {
    /// `sessionName`.
    pub name: Option<Arc<str>>,
    /// `type`.
    pub by: SessionType,
    /// `absoluteTimeout`.
    pub absolute_timeout: Option<Duration>,
    /// `idleTimeout`.
    pub idle_timeout: Option<Duration>,
    /// `cookieConfig.lifetimeType: Permanent`.
    pub permanent_cookie: bool,
}

/// By what a session is known again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SessionType {
    /// `Cookie`.
    #[default]
    Cookie,
    /// `Header`.
    Header,
}

impl HttpRouteMatch {
    /// The prefix `/`: what a rule without matches has.
    pub fn everything(location: Location) -> Self {
        let path = PathMatch::Prefix("/".into());
        Self { path, headers: Vec::new(), query_params: Vec::new(), method: None, location }
    }
}

impl HttpRouteRule {
    /// A rule that takes everything and has no back end: what a route without rules has.
    pub fn everything(location: Location) -> Self {
        Self {
            name: None,
            matches: vec![HttpRouteMatch::everything(location.clone())],
            filters: Vec::new(),
            backends: Vec::new(),
            request_timeout: None,
            backend_request_timeout: None,
            retry: None,
            session_persistence: None,
            location,
        }
    }
}
