//! `cilium.io/v2`: what rules ask of the bytes of a connection, as `pkg/policy/api` checks it.

use std::sync::Arc;

use strait_base::Protocol;

use super::{
    cilium_ports::Section,
    cilium_select::fqdn,
    decode::{Decoder, Fields, Step},
    report::ErrorKind,
    text::Fault,
    tree::Node,
    values,
};
use crate::types::{
    CiliumHeaderMatch, CiliumHttpRule, CiliumL7Rules, CiliumListener, CiliumMismatch, CiliumPort, CiliumSecret,
    CiliumTlsContext,
};

/// What an entry of `toPorts` has beside its ports.
#[derive(Default)]
pub(super) struct WithPorts {
    pub(super) l7: Option<CiliumL7Rules>,
    pub(super) server_names: Vec<Arc<str>>,
    pub(super) terminating_tls: Option<CiliumTlsContext>,
    pub(super) originating_tls: Option<CiliumTlsContext>,
    pub(super) listener: Option<CiliumListener>,
}

/// Reads what an entry of an allow section has beside `ports`.
pub(super) fn with_ports(
    d: &mut Decoder<'_>,
    fields: &mut Fields<'_>,
    ports: &[CiliumPort],
    section: Section,
) -> WithPorts {
    let l7 = d.optional(fields, "rules", |d, node| {
        let rules = rules(d, node)?;
        check_rules(d, node, &rules, ports, section);
        Some(rules)
    });
    let server_names = d.list(fields, "serverNames", |d, node| {
        let name = d.string(node)?;
        if name.is_empty() {
            d.refuse(node, "a server name, as example.com");
        }
        Some(name)
    });
    let terminating_tls = d.optional(fields, "terminatingTLS", tls_context);
    let originating_tls = d.optional(fields, "originatingTLS", tls_context);
    let at = |name: &str| fields.node.get(name).map(|entry| entry.key_at);
    if let Some(at) =
        at("serverNames").filter(|_| !server_names.is_empty() && l7.is_some() && terminating_tls.is_none())
    {
        let fault = Fault::new(at, ErrorKind::Value, "serverNames beside rules", "both only with terminatingTLS");
        d.fault(fault.remedy("add terminatingTLS, or write two entries"));
    }
    let listener = d.optional(fields, "listener", |d, node| {
        if section.ingress {
            d.refuse_with(node, "no listener for ingress", "remove it");
        } else if l7.is_some() {
            d.refuse_with(node, "no listener beside rules", "remove one of them");
        }
        listener(d, node)
    });
    WithPorts { l7, server_names, terminating_tls, originating_tls, listener }
}

