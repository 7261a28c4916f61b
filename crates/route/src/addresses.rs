//! Which addresses gateways have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::{Gateway, Objects};

use crate::compile::istio;

/// Addresses by namespace and name of the gateway; a gateway that has none is not there.
pub type Assigned = BTreeMap<(Arc<str>, Arc<str>), Vec<IpAddr>>;

/// Gives every gateway of `ours` addresses of `pool`: those that it asks for by value, each if it is in the pool and still free; for every one that it asks
/// for without a value, and for one that asks for none, the one that it had, else the next free one. In order of namespace and name, those asked for
/// by value first. A gateway that asks for an address that it cannot have goes without it, and so does one for which the pool has none left.
pub fn assign<'a>(ours: impl Iterator<Item = &'a Arc<Gateway>>, pool: IpNet, before: &Assigned) -> Assigned {
    let ours: Vec<&Arc<Gateway>> = ours.collect();
    let key = |gateway: &Gateway| (Arc::clone(&gateway.meta.namespace), Arc::clone(&gateway.meta.name));
    let (mut assigned, mut taken) = (Assigned::new(), BTreeSet::new());
    let mut give = |assigned: &mut Assigned, gateway: &Gateway, address: IpAddr| {
        let free = pool.contains(&address) && taken.insert(address);
        if free {
            assigned.entry(key(gateway)).or_default().push(address);
        }
        free
    };
    for gateway in &ours {
        for address in wanted(gateway) {
            give(&mut assigned, gateway, address);
        }
    }
    // How many addresses of no particular value each is still to get.
    let mut open: Vec<usize> = ours.iter().map(|gateway| anywhere(gateway)).collect();
    for (gateway, open) in ours.iter().zip(&mut open) {
        for address in before.get(&key(gateway)).into_iter().flatten() {
            if *open > 0 && give(&mut assigned, gateway, *address) {
                *open -= 1;
            }
        }
    }
    // Those of Istio's gateways stay theirs.
    let reserved: BTreeSet<IpAddr> =
        before.iter().filter(|((namespace, _), _)| namespace.is_empty()).flat_map(|(_, all)| all).copied().collect();
    let mut next = pool.hosts().filter(|address| !reserved.contains(address));
    for (gateway, open) in ours.iter().zip(open) {
        for _ in 0..open {
            next.find(|address| give(&mut assigned, gateway, *address));
        }
    }
    assigned
}

/// Gives every workload of the gate's that gateways of Istio's select an address of `pool`: the one that it had, else the next free one.
/// These gateways share it, as they do upstream.
pub fn assign_istio(objects: &Objects, pool: IpNet, before: &Assigned, assigned: &mut Assigned) {
    let mut taken: BTreeSet<IpAddr> = assigned.values().flatten().copied().collect();
    for workload in istio::selected(objects) {
        let key = istio::key(workload);
        let kept = before.get(&key).and_then(|all| all.first()).copied();
        let mut free = kept.into_iter().chain(pool.hosts()).filter(|address| pool.contains(address));
        if let Some(address) = free.find(|address| taken.insert(*address)) {
            assigned.insert(key, vec![address]);
        }
    }
}

/// The addresses that a gateway asks for by value.
pub(crate) fn wanted(gateway: &Gateway) -> impl Iterator<Item = IpAddr> + '_ {
    let values = gateway.addresses.iter().filter(|address| &*address.address_type == "IPAddress");
    values.filter_map(|address| address.value.as_deref()?.parse().ok())
}

/// How many addresses a gateway asks for without saying which.
fn anywhere(gateway: &Gateway) -> usize {
    if gateway.addresses.is_empty() {
        return 1;
    }
    let open = |address: &&strait_api::GatewayAddress| &*address.address_type == "IPAddress" && address.value.is_none();
    gateway.addresses.iter().filter(open).count()
}
