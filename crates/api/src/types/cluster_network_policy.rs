//! `policy.networking.k8s.io`: `ClusterNetworkPolicy` v1alpha2, `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` v1alpha1.

use std::sync::Arc;

use ipnet::IpNet;
use strait_base::{LabelSelector, Location, Protocol};

use super::{Kind, ObjectMeta};

/// A policy of a tier around the namespaced ones, of any of the three kinds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterNetworkPolicy {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// Which kind it is.
    pub kind: ClusterPolicyKind,
    /// Before or after the namespaced policies.
    pub tier: ClusterTier,
    /// 0-1000 within the tier; the lower one comes first. 0 for a `BaselineAdminNetworkPolicy`. Upstream leaves the order of equal ones open.
    pub priority: u16,
    /// Whom it is for. Pods of the host network are never among them.
    pub subject: ClusterSubject,
    /// For connections to the subject; the first rule that matches decides.
    pub ingress: Vec<ClusterRule>,
    /// For connections from the subject; the first rule that matches decides.
    pub egress: Vec<ClusterRule>,
}

/// The kinds of tier policies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "each is named after its kind")]
pub enum ClusterPolicyKind {
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
}

impl ClusterPolicyKind {
    /// The kind.
    pub const fn kind(self) -> Kind {
        match self {
            Self::ClusterNetworkPolicy => Kind::ClusterNetworkPolicy,
            Self::AdminNetworkPolicy => Kind::AdminNetworkPolicy,
            Self::BaselineAdminNetworkPolicy => Kind::BaselineAdminNetworkPolicy,
        }
    }
}

/// `tier`: Admin, then the namespaced policies, then Baseline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ClusterTier {
    /// Before the namespaced policies; they see what it passes or says nothing about.
    Admin,
    /// For what no namespaced policy isolates.
    Baseline,
}

/// Whom a policy is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterSubject {
    /// `namespaces`: all pods of these.
    Namespaces(LabelSelector),
    /// `pods`.
    Pods {
        /// `namespaceSelector`.
        namespaces: LabelSelector,
        /// `podSelector`.
        pods: LabelSelector,
    },
}

/// One rule: any of the peers, on any of the ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterRule {
    /// `name`: at most 100 characters.
    pub name: Option<Arc<str>>,
    /// What happens.
    pub action: ClusterAction,
    /// `from` or `to`; never empty.
    pub peers: Vec<ClusterPeer>,
    /// `protocols` or `ports`; empty means every port of every protocol.
    pub ports: Vec<ClusterPort>,
    /// Where it is written.
    pub location: Location,
}

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterAction {
    /// `Accept` (`Allow` in v1alpha1): allowed; no later rule or tier is asked.
    Accept,
    /// `Deny`.
    Deny,
    /// `Pass`: no later rule of this tier is asked, the next tier decides. Never in a `BaselineAdminNetworkPolicy`.
    Pass,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterPeer {
    /// Whom it names.
    pub selects: ClusterPeerSelector,
    /// Where it is written.
    pub location: Location,
}

/// Whom a peer names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterPeerSelector {
    /// `namespaces`: all pods of these. Pods of the host network are never among them.
    Namespaces(LabelSelector),
    /// `pods`.
    Pods {
        /// `namespaceSelector`.
        namespaces: LabelSelector,
        /// `podSelector`.
        pods: LabelSelector,
    },
    /// `nodes`, egress only: their addresses.
    Nodes(LabelSelector),
    /// `networks`, egress only: destination addresses, whosever they are; 1-25, host bits zero.
    Networks(Vec<IpNet>),
    /// `domainNames`, egress only and `Accept` only: 1-25, lower case, perhaps with `*.` before; without the last dot.
    DomainNames(Vec<Arc<str>>),
}

/// Some ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterPort {
    /// Every port of a protocol.
    Protocol(Protocol),
    /// From `first` to `last`, both included; `last` is never below `first`.
    Range {
        /// Of which protocol.
        protocol: Protocol,
        /// The first.
        first: u16,
        /// The last; `first` where one port is named.
        last: u16,
    },
    /// A name that containers of the destination give a port, whatever its protocol (`destinationNamedPort`, `namedPort`).
    Named(Arc<str>),
}
