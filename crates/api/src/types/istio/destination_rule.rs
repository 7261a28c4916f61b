//! `DestinationRule`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};
use strait_base::{Labels, Location};

use super::{ExportTo, Percent, Real, Strings, port_selector, seconds};
use crate::types::ObjectMeta;

/// A `DestinationRule`: what happens to traffic once it was routed to a host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRule {
    /// What every object carries.
    #[serde(skip)]
    pub meta: ObjectMeta,
    /// `host`, in small letters: short names are of its own namespace; perhaps with a wildcard.
    pub host: Arc<str>,
    /// `trafficPolicy`.
    pub traffic_policy: Option<TrafficPolicy>,
    /// `subsets`: each name once.
    pub subsets: Vec<Subset>,
    /// `exportTo`.
    pub export_to: ExportTo,
    /// `workloadSelector.matchLabels`: the clients that it is for.
    #[serde(serialize_with = "selector")]
    pub workload_selector: Option<Strings>,
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn selector<S: Serializer>(labels: &Option<Strings>, to: S) -> Result<S::Ok, S::Error> {
    match labels {
        Some(labels) => to.collect_map([("matchLabels", labels)]),
        None => to.serialize_none(),
    }
}

/// `subsets[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    /// `name`.
    pub name: Arc<str>,
    /// `labels` of endpoints; all where empty.
    #[serde(serialize_with = "labels")]
    pub labels: Labels,
    /// `trafficPolicy`, over that of the rule.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

fn labels<S: Serializer>(labels: &Labels, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(labels.0.iter())
}

/// `trafficPolicy`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// `loadBalancer`.
    pub load_balancer: Option<LoadBalancer>,
    /// `connectionPool`.
    pub connection_pool: Option<ConnectionPool>,
    /// `outlierDetection`.
    pub outlier_detection: Option<OutlierDetection>,
    /// `tls`.
    pub tls: Option<ClientTls>,
    /// `portLevelSettings`: what is not given in one is the default, not the policy's.
    pub port_level_settings: Vec<PortPolicy>,
    /// `tunnel`.
    pub tunnel: Option<Tunnel>,
    /// `proxyProtocol.version`.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `retryBudget`.
    pub retry_budget: Option<RetryBudget>,
}

/// `portLevelSettings[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortPolicy {
    /// `port.number`.
    #[serde(serialize_with = "port_selector")]
    pub port: Option<u16>,
    /// `loadBalancer`.
    pub load_balancer: Option<LoadBalancer>,
    /// `connectionPool`.
    pub connection_pool: Option<ConnectionPool>,
    /// `outlierDetection`.
    pub outlier_detection: Option<OutlierDetection>,
    /// `tls`.
    pub tls: Option<ClientTls>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

/// `loadBalancer`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// `simple`; `UNSPECIFIED` where neither is given.
    pub simple: Option<SimpleLoadBalancer>,
    /// `consistentHash`, in its place.
    pub consistent_hash: Option<ConsistentHash>,
    /// `localityLbSetting`.
    pub locality_lb_setting: Option<LocalitySetting>,
    /// `zoneAwareLbSetting`.
    pub zone_aware_lb_setting: Option<ZoneAwareSetting>,
    /// `warmup`, or `warmupDurationSecs` of before.
    pub warmup: Option<Warmup>,
}

/// `loadBalancer.simple`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are Istio's own")]
pub enum SimpleLoadBalancer {
    Unspecified,
    LeastConn,
    Random,
    Passthrough,
    RoundRobin,
    LeastRequest,
}

/// `consistentHash`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsistentHash {
    /// By what.
    #[serde(flatten)]
    pub key: HashKey,
    /// `ringHash.minimumRingSize` or `minimumRingSize`; 1024 where not given.
    pub minimum_ring_size: Option<u32>,
    /// `maglev.tableSize`, in place of a ring.
    #[serde(serialize_with = "maglev")]
    pub maglev: Option<u32>,
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn maglev<S: Serializer>(size: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
    match size {
        Some(size) => to.collect_map([("tableSize", size)]),
        None => to.serialize_none(),
    }
}

