//! Ports that destination pods do not have as rules name them.

use std::collections::BTreeSet;

use strait_api::{PortRef, Service};
use strait_base::{PortRange, Protocol};
use strait_model::{
    Direction,
    rule::{Block, Effect, Entity, PeerSelector, Ports, Reach},
};

use crate::{
    Context, Report,
    cluster::Group,
    codes,
    near::nearest,
    views::{PolicyView, PortView, RuleView},
};

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    for view in &context.policies {
        for rule in view.rules.iter().filter(|rule| !rule.lowered.is_empty() && !rule.ports.is_empty()) {
            if outside(context, rule) {
                for port in rule.ports.iter().filter(|port| matches!(port.ports, Ports::Named(_))) {
                    let message = "a name means a port that a pod declares, and the rule is about addresses of no pod: it never matches";
                    report.add(
                        &codes::NAMED_PORT_UNKNOWN,
                        &view.object,
                        &port.at,
                        message,
                        "write the port as a number",
                    );
                }
                continue;
            }
            let Some((groups, all_known)) = destinations(context, view, rule) else { continue };
            for port in &rule.ports {
                match &port.ports {
                    Ports::Named(name) => named(context, (view, rule, port), name, &groups, report),
                    Ports::Range(range) if all_known && *range != PortRange::ALL => {
                        numbered(context, (view, rule, port), *range, &groups, report);
                    }
                    Ports::Range(_) => {}
                }
            }
        }
    }
}

/// Whether a rule is about connections to what can be no pod.
fn outside(context: &Context<'_>, rule: &RuleView<'_>) -> bool {
    let Some(peers) = rule.peers.as_deref().filter(|_| rule.direction == Direction::Egress) else { return false };
    let of_pods = |block: &Block| {
        let mut cidrs = context.snapshot.nodes().flat_map(|node| &node.pod_cidrs);
        block.reach != Reach::Outside && cidrs.any(|pods| pods.contains(&block.cidr) || block.cidr.contains(pods))
    };
    let mut means = peers.iter().flat_map(|peer| &peer.means).peekable();
    means.peek().is_some()
        && means.all(|means| match means {
            PeerSelector::Endpoints(_) => false,
            PeerSelector::Block(block) => !of_pods(block),
            PeerSelector::Nodes(_) => true,
            PeerSelector::Entity(entity) => *entity != Entity::Cluster,
        })
}

/// The pods that a rule's ports are of, and whether these are all that it is about; `None` where there are none.
fn destinations<'a>(
    context: &'a Context<'_>,
    view: &PolicyView<'_>,
    rule: &RuleView<'_>,
) -> Option<(Vec<&'a Group<'a>>, bool)> {
    let mut all_known = true;
    let groups = match rule.direction {
        Direction::Ingress => context.cluster.groups_of(view.endpoints()?),
        Direction::Egress => match &rule.peers {
            None => {
                all_known = false;
                context.cluster.groups.iter().collect()
            }
            Some(peers) => {
                let mut indices = BTreeSet::new();
                for peer in peers {
                    all_known &= !peer.means.is_empty();
                    for means in &peer.means {
                        match means {
                            PeerSelector::Endpoints(selector) => {
                                let selected = context.cluster.select(selector);
                                // Nobody here, but perhaps somebody elsewhere: name servers, for one.
                                all_known &= !selected.is_empty();
                                indices.extend(selected.iter().copied());
                            }
                            PeerSelector::Block(_) | PeerSelector::Nodes(_) | PeerSelector::Entity(_) => {
                                all_known = false;
                            }
                        }
                    }
                }
                indices.into_iter().filter_map(|index| context.cluster.groups.get(index)).collect()
            }
        },
    };
    (!groups.is_empty()).then_some((groups, all_known))
}

type Where<'a> = (&'a PolicyView<'a>, &'a RuleView<'a>, &'a PortView);

