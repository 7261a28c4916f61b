//! Routes to listeners.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use strait_api::{
    GATEWAY_GROUP, Kind, L4RouteRule, ListenerSet, ObjectKey, ObjectMeta, ParentReference, Route, RouteRules, TlsMode,
};
use strait_base::Protocol;

use super::{
    Attachment, Attachments, CONTROLLER, GATEWAY_VERSION, Refusal,
    backends::{Backends, Referrer},
    gateways::{GatewayState, age, allows},
    http,
    world::World,
};
use crate::{
    hosts::{HostTable, intersection},
    matching::PathTable,
    plan::{Rule, Split},
    status::{Condition, Status, conditions},
};

/// Gateway and listener, by their places.
pub(super) type At = (usize, usize);

/// What came of all routes.
#[derive(Default)]
pub(super) struct Attached {
    pub(super) rules: Vec<Rule>,
    pub(super) http: BTreeMap<At, HostTable<PathTable>>,
    /// By server name; TCP and UDP have one for all.
    pub(super) l4: BTreeMap<At, HostTable<Split>>,
    pub(super) statuses: Vec<Status>,
    /// The listeners that took the route at hand: several parents may lead to one.
    taken: Vec<Taken>,
    /// Hosts that routes of the one or the other kind have at a listener.
    claims: BTreeMap<(At, Kind), Vec<Claim>>,
}

/// Attaches all routes, the older first: of two that claim the same, the older one wins.
pub(super) fn routes<'a>(
    gateways: &mut [GatewayState<'a>],
    world: &World<'a>,
    backends: &mut Backends,
    now: &str,
    mut tell: Option<&mut Attachments>,
) -> Attached {
    let mut out = Attached::default();
    let mut routes: Vec<&'a Arc<Route>> = world.objects.routes().collect();
    routes.sort_by_cached_key(|route| age(&route.meta));
    let places: Places<'_> = gateways
        .iter()
        .enumerate()
        .map(|(index, state)| ((&*state.gateway.meta.namespace, &*state.gateway.meta.name), index))
        .collect();
    for route in routes {
        out.taken.clear();
        let parents: Vec<Value> = route
            .parents
            .iter()
            .enumerate()
            .filter_map(|(place, parent)| {
                let index = gateway_of(parent, route, &places, world)?;
                let before = out.taken.len();
                let of = attach(route, parent, index, gateways, world, backends, &mut out);
                if let Some(tell) = &mut tell {
                    if of.accepted.holds {
                        let new = out.taken.drain(before..).collect::<Vec<_>>();
                        tell.at.extend(new.iter().map(|taken| taken.attachment(route, gateways)));
                        out.taken.extend(new);
                    } else {
                        let (reason, message) = (of.accepted.reason, Arc::clone(&of.accepted.message));
                        tell.refused.push(Refusal { route: key(route), parent: place, reason, message });
                    }
                }
                let mut all = vec![("Accepted", &of.accepted), ("ResolvedRefs", &of.resolved)];
                all.extend(of.partially_invalid.iter().map(|condition| ("PartiallyInvalid", condition)));
                Some(json!({
                    "parentRef": parent_ref(parent),
                    "controllerName": CONTROLLER,
                    "conditions": conditions(&all, route.meta.generation, now),
                }))
            })
            .collect();
        if !parents.is_empty() {
            out.statuses.push(Status {
                object: key(route),
                api_version: GATEWAY_VERSION,
                status: json!({"parents": parents}),
            });
        }
    }
    out.http.values_mut().flat_map(HostTable::values_mut).for_each(PathTable::sort);
    out
}

/// The places of gateways by namespace and name.
type Places<'a> = BTreeMap<(&'a str, &'a str), usize>;

/// The gateway that a parent leads to, by itself or by a listener set.
fn gateway_of(parent: &ParentReference, route: &Route, places: &Places<'_>, world: &World<'_>) -> Option<usize> {
    if &*parent.group != GATEWAY_GROUP {
        return None;
    }
    let namespace = parent.namespace.as_ref().unwrap_or(&route.meta.namespace);
    match &*parent.kind {
        "Gateway" => places.get(&(&**namespace, &*parent.name)).copied(),
        "ListenerSet" => {
            let set = world.listener_set(namespace, &parent.name)?;
            let home = set.parent.namespace.as_ref().unwrap_or(&set.meta.namespace);
            let of_gateway = &*set.parent.group == GATEWAY_GROUP && &*set.parent.kind == "Gateway";
            places.get(&(&**home, &*set.parent.name)).copied().filter(|_| of_gateway)
        }
        _ => None,
    }
}

