//! What Cilium's policies and the tiers around them are read as.

use std::sync::Arc;

use strait_api::{
    CiliumIcmpField, CiliumKey, CiliumNetworkPolicy, CiliumPeers, CiliumSource, CiliumSubject, ClusterAction,
    ClusterTier, Object, PortRef, parse,
};

fn cilium(spec: &str) -> Arc<CiliumNetworkPolicy> {
    let text = format!("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n");
    let parsed = parse(&Arc::from("p.yaml"), text.as_bytes());
    assert!(parsed.errors.is_empty(), "{text}{:?}", parsed.errors);
    let Object::CiliumNetworkPolicy(policy) = &parsed.objects[0] else { unreachable!() };
    Arc::clone(policy)
}

/// Missing, empty and full lists of peers are three things.
#[test]
fn peers() {
    let cases = [
        ("{}", "Any"),
        ("{fromEndpoints: }", "Any"),
        ("{fromEndpoints: null, fromEntities: [host]}", "Entities([Host])"),
        ("{fromEndpoints: []}", "Endpoints([])"),
        ("{fromEndpoints: [{}]}", "Endpoints([CiliumSelector { match_labels: {}, match_expressions: [] }])"),
        ("{fromEndpoints: [], fromEntities: [host]}", "Endpoints([])"),
        ("{fromCIDR: [], fromEntities: [host]}", "Cidrs([])"),
        ("{fromEntities: [all, none]}", "Entities([All, None])"),
        ("{fromCIDR: [192.0.2.7, \"2001:db8::1\", 10.0.0.0/8]}", "Cidrs([192.0.2.7/32, 2001:db8::1/128, 10.0.0.0/8])"),
    ];
    for (rule, expected) in cases {
        let policy = cilium(&format!("{{endpointSelector: {{}}, ingress: [{rule}]}}"));
        assert_eq!(format!("{:?}", policy.rules[0].ingress[0].peers), expected, "{rule}");
    }
}

#[test]
fn directions_closed_by_default() {
    let cases = [
        ("ingress: [{}]", (true, false)),
        ("ingressDeny: [{fromEntities: [all]}]", (true, false)),
        ("egress: [{}]", (false, true)),
        ("egressDeny: [{toEntities: [all]}], ingress: []", (false, true)),
        ("ingress: [{}], egress: [{}], enableDefaultDeny: {egress: false}", (true, false)),
        ("ingress: [{}], enableDefaultDeny: {ingress: false, egress: true}", (false, true)),
    ];
    for (sections, expected) in cases {
        let policy = cilium(&format!("{{endpointSelector: {{}}, {sections}}}"));
        let rule = &policy.rules[0];
        assert_eq!((rule.default_denies_ingress(), rule.default_denies_egress()), expected, "{sections}");
    }
}

#[test]
fn keys_have_sources() {
    let cases = [
        ("app", CiliumSource::Any, "app"),
        ("any:app", CiliumSource::Any, "app"),
        ("k8s:io.kubernetes.pod.namespace", CiliumSource::K8s, "io.kubernetes.pod.namespace"),
        ("example.com/app", CiliumSource::Any, "example.com/app"),
        ("k8s:example.com/app", CiliumSource::K8s, "example.com/app"),
        ("reserved:host", CiliumSource::Reserved, "host"),
        ("reserved.host", CiliumSource::Reserved, "host"),
        ("$host", CiliumSource::Reserved, "host"),
        ("cidrgroup:trust", CiliumSource::CidrGroup, "trust"),
        ("container:a", CiliumSource::Other("container".into()), "a"),
    ];
    for (text, source, key) in cases {
        let spec = format!("{{endpointSelector: {{matchLabels: {{\"{text}\": \"\"}}}}, ingress: [{{}}]}}");
        let policy = cilium(&spec);
        let CiliumSubject::Endpoints(selector) = &policy.rules[0].subject else { unreachable!() };
        let expected = CiliumKey { source, key: key.into() };
        assert_eq!(selector.keys().collect::<Vec<_>>(), [&expected], "{text}");
    }
}

#[test]
fn ports_and_types() {
    let policy = cilium(
        "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: \"0\"}, {port: \"80\", protocol: ANY, endPort: 0}, {port: HTTP, protocol: TCP}]}]}, \
         {icmps: [{fields: [{type: 0}, {type: \"8\"}, {type: Redirect, family: IPv4}, {type: EchoReply, family: IPv6}]}, {}]}]}",
    );
    let ports = policy.rules[0].ingress[0].ports[0].ports.iter();
    let ports: Vec<_> = ports.map(|port| (port.port.clone(), port.end_port, port.protocol)).collect();
    let named = Some(PortRef::Name("http".into()));
    let tcp = Some(strait_base::Protocol::Tcp);
    assert_eq!(ports, [(None, None, None), (Some(PortRef::Number(80)), None, None), (named, None, tcp)]);
    let field = |ipv6, icmp_type| CiliumIcmpField { ipv6, icmp_type };
    let expected = [vec![field(false, 0), field(false, 8), field(false, 5), field(true, 129)], vec![]];
    assert_eq!(policy.rules[0].ingress[1].icmps, expected);
    assert_eq!(policy.rules[0].ingress[1].peers, CiliumPeers::Any);
}

#[test]
fn tiers() {
    let cases = [
        ("v1alpha2", "ClusterNetworkPolicy", "g", "tier: Admin, priority: 0,", "Pass", ClusterTier::Admin),
        ("v1alpha2", "ClusterNetworkPolicy", "g", "tier: Baseline, priority: 0,", "Accept", ClusterTier::Baseline),
        ("v1alpha1", "AdminNetworkPolicy", "g", "priority: 0,", "Allow", ClusterTier::Admin),
        ("v1alpha1", "BaselineAdminNetworkPolicy", "default", "", "Deny", ClusterTier::Baseline),
    ];
    for (version, kind, name, place, action, tier) in cases {
        let text = format!(
            "apiVersion: policy.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: {name}}}\n\
             spec: {{{place} subject: {{namespaces: {{}}}}, egress: [{{action: {action}, to: [{{namespaces: {{}}}}]}}]}}\n"
        );
        let parsed = parse(&Arc::from("p.yaml"), text.as_bytes());
        assert!(parsed.errors.is_empty(), "{text}{:?}", parsed.errors);
        let Object::ClusterNetworkPolicy(policy) = &parsed.objects[0] else { unreachable!() };
        let expected = match action {
            "Pass" => ClusterAction::Pass,
            "Deny" => ClusterAction::Deny,
            _ => ClusterAction::Accept,
        };
        assert_eq!((policy.tier, policy.egress[0].action), (tier, expected), "{text}");
        assert_eq!(parsed.objects[0].kind().as_str(), kind);
        assert!(policy.meta.namespace.is_empty());
    }
}
