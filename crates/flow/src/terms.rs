//! What a filter asks of one record: values of one list are alternatives, lists that are not empty must all match.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use strait_base::LabelSelector;

use crate::{
    record::{Endpoint, EventType, Flow, IpVersion, Layer4, TcpFlags, TrafficDirection, Verdict},
    selector,
};

/// `NAMESPACE/PREFIX`: pods of the namespace (any, where empty) whose names start with the prefix.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PodPattern {
    pub(crate) namespace: Arc<str>,
    pub(crate) prefix: Arc<str>,
}

/// `[KIND/]NAME`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WorkloadPattern {
    pub(crate) kind: Option<Arc<str>>,
    pub(crate) name: Arc<str>,
}

/// What `--protocol` can name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProtocolTerm {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmpv4,
    Icmpv6,
    /// A protocol of layer 7: no record carries one yet.
    Layer7,
}

/// `TYPE[:SUBTYPE]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct EventTerm {
    pub(crate) kind: u8,
    pub(crate) sub_type: Option<u8>,
}

/// What is asked of one side.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SideTerms {
    pub(crate) pods: Vec<PodPattern>,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) labels: Vec<LabelSelector>,
    pub(crate) ports: Vec<u16>,
    pub(crate) identities: Vec<u32>,
    pub(crate) workloads: Vec<WorkloadPattern>,
}

/// What is asked of a record; everything must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Clause {
    pub(crate) source: SideTerms,
    pub(crate) destination: SideTerms,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) drop_reasons: Vec<u8>,
    pub(crate) events: Vec<EventTerm>,
    pub(crate) protocols: Vec<ProtocolTerm>,
    pub(crate) directions: Vec<TrafficDirection>,
    pub(crate) versions: Vec<bool>,
    pub(crate) tcp_flags: Vec<TcpFlags>,
    pub(crate) nodes: Vec<Arc<str>>,
    pub(crate) http_statuses: Vec<Arc<str>>,
}

fn any<T>(terms: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    terms.is_empty() || terms.iter().any(matches)
}

impl SideTerms {
    fn matches(&self, side: &Endpoint, address: Option<IpAddr>, port: Option<u16>) -> bool {
        any(&self.pods, |pattern| pattern.matches(side))
            && any(&self.addresses, |net| address.is_some_and(|address| net.contains(&address)))
            && any(&self.ports, |wanted| port == Some(*wanted))
            && any(&self.identities, |identity| side.identity == *identity)
            && any(&self.workloads, |pattern| pattern.matches(side))
            && (self.labels.is_empty() || {
                let labels = selector::labels(&side.labels);
                self.labels.iter().any(|selector| selector.matches(&labels))
            })
    }
}

impl PodPattern {
    fn matches(&self, side: &Endpoint) -> bool {
        !side.pod_name.is_empty()
            && (self.namespace.is_empty() || self.namespace == side.namespace)
            && side.pod_name.starts_with(&*self.prefix)
    }
}

impl WorkloadPattern {
    fn matches(&self, side: &Endpoint) -> bool {
        side.workloads.iter().any(|workload| {
            workload.name == self.name
                && self.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(&workload.kind))
        })
    }
}

impl ProtocolTerm {
    fn matches(self, l4: Option<&Layer4>) -> bool {
        matches!(
            (self, l4),
            (Self::Tcp, Some(Layer4::Tcp(_)))
                | (Self::Udp, Some(Layer4::Udp(_)))
                | (Self::Sctp, Some(Layer4::Sctp(_)))
                | (Self::Icmp | Self::Icmpv4, Some(Layer4::Icmpv4(_)))
                | (Self::Icmp | Self::Icmpv6, Some(Layer4::Icmpv6(_)))
        )
    }
}

impl EventTerm {
    fn matches(self, event: EventType) -> bool {
        self.kind == event.kind && self.sub_type.is_none_or(|sub_type| sub_type == event.sub_type)
    }
}

