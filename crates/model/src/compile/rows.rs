//! Rows: for every subject and direction, which port set judges which peer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use strait_base::{IdentityId, PortRange};

use super::{
    Update,
    atoms::{Atom, NamedPorts},
    in_force::{self, RuleId, RulePeers},
    subjects::{Links, RowsOf},
};
use crate::{
    connection::Direction,
    plan::{OriginId, PolicyEntry, PolicyKey, PortEntry, PortSet, PortSetId},
    ports::{self, Layer, Spans},
    rule::{Class, IcmpMatch, L4Match, Origin, Peers, Ports, Rule},
    tiers::{Background, By, Voice},
    verdict::{background, isolation},
};

/// Rules that decide together, and what the port names among them stand for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Judges {
    /// In order.
    rules: Vec<RuleId>,
    /// What the destination declares under the names that the rules ask for.
    ports: NamedPorts,
    /// What holds without a rule.
    background: Background,
    /// What isolation is blamed on.
    isolation: OriginId,
    /// What isolation that is only reported is blamed on.
    audited: OriginId,
}

/// Port sets made so far.
type PortSets = BTreeMap<Judges, PortSetId>;

/// By profile, named ports and direction.
#[derive(Debug, Default)]
pub(super) struct Rows {
    all: BTreeMap<(RowsOf, Direction), Row>,
    /// What the port sets in use refer to.
    pub origins: BTreeMap<PortSetId, BTreeSet<OriginId>>,
}

/// What the subjects of one profile, with the same named ports, share in one direction.
#[derive(Debug)]
struct Row {
    entries: Entries,
    subjects: BTreeSet<IdentityId>,
}

#[derive(PartialEq, Eq, Debug)]
struct Entries {
    any: PolicyEntry,
    /// Peers that are judged otherwise than `any`.
    exact: BTreeMap<IdentityId, PolicyEntry>,
}

impl Entries {
    fn iter(&self) -> impl Iterator<Item = (IdentityId, PolicyEntry)> {
        let exact = self.exact.iter().map(|(peer, entry)| (*peer, *entry));
        [(IdentityId::UNKNOWN, self.any)].into_iter().chain(exact)
    }

    fn has(&self, peer: IdentityId) -> bool {
        peer == IdentityId::UNKNOWN || self.exact.contains_key(&peer)
    }

    fn port_sets(&self) -> BTreeSet<PortSetId> {
        self.iter().map(|(_, entry)| entry.port_set).filter(|set| *set != PortSetId::EMPTY).collect()
    }
}

