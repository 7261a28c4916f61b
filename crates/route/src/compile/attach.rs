//! Routes to listeners: what each brought with it is known, so that one route is taken out and put in without looking at the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_api::{
    GATEWAY_GROUP, GatewayDefaultScope, Kind, L4RouteRule, ListenerSet, Object, ObjectKey, ParentReference, Route,
    RouteRules, TlsMode,
};
use strait_base::Protocol;

use super::{
    backends::{Backends, Referrer, Uses},
    gateways::{GatewayState, allows, gateway_of},
    http,
    world::{Name, World},
};
use crate::{
    hosts::{HostTable, intersection},
    matching::{Path, PathTable, Spot},
    ordered::RouteTable,
    plan::{Rule, RuleId, Split},
    slots::Filled,
    status::{Condition, RouteStatus},
};

/// By what one route comes before another: its age, then `namespace/name`, then its kind.
pub(super) type Age = (i64, Arc<str>, Kind);

/// Hosts at a listener; none among them is all.
pub(super) type Hosts = Arc<[Option<Arc<str>>]>;

/// A parent that a route names: whether it is a listener set, its namespace and name.
pub(super) type Parent = (bool, Arc<str>, Arc<str>);

/// So many parents a route may have, and so many entries its status.
const MOST_PARENTS: usize = 32;

/// All routes, and what came of them.
#[derive(Default)]
pub(super) struct Attached {
    pub(super) rules: Filled<Rule>,
    pub(super) routes: BTreeMap<ObjectKey, Routed>,
    /// By gateway and listener.
    pub(super) tables: BTreeMap<Name, Vec<Listening>>,
    by_parent: BTreeMap<Parent, BTreeSet<ObjectKey>>,
    by_service: BTreeMap<Name, BTreeSet<ObjectKey>>,
    /// By other namespaces that they refer to something in.
    by_namespace: BTreeMap<Arc<str>, BTreeSet<ObjectKey>>,
    /// How many routes there are of requests and of calls: only where there are both does it matter who was first.
    both: [usize; 2],
}

/// A route, and what it brought with it.
pub(super) struct Routed {
    pub(super) route: Arc<Route>,
    pub(super) age: Age,
    pub(super) parents: Vec<OfParent>,
    /// None where no parent is this controller's.
    pub(super) status: Option<RouteStatus>,
    uses: Uses,
}

/// What a route brought with it for one of its parents.
pub(super) struct OfParent {
    /// The parent's place among the route's.
    pub(super) place: usize,
    pub(super) gateway: Name,
    pub(super) selected: Vec<Chosen>,
    rules: Vec<RuleId>,
    spots: BTreeSet<Spot>,
    /// Whether listeners count it.
    counts: bool,
}

/// A listener that a route asks to be at.
pub(super) struct Chosen {
    pub(super) listener: usize,
    pub(super) hosts: Hosts,
    /// Whether it is there by this parent.
    pub(super) taken: bool,
}

/// The routes of one listener.
#[derive(Default)]
pub(super) struct Listening {
    pub(super) http: HostTable<RouteTable>,
    /// By server name; TCP and UDP have one for all.
    pub(super) l4: HostTable<Split>,
    /// Of each name all routes that have it, of which the oldest is served.
    l4_routes: BTreeMap<Option<Arc<str>>, BTreeMap<Age, Split>>,
    /// Routes of requests and of calls that ask to be here: a host takes routes of one of the two.
    wishes: [BTreeMap<Age, Wish>; 2],
}

struct Wish {
    route: ObjectKey,
    hosts: Hosts,
    /// Whether it holds off those of the other kind that came later.
    claims: bool,
}

/// What routes are attached with.
pub(super) struct Parts<'p> {
    pub(super) gateways: &'p mut BTreeMap<Name, GatewayState>,
    pub(super) backends: &'p mut Backends,
    pub(super) world: World<'p>,
    pub(super) now: &'p Arc<str>,
    /// Gateways at which something is other than before, and which of their listeners.
    pub(super) touched: &'p mut BTreeMap<Name, BTreeSet<usize>>,
}

/// Which of the two kinds that exclude each other a route is of.
fn side(kind: Kind) -> Option<usize> {
    [Kind::HttpRoute, Kind::GrpcRoute].iter().position(|of| *of == kind)
}

fn age(route: &Route) -> Age {
    let meta = &route.meta;
    let name = format!("{}/{}", meta.namespace, meta.name);
    (meta.created.unwrap_or(i64::MAX), name.into(), route.kind())
}

