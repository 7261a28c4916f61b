//! Which kinds are read, and what becomes of the others.

use super::decode::nearest;
use crate::types::Kind;

/// What an `apiVersion` and a `kind` name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Known(Kind),
    /// `List`, `PodList` …
    List,
    /// A known kind of policy in a version that is not served: an error, as it would silently not be enforced.
    PolicyInOtherVersion(&'static str),
    /// Nearly a known kind of policy in its group.
    MisspeltPolicy(&'static str),
    /// A policy that people expect to be enforced and that is not yet.
    UnenforcedPolicy,
    /// Another known kind in a version that is not read.
    OtherVersion(&'static str),
    Unknown,
}

const KINDS: [(Kind, &str); 58] = [
    (Kind::Namespace, "v1"),
    (Kind::Node, "v1"),
    (Kind::Pod, "v1"),
    (Kind::Service, "v1"),
    (Kind::ServiceAccount, "v1"),
    (Kind::ConfigMap, "v1"),
    (Kind::Secret, "v1"),
    (Kind::ReplicationController, "v1"),
    (Kind::EndpointSlice, "discovery.k8s.io/v1"),
    (Kind::Deployment, "apps/v1"),
    (Kind::ReplicaSet, "apps/v1"),
    (Kind::StatefulSet, "apps/v1"),
    (Kind::DaemonSet, "apps/v1"),
    (Kind::Job, "batch/v1"),
    (Kind::CronJob, "batch/v1"),
    (Kind::NetworkPolicy, "networking.k8s.io/v1"),
    (Kind::CiliumNetworkPolicy, "cilium.io/v2"),
    (Kind::CiliumClusterwideNetworkPolicy, "cilium.io/v2"),
    (Kind::CiliumCidrGroup, "cilium.io/v2"),
    (Kind::CiliumCidrGroup, "cilium.io/v2alpha1"),
    (Kind::ClusterNetworkPolicy, "policy.networking.k8s.io/v1alpha2"),
    (Kind::AdminNetworkPolicy, "policy.networking.k8s.io/v1alpha1"),
    (Kind::BaselineAdminNetworkPolicy, "policy.networking.k8s.io/v1alpha1"),
    (Kind::GatewayClass, "gateway.networking.k8s.io/v1"),
    (Kind::Gateway, "gateway.networking.k8s.io/v1"),
    (Kind::GatewayClass, "gateway.networking.k8s.io/v1beta1"),
    (Kind::Gateway, "gateway.networking.k8s.io/v1beta1"),
    (Kind::HttpRoute, "gateway.networking.k8s.io/v1beta1"),
    (Kind::TlsRoute, "gateway.networking.k8s.io/v1alpha2"),
    (Kind::TlsRoute, "gateway.networking.k8s.io/v1alpha3"),
    (Kind::BackendTlsPolicy, "gateway.networking.k8s.io/v1alpha3"),
    (Kind::ListenerSet, "gateway.networking.k8s.io/v1"),
    (Kind::HttpRoute, "gateway.networking.k8s.io/v1"),
    (Kind::GrpcRoute, "gateway.networking.k8s.io/v1"),
    (Kind::TlsRoute, "gateway.networking.k8s.io/v1"),
    (Kind::TcpRoute, "gateway.networking.k8s.io/v1"),
    (Kind::TcpRoute, "gateway.networking.k8s.io/v1alpha2"),
    (Kind::UdpRoute, "gateway.networking.k8s.io/v1"),
    (Kind::UdpRoute, "gateway.networking.k8s.io/v1alpha2"),
    (Kind::ReferenceGrant, "gateway.networking.k8s.io/v1"),
    (Kind::ReferenceGrant, "gateway.networking.k8s.io/v1beta1"),
    (Kind::BackendTlsPolicy, "gateway.networking.k8s.io/v1"),
    (Kind::BackendTrafficPolicy, "gateway.networking.x-k8s.io/v1alpha1"),
    (Kind::IstioGateway, "networking.istio.io/v1"),
    (Kind::IstioGateway, "networking.istio.io/v1beta1"),
    (Kind::IstioGateway, "networking.istio.io/v1alpha3"),
    (Kind::VirtualService, "networking.istio.io/v1"),
    (Kind::VirtualService, "networking.istio.io/v1beta1"),
    (Kind::VirtualService, "networking.istio.io/v1alpha3"),
    (Kind::DestinationRule, "networking.istio.io/v1"),
    (Kind::DestinationRule, "networking.istio.io/v1beta1"),
    (Kind::DestinationRule, "networking.istio.io/v1alpha3"),
    (Kind::ServiceEntry, "networking.istio.io/v1"),
    (Kind::ServiceEntry, "networking.istio.io/v1beta1"),
    (Kind::ServiceEntry, "networking.istio.io/v1alpha3"),
    (Kind::WorkloadEntry, "networking.istio.io/v1"),
    (Kind::WorkloadEntry, "networking.istio.io/v1beta1"),
    (Kind::WorkloadEntry, "networking.istio.io/v1alpha3"),
];

/// Groups with kinds that allow or deny traffic, and those kinds; `*` stands for all of a group.
const UNENFORCED: [(&str, &[&str]); 8] = [
    ("cilium.io", &["CiliumEgressGatewayPolicy"]),
    ("security.istio.io", &["*"]),
    ("projectcalico.org", CALICO),
    ("crd.projectcalico.org", CALICO),
    ("policy.linkerd.io", &["*"]),
    ("crd.antrea.io", &["NetworkPolicy", "ClusterNetworkPolicy", "ClusterGroup", "Group", "Tier"]),
    ("networking.istio.io", &["Sidecar"]),
    ("policy.kmesh.net", &["*"]),
];

const CALICO: &[&str] = &["NetworkPolicy", "GlobalNetworkPolicy", "NetworkSet", "GlobalNetworkSet", "Tier"];

/// Groups in which a kind named like a known one is that kind in another version, or its group misspelt.
const BUILT_IN: [&str; 12] = [
    "",
    "apps",
    "batch",
    "extensions",
    "discovery.k8s.io",
    "networking.k8s.io",
    "networking",
    "cilium.io",
    "policy.networking.k8s.io",
    "gateway.networking.k8s.io",
    "gateway.networking.x-k8s.io",
    "networking.istio.io",
];

pub(super) fn classify(api_version: &str, kind: &str) -> Class {
    if let Some((known, _)) = KINDS.iter().find(|(known, version)| known.as_str() == kind && *version == api_version) {
        return Class::Known(*known);
    }
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    if UNENFORCED.iter().any(|(of, kinds)| *of == group && (kinds == &["*"] || kinds.contains(&kind))) {
        return Class::UnenforcedPolicy;
    }
    let built_in = BUILT_IN.contains(&group) || nearest(group, BUILT_IN.into_iter().skip(1)).is_some();
    if built_in {
        // Two groups have a kind of the same name.
        let named = || KINDS.iter().filter(|(known, _)| known.as_str() == kind);
        let in_group = |version: &str| version.strip_prefix(group).is_some_and(|rest| rest.starts_with('/'));
        if let Some((known, version)) = named().find(|(_, version)| in_group(version)).or_else(|| named().next()) {
            return if known.is_policy() { Class::PolicyInOtherVersion(version) } else { Class::OtherVersion(version) };
        }
        if kind == "List"
            || KINDS
                .iter()
                .any(|(known, version)| *version == api_version && kind.strip_suffix("List") == Some(known.as_str()))
        {
            return Class::List;
        }
        let policies = KINDS.iter().filter(|(known, _)| known.is_policy()).map(|(known, _)| known.as_str());
        if let Some(meant) = nearest(kind, policies) {
            return Class::MisspeltPolicy(meant);
        }
    }
    // A kind of another vendor that is a policy by its name.
    if kind.ends_with("NetworkPolicy") || kind == "AuthorizationPolicy" {
        return Class::UnenforcedPolicy;
    }
    Class::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let cases = [
            ("v1", "Pod", Class::Known(Kind::Pod)),
            ("networking.k8s.io/v1", "NetworkPolicy", Class::Known(Kind::NetworkPolicy)),
            ("extensions/v1beta1", "NetworkPolicy", Class::PolicyInOtherVersion("networking.k8s.io/v1")),
            ("networking.k8s.io/v2", "NetworkPolicy", Class::PolicyInOtherVersion("networking.k8s.io/v1")),
            ("networking.k8s.oi/v1", "NetworkPolicy", Class::PolicyInOtherVersion("networking.k8s.io/v1")),
            ("v1", "NetworkPolicy", Class::PolicyInOtherVersion("networking.k8s.io/v1")),
            ("networking.k8s.io/v1", "Networkpolicy", Class::MisspeltPolicy("NetworkPolicy")),
            ("networking.k8s.io/v1", "NetworkPolcy", Class::MisspeltPolicy("NetworkPolicy")),
            ("networking.k8s.io/v1", "Ingress", Class::Unknown),
            ("networking.k8s.io/v1", "NetworkPolicyList", Class::List),
            ("v1", "List", Class::List),
            ("v1", "PodList", Class::List),
            ("apps/v1beta1", "Deployment", Class::OtherVersion("apps/v1")),
            ("projectcalico.org/v3", "NetworkPolicy", Class::UnenforcedPolicy),
            ("cilium.io/v2", "CiliumNetworkPolicy", Class::Known(Kind::CiliumNetworkPolicy)),
            ("cilium.io/v2", "CiliumClusterwideNetworkPolicy", Class::Known(Kind::CiliumClusterwideNetworkPolicy)),
            ("cilium.io/v2alpha1", "CiliumCIDRGroup", Class::Known(Kind::CiliumCidrGroup)),
            ("cilium.io/v1", "CiliumNetworkPolicy", Class::PolicyInOtherVersion("cilium.io/v2")),
            ("cilium.oi/v2", "CiliumNetworkPolicy", Class::PolicyInOtherVersion("cilium.io/v2")),
            ("v1", "CiliumNetworkPolicy", Class::PolicyInOtherVersion("cilium.io/v2")),
            ("cilium.io/v2", "CiliumNetworkPolcy", Class::MisspeltPolicy("CiliumNetworkPolicy")),
            ("cilium.io/v2", "CiliumCidrGroup", Class::MisspeltPolicy("CiliumCIDRGroup")),
            ("cilium.io/v2", "CiliumNetworkPolicyList", Class::List),
            ("cilium.io/v2", "CiliumEgressGatewayPolicy", Class::UnenforcedPolicy),
            ("cilium.io/v2", "CiliumLocalRedirectPolicy", Class::Unknown),
            ("cilium.io/v2", "CiliumEndpoint", Class::Unknown),
            ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", Class::Known(Kind::ClusterNetworkPolicy)),
            ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", Class::Known(Kind::AdminNetworkPolicy)),
            (
                "policy.networking.k8s.io/v1beta1",
                "ClusterNetworkPolicy",
                Class::PolicyInOtherVersion("policy.networking.k8s.io/v1alpha2"),
            ),
            ("crd.antrea.io/v1beta1", "ClusterNetworkPolicy", Class::UnenforcedPolicy),
            ("security.istio.io/v1", "PeerAuthentication", Class::UnenforcedPolicy),
            ("example.com/v1", "OurNetworkPolicy", Class::UnenforcedPolicy),
            ("serving.knative.dev/v1", "Service", Class::Unknown),
            ("gateway.networking.k8s.io/v1", "HTTPRoute", Class::Known(Kind::HttpRoute)),
            ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", Class::Known(Kind::ReferenceGrant)),
            ("gateway.networking.k8s.io/v1alpha3", "Gateway", Class::OtherVersion("gateway.networking.k8s.io/v1")),
            ("gateway.networking.x-k8s.io/v1alpha1", "XBackendTrafficPolicy", Class::Known(Kind::BackendTrafficPolicy)),
            ("networking.istio.io/v1", "Gateway", Class::Known(Kind::IstioGateway)),
            ("networking.istio.io/v1beta1", "VirtualService", Class::Known(Kind::VirtualService)),
            ("networking.istio.io/v1alpha3", "DestinationRule", Class::Known(Kind::DestinationRule)),
            ("networking.istio.io/v1", "ServiceEntryList", Class::List),
            ("networking.istio.io/v2", "Gateway", Class::OtherVersion("networking.istio.io/v1")),
            ("networking.istio.io/v1", "Sidecar", Class::UnenforcedPolicy),
            ("networking.istio.io/v1", "EnvoyFilter", Class::Unknown),
        ];
        for (api_version, kind, expected) in cases {
            assert_eq!(classify(api_version, kind), expected, "{api_version} {kind}");
        }
    }
}