/// All flags that are asked for are set.
fn flags_match(asked: TcpFlags, l4: Option<&Layer4>) -> bool {
    let Some(Layer4::Tcp(tcp)) = l4 else { return false };
    asked.named().into_iter().zip(tcp.flags.named()).all(|((_, asked), (_, set))| !asked || set)
}

/// `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            (0..=text.len()).filter(|&at| text.is_char_boundary(at)).any(|at| glob(rest, &text[at..]))
        }),
    }
}

impl Clause {
    pub(crate) fn matches(&self, flow: &Flow) -> bool {
        let ports = flow.l4.as_ref().and_then(Layer4::ports);
        let source = flow.ip.as_ref().map(|ip| ip.source);
        let destination = flow.ip.as_ref().map(|ip| ip.destination);
        any(&self.verdicts, |verdict| flow.verdict == *verdict)
            && any(&self.drop_reasons, |reason| flow.verdict == Verdict::Dropped && flow.drop_reason == *reason)
            && any(&self.events, |event| event.matches(flow.event_type))
            && any(&self.protocols, |protocol| protocol.matches(flow.l4.as_ref()))
            && any(&self.directions, |direction| flow.traffic_direction == Some(*direction))
            && any(&self.versions, |v6| flow.ip.as_ref().is_some_and(|ip| (ip.version == IpVersion::IPv6) == *v6))
            && any(&self.tcp_flags, |flags| flags_match(*flags, flow.l4.as_ref()))
            && any(&self.nodes, |pattern| glob(pattern, &flow.node_name))
            // Records of layer 7 do not exist yet, so nothing has a status.
            && self.http_statuses.is_empty()
            && self.source.matches(&flow.source, source, ports.map(|ports| ports.0))
            && self.destination.matches(&flow.destination, destination, ports.map(|ports| ports.1))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::record::{
        Endpoint, EventType, Extension, Flow, FlowType, Ip, IpVersion, Layer4, PolicyMatch, TcpFlags, TcpPorts,
        TrafficDirection, Verdict, Workload,
    };

    /// shop/web-0:43210 → shop/db-0:5432, first SYN, allowed at the sender.
    pub(crate) fn flow(change: impl FnOnce(&mut Flow)) -> Flow {
        let side = |id, identity, pod: &str, app: &str| Endpoint {
            id,
            identity,
            namespace: "shop".into(),
            labels: vec![format!("k8s:app={app}").into(), "k8s:io.kubernetes.pod.namespace=shop".into()],
            pod_name: pod.into(),
            workloads: vec![Workload { name: app.into(), kind: "Deployment".into() }],
        };
        let mut flow = Flow {
            time: "2026-11-22T22:40:01.123456789Z".parse().unwrap(),
            verdict: Verdict::Forwarded,
            drop_reason: 0,
            drop_reason_desc: None,
            ip: Some(Ip {
                source: "10.244.1.10".parse().unwrap(),
                destination: "10.244.2.10".parse().unwrap(),
                version: IpVersion::IPv4,
            }),
            l4: Some(Layer4::Tcp(TcpPorts {
                source_port: 43210,
                destination_port: 5432,
                flags: TcpFlags { syn: true, ..TcpFlags::default() },
            })),
            source: side(7, 1234, "web-0", "web"),
            destination: side(0, 4321, "db-0", "db"),
            kind: FlowType::L3L4,
            node_name: "node-1".into(),
            event_type: EventType { kind: EventType::POLICY_VERDICT, sub_type: 0 },
            traffic_direction: Some(TrafficDirection::Egress),
            policy_match_type: PolicyMatch::L3L4,
            trace_observation_point: None,
            is_reply: Some(false),
            egress_allowed_by: Vec::new(),
            ingress_allowed_by: Vec::new(),
            egress_denied_by: Vec::new(),
            ingress_denied_by: Vec::new(),
            summary: "TCP Flags: SYN".into(),
            strait: Extension::default(),
        };
        change(&mut flow);
        flow
    }
}