fn add<K: Ord>(map: &mut BTreeMap<K, BTreeSet<ObjectKey>>, key: K, route: &ObjectKey) {
    map.entry(key).or_default().insert(route.clone());
}

fn drop_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<ObjectKey>>, key: &K, route: &ObjectKey) {
    let Some(routes) = map.get_mut(key) else { return };
    routes.remove(route);
    if routes.is_empty() {
        map.remove(key);
    }
}

/// The gateways and listener sets that a route names, whether they are there or not.
fn named(route: &Route) -> impl Iterator<Item = Parent> {
    let ours = route
        .parents
        .iter()
        .filter(|parent| &*parent.group == GATEWAY_GROUP && matches!(&*parent.kind, "Gateway" | "ListenerSet"));
    ours.map(|parent| {
        let namespace = parent.namespace.as_ref().unwrap_or(&route.meta.namespace);
        (&*parent.kind == "ListenerSet", Arc::clone(namespace), Arc::clone(&parent.name))
    })
}

/// The gateway that a parent leads to, by itself or by a listener set.
fn leads_to(
    parent: &ParentReference,
    route: &Route,
    gateways: &BTreeMap<Name, GatewayState>,
    world: &World<'_>,
) -> Option<Name> {
    if &*parent.group != GATEWAY_GROUP {
        return None;
    }
    let namespace = parent.namespace.as_ref().unwrap_or(&route.meta.namespace);
    let named = (Arc::clone(namespace), Arc::clone(&parent.name));
    let name = match &*parent.kind {
        "Gateway" => named,
        "ListenerSet" => {
            let (namespace, name) = gateway_of(world.index.sets.get(&named)?)?;
            (Arc::clone(namespace), Arc::clone(name))
        }
        _ => return None,
    };
    gateways.contains_key(&name).then_some(name)
}

/// The route as if it named the default gateways that it asks for, those after the ones that it names (GEP-3793). A status has no room for more
/// than 32.
fn with_defaults(route: &Arc<Route>, gateways: &BTreeMap<Name, GatewayState>) -> Arc<Route> {
    if route.default_gateways == GatewayDefaultScope::None {
        return Arc::clone(route);
    }
    let is_named = |(namespace, name): &Name| {
        route.parents.iter().any(|parent| {
            parent.section_name.is_none()
                && parent.port.is_none()
                && (&*parent.group, &*parent.kind, &parent.name) == (GATEWAY_GROUP, "Gateway", name)
                && parent.namespace.as_ref().unwrap_or(&route.meta.namespace) == namespace
        })
    };
    let defaults = gateways.iter().filter(|(_, of)| of.gateway.default_scope == route.default_gateways);
    let more = defaults.map(|(name, _)| name).filter(|name| !is_named(name)).map(|(namespace, name)| ParentReference {
        group: GATEWAY_GROUP.into(),
        kind: Kind::Gateway.as_str().into(),
        namespace: Some(Arc::clone(namespace)),
        name: Arc::clone(name),
        section_name: None,
        port: None,
        location: route.meta.location.clone(),
    });
    let parents = route.parents.iter().cloned().chain(more).take(MOST_PARENTS).collect();
    Arc::new(Route { parents, ..Route::clone(route) })
}

impl Attached {
    /// The routes that name a parent.
    pub(super) fn of_parent(&self, parent: &Parent) -> impl Iterator<Item = &ObjectKey> {
        self.by_parent.get(parent).into_iter().flatten()
    }

    /// The routes that refer to a service.
    pub(super) fn of_service(&self, service: &Name) -> impl Iterator<Item = &ObjectKey> {
        self.by_service.get(service).into_iter().flatten()
    }

    /// The routes of other namespaces that refer to something in this one.
    pub(super) fn with_references_into(&self, namespace: &Arc<str>) -> impl Iterator<Item = &ObjectKey> {
        self.by_namespace.get(namespace).into_iter().flatten()
    }

    /// The routes of a namespace.
    pub(super) fn of_namespace(&self, namespace: &Arc<str>) -> impl Iterator<Item = &ObjectKey> {
        self.routes.keys().filter(move |key| key.namespace == *namespace)
    }