impl Update<'_> {
    /// Works out anew the rows that name what is another now, and gives subjects theirs.
    pub(super) fn settle_rows(&mut self, links: Links) {
        let mut port_sets = PortSets::new();
        let dirty: Vec<_> = if self.dirty.is_empty() {
            Vec::new()
        } else {
            self.state.rows.all.keys().filter(|(of, direction)| self.is_dirty(of, *direction)).cloned().collect()
        };
        for (of, direction) in dirty {
            let new = self.entries(&of, direction, &mut port_sets);
            let key = (of, direction);
            let Some(row) = self.state.rows.all.get_mut(&key) else { continue };
            if row.entries == new {
                continue;
            }
            let subjects = row.subjects.clone();
            self.hold(&new);
            let Some(row) = self.state.rows.all.get_mut(&key) else { continue };
            let old = std::mem::replace(&mut row.entries, new);
            let (_, direction) = key;
            for subject in subjects {
                self.write(subject, (&key.0, direction), Some(&old));
            }
            self.let_go(&old);
        }
        for (subject, (old, new)) in links {
            for direction in Direction::BOTH {
                self.relink(subject, direction, (old.as_ref(), new.as_ref()), &mut port_sets);
            }
        }
    }

    fn is_dirty(&self, (profile, _): &RowsOf, direction: Direction) -> bool {
        let Some(profile) = self.state.profiles.get(*profile) else { return false };
        let mut rules = self.state.in_force.rules(&profile.policies, direction);
        self.dirty.own_node() || rules.any(|(_, rule, peers)| self.dirty.concerns(rule, peers))
    }

    /// A subject has the rows of `new` in place of those of `old`.
    fn relink(
        &mut self,
        subject: IdentityId,
        direction: Direction,
        (old, new): (Option<&RowsOf>, Option<&RowsOf>),
        port_sets: &mut PortSets,
    ) {
        if old == new {
            return;
        }
        if let Some(new) = new {
            let key = (new.clone(), direction);
            if !self.state.rows.all.contains_key(&key) {
                let entries = self.entries(new, direction, port_sets);
                self.hold(&entries);
                self.state.rows.all.insert(key.clone(), Row { entries, subjects: BTreeSet::new() });
            }
            if let Some(row) = self.state.rows.all.get_mut(&key) {
                row.subjects.insert(subject);
            }
        }
        let before = old.and_then(|old| {
            let key = (old.clone(), direction);
            let row = self.state.rows.all.get_mut(&key)?;
            row.subjects.remove(&subject);
            if row.subjects.is_empty() { self.state.rows.all.remove(&key).map(|row| (row.entries, true)) } else { None }
        });
        let key = |peer| PolicyKey { subject, direction, peer };
        let stale: Vec<PolicyKey> = match (&before, old) {
            (Some((entries, _)), _) => entries.iter().map(|(peer, _)| key(peer)).collect(),
            (None, Some(old)) => {
                let row = self.state.rows.all.get(&(old.clone(), direction));
                row.into_iter().flat_map(|row| row.entries.iter()).map(|(peer, _)| key(peer)).collect()
            }
            (None, None) => Vec::new(),
        };
        let fresh = new.and_then(|new| self.state.rows.all.get(&(new.clone(), direction)));
        let fresh: BTreeMap<PolicyKey, PolicyEntry> =
            fresh.into_iter().flat_map(|row| row.entries.iter()).map(|(peer, entry)| (key(peer), entry)).collect();
        for key in stale.into_iter().filter(|key| !fresh.contains_key(key)) {
            self.set_policy(key, None);
        }
        for (key, entry) in fresh {
            self.set_policy(key, Some(entry));
        }
        if let Some((entries, _)) = before {
            self.let_go(&entries);
        }
    }

    /// Writes the row of a subject in place of `old`.
    fn write(&mut self, subject: IdentityId, (of, direction): (&RowsOf, Direction), old: Option<&Entries>) {
        let key = |peer| PolicyKey { subject, direction, peer };
        let Some(row) = self.state.rows.all.get(&(of.clone(), direction)) else { return };
        let gone = old.into_iter().flat_map(Entries::iter).map(|(peer, _)| peer);
        let gone: Vec<_> = gone.filter(|peer| !row.entries.has(*peer)).collect();
        let fresh: Vec<_> = row.entries.iter().collect();
        for peer in gone {
            self.set_policy(key(peer), None);
        }
        for (peer, entry) in fresh {
            self.set_policy(key(peer), Some(entry));
        }
    }

    /// A row refers to port sets and origins from now on.
    fn hold(&mut self, entries: &Entries) {
        self.state.origins.add(entries.any.default_origin);
        for id in entries.port_sets() {
            self.state.port_sets.add(id);
            let Some(set) = self.plan.port_sets.get(&id) else { continue };
            self.state.rows.origins.entry(id).or_insert_with(|| {
                let origins: BTreeSet<_> = set.entries.values().map(|entry| entry.origin).collect();
                for origin in &origins {
                    self.state.origins.add(*origin);
                }
                self.delta.port_sets.insert(id);
                origins
            });
        }
    }

    fn let_go(&mut self, entries: &Entries) {
        self.state.origins.remove(entries.any.default_origin);
        for id in entries.port_sets() {
            self.state.port_sets.remove(id);
        }
    }

    /// The atoms among a rule's peers; for a rule about any peer those at which port names of it stand for something.
    fn peers(&self, rule: &Rule, peers: &RulePeers) -> BTreeSet<IdentityId> {
        let (atoms, in_force) = (&self.state.atoms, &self.state.in_force);
        if matches!(rule.peers, Peers::Any) {
            let egress = rule.direction == Direction::Egress;
            let names = in_force::names_of(rule).filter(|_| egress);
            return names.flat_map(|name| atoms.declaring(name)).collect();
        }
        let selectors = peers.selectors.iter().filter_map(|id| Some((*id, in_force.matching(*id)?)));
        let selected = selectors.flat_map(|(id, matching)| {
            let bases = matching.bases.iter();
            bases.flat_map(move |base| self.state.bases.selected(*base, id, matching.refines))
        });
        let nodes = peers.nodes.iter().flat_map(|id| atoms.of_nodes(*id));
        let entities = peers.entities.iter().flat_map(|entity| atoms.of_entity(*entity));
        let in_blocks = peers.list.into_iter().flat_map(|list| atoms.of_list(list));
        selected.chain(nodes).chain(entities).chain(in_blocks).collect()
    }

    fn entries(&mut self, (profile, ports): &RowsOf, direction: Direction, port_sets: &mut PortSets) -> Entries {
        let of_host = self.state.host == Some(*profile);
        let policies = self.state.profiles.get(*profile).map(|profile| std::sync::Arc::clone(&profile.policies));
        let policies = policies.unwrap_or_default();
        let loaded =
            |serial: &u32| self.state.in_force.policy(*serial).map(|loaded| std::sync::Arc::clone(&loaded.policy));
        let isolating: Vec<_> =
            policies.iter().filter_map(loaded).filter(|policy| policy.isolates.contains(&direction)).collect();
        let blamed = |audit: bool| {
            let named = isolating.iter().filter(|policy| policy.audit == audit);
            named.map(|policy| isolation(policy, direction)).collect::<Vec<_>>()
        };
        let (default_origin, audited) = (self.origin(blamed(false)), self.origin(blamed(true)));
        let isolating: Vec<_> = isolating.iter().map(|policy| &**policy).collect();
        let judged_by = |rules, ports, to_own_node| {
            let background = background(&isolating, to_own_node);
            Judges { rules, ports, background, isolation: default_origin, audited }
        };

        let mut of_any = Vec::new();
        let mut sparing = BTreeSet::new();
        let mut of_atom: BTreeMap<IdentityId, Vec<RuleId>> = BTreeMap::new();
        for (id, rule, peers) in self.state.in_force.rules(&policies, direction) {
            if matches!(rule.peers, Peers::Any) {
                of_any.push(id);
            }
            if self.state.in_force.policy(id.0).is_some_and(|loaded| !loaded.policy.isolates_from_own_node) {
                sparing.insert(id);
            }
            for atom in self.peers(rule, peers) {
                of_atom.entry(atom).or_default().push(id);
            }
        }
        // What the own node is judged by differs, whether or not rules name it.
        for identity in self.state.atoms.of_class(Class::OwnNode) {
            of_atom.entry(identity).or_default();
        }
        // On ingress the destination is the subject, on egress it is the peer.
        let nothing = NamedPorts::new();
        let ports = |peer: Option<&Atom>| match (direction, peer) {
            (Direction::Ingress, _) => ports.clone(),
            (Direction::Egress, Some(atom)) => atom.ports.clone(),
            (Direction::Egress, None) => nothing.clone(),
        };
        let any = self.port_set(judged_by(of_any.clone(), ports(None), false), port_sets);
        let any = PolicyEntry { port_set: any, default_origin };
        let mut exact = BTreeMap::new();
        for (identity, mut rules) in of_atom {
            let Some(atom) = self.state.atoms.get(identity) else { continue };
            rules.extend(&of_any);
            rules.sort_unstable();
            rules.dedup();
            let judges = match (atom.class, direction) {
                (Class::OwnNode, _) if of_host => Judges::default(),
                (Class::OwnNode, Direction::Ingress) => {
                    let binds =
                        |id: &RuleId| self.state.in_force.rule(*id).is_some_and(|rule| rule.effect.binds_own_node());
                    rules.retain(binds);
                    Judges { rules, ports: ports(None), ..Judges::default() }
                }
                (Class::OwnNode, Direction::Egress) => {
                    let mut judges = judged_by(rules, ports(Some(atom)), true);
                    if !judges.background.asks_all() {
                        judges.rules.retain(|rule| !sparing.contains(rule));
                    }
                    judges
                }
                _ => judged_by(rules, ports(Some(atom)), false),
            };
            let port_set = self.port_set(judges, port_sets);
            if port_set != any.port_set {
                exact.insert(identity, PolicyEntry { port_set, default_origin });
            }
        }
        Entries { any, exact }
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
        let id = self.allocator.origins(&content);
        self.state.origins.touch(id);
        if self.plan.origins.get(&id) != Some(&origins) {
            let before = self.plan.origins.insert(id, origins).unwrap_or_default();
            self.delta.origins.entry(id).or_insert(before);
        }
        id
    }

    /// The number of the port set that comes of some rules.
    fn port_set(&mut self, mut judges: Judges, known: &mut PortSets) -> PortSetId {
        let rules = judges.rules.iter().filter_map(|id| self.state.in_force.rule(*id));
        let asked: BTreeSet<_> = rules.flat_map(in_force::names_of).collect();
        judges.ports.retain(|name, _| asked.contains(name));
        if let Some(known) = known.get(&judges) {
            return *known;
        }
        let id = self.make_port_set(&judges);
        known.insert(judges, id);
        id
    }

    fn make_port_set(&mut self, judges: &Judges) -> PortSetId {
        let in_force = &self.state.in_force;
        let rules = judges.rules.iter().filter_map(|id| Some((*id, in_force.rule(*id)?)));
        let of_rules = rules.map(|(id, rule)| Layer {
            voice: Voice { precedence: rule.precedence, effect: rule.effect, audit: rule.audit, by: By::Rule(id) },
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
                    By::Rule(id) => self.state.in_force.rule(*id),
                    By::Isolation | By::AuditedIsolation | By::OwnNode | By::Open => None,
                });
                let origins = rules.map(|rule| rule.origin.clone()).collect();
                self.origin(origins)
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
        let id = self.allocator.port_set(&content);
        self.state.port_sets.touch(id);
        self.plan.port_sets.entry(id).or_insert(set);
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
