//! `VirtualService`.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use strait_base::Location;

use super::{ExportTo, Percent, StringMatch, Strings, fixed_seconds, port_selector, seconds};
use crate::types::ObjectMeta;

/// A `VirtualService`: how requests and connections for hosts are routed. Without hosts it is a delegate of others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualService {
    /// What every object carries.
    #[serde(skip)]
    pub meta: ObjectMeta,
    /// `hosts`, in small letters: names, perhaps short or with a wildcard, or addresses.
    pub hosts: Vec<Arc<str>>,
    /// `gateways`: `NAME`, `NAMESPACE/NAME` or `mesh`; empty is `mesh`.
    pub gateways: Vec<Arc<str>>,
    /// `http`, in order.
    pub http: Vec<HttpRoute>,
    /// `tls`, in order.
    pub tls: Vec<TlsRoute>,
    /// `tcp`, in order.
    pub tcp: Vec<TcpRoute>,
    /// `exportTo`.
    pub export_to: ExportTo,
}

/// `http[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    /// `name`.
    pub name: Option<Arc<str>>,
    /// `match`: any of them; everything where none is given.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatch>,
    /// What is done.
    #[serde(flatten)]
    pub action: HttpAction,
    /// `rewrite`.
    pub rewrite: Option<HttpRewrite>,
    /// `timeout`; zero is without end.
    #[serde(serialize_with = "seconds")]
    pub timeout: Option<Duration>,
    /// `retries`.
    pub retries: Option<HttpRetry>,
    /// `fault`.
    pub fault: Option<HttpFault>,
    /// `mirror` with `mirrorPercentage`, or `mirrors`.
    #[serde(rename = "mirrors")]
    pub mirrors: Vec<HttpMirror>,
    /// `corsPolicy`.
    pub cors_policy: Option<CorsPolicy>,
    /// `headers`.
    pub headers: Option<Headers>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

/// What is done with a request: one of these.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HttpAction {
    /// `route`: at least one destination.
    Route(Vec<HttpRouteDestination>),
    /// `redirect`.
    Redirect(HttpRedirect),
    /// `directResponse`.
    DirectResponse(HttpDirectResponse),
    /// `delegate`.
    Delegate(Delegate),
}

/// `match[]`: all of it must hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// `name`.
    pub name: Option<Arc<str>>,
    /// `uri`: of the path without the query.
    pub uri: Option<StringMatch>,
    /// `scheme`.
    pub scheme: Option<StringMatch>,
    /// `method`.
    pub method: Option<StringMatch>,
    /// `authority`.
    pub authority: Option<StringMatch>,
    /// `headers`, by name in small letters. `@request.auth.claims…` is a claim of a token.
    pub headers: BTreeMap<Arc<str>, StringMatch>,
    /// `withoutHeaders`: none of these matches.
    pub without_headers: BTreeMap<Arc<str>, StringMatch>,
    /// `queryParams`.
    pub query_params: BTreeMap<Arc<str>, StringMatch>,
    /// `port`: that of the listener.
    pub port: Option<u16>,
    /// `sourceLabels`.
    pub source_labels: Strings,
    /// `sourceNamespace`.
    pub source_namespace: Option<Arc<str>>,
    /// `gateways`: those of the virtual service where empty.
    pub gateways: Vec<Arc<str>>,
    /// `ignoreUriCase`: for `exact` and `prefix` of `uri`.
    pub ignore_uri_case: bool,
    /// `statPrefix`.
    pub stat_prefix: Option<Arc<str>>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

/// `destination`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Destination {
    /// `host`: short names are of the virtual service's namespace.
    pub host: Arc<str>,
    /// `subset`.
    pub subset: Option<Arc<str>>,
    /// `port.number`.
    #[serde(serialize_with = "port_selector")]
    pub port: Option<u16>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

/// `route[]` of an HTTP route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HttpRouteDestination {
    /// `destination`.
    pub destination: Destination,
    /// `weight`, relative to the others'; 0 for several is no traffic.
    pub weight: u32,
    /// `headers`.
    pub headers: Option<Headers>,
}

/// `route[]` of a TLS or TCP route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RouteDestination {
    /// `destination`.
    pub destination: Destination,
    /// `weight`.
    pub weight: u32,
}

/// `redirect`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRedirect {
    /// `uri`: the whole path.
    pub uri: Option<Arc<str>>,
    /// `prefixRewrite`: in place of the prefix that was matched.
    pub prefix_rewrite: Option<Arc<str>>,
    /// `authority`.
    pub authority: Option<Arc<str>>,
    /// `port` or `derivePort`.
    #[serde(flatten)]
    pub port: RedirectPort,
    /// `scheme`: `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// `redirectCode`: 301, 302, 303, 307 or 308; 301 where not given.
    pub redirect_code: u16,
}