    /// Adds the routes that may be accepted or refused otherwise because some of `dirty` are others: those of the other kind that came later
    /// and have hosts in common.
    pub(super) fn add_rivals(
        &self,
        dirty: &mut BTreeSet<ObjectKey>,
        gateways: &BTreeMap<Name, GatewayState>,
        world: &World<'_>,
    ) {
        let mut both = self.both.map(|count| count > 0);
        for side in dirty.iter().filter_map(|key| side(key.kind)) {
            both[side] = true;
        }
        if both != [true; 2] {
            return;
        }
        let mut open: Vec<ObjectKey> = dirty.iter().filter(|key| side(key.kind).is_some()).cloned().collect();
        while let Some(key) = open.pop() {
            let Some(side) = side(key.kind) else { continue };
            let mut rivals = |age: &Age, gateway: &Name, listener: usize, hosts: &Hosts| {
                let Some(of) = self.tables.get(gateway).and_then(|all| all.get(listener)) else { return };
                for (_, wish) in of.wishes[1 - side].range(age.clone()..) {
                    if !dirty.contains(&wish.route) && in_common(hosts, &wish.hosts) {
                        dirty.insert(wish.route.clone());
                        open.push(wish.route.clone());
                    }
                }
            };
            if let Some(before) = self.routes.get(&key) {
                for (of, chosen) in before.parents.iter().flat_map(|of| of.selected.iter().map(move |one| (of, one))) {
                    rivals(&before.age, &of.gateway, chosen.listener, &chosen.hosts);
                }
            }
            if let Some(Object::Route(route)) = world.objects.get(&key) {
                let age = age(route);
                let route = &with_defaults(route, gateways);
                for parent in &route.parents {
                    let Some(gateway) = leads_to(parent, route, gateways, world) else { continue };
                    let Some(state) = gateways.get(&gateway) else { continue };
                    for (listener, hosts) in select(route, parent, state, world).unwrap_or_default() {
                        rivals(&age, &gateway, listener, &hosts);
                    }
                }
            }
        }
    }

    /// Takes a route out. Gives its status, for the times in it.
    pub(super) fn take_out(&mut self, key: &ObjectKey, parts: &mut Parts<'_>) -> Option<RouteStatus> {
        let Routed { route, age, parents, status, uses } = self.routes.remove(key)?;
        for parent in named(&route) {
            drop_from(&mut self.by_parent, &parent, key);
        }
        for service in &uses.services {
            drop_from(&mut self.by_service, service, key);
        }
        for namespace in &uses.namespaces {
            drop_from(&mut self.by_namespace, namespace, key);
        }
        parts.backends.release(uses);
        if let Some(side) = side(key.kind) {
            self.both[side] -= 1;
        }
        for of in parents {
            for chosen in &of.selected {
                let Some(table) = self.tables.get_mut(&of.gateway).and_then(|all| all.get_mut(chosen.listener)) else {
                    continue;
                };
                table.take_out(&age, chosen, &of);
                let state = parts.gateways.get_mut(&of.gateway);
                if let Some(listener) = state.and_then(|state| state.listeners.get_mut(chosen.listener)) {
                    listener.attached -= u32::from(chosen.taken && of.counts);
                }
            }
            for id in &of.rules {
                self.rules.free(*id);
            }
            touch(parts.touched, &of);
        }
        status
    }

    /// Puts a route in. The others are as if it had always been there, once its rivals are put in after it.
    pub(super) fn put_in(&mut self, route: &Arc<Route>, before: Option<&RouteStatus>, parts: &mut Parts<'_>) {
        let meta = &route.meta;
        let key =
            ObjectKey { kind: route.kind(), namespace: Arc::clone(&meta.namespace), name: Arc::clone(&meta.name) };
        let age = age(route);
        let named_by_it = route.parents.len();
        let route = &with_defaults(route, parts.gateways);
        let (mut parents, mut conditions) = (Vec::new(), Vec::new());
        for (place, parent) in route.parents.iter().enumerate() {
            let Some(gateway) = leads_to(parent, route, parts.gateways, &parts.world) else { continue };
            let (of, mut outcome) = self.attach((route, &key, &age), (place, parent, gateway), &parents, parts);
            if place >= named_by_it && outcome.accepted.holds {
                outcome.accepted =
                    Condition::because("Accepted", "the gateway is a default one, and the route asks for those");
            }
            let mut all = vec![("Accepted", outcome.accepted), ("ResolvedRefs", outcome.resolved)];
            all.extend(outcome.partially_invalid.map(|condition| ("PartiallyInvalid", condition)));
            conditions.push((place, all));
            touch(parts.touched, &of);
            parents.push(of);
        }
        parents.shrink_to_fit();
        let status = (!conditions.is_empty()).then(|| {
            let mut status = RouteStatus::new(route, conditions.into_iter(), parts.now);
            if let Some(before) = before {
                status.keep_times(before);
            }
            status
        });
        let uses = parts.backends.take_uses();
        for parent in named(route) {
            add(&mut self.by_parent, parent, &key);
        }
        for service in &uses.services {
            add(&mut self.by_service, service.clone(), &key);
        }
        for namespace in &uses.namespaces {
            add(&mut self.by_namespace, Arc::clone(namespace), &key);
        }
        if let Some(side) = side(key.kind) {
            self.both[side] += 1;
        }
        self.routes.insert(key, Routed { route: Arc::clone(route), age, parents, status, uses });
    }

