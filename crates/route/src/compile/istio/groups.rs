//! Routes of virtual services by host, for servers that share a table.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_api::Kind;
use strait_base::Location;

use super::{Age, Trouble, TroubleKind, http::Compiler};
use crate::{
    compile::world::Name,
    hosts::HostTable,
    ordered::{OrderedMatch, OrderedTable, PathText, RouteTable, Text},
    plan::{RuleId, Split},
};

/// A host; none is all.
pub(super) type Host = Option<Arc<str>>;

/// Where among the claims of a host one stands: the age of its virtual service, then the server, then the route.
pub(super) type Spot = (Age, usize, usize);

/// What is served by host.
pub(super) enum Table {
    /// Requests.
    Requests(HostTable<RouteTable>),
    /// Connections that go on as they are, by server name.
    Names(HostTable<Split>),
    /// Connections, whatever is in them.
    Connections(Option<Split>),
}

/// Who asks for a host.
pub(super) struct Claim {
    /// The virtual service.
    pub(super) service: Name,
    pub(super) what: Claimed,
}

/// What is to be done with what comes for it.
#[derive(Clone)]
pub(super) enum Claimed {
    Matches(Arc<[Arc<OrderedMatch>]>),
    Split(Split, Location),
}

#[derive(Default)]
struct Claims {
    all: BTreeMap<Spot, Claim>,
    /// How many servers redirect all of it to HTTPS.
    redirects: u32,
    troubles: Vec<Trouble>,
}

/// Servers that share a table.
pub(super) struct Group {
    pub(super) table: Table,
    by_host: BTreeMap<Host, Claims>,
    /// Hosts whose claims are others than those in the table.
    dirty: BTreeSet<Host>,
    /// What redirects to HTTPS.
    pub(super) redirect: Option<RuleId>,
    port: u16,
}

impl Group {
    pub(super) fn new(table: Table, port: u16) -> Self {
        Self { table, by_host: BTreeMap::new(), dirty: BTreeSet::new(), redirect: None, port }
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Counts a redirect of a host, or takes one back.
    pub(super) fn redirect(&mut self, host: &Host, more: bool) {
        let claims = self.by_host.entry(host.clone()).or_default();
        claims.redirects = if more { claims.redirects + 1 } else { claims.redirects.saturating_sub(1) };
        self.dirty.insert(host.clone());
    }

    pub(super) fn put_in(&mut self, host: &Host, spot: Spot, claim: Claim) {
        self.by_host.entry(host.clone()).or_default().all.entry(spot).or_insert(claim);
        self.dirty.insert(host.clone());
    }

    pub(super) fn take_out(&mut self, host: &Host, spot: &Spot) {
        if let Some(claims) = self.by_host.get_mut(host) {
            claims.all.remove(spot);
            self.dirty.insert(host.clone());
        }
    }

    /// Takes back what it tells of.
    pub(super) fn retire(&self, compiler: &mut Compiler<'_>) {
        for claims in self.by_host.values() {
            compiler.told.remove(&claims.troubles);
        }
    }

    /// Puts the hosts together again whose claims are others. Gives how many.
    pub(super) fn refresh(&mut self, compiler: &mut Compiler<'_>) -> usize {
        let dirty = std::mem::take(&mut self.dirty);
        for host in &dirty {
            let Some(claims) = self.by_host.get_mut(host) else { continue };
            compiler.told.remove(&claims.troubles);
            claims.troubles.clear();
            if claims.all.is_empty() && claims.redirects == 0 {
                self.by_host.remove(host);
                self.table.remove(host);
                continue;
            }
            match &mut self.table {
                Table::Requests(table) => {
                    claims.tell_same_paths(host.as_deref(), compiler);
                    let redirect = self.redirect.filter(|_| claims.redirects > 0).map(everything);
                    let ordered = OrderedTable::new(match redirect {
                        Some(redirect) => vec![redirect],
                        None => claims.matches().map(|(of, _)| Arc::clone(of)).collect(),
                    });
                    set(table, host, RouteTable::Ordered(ordered.into()));
                }
                Table::Names(table) => {
                    let name = host.as_deref().unwrap_or("*");
                    claims.tell_others(|first| format!("the server name {name} is also claimed at {first}"));
                    if let Some((split, _)) = claims.splits().next() {
                        set(table, host, split.clone());
                    }
                }
                Table::Connections(first) => {
                    let port = self.port;
                    claims.tell_others(|first| format!("connections to port {port} are also claimed at {first}"));
                    *first = claims.splits().next().map(|(split, _)| split.clone());
                }
            }
            compiler.told.add(&claims.troubles);
        }
        dirty.len()
    }
}

fn set<T: Clone>(table: &mut HostTable<T>, host: &Host, value: T) {
    let place = table.entry(host.as_ref(), || value.clone());
    *place = value;
}

/// A match that takes every request.
fn everything(rule: RuleId) -> Arc<OrderedMatch> {
    Arc::new(OrderedMatch { rule, path: None, fields: Vec::new(), without: Vec::new(), query: Vec::new() })
}

impl Table {
    fn remove(&mut self, host: &Host) {
        match self {
            Self::Requests(table) => table.remove(host.as_deref()),
            Self::Names(table) => table.remove(host.as_deref()),
            Self::Connections(first) => *first = None,
        }
    }
}

impl Claims {
    fn matches(&self) -> impl Iterator<Item = (&Arc<OrderedMatch>, &Name)> {
        self.all.values().flat_map(|claim| {
            let matches = match &claim.what {
                Claimed::Matches(matches) => &**matches,
                Claimed::Split(..) => &[],
            };
            matches.iter().map(|of| (of, &claim.service))
        })
    }

