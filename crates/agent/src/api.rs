//! What is spoken on `agent.sock`: the client sends one [`Request`] as a line of JSON, the agent answers lines of JSON.
//!
//! Every answer is one [`Answer`], but [`Request::Flows`] is answered by an [`Answer::Flows`] and then [`Record`]s (lines of
//! `strait flows -o json`) until they run out or the client hangs up.
//!
//! [`Record`]: strait_flow::Record

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strait_base::IdentityId;
use strait_flow::{Filter, Origin};
use strait_model::{Direction, IpcacheKind, PortVerdict};

/// Name of the socket in the agent's run directory.
pub const SOCKET: &str = "agent.sock";

/// Longest request line, bytes.
pub const REQUEST_LIMIT: usize = 1 << 20;

/// Names a pod.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub pod: Arc<str>,
}

/// `namespace/pod`.
impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.pod)
    }
}

/// A pod's link, as the one who made it tells it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// Which pod.
    #[serde(flatten)]
    pub name: PodName,
    /// Host-side veth, in the agent's network namespace.
    pub ifname: String,
    /// Hardware address of the pod's end, `aa:bb:cc:dd:ee:ff`.
    pub mac: Mac,
    /// The pod's own addresses.
    pub addresses: Vec<IpAddr>,
}

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || format!("`{text}` is not a hardware address (expected aa:bb:cc:dd:ee:ff)");
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(mac)) }
    }
}

/// Which flows, and how many.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowsRequest {
    /// Which are wanted.
    pub filter: Filter,
    /// After what is held, whatever comes, until the client hangs up.
    pub follow: bool,
    /// Only the oldest so many of what is held and wanted.
    pub first: Option<u64>,
    /// Only the newest so many of what is held and wanted.
    pub last: Option<u64>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

/// A question or an order to the agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Request {
    /// A pod's link is there: attach the programs and enforce. Idempotent. Answered when enforced.
    EndpointAdd(EndpointSpec),
    /// A pod's link is gone or about to. Idempotent.
    EndpointDelete(PodName),
    /// Read the objects on disk now, and answer once they are enforced.
    Wait,
    /// How the agent is.
    Status,
    /// What happened.
    Flows(FlowsRequest),
    /// Security identities known here.
    Identities,
    /// Address prefixes and their identities.
    Ipcache,
    /// Endpoints of this node.
    Endpoints,
    /// The host policies with this revision are good: keep them.
    HostPolicyConfirm {
        /// What is confirmed, and nothing that came meanwhile.
        revision: HostPolicyRevision,
    },
    /// Put the host policies with this revision, which were rolled back, in force again, until another deadline.
    HostPolicyRetry {
        /// Which.
        revision: HostPolicyRevision,
    },
    /// Policy entries, of all local subjects or of one endpoint's.
    PolicyMap {
        /// The endpoint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<PodName>,
    },
}

