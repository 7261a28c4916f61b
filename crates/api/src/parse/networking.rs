//! `networking.k8s.io/v1`, as `pkg/apis/networking/validation` checks it.

use std::sync::Arc;

use ipnet::IpNet;
use strait_base::{LabelSelector, Protocol};

use super::{
    decode::{Decoder, Fields, Step},
    meta::label_selector,
    report::{ErrorKind, Severity, Topic},
    text::Fault,
    tree::Node,
    values,
};
use crate::types::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicyRule, Object, ObjectMeta, PeerSelector, PortRef,
};

/// A `NetworkPolicy`. Without a `spec` it is the zero value, as upstream: it isolates every pod of its namespace for ingress.
pub(super) fn network_policy(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    if root.get("spec").is_none() {
        let at = root.node.at;
        d.note(
            at,
            Severity::Warning,
            Topic::NoRules,
            "a NetworkPolicy without a spec isolates every pod of its namespace for ingress",
        );
    }
    let spec = d.optional(root, "spec", spec).unwrap_or_default();
    let Spec { pod_selector, types, ingress, egress } = spec;
    let (isolates_ingress, isolates_egress) = if types.is_empty() {
        (true, !egress.is_empty())
    } else {
        (types.contains(&PolicyType::Ingress), types.contains(&PolicyType::Egress))
    };
    if let Some(spec) = root.node.get("spec") {
        warn_without_effect(d, &spec.value, "ingress", !ingress.is_empty() && !isolates_ingress);
        warn_without_effect(d, &spec.value, "egress", !egress.is_empty() && !isolates_egress);
    }
    let policy = NetworkPolicy { meta: meta?, pod_selector, isolates_ingress, isolates_egress, ingress, egress };
    Some(Object::NetworkPolicy(Arc::new(policy)))
}

#[derive(Default)]
struct Spec {
    pod_selector: LabelSelector,
    types: Vec<PolicyType>,
    ingress: Vec<NetworkPolicyRule>,
    egress: Vec<NetworkPolicyRule>,
}

fn spec(d: &mut Decoder<'_>, node: &Node) -> Option<Spec> {
    let mut fields = d.fields(node)?;
    let pod_selector = d.optional(&mut fields, "podSelector", label_selector).unwrap_or_default();
    let types = d.list(&mut fields, "policyTypes", policy_type);
    if types.len() > 2 {
        let found = format!("{} types", types.len());
        let fault = Fault::new(node.at, ErrorKind::Value, found, "at most two: Ingress and Egress");
        d.within(Step::Field("policyTypes"), |d| d.fault(fault));
    }
    let ingress = d.list(&mut fields, "ingress", |d, node| rule(d, node, "from"));
    let egress = d.list(&mut fields, "egress", |d, node| rule(d, node, "to"));
    d.close(&fields, &[]);
    Some(Spec { pod_selector, types, ingress, egress })
}

fn warn_without_effect(d: &mut Decoder<'_>, spec: &Node, direction: &'static str, without_effect: bool) {
    if let Some(entry) = spec.get(direction).filter(|_| without_effect) {
        d.within(Step::Field("spec"), |d| {
            d.within(Step::Field(direction), |d| {
                d.warn(
                    entry.key_at,
                    Topic::UnnamedDirection,
                    "these rules have no effect: policyTypes does not name the direction",
                );
            });
        });
    }
}

#[derive(PartialEq)]
enum PolicyType {
    Ingress,
    Egress,
}

fn policy_type(d: &mut Decoder<'_>, node: &Node) -> Option<PolicyType> {
    match &*d.string(node)? {
        "Ingress" => Some(PolicyType::Ingress),
        "Egress" => Some(PolicyType::Egress),
        _ => {
            d.refuse(node, "Ingress or Egress");
            None
        }
    }
}

fn rule(d: &mut Decoder<'_>, node: &Node, peers: &'static str) -> Option<NetworkPolicyRule> {
    let mut fields = d.fields(node)?;
    let ports = d.list(&mut fields, "ports", port);
    let peers = d.list(&mut fields, peers, peer);
    d.close(&fields, &[]);
    Some(NetworkPolicyRule { peers, ports, location: d.location(node.at) })
}

fn peer(d: &mut Decoder<'_>, node: &Node) -> Option<NetworkPolicyPeer> {
    let mut fields = d.fields(node)?;
    let (has_pods, has_namespaces) = (fields.get("podSelector").is_some(), fields.get("namespaceSelector").is_some());
    let pods = d.optional(&mut fields, "podSelector", label_selector);
    let namespaces = d.optional(&mut fields, "namespaceSelector", label_selector);
    let has_block = fields.get("ipBlock").is_some();
    let block = d.optional(&mut fields, "ipBlock", ip_block);
    d.close(&fields, &[]);
    let selects = match (has_pods, has_namespaces, has_block) {
        (false, false, false) => {
            let fault =
                Fault::new(node.at, ErrorKind::Missing, node.found(), "podSelector, namespaceSelector or ipBlock");
            let null = ["podSelector", "namespaceSelector"].into_iter().find(|name| node.get(name).is_some());
            d.fault(fault.remedy(match null {
                Some(name) => format!("{name} is null, as if it were not there; {name}: {{}} selects all"),
                None => "name a peer; to allow all, leave the list of peers out or write namespaceSelector: {}".into(),
            }));
            return None;
        }
        (_, _, true) if has_pods || has_namespaces => {
            let found = "ipBlock beside a selector";
            let fault = Fault::new(node.at, ErrorKind::Value, found, "ipBlock alone, or selectors without it");
            d.fault(fault.remedy("write them as two peers of the list"));
            return None;
        }
        (_, _, true) => {
            let (cidr, except) = block?;
            PeerSelector::IpBlock { cidr, except }
        }
        (true, false, false) => PeerSelector::Pods(pods?),
        (false, true, false) => PeerSelector::Namespaces(namespaces?),
        (true, true, false) => PeerSelector::NamespacedPods { namespaces: namespaces?, pods: pods? },
    };
    Some(NetworkPolicyPeer { selects, location: d.location(node.at) })
}

