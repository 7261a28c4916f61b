//! Small plans, written by hand.

use std::net::IpAddr;

use strait_base::IdentityId;
use strait_datapath::Attachment;
use strait_model::{
    Direction, EndpointPlan, IpcacheEntry, IpcacheKind, NodePlan, OriginId, PodKey, PolicyEntry, PolicyKey, PortEntry,
    PortKey, PortSet, PortSetId, PortVerdict,
};

pub(crate) const ALLOW_ALL: u32 = 1;

/// An empty plan: everything outside is the world.
pub(crate) fn empty() -> NodePlan {
    let mut plan = NodePlan::default();
    for prefix in ["0.0.0.0/0", "::/0"] {
        plan.ipcache.insert(
            prefix.parse().unwrap(),
            IpcacheEntry { identity: IdentityId::WORLD, kind: IpcacheKind::World, node: None },
        );
    }
    port_set(&mut plan, ALLOW_ALL, &[(None, 0, 0)]);
    plan
}

/// Adds a pod that is not isolated.
pub(crate) fn pod(plan: &mut NodePlan, name: &str, identity: u32, addresses: &[&str]) {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    for address in &addresses {
        plan.ipcache.insert(
            (*address).into(),
            IpcacheEntry { identity: IdentityId(identity), kind: IpcacheKind::LocalPod, node: None },
        );
    }
    plan.endpoints.insert(PodKey::new("default", name), EndpointPlan { identity: IdentityId(identity), addresses });
    for direction in [Direction::Ingress, Direction::Egress] {
        policy(plan, identity, direction, 0, ALLOW_ALL, 0);
    }
}

/// Points a pair at a port set.
pub(crate) fn policy(plan: &mut NodePlan, subject: u32, direction: Direction, peer: u32, set: u32, origin: u32) {
    plan.policy.insert(
        PolicyKey { subject: IdentityId(subject), direction, peer: IdentityId(peer) },
        PolicyEntry { port_set: PortSetId(set), default_origin: OriginId(origin) },
    );
}

/// Adds a port set that allows these `(protocol, port, prefix length)`; the origin is 100 + the set's id.
pub(crate) fn port_set(plan: &mut NodePlan, id: u32, allowed: &[(Option<u8>, u16, u8)]) {
    let entries = allowed.iter().map(|(protocol, port, prefix_len)| {
        let key = PortKey { protocol: *protocol, port: *port, prefix_len: *prefix_len };
        (key, PortEntry { verdict: PortVerdict::Allow, origin: OriginId(100 + id), precedence: 0 })
    });
    plan.port_sets.insert(PortSetId(id), PortSet { entries: entries.collect() });
}

/// A pod of `default` behind an interface.
pub(crate) fn attachment(name: &str, ifindex: u32, mac: [u8; 6]) -> Attachment {
    Attachment { pod: PodKey::new("default", name), ifindex, mac }
}