/// What the agent answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", content = "body", rename_all = "kebab-case")]
pub enum Answer {
    /// Done.
    Done(Done),
    /// Not done, and why.
    Error(String),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Flows`]: records follow.
    Flows,
    /// To [`Request::Identities`].
    Identities(Vec<Identity>),
    /// To [`Request::Ipcache`].
    Ipcache(Vec<IpcacheEntry>),
    /// To [`Request::Endpoints`].
    Endpoints(Vec<EndpointStatus>),
    /// To [`Request::PolicyMap`].
    PolicyMap(Vec<PolicyEntry>),
    /// To [`Request::HostPolicyConfirm`] and [`Request::HostPolicyRetry`].
    HostPolicy(HostPolicyStatus),
}

/// What is in force after an order was carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Counts the changes of objects that this agent took in since it started.
    pub generation: u64,
    /// Revision of the policy maps.
    pub revision: u64,
}

/// How an agent is.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The node it serves.
    pub node: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// Whether everything it knows is enforced.
    pub ok: bool,
    /// Changes of objects taken in since it started.
    pub generation: u64,
    /// Revision of the policy maps.
    pub revision: u64,
    /// What a connection that policy denies hears: `silent`, `icmp` or `reset`.
    pub deny_response: Arc<str>,
    /// Objects in force, by kind.
    pub objects: std::collections::BTreeMap<Arc<str>, usize>,
    /// Errors in manifests, `file:line:column: …`; the last good version of those objects is in force.
    pub problems: Vec<String>,
    /// What in manifests has no effect, and why.
    pub notes: Vec<String>,
    /// Why the latest change could not be enforced; what was enforced before stays.
    pub enforcement_error: Option<String>,
    /// Endpoints that are enforced, and those that are closed because something is missing.
    pub endpoints: EndpointCounts,
    /// How the host policies of the node stand; absent where no manifest knows the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_policy: Option<HostPolicyStatus>,
    /// Entries and capacity of each map.
    pub maps: Vec<MapFill>,
    /// Packets since the maps were made, by program and what became of them; what never happened is left out.
    pub packets: Vec<PacketCount>,
    /// Kernel events that found the ring full.
    pub lost_events: u64,
    /// Flow records made since the agent started.
    pub flows_seen: u64,
    /// Flow records held, and how many can be.
    pub flows_held: (usize, usize),
    /// Features this kernel lacks, and what follows.
    pub missing_features: Vec<String>,
    /// Version of the kernel.
    pub kernel: String,
}

/// Names a set of host policies by what they mean: the same on every node for which they mean the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPolicyRevision(u64);

impl HostPolicyRevision {
    /// Of the policies of a set, in order.
    pub(crate) fn of<'a>(policies: impl Iterator<Item = &'a str>) -> Self {
        Self(crate::state::fnv1a(policies.flat_map(|policy| policy.bytes().chain([b'\n']))))
    }
}

impl std::fmt::Display for HostPolicyRevision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for HostPolicyRevision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() == 16 && text.bytes().all(|c| c.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| valid).map(Self).ok_or_else(|| {
            format!("`{text}` is no revision of host policies (16 digits, as `strait host-policy status` shows)")
        })
    }
}

impl From<HostPolicyRevision> for String {
    fn from(revision: HostPolicyRevision) -> Self {
        revision.to_string()
    }
}

impl TryFrom<String> for HostPolicyRevision {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Whether host policies that manifests have are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPolicyStage {
    /// They are in force.
    #[default]
    Confirmed,
    /// They are in force, and will be rolled back if nobody confirms them.
    Unconfirmed,
    /// They are not in force; those that were confirmed last are.
    RolledBack,
}

/// How the host policies of a node stand.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostPolicyStatus {
    /// How those stand that manifests have.
    pub stage: HostPolicyStage,
    /// Their revision.
    pub revision: HostPolicyRevision,
    /// The revision of those that were confirmed last.
    pub confirmed: HostPolicyRevision,
    /// Those in force.
    pub in_force: Vec<HostPolicyName>,
    /// What sets those that manifests have apart from those that were confirmed: `+new`, `-gone`, `~other`.
    pub changes: Vec<String>,
    /// Since when they are unconfirmed, or were rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Milliseconds until they are rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
    /// Why they were rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// Why what manifests have cannot be put in force: what was in force before stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A host policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostPolicyName {
    /// Its name.
    pub name: Arc<str>,
    /// The file it is in; where it was rolled back to, the agent's own copy.
    pub file: Arc<str>,
    /// Its line.
    pub line: u32,
}

/// How many endpoints stand how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCounts {
    /// Enforced.
    pub ready: usize,
    /// Closed: nothing passes.
    pub closed: usize,
}

/// How full a map is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapFill {
    /// Its name.
    pub name: Arc<str>,
    /// Entries in it.
    pub entries: u64,
    /// Entries that fit.
    pub capacity: u64,
    /// Entries that will fit at most once it grew.
    #[serde(default)]
    pub limit: u64,
    /// How often it was made larger since the agent started.
    #[serde(default)]
    pub growths: u64,
    /// Entries that made room for others before their time: connections, where the map holds those.
    #[serde(default)]
    pub forgotten: u64,
    /// Kernel memory that it takes, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

impl MapFill {
    /// Whether it is nearly full and cannot grow: soon policy that does not fit closes endpoints, and connections make room for
    /// each other.
    pub const fn is_pressed(&self) -> bool {
        self.entries >= self.limit - self.limit / 10
    }
}

/// Packets that one program treated alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketCount {
    /// The program: `from_pod`, `to_pod`, `from_uplink`, `to_uplink`.
    pub hook: Arc<str>,
    /// Why they were dropped, as in flow records; absent where they were forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_reason: Option<Arc<str>>,
    /// How many, as the kernel hands them over: an offloaded one counts once.
    pub packets: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
}

/// A security identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its number.
    pub id: IdentityId,
    /// `reserved:host`, or labels as `k8s:app=web`, or `cidr:10.0.0.0/8`.
    pub labels: Vec<Arc<str>>,
    /// The blocks that its addresses are in, as policies in force name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// The identity that this node-local one is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refines: Option<IdentityId>,
    /// What sets that part apart, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refined_by: Vec<String>,
}

/// A prefix and who is behind it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpcacheEntry {
    /// Addresses.
    pub prefix: IpNet,
    /// Whose.
    pub identity: IdentityId,
    /// What is behind it.
    pub kind: IpcacheKind,
    /// The node that hosts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<IpAddr>,
}

/// An endpoint and how it stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// What the creator told.
    #[serde(flatten)]
    pub spec: EndpointSpec,
    /// Number on this node: the index of its host-side veth; 0 where the link is gone.
    pub id: u32,
    /// Its identity, once its policy is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityId>,
    /// Labels of the identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Arc<str>>,
    /// Why nothing passes; absent where it is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// Whether policies isolate it for ingress.
    pub ingress_isolated: bool,
    /// Whether policies isolate it for egress.
    pub egress_isolated: bool,
}

/// One entry of the policy map with its port set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyEntry {
    /// Whose policy.
    pub subject: IdentityId,
    /// From the subject's view.
    pub direction: Direction,
    /// Which peer; 0 for every peer without an entry.
    pub peer: IdentityId,
    /// What is decided for which ports.
    pub ports: Vec<PolicyPort>,
    /// Policies that isolate the subject: what denies where no port matches.
    pub default_origins: Vec<Origin>,
}

/// One verdict of a port set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPort {
    /// `TCP`, `UDP`, `SCTP`, a number, or `any`.
    pub protocol: Arc<str>,
    /// `80`, `8000-8015`, or `any`.
    pub ports: Arc<str>,
    /// What happens.
    pub verdict: PortVerdict,
    /// Rules behind it.
    pub origins: Vec<Origin>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_on_the_wire() {
        let add = Request::EndpointAdd(EndpointSpec {
            name: PodName { namespace: "shop".into(), pod: "web-0".into() },
            ifname: "lxc1".to_owned(),
            mac: Mac([2, 0, 0, 0, 0, 0x1f]),
            addresses: vec!["10.244.1.10".parse().unwrap()],
        });
        for (request, line) in [
            (
                add,
                r#"{"request":"endpoint-add","namespace":"shop","pod":"web-0","ifname":"lxc1","mac":"02:00:00:00:00:1f","addresses":["10.244.1.10"]}"#,
            ),
            (Request::Wait, r#"{"request":"wait"}"#),
            (Request::PolicyMap { endpoint: None }, r#"{"request":"policy-map"}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        }
        let flows: Request = serde_json::from_str(r#"{"request":"flows","follow":true}"#).unwrap();
        assert_eq!(flows, Request::Flows(FlowsRequest { follow: true, ..FlowsRequest::default() }));
        for mac in ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "2:0:0:0:0:0", "zz:00:00:00:00:00"] {
            assert!(Mac::try_from(mac.to_owned()).is_err(), "{mac}");
        }
    }
}
