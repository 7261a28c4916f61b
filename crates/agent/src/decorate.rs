//! Kernel events as flow records: names, labels, and the rules behind the verdict.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use strait_base::{IdentityId, Protocol};
use strait_datapath::{Count, Event, Happening};
use strait_flow::{
    Counters, Endpoint, EventType, Extension, Flow, FlowType, Icmp, Ip, IpVersion, Layer4, ObservationPoint,
    PolicyMatch, Ports, TcpFlags, TcpPorts, TrafficDirection, Verdict,
};
use strait_model::{Connection, Direction, Family, L4, Origin, Party, PodKey};
use strait_packet::abi::{CloseReason, DropReason, Hook, event_flags};

use crate::view::{View, flow_origin, policies};

/// Answers about the nearest miss that are kept.
const MISSES: usize = 1024;
/// Nearest misses that are looked for in one second: a port scan asks for many, each once.
const MISSES_PER_SECOND: u32 = 500;

/// What to add to the monotonic clock to get the time of day.
#[derive(Clone, Copy)]
pub(crate) struct Clock(SignedDuration);

impl Clock {
    /// Of clocks that were read at once.
    pub(crate) fn new(now: Timestamp, monotonic_ns: u64) -> Self {
        Self(now.duration_since(Timestamp::UNIX_EPOCH).saturating_sub(since_boot(monotonic_ns)))
    }

