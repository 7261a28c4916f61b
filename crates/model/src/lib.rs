//! The policy model: what objects mean. Pure: no I/O, no clock, the same answer for the same objects.
//!
//! ```text
//! api::Objects ─→ Snapshot (indexed facts, lowered policies)
//!                    ├─ verdict, explain: one connection, judged rule by rule
//!                    └─ Compiler ─→ NodePlan: identities, ipcache, policy entries, port sets for one node's datapath
//! ```
//!
//! Both ways give the same verdict for every connection; the first can say why, the second is cheap for a kernel.
//!
//! Semantics of `NetworkPolicy` are those of its API reference and of the concept page "Network Policies": policies are
//! additive, a pod reaches itself, a node and its own pods reach each other, pods with `hostNetwork` are their node.

pub mod allocator;
pub mod compile;
pub mod connection;
pub mod explain;
pub mod identity;
pub mod miss;
pub mod party;
pub mod plan;
pub mod rule;
pub mod snapshot;
pub mod verdict;

mod blocks;
mod lower;
mod ports;

pub use allocator::AllocatorState;
pub use compile::Compiler;
pub use connection::{Connection, Direction, Family, L4, Party, PodKey};
pub use explain::Explanation;
pub use miss::{Condition, Miss};
pub use party::UnknownParty;
pub use plan::{
    EndpointPlan, IdentityInfo, IpcacheEntry, IpcacheKind, Judgement, NodePlan, OriginId, PolicyEntry, PolicyKey,
    PortEntry, PortKey, PortSet, PortSetId, PortVerdict,
};
pub use rule::Origin;
pub use snapshot::{Node, Pod, Snapshot};
pub use verdict::{Decision, Reason, Verdict};
