//! `networking.istio.io` (v1, v1beta1 and v1alpha3, which are the same): gateways, virtual services, destination rules, service entries.
//!
//! ```text
//! Gateway (servers) ← VirtualService (hosts, routes) → Service or ServiceEntry (ports) ← DestinationRule (subsets, policies)
//!                                                                        └ WorkloadEntry, Pod
//! ```

mod destination_rule;
mod gateway;
mod service_entry;
mod virtual_service;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeMap as _};

pub use self::{destination_rule::*, gateway::*, service_entry::*, virtual_service::*};

/// Strings by string.
pub type Strings = BTreeMap<Arc<str>, Arc<str>>;

/// A `StringMatch`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum StringMatch {
    /// `exact`.
    Exact(Arc<str>),
    /// `prefix`, not empty.
    Prefix(Arc<str>),
    /// `regex` (RE2), of the whole value.
    Regex(Arc<str>),
    /// None of the three: that there is a value.
    Present,
}

impl Serialize for StringMatch {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        match self {
            Self::Exact(text) => map.serialize_entry("exact", text)?,
            Self::Prefix(text) => map.serialize_entry("prefix", text)?,
            Self::Regex(text) => map.serialize_entry("regex", text)?,
            Self::Present => {}
        }
        map.end()
    }
}

/// A part of requests in millionths, as `percentage.value` says it in hundredths: what Envoy counts in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Percent {
    /// 0-1,000,000.
    pub millionths: u32,
}

impl Percent {
    /// All of them.
    pub const ALL: Self = Self { millionths: 1_000_000 };
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry("value", &(f64::from(self.millionths) / 10_000.0))?;
        map.end()
    }
}

/// A number with a fraction. Never NaN.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Serialize)]
#[serde(transparent)]
pub struct Real(pub f64);

impl Eq for Real {}

/// What an object is visible to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ExportTo {
    /// `*`, or not given: every namespace.
    #[default]
    All,
    /// Namespaces by name; `.` is the object's own. Empty for `~`: none.
    Namespaces(Vec<Arc<str>>),
}

impl Serialize for ExportTo {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => to.collect_seq(["*"]),
            Self::Namespaces(names) if names.is_empty() => to.collect_seq(["~"]),
            Self::Namespaces(names) => to.collect_seq(names),
        }
    }
}

impl ExportTo {
    /// Whether what is in the namespace `home` is visible in the namespace `from`.
    pub fn reaches(&self, home: &str, from: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => names.iter().any(|name| &**name == from || (&**name == "." && home == from)),
        }
    }
}

/// `protocol` of a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are Istio's own")]
pub enum PortProtocol {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
    #[serde(rename = "GRPC")]
    Grpc,
    #[serde(rename = "GRPC-WEB")]
    GrpcWeb,
    #[serde(rename = "HTTP2")]
    Http2,
    #[serde(rename = "MONGO")]
    Mongo,
    #[serde(rename = "REDIS")]
    Redis,
    #[serde(rename = "MYSQL")]
    Mysql,
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "TLS")]
    Tls,
}

impl PortProtocol {
    /// All, by name.
    pub const ALL: [(&'static str, Self); 10] = [
        ("HTTP", Self::Http),
        ("HTTPS", Self::Https),
        ("GRPC", Self::Grpc),
        ("GRPC-WEB", Self::GrpcWeb),
        ("HTTP2", Self::Http2),
        ("MONGO", Self::Mongo),
        ("REDIS", Self::Redis),
        ("MYSQL", Self::Mysql),
        ("TCP", Self::Tcp),
        ("TLS", Self::Tls),
    ];

    /// Whether requests are seen on it.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Grpc | Self::GrpcWeb | Self::Http2)
    }

    /// Whether TLS is.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, protocol)| protocol == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// What the proxies of a gateway are started with, as far as a gate goes by it (`istio.mesh.v1alpha1.ProxyConfig`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProxyConfig {
    /// `gatewayTopology.numTrustedProxies`: how many proxies before the gate are believed about clients.
    pub num_trusted_proxies: Option<u8>,
    /// Fields that are given and not gone by, by their paths.
    pub others: Vec<Arc<str>>,
}

/// A duration as protobuf's JSON has it.
#[expect(clippy::ref_option, reason = "serde calls it so")]
fn seconds<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => to.collect_str(&format_args!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos())),
        None => to.serialize_none(),
    }
}

/// As [`seconds`].
fn fixed_seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    seconds(&Some(*duration), to)
}

/// `{number: PORT}`.
#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn port_selector<S: Serializer>(port: &Option<u16>, to: S) -> Result<S::Ok, S::Error> {
    match port {
        Some(port) => {
            let mut map = to.serialize_map(Some(1))?;
            map.serialize_entry("number", port)?;
            map.end()
        }
        None => to.serialize_none(),
    }
}
