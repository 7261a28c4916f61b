//! `cilium.io/v2` back to manifests.

use serde_json::{Value, json};
use strait_base::Operator;

use super::{list, port_ref, some};
use crate::types::{
    CiliumAuthentication, CiliumCidrRule, CiliumCidrSource, CiliumCloudGroup, CiliumFqdn, CiliumHeaderMatch,
    CiliumIcmpField, CiliumL7Rules, CiliumListener, CiliumMismatch, CiliumNetworkPolicy, CiliumPeers, CiliumPort,
    CiliumPortRule, CiliumRule, CiliumSecret, CiliumSelector, CiliumService, CiliumSubject, CiliumTlsContext,
    CiliumTrafficRule,
};

/// `spec` where there is one rule, else `specs`.
pub(super) fn policy(policy: &CiliumNetworkPolicy) -> (&'static str, Value) {
    match &policy.rules[..] {
        [only] => ("spec", rule(only)),
        several => ("specs", several.iter().map(rule).collect()),
    }
}

fn rule(rule: &CiliumRule) -> Value {
    let (name, selects) = match &rule.subject {
        CiliumSubject::Endpoints(selects) => ("endpointSelector", selects),
        CiliumSubject::Nodes(selects) => ("nodeSelector", selects),
    };
    let deny = rule.enable_default_deny;
    let labels = list(&rule.labels, |label| json!({"key": label.key, "value": label.value, "source": label.source}));
    some([
        (name, selector(selects)),
        ("ingress", list(&rule.ingress, |rule| traffic_rule(rule, true))),
        ("ingressDeny", list(&rule.ingress_deny, |rule| traffic_rule(rule, true))),
        ("egress", list(&rule.egress, |rule| traffic_rule(rule, false))),
        ("egressDeny", list(&rule.egress_deny, |rule| traffic_rule(rule, false))),
        ("enableDefaultDeny", some([("ingress", json!(deny.ingress)), ("egress", json!(deny.egress))])),
        ("labels", labels),
        ("description", json!(rule.description)),
        ("log", rule.log.as_ref().map_or(Value::Null, |value| json!({"value": value}))),
    ])
}

fn traffic_rule(rule: &CiliumTrafficRule, ingress: bool) -> Value {
    let (name, members) = peers(&rule.peers, ingress);
    let mode = rule.authentication.map(|mode| match mode {
        CiliumAuthentication::Disabled => "disabled",
        CiliumAuthentication::Required => "required",
        CiliumAuthentication::TestAlwaysFail => "test-always-fail",
    });
    some([
        (name, members),
        ("toPorts", list(&rule.ports, port_rule)),
        ("icmps", list(&rule.icmps, |fields| some([("fields", list(fields, |field| icmp_field(*field)))]))),
        ("authentication", mode.map_or(Value::Null, |mode| json!({"mode": mode}))),
    ])
}

/// The name of the member and its list, which may be empty.
fn peers(peers: &CiliumPeers, ingress: bool) -> (&'static str, Value) {
    let direction = |from, to| if ingress { from } else { to };
    match peers {
        CiliumPeers::Any => ("toEntities", Value::Null),
        CiliumPeers::Endpoints(all) => (direction("fromEndpoints", "toEndpoints"), all.iter().map(selector).collect()),
        CiliumPeers::Cidrs(all) => {
            (direction("fromCIDR", "toCIDR"), all.iter().map(|net| Value::from(net.to_string())).collect())
        }
        CiliumPeers::CidrSets(all) => (direction("fromCIDRSet", "toCIDRSet"), all.iter().map(cidr_rule).collect()),
        CiliumPeers::Entities(all) => {
            (direction("fromEntities", "toEntities"), all.iter().map(|entity| Value::from(entity.as_str())).collect())
        }
        CiliumPeers::Services(all) => ("toServices", all.iter().map(service).collect()),
        CiliumPeers::Nodes(all) => (direction("fromNodes", "toNodes"), all.iter().map(selector).collect()),
        CiliumPeers::Fqdns(all) => ("toFQDNs", all.iter().map(fqdn).collect()),
        CiliumPeers::Groups(all) => (direction("fromGroups", "toGroups"), all.iter().map(group).collect()),
    }
}

fn selector(selector: &CiliumSelector) -> Value {
    let labels = selector.match_labels.iter().map(|(key, value)| (key.to_string(), json!(value)));
    let labels: serde_json::Map<String, Value> = labels.collect();
    let expressions = list(&selector.match_expressions, |requirement| {
        let (operator, values) = match &requirement.operator {
            Operator::In(values) => ("In", json!(values)),
            Operator::NotIn(values) => ("NotIn", json!(values)),
            Operator::Exists => ("Exists", Value::Null),
            Operator::DoesNotExist => ("DoesNotExist", Value::Null),
        };
        some([("key", json!(requirement.key.to_string())), ("operator", operator.into()), ("values", values)])
    });
    let labels = if labels.is_empty() { Value::Null } else { Value::Object(labels) };
    some([("matchLabels", labels), ("matchExpressions", expressions)])
}

