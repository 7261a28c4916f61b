//! Filters with the flags of `hubble observe`.
//!
//! Values of one flag are alternatives, different flags must all match. A flag without `from-` or `to-` asks for either side.
//! A flag behind `--not` takes away what it matches.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use strait_base::IdentityId;
use strait_packet::abi::DropReason;
use thiserror::Error;

use crate::{
    record::{EventType, Flow, ObservationPoint, TcpFlags, TrafficDirection, Verdict},
    selector,
    terms::{Clause, EventTerm, PodPattern, ProtocolTerm, SideTerms, WorkloadPattern},
};

/// Which flows are wanted. The default wants all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    allow: Vec<Clause>,
    deny: Vec<Clause>,
}

impl Filter {
    /// Every flag that takes a value, without the dashes.
    pub const FLAGS: &[&str] = &[
        "pod",
        "from-pod",
        "to-pod",
        "namespace",
        "from-namespace",
        "to-namespace",
        "label",
        "from-label",
        "to-label",
        "ip",
        "from-ip",
        "to-ip",
        "port",
        "from-port",
        "to-port",
        "identity",
        "from-identity",
        "to-identity",
        "workload",
        "from-workload",
        "to-workload",
        "verdict",
        "drop-reason-desc",
        "type",
        "protocol",
        "traffic-direction",
        "ip-version",
        "tcp-flags",
        "node-name",
        "http-status",
    ];

    /// Whether `flow` is wanted.
    pub fn matches(&self, flow: &Flow) -> bool {
        (self.allow.is_empty() || self.allow.iter().any(|clause| clause.matches(flow)))
            && !self.deny.iter().any(|clause| clause.matches(flow))
    }
}

/// A flag that cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FilterError {
    /// No such flag.
    #[error("--{0} is not a filter")]
    UnknownFlag(String),
    /// The value is not one of its kind.
    #[error("--{flag} {value}: {problem}")]
    Value {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
        /// What is wrong with it and what is allowed.
        problem: String,
    },
    /// Both ask for the same side.
    #[error("--{0} and --{1} cannot be combined: --{0} already asks for either side")]
    Conflict(String, String),
}

/// Makes a [`Filter`] from flags in the order they were given.
#[derive(Clone, Debug, Default)]
pub struct FilterBuilder {
    allow: Tracker,
    deny: Tracker,
}

/// `left` asks for a thing at the source, `right` at the destination; a flow matches with either.
#[derive(Clone, Debug, Default)]
struct Tracker {
    left: Clause,
    right: Clause,
    namespaces: [Vec<Arc<str>>; 3],
    flags: Vec<String>,
}

/// The sides a flag asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Either,
    Source,
    Destination,
}

impl Side {
    fn split(flag: &str) -> (Self, &str) {
        if let Some(rest) = flag.strip_prefix("from-") {
            return (Self::Source, rest);
        }
        match flag.strip_prefix("to-") {
            Some(rest) => (Self::Destination, rest),
            None => (Self::Either, flag),
        }
    }
}

impl FilterBuilder {
    /// Adds `--flag value`; `not`: it was behind `--not`.
    pub fn add(&mut self, flag: &str, value: &str, not: bool) -> Result<(), FilterError> {
        let tracker = if not { &mut self.deny } else { &mut self.allow };
        if !Filter::FLAGS.contains(&flag) {
            return Err(FilterError::UnknownFlag(flag.to_owned()));
        }
        tracker.check_conflict(flag)?;
        tracker.flags.push(flag.to_owned());
        tracker.set(flag, value).map_err(|problem| FilterError::Value {
            flag: flag.to_owned(),
            value: value.to_owned(),
            problem,
        })
    }

    /// The filter.
    pub fn build(self) -> Filter {
        Filter { allow: self.allow.clauses(), deny: self.deny.clauses() }
    }
}

impl Tracker {
    fn check_conflict(&self, flag: &str) -> Result<(), FilterError> {
        let (side, what) = Side::split(flag);
        for other in &self.flags {
            let (other_side, other_what) = Side::split(other);
            if what == other_what && (side == Side::Either) != (other_side == Side::Either) {
                let (either, one) = if side == Side::Either { (flag, other.as_str()) } else { (other.as_str(), flag) };
                return Err(FilterError::Conflict(either.to_owned(), one.to_owned()));
            }
        }
        Ok(())
    }

    fn both(&mut self, mut change: impl FnMut(&mut Clause)) {
        change(&mut self.left);
        change(&mut self.right);
    }

