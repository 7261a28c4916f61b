//! Namespaces and links, made and changed until they are as a [`Configuration`] says.

use std::{collections::BTreeMap, sync::Arc};

use strait_datapath::{
    netlink::{self, Mac, Netlink, RouteScope, Veth, VethEnd},
    netns::{self, Netns},
    sysctl,
};

use crate::{
    error::Error,
    names::{Paths, Place, PodName},
    topology::{Configuration, PodPlace, Route, UPLINK, switch_port, uplink_mac},
};

/// The switch between nodes and the outside.
const SWITCH: &str = "fabric";

/// All namespaces of a lab.
pub(crate) struct Network {
    paths: Paths,
    fabric: Namespace,
    /// Nodes and the outside, which change as long as they live.
    routers: BTreeMap<Place, Namespace>,
    /// Pods, which are made once. One descriptor each: labs may have hundreds.
    pods: BTreeMap<PodName, Netns>,
}

struct Namespace {
    netns: Netns,
    netlink: Netlink,
    configured: Configuration,
}

impl Namespace {
    fn create(paths: &Paths, name: &str, prepare: fn() -> Result<(), sysctl::Error>) -> Result<Self, Error> {
        let netns = Netns::create(&paths.namespaces(), name)?;
        netns.run(|| prepare().and_then(|()| plain_speaking()))??;
        let mut netlink = Netlink::open(&netns)?;
        netlink.set_up("lo")?;
        Ok(Self { netns, netlink, configured: Configuration::default() })
    }

    /// Makes what is configured equal to `wanted`: what is new is added before what is old goes, so that nothing that
    /// stays is interrupted.
    fn configure(&mut self, wanted: &Configuration) -> Result<(), Error> {
        for (interface, address) in wanted.addresses.difference(&self.configured.addresses) {
            self.netlink.add_address(interface, *address)?;
        }
        for ((interface, address), mac) in &wanted.neighbours {
            if self.configured.neighbours.get(&(interface.clone(), *address)) != Some(mac) {
                self.netlink.add_neighbour(interface, *address, Mac(*mac))?;
            }
        }
        // A route for the same destination replaces the old one, which is then gone already.
        let replaced = |old: &Route| wanted.routes.iter().any(|new| new.destination == old.destination && new != old);
        for route in self.configured.routes.difference(&wanted.routes).filter(|old| !replaced(old)) {
            self.netlink.delete_route(&as_netlink(route))?;
        }
        for route in wanted.routes.difference(&self.configured.routes) {
            self.netlink.add_route(&as_netlink(route))?;
        }
        for (interface, address) in self.configured.addresses.difference(&wanted.addresses) {
            self.netlink.delete_address(interface, *address)?;
        }
        self.configured = wanted.clone();
        Ok(())
    }

    /// Forgets what went away with `interface`.
    fn forget(&mut self, interface: &str) {
        self.configured.addresses.retain(|(of, _)| of != interface);
        self.configured.routes.retain(|route| route.device != interface);
        self.configured.neighbours.retain(|(of, _), _| of != interface);
    }
}

fn as_netlink(route: &Route) -> netlink::Route<'_> {
    let mut out = match route.via {
        Some(via) => netlink::Route::to_gateway(route.destination, via).on(&route.device).onlink(),
        None => netlink::Route::to_link(route.destination, &route.device),
    };
    if route.destination.addr().is_ipv6() {
        out.scope = RouteScope::Universe;
    }
    match route.source {
        Some(source) => out.from(source),
        None => out,
    }
}

/// ICMP errors tell probes that a destination refused, so none may be held back; no interface invents addresses, which
/// would have it speak of itself to neighbours; and every user may ping.
fn plain_speaking() -> Result<(), sysctl::Error> {
    sysctl::set("net/ipv4/icmp_ratelimit", "0")?;
    sysctl::set("net/ipv4/icmp_ratemask", "0")?;
    sysctl::set("net/ipv4/ping_group_range", "0 2147483647")?;
    if sysctl::has_ipv6() {
        sysctl::set("net/ipv6/icmp/ratelimit", "0")?;
        sysctl::set("net/ipv6/conf/default/addr_gen_mode", "1")?;
    }
    Ok(())
}

impl Network {
    /// The fabric and the outside.
    pub(crate) fn create(paths: &Paths) -> Result<Self, Error> {
        let mut fabric = Namespace::create(paths, "_fabric", sysctl::host)?;
        fabric.netlink.create_bridge(SWITCH)?;
        fabric.netlink.set_up(SWITCH)?;
        let mut network = Self { paths: paths.clone(), fabric, routers: BTreeMap::new(), pods: BTreeMap::new() };
        network.plug_in(Place::Outside)?;
        Ok(network)
    }

