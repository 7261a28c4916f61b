//! Objects to a plan and statuses, brought up to date by what changed.
//!
//! ```text
//! changed objects ─▶ services, gateways, namespaces that are others ─▶ routes that depend on them, and their rivals
//!                                                                       └▶ taken out ─▶ gateways made anew ─▶ put in
//! ```
//!
//! What depends on nothing that changed is kept: rules, back ends, tables of hosts, ports, statuses. Istio's objects are followed beside
//! (`istio/follow.rs`): they share rules, back ends and certificates alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::json;
use strait_api::{GatewayClass, GatewayDefaultScope, Kind, Object, ObjectKey, Objects};

use super::{
    GATEWAY_VERSION, Resolved, Trouble,
    attach::{Attached, Listening, Parts},
    backends::Backends,
    classes,
    gateways::{self, GatewayState, class_accepted, referred},
    istio::{self, Istio},
    ports, proxies,
    world::{Index, Name, World, services},
};
use crate::{
    addresses::Assigned,
    hindrance::{Hindrance, Hindrances},
    plan::{Plan, PortPlan},
    status::{Condition, RouteStatus, SUPPORTED_FEATURES, Status, conditions},
};

/// What came of a set of objects, and what is needed to follow its changes.
#[derive(Default)]
pub struct Compiler {
    index: Index,
    gateways: BTreeMap<Name, GatewayState>,
    /// What gateways refer to, whether it is there or not.
    gateway_references: BTreeSet<ObjectKey>,
    pub(super) attached: Attached,
    backends: Backends,
    ports: BTreeMap<ports::Place, Arc<PortPlan>>,
    /// Of all but routes.
    statuses: BTreeMap<ObjectKey, Status>,
    assigned: Assigned,
    hindrances: Hindrances,
    istio: Istio,
}

/// What a change came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recompiled {
    /// Objects whose status is new, another or gone, in order. Some may be as they were.
    pub statuses: BTreeSet<ObjectKey>,
    /// How many routes were compiled.
    pub routes: usize,
    /// How many gateways were compiled.
    pub gateways: usize,
    /// How many ports were put together, Istio's included.
    pub ports: usize,
    /// Of Istio's virtual services: how many lists of routes were compiled, each for one port of a gateway.
    pub virtual_services: usize,
    /// How many of Istio's destinations were looked at again.
    pub destinations: usize,
    /// How many hosts' tables of Istio's routes were put together.
    pub hosts: usize,
}

/// What is to be made anew.
#[derive(Default)]
struct Dirty {
    routes: BTreeSet<ObjectKey>,
    gateways: bool,
    policies: bool,
    /// Services whose endpoints may be others.
    endpoints: BTreeSet<Name>,
    /// Services that, or whose policies, may be others.
    services: BTreeSet<Name>,
}

fn is_route(kind: Kind) -> bool {
    matches!(kind, Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute | Kind::UdpRoute)
}

/// Gateways that were compiled.
struct Fresh {
    states: BTreeMap<Name, GatewayState>,
    /// Those that take other routes than before.
    other: BTreeSet<Name>,
    /// Of classes, and of listener sets that are not allowed.
    statuses: Vec<Status>,
}

impl Compiler {
    /// What came of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compiles what differs since the last call: `changed` names every object of `objects` that is new, another or gone since then. Gateways
    /// have the addresses `assigned`, and names of back ends those `resolved`. `now` (RFC 3339) is written to conditions that change.
    ///
    /// What comes of it is what would come of compiling all of `objects` from nothing, but for the numbers of rules and back ends.
    pub fn update(
        &mut self,
        objects: &Objects,
        changed: &[ObjectKey],
        assigned: &Assigned,
        resolved: &Resolved,
        now: &str,
    ) -> Recompiled {
        let now: Arc<str> = now.into();
        let mut dirty = self.dirty(objects, changed);
        dirty.gateways |= self.assigned != *assigned;
        let index = std::mem::take(&mut self.index);
        let world = World { objects, index: &index };
        let mut recompiled = Recompiled::default();
        let endpoints = dirty.endpoints.clone();
        self.follow(dirty, world, assigned, &now, &mut recompiled);
        let parts = istio::Parts { world, backends: &mut self.backends, rules: &mut self.attached.rules };
        let followed = self.istio.follow((changed, &endpoints), assigned, resolved, parts);
        recompiled.ports += followed.ports;
        recompiled.virtual_services = followed.routes;
        (recompiled.destinations, recompiled.hosts) = (followed.destinations, followed.hosts);
        self.index = index;
        recompiled
    }