/// The port of a redirect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedirectPort {
    /// Nothing is said.
    Unset,
    /// `port`.
    Number(u16),
    /// `derivePort: FROM_PROTOCOL_DEFAULT`.
    ProtocolDefault,
    /// `derivePort: FROM_REQUEST_PORT`.
    RequestPort,
}

impl Serialize for RedirectPort {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unset => to.collect_map([("port", None::<u16>)]),
            Self::Number(port) => to.collect_map([("port", port)]),
            Self::ProtocolDefault => to.collect_map([("derivePort", "FROM_PROTOCOL_DEFAULT")]),
            Self::RequestPort => to.collect_map([("derivePort", "FROM_REQUEST_PORT")]),
        }
    }
}

/// `directResponse`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HttpDirectResponse {
    /// `status`: 200-599.
    pub status: u16,
    /// `body`.
    pub body: Option<HttpBody>,
}

/// `body` of a direct response: at most 1 MiB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HttpBody {
    /// `string`.
    Text(Arc<str>),
    /// `bytes`, decoded.
    Bytes(Arc<[u8]>),
}

impl Serialize for HttpBody {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => to.collect_map([("string", &**text)]),
            Self::Bytes(bytes) => to.collect_map([("bytes", crate::write::base64(bytes))]),
        }
    }
}

/// `delegate`: the routes of another virtual service, which has no hosts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Delegate {
    /// `name`.
    pub name: Arc<str>,
    /// `namespace`; the referrer's where not given.
    pub namespace: Option<Arc<str>>,
}

/// `rewrite`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRewrite {
    /// `uri`: in place of what was matched.
    pub uri: Option<Arc<str>>,
    /// `authority`.
    pub authority: Option<Arc<str>>,
    /// `uriRegexRewrite`.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// `uriRegexRewrite`: every match in the path is replaced; `\1` stands for a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RegexRewrite {
    /// `match`.
    #[serde(rename = "match")]
    pub pattern: Arc<str>,
    /// `rewrite`.
    pub rewrite: Arc<str>,
}

/// `retries`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRetry {
    /// `attempts`; 0 is none.
    pub attempts: u32,
    /// `perTryTimeout`.
    #[serde(serialize_with = "seconds")]
    pub per_try_timeout: Option<Duration>,
    /// `retryOn`, token by token; the default's where empty.
    #[serde(serialize_with = "joined")]
    pub retry_on: Vec<RetryOn>,
    /// `retryRemoteLocalities`.
    pub retry_remote_localities: Option<bool>,
    /// `retryIgnorePreviousHosts`.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// `backoff`.
    #[serde(serialize_with = "seconds")]
    pub backoff: Option<Duration>,
}

fn joined<S: Serializer>(tokens: &[RetryOn], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

/// A token of `retryOn`: Envoy's conditions (`x-envoy-retry-on` and `x-envoy-retry-grpc-on`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RetryOn {
    /// `5xx`
    ServerError,
    /// `gateway-error`
    GatewayError,
    /// `reset`
    Reset,
    /// `reset-before-request`
    ResetBeforeRequest,
    /// `connect-failure`
    ConnectFailure,
    /// `envoy-ratelimited`
    EnvoyRatelimited,
    /// `retriable-4xx`
    Retriable4xx,
    /// `refused-stream`
    RefusedStream,
    /// `retriable-status-codes`
    RetriableStatusCodes,
    /// `retriable-headers`
    RetriableHeaders,
    /// `http3-post-connect-failure`
    Http3PostConnectFailure,
    /// `cancelled`
    Cancelled,
    /// `deadline-exceeded`
    DeadlineExceeded,
    /// `internal`
    Internal,
    /// `resource-exhausted`
    ResourceExhausted,
    /// `unavailable`
    Unavailable,
    /// A status, 100-599.
    Status(u16),
}

impl RetryOn {
    /// All that have names.
    pub const NAMED: [(&'static str, Self); 16] = [
        ("5xx", Self::ServerError),
        ("gateway-error", Self::GatewayError),
        ("reset", Self::Reset),
        ("reset-before-request", Self::ResetBeforeRequest),
        ("connect-failure", Self::ConnectFailure),
        ("envoy-ratelimited", Self::EnvoyRatelimited),
        ("retriable-4xx", Self::Retriable4xx),
        ("refused-stream", Self::RefusedStream),
        ("retriable-status-codes", Self::RetriableStatusCodes),
        ("retriable-headers", Self::RetriableHeaders),
        ("http3-post-connect-failure", Self::Http3PostConnectFailure),
        ("cancelled", Self::Cancelled),
        ("deadline-exceeded", Self::DeadlineExceeded),
        ("internal", Self::Internal),
        ("resource-exhausted", Self::ResourceExhausted),
        ("unavailable", Self::Unavailable),
    ];
}

impl std::fmt::Display for RetryOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Self::Status(status) = self {
            return write!(f, "{status}");
        }
        let named = Self::NAMED.iter().find(|(_, token)| token == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

/// `fault`: at least one of the two.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HttpFault {
    /// `delay`.
    pub delay: Option<HttpDelay>,
    /// `abort`.
    pub abort: Option<HttpAbort>,
}

/// `fault.delay`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpDelay {
    /// `fixedDelay`: at least a millisecond.
    #[serde(serialize_with = "fixed_seconds")]
    pub fixed_delay: Duration,
    /// `percentage` (or `percent` of before); none where not given.
    pub percentage: Percent,
}