/// By what requests are hashed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HashKey {
    /// `httpHeaderName`.
    HttpHeaderName(Arc<str>),
    /// `httpCookie`.
    HttpCookie(HashCookie),
    /// `useSourceIp`.
    UseSourceIp(bool),
    /// `httpQueryParameterName`.
    HttpQueryParameterName(Arc<str>),
}

/// `httpCookie`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HashCookie {
    /// `name`.
    pub name: Arc<str>,
    /// `path`.
    pub path: Option<Arc<str>>,
    /// `ttl`: how long a cookie that is made here lasts; zero for the session.
    #[serde(serialize_with = "seconds")]
    pub ttl: Option<Duration>,
    /// `attributes`.
    pub attributes: Vec<CookieAttribute>,
}

/// `attributes[]` of a cookie.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CookieAttribute {
    /// `name`.
    pub name: Arc<str>,
    /// `value`.
    pub value: Option<Arc<str>>,
}

/// `localityLbSetting`: one of the three ways.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalitySetting {
    /// `enabled`.
    pub enabled: Option<bool>,
    /// `distribute`.
    pub distribute: Vec<Distribute>,
    /// `failover`.
    pub failover: Vec<Failover>,
    /// `failoverPriority`: labels, as `KEY` or `KEY=VALUE`.
    pub failover_priority: Vec<Arc<str>>,
}

/// `distribute[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Distribute {
    /// `from`: a locality, perhaps with a wildcard at its end.
    pub from: Arc<str>,
    /// `to`: percentages that make 100 together.
    pub to: BTreeMap<Arc<str>, u32>,
}

/// `failover[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Failover {
    /// `from`: a region.
    pub from: Arc<str>,
    /// `to`: another one.
    pub to: Arc<str>,
}

/// `zoneAwareLbSetting`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ZoneAwareSetting {
    /// `enabled`.
    pub enabled: Option<bool>,
    /// `failover`.
    pub failover: Vec<Failover>,
    /// `failoverPriority`.
    pub failover_priority: Vec<Arc<str>>,
    /// `minClusterSize`.
    pub min_cluster_size: Option<u32>,
}

/// `warmup`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Warmup {
    /// `duration`.
    #[serde(serialize_with = "seconds")]
    pub duration: Option<Duration>,
    /// `minimumPercent`.
    pub minimum_percent: Option<Real>,
    /// `aggression`.
    pub aggression: Option<Real>,
}

/// `connectionPool`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ConnectionPool {
    /// `tcp`.
    pub tcp: Option<TcpPool>,
    /// `http`.
    pub http: Option<HttpPool>,
}

/// `connectionPool.tcp`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpPool {
    /// `maxConnections`.
    pub max_connections: Option<u32>,
    /// `connectTimeout`; 10 seconds where not given.
    #[serde(serialize_with = "seconds")]
    pub connect_timeout: Option<Duration>,
    /// `tcpKeepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `maxConnectionDuration`.
    #[serde(serialize_with = "seconds")]
    pub max_connection_duration: Option<Duration>,
    /// `idleTimeout`.
    #[serde(serialize_with = "seconds")]
    pub idle_timeout: Option<Duration>,
}

/// `tcpKeepalive`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TcpKeepalive {
    /// `probes`.
    pub probes: Option<u32>,
    /// `time`.
    #[serde(serialize_with = "seconds")]
    pub time: Option<Duration>,
    /// `interval`.
    #[serde(serialize_with = "seconds")]
    pub interval: Option<Duration>,
}

