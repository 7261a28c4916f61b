//! Which addresses gateways have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::Gateway;

/// Addresses by namespace and name of the gateway.
pub type Assigned = BTreeMap<(Arc<str>, Arc<str>), IpAddr>;

/// Gives every gateway of `ours` an address of `pool`: the one it asks for, if that is in the pool and still free; else the one that it had; else
/// the next free one, in order of namespace and name. A gateway that asks for an address it cannot have gets none, and so does one for
/// which the pool has none left.
pub fn assign<'a>(ours: impl Iterator<Item = &'a Arc<Gateway>>, pool: IpNet, before: &Assigned) -> Assigned {
    let ours: Vec<&Arc<Gateway>> = ours.collect();
    let key = |gateway: &Gateway| (Arc::clone(&gateway.meta.namespace), Arc::clone(&gateway.meta.name));
    let (mut assigned, mut taken) = (Assigned::new(), BTreeSet::new());
    let mut give = |assigned: &mut Assigned, gateway: &Gateway, address: IpAddr| {
        let free = pool.contains(&address) && taken.insert(address);
        if free {
            assigned.insert(key(gateway), address);
        }
        free
    };
    for gateway in &ours {
        let mut wanted = wanted(gateway);
        wanted.find(|address| give(&mut assigned, gateway, *address));
    }
    let anywhere = |gateway: &&&Arc<Gateway>| self::wanted(gateway).next().is_none();
    for gateway in ours.iter().filter(anywhere) {
        if let Some(address) = before.get(&key(gateway)) {
            give(&mut assigned, gateway, *address);
        }
    }
    let mut next = pool.hosts();
    for gateway in ours.iter().filter(anywhere) {
        if !assigned.contains_key(&key(gateway)) {
            next.find(|address| give(&mut assigned, gateway, *address));
        }
    }
    assigned
}

/// The addresses that a gateway asks for by value.
fn wanted(gateway: &Gateway) -> impl Iterator<Item = IpAddr> + '_ {
    let values = gateway.addresses.iter().filter(|address| &*address.address_type == "IPAddress");
    values.filter_map(|address| address.value.as_deref()?.parse().ok())
}
