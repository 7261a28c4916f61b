//! What a gateway process serves.
//!
//! ```text
//! Plan ─ ports ─ PortPlan (address, port) ─┬ Http ─ hosts ─ HttpListener ─ hosts ─ PathTable ─ rules ─ Rule ─ Split ─ backends
//!                                          ├ Tls ── SNI ─── TlsListener ─┬ Http ─ as above
//!                                          │                             ├ Terminate ─ SNI ─ Split
//!                                          │                             └ Passthrough ─ SNI ─ Split
//!                                          ├ Tcp ── Split
//!                                          └ Udp ── Split
//! ```
//!
//! Immutable: what refers to something else holds its index in the plan's lists, so a worker can swap one plan for the next between two
//! requests. What did not change is shared with the plan before, and nothing on a request's way counts a shared pointer.

use std::{net::IpAddr, sync::Arc, time::Duration};

use strait_base::Location;

pub use strait_api::{RetryConstraint, SessionType};

use crate::{
    hosts::HostTable,
    ordered::{RouteTable, Text},
    slots::Slots,
};

/// Index of a rule in [`Plan::rules`].
pub type RuleId = u32;
/// Index of a back end in [`Plan::backends`].
pub type BackendId = u32;
/// Index of a certificate in [`Plan::certificates`].
pub type CertificateId = u32;

/// Everything that is served. Empty serves nothing.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where, in order of address, transport and port; each once.
    pub ports: Vec<Arc<PortPlan>>,
    /// HTTP rules of all routes.
    pub rules: Slots<Rule>,
    /// What requests and connections go to.
    pub backends: Slots<Backend>,
    /// Server and client certificates.
    pub certificates: Slots<Certificate>,
}

/// A socket that is listened on.
#[derive(Debug)]
pub struct PortPlan {
    /// The address of its gateway.
    pub address: IpAddr,
    /// The port that its listeners name, before any mapping.
    pub port: u16,
    /// The gateway as `namespace/name`.
    pub gateway: Arc<str>,
    /// How many proxies before it are believed about clients; as many as the process is told where its gateway does not say.
    pub trusted_proxies: Option<u8>,
    /// What is spoken.
    pub serve: Serve,
}

/// What a port speaks.
#[derive(Debug)]
pub enum Serve {
    /// HTTP without TLS: HTTP/1.1, and HTTP/2 with prior knowledge.
    Http(HostTable<HttpListener>),
    /// TLS: what then depends on the server name.
    Tls(HostTable<TlsListener>),
    /// TCP as it comes; without a route a connection is closed.
    Tcp(Option<Split>),
    /// Datagrams; without a route they are dropped.
    Udp(Option<Split>),
}

impl Serve {
    /// Whether it listens for datagrams.
    pub const fn is_udp(&self) -> bool {
        matches!(self, Self::Udp(_))
    }
}

/// A listener that takes requests.
#[derive(Clone, Debug)]
pub struct HttpListener {
    /// Its name.
    pub name: Arc<str>,
    /// Its routes by host. A request whose host no route has, or whose path none takes, gets a 404.
    pub hosts: HostTable<RouteTable>,
}

/// A listener behind TLS.
#[derive(Clone, Debug)]
pub struct TlsListener {
    /// Its name.
    pub name: Arc<str>,
    /// What is done with the connection.
    pub then: TlsThen,
}

/// What is done with a TLS connection.
#[derive(Clone, Debug)]
pub enum TlsThen {
    /// The handshake is done here, and requests are served.
    Http(Terminate, HttpListener),
    /// The handshake is done here, and what is inside goes to a back end.
    Tcp(Terminate, HostTable<Split>),
    /// The connection goes to a back end as it is.
    Passthrough(HostTable<Split>),
    /// The same for clients of a mesh alone: those that offer one of Istio's own protocols (ALPN).
    Mesh(HostTable<Split>),
}

/// How a handshake is done.
#[derive(Clone, Debug)]
pub struct Terminate {
    /// The certificates, in the order they are named; the first that fits the server name is shown, else the first.
    pub certificates: Vec<CertificateId>,
    /// How clients are asked for certificates, if they are.
    pub clients: Option<ClientValidation>,
    /// Which versions are spoken.
    pub versions: TlsVersions,
}

