//! Answers to questions about the node's state.

use std::{collections::BTreeMap, sync::Arc};

use strait_base::Protocol;
use strait_datapath::{
    Kernel, Room,
    table::{Conntrack, Endpoints, Ipcache, Policy, PortSets, Table},
};
use strait_model::{Direction, OriginId, PolicyKey, PortKey, PortSet};
use strait_packet::abi::{DenyResponse, DropReason, Hook};

use crate::{
    api::{
        EndpointCounts, EndpointStatus, HostPolicyStage, Identity, IpcacheEntry, MapFill, PacketCount, PodName,
        PolicyEntry, PolicyPort, Status,
    },
    node::{Node, pod_key},
    view::flow_origin,
};

impl<K: Kernel> Node<K> {
    pub(crate) fn status(&self) -> Status {
        let mut objects: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for object in self.objects().iter() {
            *objects.entry(object.kind().as_str().into()).or_default() += 1;
        }
        let (errors, notes): (Vec<_>, Vec<_>) = self
            .directory
            .problems()
            .filter(|problem| problem.is_worth_showing())
            .partition(|problem| problem.is_error());
        let problems = errors.into_iter().map(|problem| self.last_good.tell(problem));
        let problems: Vec<String> = problems.chain(self.last_good.emptied()).collect();
        let host_policy = self.host_policies.status();
        let host_ok = host_policy
            .as_ref()
            .is_none_or(|status| status.stage != HostPolicyStage::RolledBack && status.error.is_none());
        let closed = self.endpoints.keys().filter(|name| self.why_closed(name).is_some()).count();
        Status {
            node: Arc::clone(&self.options.node),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started: self.started,
            ok: problems.is_empty() && closed == 0 && self.enforcement_error.is_none() && host_ok,
            generation: self.directory.generation(),
            revision: u64::from(self.revision),
            deny_response: DenyResponse::from_number(self.datapath.config().deny_response).name().into(),
            objects,
            problems,
            notes: notes
                .into_iter()
                .map(ToString::to_string)
                .chain(self.unknown.clone())
                .chain(self.wrong_response.clone())
                .chain(self.strange_macs.iter().map(|name| self.strange_mac(name)))
                .chain(self.view.snapshot.problems().iter().map(ToString::to_string))
                .collect(),
            enforcement_error: self.enforcement_error.clone(),
            endpoints: EndpointCounts { ready: self.endpoints.len() - closed, closed },
            host_policy,
            maps: self.maps(),
            packets: self.packets(),
            lost_events: self.lost_events(),
            flows_seen: self.flows.seen(),
            flows_held: self.flows.held(),
            missing_features: self.options.host.missing_features.clone(),
            kernel: self.options.host.kernel.clone(),
        }
    }

    /// Events that found the kernel's ring full.
    pub(crate) fn lost_events(&self) -> u64 {
        self.datapath.kernel().events_lost().map_or(0, |lost| lost.into_iter().map(|(_, count)| count).sum())
    }

    fn packets(&self) -> Vec<PacketCount> {
        let counted = self.datapath.kernel().metrics().unwrap_or_default();
        let counts = counted.into_iter().filter(|(_, metric)| metric.packets > 0).filter_map(|(key, metric)| {
            let hook = Hook::from_number(key.hook)?.program().into();
            let drop_reason = DropReason::from_number(key.reason).map(|reason| reason.name().into());
            Some(PacketCount { hook, drop_reason, packets: metric.packets, bytes: metric.bytes })
        });
        counts.collect()
    }

    fn maps(&self) -> Vec<MapFill> {
        let mut connections = 0;
        let counted = self.datapath.kernel().each::<Conntrack>(&mut |_, _| connections += 1);
        let connections = counted.map_or(0, |()| connections);
        vec![
            self.fill::<Endpoints>(self.datapath.endpoints().len()),
            self.fill::<Ipcache>(self.datapath.ipcache().len()),
            self.fill::<Policy>(self.datapath.policy().len()),
            self.fill::<PortSets>(self.datapath.port_sets().len()),
            MapFill { forgotten: self.datapath.connections_forgotten(), ..self.fill::<Conntrack>(connections) },
        ]
    }

    fn fill<T: Table>(&self, entries: usize) -> MapFill {
        let Room { capacity, limit, growths } = self.datapath.kernel().room::<T>();
        MapFill {
            name: T::NAME.into(),
            entries: entries as u64,
            capacity: capacity.into(),
            limit: limit.into(),
            growths,
            forgotten: 0,
            bytes: self.datapath.kernel().bytes::<T>(),
        }
    }

