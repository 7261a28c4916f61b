//! Numeric security identities. The reserved numbers and scopes are Cilium's (`pkg/identity/numericidentity.go`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A numeric security identity: endpoints that no policy in force can tell apart share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdentityId(pub u32);

impl IdentityId {
    /// Not known; as a peer in a policy entry: any peer.
    pub const UNKNOWN: Self = Self(0);
    /// The node that the endpoint runs on.
    pub const HOST: Self = Self(1);
    /// Outside the cluster, address family not told apart.
    pub const WORLD: Self = Self(2);
    /// A pod address of the cluster whose workload is not managed.
    pub const UNMANAGED: Self = Self(3);
    /// Health checks.
    pub const HEALTH: Self = Self(4);
    /// An endpoint whose labels are not known yet.
    pub const INIT: Self = Self(5);
    /// Another node of the cluster.
    pub const REMOTE_NODE: Self = Self(6);
    /// The Kubernetes API server.
    pub const KUBE_APISERVER: Self = Self(7);
    /// The ingress proxy.
    pub const INGRESS: Self = Self(8);
    /// Outside the cluster, IPv4.
    pub const WORLD_IPV4: Self = Self(9);
    /// Outside the cluster, IPv6.
    pub const WORLD_IPV6: Self = Self(10);

    /// First and last number of cluster-wide workload identities.
    pub const CLUSTER: (u32, u32) = (256, 65_535);
    /// First number of node-local identities for CIDR and FQDN peers.
    pub const LOCAL_CIDR: u32 = 1 << 24;
    /// First number of node-local identities that refine nodes by the address prefixes they fall in.
    pub const LOCAL_NODE: u32 = 2 << 24;
    /// First number of node-local identities that refine a cluster-wide workload identity.
    pub const LOCAL_WORKLOAD: u32 = 3 << 24;

    /// The name of a reserved identity, as in `reserved:host`.
    pub fn reserved_name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "unknown",
            1 => "host",
            2 => "world",
            3 => "unmanaged",
            4 => "health",
            5 => "init",
            6 => "remote-node",
            7 => "kube-apiserver",
            8 => "ingress",
            9 => "world-ipv4",
            10 => "world-ipv6",
            _ => return None,
        })
    }
}

impl fmt::Display for IdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reserved_name() {
            Some(name) => write!(f, "{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}
