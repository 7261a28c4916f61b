//! Rows: for every subject and direction, which port set judges which peer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use strait_base::{IdentityId, PortRange};

use super::{
    Compilation,
    atoms::{Atom, NamedPorts},
    in_force::{self, InForce},
    subjects::Subject,
};
use crate::{
    connection::Direction,
    plan::{OriginId, PolicyEntry, PolicyKey, PortEntry, PortSet, PortSetId},
    ports::{self, Layer, Spans},
    rule::{Class, Entity, IcmpMatch, L4Match, Origin, Peer, PeerSelector, Peers, Policy, Ports, Rule},
    tiers::{Background, By, Voice},
    verdict::{background, isolation},
};

/// Rules that decide together, by index, and what the port names among them stand for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Judges {
    /// In order.
    rules: Vec<usize>,
    /// What the destination declares under the names that the rules ask for.
    ports: NamedPorts,
    /// What holds without a rule.
    background: Background,
    /// What isolation is blamed on.
    isolation: OriginId,
    /// What isolation that is only reported is blamed on.
    audited: OriginId,
}

/// What the subjects of one profile, with the same named ports, share in one direction.
struct Row {
    any: PolicyEntry,
    /// Peers that are judged otherwise than `any`.
    exact: Vec<(IdentityId, PolicyEntry)>,
}

/// Atoms by what rules name them by.
struct Index {
    selectors: BTreeMap<usize, Vec<usize>>,
    lists: BTreeMap<usize, Vec<usize>>,
    nodes: BTreeMap<usize, Vec<usize>>,
    entities: BTreeMap<Entity, Vec<usize>>,
    port_names: BTreeMap<Arc<str>, Vec<usize>>,
}

impl Index {
    fn new(in_force: &InForce<'_>, atoms: &[Atom]) -> Self {
        let mut index = Self {
            selectors: BTreeMap::new(),
            lists: BTreeMap::new(),
            nodes: BTreeMap::new(),
            entities: BTreeMap::new(),
            port_names: BTreeMap::new(),
        };
        for (at, atom) in atoms.iter().enumerate() {
            for selector in &atom.selectors {
                index.selectors.entry(*selector).or_default().push(at);
            }
            for list in in_force.blocks.members(atom.blocks) {
                index.lists.entry(*list).or_default().push(at);
            }
            for nodes in &atom.nodes {
                index.nodes.entry(*nodes).or_default().push(at);
            }
            for entity in Entity::ALL.into_iter().filter(|entity| entity.includes(atom.class)) {
                index.entities.entry(entity).or_default().push(at);
            }
            for name in atom.ports.keys() {
                index.port_names.entry(Arc::clone(name)).or_default().push(at);
            }
        }
        index
    }

    /// The atoms among a rule's peers; for a rule about any peer those at which port names of it stand for something.
    fn peers<'i>(&'i self, in_force: &InForce<'_>, rule: &Rule) -> BTreeSet<usize> {
        let lists: Vec<Option<&'i Vec<usize>>> = match &rule.peers {
            Peers::Any if rule.direction == Direction::Ingress => Vec::new(),
            Peers::Any => in_force::names_of(rule).map(|name| self.port_names.get(name)).collect(),
            Peers::Of(peers) => {
                let selected = |peer: &Peer| match &peer.selects {
                    PeerSelector::Endpoints(selector) => self.selectors.get(&in_force.selector(selector)?),
                    PeerSelector::Nodes(labels) => self.nodes.get(&in_force.node_selector(labels)?),
                    PeerSelector::Entity(entity) => self.entities.get(entity),
                    PeerSelector::Block(_) => None,
                };
                let in_blocks = in_force.list(rule).and_then(|list| self.lists.get(&list));
                peers.iter().map(selected).chain([in_blocks]).collect()
            }
        };
        lists.into_iter().flatten().flatten().copied().collect()
    }
}