    fn side(&mut self, side: Side, change: impl Fn(&mut SideTerms)) {
        match side {
            Side::Either => {
                change(&mut self.left.source);
                change(&mut self.right.destination);
            }
            Side::Source => self.both(|clause| change(&mut clause.source)),
            Side::Destination => self.both(|clause| change(&mut clause.destination)),
        }
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let (side, what) = Side::split(flag);
        match what {
            "pod" => {
                let pattern = pod_pattern(value)?;
                self.side(side, |terms| terms.pods.push(pattern.clone()));
            }
            "namespace" => self.namespaces[side as usize].push(value.into()),
            "label" => {
                let selector = selector::parse(value)?;
                self.side(side, |terms| terms.labels.push(selector.clone()));
            }
            "ip" => {
                let net = address(value)?;
                self.side(side, |terms| terms.addresses.push(net));
            }
            "port" => {
                let port = value.parse().map_err(|_| "expected a port, 0-65535")?;
                self.side(side, |terms| terms.ports.push(port));
            }
            "identity" => {
                let identity = identity(value)?;
                self.side(side, |terms| terms.identities.push(identity));
            }
            "workload" => {
                let pattern = match value.split_once('/') {
                    Some((kind, name)) => WorkloadPattern { kind: Some(kind.into()), name: name.into() },
                    None => WorkloadPattern { kind: None, name: value.into() },
                };
                self.side(side, |terms| terms.workloads.push(pattern.clone()));
            }
            _ => return self.set_sideless(flag, value),
        }
        Ok(())
    }

    fn set_sideless(&mut self, flag: &str, value: &str) -> Result<(), String> {
        match flag {
            "verdict" => {
                let verdict = verdict(value)?;
                self.both(|clause| clause.verdicts.push(verdict));
            }
            "drop-reason-desc" => {
                let reason = DropReason::ALL
                    .iter()
                    .find(|reason| reason.name().eq_ignore_ascii_case(value))
                    .ok_or_else(|| expected(DropReason::ALL.iter().map(|reason| reason.name())))?;
                self.both(|clause| clause.drop_reasons.push(*reason as u8));
            }
            "type" => {
                let term = event_type(value)?;
                self.both(|clause| clause.events.push(term));
            }
            "protocol" => {
                let term = protocol(value)?;
                self.both(|clause| clause.protocols.push(term));
            }
            "traffic-direction" => {
                let direction = match value.to_ascii_lowercase().as_str() {
                    "ingress" => TrafficDirection::Ingress,
                    "egress" => TrafficDirection::Egress,
                    _ => return Err(expected(["ingress", "egress"])),
                };
                self.both(|clause| clause.directions.push(direction));
            }
            "ip-version" => {
                let v6 = match value.to_ascii_lowercase().trim_start_matches("ip").trim_start_matches('v') {
                    "4" => false,
                    "6" => true,
                    _ => return Err(expected(["4", "6"])),
                };
                self.both(|clause| clause.versions.push(v6));
            }
            "tcp-flags" => {
                let flags = tcp_flags(value)?;
                self.both(|clause| clause.tcp_flags.push(flags));
            }
            "node-name" => self.both(|clause| clause.nodes.push(value.into())),
            _ => self.both(|clause| clause.http_statuses.push(value.into())),
        }
        Ok(())
    }

    /// `--namespace shop --pod web` means `shop/web`; a pod that names its namespace keeps it.
    fn apply_namespaces(&mut self) {
        let [either, source, destination] = std::mem::take(&mut self.namespaces);
        in_namespaces(&mut self.left.source.pods, &either);
        in_namespaces(&mut self.right.destination.pods, &either);
        for clause in [&mut self.left, &mut self.right] {
            in_namespaces(&mut clause.source.pods, &source);
            in_namespaces(&mut clause.destination.pods, &destination);
        }
    }

    fn clauses(mut self) -> Vec<Clause> {
        if self.flags.is_empty() {
            return Vec::new();
        }
        self.apply_namespaces();
        for clause in [&mut self.left, &mut self.right] {
            for pattern in clause.source.pods.iter_mut().chain(&mut clause.destination.pods) {
                if &*pattern.namespace == UNSET_NAMESPACE {
                    pattern.namespace = DEFAULT_NAMESPACE.into();
                }
            }
        }
        if self.left == self.right { vec![self.left] } else { vec![self.left, self.right] }
    }
}

/// Where `--pod` names none, as kubectl does.
const DEFAULT_NAMESPACE: &str = "default";
/// No namespace can be called so: stands for "not named" until `--namespace` is known.
const UNSET_NAMESPACE: &str = "?";

fn in_namespaces(pods: &mut Vec<PodPattern>, namespaces: &[Arc<str>]) {
    if namespaces.is_empty() {
        return;
    }
    if pods.is_empty() {
        pods.push(PodPattern { namespace: UNSET_NAMESPACE.into(), prefix: "".into() });
    }
    *pods = std::mem::take(pods)
        .into_iter()
        .flat_map(|pod| {
            if &*pod.namespace == UNSET_NAMESPACE {
                let prefix = pod.prefix;
                namespaces
                    .iter()
                    .map(|namespace| PodPattern { namespace: Arc::clone(namespace), prefix: Arc::clone(&prefix) })
                    .collect()
            } else {
                vec![pod]
            }
        })
        .collect();
}