/// Versions of TLS that are spoken, of 1.2 and 1.3. Without either no handshake comes about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlsVersions {
    /// 1.2.
    pub tls12: bool,
    /// 1.3.
    pub tls13: bool,
}

impl Default for TlsVersions {
    fn default() -> Self {
        Self { tls12: true, tls13: true }
    }
}

/// How clients' certificates are checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientValidation {
    /// Authorities, as PEM. Empty where none could be read: then no client is let in, unless that does not matter.
    pub authorities: Arc<[u8]>,
    /// `AllowInsecureFallback`: a client without a valid certificate is served all the same.
    pub insecure_fallback: bool,
    /// `OPTIONAL_MUTUAL`: a client without a certificate is served, one with an invalid one is not.
    pub optional: bool,
    /// Names of which a client's certificate must have one; any where empty.
    pub names: Vec<Arc<str>>,
}

/// A certificate with its key, as PEM. Its key is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Where it comes from, as `namespace/name` of the secret.
    pub name: Arc<str>,
    /// The chain.
    pub chain: Arc<[u8]>,
    /// The private key.
    pub key: Arc<[u8]>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A rule of a route: what happens to a request that it takes.
#[derive(Debug)]
pub struct Rule {
    /// The route as `kind/namespace/name`, and the rule's name or index: for logs and metrics.
    pub name: Arc<str>,
    /// Where it stands.
    pub location: Location,
    /// Filters, in the order they apply.
    pub filters: Vec<Filter>,
    /// Where the request goes. A filter that answers comes first.
    pub split: Split,
    /// For the whole request; none where zero or not given.
    pub request_timeout: Option<Duration>,
    /// For each attempt at a back end; none where zero or not given.
    pub backend_request_timeout: Option<Duration>,
    /// When a request is sent again.
    pub retry: Option<Retry>,
    /// How a session keeps to one endpoint, whatever back ends say of themselves.
    pub session: Option<Session>,
    /// Whether the rule, or a back end that it may go to, keeps sessions.
    pub keeps_sessions: bool,
}

/// When a request is sent again: where no response came of it, or one with a status that is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Statuses, in order.
    pub codes: Vec<u16>,
    /// Whether a request is that could not be sent.
    pub not_sent: bool,
    /// Whether one is that was sent and got no response.
    pub lost: Lost,
    /// How often at most, beside the first attempt.
    pub attempts: u32,
    /// How long to wait before the first time; twice as long before each further one.
    pub backoff: Duration,
}

/// Whether a request is sent again that a back end may have begun to work on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Where that is harmless (RFC 9110, 9.2.2), or the status that the client would get is listed.
    Harmless,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How a client's requests keep to one endpoint (GEP-1619).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The rule or policy that says so: a token holds for no other.
    pub scope: Arc<str>,
    /// The name of the cookie or, in small letters, of the header.
    pub name: Arc<str>,
    /// By what clients send the token back.
    pub by: SessionType,
    /// How long after its beginning a session ends.
    pub absolute_timeout: Option<Duration>,
    /// How long after its last request a session ends.
    pub idle_timeout: Option<Duration>,
    /// Whether the cookie outlives the client; for as long as the absolute timeout then.
    pub permanent: bool,
    /// Paths of the rule's matches, the longest first: the first that a request's path is at or below is the cookie's.
    /// None: the cookie has no path.
    pub paths: Option<Vec<Arc<str>>>,
}

impl Session {
    /// The path of the cookie that a request for `path` gets.
    pub fn path(&self, path: &str) -> Option<&str> {
        let below = |prefix: &&Arc<str>| {
            path.strip_prefix(&***prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let paths = self.paths.as_ref()?;
        Some(paths.iter().find(below).map_or("/", |path| path))
    }
}

/// Back ends by weight.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Split {
    /// Those with a weight above zero. Empty: there is nowhere to go, which is a 500.
    pub targets: Vec<WeightedBackend>,
    /// Those with a weight of zero: only sessions that they have go on there.
    pub retired: Vec<WeightedBackend>,
    /// The sum of the weights.
    pub total: u32,
}

impl Split {
    /// All shares: those with weight, then the others.
    pub fn shares(&self) -> impl Iterator<Item = &WeightedBackend> {
        self.targets.iter().chain(&self.retired)
    }

