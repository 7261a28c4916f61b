//! The names of a cluster, as a table from name to addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use strait_api::{Objects, ServiceType};

use super::DOMAIN;
use crate::outside::{CLIENT_V4, CLIENT_V6};

/// Names of the outside client, from the ranges reserved for examples (RFC 2606).
const OUTSIDE_NAMES: [&str; 4] = ["example.com", "www.example.com", "example.org", "www.example.org"];

/// Names, lower case and without the final dot, and their addresses or the name they stand for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Zone {
    /// Addresses by name. A name without addresses exists all the same.
    pub addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    /// `ExternalName` services.
    pub aliases: BTreeMap<String, String>,
    /// Namespaces, whose `POD-IP.NAMESPACE.pod.cluster.local` names exist for every address.
    pub namespaces: BTreeSet<String>,
}

/// What a name leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Addresses, perhaps none.
    Addresses(BTreeSet<IpAddr>),
    /// Another name.
    Alias(String),
}

impl Zone {
    /// The names of `objects` (expanded): services, the pods behind headless ones, and the outside.
    pub fn of(objects: &Objects, ipv6: bool) -> Self {
        let mut zone = Self::default();
        for namespace in objects.namespaces() {
            zone.namespaces.insert(namespace.meta.name.to_string());
        }
        let mut services = BTreeMap::new();
        for service in objects.services() {
            let name = format!("{}.{}.svc.{DOMAIN}", service.meta.name, service.meta.namespace);
            if let (ServiceType::ExternalName, Some(target)) = (service.service_type, &service.external_name) {
                zone.aliases.insert(name, target.trim_end_matches('.').to_ascii_lowercase());
                continue;
            }
            zone.addresses.entry(name.clone()).or_default();
            services.insert((&*service.meta.namespace, &*service.meta.name), name);
        }
        for slice in objects.endpoint_slices() {
            let Some(service) = slice.meta.labels.get(strait_cluster::SERVICE_NAME) else { continue };
            let Some(name) = services.get(&(&*slice.meta.namespace, service)) else { continue };
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                zone.addresses.entry(name.clone()).or_default().extend(&endpoint.addresses);
                if let Some(hostname) = endpoint.target_pod.as_ref().and_then(|pod| hostname(objects, slice, pod)) {
                    zone.addresses.entry(format!("{hostname}.{name}")).or_default().extend(&endpoint.addresses);
                }
            }
        }
        for name in OUTSIDE_NAMES {
            let addresses = zone.addresses.entry(name.to_owned()).or_default();
            addresses.insert(CLIENT_V4.into());
            if ipv6 {
                addresses.insert(CLIENT_V6.into());
            }
        }
        zone
    }

    /// What `name` leads to; `None` where it does not exist. Upper and lower case are the same.
    pub fn look_up(&self, name: &str) -> Option<Found> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(alias) = self.aliases.get(&name) {
            return Some(Found::Alias(alias.clone()));
        }
        if let Some(addresses) = self.addresses.get(&name) {
            return Some(Found::Addresses(addresses.clone()));
        }
        let (dashed, rest) = name.split_once('.')?;
        let namespace = rest.strip_suffix(DOMAIN)?.strip_suffix(".pod.")?;
        if !self.namespaces.contains(namespace) {
            return None;
        }
        let v4 = dashed.replace('-', ".").parse().ok();
        let address = v4.or_else(|| dashed.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6))?;
        Some(Found::Addresses(BTreeSet::from([address])))
    }
}

/// The name a pod has below its service's: that of its `hostname` where `subdomain` names the service (a stateful set's
/// controller sets both).
fn hostname(objects: &Objects, slice: &strait_api::EndpointSlice, pod: &str) -> Option<String> {
    let key = strait_api::ObjectKey {
        kind: strait_api::Kind::Pod,
        namespace: slice.meta.namespace.clone(),
        name: pod.into(),
    };
    let strait_api::Object::Pod(pod) = objects.get(&key)? else { return None };
    let service = slice.meta.labels.get(strait_cluster::SERVICE_NAME)?;
    (pod.spec.subdomain.as_deref() == Some(service))
        .then(|| pod.spec.hostname.as_deref().unwrap_or(&pod.meta.name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, sync::Arc};

    use expect_test::expect;

    use super::*;

    #[test]
    fn names_of_a_cluster() {
        let text = "
kind: StatefulSet
apiVersion: apps/v1
metadata: {name: db, namespace: shop}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c}]}}
---
kind: Service
apiVersion: v1
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}}
---
kind: Service
apiVersion: v1
metadata: {name: nobody, namespace: shop}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
kind: Service
apiVersion: v1
metadata: {name: far, namespace: shop}
spec: {type: ExternalName, externalName: far.example.net}
";
        let parsed = strait_api::parse(&Arc::from("in.yaml"), text.as_bytes());
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let options = strait_cluster::Options { ipv6: false, ..strait_cluster::Options::default() };
        let expanded = strait_cluster::expand(&parsed.objects.into_iter().collect(), &options, None).objects;
        let zone = Zone::of(&expanded, false);
        let mut out = String::new();
        for (name, addresses) in &zone.addresses {
            writeln!(out, "{name} {addresses:?}").unwrap();
        }
        for (name, target) in &zone.aliases {
            writeln!(out, "{name} → {target}").unwrap();
        }
        expect![[r#"
            db-0.db.shop.svc.cluster.local {10.244.1.10}
            db-1.db.shop.svc.cluster.local {10.244.2.10}
            db.shop.svc.cluster.local {10.244.1.10, 10.244.2.10}
            example.com {203.0.113.10}
            example.org {203.0.113.10}
            nobody.shop.svc.cluster.local {}
            www.example.com {203.0.113.10}
            www.example.org {203.0.113.10}
            far.shop.svc.cluster.local → far.example.net
        "#]]
        .assert_eq(&out);
    }
}
