//! Rows: for every subject and direction, which port set judges which peer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use strait_base::IdentityId;

use super::{
    Compilation,
    atoms::{Atom, NamedPorts},
    in_force::{self, InForce},
    subjects::Subject,
};
use crate::{
    connection::Direction,
    plan::{OriginId, PolicyEntry, PolicyKey, PortEntry, PortSet, PortSetId, PortVerdict},
    ports::{self, Layer, Spans},
    rule::{L4Match, Origin, Peer, PeerSelector, Peers, Ports, Precedence, Rule},
    verdict::isolation,
};

/// Rules that decide together, by index, and what the port names among them stand for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Judges {
    /// In order.
    rules: Vec<usize>,
    /// What the destination declares under the names that the rules ask for.
    ports: NamedPorts,
    /// What no rule decides is allowed.
    open: bool,
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
    port_names: BTreeMap<Arc<str>, Vec<usize>>,
}

impl Index {
    fn new(in_force: &InForce<'_>, atoms: &[Atom]) -> Self {
        let mut index = Self { selectors: BTreeMap::new(), lists: BTreeMap::new(), port_names: BTreeMap::new() };
        for (at, atom) in atoms.iter().enumerate() {
            for selector in &atom.selectors {
                index.selectors.entry(*selector).or_default().push(at);
            }
            for list in in_force.blocks.members(atom.blocks) {
                index.lists.entry(*list).or_default().push(at);
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
        let policies = profile.iter().filter_map(|policy| snapshot.policies().get(*policy));
        let isolating = policies.filter(|policy| policy.isolates.contains(&direction));
        let isolating: Vec<_> = isolating.map(|policy| isolation(policy, direction)).collect();
        let open = isolating.is_empty();
        let default_origin = self.origin(isolating);

        let mut of_any = Vec::new();
        let mut of_atom: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in in_force.rules_about(profile, direction) {
            let Some(rule) = in_force.rules.get(at) else { continue };
            if matches!(rule.peers, Peers::Any) {
                of_any.push(at);
            }
            for atom in index.peers(in_force, rule) {
                of_atom.entry(atom).or_default().push(at);
            }
        }
        // On ingress the destination is the subject, on egress it is the peer.
        let nothing = NamedPorts::new();
        let ports = |peer: Option<&Atom>| match (direction, peer) {
            (Direction::Ingress, _) => subject.ports.clone(),
            (Direction::Egress, Some(atom)) => atom.ports.clone(),
            (Direction::Egress, None) => nothing.clone(),
        };
        let any = port_sets.get(self, Judges { rules: of_any.clone(), ports: ports(None), open });
        let any = PolicyEntry { port_set: any, default_origin };
        let mut exact = Vec::new();
        let host = port_sets.get(self, Judges { rules: Vec::new(), ports: NamedPorts::new(), open: true });
        if host != any.port_set {
            exact.push((IdentityId::HOST, PolicyEntry { port_set: host, default_origin }));
        }
        for (at, mut rules) in of_atom {
            let Some(atom) = atoms.get(at) else { continue };
            rules.extend(&of_any);
            rules.sort_unstable();
            rules.dedup();
            let port_set = port_sets.get(self, Judges { rules, ports: ports(Some(atom)), open });
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
        for Origin { kind, namespace, name, direction, rule, .. } in &origins {
            let rule = rule.map_or_else(|| "-".to_owned(), |rule| rule.to_string());
            // Writing to a string cannot fail.
            let _ = write!(content, "{kind}/{namespace}/{name}/{direction}/{rule};");
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
            precedence: rule.precedence,
            effect: rule.effect,
            origin: Some(at),
            spans: spans(rule, &judges.ports),
        });
        let background =
            Layer { precedence: Precedence::LOWEST, effect: PortVerdict::Allow, origin: None, spans: Spans::Any };
        let layers: Vec<_> = of_rules.chain(judges.open.then_some(background)).collect();
        let mut content = String::new();
        let mut set = PortSet::default();
        for (key, winner) in ports::resolve(&layers) {
            let rules = winner.origins.iter().flatten().filter_map(|at| self.in_force.rules.get(*at));
            let origin = compilation.origin(rules.map(|rule| rule.origin.clone()).collect());
            let entry = PortEntry { verdict: winner.effect, origin, precedence: winner.precedence.number() };
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
    let L4Match::Of(ports) = &rule.l4 else { return Spans::Any };
    let mut spans = Vec::new();
    for port in ports {
        match &port.ports {
            Ports::Range(range) => spans.push((port.protocol, *range)),
            Ports::Named(name) => {
                let declared = named.get(name).into_iter().flatten().filter(|(protocol, _)| *protocol == port.protocol);
                spans.extend(declared.map(|(protocol, number)| (*protocol, strait_base::PortRange::single(*number))));
            }
        }
    }
    Spans::Of(spans)
}
