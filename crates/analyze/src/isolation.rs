//! Pods that are isolated without meaning to be, and pods that are not.
//!
//! Probes are never cut off here: a pod's own node reaches it whatever policies say, as with Cilium's defaults.

use std::{collections::BTreeMap, sync::Arc};

use strait_api::Kind;
use strait_base::{PortRange, Protocol};
use strait_model::{
    Direction,
    rule::{Effect, L4Match, NamespaceSelector, PeerSelector, Peers, Policy, Ports, Rule, Tier},
};

use crate::{
    Context, Report,
    cluster::{Group, is_system},
    codes,
    finding::ObjectRef,
    objects::section,
    place::At,
    shape::DNS_PORTS,
    tiers::{isolated, isolators},
    views::{PolicyView, Written},
};

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    dns(context, report);
    unprotected(context, report);
    for view in context.policies.iter().filter(|view| !view.audit()) {
        without_isolation(context, view, report);
    }
}

/// The enforced rules about a group.
pub(crate) fn rules<'a>(group: &Group<'a>, direction: Direction) -> impl Iterator<Item = &'a Rule> {
    let policies = group.policies.iter().copied().filter(|policy| !policy.audit);
    policies.flat_map(|policy| &policy.rules).filter(move |rule| rule.direction == direction)
}

/// Whether a rule's ports hold a port of DNS over `protocol`.
fn looks_up(rule: &Rule, protocol: Protocol) -> bool {
    match &rule.l4 {
        L4Match::Any => true,
        L4Match::Of(ports) => ports.iter().any(|port| {
            port.protocol == protocol
                && match &port.ports {
                    Ports::Range(range) => DNS_PORTS.iter().any(|dns| range.contains(*dns)),
                    Ports::Named(name) => name.contains("dns") || &**name == "domain",
                }
        }),
        L4Match::Icmp(_) => false,
    }
}

/// Whether whom a rule names may be name servers: everybody, somebody outside, whole namespaces, pods that are not known here, or pods
/// that declare such a port. That all ports of a database are allowed looks up no name.
fn reaches_servers(context: &Context<'_>, rule: &Rule) -> bool {
    let Peers::Of(peers) = &rule.peers else { return true };
    peers.iter().any(|peer| match &peer.selects {
        PeerSelector::Endpoints(selector) => {
            let groups = context.cluster.groups_of(selector);
            let whole = selector.pods.is_empty() && matches!(selector.namespaces, NamespaceSelector::Labelled(_));
            let serves = |group: &&Group<'_>| group.ports.iter().any(|(.., number)| DNS_PORTS.contains(number));
            whole || groups.is_empty() || groups.iter().any(serves)
        }
        PeerSelector::Block(_) | PeerSelector::Nodes(_) | PeerSelector::Entity(_) => true,
    })
}

/// Whether a rule is about nothing but looking up names.
fn only_looks_up(rule: &Rule) -> bool {
    match &rule.l4 {
        L4Match::Any | L4Match::Icmp(_) => false,
        L4Match::Of(ports) => ports.iter().all(|port| match &port.ports {
            Ports::Range(range) => DNS_PORTS.iter().any(|dns| *range == PortRange::single(*dns)),
            Ports::Named(name) => name.contains("dns") || &**name == "domain",
        }),
    }
}

/// Whether whom a rule allows is reached by name: pods, the world; not single networks.
fn reached_by_name(rule: &Rule) -> bool {
    let icmp = matches!(rule.l4, L4Match::Icmp(_));
    !icmp
        && match &rule.peers {
            Peers::Any => true,
            Peers::Of(peers) => peers.iter().any(|peer| match &peer.selects {
                PeerSelector::Endpoints(_) => true,
                PeerSelector::Block(block) => block.cidr.prefix_len() == 0,
                PeerSelector::Nodes(_) => false,
                PeerSelector::Entity(entity) => {
                    use strait_model::rule::Entity::{Cluster, World, WorldIpv4, WorldIpv6};
                    matches!(entity, Cluster | World | WorldIpv4 | WorldIpv6)
                }
            }),
        }
}

/// Pods that may connect to others by name, and not look the names up.
fn dns(context: &Context<'_>, report: &mut Report<'_>) {
    let mut cut_off: BTreeMap<*const Rule, (&Rule, Vec<String>)> = BTreeMap::new();
    for group in context.cluster.groups.iter().filter(|group| isolated(group, Direction::Egress)) {
        let allows =
            || rules(group, Direction::Egress).filter(|rule| matches!(rule.effect, Effect::Allow | Effect::Closed));
        let Some(needs) = allows()
            .find(|rule| rule.precedence.tier() == Tier::Normal && reached_by_name(rule) && !only_looks_up(rule))
        else {
            continue;
        };
        if allows().any(|rule| looks_up(rule, Protocol::Udp) && (only_looks_up(rule) || reaches_servers(context, rule)))
        {
            continue;
        }
        let tcp = allows().find(|rule| only_looks_up(rule) && looks_up(rule, Protocol::Tcp));
        let about = tcp.unwrap_or(needs);
        cut_off.entry(about).or_insert_with(|| (about, Vec::new())).1.push(group.name());
    }
    for view in &context.policies {
        for rule in &view.rules {
            let Some((about, names)) = rule.lowered.iter().find_map(|one| cut_off.get(&std::ptr::from_ref(*one)))
            else {
                continue;
            };
            let names = few(names);
            if only_looks_up(about) {
                let message = format!(
                    "{names} may look up names over TCP only: resolvers ask over UDP first, and give up or wait"
                );
                let remedy = "allow port 53 with protocol: UDP as well; a port without protocol is TCP";
                report.add(&codes::DNS_OVER_TCP_ONLY, &view.object, &rule.at, message, remedy);
            } else {
                let message = format!(
                    "{names} may connect to others here, but no rule lets them look up names (port 53/UDP): connections by name fail"
                );
                let remedy = "allow egress to the cluster's name servers on port 53, UDP and TCP";
                report.add(&codes::EGRESS_WITHOUT_DNS, &view.object, &rule.at, message, remedy);
            }
        }
    }
}

