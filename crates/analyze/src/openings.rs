//! What gets through in the end: rules that the other side refuses, services that nobody outside reaches, and ports that everybody does.

use std::{cell::Cell, net::IpAddr};

use strait_api::{Kind, PortRef, ServiceType};
use strait_base::{PortRange, Protocol};
use strait_model::{
    Connection, Direction, L4, Origin, Party,
    rule::{Effect, Entity, L4Match, PeerSelector, Peers, Ports, Rule},
};

use crate::{
    Context, Report,
    cluster::Group,
    codes,
    finding::ObjectRef,
    isolation::rules,
    objects::backends,
    place::At,
    shape::{DNS_PORTS, is_pods},
    tiers::isolated,
    views::{PeerView, PolicyView, RuleView},
};

/// Most pairs of workloads that are asked about one peer of a rule, and most ports: a rule that gets nothing through is found by
/// asking all of it, so beyond this it is let be.
const MAX_PAIRS: usize = 512;
const MAX_PORTS: usize = 16;

/// Most questions that are asked about the rules of all policies together: a few seconds of work. The rules after that are let be.
const MAX_QUESTIONS: usize = 100_000;

/// Ports that the whole world has no business with.
const SENSITIVE: [(u16, &str); 25] = [
    (22, "SSH"),
    (23, "Telnet"),
    (445, "SMB"),
    (1433, "SQL Server"),
    (1521, "Oracle"),
    (2049, "NFS"),
    (2375, "Docker"),
    (2376, "Docker"),
    (2379, "etcd"),
    (2380, "etcd"),
    (3306, "MySQL"),
    (3389, "remote desktop"),
    (5432, "PostgreSQL"),
    (5672, "AMQP"),
    (5900, "VNC"),
    (5984, "CouchDB"),
    (6379, "Redis"),
    (9042, "Cassandra"),
    (9092, "Kafka"),
    (9200, "Elasticsearch"),
    (9300, "Elasticsearch"),
    (10250, "kubelet"),
    (11211, "memcached"),
    (26257, "CockroachDB"),
    (27017, "MongoDB"),
];

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    let questions = Cell::new(0);
    for view in context.policies.iter().filter(|view| !view.audit()) {
        let Some(subject) = view.endpoints() else { continue };
        let subjects = context.cluster.groups_of(subject);
        for rule in view.rules.iter().filter(|rule| rule.has(Effect::Allow)) {
            for peer in rule.peers.iter().flatten() {
                half_open(context, (view, rule, peer), &subjects, &questions, report);
            }
            if rule.direction == Direction::Ingress {
                world(context, view, rule, &subjects, report);
            }
        }
    }
    exposed(context, report);
}

