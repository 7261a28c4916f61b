//! The flow record.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are Hubble's own")]
pub enum Verdict {
    #[serde(rename = "VERDICT_UNKNOWN")]
    Unknown,
    Forwarded,
    Dropped,
    Error,
    Audit,
    Redirected,
    Traced,
    Translated,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::Forwarded,
        Self::Dropped,
        Self::Error,
        Self::Audit,
        Self::Redirected,
        Self::Traced,
        Self::Translated,
    ];

    /// As in JSON and `--verdict`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "VERDICT_UNKNOWN",
            Self::Forwarded => "FORWARDED",
            Self::Dropped => "DROPPED",
            Self::Error => "ERROR",
            Self::Audit => "AUDIT",
            Self::Redirected => "REDIRECTED",
            Self::Traced => "TRACED",
            Self::Translated => "TRANSLATED",
        }
    }
}

/// Direction of the connection from the view of the endpoint that reports it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrafficDirection {
    /// Towards the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

impl TrafficDirection {
    /// `INGRESS` or `EGRESS`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "INGRESS",
            Self::Egress => "EGRESS",
        }
    }
}

/// Which layers a record speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum FlowType {
    /// Addresses and ports.
    #[default]
    #[serde(rename = "L3_L4")]
    L3L4,
}

/// `ipVersion`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum IpVersion {
    IPv4,
    IPv6,
}

/// Network layer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ip {
    /// Who sent.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// Address family.
    #[serde(rename = "ipVersion")]
    pub version: IpVersion,
}

/// TCP flags; absent means not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, clippy::struct_excessive_bools, reason = "Hubble's shape and TCP's own names")]
#[serde(rename_all = "UPPERCASE", default)]
pub struct TcpFlags {
    #[serde(skip_serializing_if = "is_default")]
    pub fin: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub syn: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub rst: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub psh: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub ack: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub urg: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub ece: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub cwr: bool,
}

impl TcpFlags {
    /// From the flags byte of a TCP header.
    pub const fn from_bits(bits: u8) -> Self {
        Self {
            fin: bits & 0x01 != 0,
            syn: bits & 0x02 != 0,
            rst: bits & 0x04 != 0,
            psh: bits & 0x08 != 0,
            ack: bits & 0x10 != 0,
            urg: bits & 0x20 != 0,
            ece: bits & 0x40 != 0,
            cwr: bits & 0x80 != 0,
        }
    }

    /// Name and state of each flag, in the order Hubble prints them.
    pub const fn named(self) -> [(&'static str, bool); 8] {
        [
            ("SYN", self.syn),
            ("ACK", self.ack),
            ("RST", self.rst),
            ("FIN", self.fin),
            ("PSH", self.psh),
            ("URG", self.urg),
            ("ECE", self.ece),
            ("CWR", self.cwr),
        ]
    }
}

/// TCP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TcpPorts {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Flags of the packet; of a finished connection all that were seen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flags: TcpFlags,
}

/// UDP and SCTP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ports {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// `ICMPv4` and `ICMPv6`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are ICMP's own")]
pub struct Icmp {
    #[serde(rename = "type")]
    pub kind: u8,
    #[serde(default, skip_serializing_if = "is_default")]
    pub code: u8,
}

/// Transport layer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Layer4 {
    #[serde(rename = "TCP")]
    Tcp(TcpPorts),
    #[serde(rename = "UDP")]
    Udp(Ports),
    #[serde(rename = "SCTP")]
    Sctp(Ports),
    #[serde(rename = "ICMPv4")]
    Icmpv4(Icmp),
    #[serde(rename = "ICMPv6")]
    Icmpv6(Icmp),
}

impl Layer4 {
    /// Source and destination port, where the protocol has them.
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self {
            Self::Tcp(tcp) => Some((tcp.source_port, tcp.destination_port)),
            Self::Udp(ports) | Self::Sctp(ports) => Some((ports.source_port, ports.destination_port)),
            Self::Icmpv4(_) | Self::Icmpv6(_) => None,
        }
    }

    /// The protocol's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "TCP",
            Self::Udp(_) => "UDP",
            Self::Sctp(_) => "SCTP",
            Self::Icmpv4(_) => "ICMPv4",
            Self::Icmpv6(_) => "ICMPv6",
        }
    }
}

/// What a pod belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// Its name.
    pub name: Arc<str>,
    /// `Deployment`, `StatefulSet` …
    pub kind: Arc<str>,
}

/// One side of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Number of the endpoint on its node; 0 where it is not local.
    #[serde(rename = "ID", skip_serializing_if = "is_default")]
    pub id: u32,
    /// Security identity.
    pub identity: u32,
    /// Namespace of the pod.
    #[serde(skip_serializing_if = "is_default")]
    pub namespace: Arc<str>,
    /// Labels of the identity, `k8s:app=web` or `reserved:host`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Arc<str>>,
    /// Name of the pod.
    #[serde(skip_serializing_if = "is_default")]
    pub pod_name: Arc<str>,
    /// What the pod belongs to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Workload>,
}

/// Kind of monitor event: numbers are those of Cilium's monitor API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EventType {
    /// 1 drop, 4 trace, 5 policy verdict.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Of a drop its reason; of a trace its observation point.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sub_type: u8,
}

impl EventType {
    /// A drop.
    pub const DROP: u8 = 1;
    /// A connection seen at a point of its way.
    pub const TRACE: u8 = 4;
    /// A new connection was judged.
    pub const POLICY_VERDICT: u8 = 5;
}

/// Where a packet was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are Hubble's own")]
pub enum ObservationPoint {
    FromEndpoint,
    ToEndpoint,
    FromNetwork,
    ToNetwork,
}