impl Compilation<'_> {
    /// Fills policy, port sets and origins.
    pub(super) fn rows(&mut self, in_force: &InForce<'_>, atoms: &[Atom], subjects: &[Subject]) {
        let index = Index::new(in_force, atoms);
        let mut port_sets = PortSets { in_force, known: BTreeMap::new() };
        let mut rows: BTreeMap<(usize, &NamedPorts, Direction), Row> = BTreeMap::new();
        for subject in subjects {
            for direction in Direction::BOTH {
                let row = rows
                    .entry((subject.profile, &subject.ports, direction))
                    .or_insert_with(|| self.row(&mut port_sets, &index, atoms, subject, direction));
                let key = |peer| PolicyKey { subject: subject.identity, direction, peer };
                self.plan.policy.insert(key(IdentityId::UNKNOWN), row.any);
                self.plan.policy.extend(row.exact.iter().map(|(peer, entry)| (key(*peer), *entry)));
            }
        }
    }

    fn row(
        &mut self,
        port_sets: &mut PortSets<'_, '_>,
        index: &Index,
        atoms: &[Atom],
        subject: &Subject,
        direction: Direction,
    ) -> Row {
        let snapshot = self.snapshot;
        let in_force = port_sets.in_force;
        let profile = snapshot.profile(subject.profile);
        let policies = || profile.iter().filter_map(|at| Some((*at, snapshot.policies().get(*at)?)));
        let isolating: Vec<_> =
            policies().map(|(_, policy)| policy).filter(|policy| policy.isolates.contains(&direction)).collect();
        let blamed = |audit: bool| {
            let named = isolating.iter().filter(|policy| policy.audit == audit);
            named.map(|policy| isolation(policy, direction)).collect::<Vec<_>>()
        };
        let (default_origin, audited) = (self.origin(blamed(false)), self.origin(blamed(true)));
        let judged_by = |rules, ports, to_own_node| {
            let background = background(&isolating, to_own_node);
            Judges { rules, ports, background, isolation: default_origin, audited }
        };

        let mut of_any = Vec::new();
        let mut of_atom: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in in_force.rules_about(policies().map(|(at, _)| at), direction) {
            let Some(rule) = in_force.rules.get(at) else { continue };
            if matches!(rule.peers, Peers::Any) {
                of_any.push(at);
            }
            for atom in index.peers(in_force, rule) {
                of_atom.entry(atom).or_default().push(at);
            }
        }
        // What the own node is judged by differs, whether or not rules name it.
        for at in index.entities.get(&Entity::Host).into_iter().flatten() {
            of_atom.entry(*at).or_default();
        }
        let spares_own_node = |(_, policy): &(usize, &Policy)| !policy.isolates_from_own_node;
        let sparing = policies().filter(spares_own_node).map(|(at, _)| at);
        let sparing: BTreeSet<_> = in_force.rules_about(sparing, direction).collect();
        // On ingress the destination is the subject, on egress it is the peer.
        let nothing = NamedPorts::new();
        let ports = |peer: Option<&Atom>| match (direction, peer) {
            (Direction::Ingress, _) => subject.ports.clone(),
            (Direction::Egress, Some(atom)) => atom.ports.clone(),
            (Direction::Egress, None) => nothing.clone(),
        };
        let any = port_sets.get(self, judged_by(of_any.clone(), ports(None), false));
        let any = PolicyEntry { port_set: any, default_origin };
        let mut exact = Vec::new();
        for (at, mut rules) in of_atom {
            let Some(atom) = atoms.get(at) else { continue };
            rules.extend(&of_any);
            rules.sort_unstable();
            rules.dedup();
            let judges = match (atom.class, direction) {
                (Class::OwnNode, Direction::Ingress) => Judges::default(),
                (Class::OwnNode, Direction::Egress) => {
                    let mut judges = judged_by(rules, ports(Some(atom)), true);
                    if !judges.background.asks_all() {
                        judges.rules.retain(|rule| !sparing.contains(rule));
                    }
                    judges
                }
                _ => judged_by(rules, ports(Some(atom)), false),
            };
            let port_set = port_sets.get(self, judges);
            if port_set != any.port_set {
                exact.push((atom.identity, PolicyEntry { port_set, default_origin }));
            }
        }
        Row { any, exact }
    }

    /// The number of a set of origins; a set without any is [`OriginId::NONE`].
    fn origin(&mut self, mut origins: Vec<Origin>) -> OriginId {
        if origins.is_empty() {
            return OriginId::NONE;
        }
        origins.sort_unstable();
        origins.dedup();
        // Without places: an edit that moves a rule in its file changes nothing that is loaded.
        let mut content = String::new();
        for Origin { kind, namespace, name, direction, rule, section, .. } in &origins {
            let rule = rule.map_or_else(|| "-".to_owned(), |rule| rule.to_string());
            let section = section.as_deref().map(|section| format!("/{section}")).unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = write!(content, "{kind}/{namespace}/{name}/{direction}/{rule}{section};");
        }
        let id = self.allocator.origins(content);
        self.plan.origins.insert(id, origins);
        id
    }
}

