//! Whom a name stands for: a pod, all pods of a workload or a service, a node, an address.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{anyhow, bail};
use strait_api::{Objects, PortRef, Service, ServiceType};
use strait_base::LabelSelector;
use strait_model::{Connection, Family, L4, Party, Pod, Snapshot, UnknownParty};

/// A side of a question.
#[derive(Debug)]
pub(crate) struct End<'a> {
    /// Whom it stands for; never empty.
    pub(crate) parties: Vec<Party>,
    /// The service that was named.
    service: Option<&'a Service>,
}

/// Finds out whom `text` names. A pod goes before a workload of its name, a workload before a service.
pub(crate) fn resolve<'a>(
    text: &str,
    namespace: &str,
    objects: &'a Objects,
    snapshot: &Snapshot,
) -> anyhow::Result<End<'a>> {
    if let Some(service) = service_at(text, objects) {
        return of_service(service, snapshot);
    }
    match snapshot.party(text, namespace) {
        Ok(party) => {
            reachable(&party, snapshot)?;
            Ok(End { parties: vec![party], service: None })
        }
        Err(UnknownParty::Several { pods, .. }) => {
            let parties = pods.iter().map(|pod| snapshot.party(pod, namespace)).collect::<Result<Vec<_>, _>>()?;
            Ok(End { parties, service: None })
        }
        Err(unknown) => {
            let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
            let named = |service: &&std::sync::Arc<Service>| {
                *service.meta.namespace == *namespace && *service.meta.name == *name
            };
            match objects.services().find(named) {
                Some(service) => of_service(service, snapshot),
                None => Err(unknown.into()),
            }
        }
    }
}

/// A pod that runs nowhere has no policy that could be asked.
fn reachable(party: &Party, snapshot: &Snapshot) -> anyhow::Result<()> {
    let Party::Pod(key) = party else { return Ok(()) };
    match snapshot.pod(key) {
        Some(pod) if pod.finished() => bail!("pod {key} has run to its end ({}): nothing reaches it", pod.location()),
        Some(pod) if !pod.is_endpoint() && !pod.host_network() => {
            bail!("pod {key} has no address ({}): nothing reaches it", pod.location())
        }
        _ => Ok(()),
    }
}

fn service_at<'a>(text: &str, objects: &'a Objects) -> Option<&'a Service> {
    let address: IpAddr = text.parse().ok()?;
    objects.services().find(|service| service.cluster_ips.contains(&address)).map(|service| &**service)
}

fn of_service<'a>(service: &'a Service, snapshot: &Snapshot) -> anyhow::Result<End<'a>> {
    let name = format!("service {}/{} ({})", service.meta.namespace, service.meta.name, service.meta.location);
    if service.service_type == ServiceType::ExternalName {
        bail!(
            "{name} is another name for {}; ask for its address",
            service.external_name.as_deref().unwrap_or("nothing")
        );
    }
    if service.selector.0.is_empty() {
        bail!("{name} has no selector; ask for the address of one of its endpoints");
    }
    let selector = LabelSelector { match_labels: service.selector.clone(), match_expressions: Vec::new() };
    let selected = |pod: &&Pod| {
        pod.key.namespace == service.meta.namespace
            && (pod.is_endpoint() || pod.host_network() && !pod.finished())
            && selector.matches(pod.labels())
    };
    let parties: Vec<Party> = snapshot.pods().filter(selected).map(|pod| Party::Pod(pod.key.clone())).collect();
    if parties.is_empty() {
        bail!("{name} selects no running pod: {selector}");
    }
    Ok(End { parties, service: Some(service) })
}

/// Every connection that a question is about.
pub(crate) fn connections(
    from: &End<'_>,
    to: &End<'_>,
    l4: L4,
    family: Option<Family>,
    snapshot: &Snapshot,
) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for destination in &to.parties {
        let ports = match (to.service, destination) {
            (Some(service), Party::Pod(pod)) => target_ports(service, l4, snapshot.pod(pod))?,
            _ => vec![l4],
        };
        for source in &from.parties {
            for l4 in &ports {
                connections.push(Connection { from: source.clone(), to: destination.clone(), l4: *l4, family });
            }
        }
    }
    Ok(connections)
}

/// What policies judge at a pod behind a service: the target of the service's port. A headless service's clients connect to the
/// pods themselves.
fn target_ports(service: &Service, l4: L4, pod: Option<&Pod>) -> anyhow::Result<Vec<L4>> {
    let L4::Port { protocol, port } = l4 else { return Ok(vec![l4]) };
    if service.headless {
        return Ok(vec![l4]);
    }
    let Some(found) = service.ports.iter().find(|candidate| candidate.port == port && candidate.protocol == protocol)
    else {
        let ports: Vec<String> = service.ports.iter().map(|port| format!("{}/{}", port.port, port.protocol)).collect();
        return Err(anyhow!(
            "service {}/{} has no port {port}/{protocol}; it has {} ({})",
            service.meta.namespace,
            service.meta.name,
            ports.join(", "),
            service.meta.location
        ));
    };
    match &found.target_port {
        PortRef::Number(port) => Ok(vec![L4::Port { protocol, port: *port }]),
        PortRef::Name(name) => {
            let declared: BTreeSet<_> = pod.and_then(|pod| pod.named_ports.get(name)).cloned().unwrap_or_default();
            let ports: Vec<L4> = declared
                .into_iter()
                .filter(|(declared, _)| *declared == protocol)
                .map(|(protocol, port)| L4::Port { protocol, port })
                .collect();
            if ports.is_empty() {
                let pod = pod.map(|pod| pod.key.to_string()).unwrap_or_default();
                bail!(
                    "service {}/{} sends port {port} to `{name}`, and {pod} declares no {protocol} port of this name",
                    service.meta.namespace,
                    service.meta.name
                );
            }
            Ok(ports)
        }
    }
}