    /// The time of day.
    pub(crate) fn time(self, monotonic_ns: u64) -> Timestamp {
        let since_epoch = self.0.saturating_add(since_boot(monotonic_ns));
        Timestamp::UNIX_EPOCH.checked_add(since_epoch).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

fn since_boot(monotonic_ns: u64) -> SignedDuration {
    SignedDuration::from_nanos(i64::try_from(monotonic_ns).unwrap_or(i64::MAX))
}

/// Makes records of one node's events.
pub(crate) struct Decorator {
    node: Arc<str>,
    misses: BTreeMap<(IpAddr, IpAddr, L4, bool), Option<Arc<str>>>,
    /// A second of the monotonic clock, and how many misses were looked for in it.
    searches: (u64, u32),
}

/// The two sides of a packet.
struct Sides<T> {
    source: T,
    destination: T,
}

impl<T> Sides<T> {
    /// `local` is the endpoint's; `outgoing`: the endpoint is the source.
    fn of(local: T, remote: T, outgoing: bool) -> Self {
        if outgoing { Self { source: local, destination: remote } } else { Self { source: remote, destination: local } }
    }
}

impl Decorator {
    pub(crate) fn new(node: Arc<str>) -> Self {
        Self { node, misses: BTreeMap::new(), searches: (0, 0) }
    }

    /// Objects changed: what was nearest to allowing something may no longer be.
    pub(crate) fn forget_misses(&mut self) {
        self.misses.clear();
    }

    /// The record of an event at `time`. `local` is the pod that the endpoint id of the event stands for.
    pub(crate) fn flow(&mut self, event: &Event, time: Timestamp, local: Option<&PodKey>, view: &View) -> Flow {
        // A drop tells of a packet, which may be an answer; everything else of a connection, seen from its opener.
        let is_reply = matches!(event.happening, Happening::Dropped(_)) && event.is_reply();
        let outgoing = (event.direction == Direction::Egress) != is_reply;
        let origins = view.origins(event.origin);
        let l4 = layer4(event, outgoing);
        let sides = Sides::of(
            side(event.endpoint, event.subject, event.local.ip(), local, view),
            side(0, event.peer, event.remote.ip(), None, view),
            outgoing,
        );
        let mut flow = Flow {
            time,
            verdict: verdict(event),
            drop_reason: 0,
            drop_reason_desc: None,
            ip: addresses(event, outgoing),
            source: sides.source,
            destination: sides.destination,
            kind: FlowType::L3L4,
            node_name: Arc::clone(&self.node),
            event_type: EventType::default(),
            traffic_direction: Some(match event.direction {
                Direction::Ingress => TrafficDirection::Ingress,
                Direction::Egress => TrafficDirection::Egress,
            }),
            policy_match_type: PolicyMatch::None,
            trace_observation_point: None,
            is_reply: if event.flags & event_flags::PICKED_UP != 0 { None } else { Some(is_reply) },
            egress_allowed_by: Vec::new(),
            ingress_allowed_by: Vec::new(),
            egress_denied_by: Vec::new(),
            ingress_denied_by: Vec::new(),
            summary: summary(event).into(),
            strait: Extension {
                origins: origins.iter().map(flow_origin).collect(),
                protocol: (l4.is_none() && event.protocol != 0).then_some(event.protocol),
                ..Extension::default()
            },
            l4,
        };
        match event.happening {
            Happening::Opened => opened(&mut flow, event, origins, view),
            Happening::Dropped(reason) => self.dropped(&mut flow, event, reason, outgoing, view),
            Happening::Closed(reason) => {
                traced(&mut flow, event, outgoing);
                flow.strait.closed = Some(close_text(reason).into());
            }
            Happening::Active => traced(&mut flow, event, outgoing),
        }
        flow
    }

    fn dropped(&mut self, flow: &mut Flow, event: &Event, reason: DropReason, outgoing: bool, view: &View) {
        let number = reason as u8;
        flow.event_type = EventType { kind: EventType::DROP, sub_type: number };
        flow.drop_reason = number;
        flow.drop_reason_desc = Some(reason.name().into());
        flow.strait.counters = Some(counters(event, outgoing));
        if !matches!(reason, DropReason::PolicyDenied | DropReason::PolicyDeny) {
            return;
        }
        let denied = policies(view.origins(event.origin), event.revision);
        match event.direction {
            Direction::Egress => flow.egress_denied_by = denied,
            Direction::Ingress => flow.ingress_denied_by = denied,
        }
        flow.strait.nearest_miss = self.nearest_miss(event, view);
    }

    /// The rule that came nearest to allowing what was dropped, in words.
    fn nearest_miss(&mut self, event: &Event, view: &View) -> Option<Arc<str>> {
        let egress = event.direction == Direction::Egress;
        let (from, to) = event.ends();
        let l4 = match Protocol::from_number(event.protocol) {
            Some(protocol) => L4::Port { protocol, port: to.port() },
            None if event.icmp.is_some() => L4::Icmp,
            None => L4::Other(event.protocol),
        };
        let key = (from.ip(), to.ip(), l4, egress);
        if let Some(known) = self.misses.get(&key) {
            return known.clone();
        }
        let second = event.time_ns / 1_000_000_000;
        if self.searches.0 != second {
            self.searches = (second, 0);
        }
        if self.searches.1 >= MISSES_PER_SECOND {
            return None;
        }
        self.searches.1 += 1;
        let explanation = view.snapshot.explain(&Connection {
            from: Party::Address(from.ip()),
            to: Party::Address(to.ip()),
            l4,
            family: Some(Family::of(to.ip())),
        });
        // The snapshot may be newer than the packet: what is allowed by now has no nearest miss.
        let step = explanation.steps.into_iter().find(|step| step.direction == event.direction);
        let miss = step.and_then(|step| step.decision.nearest_miss).map(|miss| Arc::from(miss.to_string()));
        if self.misses.len() >= MISSES {
            self.misses.clear();
        }
        self.misses.insert(key, miss.clone());
        miss
    }
}

fn opened(flow: &mut Flow, event: &Event, origins: &[Origin], view: &View) {
    flow.event_type = EventType { kind: EventType::POLICY_VERDICT, sub_type: 0 };
    flow.policy_match_type = view.policy_match(origins);
    let allowed = policies(origins, event.revision);
    match event.direction {
        Direction::Egress => flow.egress_allowed_by = allowed,
        Direction::Ingress => flow.ingress_allowed_by = allowed,
    }
}

fn traced(flow: &mut Flow, event: &Event, outgoing: bool) {
    let point = match event.hook {
        Hook::FromPod => ObservationPoint::FromEndpoint,
        Hook::ToPod => ObservationPoint::ToEndpoint,
        Hook::FromUplink => ObservationPoint::FromNetwork,
        Hook::ToUplink => ObservationPoint::ToNetwork,
    };
    flow.event_type = EventType { kind: EventType::TRACE, sub_type: point.number() };
    flow.trace_observation_point = Some(point);
    flow.strait.counters = Some(counters(event, outgoing));
}

const fn close_text(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Fin => "fin",
        CloseReason::Reset => "reset",
        CloseReason::Timeout => "timeout",
        CloseReason::Denied => "denied",
        CloseReason::Replaced => "replaced",
    }
}

const fn verdict(event: &Event) -> Verdict {
    match event.happening {
        Happening::Dropped(_) => Verdict::Dropped,
        Happening::Opened | Happening::Closed(_) | Happening::Active if event.is_audit() => Verdict::Audit,
        Happening::Opened | Happening::Closed(_) | Happening::Active => Verdict::Forwarded,
    }
}

fn side(id: u32, identity: IdentityId, address: IpAddr, pod: Option<&PodKey>, view: &View) -> Endpoint {
    let pod = pod.or_else(|| view.pod_at(address));
    let identity = view.cluster_wide(identity);
    let mut endpoint = Endpoint { id, identity: identity.0, labels: view.labels(identity), ..Endpoint::default() };
    if let Some(pod) = pod {
        endpoint.namespace = Arc::clone(&pod.namespace);
        endpoint.pod_name = Arc::clone(&pod.name);
        endpoint.workloads = view.workload(pod).into_iter().collect();
    }
    endpoint
}

fn addresses(event: &Event, outgoing: bool) -> Option<Ip> {
    let Sides { source, destination } = Sides::of(event.local.ip(), event.remote.ip(), outgoing);
    if source.is_unspecified() && destination.is_unspecified() {
        return None;
    }
    let version = if source.is_ipv4() { IpVersion::IPv4 } else { IpVersion::IPv6 };
    Some(Ip { source, destination, version })
}

fn layer4(event: &Event, outgoing: bool) -> Option<Layer4> {
    let Sides { source, destination } = Sides::of(event.local.port(), event.remote.port(), outgoing);
    let ports = Ports { source_port: source, destination_port: destination };
    let icmp = |(kind, code)| Icmp { kind, code };
    match event.protocol {
        6 => Some(Layer4::Tcp(TcpPorts {
            source_port: source,
            destination_port: destination,
            flags: TcpFlags::from_bits(event.tcp_flags),
        })),
        17 => Some(Layer4::Udp(ports)),
        132 => Some(Layer4::Sctp(ports)),
        1 => icmp_message(event).map(icmp).map(Layer4::Icmpv4),
        58 => icmp_message(event).map(icmp).map(Layer4::Icmpv6),
        _ => None,
    }
}

fn counters(event: &Event, outgoing: bool) -> Counters {
    let Sides { source, destination }: Sides<Count> = Sides::of(event.tx, event.rx, outgoing);
    Counters {
        packets: source.packets,
        bytes: source.bytes,
        reply_packets: destination.packets,
        reply_bytes: destination.bytes,
        duration_ns: if event.created_ns == 0 { 0 } else { event.time_ns.saturating_sub(event.created_ns) },
    }
}

/// As Hubble's `Summary`.
fn summary(event: &Event) -> String {
    match event.protocol {
        6 if event.tcp_flags == 0 => "TCP".to_owned(),
        6 => {
            let set = TcpFlags::from_bits(event.tcp_flags).named().into_iter().filter(|(_, set)| *set);
            format!("TCP Flags: {}", set.map(|(name, _)| name).collect::<Vec<_>>().join(", "))
        }
        17 => "UDP".to_owned(),
        132 => "SCTP".to_owned(),
        1 => format!("ICMPv4 {}", icmp_text(icmp_message(event), [8, 0])),
        58 => format!("ICMPv6 {}", icmp_text(icmp_message(event), [128, 129])),
        // Below IP, or drops of several protocols told as one.
        0 if event.local.ip().is_unspecified() && event.remote.ip().is_unspecified() => String::new(),
        number => format!("IP protocol {number}"),
    }
}

/// Type and code. ICMPv6 type 0 is reserved: it stands for a message that was dropped before its type was kept.
fn icmp_message(event: &Event) -> Option<(u8, u8)> {
    event.icmp.filter(|message| event.protocol != 58 || *message != (0, 0))
}

fn icmp_text(icmp: Option<(u8, u8)>, [request, reply]: [u8; 2]) -> String {
    match icmp {
        Some((kind, _)) if kind == request => "EchoRequest".to_owned(),
        Some((kind, _)) if kind == reply => "EchoReply".to_owned(),
        Some((kind, code)) => format!("type {kind} code {code}"),
        None => "message".to_owned(),
    }
}