/// The port sets made so far.
struct PortSets<'f, 'a> {
    in_force: &'f InForce<'a>,
    known: BTreeMap<Judges, PortSetId>,
}

impl PortSets<'_, '_> {
    fn get(&mut self, compilation: &mut Compilation<'_>, mut judges: Judges) -> PortSetId {
        let rules = judges.rules.iter().filter_map(|at| self.in_force.rules.get(*at));
        let asked: BTreeSet<_> = rules.flat_map(|rule| in_force::names_of(rule)).collect();
        judges.ports.retain(|name, _| asked.contains(name));
        if let Some(known) = self.known.get(&judges) {
            return *known;
        }
        let id = self.make(compilation, &judges);
        self.known.insert(judges, id);
        id
    }

    fn make(&self, compilation: &mut Compilation<'_>, judges: &Judges) -> PortSetId {
        let rules = judges.rules.iter().filter_map(|at| Some((*at, *self.in_force.rules.get(*at)?)));
        let of_rules = rules.map(|(at, rule)| Layer {
            voice: Voice { precedence: rule.precedence, effect: rule.effect, audit: rule.audit, by: By::Rule(at) },
            spans: spans(rule, &judges.ports),
        });
        let background = judges.background.voices().map(|voice| Layer { voice, spans: Spans::Any });
        let layers: Vec<_> = of_rules.chain(background).collect();
        let mut content = String::new();
        let mut set = PortSet::default();
        for (key, outcome) in ports::resolve(&layers) {
            let by_isolation = outcome.by.contains(&By::Isolation);
            // What a miss says needs no entry.
            if by_isolation && key.protocol.is_none() {
                continue;
            }
            let origin = if by_isolation {
                judges.isolation
            } else if outcome.by.contains(&By::AuditedIsolation) {
                judges.audited
            } else {
                let rules = outcome.by.iter().filter_map(|by| match by {
                    By::Rule(at) => self.in_force.rules.get(*at),
                    By::Isolation | By::AuditedIsolation | By::OwnNode | By::Open => None,
                });
                compilation.origin(rules.map(|rule| rule.origin.clone()).collect())
            };
            let entry = PortEntry { verdict: outcome.verdict, origin, precedence: outcome.precedence.number() };
            // Writing to a string cannot fail.
            let _ = write!(
                content,
                "{}:{}/{}={:?}@{}#{};",
                key.protocol.map_or_else(|| "any".to_owned(), |protocol| protocol.to_string()),
                key.port,
                key.prefix_len,
                entry.verdict,
                entry.precedence,
                origin.0,
            );
            set.entries.insert(key, entry);
        }
        if set.entries.is_empty() {
            return PortSetId::EMPTY;
        }
        let id = compilation.allocator.port_set(content);
        compilation.plan.port_sets.insert(id, set);
        id
    }
}

/// The ports of a rule, names resolved by `named`.
fn spans(rule: &Rule, named: &NamedPorts) -> Spans {
    let ports = match &rule.l4 {
        L4Match::Any => return Spans::Any,
        L4Match::Of(ports) => ports,
        L4Match::Icmp(types) => {
            let span = |icmp: &IcmpMatch| (icmp.family.icmp(), PortRange::single(icmp.icmp_type.into()));
            return Spans::Of(types.iter().map(span).collect());
        }
    };
    let mut spans = Vec::new();
    for port in ports {
        match &port.ports {
            Ports::Range(range) => spans.push((port.protocol.number(), *range)),
            Ports::Named(name) => {
                let declared = named.get(name).into_iter().flatten().filter(|(protocol, _)| *protocol == port.protocol);
                spans.extend(declared.map(|(protocol, number)| (protocol.number(), PortRange::single(*number))));
            }
        }
    }
    Spans::Of(spans)
}
