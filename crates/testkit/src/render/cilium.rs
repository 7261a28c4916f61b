//! Cilium's kinds as manifests.

use strait_api::{
    CiliumAuthentication, CiliumCidrGroup, CiliumCidrRule, CiliumCidrSource, CiliumFqdn, CiliumIcmpField,
    CiliumL7Rules, CiliumNetworkPolicy, CiliumPeers, CiliumPort, CiliumPortRule, CiliumRule, CiliumSelector,
    CiliumService, CiliumSubject, CiliumTlsContext, CiliumTrafficRule, PortRef,
};
use strait_base::Operator;

use super::{Value, head, list, optional, plain, text};
use crate::draw::Draw;

type Fields = Vec<(&'static str, Value)>;

pub(super) fn group_manifest(group: &CiliumCidrGroup) -> Fields {
    let mut document = head("cilium.io/v2", "CiliumCIDRGroup", &group.meta);
    document.push(("spec", Value::Map(vec![("externalCIDRs", list(&group.external_cidrs, text))])));
    document
}

pub(super) fn policy_manifest(policy: &CiliumNetworkPolicy, style: &mut Draw) -> Fields {
    let kind = if policy.clusterwide { "CiliumClusterwideNetworkPolicy" } else { "CiliumNetworkPolicy" };
    let mut document = head("cilium.io/v2", kind, &policy.meta);
    let mut rules = policy.rules.as_slice();
    if let [first, rest @ ..] = rules
        && (rest.is_empty() || style.chance(50))
    {
        document.push(("spec", rule_manifest(first, style)));
        rules = rest;
    }
    if !rules.is_empty() {
        document.push(("specs", list(rules, |rule| rule_manifest(rule, style))));
    }
    document
}

fn rule_manifest(rule: &CiliumRule, style: &mut Draw) -> Value {
    let mut fields = vec![match &rule.subject {
        CiliumSubject::Endpoints(selector) => ("endpointSelector", cilium_selector(selector, style)),
        CiliumSubject::Nodes(selector) => ("nodeSelector", cilium_selector(selector, style)),
    }];
    for (name, rules, egress) in [
        ("ingress", &rule.ingress, false),
        ("ingressDeny", &rule.ingress_deny, false),
        ("egress", &rule.egress, true),
        ("egressDeny", &rule.egress_deny, true),
    ] {
        if !rules.is_empty() {
            fields.push((name, list(rules, |rule| traffic_manifest(rule, egress, style))));
        }
    }
    let asked = [("ingress", rule.enable_default_deny.ingress), ("egress", rule.enable_default_deny.egress)];
    let asked: Fields = asked.into_iter().filter_map(|(name, value)| Some((name, plain(&value?)))).collect();
    if !asked.is_empty() {
        fields.push(("enableDefaultDeny", Value::Map(asked)));
    }
    Value::Map(fields)
}

fn traffic_manifest(rule: &CiliumTrafficRule, egress: bool, style: &mut Draw) -> Value {
    let mut fields: Fields = Vec::new();
    fields.extend(peers_manifest(&rule.peers, egress, style));
    if !rule.ports.is_empty() || (rule.icmps.is_empty() && style.chance(5)) {
        fields.push(("toPorts", list(&rule.ports, |rule| ports_manifest(rule, style))));
    }
    if !rule.icmps.is_empty() {
        let icmp =
            |all: &Vec<CiliumIcmpField>| Value::Map(vec![("fields", list(all, |field| icmp_manifest(*field, style)))]);
        fields.push(("icmps", list(&rule.icmps, icmp)));
    }
    if let Some(mode) = rule.authentication {
        let mode = match mode {
            CiliumAuthentication::Disabled => "disabled",
            CiliumAuthentication::Required => "required",
            CiliumAuthentication::TestAlwaysFail => "test-always-fail",
        };
        fields.push(("authentication", Value::Map(vec![("mode", plain(mode))])));
    }
    Value::Map(fields)
}

fn icmp_manifest(field: CiliumIcmpField, style: &mut Draw) -> Value {
    let mut fields: Fields = Vec::new();
    if field.ipv6 || style.chance(50) {
        fields.push(("family", plain(if field.ipv6 { "IPv6" } else { "IPv4" })));
    }
    let by_name = match (field.ipv6, field.icmp_type) {
        (false, 8) | (true, 128) => Some("EchoRequest"),
        _ => None,
    };
    fields.push(match by_name.filter(|_| style.chance(50)) {
        Some(name) => ("type", text(name)),
        None => ("type", plain(&field.icmp_type)),
    });
    Value::Map(fields)
}

/// The member, by its name for the direction.
fn peers_manifest(peers: &CiliumPeers, egress: bool, style: &mut Draw) -> Option<(&'static str, Value)> {
    let name = |from: &'static str, to: &'static str| if egress { to } else { from };
    Some(match peers {
        CiliumPeers::Any => return None,
        CiliumPeers::Endpoints(selectors) => {
            (name("fromEndpoints", "toEndpoints"), list(selectors, |one| cilium_selector(one, style)))
        }
        CiliumPeers::Cidrs(cidrs) => (name("fromCIDR", "toCIDR"), list(cidrs, text)),
        CiliumPeers::CidrSets(sets) => {
            (name("fromCIDRSet", "toCIDRSet"), list(sets, |set| cidr_rule_manifest(set, style)))
        }
        CiliumPeers::Entities(entities) => (name("fromEntities", "toEntities"), list(entities, plain)),
        CiliumPeers::Services(services) => ("toServices", list(services, |one| service_manifest(one, style))),
        CiliumPeers::Nodes(selectors) => {
            (name("fromNodes", "toNodes"), list(selectors, |one| cilium_selector(one, style)))
        }
        CiliumPeers::Fqdns(names) => ("toFQDNs", list(names, fqdn_manifest)),
        CiliumPeers::Groups(groups) => {
            let group = |ids: &Vec<std::sync::Arc<str>>| {
                Value::Map(vec![("aws", Value::Map(vec![("securityGroupsIds", list(ids, text))]))])
            };
            (name("fromGroups", "toGroups"), list(groups, |one| group(&one.security_group_ids)))
        }
    })
}

fn cidr_rule_manifest(rule: &CiliumCidrRule, style: &mut Draw) -> Value {
    let mut fields = vec![match &rule.source {
        CiliumCidrSource::Cidr(cidr) => ("cidr", text(cidr)),
        CiliumCidrSource::Group(name) => ("cidrGroupRef", text(name)),
        CiliumCidrSource::GroupSelector(selector) => ("cidrGroupSelector", cilium_selector(selector, style)),
    }];
    optional(&mut fields, "except", &rule.except, style, |net, _| text(net));
    Value::Map(fields)
}

fn service_manifest(service: &CiliumService, style: &mut Draw) -> Value {
    let (member, mut fields, namespace) = match service {
        CiliumService::Named { name, namespace } => ("k8sService", vec![("serviceName", text(name))], namespace),
        CiliumService::Selected { selector, namespace } => {
            ("k8sServiceSelector", vec![("selector", cilium_selector(selector, style))], namespace)
        }
    };
    fields.extend(namespace.as_ref().map(|namespace| ("namespace", text(namespace))));
    Value::Map(vec![(member, Value::Map(fields))])
}

fn fqdn_manifest(name: &CiliumFqdn) -> Value {
    Value::Map(vec![match name {
        CiliumFqdn::Name(name) => ("matchName", text(name)),
        CiliumFqdn::Pattern(pattern) => ("matchPattern", text(pattern)),
    }])
}

fn ports_manifest(rule: &CiliumPortRule, style: &mut Draw) -> Value {
    let mut fields: Fields = Vec::new();
    optional(&mut fields, "ports", &rule.ports, style, port_manifest);
    match &rule.l7 {
        Some(CiliumL7Rules::Http(rules)) => {
            let http = list(rules, |rule| Value::Map(rule.path.iter().map(|path| ("path", text(path))).collect()));
            fields.push(("rules", Value::Map(vec![("http", http)])));
        }
        Some(CiliumL7Rules::Dns(names)) => {
            fields.push(("rules", Value::Map(vec![("dns", list(names, fqdn_manifest))])));
        }
        Some(CiliumL7Rules::Removed(_)) => {
            fields.push(("rules", Value::Map(vec![("kafka", Value::List(vec![Value::Map(Vec::new())]))])));
        }
        None => {}
    }
    if !rule.server_names.is_empty() {
        fields.push(("serverNames", list(&rule.server_names, text)));
    }
    fields.extend(rule.terminating_tls.as_ref().map(|tls| ("terminatingTLS", tls_manifest(tls))));
    fields.extend(rule.originating_tls.as_ref().map(|tls| ("originatingTLS", tls_manifest(tls))));
    if let Some(listener) = &rule.listener {
        let config = Value::Map(vec![("name", text(&listener.config_name))]);
        let mut inner = vec![("envoyConfig", config), ("name", text(&listener.name))];
        inner.extend(listener.priority.map(|priority| ("priority", plain(&priority))));
        fields.push(("listener", Value::Map(inner)));
    }
    Value::Map(fields)
}

fn tls_manifest(tls: &CiliumTlsContext) -> Value {
    let mut secret = vec![("name", text(&tls.secret.name))];
    secret.extend(tls.secret.namespace.as_ref().map(|namespace| ("namespace", text(namespace))));
    Value::Map(vec![("secret", Value::Map(secret))])
}

fn port_manifest(port: &CiliumPort, style: &mut Draw) -> Value {
    let name = match &port.port {
        Some(PortRef::Number(number)) => number.to_string(),
        Some(PortRef::Name(name)) => name.to_string(),
        None => "0".to_owned(),
    };
    let mut fields = vec![("port", text(&name))];
    fields.extend(port.end_port.map(|end| ("endPort", plain(&end))));
    match port.protocol {
        Some(protocol) => fields.push(("protocol", plain(&protocol))),
        None if style.chance(50) => fields.push(("protocol", plain("ANY"))),
        None => {}
    }
    Value::Map(fields)
}

fn cilium_selector(selector: &CiliumSelector, style: &mut Draw) -> Value {
    let mut fields: Fields = Vec::new();
    if !selector.match_labels.is_empty() || style.chance(10) {
        let pairs = selector.match_labels.iter().map(|(key, value)| (quoted(&key.to_string()), value.to_string()));
        fields.push(("matchLabels", Value::Texts(pairs.collect())));
    }
    optional(&mut fields, "matchExpressions", &selector.match_expressions, style, |requirement, _| {
        let mut fields = vec![("key", text(&requirement.key))];
        let (operator, values) = match &requirement.operator {
            Operator::In(values) => ("In", Some(values)),
            Operator::NotIn(values) => ("NotIn", Some(values)),
            Operator::Exists => ("Exists", None),
            Operator::DoesNotExist => ("DoesNotExist", None),
        };
        fields.push(("operator", plain(operator)));
        fields.extend(values.map(|values| ("values", list(values, text))));
        Value::Map(fields)
    });
    Value::Map(fields)
}

/// Keys have colons.
fn quoted(key: &str) -> String {
    format!("{key:?}")
}