fn parent_ref(parent: &ParentReference) -> Value {
    let mut of = json!({"group": &*parent.group, "kind": &*parent.kind, "name": &*parent.name});
    if let Some(namespace) = &parent.namespace {
        of["namespace"] = json!(&**namespace);
    }
    if let Some(section) = &parent.section_name {
        of["sectionName"] = json!(&**section);
    }
    if let Some(port) = parent.port {
        of["port"] = json!(port);
    }
    of
}

/// A listener that took the route at hand.
struct Taken {
    at: At,
    hosts: Vec<Option<Arc<str>>>,
}

impl Taken {
    fn attachment(&self, route: &Route, gateways: &[GatewayState<'_>]) -> Attachment {
        let state = &gateways[self.at.0];
        let listener = &state.listeners[self.at.1];
        let name = |meta: &ObjectMeta| (Arc::clone(&meta.namespace), Arc::clone(&meta.name));
        Attachment {
            route: key(route),
            gateway: name(&state.gateway.meta),
            set: listener.set.map(|set| name(&set.meta)),
            listener: Arc::clone(&listener.listener.name),
            port: listener.listener.port,
            protocol: Arc::clone(&listener.listener.protocol),
            hosts: self.hosts.clone(),
        }
    }
}

fn key(route: &Route) -> ObjectKey {
    let meta = &route.meta;
    ObjectKey { kind: route.kind(), namespace: Arc::clone(&meta.namespace), name: Arc::clone(&meta.name) }
}

/// A route's host at a listener: requests of HTTP and calls are not told apart by it.
struct Claim {
    host: Option<Arc<str>>,
    /// The route, as `namespace/name`.
    route: Arc<str>,
}

/// The conditions of a route for one parent.
struct Outcome {
    accepted: Condition,
    resolved: Condition,
    partially_invalid: Option<Condition>,
}

/// Attaches a route to the listeners that a parent reference selects.
fn attach(
    route: &Route,
    parent: &ParentReference,
    index: usize,
    gateways: &mut [GatewayState<'_>],
    world: &World<'_>,
    backends: &mut Backends,
    out: &mut Attached,
) -> Outcome {
    let state = &mut gateways[index];
    let gateway = state.gateway;
    let by = Referrer {
        kind: route.kind().as_str(),
        namespace: &route.meta.namespace,
        protocol: if route.kind() == Kind::UdpRoute { Protocol::Udp } else { Protocol::Tcp },
        gateway: (&gateway.meta.namespace, &gateway.meta.name),
        client_certificate: state.client_certificate,
    };
    let found = select(route, parent, state, world);
    let mut rules = Vec::new();
    let l4 = |rules: &[L4RouteRule], backends: &mut Backends| {
        let mut compiled = http::Compiled::default();
        let references = rules.first().map_or(&[][..], |rule| rule.backends.as_slice());
        let split = http::split(references, None, by, world, backends, &mut compiled);
        (compiled, split)
    };
    let (compiled, split) = match &route.rules {
        RouteRules::Http(_) | RouteRules::Grpc(_) => (http::route(route, by, world, backends, &mut rules), None),
        RouteRules::Tls(of) | RouteRules::Tcp(of) | RouteRules::Udp(of) => {
            let (compiled, split) = l4(of, backends);
            (compiled, Some(split))
        }
    };
    let resolved = compiled.unresolved.clone().unwrap_or_else(|| Condition::yes("ResolvedRefs"));
    let refused = |accepted| Outcome { accepted, resolved: resolved.clone(), partially_invalid: None };
    let mut listeners = match found {
        Ok(listeners) => listeners,
        Err(condition) => return refused(condition),
    };
    let invalid = compiled.rules > 0 && compiled.dropped.len() == compiled.rules;
    if matches!(route.kind(), Kind::HttpRoute | Kind::GrpcRoute)
        && let Some(condition) = out.claim(route, index, &mut listeners, !invalid)
    {
        return refused(condition);
    }
    let first = u32::try_from(out.rules.len()).unwrap_or(u32::MAX);
    out.rules.append(&mut rules);
    for (listener, hosts) in listeners {
        let at = (index, listener);
        if out.taken.iter().any(|taken| taken.at == at) {
            continue;
        }
        out.taken.push(Taken { at, hosts: hosts.clone() });
        // Only routes that are accepted count.
        state.listeners[listener].attached += u32::from(!invalid);
        for host in hosts {
            // Of two routes for the same server name, or on the same TCP or UDP listener, the older one is served.
            if let Some(split) = &split {
                out.l4.entry(at).or_default().entry(host.as_ref(), || split.clone());
                continue;
            }
            let table = out.http.entry(at).or_default().entry(host.as_ref(), PathTable::default);
            if route.kind() == Kind::GrpcRoute {
                table.put_services_first();
            }
            for (path, candidate) in &compiled.matches {
                let mut candidate = candidate.clone();
                candidate.rule += first;
                table.insert(path.clone(), candidate);
            }
        }
    }
    match compiled.dropped.first() {
        Some((_, why)) if invalid => refused(why.clone()),
        Some((_, why)) => Outcome {
            partially_invalid: Some(Condition { holds: true, ..Condition::no(why.reason, dropped(&compiled.dropped)) }),
            ..refused(Condition::yes("Accepted"))
        },
        None => refused(Condition::yes("Accepted")),
    }
}

/// The words that the API wants for rules that are not in force.
fn dropped(rules: &[(String, Condition)]) -> String {
    let each: Vec<String> = rules.iter().map(|(name, why)| format!("{name} ({})", why.message)).collect();
    format!("Dropped Rule {}; requests that it would take are answered with 500", each.join(", "))
}

impl Attached {
    /// Leaves those listeners out at which a route of the other kind was first with a host in common: exactly one of the two is accepted.
    /// Gives why, where none remains. Claims the hosts where `valid`.
    fn claim(
        &mut self,
        route: &Route,
        gateway: usize,
        listeners: &mut Vec<Selected>,
        valid: bool,
    ) -> Option<Condition> {
        let kind = route.kind();
        let other_kind = if kind == Kind::HttpRoute { Kind::GrpcRoute } else { Kind::HttpRoute };
        let mut taken = None;
        listeners.retain(|(listener, hosts)| {
            let mut claims = self.claims.get(&((gateway, *listener), other_kind)).into_iter().flatten();
            let common =
                |claim: &&Claim| hosts.iter().any(|host| intersection(claim.host.as_ref(), host.as_ref()).is_some());
            let other = claims.find(common);
            taken = taken.take().or_else(|| other.map(|claim| Arc::clone(&claim.route)));
            other.is_none()
        });
        if let Some(other) = taken.filter(|_| listeners.is_empty()) {
            let message = format!(
                "{other_kind} {other} has hosts in common and was there first: a host takes routes of one of the two kinds"
            );
            return Some(Condition::no("Conflicted", message));
        }
        let name: Arc<str> = format!("{}/{}", route.meta.namespace, route.meta.name).into();
        for (listener, hosts) in listeners.iter().filter(|_| valid) {
            let claims = self.claims.entry(((gateway, *listener), kind)).or_default();
            claims.extend(hosts.iter().map(|host| Claim { host: host.clone(), route: Arc::clone(&name) }));
        }
        None
    }
}

/// A listener and the hosts that it and the route have in common.
type Selected = (usize, Vec<Option<Arc<str>>>);

/// The listeners that take the route.
///
/// # Errors
/// Why none does: the `Accepted` condition.
fn select(
    route: &Route,
    parent: &ParentReference,
    state: &GatewayState<'_>,
    world: &World<'_>,
) -> Result<Vec<Selected>, Condition> {
    if !state.is_accepted() {
        return Err(Condition::no("NoMatchingParent", "the gateway is not accepted"));
    }
    let named = |index: &usize| {
        let listener = &state.listeners[*index];
        is_of_parent(listener.set, parent, route)
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
            let home = listener.namespace(state.gateway);
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
            (!hosts.is_empty()).then_some((index, hosts))
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