fn ip_block(d: &mut Decoder<'_>, node: &Node) -> Option<(IpNet, Vec<IpNet>)> {
    let mut fields = d.fields(node)?;
    let cidr = d.required(&mut fields, "cidr", "a CIDR, as 10.0.0.0/8 or 2001:db8::/32", prefix);
    let except = d.list(&mut fields, "except", |d, node| {
        let except = prefix(d, node)?;
        let Some(cidr) = cidr else { return Some(except) };
        // `IpNet::contains` is false across address families.
        if cidr.contains(&except) && except.prefix_len() > cidr.prefix_len() {
            return Some(except);
        }
        d.refuse_with(node, format!("a CIDR strictly inside {cidr}"), "remove it, or widen cidr");
        None
    });
    d.close(&fields, &[]);
    Some((cidr?, except))
}

/// A CIDR, host bits cleared as the API's users (`net.ParseCIDR`) do.
fn prefix(d: &mut Decoder<'_>, node: &Node) -> Option<IpNet> {
    let text = d.string(node)?;
    match values::prefix(&text) {
        Ok((net, sloppy)) => {
            if net.trunc() != net {
                d.warn(node.at, Topic::HostBits, &format!("{text} has host bits set and means {}", net.trunc()));
            }
            if sloppy.0 {
                d.warn(
                    node.at,
                    Topic::LeadingZeros,
                    &format!("{text} has leading zeros, which are read as decimal: {net}"),
                );
            }
            Some(net.trunc())
        }
        Err(allowed) => {
            d.refuse(node, allowed);
            None
        }
    }
}

fn port(d: &mut Decoder<'_>, node: &Node) -> Option<NetworkPolicyPort> {
    let mut fields = d.fields(node)?;
    let protocol = d.optional(&mut fields, "protocol", protocol);
    let port_node = fields.get("port");
    let port = d.optional(&mut fields, "port", port_ref);
    let end_node = fields.get("endPort");
    let end_port = d.optional(&mut fields, "endPort", Decoder::port);
    d.close(&fields, &[]);
    if let Some(end_node) = end_node {
        d.within(Step::Field("endPort"), |d| match (&port, port_node, end_port) {
            (_, None, _) => d.refuse_with(end_node, "endPort only beside port", "add port, the first of the range"),
            (Some(PortRef::Name(name)), ..) => {
                d.refuse_with(
                    end_node,
                    format!("no endPort beside the named port \"{name}\""),
                    "write port as a number, or remove endPort",
                );
            }
            (Some(PortRef::Number(first)), _, Some(end)) if end < *first => {
                d.refuse(end_node, format!("at least port ({first})"));
            }
            _ => {}
        });
    }
    Some(NetworkPolicyPort {
        protocol: protocol.unwrap_or(Protocol::Tcp),
        port,
        end_port,
        location: d.location(node.at),
    })
}

/// `TCP`, `UDP` or `SCTP`, in capitals.
pub(super) fn protocol(d: &mut Decoder<'_>, node: &Node) -> Option<Protocol> {
    let text = d.string(node)?;
    if let Some(protocol) = Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == *text) {
        return Some(protocol);
    }
    match text.parse::<Protocol>() {
        Ok(protocol) => d.refuse_with(node, "TCP, UDP or SCTP", format!("write {protocol} in capitals")),
        Err(_) => d.refuse(node, "TCP, UDP or SCTP"),
    }
    None
}

/// A port number or name.
pub(super) fn port_ref(d: &mut Decoder<'_>, node: &Node) -> Option<PortRef> {
    use super::tree::{Reads, Scalar, Value};
    match &node.value {
        Value::Scalar(Scalar { text, reads: Reads::String }) => match values::port_name(text) {
            Ok(()) => Some(PortRef::Name(Arc::clone(text))),
            Err(_) if text.parse::<i64>().is_ok() => {
                d.refuse_with(
                    node,
                    "1-65535, or a port name with at least one letter",
                    "write the number without quotes",
                );
                None
            }
            Err(allowed) => {
                d.refuse(node, format!("1-65535, or a port name: {allowed}"));
                None
            }
        },
        Value::Scalar(_) | Value::Sequence(_) | Value::Mapping(_) => d.port(node).map(PortRef::Number),
    }
}
