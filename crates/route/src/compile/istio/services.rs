//! Virtual services, by the gateways that they bind to, and what each brought with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use strait_api::{
    Kind, Objects,
    istio::{HttpAction, TcpRoute, VirtualService},
};
use strait_base::Location;

use super::{
    Age, NAMESPACE, Trouble, TroubleKind, age,
    bind::absolute,
    delegates::{self, Expanded},
    groups::{Host, Spot},
    http::{Brought, Compiler, Place},
    key_of,
};
use crate::{compile::world::Name, ordered::OrderedMatch, plan::Split};

/// One of the gate's sockets: the workload, its address and the port.
pub(super) type At = (&'static str, IpAddr, u16);

/// A virtual service that names a gateway.
pub(super) struct Bound {
    pub(super) of: Arc<VirtualService>,
    pub(super) age: Age,
    /// The gateways that it names, as `NAMESPACE/NAME`.
    pub(super) gateways: Vec<Arc<str>>,
    /// Whether it is visible to the gate.
    pub(super) is_served: bool,
    /// Whether it has HTTP routes, those of delegates included.
    pub(super) has_routes: bool,
    delegates: Vec<Name>,
    troubles: Vec<Trouble>,
    units: BTreeMap<UnitKey, Unit>,
    /// Where it is in tables.
    pub(super) placed: BTreeMap<At, Vec<Placed>>,
}

/// Which of a virtual service's routes, for which gateway, at which socket.
pub(super) type UnitKey = (Which, Arc<str>, At);

/// The lists of routes of a virtual service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    Http,
    Tls,
    Tcp,
}

/// Routes for one place.
struct Unit {
    routes: Routes,
    brought: Brought,
    /// How many places in tables go by it.
    places: usize,
}

/// What routes came to.
#[derive(Clone)]
pub(super) enum Routes {
    Http(Arc<[Arc<OrderedMatch>]>),
    Tls(Arc<[TlsRouted]>),
    Tcp(Option<(Split, Location)>),
}

/// A TLS route: its place in the list, the server names that it is for, where it goes, and where it stands.
pub(super) type TlsRouted = (usize, Vec<Arc<str>>, Split, Location);

/// Where a virtual service is in the tables of a socket.
pub(super) struct Placed {
    pub(super) group: usize,
    pub(super) claims: Vec<(Host, Spot)>,
    /// Hosts that are redirected to HTTPS because of it.
    pub(super) redirects: Vec<Host>,
    pub(super) unit: UnitKey,
}

/// All of them.
#[derive(Default)]
pub(super) struct Services {
    pub(super) all: BTreeMap<Name, Bound>,
    by_gateway: BTreeMap<Arc<str>, BTreeSet<Name>>,
    /// Those that delegate, by the virtual service that they name.
    by_delegate: BTreeMap<Name, BTreeSet<Name>>,
}

impl Services {
    /// What names a gateway.
    pub(super) fn of_gateway(&self, gateway: &str) -> impl Iterator<Item = &Name> {
        self.by_gateway.get(gateway).into_iter().flatten()
    }

    /// What delegates to a virtual service.
    pub(super) fn of_delegate(&self, delegate: &Name) -> impl Iterator<Item = &Name> {
        self.by_delegate.get(delegate).into_iter().flatten()
    }

    /// Takes one out. It is in no table any more.
    pub(super) fn take_out(&mut self, name: &Name, compiler: &mut Compiler<'_>) -> Option<Bound> {
        let bound = self.all.remove(name)?;
        for gateway in &bound.gateways {
            drop_from(&mut self.by_gateway, gateway, name);
        }
        for delegate in &bound.delegates {
            drop_from(&mut self.by_delegate, delegate, name);
        }
        compiler.told.remove(&bound.troubles);
        Some(bound)
    }

    /// Puts one in, in no table yet. Gives its routes, those of its delegates in their places.
    pub(super) fn put_in<'o>(
        &mut self,
        of: &'o Arc<VirtualService>,
        objects: &'o Objects,
        is_there: impl Fn(&str) -> bool,
        compiler: &mut Compiler<'_>,
    ) -> Vec<Expanded<'o>> {
        let home = &of.meta.namespace;
        // Those for the mesh alone are for proxies at pods.
        let named = of.gateways.iter().filter(|name| &***name != "mesh");
        let mut gateways: Vec<Arc<str>> = named.map(|name| absolute(name, home)).collect();
        if gateways.is_empty() || of.hosts.is_empty() {
            return Vec::new();
        }
        let mut troubles = Vec::new();
        let mut missing = |message| {
            let (object, location) = (key_of(Kind::VirtualService, &of.meta), of.meta.location.clone());
            troubles.push(Trouble { kind: TroubleKind::Missing, object, location, message });
        };
        for gateway in gateways.iter().filter(|name| !is_there(name)) {
            missing(format!("there is no Gateway {gateway}: nothing is served there"));
        }
        let is_served = of.export_to.reaches(home, NAMESPACE);
        let mut routes = Vec::new();
        if is_served {
            routes = delegates::expand(of, objects, &mut troubles);
        } else {
            missing(format!("exportTo does not reach {NAMESPACE}, where the gate is: it is not served"));
        }
        let mut seen = BTreeSet::new();
        gateways.retain(|name| seen.insert(Arc::clone(name)));
        let name = (Arc::clone(home), Arc::clone(&of.meta.name));
        let delegates: Vec<Name> = delegated(of).collect();
        for gateway in &gateways {
            self.by_gateway.entry(Arc::clone(gateway)).or_default().insert(name.clone());
        }
        for delegate in &delegates {
            self.by_delegate.entry(delegate.clone()).or_default().insert(name.clone());
        }
        compiler.told.add(&troubles);
        let bound = Bound {
            of: Arc::clone(of),
            age: age(&of.meta),
            gateways,
            is_served,
            has_routes: !routes.is_empty(),
            delegates,
            troubles,
            units: BTreeMap::new(),
            placed: BTreeMap::new(),
        };
        self.all.insert(name, bound);
        routes
    }
}