    /// What is served.
    pub fn plan(&self) -> Plan {
        let mut ports: Vec<_> = self.ports.values().chain(self.istio.ports()).cloned().collect();
        ports.sort_by_key(|port| ports::place(port));
        Plan {
            ports,
            rules: self.attached.rules.slots().clone(),
            backends: self.backends.slots().clone(),
            certificates: self.backends.certificates.slots().clone(),
        }
    }

    /// Takes in which ports cannot be listened on, all of them; what was before is forgotten. Gives the objects whose status may be another.
    /// Routes stay where they are: what is in the way may go away again.
    pub fn listening(&mut self, hindrances: Hindrances, now: &str) -> BTreeSet<ObjectKey> {
        let before = std::mem::replace(&mut self.hindrances, hindrances);
        let differs = |(key, _): &(&(Arc<str>, u16, bool), &Hindrance)| before.get(*key) != self.hindrances.get(*key);
        let other: BTreeSet<&Arc<str>> =
            before.iter().chain(&self.hindrances).filter(differs).map(|((gateway, ..), _)| gateway).collect();
        let mut statuses = Vec::new();
        for ((namespace, name), gateway) in &self.gateways {
            if !other.is_empty() && other.contains(&Arc::from(format!("{namespace}/{name}"))) {
                statuses.push(gateway.status(&self.hindrances, now));
                statuses.extend(gateway.set_statuses(&self.hindrances, now));
            }
        }
        let mut changed = BTreeSet::new();
        self.keep(statuses, (false, false), &mut changed);
        changed
    }

    /// The status of every Gateway API object that concerns this controller, in order of kind, namespace and name.
    pub fn statuses(&self) -> Vec<Status> {
        let keys: BTreeSet<&ObjectKey> = self.status_keys().collect();
        keys.into_iter().filter_map(|key| self.status(key)).collect()
    }

    /// The status of an object, if it concerns this controller.
    pub fn status(&self, object: &ObjectKey) -> Option<Status> {
        match self.attached.routes.get(object) {
            Some(route) => route.status.as_ref().map(|status| status.status(object)),
            None => self.statuses.get(object).cloned(),
        }
    }

