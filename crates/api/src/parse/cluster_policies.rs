//! `policy.networking.k8s.io`, as its resource definitions check it.

use std::sync::Arc;

use strait_base::{LabelSelector, Protocol};

use super::{
    cilium_select::{one_of, prefix},
    decode::{Decoder, Fields, Step},
    meta::label_selector,
    networking,
    report::{ErrorKind, Severity, Topic},
    text::Fault,
    tree::{Node, Value},
    values,
};
use crate::types::{
    ClusterAction, ClusterNetworkPolicy, ClusterPeer, ClusterPeerSelector, ClusterPolicyKind, ClusterPort, ClusterRule,
    ClusterSubject, ClusterTier, Object, ObjectMeta,
};

/// How the kinds differ.
#[derive(Clone, Copy)]
struct Dialect {
    kind: ClusterPolicyKind,
    /// The most rules of a direction, peers and ports of a rule.
    max: usize,
    /// The word for [`ClusterAction::Accept`].
    accept: &'static str,
    /// What `action` may be.
    actions: &'static str,
}

impl Dialect {
    const fn of(kind: ClusterPolicyKind) -> Self {
        let (max, accept, actions) = match kind {
            ClusterPolicyKind::ClusterNetworkPolicy => (25, "Accept", "Accept, Deny or Pass"),
            ClusterPolicyKind::AdminNetworkPolicy => (100, "Allow", "Allow, Deny or Pass"),
            ClusterPolicyKind::BaselineAdminNetworkPolicy => (100, "Allow", "Allow or Deny"),
        };
        Self { kind, max, accept, actions }
    }

    /// Whether it is of v1alpha2.
    const fn second(self) -> bool {
        matches!(self.kind, ClusterPolicyKind::ClusterNetworkPolicy)
    }

    const fn baseline(self) -> bool {
        matches!(self.kind, ClusterPolicyKind::BaselineAdminNetworkPolicy)
    }
}

/// A `ClusterNetworkPolicy`, `AdminNetworkPolicy` or `BaselineAdminNetworkPolicy`.
pub(super) fn policy(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
    kind: ClusterPolicyKind,
) -> Option<Object> {
    let dialect = Dialect::of(kind);
    if let Some(meta) = meta.as_ref().filter(|meta| dialect.baseline() && &*meta.name != "default") {
        let at = root.node.get("metadata").and_then(|entry| entry.value.get("name")).map(|entry| entry.value.at);
        let found = super::tree::quoted(&meta.name);
        let fault = Fault::new(at.unwrap_or(root.node.at), ErrorKind::Value, found, "\"default\": there is only one");
        d.within(Step::Field("metadata"), |d| d.within(Step::Field("name"), |d| d.fault(fault)));
    }
    let spec = d.required(root, "spec", "an object with a subject", |d, node| spec(d, node, dialect));
    let (meta, spec) = (meta?, spec?);
    let Spec { tier, priority, subject, ingress, egress } = spec;
    let policy = ClusterNetworkPolicy { meta, kind, tier, priority, subject, ingress, egress };
    Some(Object::ClusterNetworkPolicy(Arc::new(policy)))
}

struct Spec {
    tier: ClusterTier,
    priority: u16,
    subject: ClusterSubject,
    ingress: Vec<ClusterRule>,
    egress: Vec<ClusterRule>,
}

fn spec(d: &mut Decoder<'_>, node: &Node, dialect: Dialect) -> Option<Spec> {
    let mut fields = d.fields(node)?;
    let tier = match dialect.kind {
        ClusterPolicyKind::ClusterNetworkPolicy => d.required(&mut fields, "tier", "Admin or Baseline", tier),
        ClusterPolicyKind::AdminNetworkPolicy => Some(ClusterTier::Admin),
        ClusterPolicyKind::BaselineAdminNetworkPolicy => Some(ClusterTier::Baseline),
    };
    let priority = if dialect.baseline() {
        Some(0)
    } else {
        d.required(&mut fields, "priority", "0-1000", |d, node| d.integer(node, 0, 1000))
    };
    let subject = d.required(&mut fields, "subject", "namespaces or pods", |d, node| subject(d, node, dialect));
    let mut direction = |d: &mut Decoder<'_>, name, ingress| {
        let rules = d.list(&mut fields, name, |d, node| rule(d, node, dialect, ingress));
        check_count(d, node, name, rules.len(), dialect.max);
        rules
    };
    let ingress = direction(d, "ingress", true);
    let egress = direction(d, "egress", false);
    d.close(&fields, &[]);
    if ingress.is_empty() && egress.is_empty() {
        d.note(
            node.at,
            Severity::Warning,
            Topic::NoRules,
            format!("{}: a policy without rules has no effect", d.path()),
        );
    }
    let priority = priority.and_then(|priority| u16::try_from(priority).ok());
    Some(Spec { tier: tier?, priority: priority?, subject: subject?, ingress, egress })
}