fn delegated(of: &VirtualService) -> impl Iterator<Item = Name> {
    of.http.iter().filter_map(|route| match &route.action {
        HttpAction::Delegate(delegate) => {
            let namespace = delegate.namespace.as_ref().unwrap_or(&of.meta.namespace);
            Some((Arc::clone(namespace), Arc::clone(&delegate.name)))
        }
        HttpAction::Route(_) | HttpAction::Redirect(_) | HttpAction::DirectResponse(_) => None,
    })
}

fn drop_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<Name>>, key: &K, name: &Name) {
    let Some(names) = map.get_mut(key) else { return };
    names.remove(name);
    if names.is_empty() {
        map.remove(key);
    }
}

impl Bound {
    /// Its routes for a place, compiled unless they are already. `expanded` are its HTTP routes where they are at hand. Whoever asks gives them
    /// back.
    pub(super) fn unit(
        &mut self,
        key: &UnitKey,
        expanded: Option<&[Expanded<'_>]>,
        compiler: &mut Compiler<'_>,
    ) -> (Routes, bool) {
        if let Some(unit) = self.units.get_mut(key) {
            unit.places += 1;
            return (unit.routes.clone(), false);
        }
        let routes = match key.0 {
            Which::Http => {
                let own;
                let expanded = if let Some(expanded) = expanded {
                    expanded
                } else {
                    own = delegates::expand(&self.of, compiler.mesh.world.objects, &mut Vec::new());
                    &own
                };
                let place = Place { gateway: &key.1, workload: key.2.0, port: key.2.2 };
                Routes::Http(compiler.routes(&self.of.meta.namespace, expanded, place).into())
            }
            Which::Tls => Routes::Tls(self.tls(key, compiler).into()),
            Which::Tcp => Routes::Tcp(self.tcp(key, compiler)),
        };
        let unit = Unit { routes: routes.clone(), brought: compiler.brought(), places: 1 };
        self.units.insert(key.clone(), unit);
        (routes, true)
    }

    /// Gives routes back. What nothing goes by any more is gone.
    pub(super) fn give_back(&mut self, key: &UnitKey, compiler: &mut Compiler<'_>) {
        let Some(unit) = self.units.get_mut(key) else { return };
        unit.places -= 1;
        if unit.places == 0
            && let Some(unit) = self.units.remove(key)
        {
            compiler.release(&unit.brought);
        }
    }

    /// Gives all back.
    pub(super) fn retire(self, compiler: &mut Compiler<'_>) {
        for unit in self.units.into_values() {
            compiler.release(&unit.brought);
        }
    }

    /// The `tls` routes: by server name.
    fn tls(&self, (_, gateway, at): &UnitKey, compiler: &mut Compiler<'_>) -> Vec<TlsRouted> {
        let (home, object) = (&self.of.meta.namespace, key_of(Kind::VirtualService, &self.of.meta));
        let mut out = Vec::new();
        for (index, route) in self.of.tls.iter().enumerate() {
            let suits = route.matches.iter().filter(|of| suits(&of.connection, gateway, *at, home));
            let names: Vec<Arc<str>> = suits.flat_map(|of| &of.sni_hosts).cloned().collect();
            if !names.is_empty() {
                let split = compiler.split(&route.route, (home, at.2), &object);
                out.push((index, names, split, route.location.clone()));
            }
        }
        out
    }

    /// The first `tcp` route that suits. One without matches takes every connection; a client's address is no match that can be made.
    fn tcp(&self, (_, gateway, at): &UnitKey, compiler: &mut Compiler<'_>) -> Option<(Split, Location)> {
        let (home, object) = (&self.of.meta.namespace, key_of(Kind::VirtualService, &self.of.meta));
        let suits = |route: &&TcpRoute| {
            let mut matches = route.matches.iter().filter(|of| of.source_subnet.is_none());
            route.matches.is_empty() || matches.any(|of| suits(&of.connection, gateway, *at, home))
        };
        let route = self.of.tcp.iter().find(suits)?;
        Some((compiler.split(&route.route, (home, at.2), &object), route.location.clone()))
    }
}

fn suits(of: &strait_api::istio::ConnectionMatch, gateway: &str, (workload, address, port): At, home: &str) -> bool {
    let place = Place { gateway, workload, port };
    place.suits(of.port, &of.gateways, &of.source_labels, of.source_namespace.as_ref(), home) && of.covers(address)
}
