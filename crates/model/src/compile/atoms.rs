//! Atoms: peers that no rule in force tells apart. Each has one identity on this node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use strait_base::{IdentityId, Protocol};

use super::{
    Bases, Compilation, Refinement, group,
    in_force::{InForce, PortName, SelectorMatches},
    node_address,
};
use crate::{
    blocks::{BlockIndex, BlockSet},
    connection::{Family, L4},
    plan::{IpcacheEntry, IpcacheKind},
    rule::Class,
    snapshot::{Owner, Pod},
};

/// Numbers that pods give to port names.
pub(super) type NamedPorts = BTreeMap<Arc<str>, BTreeSet<(Protocol, u16)>>;

/// Peers with one identity.
pub(super) struct Atom {
    pub identity: IdentityId,
    pub class: Class,
    /// Selectors of nodes that select it; in order.
    pub nodes: Vec<usize>,
    /// Selectors that select it; in order.
    pub selectors: Vec<usize>,
    pub blocks: BlockSet,
    /// What its pods declare under the names that rules in force ask for.
    pub ports: NamedPorts,
}

impl<'a> Compilation<'a> {
    /// Fills the ipcache and gives the atoms, in order of their identities.
    pub(super) fn atoms(&mut self, in_force: &InForce<'a>, bases: &Bases<'a>) -> Vec<Atom> {
        let mut atoms = BTreeMap::new();
        self.pods(in_force, bases, &mut atoms);
        self.nodes(in_force, &mut atoms);
        self.regions(in_force, &mut atoms);
        atoms.into_values().collect()
    }

    fn pods(&mut self, in_force: &InForce<'a>, bases: &Bases<'a>, atoms: &mut BTreeMap<IdentityId, Atom>) {
        let snapshot = self.snapshot;
        let matches = SelectorMatches::new(snapshot, &in_force.selectors);
        let endpoints = snapshot.pods().filter(|pod| pod.is_endpoint());
        let by_base = group(endpoints.map(|pod| (pod.base(), pod)));
        for (base, pods) in by_base {
            let Some((base, number)) = bases.get(base).copied() else { continue };
            let shared = matches.of_base(base);
            for (own, pods) in group(pods.into_iter().map(|pod| (matches.of_pod(pod), pod))) {
                let mut selectors: Vec<_> = shared.iter().chain(&own).copied().collect();
                selectors.sort_unstable();
                let texts = own.iter().filter_map(|at| in_force.selectors.get(*at));
                let texts: Vec<_> = texts.map(|selector| format!("selected as peer by {}", selector.pods)).collect();
                let asked = in_force.names_asked_of(&selectors);
                let by_ports = group(pods.into_iter().map(|pod| (declared(pod, &asked), pod)));
                let ports_differ = by_ports.len() > 1;
                for (ports, pods) in by_ports {
                    let mut by = texts.clone();
                    if ports_differ {
                        by.push(format!("as destination {}", ports_text(&ports)));
                    }
                    let addresses =
                        pods.iter().flat_map(|pod| pod.addresses.iter().map(move |address| (*pod, *address)));
                    for (blocks, members) in
                        group(addresses.map(|member| (in_force.blocks.of_address(member.1, Class::Pod), member)))
                    {
                        let identity = self.refine(base, number, by.clone(), (&in_force.blocks, blocks));
                        for (pod, address) in members {
                            self.cache_pod(pod, address, identity);
                        }
                        let atom = || Atom {
                            selectors: selectors.clone(),
                            ports: ports.clone(),
                            ..Atom::of_addresses(identity, Class::Pod, blocks)
                        };
                        atoms.entry(identity).or_insert_with(atom);
                    }
                }
            }
        }
    }