    /// Attaches a route to the listeners that a parent reference selects.
    fn attach(
        &mut self,
        (route, key, age): (&Arc<Route>, &ObjectKey, &Age),
        (place, parent, gateway): (usize, &ParentReference, Name),
        others: &[OfParent],
        parts: &mut Parts<'_>,
    ) -> (OfParent, Outcome) {
        let mut of =
            OfParent { place, gateway, selected: Vec::new(), rules: Vec::new(), spots: BTreeSet::new(), counts: false };
        let nowhere = || Outcome {
            accepted: Condition::no("NoMatchingParent", "the gateway is not there"),
            resolved: Condition::yes("ResolvedRefs"),
            partially_invalid: None,
        };
        let Some(state) = parts.gateways.get(&of.gateway) else { return (of, nowhere()) };
        let by = Referrer {
            kind: route.kind().as_str(),
            namespace: &route.meta.namespace,
            protocol: if route.kind() == Kind::UdpRoute { Protocol::Udp } else { Protocol::Tcp },
            gateway: (&of.gateway.0, &of.gateway.1),
            client_certificate: state.client_certificate,
        };
        let found = select(route, parent, state, &parts.world);
        let (compiled, split) = rules(route, by, parts);
        let resolved = compiled.unresolved.clone().unwrap_or_else(|| Condition::yes("ResolvedRefs"));
        let outcome = |accepted| Outcome { accepted, resolved: resolved.clone(), partially_invalid: None };
        let selected = match found {
            Ok(selected) => selected,
            Err(condition) => return (of, outcome(condition)),
        };
        let invalid = !compiled.rules.is_empty() && compiled.dropped.len() == compiled.rules.len();
        of.counts = !invalid;
        let taken_already = |listener| {
            let same = others.iter().filter(|other| other.gateway == of.gateway).flat_map(|other| &other.selected);
            same.clone().any(|other| other.listener == listener && other.taken)
        };
        let selected: Vec<_> = selected
            .into_iter()
            .map(|(at, hosts)| (Chosen { listener: at, hosts, taken: false }, taken_already(at)))
            .collect();
        let (chosen, already): (Vec<_>, Vec<_>) = selected.into_iter().unzip();
        of.selected = chosen;
        let Some(tables) = self.tables.get_mut(&of.gateway) else { return (of, nowhere()) };
        if let Some(condition) = claim(tables, (key, age), &mut of.selected, !invalid) {
            return (of, outcome(condition));
        }
        let backends = &*parts.backends;
        for rule in compiled.rules {
            let keeps = |id| backends.get(id).is_some_and(|backend| backend.session.is_some());
            let keeps_sessions =
                rule.session.is_some() || rule.split.shares().filter_map(|share| share.backend).any(keeps);
            of.rules.push(self.rules.add(Rule { keeps_sessions, ..rule }));
        }
        of.spots = compiled.matches.iter().map(|(path, _)| path.spot()).collect();
        let mut matches: Vec<_> = compiled.matches;
        for (_, candidate) in &mut matches {
            candidate.rule = of.rules.get(candidate.rule as usize).copied().unwrap_or(RuleId::MAX);
        }
        let state = parts.gateways.get_mut(&of.gateway);
        let mut listeners = state.map(|state| &mut state.listeners);
        for (chosen, already) in of.selected.iter_mut().zip(already) {
            if !chosen.taken || already {
                chosen.taken = false;
                continue;
            }
            let Some(table) = tables.get_mut(chosen.listener) else { continue };
            table.put_in(age, chosen, split.as_ref(), &matches);
            // Only routes that are accepted count.
            if let Some(listener) = listeners.as_mut().and_then(|all| all.get_mut(chosen.listener)) {
                listener.attached += u32::from(!invalid);
            }
        }
        let outcome = match compiled.dropped.first() {
            Some((_, why)) if invalid => outcome(why.clone()),
            Some((_, why)) => Outcome {
                partially_invalid: Some(Condition {
                    holds: true,
                    ..Condition::no(why.reason, dropped(&compiled.dropped))
                }),
                ..outcome(Condition::yes("Accepted"))
            },
            None => outcome(Condition::yes("Accepted")),
        };
        (of, outcome)
    }
}