fn tier(d: &mut Decoder<'_>, node: &Node) -> Option<ClusterTier> {
    match &*d.string(node)? {
        "Admin" => Some(ClusterTier::Admin),
        "Baseline" => Some(ClusterTier::Baseline),
        _ => {
            d.refuse(node, "Admin or Baseline");
            None
        }
    }
}

/// Refuses more than `max` items of the list `name`.
fn check_count(d: &mut Decoder<'_>, parent: &Node, name: &'static str, count: usize, max: usize) {
    if let Some(entry) = parent.get(name).filter(|_| count > max) {
        let fault = Fault::new(entry.value.at, ErrorKind::Limit, format!("{count} of them"), format!("at most {max}"));
        d.within(Step::Field(name), |d| d.fault(fault));
    }
}

fn subject(d: &mut Decoder<'_>, node: &Node, dialect: Dialect) -> Option<ClusterSubject> {
    let mut fields = d.fields(node)?;
    let names = ["namespaces", "pods"];
    let given: Vec<&str> = names.into_iter().filter(|name| fields.get(name).is_some()).collect();
    let namespaces = d.optional(&mut fields, "namespaces", label_selector);
    let pods = d.optional(&mut fields, "pods", |d, node| namespaced_pods(d, node, dialect));
    d.close(&fields, &[]);
    one_of(d, node, &names, &given)?;
    namespaces
        .map(ClusterSubject::Namespaces)
        .or_else(|| pods.map(|(namespaces, pods)| ClusterSubject::Pods { namespaces, pods }))
}

/// Selectors of namespaces and of pods.
fn namespaced_pods(d: &mut Decoder<'_>, node: &Node, dialect: Dialect) -> Option<(LabelSelector, LabelSelector)> {
    let mut fields = d.fields(node)?;
    let namespaces = if dialect.second() {
        let absent = fields.get("namespaceSelector").is_none();
        let given = d.optional(&mut fields, "namespaceSelector", label_selector);
        if absent { Some(LabelSelector::default()) } else { given }
    } else {
        d.required(&mut fields, "namespaceSelector", "a label selector ({} selects all)", label_selector)
    };
    let pods = d.required(&mut fields, "podSelector", "a label selector ({} selects all)", label_selector);
    d.close(&fields, &[]);
    Some((namespaces?, pods?))
}

fn rule(d: &mut Decoder<'_>, node: &Node, dialect: Dialect, ingress: bool) -> Option<ClusterRule> {
    let mut fields = d.fields(node)?;
    let name = d.optional(&mut fields, "name", |d, node| {
        let name = d.string(node)?;
        if name.chars().count() > 100 {
            d.refuse(node, "at most 100 characters");
        }
        Some(name)
    });
    let action = d.required(&mut fields, "action", dialect.actions, |d, node| action(d, node, dialect));
    let (peers_name, ports_name) =
        (if ingress { "from" } else { "to" }, if dialect.second() { "protocols" } else { "ports" });
    let peers = d.required(&mut fields, peers_name, "at least one peer", |d, node| {
        if matches!(&node.value, Value::Sequence(items) if items.is_empty()) {
            d.refuse_with(node, "at least one peer", "namespaces: {} names every pod");
            return None;
        }
        d.items(node, |d, node| peer(d, node, dialect, ingress))
    });
    let read_port = if dialect.second() { protocol_match } else { port };
    let ports = d.optional(&mut fields, ports_name, |d, node| {
        if matches!(&node.value, Value::Sequence(items) if items.is_empty()) && dialect.second() {
            d.refuse_with(node, "at least one", "remove the field to mean all traffic");
            return None;
        }
        d.items(node, read_port)
    });
    d.close(&fields, &[]);
    let (peers, ports) = (peers?, ports.unwrap_or_default());
    check_count(d, node, peers_name, peers.len(), dialect.max);
    check_count(d, node, ports_name, ports.len(), dialect.max);
    let action = action?;
    check_peers(d, node, action, &peers, &ports, dialect);
    Some(ClusterRule { name, action, peers, ports, location: d.location(node.at) })
}