    fn status_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        let routes = self.attached.routes.iter().filter(|(_, route)| route.status.is_some());
        self.statuses.keys().chain(routes.map(|(key, _)| key))
    }

    /// What of Istio's objects is most likely not meant, in order.
    pub fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.istio.troubles()
    }

    /// Names whose addresses back ends need.
    pub const fn names(&self) -> &BTreeSet<Arc<str>> {
        self.istio.names()
    }

    pub(super) const fn gateways(&self) -> &BTreeMap<Name, GatewayState> {
        &self.gateways
    }

    /// Follows changes of what the Gateway API's objects depend on.
    fn follow(
        &mut self,
        mut dirty: Dirty,
        world: World<'_>,
        assigned: &Assigned,
        now: &Arc<str>,
        recompiled: &mut Recompiled,
    ) {
        let mut touched = BTreeMap::new();
        let mut fresh = None;
        if dirty.gateways {
            let gateways = self.fresh_gateways(&mut dirty, &world, assigned, now);
            recompiled.gateways = gateways.states.len();
            touched.extend(gateways.states.keys().map(|name| (name.clone(), BTreeSet::new())));
            fresh = Some(gateways);
        }
        for service in &dirty.services {
            dirty.routes.extend(self.attached.of_service(service).cloned());
        }
        let states = fresh.as_ref().map_or(&self.gateways, |fresh| &fresh.states);
        self.attached.add_rivals(&mut dirty.routes, states, &world);
        let mut parts =
            Parts { gateways: &mut self.gateways, backends: &mut self.backends, world, now, touched: &mut touched };
        let take_out = |key: &ObjectKey| Some((key.clone(), self.attached.take_out(key, &mut parts)?));
        let old: BTreeMap<ObjectKey, RouteStatus> = dirty.routes.iter().filter_map(take_out).collect();
        recompiled.statuses.extend(old.keys().cloned());
        let mut statuses = fresh.map_or_else(Vec::new, |fresh| self.take_over(fresh));
        let mut parts =
            Parts { gateways: &mut self.gateways, backends: &mut self.backends, world, now, touched: &mut touched };
        for key in by_age(&dirty.routes, world.objects) {
            let Some(Object::Route(route)) = world.objects.get(key) else { continue };
            self.attached.put_in(route, old.get(key), &mut parts);
            recompiled.routes += 1;
            recompiled.statuses.insert(key.clone());
        }
        for service in &dirty.endpoints {
            self.backends.endpoints_changed(service, &world);
        }
        recompiled.ports =
            ports::update(&mut self.ports, &self.gateways, &self.attached.tables, &touched, dirty.gateways);
        for gateway in touched.keys().filter_map(|name| self.gateways.get(name)) {
            statuses.push(gateway.status(&self.hindrances, now));
            statuses.extend(gateway.set_statuses(&self.hindrances, now));
        }
        let policies = dirty.policies || std::mem::take(&mut self.backends.other_ancestors);
        if policies {
            statuses.extend(self.backends.policy_statuses(&world, now));
        }
        self.keep(statuses, (dirty.gateways, policies), &mut recompiled.statuses);
    }

    /// Compiles all gateways; adds the routes of those that are others.
    fn fresh_gateways(&mut self, dirty: &mut Dirty, world: &World<'_>, assigned: &Assigned, now: &Arc<str>) -> Fresh {
        self.assigned.clone_from(assigned);
        let known = classes(world.objects);
        let (states, refused) = gateways::states(&known, world, &mut self.backends.certificates, assigned, now);
        let unlike = |(name, state): &(&Name, &GatewayState)| {
            self.gateways.get(*name).is_none_or(|before| !before.is_alike(state))
        };
        let other: BTreeSet<Name> = states.iter().filter(unlike).map(|(name, _)| name.clone()).collect();
        let gone = self.gateways.keys().filter(|name| !states.contains_key(*name));
        let gone: BTreeSet<Name> = gone.cloned().collect();
        let some_default = states
            .iter()
            .any(|(name, of)| other.contains(name) && of.gateway.default_scope == GatewayDefaultScope::All);
        self.add_routes_of((&other, &gone), some_default, world, dirty);
        let statuses = class_statuses(&known, now).into_iter().chain(refused).collect();
        Fresh { states, other, statuses }
    }

    /// Puts gateways in the place of those before, whose routes that are to be compiled are taken out. Gives the statuses that came of them.
    fn take_over(&mut self, fresh: Fresh) -> Vec<Status> {
        let Fresh { mut states, other, statuses } = fresh;
        for (name, state) in &mut states {
            if !other.contains(name)
                && let Some(before) = self.gateways.get(name)
            {
                state.keep_counts(before);
            } else {
                let mut tables = Vec::new();
                tables.resize_with(state.listeners.len(), Listening::default);
                self.attached.tables.insert(name.clone(), tables);
            }
        }
        self.attached.tables.retain(|name, _| states.contains_key(name));
        self.gateway_references = states.values().flat_map(GatewayState::references).collect();
        let before = std::mem::replace(&mut self.gateways, states);
        for id in before.values().flat_map(GatewayState::certificates) {
            self.backends.certificates.release(id);
        }
        statuses
    }

    /// What is to be made anew because of changed objects alone. Brings the index up to date.
    fn dirty(&mut self, objects: &Objects, changed: &[ObjectKey]) -> Dirty {
        let mut dirty = Dirty::default();
        for key in changed {
            let (endpoints, policies) = self.index.take(key, objects);
            dirty.endpoints.extend(endpoints);
            dirty.services.extend(policies);
            dirty.policies |= matches!(
                key.kind,
                Kind::Service
                    | Kind::ConfigMap
                    | Kind::Secret
                    | Kind::ReferenceGrant
                    | Kind::BackendTlsPolicy
                    | Kind::BackendTrafficPolicy
            );
            dirty.gateways |= proxies::is_of_mesh(key);
            #[expect(clippy::wildcard_enum_match_arm, reason = "others concern no gateway, or are in the index")]
            match key.kind {
                kind if is_route(kind) => _ = dirty.routes.insert(key.clone()),
                Kind::Gateway | Kind::GatewayClass => dirty.gateways = true,
                Kind::ListenerSet => {
                    dirty.gateways = true;
                    let parent = (true, Arc::clone(&key.namespace), Arc::clone(&key.name));
                    dirty.routes.extend(self.attached.of_parent(&parent).cloned());
                }
                Kind::Namespace => {
                    dirty.gateways = true;
                    dirty.routes.extend(self.attached.of_namespace(&key.name).cloned());
                }
                Kind::Service => _ = dirty.services.insert((Arc::clone(&key.namespace), Arc::clone(&key.name))),
                Kind::Secret | Kind::ConfigMap => {
                    dirty.gateways |= self.gateway_references.contains(key);
                    self.add_services_under(key, &mut dirty);
                }
                Kind::ReferenceGrant => {
                    dirty.gateways = true;
                    dirty.routes.extend(self.attached.with_references_into(&key.namespace).cloned());
                    self.add_services_into(&key.namespace, &mut dirty);
                }
                _ => {}
            }
        }
        dirty
    }

    /// Adds the services under policies that refer to a secret or config map.
    fn add_services_under(&self, object: &ObjectKey, dirty: &mut Dirty) {
        for ((home, _), policy) in &self.index.tls_policies {
            if policy.ca_certificates.iter().any(|of| referred(home, of).as_ref() == Some(object)) {
                dirty.services.extend(services(&policy.targets).map(|name| (Arc::clone(home), Arc::clone(name))));
            }
        }
    }

    /// Adds the services under policies that refer to something in another namespace.
    fn add_services_into(&self, namespace: &Arc<str>, dirty: &mut Dirty) {
        for ((home, _), policy) in &self.index.tls_policies {
            if home != namespace && policy.ca_certificates.iter().any(|of| of.namespace.as_ref() == Some(namespace)) {
                dirty.services.extend(services(&policy.targets).map(|name| (Arc::clone(home), Arc::clone(name))));
            }
        }
    }

    /// Adds the routes of gateways that are others or gone, and of their listener sets; and those that ask for default gateways, where one of
    /// the others is.
    fn add_routes_of(
        &self,
        (other, gone): (&BTreeSet<Name>, &BTreeSet<Name>),
        some_default: bool,
        world: &World<'_>,
        dirty: &mut Dirty,
    ) {
        for (namespace, name) in other.iter().chain(gone) {
            let parent = (false, Arc::clone(namespace), Arc::clone(name));
            dirty.routes.extend(self.attached.of_parent(&parent).cloned());
        }
        // A set that is at another gateway now was at one whose listeners are others.
        for ((namespace, name), set) in &world.index.sets {
            let Some(gateway) = gateways::gateway_of(set) else { continue };
            let gateway = (Arc::clone(gateway.0), Arc::clone(gateway.1));
            if other.contains(&gateway) {
                let parent = (true, Arc::clone(namespace), Arc::clone(name));
                dirty.routes.extend(self.attached.of_parent(&parent).cloned());
            }
        }
        for (key, route) in &self.attached.routes {
            let asks = some_default && route.route.default_gateways == GatewayDefaultScope::All;
            if asks || route.parents.iter().any(|of| other.contains(&of.gateway) || gone.contains(&of.gateway)) {
                dirty.routes.insert(key.clone());
            }
        }
    }

    /// Takes in statuses, with the times of those before. Where all of gateways or of policies were compiled, others of theirs are gone.
    fn keep(&mut self, statuses: Vec<Status>, (gateways, policies): (bool, bool), others: &mut BTreeSet<ObjectKey>) {
        let is_policy = |kind| matches!(kind, Kind::BackendTlsPolicy | Kind::BackendTrafficPolicy);
        let all = |kind| if is_policy(kind) { policies } else { gateways };
        let mut old = BTreeMap::new();
        if gateways || policies {
            old.extend(self.statuses.extract_if(.., |key, _| all(key.kind)));
            others.extend(old.keys().cloned());
        }
        for mut status in statuses {
            let key = status.object.clone();
            if let Some(known) = old.get(&key).or_else(|| self.statuses.get(&key)) {
                status.keep_times(known);
            }
            others.insert(key.clone());
            self.statuses.insert(key, status);
        }
    }
}

