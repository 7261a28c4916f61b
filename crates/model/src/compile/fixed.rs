//! Nodes, and everything that no pod or node has: the world, and pod addresses that are not in use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use strait_base::IdentityId;

use super::{
    Update,
    atoms::{Atom, NamedPorts},
    node_address,
};
use crate::{
    blocks::BlockSet,
    connection::Family,
    plan::{IdentityInfo, IpcacheEntry, IpcacheKind, longest},
    rule::Class,
    snapshot::Owner,
};

/// What changes with blocks and selectors of nodes alone.
#[derive(Debug, Default)]
pub(super) struct Fixed {
    atoms: BTreeMap<IdentityId, Atom>,
    /// Identities that something has.
    described: BTreeSet<IdentityId>,
    nodes: BTreeMap<IpNet, IpcacheEntry>,
    /// Behind the addresses of pods and nodes.
    regions: BTreeMap<IpNet, IpcacheEntry>,
}

impl Fixed {
    /// What holds of a prefix where no pod and no node has it.
    pub(super) fn region(&self, prefix: IpNet) -> Option<IpcacheEntry> {
        self.regions.get(&prefix).copied()
    }
}

impl Update<'_> {
    /// Works out nodes and regions anew.
    pub(super) fn settle_fixed(&mut self) {
        let mut fixed = Fixed::default();
        self.nodes(&mut fixed);
        self.regions(&mut fixed);
        let old = std::mem::take(&mut self.state.fixed);
        for identity in old.described {
            self.state.identities.remove(identity);
        }
        for identity in old.atoms.keys().filter(|identity| !fixed.atoms.contains_key(identity)) {
            self.set_atom(*identity, None);
        }
        for (identity, atom) in &fixed.atoms {
            self.set_atom(*identity, Some(atom.clone()));
        }
        let prefixes: BTreeSet<IpNet> = old.nodes.keys().chain(fixed.nodes.keys()).copied().collect();
        for prefix in prefixes {
            let entry = fixed.nodes.get(&prefix);
            // What a node had a pod may have by now, with an entry of its own.
            if entry.is_some() || !matches!(self.snapshot.owner(prefix.addr()), Some(Owner::Pod(_))) {
                self.set_ipcache(prefix, entry.or_else(|| fixed.regions.get(&prefix)).copied());
            }
        }
        let prefixes: BTreeSet<IpNet> = old.regions.keys().chain(fixed.regions.keys()).copied().collect();
        for prefix in prefixes {
            let whole = prefix.prefix_len() == prefix.max_prefix_len();
            if !whole || self.snapshot.owner(prefix.addr()).is_none() {
                self.set_ipcache(prefix, fixed.region(prefix));
            }
        }
        self.state.fixed = fixed;
    }

    fn nodes(&mut self, fixed: &mut Fixed) {
        let snapshot = self.snapshot;
        for node in snapshot.nodes() {
            let own = self.is_own(Some(&node.name));
            let (reserved, class, kind) = if own {
                (IdentityId::HOST, Class::OwnNode, IpcacheKind::Host)
            } else {
                (IdentityId::REMOTE_NODE, Class::OtherNode, IpcacheKind::RemoteNode)
            };
            let nodes = self.state.in_force.nodes_selecting(&node.labels);
            // There is one own node: no selector tells it apart from others of its class.
            let by = nodes.iter().filter(|_| !own).filter_map(|id| self.state.in_force.node_selector(*id));
            let mut by: Vec<_> = by.map(|selector| format!("selected as peer by node labels {selector}")).collect();
            by.sort_unstable();
            let owns = |address: &&std::net::IpAddr| matches!(snapshot.owner(**address), Some(Owner::Node(name)) if *name == node.name);
            for address in node.addresses.iter().filter(owns) {
                let blocks = self.state.in_force.blocks().of_address(*address, class).to_vec();
                let identity = self.address_identity(reserved, by.clone(), &blocks, fixed);
                let atom = Atom { nodes: nodes.clone(), ..Atom::of_addresses(class, blocks) };
                fixed.atoms.entry(identity).or_insert(atom);
                fixed.nodes.insert(IpNet::from(*address), IpcacheEntry { identity, kind, node: Some(*address) });
            }
        }
        // Always there, also where the node has no address: what has no entry is judged as any peer.
        let host = || Atom::of_addresses(Class::OwnNode, BlockSet::new());
        fixed.atoms.entry(IdentityId::HOST).or_insert_with(host);
    }

    fn regions(&mut self, fixed: &mut Fixed) {
        let snapshot = self.snapshot;
        let defaults = [IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
        let pod_cidrs = snapshot.nodes().flat_map(|node| node.pod_cidrs.iter().copied());
        let kept: BTreeSet<IpNet> = defaults.into_iter().chain(pod_cidrs).collect();
        let named = self.state.in_force.blocks().regions();
        let regions: BTreeSet<IpNet> = kept.iter().copied().chain(named).collect();
        for region in regions {
            let family = Family::of(region.addr());
            let owner = snapshot.pod_cidr_over(region);
            let (reserved, class) = match (owner, family) {
                (Some(_), _) => (IdentityId::UNMANAGED, Class::Unmanaged),
                (None, Family::V4) => (IdentityId::WORLD_IPV4, Class::World(family)),
                (None, Family::V6) => (IdentityId::WORLD_IPV6, Class::World(family)),
            };
            let blocks = self.state.in_force.blocks().of_prefix(region).to_vec();
            let identity = self.address_identity(reserved, Vec::new(), &blocks, fixed);
            let kind = match owner {
                Some(_) => IpcacheKind::Unmanaged,
                None if identity == reserved => IpcacheKind::World,
                None => IpcacheKind::Cidr,
            };
            let node = owner.and_then(|node| node_address(node, family));
            fixed.atoms.entry(identity).or_insert_with(|| Atom::of_addresses(class, blocks));
            let entry = IpcacheEntry { identity, kind, node };
            // A region that says what the next shorter one over it says needs no entry.
            if kept.contains(&region) || longest(&fixed.regions, region) != Some(&entry) {
                fixed.regions.insert(region, entry);
            }
        }
    }

    /// The identity of peers that only their addresses set apart, and node labels where `by` says so: one for each set of lists that
    /// they are in.
    fn address_identity(
        &mut self,
        reserved: IdentityId,
        by: Vec<String>,
        blocks: &BlockSet,
        fixed: &mut Fixed,
    ) -> IdentityId {
        let content = || {
            let by = if by.is_empty() { String::new() } else { format!("{};", by.join("&")) };
            format!("{reserved};{by}{}", self.state.in_force.content(blocks))
        };
        let identity = match reserved {
            _ if by.is_empty() && blocks.is_empty() => reserved,
            IdentityId::HOST | IdentityId::REMOTE_NODE => self.allocator.node(&content()),
            _ => self.allocator.cidr(&content()),
        };
        if fixed.described.insert(identity) {
            let cidrs = self.state.in_force.texts(blocks);
            self.use_identity(identity, |_| describe(identity, reserved, by, cidrs));
        }
        identity
    }
}

pub(super) fn describe(
    identity: IdentityId,
    reserved: IdentityId,
    refined_by: Vec<String>,
    cidrs: Vec<String>,
) -> IdentityInfo {
    let refined_from = (identity != reserved).then_some(reserved);
    let labels = cidrs.iter().map(|cidr| format!("cidr:{cidr}"));
    let name = reserved.reserved_name();
    let labels = labels.chain(name.map(|name| format!("reserved:{name}"))).map(Arc::from).collect();
    let reserved = if refined_from.is_some() { None } else { name };
    IdentityInfo { labels, reserved, cidrs, refined_from, refined_by, ..IdentityInfo::default() }
}

impl Atom {
    /// Peers that their addresses alone set apart from others of their class.
    const fn of_addresses(class: Class, blocks: BlockSet) -> Self {
        Self { class, nodes: Vec::new(), blocks, ports: NamedPorts::new() }
    }
}