fn touch(touched: &mut BTreeMap<Name, BTreeSet<usize>>, of: &OfParent) {
    let listeners = touched.entry(of.gateway.clone()).or_default();
    listeners.extend(of.selected.iter().filter(|chosen| chosen.taken).map(|chosen| chosen.listener));
}

/// The rules of a route for one gateway; the split of one that is not of requests.
fn rules(route: &Route, by: Referrer<'_>, parts: &mut Parts<'_>) -> (http::Compiled, Option<Split>) {
    let l4 = |rules: &[L4RouteRule], parts: &mut Parts<'_>| {
        let mut compiled = http::Compiled::default();
        let references = rules.first().map_or(&[][..], |rule| rule.backends.as_slice());
        let split = http::split(references, None, by, &parts.world, parts.backends, &mut compiled);
        (compiled, Some(split))
    };
    match &route.rules {
        RouteRules::Http(_) | RouteRules::Grpc(_) => (http::route(route, by, &parts.world, parts.backends), None),
        RouteRules::Tls(of) | RouteRules::Tcp(of) | RouteRules::Udp(of) => l4(of, parts),
    }
}

/// Says of each listener that a route selects whether the route has it: not where one of the other kind was first with a host in common,
/// as exactly one of the two is accepted. Gives why, where none remains. Claims the hosts where `valid`.
fn claim(
    tables: &mut [Listening],
    (key, age): (&ObjectKey, &Age),
    selected: &mut [Chosen],
    valid: bool,
) -> Option<Condition> {
    let Some(side) = side(key.kind) else {
        for chosen in selected {
            chosen.taken = true;
        }
        return None;
    };
    let mut first = None;
    for chosen in &mut *selected {
        let Some(table) = tables.get(chosen.listener) else { continue };
        let mut earlier = table.wishes[1 - side].range(..age.clone()).filter(|(_, wish)| wish.claims);
        let other = earlier.find(|(_, wish)| in_common(&chosen.hosts, &wish.hosts));
        chosen.taken = other.is_none();
        first = first.or_else(|| other.map(|((_, name, kind), _)| format!("{kind} {name}")));
    }
    let refused = selected.iter().all(|chosen| !chosen.taken);
    for chosen in &*selected {
        let Some(table) = tables.get_mut(chosen.listener) else { continue };
        let claims = chosen.taken && valid;
        let wish = table.wishes[side].entry(age.clone()).or_insert_with(|| Wish {
            route: key.clone(),
            hosts: Arc::clone(&chosen.hosts),
            claims,
        });
        wish.claims |= claims;
    }
    first.filter(|_| refused).map(|other| {
        let message =
            format!("{other} has hosts in common and was there first: a host takes routes of one of the two kinds");
        Condition::no("Conflicted", message)
    })
}

fn in_common(a: &Hosts, b: &Hosts) -> bool {
    a.iter().any(|a| b.iter().any(|b| intersection(a.as_ref(), b.as_ref()).is_some()))
}

impl Listening {
    fn put_in(&mut self, age: &Age, chosen: &Chosen, split: Option<&Split>, matches: &[(Path, crate::Candidate)]) {
        for host in &*chosen.hosts {
            // Of two routes for the same server name, or on the same TCP or UDP listener, the older one is served.
            if let Some(split) = split {
                self.l4_routes.entry(host.clone()).or_default().insert(age.clone(), split.clone());
                self.serve_oldest(host.as_ref());
                continue;
            }
            let empty = || RouteTable::Precedence(Arc::default());
            let RouteTable::Precedence(table) = self.http.entry(host.as_ref(), empty) else { continue };
            let table: &mut PathTable = Arc::make_mut(table);
            table.attach(age.2 == Kind::GrpcRoute);
            for (path, candidate) in matches {
                table.insert(path, candidate.clone());
            }
        }
    }

