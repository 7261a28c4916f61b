//! What follows changes of objects that Istio's depend on.
//!
//! ```text
//! changed objects ─▶ registry ─▶ destinations looked at again
//!        ├ gateways ─▶ sockets whose servers are others, anew
//!        └ virtual services ─▶ taken out of the tables of their hosts, put in again
//! ```
//!
//! What nothing goes by any more is given back last, so that what stays is never made twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_api::{Kind, Object, ObjectKey, Objects};

use super::{
    Resolved, Trouble, TroubleKind,
    destinations::Destinations,
    http::Compiler,
    key, key_of,
    ports::{self, Of, Port},
    registry::{self, Mesh, Registry, Touched},
    selects,
    services::{At, Bound, Services, UnitKey},
    troubles::Troubles,
    workloads,
};
use crate::{
    addresses::Assigned,
    compile::{
        backends::Backends,
        proxies,
        world::{Name, World},
    },
    plan::{PortPlan, Rule},
    slots::Filled,
};

/// What came of Istio's objects, and what is needed to follow their changes.
#[derive(Default)]
pub(in crate::compile) struct Istio {
    /// Those that there are. While there are none, nothing is known of other objects either.
    objects: BTreeSet<ObjectKey>,
    registry: Registry,
    resolved: Resolved,
    destinations: Destinations,
    services: Services,
    ports: BTreeMap<At, Port>,
    /// The sockets that a gateway has servers at.
    at: BTreeMap<Arc<str>, BTreeSet<At>>,
    troubles: Troubles,
    /// Of gateways that select no workload of the gate's, and of what proxies are told.
    not_selected: Vec<Trouble>,
    of_proxies: Vec<Trouble>,
    /// By workload: how many proxies before it are believed about clients.
    trusted: BTreeMap<&'static str, Option<u8>>,
    assigned: Assigned,
}

/// What a change came to.
#[derive(Default)]
pub(in crate::compile) struct Followed {
    /// Lists of routes that were compiled: of a virtual service for one port of a gateway.
    pub(in crate::compile) routes: usize,
    /// Destinations that were looked at again.
    pub(in crate::compile) destinations: usize,
    /// Hosts whose routes were put together.
    pub(in crate::compile) hosts: usize,
    /// Sockets that are others.
    pub(in crate::compile) ports: usize,
}

/// What is to be made anew.
#[derive(Default)]
struct Dirty {
    gateways: bool,
    /// Something that proxies of the gate's workloads may be told by.
    proxies: bool,
    services: BTreeSet<Name>,
    touched: Touched,
}

/// What of the Gateway API's is shared.
pub(in crate::compile) struct Parts<'p> {
    pub(in crate::compile) world: World<'p>,
    pub(in crate::compile) backends: &'p mut Backends,
    pub(in crate::compile) rules: &'p mut Filled<Rule>,
}

/// Whether objects of a kind are Istio's.
const fn is_istio(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::IstioGateway | Kind::VirtualService | Kind::DestinationRule | Kind::ServiceEntry | Kind::WorkloadEntry
    )
}

impl Istio {
    /// The sockets, in no particular order.
    pub(in crate::compile) fn ports(&self) -> impl Iterator<Item = &Arc<PortPlan>> {
        self.ports.values().map(|port| &port.plan)
    }