/// A peer of a rule whose own policies refuse everything that the rule allows.
fn half_open(
    context: &Context<'_>,
    (view, rule, peer): (&PolicyView<'_>, &RuleView<'_>, &PeerView<'_>),
    subjects: &[&Group<'_>],
    questions: &Cell<usize>,
    report: &mut Report<'_>,
) {
    let opposite = match rule.direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    if peer.means.is_empty() || !peer.means.iter().all(|means| is_pods(means)) {
        return;
    }
    let mut refused: Option<(String, String, Vec<Origin>)> = None;
    let mut asked = 0;
    for selector in &peer.means {
        let PeerSelector::Endpoints(selector) = selector else { continue };
        for other in context.cluster.groups_of(selector) {
            // Without isolation and tiers there is nothing to refuse.
            if other.policies.is_empty() {
                return;
            }
            for own in subjects {
                asked += 1;
                if asked > MAX_PAIRS || questions.get() > MAX_QUESTIONS {
                    return;
                }
                let (from, to) = match rule.direction {
                    Direction::Ingress => (other, *own),
                    Direction::Egress => (*own, other),
                };
                if std::ptr::eq(own.pod, other.pod) && own.pod.workload().is_some() {
                    // Replicas of one workload: asked of one pod it would always be itself.
                    return;
                }
                let Some(origins) = refusal(context, rule, (from, to), opposite, questions) else { return };
                refused.get_or_insert_with(|| (from.name(), to.name(), origins));
            }
        }
    }
    let Some((from, to, origins)) = refused else { return };
    let by = origins.first().map_or("no rule of theirs".to_owned(), |origin| {
        let word = if origin.rule.is_some() { "denied by" } else { "isolated by" };
        format!("{word} {origin}")
    });
    let (code, message) = match rule.direction {
        Direction::Egress => (
            &codes::REFUSED_BY_DESTINATION,
            format!("the rule lets {from} connect to {to}, whose own policies let none of that in ({by})"),
        ),
        Direction::Ingress => (
            &codes::REFUSED_BY_SOURCE,
            format!("the rule lets {from} connect to {to}, but policies of {from} let none of that out ({by})"),
        ),
    };
    let remedy = match rule.direction {
        Direction::Egress => "allow the same in ingress of the destination's policies, or remove the peer",
        Direction::Ingress => "allow the same in egress of the source's policies, or remove the peer",
    };
    report.add(code, &view.object, &peer.at, message, remedy);
}

/// What refuses everything on the other side that `rule` allows between two pods; `None` where something gets through.
fn refusal(
    context: &Context<'_>,
    rule: &RuleView<'_>,
    (from, to): (&Group<'_>, &Group<'_>),
    side: Direction,
    questions: &Cell<usize>,
) -> Option<Vec<Origin>> {
    let mut refused: Option<Vec<Origin>> = None;
    for part in rule.lowered.iter().filter(|part| part.effect == Effect::Allow) {
        for l4 in traffic(part, from, to) {
            let connection = Connection {
                from: Party::Pod(from.pod.key.clone()),
                to: Party::Pod(to.pod.key.clone()),
                l4,
                family: None,
            };
            questions.set(questions.get() + 1);
            let verdict = context.snapshot.verdict(&connection);
            let decision = match side {
                Direction::Ingress => verdict.ingress,
                Direction::Egress => verdict.egress,
            };
            if decision.allowed {
                return None;
            }
            refused.get_or_insert(decision.origins);
        }
    }
    // What cannot be asked about is not refused.
    refused
}

/// Traffic that a rule is about: ports that the destination declares, and ports where rules of either side begin.
fn traffic(rule: &Rule, from: &Group<'_>, to: &Group<'_>) -> Vec<L4> {
    let declared = to.ports.iter().map(|(_, protocol, number)| (*protocol, *number));
    let others = rules(from, Direction::Egress)
        .chain(rules(to, Direction::Ingress))
        .filter(|other| other.effect != Effect::Deny);
    let begin = others.chain([rule]).flat_map(|rule| match &rule.l4 {
        L4Match::Of(ports) => ports.as_slice(),
        L4Match::Any | L4Match::Icmp(_) => &[],
    });
    // That names may be looked up everywhere is no answer to a rule about something else.
    let any = matches!(rule.l4, L4Match::Any);
    let begin = begin.filter_map(|port| match &port.ports {
        Ports::Range(range) => Some((port.protocol, range.first().max(1))),
        Ports::Named(_) => None,
    });
    let begin = begin.filter(|(_, number)| !any || !DNS_PORTS.contains(number));
    let of_rule = |(protocol, number): &(Protocol, u16)| match &rule.l4 {
        L4Match::Any => true,
        L4Match::Of(ports) => ports.iter().any(|port| {
            port.protocol == *protocol
                && match &port.ports {
                    Ports::Range(range) => range.contains(*number),
                    Ports::Named(name) => to.ports.contains(&(Some(&**name), *protocol, *number)),
                }
        }),
        L4Match::Icmp(_) => false,
    };
    let mut out: Vec<L4> = declared
        .chain(begin)
        .filter(of_rule)
        .take(MAX_PORTS)
        .map(|(protocol, port)| L4::Port { protocol, port })
        .collect();
    match &rule.l4 {
        L4Match::Any => out.extend([L4::Icmp, L4::Port { protocol: Protocol::Tcp, port: 1 }]),
        L4Match::Icmp(_) => out.push(L4::Icmp),
        L4Match::Of(_) => {}
    }
    out
}

/// An address that is nobody's in any cluster: of documentation.
const WORLD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

fn names_world(rule: &RuleView<'_>) -> Option<At> {
    let Some(peers) = &rule.peers else { return Some(rule.at.clone()) };
    let world = peers.iter().find(|peer| {
        peer.means.iter().any(|means| match means {
            PeerSelector::Block(block) => block.cidr.prefix_len() <= 1 && block.contains(WORLD),
            PeerSelector::Entity(entity) => matches!(entity, Entity::World | Entity::WorldIpv4),
            PeerSelector::Endpoints(_) | PeerSelector::Nodes(_) => false,
        })
    });
    world.map(|peer| peer.at.clone())
}

fn world(
    context: &Context<'_>,
    view: &PolicyView<'_>,
    rule: &RuleView<'_>,
    subjects: &[&Group<'_>],
    report: &mut Report<'_>,
) {
    let Some(at) = names_world(rule) else { return };
    // A rule for everyone and everything is another finding.
    if rule.peers.is_none() && rule.ports.is_empty() {
        return;
    }
    for group in subjects {
        for (_, protocol, number) in &group.ports {
            let Some((_, service)) = SENSITIVE.iter().find(|(port, _)| port == number) else { continue };
            let connection = Connection {
                from: Party::Address(WORLD),
                to: Party::Pod(group.pod.key.clone()),
                l4: L4::Port { protocol: *protocol, port: *number },
                family: None,
            };
            let ingress = context.snapshot.verdict(&connection).ingress;
            let by_rule = rule.lowered.iter().any(|part| ingress.origins.contains(&part.origin));
            if ingress.allowed && by_rule {
                let message =
                    format!("the whole world can connect to {} {number}/{protocol} ({service})", group.name());
                let remedy =
                    "name those who need it; fromEntities: [cluster] or a namespaceSelector, if it is everyone inside";
                report.add(&codes::WORLD_OPEN, &view.object, &at, message, remedy);
                return;
            }
        }
    }
}

/// Services that are there for clients outside, whose pods let nobody from outside in.
fn exposed(context: &Context<'_>, report: &mut Report<'_>) {
    for service in context.declared.services() {
        let word = match service.service_type {
            ServiceType::NodePort => "NodePort",
            ServiceType::LoadBalancer => "LoadBalancer",
            ServiceType::ClusterIp | ServiceType::ExternalName => continue,
        };
        let groups = if service.selector.0.is_empty() { Vec::new() } else { backends(context, service) };
        let closed = |group: &&Group<'_>| {
            isolated(group, Direction::Ingress)
                && !service.ports.iter().any(|port| {
                    let numbers = group.ports.iter().filter(|(name, protocol, _)| match &port.target_port {
                        PortRef::Name(wanted) => *name == Some(&**wanted) && *protocol == port.protocol,
                        PortRef::Number(_) => false,
                    });
                    let mut numbers: Vec<u16> = numbers.map(|(.., number)| *number).collect();
                    if let PortRef::Number(number) = port.target_port {
                        numbers.push(number);
                    }
                    numbers.into_iter().any(|number| lets_outside_in(group, port.protocol, number))
                })
        };
        if !groups.is_empty() && groups.iter().all(closed) {
            let names = groups.first().map_or(String::new(), |group| group.name());
            let message = format!(
                "the Service is a {word}, for clients outside the cluster, and policies let nobody from outside or by way of a node connect to its pods ({names})"
            );
            let remedy =
                "allow its clients with an ipBlock (or fromEntities: [world]), or make the Service a ClusterIP";
            let at = At::new(&service.meta.location).field("spec.type");
            report.add(
                &codes::EXPOSED_SERVICE_CLOSED,
                &ObjectRef::new(Kind::Service, &service.meta),
                &at,
                message,
                remedy,
            );
        }
    }
}

/// Whether a rule lets somebody in who is no pod, on this port.
fn lets_outside_in(group: &Group<'_>, protocol: Protocol, number: u16) -> bool {
    rules(group, Direction::Ingress).filter(|rule| matches!(rule.effect, Effect::Allow | Effect::Closed)).any(|rule| {
        let peers = match &rule.peers {
            Peers::Any => true,
            Peers::Of(peers) => peers.iter().any(|peer| match &peer.selects {
                PeerSelector::Endpoints(_) => false,
                PeerSelector::Block(_) | PeerSelector::Nodes(_) => true,
                PeerSelector::Entity(entity) => *entity != Entity::Unmanaged,
            }),
        };
        peers && has_port(rule, group, protocol, number)
    })
}

fn has_port(rule: &Rule, group: &Group<'_>, protocol: Protocol, number: u16) -> bool {
    match &rule.l4 {
        L4Match::Any => true,
        L4Match::Of(ports) => ports.iter().any(|port| {
            port.protocol == protocol
                && match &port.ports {
                    Ports::Range(range) => *range == PortRange::ALL || range.contains(number),
                    Ports::Named(name) => group.ports.contains(&(Some(&**name), protocol, number)),
                }
        }),
        L4Match::Icmp(_) => false,
    }
}