    /// The identity of those of a base identity that something sets apart; the base's own number where nothing does.
    pub(super) fn refine(
        &mut self,
        base: &crate::identity::BaseIdentity,
        number: IdentityId,
        by: Vec<String>,
        (index, blocks): (&BlockIndex<'_>, BlockSet),
    ) -> IdentityId {
        if by.is_empty() && index.members(blocks).is_empty() {
            self.describe_workload(number, base, Refinement::default());
            return number;
        }
        let content = format!("{base};{};{}", by.join("&"), index.content(blocks));
        let identity = self.allocator.refined_workload(content);
        self.describe_workload(identity, base, Refinement { from: Some(number), by, cidrs: index.texts(blocks) });
        identity
    }

    fn cache_pod(&mut self, pod: &Pod, address: IpAddr, identity: IdentityId) {
        let kind = if self.is_own(pod.node()) { IpcacheKind::LocalPod } else { IpcacheKind::RemotePod };
        let node = pod.node().and_then(|name| self.snapshot.node(name));
        let node = node.and_then(|node| node_address(node, Family::of(address)));
        self.plan.ipcache.insert(IpNet::from(address), IpcacheEntry { identity, kind, node });
    }

    fn nodes(&mut self, in_force: &InForce<'a>, atoms: &mut BTreeMap<IdentityId, Atom>) {
        let snapshot = self.snapshot;
        for (address, owner) in snapshot.owners() {
            let Owner::Node(name) = owner else { continue };
            let own = self.is_own(Some(name));
            let (reserved, class, kind) = if own {
                (IdentityId::HOST, Class::OwnNode, IpcacheKind::Host)
            } else {
                (IdentityId::REMOTE_NODE, Class::OtherNode, IpcacheKind::RemoteNode)
            };
            let labels = snapshot.node(name).map(|node| &node.labels);
            let nodes = labels.map(|labels| in_force.nodes_selecting(labels)).unwrap_or_default();
            let blocks = in_force.blocks.of_address(*address, class);
            // There is one own node: no selector tells it apart from others of its class.
            let by: Vec<_> = nodes.iter().filter(|_| !own).filter_map(|at| in_force.nodes.get(*at)).collect();
            let by = by.into_iter().map(|selector| format!("selected as peer by node labels {selector}")).collect();
            let identity = self.address_identity(reserved, by, &in_force.blocks, blocks);
            let atom = || Atom { nodes: nodes.clone(), ..Atom::of_addresses(identity, class, blocks) };
            atoms.entry(identity).or_insert_with(atom);
            self.plan.ipcache.insert(IpNet::from(*address), IpcacheEntry { identity, kind, node: Some(*address) });
        }
        // Always there, also where the node has no address: what has no entry is judged as any peer.
        let host = || Atom::of_addresses(IdentityId::HOST, Class::OwnNode, 0);
        atoms.entry(IdentityId::HOST).or_insert_with(host);
    }

    /// Everything that no pod or node has: the world, and pod addresses that are not in use.
    fn regions(&mut self, in_force: &InForce<'a>, atoms: &mut BTreeMap<IdentityId, Atom>) {
        let snapshot = self.snapshot;
        let defaults = [IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
        let pod_cidrs = snapshot.nodes().flat_map(|node| node.pod_cidrs.iter().copied());
        let kept: BTreeSet<IpNet> = defaults.into_iter().chain(pod_cidrs).collect();
        let named = in_force.blocks.regions();
        let regions: BTreeSet<IpNet> = kept.iter().copied().chain(named).collect();
        let mut entries: BTreeMap<IpNet, IpcacheEntry> = BTreeMap::new();
        for region in regions {
            let family = Family::of(region.addr());
            let owner = snapshot.pod_cidr_over(region);
            let (reserved, class) = match (owner, family) {
                (Some(_), _) => (IdentityId::UNMANAGED, Class::Unmanaged),
                (None, Family::V4) => (IdentityId::WORLD_IPV4, Class::World(family)),
                (None, Family::V6) => (IdentityId::WORLD_IPV6, Class::World(family)),
            };
            let blocks = in_force.blocks.of_prefix(region);
            let identity = self.address_identity(reserved, Vec::new(), &in_force.blocks, blocks);
            let kind = match owner {
                Some(_) => IpcacheKind::Unmanaged,
                None if identity == reserved => IpcacheKind::World,
                None => IpcacheKind::Cidr,
            };
            let node = owner.and_then(|node| node_address(node, family));
            atoms.entry(identity).or_insert_with(|| Atom::of_addresses(identity, class, blocks));
            let entry = IpcacheEntry { identity, kind, node };
            // A region that says what the next shorter one over it says needs no entry.
            if kept.contains(&region) || crate::plan::longest(&entries, region) != Some(&entry) {
                entries.insert(region, entry);
            }
        }
        for (region, entry) in entries {
            self.plan.ipcache.entry(region).or_insert(entry);
        }
    }

    /// The identity of peers that only their addresses set apart, and node labels where `by` says so: one for each set of lists that
    /// they are in.
    fn address_identity(
        &mut self,
        reserved: IdentityId,
        by: Vec<String>,
        index: &BlockIndex<'_>,
        blocks: BlockSet,
    ) -> IdentityId {
        let content = || {
            let by = if by.is_empty() { String::new() } else { format!("{};", by.join("&")) };
            format!("{reserved};{by}{}", index.content(blocks))
        };
        let identity = match reserved {
            _ if by.is_empty() && index.members(blocks).is_empty() => reserved,
            IdentityId::HOST | IdentityId::REMOTE_NODE => self.allocator.node(content()),
            _ => self.allocator.cidr(content()),
        };
        self.describe_reserved(identity, reserved, by, index.texts(blocks));
        identity
    }
}

impl Atom {
    /// Peers that their addresses alone set apart from others of their class.
    fn of_addresses(identity: IdentityId, class: Class, blocks: BlockSet) -> Self {
        Self { identity, class, nodes: Vec::new(), selectors: Vec::new(), blocks, ports: NamedPorts::new() }
    }
}

/// What `pod` declares under the names that are asked for.
pub(super) fn declared(pod: &Pod, asked: &BTreeSet<PortName<'_>>) -> NamedPorts {
    let known = |name: &PortName<'_>| Some((Arc::clone(name), pod.named_ports.get(*name)?.clone()));
    asked.iter().filter_map(known).collect()
}

/// `http=80/TCP,dns=53/TCP+53/UDP`, or that there is none.
pub(super) fn ports_text(ports: &NamedPorts) -> String {
    if ports.is_empty() {
        return "without named ports".to_owned();
    }
    let number = |(protocol, port): &(Protocol, u16)| L4::Port { protocol: *protocol, port: *port }.to_string();
    let text = |(name, numbers): (&Arc<str>, &BTreeSet<_>)| {
        format!("{name}={}", numbers.iter().map(number).collect::<Vec<_>>().join("+"))
    };
    ports.iter().map(text).collect::<Vec<_>>().join(",")
}