    pub(crate) fn identities(&self) -> Vec<Identity> {
        let identity = |(id, info): (&strait_base::IdentityId, &strait_model::IdentityInfo)| Identity {
            id: *id,
            labels: self.view.labels(*id),
            cidrs: info.cidrs.clone(),
            refines: info.refined_from,
            refined_by: info.refined_by.clone(),
        };
        self.view.plan.identities.iter().map(identity).collect()
    }

    pub(crate) fn ipcache(&self) -> Vec<IpcacheEntry> {
        let entries = self.view.plan.ipcache.iter();
        entries
            .map(|(prefix, entry)| IpcacheEntry {
                prefix: *prefix,
                identity: entry.identity,
                kind: entry.kind,
                node: entry.node,
            })
            .collect()
    }

    pub(crate) fn endpoint_list(&self) -> Vec<EndpointStatus> {
        self.endpoints.iter().map(|(name, endpoint)| self.endpoint_status(name, endpoint)).collect()
    }

    fn endpoint_status(&self, name: &PodName, endpoint: &crate::node::Endpoint) -> EndpointStatus {
        let pod = pod_key(name);
        let identity = self.view.plan.endpoints.get(&pod).map(|planned| planned.identity);
        let isolated = |direction| {
            self.view.snapshot.pod(&pod).is_some_and(|pod| {
                self.view.snapshot.policies_of(pod).any(|policy| policy.isolates.contains(&direction))
            })
        };
        EndpointStatus {
            spec: endpoint.spec.clone(),
            id: endpoint.ifindex.unwrap_or(0),
            identity,
            labels: identity.map(|identity| self.view.labels(identity)).unwrap_or_default(),
            closed: self.why_closed(name),
            ingress_isolated: isolated(Direction::Ingress),
            egress_isolated: isolated(Direction::Egress),
        }
    }

    /// Why nothing, or not everything that should, passes an endpoint.
    fn why_closed(&self, name: &PodName) -> Option<String> {
        let endpoint = self.endpoints.get(name)?;
        if let Some(error) = &endpoint.error {
            return Some(error.clone());
        }
        let pod = pod_key(name);
        if let Some(closed) = self.closed.get(&pod) {
            return Some(closed.to_string());
        }
        // The pod may send only from the addresses of its manifest.
        let planned = &self.view.plan.endpoints.get(&pod)?.addresses;
        let list =
            |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let foreign = endpoint.spec.addresses.iter().any(|address| !planned.contains(address));
        foreign.then(|| {
            format!("its link has {} but its manifest gives it {}", list(&endpoint.spec.addresses), list(planned))
        })
    }

    /// Policy entries of one endpoint's subject, or of all.
    pub(crate) fn policy_map(&self, endpoint: Option<&PodName>) -> Result<Vec<PolicyEntry>, String> {
        let subject = match endpoint {
            None => None,
            Some(name) => match self.view.plan.endpoints.get(&pod_key(name)) {
                Some(planned) => Some(planned.identity),
                None => return Err(format!("{name} is no pod of node {}", self.options.node)),
            },
        };
        let plan = &self.view.plan;
        let entries = plan.policy.iter().filter(|(key, _)| subject.is_none_or(|subject| key.subject == subject));
        Ok(entries
            .map(|(PolicyKey { subject, direction, peer }, entry)| PolicyEntry {
                subject: *subject,
                direction: *direction,
                peer: *peer,
                ports: plan.port_sets.get(&entry.port_set).map(|set| self.ports(set)).unwrap_or_default(),
                default_origins: self.flow_origins(entry.default_origin),
            })
            .collect())
    }

    fn ports(&self, set: &PortSet) -> Vec<PolicyPort> {
        let port = |(key, entry): (&PortKey, &strait_model::PortEntry)| PolicyPort {
            protocol: protocol_text(key.protocol).into(),
            ports: port_text(*key).into(),
            verdict: entry.verdict,
            origins: self.flow_origins(entry.origin),
        };
        set.entries.iter().map(port).collect()
    }

    fn flow_origins(&self, id: OriginId) -> Vec<strait_flow::Origin> {
        self.view.origins(id).iter().map(flow_origin).collect()
    }
}

fn protocol_text(number: Option<u8>) -> String {
    match number {
        None => "any".to_owned(),
        Some(number) => Protocol::from_number(number).map_or_else(|| number.to_string(), |known| known.to_string()),
    }
}

fn port_text(key: PortKey) -> String {
    let wildcard_bits = 16 - u32::from(key.prefix_len.min(16));
    let last = key.port | u16::try_from((1_u32 << wildcard_bits) - 1).unwrap_or(u16::MAX);
    match (key.prefix_len, key.port == last) {
        (0, _) => "any".to_owned(),
        (_, true) => last.to_string(),
        (_, false) => format!("{}-{last}", key.port),
    }
}