/// `connectionPool.http`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpPool {
    /// `http1MaxPendingRequests`.
    #[serde(rename = "http1MaxPendingRequests")]
    pub http1_max_pending_requests: Option<u32>,
    /// `http2MaxRequests`.
    #[serde(rename = "http2MaxRequests")]
    pub http2_max_requests: Option<u32>,
    /// `maxRequestsPerConnection`.
    pub max_requests_per_connection: Option<u32>,
    /// `maxRetries`.
    pub max_retries: Option<u32>,
    /// `idleTimeout`; an hour where not given.
    #[serde(serialize_with = "seconds")]
    pub idle_timeout: Option<Duration>,
    /// `h2UpgradePolicy`.
    #[serde(rename = "h2UpgradePolicy")]
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// `useClientProtocol`.
    pub use_client_protocol: bool,
    /// `maxConcurrentStreams`.
    pub max_concurrent_streams: Option<u32>,
    /// `http2KeepAlive`.
    #[serde(rename = "http2KeepAlive")]
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// `http2KeepAlive`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Http2KeepAlive {
    /// `interval`.
    #[serde(serialize_with = "seconds")]
    pub interval: Option<Duration>,
    /// `timeout`.
    #[serde(serialize_with = "seconds")]
    pub timeout: Option<Duration>,
}

/// `h2UpgradePolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// The mesh's.
    #[default]
    Default,
    /// Connections stay HTTP/1.1.
    DoNotUpgrade,
    /// Connections are HTTP/2.
    Upgrade,
}

/// `outlierDetection`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// `splitExternalLocalOriginErrors`.
    pub split_external_local_origin_errors: bool,
    /// `consecutiveLocalOriginFailures`; 5 where not given.
    pub consecutive_local_origin_failures: Option<u32>,
    /// `consecutiveGatewayErrors`; off where not given.
    pub consecutive_gateway_errors: Option<u32>,
    /// `consecutive5xxErrors`, or `consecutiveErrors` of before; 5 where not given.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// `interval`; 10 seconds where not given.
    #[serde(serialize_with = "seconds")]
    pub interval: Option<Duration>,
    /// `baseEjectionTime`; 30 seconds where not given.
    #[serde(serialize_with = "seconds")]
    pub base_ejection_time: Option<Duration>,
    /// `maxEjectionPercent`; 10 where not given.
    pub max_ejection_percent: Option<u32>,
    /// `minHealthPercent`; 0 where not given.
    pub min_health_percent: Option<u32>,
    /// `outlierDetectionHttpErrorCodes`.
    pub outlier_detection_http_error_codes: Vec<u16>,
}

/// `tls` of a traffic policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// `mode`.
    pub mode: ClientTlsMode,
    /// `clientCertificate`: a file of the proxy.
    pub client_certificate: Option<Arc<str>>,
    /// `privateKey`: a file of the proxy.
    pub private_key: Option<Arc<str>>,
    /// `caCertificates`: a file of the proxy.
    pub ca_certificates: Option<Arc<str>>,
    /// `credentialName`: a secret.
    pub credential_name: Option<Arc<str>>,
    /// `subjectAltNames`: the back end's certificate must have one of them.
    pub subject_alt_names: Vec<Arc<str>>,
    /// `sni`.
    pub sni: Option<Arc<str>>,
    /// `insecureSkipVerify`.
    pub insecure_skip_verify: bool,
    /// `caCrl`: a file of the proxy.
    pub ca_crl: Option<Arc<str>>,
}

/// `tls.mode` of a traffic policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// No TLS.
    #[default]
    Disable,
    /// TLS.
    Simple,
    /// TLS with a certificate of the client.
    Mutual,
    /// TLS with the mesh's certificates.
    IstioMutual,
}

/// `tunnel`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tunnel {
    /// `protocol`: `CONNECT` or `POST`.
    pub protocol: Arc<str>,
    /// `targetHost`.
    pub target_host: Arc<str>,
    /// `targetPort`.
    pub target_port: u16,
}

/// `proxyProtocol`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "version")]
#[expect(missing_docs, reason = "the names are the protocol's own")]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// `retryBudget`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// `percent`.
    pub percent: Option<Percent>,
    /// `minRetryConcurrency`.
    pub min_retry_concurrency: Option<u32>,
    /// `budgetInterval`.
    #[serde(serialize_with = "seconds")]
    pub budget_interval: Option<Duration>,
}