fn few(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, ..] => format!("{one} and {} other workloads", names.len() - 1),
        [] => String::new(),
    }
}

/// Namespaces in which policies isolate some pods and not others, or none while other namespaces are closed.
fn unprotected(context: &Context<'_>, report: &mut Report<'_>) {
    let direction = Direction::Ingress;
    let protected = |group: &&Group<'_>| isolated(group, direction) || rules(group, direction).any(denies_by_default);
    let names: Vec<&Arc<str>> = context.snapshot.namespaces().map(|(name, _)| name).collect();
    // Who closes whole namespaces may have forgotten one; who closes single workloads goes by them.
    let closes_namespaces = names.iter().any(|name| {
        let mut groups = context.cluster.in_namespace(name).peekable();
        groups.peek().is_some() && groups.all(|group| protected(&group))
    });
    for name in names.into_iter().filter(|name| !is_system(name)) {
        let open: Vec<&Group<'_>> = context.cluster.in_namespace(name).filter(|group| !protected(group)).collect();
        let Some(first) = open.first() else { continue };
        let some = context.cluster.in_namespace(name).find_map(|group| isolators(group, direction).next());
        if some.is_none() && !closes_namespaces {
            continue;
        }
        let (object, at) = match context.declared.namespaces().find(|namespace| namespace.meta.name == *name) {
            Some(namespace) => (ObjectRef::new(Kind::Namespace, &namespace.meta), At::new(&namespace.meta.location)),
            None => match (some, first.pod.location()) {
                (Some(policy), _) => (of(policy), At::new(&policy.location)),
                (None, location) => {
                    let implied = ObjectRef {
                        kind: Kind::Namespace.as_str().into(),
                        namespace: "".into(),
                        name: (*name).clone(),
                    };
                    (implied, At::new(location))
                }
            },
        };
        let names: Vec<String> = open.iter().map(|group| group.name()).collect();
        let beside = if some.is_some() {
            "while others of the namespace are isolated"
        } else {
            "and the namespace has no policy at all"
        };
        let message = format!("anybody can connect to {}: no policy isolates them for ingress, {beside}", few(&names));
        let remedy = "add a NetworkPolicy with podSelector: {} and policyTypes: [Ingress], and allow what is needed";
        report.add(&codes::NAMESPACE_WITHOUT_DEFAULT_DENY, &object, &at, message, remedy);
    }
}

fn of(policy: &Policy) -> ObjectRef {
    ObjectRef { kind: policy.kind.clone(), namespace: policy.namespace.clone(), name: policy.name.clone() }
}

/// A deny of the tiers for whatever nothing before it allows.
fn denies_by_default(rule: &Rule) -> bool {
    rule.effect == Effect::Deny
        && matches!(rule.precedence.tier(), Tier::Admin | Tier::Baseline)
        && matches!(rule.l4, L4Match::Any)
        && match &rule.peers {
            Peers::Any => true,
            Peers::Of(peers) => peers.iter().any(|peer| match &peer.selects {
                PeerSelector::Endpoints(selector) => {
                    selector.pods.is_empty()
                        && matches!(&selector.namespaces, NamespaceSelector::Labelled(labels) if labels.is_empty())
                }
                PeerSelector::Block(_) | PeerSelector::Nodes(_) | PeerSelector::Entity(_) => false,
            }),
        }
}

/// Rules that allow, for pods that nothing isolates.
fn without_isolation(context: &Context<'_>, view: &PolicyView<'_>, report: &mut Report<'_>) {
    let (Written::Cilium(_, spec), Some(policy)) = (view.written, view.policy) else { return };
    let groups = view.endpoints().map(|subject| context.cluster.groups_of(subject)).unwrap_or_default();
    for direction in [Direction::Ingress, Direction::Egress] {
        let of_policy = policy.rules.iter().filter(|rule| rule.direction == direction);
        let allows = of_policy.clone().any(|rule| rule.effect == Effect::Allow);
        let only = allows && of_policy.clone().all(|rule| rule.effect == Effect::Allow);
        if !only || policy.isolates.contains(&direction) || groups.is_empty() {
            continue;
        }
        let matters = |group: &&Group<'_>| {
            isolated(group, direction)
                || rules(group, direction).any(|rule| {
                    rule.precedence.tier() == Tier::Baseline && rule.effect == Effect::Deny
                        || rule.effect == Effect::Closed
                })
        };
        if !groups.iter().any(matters) {
            let section = section(direction);
            let message = format!(
                "enableDefaultDeny.{section} is false and nothing else isolates these pods for {section}: its rules allow what is allowed anyway"
            );
            let remedy = "remove enableDefaultDeny, or add a policy that isolates the pods";
            let at = At::new(&spec.location).field("enableDefaultDeny");
            report.add(&codes::ALLOW_WITHOUT_ISOLATION, &view.object, &at, message, remedy);
        }
    }
}