/// Routes that are there, the older first.
fn by_age<'k>(keys: &'k BTreeSet<ObjectKey>, objects: &Objects) -> Vec<&'k ObjectKey> {
    let mut all: Vec<&ObjectKey> = keys.iter().collect();
    all.sort_by_cached_key(|key| {
        let created = objects.get(key).and_then(|object| object.meta().created);
        (created.unwrap_or(i64::MAX), format!("{}/{}", key.namespace, key.name), key.kind)
    });
    all
}

fn class_statuses(classes: &BTreeMap<Arc<str>, Option<Arc<GatewayClass>>>, now: &str) -> Vec<Status> {
    let declared = classes.values().flatten();
    declared
        .map(|class| {
            let accepted = class_accepted(class);
            let version = Condition::yes("SupportedVersion");
            let features: Vec<_> = SUPPORTED_FEATURES.iter().map(|name| json!({"name": name})).collect();
            Status {
                object: ObjectKey {
                    kind: Kind::GatewayClass,
                    namespace: "".into(),
                    name: Arc::clone(&class.meta.name),
                },
                api_version: GATEWAY_VERSION,
                status: json!({
                    "conditions": conditions(
                        &[("Accepted", &accepted), ("SupportedVersion", &version)],
                        class.meta.generation,
                        now,
                    ),
                    "supportedFeatures": features,
                }),
            }
        })
        .collect()
}