fn expected<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    format!("expected one of: {}", values.into_iter().collect::<Vec<_>>().join(", "))
}

fn pod_pattern(value: &str) -> Result<PodPattern, String> {
    match value.split_once('/') {
        Some(("", "")) => Err("expected [NAMESPACE/]NAME, a name may be cut short".to_owned()),
        Some((namespace, prefix)) => Ok(PodPattern { namespace: namespace.into(), prefix: prefix.into() }),
        None if value.is_empty() => Err("expected [NAMESPACE/]NAME, a name may be cut short".to_owned()),
        None => Ok(PodPattern { namespace: UNSET_NAMESPACE.into(), prefix: value.into() }),
    }
}

fn address(value: &str) -> Result<IpNet, String> {
    value
        .parse::<IpNet>()
        .or_else(|_| value.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| "expected an address or a prefix such as 10.0.0.0/8".to_owned())
}

fn identity(value: &str) -> Result<u32, String> {
    if let Ok(number) = value.parse() {
        return Ok(number);
    }
    let name = value.strip_prefix("reserved:").unwrap_or(value);
    let names = || (0..=10).filter_map(|number| IdentityId(number).reserved_name().map(|name| (number, name)));
    names()
        .find(|(_, reserved)| *reserved == name)
        .map(|(number, _)| number)
        .ok_or_else(|| format!("expected a number or {}", names().map(|(_, name)| name).collect::<Vec<_>>().join(", ")))
}

fn verdict(value: &str) -> Result<Verdict, String> {
    let named = |verdict: &Verdict| verdict.as_str().eq_ignore_ascii_case(value);
    Verdict::ALL.into_iter().find(named).ok_or_else(|| expected(Verdict::ALL.map(Verdict::as_str)))
}

fn event_type(value: &str) -> Result<EventTerm, String> {
    // The numbers of Cilium's monitor API; kinds that are never reported are understood and match nothing.
    const NAMES: [(&str, u8); 6] = [
        ("drop", EventType::DROP),
        ("debug", 2),
        ("capture", 3),
        ("trace", EventType::TRACE),
        ("policy-verdict", EventType::POLICY_VERDICT),
        ("l7", 129),
    ];
    let (name, sub) = value.split_once(':').map_or((value, None), |(name, sub)| (name, Some(sub)));
    let kind = match NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => *number,
        None => name.parse().map_err(|_| expected(NAMES.map(|(name, _)| name)))?,
    };
    let Some(sub) = sub else { return Ok(EventTerm { kind, sub_type: None }) };
    let point = ObservationPoint::ALL.into_iter().find(|point| kind == EventType::TRACE && point.as_str() == sub);
    let sub_type = match point {
        Some(point) => point.number(),
        None => sub.parse().map_err(|_| {
            format!(
                "sub-type {sub}: expected a number or {}",
                ObservationPoint::ALL.map(ObservationPoint::as_str).join(", ")
            )
        })?,
    };
    Ok(EventTerm { kind, sub_type: Some(sub_type) })
}

fn protocol(value: &str) -> Result<ProtocolTerm, String> {
    Ok(match value.to_ascii_lowercase().as_str() {
        "tcp" => ProtocolTerm::Tcp,
        "udp" => ProtocolTerm::Udp,
        "sctp" => ProtocolTerm::Sctp,
        "icmp" => ProtocolTerm::Icmp,
        "icmpv4" => ProtocolTerm::Icmpv4,
        "icmpv6" => ProtocolTerm::Icmpv6,
        "http" | "dns" | "kafka" => ProtocolTerm::Layer7,
        _ => return Err(expected(["tcp", "udp", "sctp", "icmp", "icmpv4", "icmpv6", "http", "dns"])),
    })
}

fn tcp_flags(value: &str) -> Result<TcpFlags, String> {
    let mut flags = TcpFlags::default();
    for name in value.split(',') {
        let flag = match name.trim().to_ascii_uppercase().as_str() {
            "SYN" => &mut flags.syn,
            "ACK" => &mut flags.ack,
            "FIN" => &mut flags.fin,
            "RST" => &mut flags.rst,
            "PSH" => &mut flags.psh,
            "URG" => &mut flags.urg,
            "ECE" => &mut flags.ece,
            "CWR" => &mut flags.cwr,
            _ => return Err(expected(TcpFlags::default().named().map(|(name, _)| name))),
        };
        *flag = true;
    }
    Ok(flags)
}

#[cfg(test)]
mod tests;