    fn splits(&self) -> impl Iterator<Item = (&Split, &Location)> {
        self.all.values().filter_map(|claim| match &claim.what {
            Claimed::Split(split, location) => Some((split, location)),
            Claimed::Matches(_) => None,
        })
    }

    /// Tells of all claims but the first: they are never asked.
    fn tell_others(&mut self, message: impl Fn(&Location) -> String) {
        let Some(first) = self.splits().next().map(|(_, location)| location.clone()) else { return };
        for claim in self.all.values() {
            let Claimed::Split(_, location) = &claim.what else { continue };
            if *location != first {
                self.troubles.push(claimed(&claim.service, location, message(&first)));
            }
        }
    }

    /// Tells of virtual services that claim the same paths, each of the first one that takes its requests.
    fn tell_same_paths(&mut self, host: Option<&str>, compiler: &Compiler<'_>) {
        let place = |of: &OrderedMatch| compiler.rules.get(of.rule).map(|rule| rule.location.clone());
        let mut first: BTreeMap<String, Firsts<'_>> = BTreeMap::new();
        let (mut troubles, mut told) = (Vec::new(), BTreeSet::new());
        for (order, (of, service)) in self.matches().enumerate() {
            let path = format!("{} {}", of.path.as_ref().is_some_and(|path| path.ignore_case), path_text(of));
            let bare = of.fields.is_empty() && of.without.is_empty() && of.query.is_empty();
            let conditions = if bare { String::new() } else { format!("{path} {of:?}", of = Conditions(of)) };
            let keys = [Some(path), Some(conditions).filter(|_| !bare)];
            let earlier = keys.iter().flatten().filter_map(|key| first.get(key)?.of_another_than(service));
            if let Some((_, earlier, other)) = earlier.min_by_key(|(order, ..)| *order)
                && let (Some(first_at), Some(at)) = (place(earlier), place(of))
                && told.insert((first_at.clone(), at.clone()))
            {
                let (path, host) = (path_text(of), host.unwrap_or("*"));
                let first = format!("VirtualService {}/{} at {first_at}", other.0, other.1);
                let message = format!("{path} of {host} is also claimed by {first}, which takes these requests");
                troubles.push(claimed(service, &at, message));
            }
            let [path, conditions] = keys;
            if let Some(key) = conditions.or(path) {
                first.entry(key).or_default().add((order, of, service));
            }
        }
        self.troubles = troubles;
    }
}

/// What a match asks for beside the path.
struct Conditions<'m>(&'m OrderedMatch);

impl std::fmt::Debug for Conditions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (&self.0.fields, &self.0.without, &self.0.query).fmt(f)
    }
}

/// A match with its place among all of a host, and its virtual service.
type Match<'m> = (usize, &'m OrderedMatch, &'m Name);

/// The first match that asks for something, and the first one of another virtual service.
#[derive(Default)]
struct Firsts<'m> {
    all: [Option<Match<'m>>; 2],
}

impl<'m> Firsts<'m> {
    fn add(&mut self, of: Match<'m>) {
        match &mut self.all {
            [first @ None, _] => *first = Some(of),
            [Some((.., first)), second @ None] if *first != of.2 => *second = Some(of),
            _ => {}
        }
    }

    fn of_another_than(&self, service: &Name) -> Option<Match<'m>> {
        self.all.iter().flatten().copied().find(|(.., other)| *other != service)
    }
}

fn claimed(service: &Name, location: &Location, message: String) -> Trouble {
    let object = strait_api::ObjectKey {
        kind: Kind::VirtualService,
        namespace: Arc::clone(&service.0),
        name: Arc::clone(&service.1),
    };
    Trouble { kind: TroubleKind::Claimed, object, location: location.clone(), message }
}

fn path_text(of: &OrderedMatch) -> String {
    match of.path.as_ref().map(|PathText { text, .. }| text) {
        None | Some(Text::Present) => "every path".to_owned(),
        Some(Text::Exact(text)) => format!("the path {text}"),
        Some(Text::Prefix(text)) => format!("the prefix {text}"),
        Some(Text::Regex(regex)) => format!("the expression {}", regex.as_str()),
    }
}