    /// What is most likely not meant, in order.
    pub(in crate::compile) fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.troubles.iter()
    }

    /// Names whose addresses back ends need.
    pub(in crate::compile) const fn names(&self) -> &BTreeSet<Arc<str>> {
        self.destinations.names()
    }

    /// Follows changes: `changed` are the objects that are new, others or gone, and `endpoints` the services that have other ones.
    pub(in crate::compile) fn follow(
        &mut self,
        (changed, endpoints): (&[ObjectKey], &BTreeSet<Name>),
        assigned: &Assigned,
        resolved: &Resolved,
        parts: Parts<'_>,
    ) -> Followed {
        let objects = parts.world.objects;
        let (was_there, mut dirty) = (!self.objects.is_empty(), Dirty::default());
        for key in changed.iter().filter(|key| is_istio(key.kind)) {
            let is_there = objects.get(key).is_some();
            let is_other = if is_there { self.objects.insert(key.clone()) } else { self.objects.remove(key) };
            // Whether a gateway is there is told of those who name it.
            if is_other && key.kind == Kind::IstioGateway {
                let gateway = format!("{}/{}", key.namespace, key.name);
                dirty.services.extend(self.services.of_gateway(&gateway).cloned());
            }
        }
        if !was_there && self.objects.is_empty() {
            return Followed::default();
        }
        if was_there {
            for key in changed {
                self.take(key, objects, &mut dirty);
            }
        } else {
            for object in objects.iter() {
                self.take(&object.key(), objects, &mut dirty);
            }
        }
        dirty.touched.hosts.extend(endpoints.iter().map(registry::host_of));
        let of_istio = assigned.range(key("")..).take_while(|((namespace, _), _)| namespace.is_empty());
        let own: Assigned = of_istio.map(|(key, all)| (key.clone(), all.clone())).collect();
        dirty.gateways |= self.assigned != own;
        self.assigned = own;
        if self.resolved != *resolved {
            let names = self.resolved.keys().chain(resolved.keys());
            let other = names.filter(|name| self.resolved.get(*name) != resolved.get(*name));
            dirty.touched.names.extend(other.cloned());
            self.resolved.clone_from(resolved);
        }
        let followed = self.make(&dirty, parts);
        if self.objects.is_empty() {
            *self = Self::default();
        }
        followed
    }

    /// Brings what an object is found by up to date, and tells what depends on it.
    fn take(&mut self, key: &ObjectKey, objects: &Objects, dirty: &mut Dirty) {
        let own = (Arc::clone(&key.namespace), Arc::clone(&key.name));
        dirty.proxies |= &*key.namespace == super::NAMESPACE && proxies::are_told_by(key.kind);
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "others are the registry's, or nothing of Istio's depends on them"
        )]
        match key.kind {
            Kind::IstioGateway => dirty.gateways = true,
            Kind::VirtualService => {
                dirty.services.extend(self.services.of_delegate(&own).cloned());
                dirty.services.insert(own);
            }
            _ => self.registry.take(key, objects.get(key), &mut dirty.touched),
        }
    }

    fn make(&mut self, dirty: &Dirty, Parts { world, backends, rules }: Parts<'_>) -> Followed {
        let mesh = Mesh { world, registry: &self.registry, resolved: &self.resolved };
        let destinations = self.destinations.refresh(&dirty.touched, mesh, backends, &mut self.troubles);
        let shared = (&mut self.destinations, &mut self.troubles);
        let mut round = Round {
            services: &mut self.services,
            ports: &mut self.ports,
            at: &mut self.at,
            compiler: Compiler::new(mesh, shared, backends, rules),
            followed: Followed { destinations, ..Followed::default() },
            fresh: BTreeSet::new(),
            taken_out: Vec::new(),
            given_back: Vec::new(),
            left: Vec::new(),
        };
        if dirty.gateways || dirty.proxies {
            let (trusted, told) = proxies_of(&world);
            round.compiler.told.add(&told);
            round.compiler.told.remove(&std::mem::replace(&mut self.of_proxies, told));
            self.trusted = trusted;
        }
        round.take_out(&dirty.services);
        if dirty.gateways {
            let unselected = not_selected(world.objects);
            round.compiler.told.add(&unselected);
            round.compiler.told.remove(&std::mem::replace(&mut self.not_selected, unselected));
            round.replace_ports(sockets(world.objects, &self.assigned));
        }
        round.put_in(&dirty.services);
        round.finish(&dirty.touched, &self.trusted)
    }
}

/// The servers at every socket of the gate's.
fn sockets(objects: &Objects, assigned: &Assigned) -> BTreeMap<At, Vec<Of>> {
    let mut out = BTreeMap::new();
    for (workload, gateways) in workloads(objects) {
        let by_port = ports::by_port(&gateways);
        for address in assigned.get(&key(workload)).into_iter().flatten() {
            out.extend(by_port.iter().map(|(port, servers)| ((workload, *address, *port), servers.clone())));
        }
    }
    out
}

fn not_selected(objects: &Objects) -> Vec<Trouble> {
    let selected = super::selected(objects);
    let is_there = |labels: &[(&str, &str)]| selected.iter().any(|name| super::labels(name) == labels);
    let all = objects
        .istio_gateways()
        .filter(|gateway| !super::WORKLOADS.iter().any(|(_, labels)| is_there(labels) && selects(gateway, labels)));
    let told = all.map(|gateway| {
        let labels: Vec<String> = gateway.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let known = "istio=ingressgateway, istio=ingress and istio=egressgateway are the gate's";
        let message = format!("the selector {} selects no workload of the gate: {known}", labels.join(","));
        let (object, location) = (key_of(Kind::IstioGateway, &gateway.meta), gateway.meta.location.clone());
        Trouble { kind: TroubleKind::NotSelected, object, location, message }
    });
    told.collect()
}

/// What the proxies of the gate's workloads are told, and what of it is not gone by.
fn proxies_of(world: &World<'_>) -> (BTreeMap<&'static str, Option<u8>>, Vec<Trouble>) {
    let (mut trusted, mut troubles) = (BTreeMap::new(), Vec::new());
    for workload in super::selected(world.objects) {
        let said = proxies::of_workload(super::labels(workload), world);
        trusted.insert(workload, said.trusted);
        troubles.extend(said.notes.into_iter().map(|(object, meta, message)| {
            let location = meta.location;
            Trouble { kind: TroubleKind::NotEnforced, object, location, message }
        }));
    }
    (trusted, troubles)
}