fn action(d: &mut Decoder<'_>, node: &Node, dialect: Dialect) -> Option<ClusterAction> {
    match &*d.string(node)? {
        accept if accept == dialect.accept => Some(ClusterAction::Accept),
        "Deny" => Some(ClusterAction::Deny),
        "Pass" if !dialect.baseline() => Some(ClusterAction::Pass),
        "Allow" | "Accept" => {
            d.refuse_with(node, dialect.actions, format!("write {}", dialect.accept));
            None
        }
        _ => {
            d.refuse(node, dialect.actions);
            None
        }
    }
}

/// What depends on several fields of a rule.
fn check_peers(
    d: &mut Decoder<'_>,
    node: &Node,
    action: ClusterAction,
    peers: &[ClusterPeer],
    ports: &[ClusterPort],
    dialect: Dialect,
) {
    let named = ports.iter().any(|port| matches!(port, ClusterPort::Named(_)));
    let (mut nameless, mut domains) = (false, false);
    for peer in peers {
        match &peer.selects {
            ClusterPeerSelector::Namespaces(_) | ClusterPeerSelector::Pods { .. } => {}
            ClusterPeerSelector::Nodes(_) | ClusterPeerSelector::Networks(_) => nameless = true,
            ClusterPeerSelector::DomainNames(_) => (nameless, domains) = (true, true),
        }
    }
    if named && nameless {
        let found = "a named port beside nodes, networks or domainNames, which have none";
        let fault = Fault::new(node.at, ErrorKind::Value, found, "named ports of pods");
        d.fault(fault.remedy("write the port as a number, or a rule for the pods alone"));
    }
    if domains && action != ClusterAction::Accept {
        let found = "domainNames in a rule that does not allow";
        let allowed = format!("domainNames only with action {}", dialect.accept);
        d.fault(Fault::new(node.at, ErrorKind::Value, found, allowed).remedy("write networks"));
    }
}

fn peer(d: &mut Decoder<'_>, node: &Node, dialect: Dialect, ingress: bool) -> Option<ClusterPeer> {
    let mut fields = d.fields(node)?;
    let all = ["namespaces", "pods", "nodes", "networks", "domainNames"];
    // For ingress and in a baseline policy the others are unknown fields.
    let names = match (ingress, dialect.baseline()) {
        (true, _) => &all[..2],
        (false, true) => &all[..4],
        (false, false) => &all,
    };
    let given: Vec<&str> = names.iter().copied().filter(|name| fields.get(name).is_some()).collect();
    let mut selects = Vec::new();
    for name in names {
        selects.extend(match *name {
            "namespaces" => d.optional(&mut fields, "namespaces", label_selector).map(ClusterPeerSelector::Namespaces),
            "pods" => d.optional(&mut fields, "pods", |d, node| {
                let (namespaces, pods) = namespaced_pods(d, node, dialect)?;
                Some(ClusterPeerSelector::Pods { namespaces, pods })
            }),
            "nodes" => d.optional(&mut fields, "nodes", label_selector).map(ClusterPeerSelector::Nodes),
            "networks" => some_of(d, &mut fields, "networks", prefix).map(ClusterPeerSelector::Networks),
            _ => some_of(d, &mut fields, "domainNames", domain_name).map(ClusterPeerSelector::DomainNames),
        });
    }
    d.close(&fields, &[]);
    one_of(d, node, names, &given)?;
    Some(ClusterPeer { selects: selects.pop()?, location: d.location(node.at) })
}

