//! `networking.k8s.io/v1` `NetworkPolicy`.

use ipnet::IpNet;
use strait_base::{LabelSelector, Location, Protocol};

use super::{ObjectMeta, PortRef};

/// A network policy, defaulted as the API server does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkPolicy {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// Which pods of its namespace it isolates; empty selects all.
    pub pod_selector: LabelSelector,
    /// `policyTypes` has Ingress (by default always).
    pub isolates_ingress: bool,
    /// `policyTypes` has Egress (by default where there are egress rules).
    pub isolates_egress: bool,
    /// Who may connect to the selected pods. Without effect where `isolates_ingress` is false.
    pub ingress: Vec<NetworkPolicyRule>,
    /// Where the selected pods may connect to. Without effect where `isolates_egress` is false.
    pub egress: Vec<NetworkPolicyRule>,
}

/// One ingress or egress rule: any of the peers, on any of the ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkPolicyRule {
    /// `from` or `to`; missing and empty both mean every peer.
    pub peers: Vec<NetworkPolicyPeer>,
    /// `ports`; missing and empty both mean every port of every protocol.
    pub ports: Vec<NetworkPolicyPort>,
    /// Where the rule is written.
    pub location: Location,
}

/// One peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkPolicyPeer {
    /// Whom it names.
    pub selects: PeerSelector,
    /// Where it is written.
    pub location: Location,
}

/// Whom a peer names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PeerSelector {
    /// `podSelector` alone: pods of the policy's namespace.
    Pods(LabelSelector),
    /// `namespaceSelector` alone: all pods of the namespaces.
    Namespaces(LabelSelector),
    /// Both: the pods so labelled in the namespaces so labelled.
    NamespacedPods {
        /// Which namespaces.
        namespaces: LabelSelector,
        /// Which of their pods.
        pods: LabelSelector,
    },
    /// `ipBlock`: `cidr` without the prefixes in `except`, each of which lies strictly inside it.
    IpBlock {
        /// The block; host bits are zero.
        cidr: IpNet,
        /// What is left out of it.
        except: Vec<IpNet>,
    },
}

/// One port of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkPolicyPort {
    /// TCP where not given.
    pub protocol: Protocol,
    /// Missing: every port of the protocol. A name is resolved per destination pod.
    pub port: Option<PortRef>,
    /// `endPort`: the last of a range that starts at a numeric `port`; never below it.
    pub end_port: Option<u16>,
    /// Where it is written.
    pub location: Location,
}