/// One change that is followed.
struct Round<'r> {
    services: &'r mut Services,
    ports: &'r mut BTreeMap<At, Port>,
    at: &'r mut BTreeMap<Arc<str>, BTreeSet<At>>,
    compiler: Compiler<'r>,
    followed: Followed,
    /// Sockets that are put together anew.
    fresh: BTreeSet<At>,
    /// What is to be given back at the end.
    taken_out: Vec<Bound>,
    given_back: Vec<(Name, UnitKey)>,
    left: Vec<Port>,
}

impl Round<'_> {
    fn take_out(&mut self, services: &BTreeSet<Name>) {
        for name in services {
            let Some(bound) = self.services.take_out(name, &mut self.compiler) else { continue };
            for (at, placed) in &bound.placed {
                if let Some(port) = self.ports.get_mut(at) {
                    port.take_out(placed);
                }
            }
            self.taken_out.push(bound);
        }
    }

    /// Puts sockets together whose servers are others, with the virtual services that are there.
    fn replace_ports(&mut self, mut wanted: BTreeMap<At, Vec<Of>>) {
        let is_other =
            |at: &At, port: &mut Port| wanted.get(at).is_none_or(|servers| !ports::are_same(servers, &port.named));
        for (at, port) in self.ports.extract_if(.., is_other) {
            for name in bound_to(&port, self.services) {
                let placed = self.services.all.get_mut(&name).and_then(|bound| bound.placed.remove(&at));
                let units = placed.into_iter().flatten().map(|placed| (name.clone(), placed.unit));
                self.given_back.extend(units);
            }
            self.left.push(port);
        }
        wanted.retain(|at, _| !self.ports.contains_key(at));
        for (at, servers) in wanted {
            let mut port = Port::new(at, servers, &mut self.compiler);
            for name in bound_to(&port, self.services) {
                if let Some(bound) = self.services.all.get_mut(&name) {
                    self.followed.routes += port.put_in(bound, None, &mut self.compiler);
                }
            }
            self.ports.insert(at, port);
            self.fresh.insert(at);
        }
        self.at.clear();
        for (at, port) in &*self.ports {
            for gateway in port.gateways() {
                self.at.entry(gateway).or_default().insert(*at);
            }
        }
    }

    fn put_in(&mut self, services: &BTreeSet<Name>) {
        let objects = self.compiler.mesh.world.objects;
        let is_there = |gateway: &str| {
            let (namespace, name) = gateway.split_once('/').unwrap_or_default();
            let key = ObjectKey { kind: Kind::IstioGateway, namespace: namespace.into(), name: name.into() };
            objects.get(&key).is_some()
        };
        for name in services {
            let (namespace, own) = (Arc::clone(&name.0), Arc::clone(&name.1));
            let key = ObjectKey { kind: Kind::VirtualService, namespace, name: own };
            let Some(Object::VirtualService(of)) = objects.get(&key) else { continue };
            let expanded = self.services.put_in(of, objects, is_there, &mut self.compiler);
            let Some(bound) = self.services.all.get_mut(name) else { continue };
            let at: BTreeSet<At> =
                bound.gateways.iter().filter_map(|gateway| self.at.get(gateway)).flatten().copied().collect();
            for at in at {
                if let Some(port) = self.ports.get_mut(&at) {
                    self.followed.routes += port.put_in(bound, Some(&expanded), &mut self.compiler);
                }
            }
        }
    }

    /// Puts together what is another, and gives back what nothing goes by any more.
    fn finish(mut self, touched: &Touched, trusted: &BTreeMap<&str, Option<u8>>) -> Followed {
        for (at, port) in &mut *self.ports {
            let is_other = port.trust(trusted.get(at.0).copied().flatten());
            if is_other {
                self.fresh.insert(*at);
            }
            let (hosts, is_other) = port.refresh(touched, self.fresh.contains(at), &mut self.compiler);
            self.followed.hosts += hosts;
            self.followed.ports += usize::from(is_other);
        }
        for (name, unit) in &self.given_back {
            if let Some(bound) = self.services.all.get_mut(name) {
                bound.give_back(unit, &mut self.compiler);
            }
        }
        self.taken_out.into_iter().for_each(|bound| bound.retire(&mut self.compiler));
        self.left.iter().for_each(|port| port.retire(&mut self.compiler));
        self.followed
    }
}

/// The virtual services that name a gateway with a server at a socket.
fn bound_to(port: &Port, services: &Services) -> BTreeSet<Name> {
    port.gateways().iter().flat_map(|gateway| services.of_gateway(gateway)).cloned().collect()
}