/// `fault.abort`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAbort {
    /// `httpStatus` or `grpcStatus`.
    #[serde(flatten)]
    pub status: AbortStatus,
    /// `percentage` (or `percent` of before); none where not given.
    pub percentage: Percent,
}

/// With what a request is aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AbortStatus {
    /// `httpStatus`: 200-599.
    HttpStatus(u16),
    /// `grpcStatus`, as its number.
    #[serde(serialize_with = "grpc_name")]
    GrpcStatus(u8),
}

/// The statuses of gRPC, by number.
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn grpc_name<S: Serializer>(status: &u8, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(GRPC_STATUSES.get(usize::from(*status)).unwrap_or(&"UNKNOWN"))
}

/// `mirrors[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HttpMirror {
    /// `destination`.
    pub destination: Destination,
    /// `percentage`; all where not given.
    pub percentage: Percent,
}

/// `corsPolicy`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CorsPolicy {
    /// `allowOrigins`, and `allowOrigin` of before.
    pub allow_origins: Vec<StringMatch>,
    /// `allowMethods`.
    pub allow_methods: Vec<Arc<str>>,
    /// `allowHeaders`.
    pub allow_headers: Vec<Arc<str>>,
    /// `exposeHeaders`.
    pub expose_headers: Vec<Arc<str>>,
    /// `maxAge`: whole seconds.
    #[serde(serialize_with = "seconds")]
    pub max_age: Option<Duration>,
    /// `allowCredentials`.
    pub allow_credentials: Option<bool>,
    /// `unmatchedPreflights`.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// What becomes of a preflight from an origin that is not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// `FORWARD`, also where not given: it goes to the back end.
    #[default]
    Forward,
    /// `IGNORE`: it is answered here, without permission.
    Ignore,
}

/// `headers`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Headers {
    /// `request`.
    pub request: HeaderOperations,
    /// `response`.
    pub response: HeaderOperations,
}

/// Edits of fields. Names are in small letters; `:authority` is `host`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct HeaderOperations {
    /// `set`.
    pub set: Strings,
    /// `add`.
    pub add: Strings,
    /// `remove`.
    pub remove: Vec<Arc<str>>,
}

/// `tls[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TlsRoute {
    /// `match`: any of them; at least one.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatch>,
    /// `route`: at least one.
    pub route: Vec<RouteDestination>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

/// `match[]` of a TLS route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsMatch {
    /// `sniHosts`: at least one, each within the virtual service's hosts.
    pub sni_hosts: Vec<Arc<str>>,
    /// What else must hold.
    #[serde(flatten)]
    pub connection: ConnectionMatch,
}

/// `tcp[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TcpRoute {
    /// `match`: any of them; everything where none is given.
    #[serde(rename = "match")]
    pub matches: Vec<TcpMatch>,
    /// `route`: at least one.
    pub route: Vec<RouteDestination>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

/// `match[]` of a TCP route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpMatch {
    /// `sourceSubnet`.
    #[serde(serialize_with = "one_subnet")]
    pub source_subnet: Option<IpNet>,
    /// What else must hold.
    #[serde(flatten)]
    pub connection: ConnectionMatch,
}

/// What TLS and TCP matches have in common: all of it must hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionMatch {
    /// `destinationSubnets`.
    #[serde(serialize_with = "subnets")]
    pub destination_subnets: Vec<IpNet>,
    /// `port`: that of the listener.
    pub port: Option<u16>,
    /// `sourceLabels`.
    pub source_labels: Strings,
    /// `sourceNamespace`.
    pub source_namespace: Option<Arc<str>>,
    /// `gateways`.
    pub gateways: Vec<Arc<str>>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

impl ConnectionMatch {
    /// Whether an address is in `destinationSubnets`, or none are given.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.destination_subnets.is_empty() || self.destination_subnets.iter().any(|net| net.contains(&address))
    }
}

fn subnets<S: Serializer>(nets: &[IpNet], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(nets.iter().map(ToString::to_string))
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn one_subnet<S: Serializer>(net: &Option<IpNet>, to: S) -> Result<S::Ok, S::Error> {
    match net {
        Some(net) => to.collect_str(net),
        None => to.serialize_none(),
    }
}