    /// The share at that place among them.
    pub fn share(&self, index: usize) -> Option<&WeightedBackend> {
        self.targets.get(index).or_else(|| self.retired.get(index.checked_sub(self.targets.len())?))
    }
}

/// A share of the traffic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WeightedBackend {
    /// Its weight.
    pub weight: u32,
    /// Where its share goes; a reference that leads nowhere is answered with 500.
    pub backend: Option<BackendId>,
    /// Filters for this share alone.
    pub filters: Vec<Filter>,
}

/// A service's port, or what else a reference leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backend {
    /// As `namespace/name:port`; of Istio's rules as Istio names clusters, `outbound|port|subset|host`.
    pub name: Arc<str>,
    /// The namespace of the service.
    pub namespace: Arc<str>,
    /// The name of the service.
    pub service: Arc<str>,
    /// Where it is reached: ready endpoints. Empty is a 503.
    pub endpoints: Vec<Endpoint>,
    /// What it speaks.
    pub protocol: BackendProtocol,
    /// How TLS is spoken to it, if at all.
    pub tls: Option<BackendTls>,
    /// How many of the requests to it may be retries; any where none.
    pub retry_budget: Option<RetryConstraint>,
    /// How a session keeps to one endpoint of it, where the rule does not say.
    pub session: Option<Session>,
}

/// An endpoint of a back end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What a back end speaks, by `appProtocol` (GEP-1911) or the name of its port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum BackendProtocol {
    /// HTTP/1.1, or whatever bytes a TCP or UDP route carries.
    #[default]
    Http1,
    /// `kubernetes.io/ws`, `kubernetes.io/wss`: HTTP/1.1 with upgrades.
    WebSocket,
    /// `kubernetes.io/h2c`, and whatever a `GRPCRoute` refers to: HTTP/2, without TLS by prior knowledge.
    Http2,
}

/// How TLS is spoken to a back end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendTls {
    /// The server name, which the certificate must have unless other names are given.
    pub hostname: Arc<str>,
    /// Authorities, as PEM; the system's where none. None where they could not be read: nothing is sent then, which is a 500.
    pub authorities: Option<Authorities>,
    /// Host names of which the certificate must have one.
    pub host_names: Vec<Arc<str>>,
    /// URIs of which the certificate must have one.
    pub uris: Vec<Arc<str>>,
    /// The gateway's own certificate for back ends.
    pub client_certificate: Option<CertificateId>,
}

/// Whom certificates are believed from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Authorities {
    /// The system's.
    System,
    /// Those of this PEM.
    Pem(Arc<[u8]>),
    /// `insecureSkipVerify`: anybody.
    Anyone,
}

/// What is done with a request, or with its response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filter {
    /// Edits of the request's fields.
    RequestHeaders(Edits),
    /// Edits of the response's fields.
    ResponseHeaders(Edits),
    /// The request is answered with a redirect.
    Redirect(Redirect),
    /// The request goes to the back end under another host or path.
    Rewrite(Rewrite),
    /// A copy goes to another back end, whose answer is dropped.
    Mirror(Mirror),
    /// Cross-origin requests (the Fetch standard's CORS protocol).
    Cors(Arc<strait_api::Cors>),
    /// As `Cors`, by a policy of Istio's.
    CorsPolicy(Arc<CorsPolicy>),
    /// The request is answered with this.
    Direct(Arc<Direct>),
    /// The request is held up, or aborted.
    Fault(Fault),
    /// What is not known how to do: the request is answered with 500.
    Unknown,
}

/// A `corsPolicy`: lists as fields have them, none where empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CorsPolicy {
    /// Origins that may read answers.
    pub origins: Vec<Text>,
    /// `access-control-allow-methods`.
    pub methods: Option<Arc<str>>,
    /// `access-control-allow-headers`.
    pub headers: Option<Arc<str>>,
    /// `access-control-expose-headers`.
    pub expose: Option<Arc<str>>,
    /// `access-control-max-age`.
    pub max_age: Option<Arc<str>>,
    /// `access-control-allow-credentials`.
    pub credentials: bool,
    /// Preflights from other origins go to the back end; else they are answered without these fields.
    pub forward_unmatched: bool,
}

impl CorsPolicy {
    /// Whether an origin may read answers.
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|text| text.matches(origin.as_bytes()))
    }
}

/// An answer that a rule holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Direct {
    /// The status, 200-599.
    pub status: u16,
    /// The body.
    pub body: Arc<[u8]>,
}