fn protocols(list: &[Protocol]) -> String {
    let names: BTreeSet<String> = list.iter().map(ToString::to_string).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn pods(groups: &[&Group<'_>]) -> String {
    match groups {
        [one] => one.name(),
        [one, ..] => format!("{} and {} other workloads", one.name(), groups.len() - 1),
        [] => String::new(),
    }
}

fn named(
    context: &Context<'_>,
    (view, rule, port): Where<'_>,
    name: &str,
    groups: &[&Group<'_>],
    report: &mut Report<'_>,
) {
    let declared = || groups.iter().flat_map(|group| &group.ports);
    if declared().any(|(known, protocol, _)| *known == Some(name) && port.protocols.contains(protocol)) {
        return;
    }
    let others: Vec<Protocol> =
        declared().filter(|(known, ..)| *known == Some(name)).map(|(_, protocol, _)| *protocol).collect();
    let opens = if rule.opens() { "allows nothing" } else { "denies nothing" };
    if !others.is_empty() {
        let message = format!(
            "{} declare the port {name} for {}, not for {}: the rule {opens} by it",
            pods(groups),
            protocols(&others),
            protocols(&port.protocols)
        );
        let remedy = format!("write protocol: {}", protocols(&others));
        report.add(&codes::PORT_PROTOCOL, &view.object, &port.at, message, remedy);
        return;
    }
    let names: BTreeSet<&str> = declared().filter_map(|(name, ..)| *name).collect();
    let of_service = services(context, groups).find_map(|service| {
        let found = service.ports.iter().find(|port| port.name.as_deref() == Some(name))?;
        Some((&service.meta.name, &found.target_port))
    });
    let remedy = match (nearest(name, names.iter().copied()), of_service) {
        (_, Some((service, target))) => {
            format!("it is the name of a port of Service {service}; policies see the pods' port, {}", shown(target))
        }
        (Some(meant), None) => format!("did you mean {meant}?"),
        (None, None) if names.is_empty() => "name the port in the containers, or write its number".to_owned(),
        (None, None) => {
            format!(
                "they declare {}; write one of these, or a number",
                names.into_iter().collect::<Vec<_>>().join(", ")
            )
        }
    };
    let message = format!("no container of {} declares a port named {name}: the rule {opens} by it", pods(groups));
    report.add(&codes::NAMED_PORT_UNKNOWN, &view.object, &port.at, message, remedy);
}

fn shown(target: &PortRef) -> String {
    match target {
        PortRef::Number(number) => number.to_string(),
        PortRef::Name(name) => name.to_string(),
    }
}

/// The services that select one of `groups`.
fn services<'a>(context: &'a Context<'_>, groups: &'a [&Group<'_>]) -> impl Iterator<Item = &'a Service> {
    context.objects.services().map(|service| &**service).filter(move |service| {
        !service.selector.0.is_empty()
            && groups.iter().any(|group| {
                *group.namespace == service.meta.namespace
                    && service.selector.iter().all(|(key, value)| group.labels.get(key) == Some(value))
            })
    })
}

fn numbered(
    context: &Context<'_>,
    (view, rule, port): Where<'_>,
    range: PortRange,
    groups: &[&Group<'_>],
    report: &mut Report<'_>,
) {
    let inside = || groups.iter().flat_map(|group| &group.ports).filter(|(.., number)| range.contains(*number));
    if inside().any(|(_, protocol, _)| port.protocols.contains(protocol)) {
        return;
    }
    let others: Vec<Protocol> = inside().map(|(_, protocol, _)| *protocol).collect();
    let single = range.first() == range.last();
    if !others.is_empty() && single {
        let message = format!(
            "{} declare {range} for {}, not for {}: the rule is about a port that nobody uses",
            pods(groups),
            protocols(&others),
            protocols(&port.protocols)
        );
        let remedy = format!("write protocol: {}", protocols(&others));
        report.add(&codes::PORT_PROTOCOL, &view.object, &port.at, message, remedy);
        return;
    }
    // What a container declares is for information only: one that declares nothing may listen on anything. To deny what nobody uses
    // is prudent.
    let silent = groups.iter().any(|group| group.ports.is_empty());
    if silent || !rule.opens() || rule.has(Effect::Deny) {
        return;
    }
    let of_service = services(context, groups).find_map(|service| {
        let found = service
            .ports
            .iter()
            .find(|one| single && one.port == range.first() && port.protocols.contains(&one.protocol))?;
        Some((&service.meta.name, &found.target_port))
    });
    if let Some((service, target)) = of_service {
        let message =
            format!("{range} is the port of Service {service}; policies see the port of its pods, {}", shown(target));
        let remedy = format!("write port: {}", shown(target));
        report.add(&codes::SERVICE_PORT, &view.object, &port.at, message, remedy);
        return;
    }
    let known: BTreeSet<String> = groups
        .iter()
        .flat_map(|group| &group.ports)
        .map(|(_, protocol, number)| format!("{number}/{protocol}"))
        .take(64)
        .collect();
    let known = known.into_iter().take(6).collect::<Vec<_>>().join(", ");
    let message = format!("no container of {} declares {range}/{}", pods(groups), protocols(&port.protocols));
    let remedy = format!("they declare {known}: write what they listen on, or declare the port");
    report.add(&codes::PORT_NOT_DECLARED, &view.object, &port.at, message, remedy);
}