fn cidr_rule(rule: &CiliumCidrRule) -> Value {
    let (name, source) = match &rule.source {
        CiliumCidrSource::Cidr(cidr) => ("cidr", cidr.to_string().into()),
        CiliumCidrSource::Group(name) => ("cidrGroupRef", json!(name)),
        CiliumCidrSource::GroupSelector(groups) => ("cidrGroupSelector", selector(groups)),
    };
    some([(name, source), ("except", list(&rule.except, |net| net.to_string().into()))])
}

fn service(service: &CiliumService) -> Value {
    match service {
        CiliumService::Named { name, namespace } => {
            json!({"k8sService": some([("serviceName", json!(name)), ("namespace", json!(namespace))])})
        }
        CiliumService::Selected { selector: selects, namespace } => {
            json!({"k8sServiceSelector": some([("selector", selector(selects)), ("namespace", json!(namespace))])})
        }
    }
}

fn fqdn(fqdn: &CiliumFqdn) -> Value {
    match fqdn {
        CiliumFqdn::Name(name) => json!({"matchName": name}),
        CiliumFqdn::Pattern(pattern) => json!({"matchPattern": pattern}),
    }
}

fn group(group: &CiliumCloudGroup) -> Value {
    let labels = if group.labels.is_empty() { Value::Null } else { json!(group.labels) };
    json!({"aws": some([
        ("labels", labels),
        ("securityGroupsIds", list(&group.security_group_ids, |id| json!(id))),
        ("securityGroupsNames", list(&group.security_group_names, |name| json!(name))),
        ("region", json!(group.region)),
    ])})
}

fn port_rule(rule: &CiliumPortRule) -> Value {
    some([
        ("ports", list(&rule.ports, port)),
        ("rules", rule.l7.as_ref().map_or(Value::Null, l7_rules)),
        ("serverNames", list(&rule.server_names, |name| json!(name))),
        ("terminatingTLS", rule.terminating_tls.as_ref().map_or(Value::Null, tls_context)),
        ("originatingTLS", rule.originating_tls.as_ref().map_or(Value::Null, tls_context)),
        ("listener", rule.listener.as_ref().map_or(Value::Null, listener)),
    ])
}

fn port(port: &CiliumPort) -> Value {
    let number = match port.port.as_ref().map(port_ref) {
        None => "0".into(),
        Some(Value::String(name)) => Value::String(name),
        Some(number) => number.to_string().into(),
    };
    some([("port", number), ("endPort", json!(port.end_port)), ("protocol", json!(port.protocol))])
}

fn icmp_field(field: CiliumIcmpField) -> Value {
    json!({"family": if field.ipv6 { "IPv6" } else { "IPv4" }, "type": field.icmp_type})
}

fn l7_rules(rules: &CiliumL7Rules) -> Value {
    match rules {
        CiliumL7Rules::Http(all) => {
            let rules = all.iter().map(|rule| {
                some([
                    ("path", json!(rule.path)),
                    ("method", json!(rule.method)),
                    ("host", json!(rule.host)),
                    ("headers", list(&rule.headers, |header| json!(header))),
                    ("headerMatches", list(&rule.header_matches, header_match)),
                ])
            });
            json!({"http": rules.collect::<Value>()})
        }
        CiliumL7Rules::Dns(all) => json!({"dns": list(all, fqdn)}),
        CiliumL7Rules::Removed(protocol) => json!({"l7proto": protocol}),
    }
}

fn header_match(of: &CiliumHeaderMatch) -> Value {
    let mismatch = of.mismatch.map(|mismatch| match mismatch {
        CiliumMismatch::Log => "LOG",
        CiliumMismatch::Add => "ADD",
        CiliumMismatch::Delete => "DELETE",
        CiliumMismatch::Replace => "REPLACE",
    });
    some([
        ("name", json!(of.name)),
        ("value", json!(of.value)),
        ("secret", of.secret.as_ref().map_or(Value::Null, secret)),
        ("mismatch", json!(mismatch)),
    ])
}

fn secret(secret: &CiliumSecret) -> Value {
    some([("namespace", json!(secret.namespace)), ("name", json!(secret.name))])
}

fn tls_context(context: &CiliumTlsContext) -> Value {
    some([
        ("secret", secret(&context.secret)),
        ("trustedCA", json!(context.trusted_ca)),
        ("certificate", json!(context.certificate)),
        ("privateKey", json!(context.private_key)),
    ])
}

fn listener(listener: &CiliumListener) -> Value {
    some([
        ("envoyConfig", some([("kind", json!(listener.config_kind)), ("name", json!(listener.config_name))])),
        ("name", json!(listener.name)),
        ("priority", json!(listener.priority)),
    ])
}