/// A list of 1-25 items.
fn some_of<T>(
    d: &mut Decoder<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl FnMut(&mut Decoder<'_>, &Node) -> Option<T>,
) -> Option<Vec<T>> {
    let parent = fields.node;
    let items = d.optional(fields, name, |d, node| {
        if matches!(&node.value, Value::Sequence(items) if items.is_empty()) {
            d.refuse(node, "at least one");
        }
        d.items(node, read)
    })?;
    check_count(d, parent, name, items.len(), 25);
    Some(items)
}

fn domain_name(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    let text = d.string(node)?;
    let name = text.strip_suffix('.').unwrap_or(&text);
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let in_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let label = |label: &str| edge(label.chars().next()) && edge(label.chars().last()) && label.chars().all(in_label);
    if text.len() <= 255 && labels.contains('.') && labels.split('.').all(label) {
        return Some(name.to_ascii_lowercase().into());
    }
    d.refuse(node, "a domain name of at least two labels, perhaps with *. before it, as *.example.com");
    None
}

/// One of `protocols` (v1alpha2).
fn protocol_match(d: &mut Decoder<'_>, node: &Node) -> Option<ClusterPort> {
    let mut fields = d.fields(node)?;
    let names = ["tcp", "udp", "sctp", "destinationNamedPort"];
    let given: Vec<&str> = names.into_iter().filter(|name| fields.get(name).is_some()).collect();
    let mut found = Vec::new();
    for (name, protocol) in [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)] {
        found.extend(d.optional(&mut fields, name, |d, node| destination_port(d, node, protocol)));
    }
    found.extend(d.optional(&mut fields, "destinationNamedPort", named_port));
    d.close(&fields, &[]);
    one_of(d, node, &names, &given)?;
    found.pop()
}

/// `{}` is every port: the API server refuses it, but it cannot mean anything else.
fn destination_port(d: &mut Decoder<'_>, node: &Node, protocol: Protocol) -> Option<ClusterPort> {
    let mut fields = d.fields(node)?;
    let absent = fields.get("destinationPort").is_none();
    let port = d.optional(&mut fields, "destinationPort", |d, node| {
        let mut fields = d.fields(node)?;
        let names = ["number", "range"];
        let given: Vec<&str> = names.into_iter().filter(|name| fields.get(name).is_some()).collect();
        let number = d.optional(&mut fields, "number", Decoder::port).map(|port| (port, port));
        let range = d.optional(&mut fields, "range", |d, node| {
            let mut fields = d.fields(node)?;
            let range = range(d, &mut fields);
            d.close(&fields, &[]);
            range
        });
        d.close(&fields, &[]);
        one_of(d, node, &names, &given)?;
        let (first, last) = number.or(range)?;
        Some(ClusterPort::Range { protocol, first, last })
    });
    d.close(&fields, &[]);
    if absent { Some(ClusterPort::Protocol(protocol)) } else { port }
}

/// `start` and `end`.
fn range(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Option<(u16, u16)> {
    let start = d.required(fields, "start", "1-65535", Decoder::port);
    let end = d.required(fields, "end", "1-65535", |d, node| {
        let end = d.port(node)?;
        match start {
            Some(start) if end <= start => {
                d.refuse(node, format!("more than start ({start})"));
                None
            }
            _ => Some(end),
        }
    });
    Some((start?, end?))
}

fn named_port(d: &mut Decoder<'_>, node: &Node) -> Option<ClusterPort> {
    d.checked(node, values::port_name).map(ClusterPort::Named)
}

/// One of `ports` (v1alpha1).
fn port(d: &mut Decoder<'_>, node: &Node) -> Option<ClusterPort> {
    let mut fields = d.fields(node)?;
    let names = ["portNumber", "portRange", "namedPort"];
    let given: Vec<&str> = names.into_iter().filter(|name| fields.get(name).is_some()).collect();
    let number = d.optional(&mut fields, "portNumber", |d, node| {
        let mut fields = d.fields(node)?;
        let protocol = d.optional(&mut fields, "protocol", networking::protocol).unwrap_or(Protocol::Tcp);
        let port = d.required(&mut fields, "port", "1-65535", Decoder::port);
        d.close(&fields, &[]);
        let port = port?;
        Some(ClusterPort::Range { protocol, first: port, last: port })
    });
    let of_range = d.optional(&mut fields, "portRange", |d, node| {
        let mut fields = d.fields(node)?;
        let protocol = d.optional(&mut fields, "protocol", networking::protocol).unwrap_or(Protocol::Tcp);
        let range = range(d, &mut fields);
        d.close(&fields, &[]);
        let (first, last) = range?;
        Some(ClusterPort::Range { protocol, first, last })
    });
    let by_name = d.optional(&mut fields, "namedPort", named_port);
    d.close(&fields, &[]);
    one_of(d, node, &names, &given)?;
    number.or(of_range).or(by_name)
}
