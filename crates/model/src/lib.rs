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
//! # Semantics
//!
//! **In this order** a pod's policies in one direction are asked (`tiers`):
//!
//! 1. A pod reaches itself. Its own node reaches it (ingress), unless a deny rule of the normal tier matches: no isolation keeps probes out,
//!    `ingressDeny` does. So has it Cilium's `allow-localhost`, an allow rule like others.
//! 2. Admin tier (`ClusterNetworkPolicy` tier Admin, `AdminNetworkPolicy`): the lower priority first, of equal ones the name that sorts
//!    first (then the kind); in a policy the first rule that matches. Accept and Deny decide, Pass goes on to 3.
//! 3. Normal tier (`NetworkPolicy`, Cilium's kinds): a deny rule, else an allow rule, else a *closed* rule (denies), else, where a policy
//!    isolates the pod in the direction, denied.
//! 4. Baseline tier (`ClusterNetworkPolicy` tier Baseline, `BaselineAdminNetworkPolicy`), as 2; Pass goes on to 5. Only for pods that
//!    nothing of the normal tier isolates in the direction and whose connection no rule of it decided.
//! 5. Allowed.
//!
//! **Own node, egress**: `NetworkPolicy` never isolates a pod from its node; Cilium's kinds do. So where policies of Cilium's kinds isolate
//! egress, the own node is a peer like others and something has to allow it: entity `host`, `cluster` or `all`, `toNodes`, or a rule
//! of any kind without peers (also of a `NetworkPolicy`). Where only `NetworkPolicy` isolates, it is allowed, and 4 is not asked. An
//! `ipBlock` of `NetworkPolicy` never matches the own node; `networks` and `nodes` of the tiers' kinds do.
//!
//! **Blocks**: `ipBlock` matches pods and other nodes that have the address, and addresses that nobody has; `networks` also the own node;
//! `CIDR`, `CIDRSet`, groups and services without selector of Cilium's kinds only addresses that no pod and no node has. `world` is what
//! is outside all pod CIDRs and is no node; an address in a pod CIDR that no pod has is `unmanaged`. `cluster` (and `cluster-mesh`)
//! is pods, nodes, unmanaged addresses, the API server; `kube-apiserver` the addresses in the `EndpointSlices` of `default/kubernetes`,
//! whosever they are. `init`, `health`, `ingress`, `none` are nobody.
//!
//! **Cilium's rules**: one without any member matches nothing, one with only `toPorts` or `icmps` every peer, one with an empty list of
//! peers nobody. Selectors of a `CiliumNetworkPolicy` mean its own namespace unless they name `io.kubernetes.pod.namespace` or labels of
//! namespaces; subjects always. A selector of peers that names a `reserved:` label is taken as it is, of whatever namespace, and means
//! nodes and the world as well as pods; labels of other sources nobody has. `ANY` is TCP, UDP and SCTP; an entry of `toPorts` without `ports` and one of `icmps` without `fields` match nothing. A
//! service named without a namespace is any of that name. `enableDefaultDeny: false` in a direction: no
//! isolation, rules still count. ICMP is asked about with an echo request.
//!
//! **Closed**: a rule, or an entry of its `toPorts`, that asks for L7, server names, TLS contexts, a listener or authentication denies what
//! it is about (in 3), whether or not the policy isolates. `toFQDNs`, `toGroups` and `domainNames` match nobody; `fromGroups` and `toGroups`
//! in a deny section match the world. [`Snapshot::problems`] lists all of these.
//!
//! **Host policies** (`nodeSelector`) are about what a node, and with it its pods with `hostNetwork`, sends and receives by itself: over its
//! uplinks and to and from its own pods, not what it forwards for them, nor what it says to itself. They are rules of the normal tier (3), isolate
//! as they do pods, and nothing of the other tiers is asked. To a node, `host` is itself, and so nobody it meets; named ports are those of pods
//! it speaks to. Where no host policy selects a node, nothing of its own is judged. Between a node and its own pod both judge: the
//! node's egress, then the pod's ingress (1), and the other way round.
//!
//! **Audit**: policies of any kind with annotation `strait.dev/audit: "true"` are left out of what is enforced. A connection that the others
//! allow and that would be denied if these counted as well is allowed and reported as AUDIT.
//!
//! Sources: the API reference of `NetworkPolicy` and the concept page "Network Policies", <https://network-policy-api.sigs.k8s.io>, and
//! Cilium's documentation (`Documentation/security/policy`).

pub mod allocator;
pub mod compile;
pub mod connection;
pub mod explain;
pub mod identity;
pub mod miss;
pub mod party;
pub mod plan;
pub mod problem;
pub mod rule;
pub mod snapshot;
pub mod verdict;

mod blocks;
mod lower;
mod ports;
mod tiers;

pub use allocator::AllocatorState;
pub use compile::{Compiler, PlanDelta};
pub use connection::{Connection, Direction, Family, L4, Party, PodKey};
pub use explain::Explanation;
pub use lower::{audits, cilium_selector};
pub use miss::{Condition, Miss};
pub use party::UnknownParty;
pub use plan::{
    EndpointPlan, IdentityInfo, IpcacheEntry, IpcacheKind, Judgement, NodePlan, OriginId, PolicyEntry, PolicyKey,
    PortEntry, PortKey, PortSet, PortSetId, PortVerdict,
};
pub use problem::{Lack, Problem};
pub use rule::Origin;
pub use snapshot::{Delta, LocalNode, Node, Pod, Snapshot};
pub use verdict::{Decision, Reason, Verdict};
