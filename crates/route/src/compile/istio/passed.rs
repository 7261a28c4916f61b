//! Servers of mode `AUTO_PASSTHROUGH`: connections go on as they are to any service of the registry, by the server name alone.
//!
//! The names are those that proxies of a mesh give, `outbound_.PORT_.SUBSET_.HOST`, for the services that the gate may see and the server's hosts
//! cover (istiod's `builtAutoPassthroughFilterChains`). What leads outside of the mesh has none, and neither has an endpoint that does not
//! say that it speaks the mesh's TLS.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_api::{
    Kind,
    istio::{Destination, Gateway, Server},
};

use super::{
    destinations::sni,
    http::{Brought, Compiler},
    key_of,
    registry::{Found, Touched},
};
use crate::{
    hosts::{HostTable, covers},
    plan::{Split, WeightedBackend},
};

/// What one server passes on, by host.
#[derive(Default)]
pub(super) struct Passed {
    by_host: BTreeMap<Arc<str>, (Vec<Arc<str>>, Brought)>,
}

impl Passed {
    /// Looks again at hosts that are others, or at all. Gives whether one is another.
    pub(super) fn refresh(
        &mut self,
        (gateway, server): (&Gateway, &Server),
        (by, is_new): (&Touched, bool),
        names: &mut HostTable<Split>,
        compiler: &mut Compiler<'_>,
    ) -> bool {
        let hosts: BTreeSet<Arc<str>> = if is_new || !by.wildcards.is_empty() {
            compiler.mesh.hosts().chain(self.by_host.keys().cloned()).collect()
        } else {
            by.hosts.clone()
        };
        let mut is_other = false;
        for host in hosts {
            let is_covered = server.hosts.iter().any(|of| *of.host == *host || covers(&of.host, &host));
            let now = if is_covered { all_of(&host, (gateway, server), compiler) } else { Vec::new() };
            let brought = compiler.brought();
            let before = self.by_host.remove(&host);
            if let Some((before, _)) = &before {
                for name in before.iter().filter(|name| !now.iter().any(|(of, _)| of == *name)) {
                    names.remove(Some(name));
                    is_other = true;
                }
            }
            for (name, split) in &now {
                is_other |= names.get(Some(name)) != Some(split);
                *names.entry(Some(name), || split.clone()) = split.clone();
            }
            if !now.is_empty() {
                self.by_host.insert(host, (now.into_iter().map(|(name, _)| name).collect(), brought));
            }
            if let Some((_, brought)) = before {
                compiler.release(&brought);
            }
        }
        is_other
    }

    /// Gives back what it brought with it.
    pub(super) fn retire(&self, compiler: &mut Compiler<'_>) {
        for (_, brought) in self.by_host.values() {
            compiler.release(brought);
        }
    }
}

/// The names of a host, with where they lead: one for each port, and for each port and subset.
fn all_of(
    host: &Arc<str>,
    (gateway, server): (&Gateway, &Server),
    compiler: &mut Compiler<'_>,
) -> Vec<(Arc<str>, Split)> {
    let Some(found) = compiler.mesh.find(host).filter(Found::is_of_the_mesh) else { return Vec::new() };
    let rules = compiler.mesh.rules(host, found);
    let subsets: Vec<Arc<str>> = rules.subsets().map(|subset| Arc::clone(&subset.name)).collect();
    let object = key_of(Kind::IstioGateway, &gateway.meta);
    let mut out = Vec::new();
    for port in found.ports() {
        for subset in [None].into_iter().chain(subsets.iter().map(Some)) {
            let (host, subset, location) = (Arc::clone(host), subset.cloned(), server.location.clone());
            let name = sni(&host, port, subset.as_deref().unwrap_or_default());
            let to = Destination { host, subset, port: Some(port), location };
            let backend = Some(compiler.passed_on(&to, &object));
            let targets = vec![WeightedBackend { weight: 1, backend, filters: Vec::new() }];
            out.push((name, Split { total: 1, targets, ..Split::default() }));
        }
    }
    out
}