    /// Makes a node: a router with an uplink.
    pub(crate) fn add_node(&mut self, name: &Arc<str>) -> Result<(), Error> {
        self.plug_in(Place::Node(Arc::clone(name)))
    }

    fn plug_in(&mut self, place: Place) -> Result<(), Error> {
        let mut namespace = Namespace::create(&self.paths, &place.file_name(), sysctl::router)?;
        let port = switch_port(&place);
        self.fabric.netlink.create_veth(&Veth {
            ends: [
                VethEnd { name: &port, mac: None, netns: None },
                VethEnd { name: UPLINK, mac: Some(Mac(uplink_mac(&place))), netns: Some(&namespace.netns) },
            ],
            mtu: None,
        })?;
        self.fabric.netlink.set_master(&port, SWITCH)?;
        self.fabric.netlink.set_up(&port)?;
        namespace.netlink.set_up(UPLINK)?;
        self.routers.insert(place, namespace);
        Ok(())
    }

    /// Makes the namespace and the link of a pod, configured on its side; the node's side stays down until
    /// [`Self::open_pod`], as nothing is enforced on it yet.
    pub(crate) fn add_pod(
        &mut self,
        name: &PodName,
        pod: &PodPlace,
        configuration: &Configuration,
    ) -> Result<(), Error> {
        let added = self.try_add_pod(name, pod, configuration);
        if added.is_err() {
            // A second try begins anew. What went wrong is the first failure, not that of clearing up.
            let _ = self.remove_pod(name, pod);
        }
        added
    }

    fn try_add_pod(&mut self, name: &PodName, pod: &PodPlace, configuration: &Configuration) -> Result<(), Error> {
        let place = Place::Pod(name.clone());
        let mut namespace = Namespace::create(&self.paths, &place.file_name(), sysctl::host)?;
        let node = self.node(&pod.node)?;
        node.netlink.create_veth(&Veth {
            ends: [
                VethEnd { name: &PodPlace::link(name), mac: Some(Mac(PodPlace::node_mac(name))), netns: None },
                VethEnd { name: UPLINK, mac: Some(Mac(PodPlace::mac(name))), netns: Some(&namespace.netns) },
            ],
            mtu: None,
        })?;
        namespace.netlink.set_up(UPLINK)?;
        namespace.configure(configuration)?;
        self.pods.insert(name.clone(), namespace.netns);
        Ok(())
    }

    /// Sets the node's side of a pod's link up.
    pub(crate) fn open_pod(&mut self, name: &PodName, pod: &PodPlace) -> Result<(), Error> {
        Ok(self.node(&pod.node)?.netlink.set_up(&PodPlace::link(name))?)
    }

    /// Takes a pod's link and namespace away.
    pub(crate) fn remove_pod(&mut self, name: &PodName, pod: &PodPlace) -> Result<(), Error> {
        let link = PodPlace::link(name);
        if let Ok(node) = self.node(&pod.node) {
            node.netlink.delete_link(&link)?;
            node.forget(&link);
        }
        self.pods.remove(name);
        Ok(netns::delete(&self.paths.namespaces(), &Place::Pod(name.clone()).file_name())?)
    }

    /// Takes a node's namespace away, and its uplink with it. Its pods must be gone.
    pub(crate) fn remove_node(&mut self, name: &Arc<str>) -> Result<(), Error> {
        let place = Place::Node(Arc::clone(name));
        self.fabric.netlink.delete_link(&switch_port(&place))?;
        self.routers.remove(&place);
        Ok(netns::delete(&self.paths.namespaces(), &place.file_name())?)
    }

    /// Makes the configuration of `place`, a node or the outside, equal to `wanted`.
    pub(crate) fn configure(&mut self, place: &Place, wanted: &Configuration) -> Result<(), Error> {
        match self.routers.get_mut(place) {
            Some(namespace) => namespace.configure(wanted),
            None => Ok(()),
        }
    }

    /// Whether the pod has its namespace and link.
    pub(crate) fn has_pod(&self, name: &PodName) -> bool {
        self.pods.contains_key(name)
    }

    /// The namespace of `place`.
    pub(crate) fn netns(&self, place: &Place) -> Option<&Netns> {
        match place {
            Place::Pod(name) => self.pods.get(name),
            Place::Node(_) | Place::Outside => self.routers.get(place).map(|namespace| &namespace.netns),
        }
    }

    fn node(&mut self, name: &Arc<str>) -> Result<&mut Namespace, Error> {
        let place = Place::Node(Arc::clone(name));
        self.routers.get_mut(&place).ok_or_else(|| Error::Supervisor(format!("there is no node {name}")))
    }
}
