//! `cilium.io/v2`: `toPorts` and `icmps`, as `pkg/policy/api` checks them.

use std::sync::Arc;

use strait_base::Protocol;

use super::{
    cilium_l7::{self, WithPorts},
    decode::{Decoder, Fields, Step, nearest},
    report::ErrorKind,
    text::Fault,
    tree::{Node, Reads, Scalar, Value},
    values,
};
use crate::types::{CiliumIcmpField, CiliumPort, CiliumPortRule, PortRef};

/// Upstream's limit on the ports of an entry and on the fields of an ICMP rule.
const MAX: usize = 40;

/// Protocols that upstream knows behind `--enable-extended-ip-protocols`, which is off by default.
const EXTENDED: [&str; 7] = ["VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"];

/// Where a rule stands, as far as its ports depend on that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) ingress: bool,
    pub(super) deny: bool,
    /// The subject is nodes.
    pub(super) host: bool,
}

/// `toPorts` of a rule.
pub(super) fn port_rules(d: &mut Decoder<'_>, fields: &mut Fields<'_>, section: Section) -> Vec<CiliumPortRule> {
    d.list(fields, "toPorts", |d, node| port_rule(d, node, section))
}

fn port_rule(d: &mut Decoder<'_>, node: &Node, section: Section) -> Option<CiliumPortRule> {
    let mut fields = d.fields(node)?;
    let ports = d.list(&mut fields, "ports", port);
    if ports.is_empty() {
        let message = format!("{}: without ports this entry matches nothing; \"0\" is every port", d.path());
        d.note(node.at, super::Severity::Warning, super::Topic::MatchesNothing, message);
    }
    too_many(d, node, "ports", ports.len());
    let with = if section.deny { WithPorts::default() } else { cilium_l7::with_ports(d, &mut fields, &ports, section) };
    d.close(&fields, &[]);
    let WithPorts { l7, server_names, terminating_tls, originating_tls, listener } = with;
    let location = d.location(node.at);
    Some(CiliumPortRule { ports, l7, server_names, terminating_tls, originating_tls, listener, location })
}

fn too_many(d: &mut Decoder<'_>, node: &Node, name: &'static str, count: usize) {
    if let Some(entry) = node.get(name).filter(|_| count > MAX) {
        let fault = Fault::new(entry.value.at, ErrorKind::Limit, format!("{count} of them"), format!("at most {MAX}"));
        d.within(Step::Field(name), |d| d.fault(fault.remedy("divide them among several entries")));
    }
}

fn port(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumPort> {
    let mut fields = d.fields(node)?;
    let (before, allowed) = (d.errors.len(), "a port number or name in quotes (\"0\" for every port)");
    let port = d.required(&mut fields, "port", allowed, port_text);
    let readable = d.errors.len() == before;
    let protocol = d.optional(&mut fields, "protocol", protocol);
    let end_node = fields.get("endPort");
    let end_port = d.optional(&mut fields, "endPort", |d, node| d.integer(node, 0, i64::from(u16::MAX)));
    d.close(&fields, &[]);
    let end_port = end_port.and_then(|end| u16::try_from(end).ok()).filter(|end| *end != 0);
    if let (Some(node), Some(end), true) = (end_node, end_port, readable) {
        d.within(Step::Field("endPort"), |d| match &port {
            None => d.refuse_with(node, "no endPort beside port \"0\"", "remove it: every port is in the range"),
            Some(PortRef::Name(name)) => {
                d.refuse_with(
                    node,
                    format!("no endPort beside the named port \"{name}\""),
                    "write port as a number, or remove endPort",
                );
            }
            Some(PortRef::Number(first)) if end < *first => d.refuse(node, format!("at least port ({first})")),
            Some(PortRef::Number(_)) => {}
        });
    }
    Some(CiliumPort { port, end_port, protocol, location: d.location(node.at) })
}

/// A number in a string, or a name, which is read in lower case. `None` also for "0".
fn port_text(d: &mut Decoder<'_>, node: &Node) -> Option<PortRef> {
    let text = d.string(node)?;
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let leading_zero = text.len() > 1 && text.starts_with('0');
        match text.parse::<u16>() {
            Ok(0) if !leading_zero => {}
            Ok(number) if !leading_zero => return Some(PortRef::Number(number)),
            Ok(_) => d.refuse_with(node, "0-65535", "remove the leading zeros"),
            Err(_) => d.refuse(node, "0-65535"),
        }
        return None;
    }
    let name = text.to_ascii_lowercase();
    match values::port_name(&name) {
        Ok(()) => Some(PortRef::Name(name.into())),
        Err(allowed) => {
            d.refuse(node, format!("0-65535, or a port name: {allowed}"));
            None
        }
    }
}

/// `None` also for `ANY`.
fn protocol(d: &mut Decoder<'_>, node: &Node) -> Option<Protocol> {
    const ALLOWED: &str = "TCP, UDP, SCTP or ANY";
    let text = d.string(node)?;
    if &*text == "ANY" {
        return None;
    }
    if let Some(protocol) = Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == *text) {
        return Some(protocol);
    }
    let capitals = text.to_ascii_uppercase();
    match capitals.as_str() {
        "ICMP" | "ICMPV6" => d.refuse_with(node, ALLOWED, "write icmps instead of toPorts"),
        "TCP" | "UDP" | "SCTP" | "ANY" => d.refuse_with(node, ALLOWED, format!("write {capitals} in capitals")),
        other if EXTENDED.contains(&other) => {
            d.refuse_with(node, ALLOWED, "other protocols are allowed and denied by rules without toPorts");
        }
        _ => d.refuse(node, ALLOWED),
    }
    None
}

