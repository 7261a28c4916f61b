//! The contract between the BPF object and user space: byte layouts, names, numbers.
//!
//! Every type is `repr(C)` without hidden padding and implements [`zerocopy::IntoBytes`] and [`zerocopy::FromBytes`], so user
//! space turns keys and values into byte arrays and back without `unsafe`. Numbers are in the host's byte order unless the
//! type says otherwise ([`Port`], [`Addr`]).
//!
//! Order of a change: write the maps, then raise [`Config::revision`]. Established connections keep the verdict of the revision
//! they were judged under and are judged again, once, when the revision differs. That holds for every map that a verdict
//! depends on: `POLICY`, `PORT_SETS`, `IPCACHE` and `ENDPOINTS`.

mod addr;
mod config;
mod connection;
mod endpoint;
mod event;
#[cfg(any(test, feature = "host"))]
pub mod layout;
mod policy;
mod reason;

pub use addr::{Addr, Port};
pub use config::{Config, DenyResponse, Hook, Metric, MetricKey, Timeouts};
pub use connection::{
    CtEntry, CtKey, CtState, Direction, DropKey, DropSeen, FragmentKey, FragmentPorts, PeerPlace, ct_flags,
};
pub use endpoint::{ENDPOINT_ADDRS, Endpoint, IpcacheKey, IpcacheValue, ipcache_flags};
pub use event::{CloseReason, Event, EventKind, event_flags};
pub use policy::{ANY_PEER, PORT_SET_NONE, PolicyKey, PolicyValue, PortRule, PortSetKey, RuleVerdict, port_prefixes};
pub use reason::DropReason;

/// Layout version of everything in this module; in [`Config::abi_version`]. Raised with every incompatible change; `layout` tells
/// other versions what lies where.
pub const ABI_VERSION: u32 = 3;

/// File name of the BPF object below `<target dir>/bpf/`.
pub const OBJECT_FILE: &str = "strait.o";

/// What the programs return. `PASS` hands on to the next program on the device, so that Strait shares it.
pub mod action {
    /// `TCX_NEXT`, `TC_ACT_UNSPEC`.
    pub const PASS: i32 = -1;
    /// `TCX_DROP`, `TC_ACT_SHOT`.
    pub const DROP: i32 = 2;
    /// `TCX_REDIRECT`, `TC_ACT_REDIRECT`: where to, a helper was told.
    pub const REDIRECT: i32 = 7;
}

/// Names of the programs in the object, and what each attaches to.
pub mod program {
    /// TCX ingress of a pod's host-side veth: what the pod sends.
    pub const FROM_POD: &str = "from_pod";
    /// TCX egress of a pod's host-side veth: what the pod is about to receive.
    pub const TO_POD: &str = "to_pod";
    /// TCX ingress of a node's uplink.
    pub const FROM_UPLINK: &str = "from_uplink";
    /// TCX egress of a node's uplink.
    pub const TO_UPLINK: &str = "to_uplink";
    /// All of them.
    pub const ALL: [&str; 4] = [FROM_POD, TO_POD, FROM_UPLINK, TO_UPLINK];
}

/// Names of the maps in the object: `kind: key → value`.
pub mod map {
    /// LPM trie: [`IpcacheKey`](super::IpcacheKey) → [`IpcacheValue`](super::IpcacheValue).
    pub const IPCACHE: &str = "IPCACHE";
    /// Hash: interface index (`u32`) of the host-side veth → [`Endpoint`](super::Endpoint).
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// Hash: [`PolicyKey`](super::PolicyKey) → [`PolicyValue`](super::PolicyValue).
    pub const POLICY: &str = "POLICY";
    /// LPM trie: [`PortSetKey`](super::PortSetKey) → [`PortRule`](super::PortRule).
    pub const PORT_SETS: &str = "PORT_SETS";
    /// LRU hash: [`CtKey`](super::CtKey) → [`CtEntry`](super::CtEntry).
    pub const CONNTRACK: &str = "CONNTRACK";
    /// LRU hash: [`FragmentKey`](super::FragmentKey) → [`FragmentPorts`](super::FragmentPorts).
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// LRU hash: [`DropKey`](super::DropKey) → [`DropSeen`](super::DropSeen).
    pub const DROP_SEEN: &str = "DROP_SEEN";
    /// Array of one: [`Config`](super::Config).
    pub const CONFIG: &str = "CONFIG";
    /// Per-CPU array: [`MetricKey::index`](super::MetricKey::index) → [`Metric`](super::Metric).
    pub const METRICS: &str = "METRICS";
    /// Ring buffer of [`Event`](super::Event).
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU array: [`EventKind`](super::EventKind) as `u32` → `u64` events that found the ring full.
    pub const EVENTS_LOST: &str = "EVENTS_LOST";
    /// Every map that user space pins.
    pub const ALL: [&str; 11] =
        [IPCACHE, ENDPOINTS, POLICY, PORT_SETS, CONNTRACK, FRAGMENTS, DROP_SEEN, CONFIG, METRICS, EVENTS, EVENTS_LOST];
}

/// Capacity each map is declared with; the loader may override it before the map is created.
pub mod capacity {
    /// `IPCACHE` prefixes.
    pub const IPCACHE: u32 = 131_072;
    /// `ENDPOINTS` on one node.
    pub const ENDPOINTS: u32 = 1_024;
    /// `POLICY` pairs.
    pub const POLICY: u32 = 65_536;
    /// `PORT_SETS` prefixes.
    pub const PORT_SETS: u32 = 65_536;
    /// `CONNTRACK` connections; least recently used ones make room.
    pub const CONNTRACK: u32 = 131_072;
    /// `FRAGMENTS` datagrams in flight.
    pub const FRAGMENTS: u32 = 8_192;
    /// `DROP_SEEN` kinds of drop that are being counted.
    pub const DROP_SEEN: u32 = 8_192;
    /// `EVENTS` bytes; a power of two.
    pub const EVENTS: u32 = 1 << 20;
}