/// `rules`; `None` also where they are empty, which restricts nothing.
fn rules(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumL7Rules> {
    let mut fields = d.fields(node)?;
    let names = ["http", "dns", "kafka", "l7proto"];
    let given: Vec<&str> = names.into_iter().filter(|name| fields.get(name).is_some()).collect();
    let http = d.list(&mut fields, "http", http_rule);
    let dns = d.list(&mut fields, "dns", fqdn);
    let kafka = d.list(&mut fields, "kafka", |_, node| Some(node.at));
    let protocol = d.optional(&mut fields, "l7proto", Decoder::string);
    let l7 = fields.get("l7");
    d.close(&fields, &[]);
    if let Some(l7) = l7.filter(|_| protocol.is_none()) {
        d.within(Step::Field("l7"), |d| d.refuse_with(l7, "l7 only beside l7proto", "add l7proto"));
    }
    if given.len() > 1 {
        let allowed = "one protocol in an entry";
        let fault = Fault::new(node.at, ErrorKind::Value, given.join(" beside "), allowed);
        d.fault(fault.remedy("write an entry of toPorts for each"));
        return None;
    }
    let removed = match protocol {
        Some(protocol) => Some(protocol),
        None => (!kafka.is_empty()).then(|| "kafka".into()),
    };
    if let Some(protocol) = removed {
        d.warn(
            node.at,
            super::Topic::VoidL7,
            &format!("nothing enforces rules for {protocol} any more: what they are for is denied"),
        );
        return Some(CiliumL7Rules::Removed(protocol));
    }
    match (http.is_empty(), dns.is_empty()) {
        (false, _) => Some(CiliumL7Rules::Http(http)),
        (true, false) => Some(CiliumL7Rules::Dns(dns)),
        (true, true) => {
            d.warn(node.at, super::Topic::VoidL7, "no rule in it, so that every request is allowed");
            None
        }
    }
}

fn check_rules(d: &mut Decoder<'_>, node: &Node, rules: &CiliumL7Rules, ports: &[CiliumPort], section: Section) {
    let dns = matches!(rules, CiliumL7Rules::Dns(_));
    let mut refuse = |found: &str, allowed: &str, remedy: &str| {
        d.fault(Fault::new(node.at, ErrorKind::Value, found, allowed).remedy(remedy));
    };
    if section.host && (section.ingress || !dns) {
        refuse("L7 rules for nodes", "L7 rules for pods; for nodes only dns, for egress", "remove them");
    } else if section.ingress && dns {
        refuse("dns rules for ingress", "dns rules for egress", "move them to egress");
    }
    if ports.iter().any(|port| port.port.is_none()) {
        refuse("L7 rules for port \"0\"", "L7 rules for ports by number or name", "name the ports");
    }
    if dns {
        if ports.is_empty() {
            refuse("dns rules without ports", "dns rules with ports", "add port \"53\"");
        }
        if ports.iter().any(|port| port.end_port.is_some()) {
            refuse("dns rules for a range of ports", "dns rules for single ports", "write port \"53\" alone");
        }
    } else if ports.iter().any(|port| port.protocol != Some(Protocol::Tcp)) {
        refuse("L7 rules for a protocol other than TCP", "L7 rules for TCP (dns also for UDP)", "add protocol: TCP");
    }
}

fn http_rule(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumHttpRule> {
    let mut fields = d.fields(node)?;
    let rule = CiliumHttpRule {
        path: d.optional(&mut fields, "path", Decoder::string),
        method: d.optional(&mut fields, "method", Decoder::string),
        host: d.optional(&mut fields, "host", Decoder::string),
        headers: d.list(&mut fields, "headers", Decoder::string),
        header_matches: d.list(&mut fields, "headerMatches", header_match),
    };
    d.close(&fields, &[]);
    Some(rule)
}

fn header_match(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumHeaderMatch> {
    let mut fields = d.fields(node)?;
    let name = d.required(&mut fields, "name", "the name of a header", |d, node| {
        let name = d.string(node)?;
        if name.is_empty() {
            d.refuse(node, "the name of a header");
        }
        Some(name)
    });
    let value = d.optional(&mut fields, "value", Decoder::string);
    let secret = d.optional(&mut fields, "secret", secret);
    let mismatch = d.optional(&mut fields, "mismatch", |d, node| match &*d.string(node)? {
        "LOG" => Some(CiliumMismatch::Log),
        "ADD" => Some(CiliumMismatch::Add),
        "DELETE" => Some(CiliumMismatch::Delete),
        "REPLACE" => Some(CiliumMismatch::Replace),
        _ => {
            d.refuse(node, "LOG, ADD, DELETE or REPLACE");
            None
        }
    });
    d.close(&fields, &[]);
    Some(CiliumHeaderMatch { name: name?, value, secret, mismatch })
}

fn secret(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumSecret> {
    let mut fields = d.fields(node)?;
    let namespace = d.optional(&mut fields, "namespace", |d, node| d.checked(node, values::label_1123));
    let name =
        d.required(&mut fields, "name", "the name of a Secret", |d, node| d.checked(node, values::subdomain_1123));
    d.close(&fields, &[]);
    Some(CiliumSecret { namespace, name: name? })
}

fn tls_context(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumTlsContext> {
    let mut fields = d.fields(node)?;
    let secret = d.required(&mut fields, "secret", "a Secret, by name and namespace", secret);
    let trusted_ca = d.optional(&mut fields, "trustedCA", Decoder::string);
    let certificate = d.optional(&mut fields, "certificate", Decoder::string);
    let private_key = d.optional(&mut fields, "privateKey", Decoder::string);
    d.close(&fields, &[]);
    Some(CiliumTlsContext { secret: secret?, trusted_ca, certificate, private_key })
}

fn listener(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumListener> {
    let mut fields = d.fields(node)?;
    let config = d.required(&mut fields, "envoyConfig", "the Envoy configuration that has the listener", |d, node| {
        let mut fields = d.fields(node)?;
        let kind = d.optional(&mut fields, "kind", |d, node| {
            let kind = d.string(node)?;
            if !matches!(&*kind, "CiliumEnvoyConfig" | "CiliumClusterwideEnvoyConfig") {
                d.refuse(node, "CiliumEnvoyConfig or CiliumClusterwideEnvoyConfig");
            }
            Some(kind)
        });
        let name = d.required(&mut fields, "name", "its name", |d, node| d.checked(node, values::subdomain_1123));
        d.close(&fields, &[]);
        Some((kind, name?))
    });
    let name = d.required(&mut fields, "name", "the name of the listener", |d, node| {
        let name = d.string(node)?;
        if name.is_empty() {
            d.refuse(node, "the name of the listener");
        }
        Some(name)
    });
    let priority = d.optional(&mut fields, "priority", |d, node| d.integer(node, 1, 100));
    d.close(&fields, &[]);
    let (config_kind, config_name) = config?;
    let priority = priority.and_then(|priority| u8::try_from(priority).ok());
    Some(CiliumListener { config_kind, config_name, name: name?, priority })
}