/// `icmps` of a rule.
pub(super) fn icmps(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Vec<Vec<CiliumIcmpField>> {
    d.list(fields, "icmps", |d, node| {
        let mut fields = d.fields(node)?;
        let types = d.list(&mut fields, "fields", icmp_field);
        too_many(d, node, "fields", types.len());
        d.close(&fields, &[]);
        Some(types)
    })
}

fn icmp_field(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumIcmpField> {
    let mut fields = d.fields(node)?;
    let family = d.optional(&mut fields, "family", |d, node| match &*d.string(node)? {
        "IPv4" => Some(false),
        "IPv6" => Some(true),
        _ => {
            d.refuse(node, "IPv4 or IPv6");
            None
        }
    });
    let ipv6 = family.unwrap_or_default();
    let allowed = "an ICMP type, as 8 or EchoRequest";
    let icmp_type = d.required(&mut fields, "type", allowed, |d, node| icmp_type(d, node, ipv6));
    d.close(&fields, &[]);
    Some(CiliumIcmpField { ipv6, icmp_type: icmp_type? })
}

fn icmp_type(d: &mut Decoder<'_>, node: &Node, ipv6: bool) -> Option<u8> {
    let Value::Scalar(Scalar { text, reads: Reads::String }) = &node.value else {
        return d.integer(node, 0, i64::from(u8::MAX)).and_then(|number| u8::try_from(number).ok());
    };
    let names: &[(&'static str, u8)] = if ipv6 { &ICMPV6_TYPES } else { &ICMPV4_TYPES };
    let number = text.parse().ok().filter(|number: &u8| number.to_string() == **text);
    let found = number.or_else(|| names.iter().find(|(name, _)| *name == &**text).map(|(_, number)| *number));
    if found.is_none() {
        refuse_icmp_type(d, node, text, names, ipv6);
    }
    found
}

fn refuse_icmp_type(d: &mut Decoder<'_>, node: &Node, text: &Arc<str>, names: &[(&'static str, u8)], ipv6: bool) {
    let listed = names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let allowed = format!("0-255 or, for {}, {listed}", if ipv6 { "IPv6" } else { "IPv4" });
    let (others, other): (&[(&str, u8)], _) = if ipv6 { (&ICMPV4_TYPES, "IPv4") } else { (&ICMPV6_TYPES, "IPv6") };
    if others.iter().any(|(name, _)| *name == &**text) {
        return d.refuse_with(node, allowed, format!("add family: {other}"));
    }
    match nearest(text, names.iter().map(|(name, _)| *name)) {
        Some(meant) => d.refuse_with(node, allowed, format!("did you mean \"{meant}\"?")),
        None => d.refuse(node, allowed),
    }
}

/// The names that upstream takes for types of ICMP for IPv4.
const ICMPV4_TYPES: [(&str, u8); 14] = [
    ("EchoReply", 0),
    ("DestinationUnreachable", 3),
    ("Redirect", 5),
    ("Echo", 8),
    ("EchoRequest", 8),
    ("RouterAdvertisement", 9),
    ("RouterSelection", 10),
    ("TimeExceeded", 11),
    ("ParameterProblem", 12),
    ("Timestamp", 13),
    ("TimestampReply", 14),
    ("Photuris", 40),
    ("ExtendedEchoRequest", 42),
    ("ExtendedEchoReply", 43),
];

/// The names that upstream takes for types of ICMP for IPv6.
const ICMPV6_TYPES: [(&str, u8); 27] = [
    ("DestinationUnreachable", 1),
    ("PacketTooBig", 2),
    ("TimeExceeded", 3),
    ("ParameterProblem", 4),
    ("EchoRequest", 128),
    ("EchoReply", 129),
    ("MulticastListenerQuery", 130),
    ("MulticastListenerReport", 131),
    ("MulticastListenerDone", 132),
    ("RouterSolicitation", 133),
    ("RouterAdvertisement", 134),
    ("NeighborSolicitation", 135),
    ("NeighborAdvertisement", 136),
    ("RedirectMessage", 137),
    ("RouterRenumbering", 138),
    ("ICMPNodeInformationQuery", 139),
    ("ICMPNodeInformationResponse", 140),
    ("InverseNeighborDiscoverySolicitation", 141),
    ("InverseNeighborDiscoveryAdvertisement", 142),
    ("HomeAgentAddressDiscoveryRequest", 144),
    ("HomeAgentAddressDiscoveryReply", 145),
    ("MobilePrefixSolicitation", 146),
    ("MobilePrefixAdvertisement", 147),
    ("DuplicateAddressRequestCodeSuffix", 157),
    ("DuplicateAddressConfirmationCodeSuffix", 158),
    ("ExtendedEchoRequest", 160),
    ("ExtendedEchoReply", 161),
];