/// A delay, then an abort, each of a part of the requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fault {
    /// How long, and of which part of the requests as numerator and denominator.
    pub delay: Option<(Duration, (u32, u32))>,
    /// With what, and of which part.
    pub abort: Option<(Abort, (u32, u32))>,
}

/// With what a request is aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abort {
    /// A status of HTTP.
    Http(u16),
    /// A status of gRPC.
    Grpc(u8),
}

/// Edits of fields. Names are in small letters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Edits {
    /// Fields written in place of all with their name.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Fields written beside those with their name.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Fields left out.
    pub remove: Vec<Arc<str>>,
}

/// A redirect. What is not given is the request's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// The host.
    pub hostname: Option<Arc<str>>,
    /// The path.
    pub path: Option<PathRewrite>,
    /// The port.
    pub port: RedirectPort,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// The port of a redirect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedirectPort {
    /// This one.
    Number(u16),
    /// That of the scheme, if one is given, else the listener's.
    Listener,
    /// The one that was asked, but for the default of another scheme; none where another host is given, which may have its own.
    Kept,
    /// The scheme's.
    Scheme,
    /// The one that was asked.
    Request,
}

/// Another host or path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rewrite {
    /// The host.
    pub hostname: Option<Arc<str>>,
    /// The path.
    pub path: Option<PathRewrite>,
}

/// How a path is replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathRewrite {
    /// As a whole.
    Full(Arc<str>),
    /// The prefix that was matched, by what comes in its place.
    Prefix {
        /// What was matched, without a slash at its end.
        prefix: Arc<str>,
        /// What comes in its place.
        with: Arc<str>,
    },
    /// The first characters, by what comes in their place.
    Start {
        /// How many characters.
        length: usize,
        /// What comes in their place.
        with: Arc<str>,
    },
    /// Every match of an expression.
    Regex(RegexRewrite),
}

/// Matches of an expression, and what comes in their place.
#[derive(Clone, Debug)]
pub struct RegexRewrite {
    /// The expression.
    pub regex: regex::Regex,
    /// What comes in place of each match: `\\1` is its first group, `\\0` all of it, `\\\\` a backslash.
    pub with: Arc<str>,
}

impl PartialEq for RegexRewrite {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.with == other.with
    }
}

impl Eq for RegexRewrite {}

impl RegexRewrite {
    fn apply(&self, path: &str, out: &mut String) {
        // An expression that matches everywhere would make a path of any length.
        const MOST: usize = 64 << 10;
        let mut end = 0;
        for found in self.regex.captures_iter(path) {
            let Some(whole) = found.get(0).filter(|_| out.len() < MOST) else { break };
            out.push_str(&path[end..whole.start()]);
            end = whole.end();
            let mut escaped = false;
            for c in self.with.chars() {
                match (escaped, c.to_digit(10)) {
                    (false, _) if c == '\\' => {
                        escaped = true;
                        continue;
                    }
                    (true, Some(group)) => out.push_str(found.get(group as usize).map_or("", |group| group.as_str())),
                    (true | false, _) => out.push(c),
                }
                escaped = false;
            }
        }
        out.push_str(&path[end..]);
    }
}

impl PathRewrite {
    /// The path that comes of `path`, as the specification's table has it: exactly one slash where the parts meet, and `/` rather than nothing.
    pub fn apply(&self, path: &str, out: &mut String) {
        out.clear();
        match self {
            Self::Full(whole) => out.push_str(whole),
            Self::Prefix { prefix, with } => {
                let rest = path.strip_prefix(&**prefix).unwrap_or_default();
                let with = with.strip_suffix('/').filter(|_| rest.starts_with('/') || rest.is_empty()).unwrap_or(with);
                out.push_str(with);
                out.push_str(rest);
            }
            Self::Start { length, with } => {
                out.push_str(with);
                out.push_str(path.get(*length..).unwrap_or_default());
            }
            Self::Regex(regex) => regex.apply(path, out),
        }
        if !out.starts_with('/') {
            out.insert(0, '/');
        }
    }
}

/// Where copies go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// To whom; none where the reference leads nowhere, and then no copy is made.
    pub backend: Option<BackendId>,
    /// Which part of the requests, as numerator and denominator.
    pub fraction: (u32, u32),
    /// Whether `-shadow` is put behind the host, so that copies are told from requests.
    pub shadow: bool,
}