    fn take_out(&mut self, age: &Age, chosen: &Chosen, of: &OfParent) {
        if let Some(side) = side(age.2) {
            self.wishes[side].remove(age);
        }
        for host in chosen.hosts.iter().filter(|_| chosen.taken) {
            if let Some(routes) = self.l4_routes.get_mut(host) {
                routes.remove(age);
                self.serve_oldest(host.as_ref());
                continue;
            }
            let Some(RouteTable::Precedence(table)) = self.http.get_mut(host.as_deref()) else { continue };
            let table = Arc::make_mut(table);
            for spot in &of.spots {
                table.remove(spot, |rule| of.rules.contains(&rule));
            }
            if table.detach(age.2 == Kind::GrpcRoute) {
                self.http.remove(host.as_deref());
            }
        }
    }

    fn serve_oldest(&mut self, host: Option<&Arc<str>>) {
        let name = host.cloned();
        if let Some(split) = self.l4_routes.get(&name).and_then(|routes| routes.values().next()) {
            let split = split.clone();
            *self.l4.entry(host, Split::default) = split;
        } else {
            self.l4_routes.remove(&name);
            self.l4.remove(name.as_deref());
        }
    }
}

/// The conditions of a route for one parent.
struct Outcome {
    accepted: Condition,
    resolved: Condition,
    partially_invalid: Option<Condition>,
}

/// The words that the API wants for rules that are not in force.
fn dropped(rules: &[(String, Condition)]) -> String {
    let each: Vec<String> = rules.iter().map(|(name, why)| format!("{name} ({})", why.message)).collect();
    format!("Dropped Rule {}; requests that it would take are answered with 500", each.join(", "))
}

/// A listener and the hosts that it and the route have in common.
type Selected = (usize, Hosts);

/// The listeners that take the route.
///
/// # Errors
/// Why none does: the `Accepted` condition.
fn select(
    route: &Route,
    parent: &ParentReference,
    state: &GatewayState,
    world: &World<'_>,
) -> Result<Vec<Selected>, Condition> {
    if !state.is_accepted() {
        return Err(Condition::no("NoMatchingParent", "the gateway is not accepted"));
    }
    let named = |index: &usize| {
        let listener = &state.listeners[*index];
        is_of_parent(listener.set.as_ref(), parent, route)
            && parent.section_name.as_ref().is_none_or(|name| *name == listener.listener.name)
            && parent.port.is_none_or(|port| port == listener.listener.port)
    };
    let named: Vec<usize> = (0..state.listeners.len()).filter(named).collect();
    if named.is_empty() {
        return Err(Condition::no("NoMatchingParent", "no listener has that section name and port"));
    }
    let kind = route.kind().as_str();
    let allowed: Vec<usize> = named
        .into_iter()
        .filter(|index| {
            let listener = &state.listeners[*index];
            let home = listener.namespace(&state.gateway);
            listener.takes_routes()
                && listener.kinds.contains(&kind)
                && allows(&listener.listener.allowed_namespaces, home, &route.meta.namespace, world)
        })
        .collect();
    if allowed.is_empty() {
        return Err(Condition::no(
            "NotAllowedByListeners",
            format!("no listener takes {kind}s from {}", route.meta.namespace),
        ));
    }
    let l4 = matches!(route.rules, RouteRules::Tcp(_) | RouteRules::Udp(_));
    let selected: Vec<Selected> = allowed
        .into_iter()
        .filter_map(|index| {
            let hosts = if l4 { vec![None] } else { hosts(route, state.listeners[index].listener.hostname.as_ref()) };
            (!hosts.is_empty()).then(|| (index, hosts.into()))
        })
        .collect();
    if selected.is_empty() {
        return Err(Condition::no("NoMatchingListenerHostname", "no listener has a hostname in common with the route"));
    }
    Ok(selected)
}

fn is_of_parent(set: Option<&Arc<ListenerSet>>, parent: &ParentReference, route: &Route) -> bool {
    match set {
        None => &*parent.kind == "Gateway",
        Some(set) => {
            let namespace = parent.namespace.as_ref().unwrap_or(&route.meta.namespace);
            &*parent.kind == "ListenerSet" && set.meta.name == parent.name && set.meta.namespace == *namespace
        }
    }
}

fn hosts(route: &Route, listener: Option<&Arc<str>>) -> Vec<Option<Arc<str>>> {
    if route.hostnames.is_empty() {
        return vec![listener.cloned()];
    }
    let mut hosts: Vec<Option<Arc<str>>> =
        route.hostnames.iter().filter_map(|host| intersection(listener, Some(host))).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Whether a listener does the handshake.
pub(super) fn terminates(listener: &strait_api::Listener) -> bool {
    listener.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Terminate)
}