impl ObservationPoint {
    /// All that are reported.
    pub const ALL: [Self; 4] = [Self::FromEndpoint, Self::ToEndpoint, Self::FromNetwork, Self::ToNetwork];

    /// As `hubble observe` prints it and `--type trace:…` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FromEndpoint => "from-endpoint",
            Self::ToEndpoint => "to-endpoint",
            Self::FromNetwork => "from-network",
            Self::ToNetwork => "to-network",
        }
    }

    /// Number in [`EventType::sub_type`].
    pub const fn number(self) -> u8 {
        match self {
            Self::ToEndpoint => 0,
            Self::FromEndpoint => 5,
            Self::FromNetwork => 10,
            Self::ToNetwork => 11,
        }
    }
}

/// How much of a connection the deciding rule looked at; the numbers are Cilium's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PolicyMatch {
    /// No rule.
    #[default]
    None,
    /// The peer.
    L3Only,
    /// Peer and port.
    L3L4,
    /// The port.
    L4Only,
    /// Everything is allowed.
    All,
}

impl PolicyMatch {
    const ALL: [(Self, u8, &'static str); 5] = [
        (Self::None, 0, "none"),
        (Self::L3Only, 1, "L3-Only"),
        (Self::L3L4, 2, "L3-L4"),
        (Self::L4Only, 3, "L4-Only"),
        (Self::All, 4, "all"),
    ];

    fn entry(self) -> (Self, u8, &'static str) {
        Self::ALL.into_iter().find(|(kind, ..)| *kind == self).unwrap_or(Self::ALL[0])
    }

    /// As `hubble observe` prints it.
    pub fn as_str(self) -> &'static str {
        self.entry().2
    }
}

impl Serialize for PolicyMatch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.entry().1)
    }
}

impl<'de> Deserialize<'de> for PolicyMatch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        Ok(Self::ALL.into_iter().find(|(_, n, _)| *n == number).map_or(Self::None, |(kind, ..)| kind))
    }
}

/// A policy that decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace: Arc<str>,
    /// `NetworkPolicy` …
    pub kind: Arc<str>,
    /// Policy revision of the node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revision: u64,
}

/// A rule that decided, or a policy that isolates, and where it is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// `NetworkPolicy` …
    pub kind: Arc<str>,
    /// Namespace of the policy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Index of the rule in its list; absent: the policy as a whole isolates the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// File as the user named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// Packets and bytes (with Ethernet header) either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Packets from source to destination.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets the other way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reply_packets: u64,
    /// Their bytes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reply_bytes: u64,
    /// Since the connection was first seen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub duration_ns: u64,
}

/// What Hubble has no field for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extension {
    /// The rules that decided; of a default deny the policies that isolate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// Of a drop: the rule that came nearest to allowing it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<Arc<str>>,
    /// Of a drop: packets since the last record alike. Of a connection: its totals so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// How a connection ended: `fin`, `reset`, `timeout`, `denied`, `replaced`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<Arc<str>>,
    /// IP protocol number, where `l4` has no variant for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
}

/// One flow record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flow {
    /// When.
    pub time: Timestamp,
    /// What was decided.
    pub verdict: Verdict,
    /// Number of the drop reason.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drop_reason: u8,
    /// Name of the drop reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_reason_desc: Option<Arc<str>>,
    /// Addresses; absent below IP.
    #[serde(rename = "IP", default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ip>,
    /// Ports; absent for protocols without a variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l4: Option<Layer4>,
    /// Who sent.
    pub source: Endpoint,
    /// To whom.
    pub destination: Endpoint,
    /// Which layers.
    #[serde(rename = "Type", default)]
    pub kind: FlowType,
    /// Node that reports it.
    pub node_name: Arc<str>,
    /// Kind of event.
    pub event_type: EventType,
    /// Direction of the connection from the reporting endpoint's view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_direction: Option<TrafficDirection>,
    /// How much the deciding rule looked at.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy_match_type: PolicyMatch,
    /// Where it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_observation_point: Option<ObservationPoint>,
    /// Whether the packet went against the direction the connection was opened in; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_reply: Option<bool>,
    /// Policies that allowed it out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress_allowed_by: Vec<PolicyRef>,
    /// Policies that allowed it in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress_allowed_by: Vec<PolicyRef>,
    /// Policies that kept it from going out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress_denied_by: Vec<PolicyRef>,
    /// Policies that kept it from coming in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress_denied_by: Vec<PolicyRef>,
    /// One line about the transport.
    #[serde(rename = "Summary", default, skip_serializing_if = "is_default")]
    pub summary: Arc<str>,
    /// What Hubble has no field for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strait: Extension,
}

/// Where events were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LostSource {
    /// The kernel's event ring was full.
    PerfEventRingBuffer,
    /// A reader was slower than the agent's ring of records.
    HubbleRingBuffer,
}

/// Events that nobody will see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LostEvents {
    /// Where.
    pub source: LostSource,
    /// How many.
    pub num_events_lost: u64,
}

/// What a [`Record`] carries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A flow.
    Flow(Arc<Flow>),
    /// A gap in the flows.
    LostEvents(LostEvents),
}

/// One line of `-o json`: Hubble's `GetFlowsResponse`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The flow, or that some were lost.
    #[serde(flatten)]
    pub what: What,
    /// Node that reports it.
    pub node_name: Arc<str>,
    /// When.
    pub time: Timestamp,
}

impl Record {
    /// The record of one flow.
    pub fn flow(flow: Arc<Flow>) -> Self {
        Self { node_name: Arc::clone(&flow.node_name), time: flow.time, what: What::Flow(flow) }
    }
}
