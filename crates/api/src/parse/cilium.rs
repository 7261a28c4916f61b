//! `cilium.io/v2`: policies, their rules and CIDR groups, as `pkg/policy/api` checks them.

use std::sync::Arc;

use super::{
    cilium_ports::{self, Section},
    cilium_select as select,
    decode::{Decoder, Fields},
    report::ErrorKind,
    text::Fault,
    tree::Node,
};
use crate::types::{
    CiliumAuthentication, CiliumCidrGroup, CiliumDefaultDeny, CiliumNetworkPolicy, CiliumPeers, CiliumRule,
    CiliumRuleLabel, CiliumSelector, CiliumSource, CiliumSubject, CiliumTrafficRule, Object, ObjectMeta,
};

const SECTIONS: [&str; 4] = ["ingress", "ingressDeny", "egress", "egressDeny"];

/// A `CiliumNetworkPolicy` or `CiliumClusterwideNetworkPolicy`.
pub(super) fn policy(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
    clusterwide: bool,
) -> Option<Object> {
    let own = meta.as_ref().map(|meta| Arc::clone(&meta.namespace));
    let own = own.as_deref().filter(|_| !clusterwide);
    let spec = d.optional(root, "spec", |d, node| rule(d, node, clusterwide, own));
    let has_spec = root.get("spec").is_some();
    let specs = d.list(root, "specs", |d, node| rule(d, node, clusterwide, own));
    let specs_empty = match root.get("specs").map(|node| &node.value) {
        None => true,
        Some(super::tree::Value::Sequence(items)) => items.is_empty(),
        Some(super::tree::Value::Scalar(_) | super::tree::Value::Mapping(_)) => false,
    };
    if !has_spec && specs_empty {
        let fault = Fault::new(root.node.at, ErrorKind::Missing, "neither", "spec, specs or both");
        d.fault(fault.remedy("add spec"));
    }
    let rules = spec.into_iter().chain(specs).collect();
    Some(Object::CiliumNetworkPolicy(Arc::new(CiliumNetworkPolicy { meta: meta?, clusterwide, rules })))
}

fn rule(d: &mut Decoder<'_>, node: &Node, clusterwide: bool, namespace: Option<&str>) -> Option<CiliumRule> {
    let mut fields = d.fields(node)?;
    let subject = subject(d, &mut fields, clusterwide, namespace);
    let host = fields.node.get("nodeSelector").is_some_and(|entry| !entry.value.is_null());
    let mut section = |d: &mut Decoder<'_>, name, ingress, deny| {
        d.list(&mut fields, name, |d, node| traffic_rule(d, node, Section { ingress, deny, host }))
    };
    let ingress = section(d, "ingress", true, false);
    let ingress_deny = section(d, "ingressDeny", true, true);
    let egress = section(d, "egress", false, false);
    let egress_deny = section(d, "egressDeny", false, true);
    let enable_default_deny = d.optional(&mut fields, "enableDefaultDeny", default_deny).unwrap_or_default();
    let labels = d.list(&mut fields, "labels", rule_label);
    let description = d.optional(&mut fields, "description", Decoder::string);
    let log = d.optional(&mut fields, "log", log);
    d.close(&fields, &[]);
    let has_rule = |name: &&str| match node.get(name).map(|entry| &entry.value.value) {
        Some(super::tree::Value::Sequence(items)) => !items.is_empty(),
        // Already refused where it is not null.
        Some(super::tree::Value::Mapping(_)) => true,
        Some(super::tree::Value::Scalar(_)) | None => false,
    };
    if !SECTIONS.iter().any(has_rule) {
        let allowed = "a rule in at least one of ingress, ingressDeny, egress and egressDeny";
        let fault = Fault::new(node.at, ErrorKind::Missing, "no rule", allowed);
        d.fault(fault.remedy("to deny all, write an empty rule, as ingress: [{}]"));
    }
    let location = d.location(node.at);
    let subject = subject?;
    Some(CiliumRule {
        subject,
        ingress,
        ingress_deny,
        egress,
        egress_deny,
        enable_default_deny,
        labels,
        description,
        log,
        location,
    })
}

fn subject(
    d: &mut Decoder<'_>,
    fields: &mut Fields<'_>,
    clusterwide: bool,
    namespace: Option<&str>,
) -> Option<CiliumSubject> {
    let names = ["endpointSelector", "nodeSelector"];
    let given: Vec<&str> = names.into_iter().filter(|name| fields.get(name).is_some()).collect();
    let endpoints = d.optional(fields, "endpointSelector", |d, node| {
        let selector = select::selector(d, node)?;
        if let Some(namespace) = namespace {
            warn_of_other_namespace(d, node, &selector, namespace);
        }
        Some(selector)
    });
    let nodes = d.optional(fields, "nodeSelector", |d, node| {
        if !clusterwide {
            d.refuse_with(
                node,
                "nodeSelector only in a CiliumClusterwideNetworkPolicy",
                "write endpointSelector, or change the kind",
            );
            return None;
        }
        select::selector(d, node)
    });
    select::one_of(d, fields.node, &names, &given)?;
    endpoints.map(CiliumSubject::Endpoints).or(nodes.map(CiliumSubject::Nodes))
}

/// Upstream ignores what the subject's selector says of a namespace.
fn warn_of_other_namespace(d: &mut Decoder<'_>, node: &Node, selector: &CiliumSelector, namespace: &str) {
    let names = |source: &CiliumSource| matches!(source, CiliumSource::Any | CiliumSource::K8s);
    let other = selector.match_labels.iter().find(|(key, value)| {
        names(&key.source) && &*key.key == "io.kubernetes.pod.namespace" && ***value != *namespace
    });
    if let Some((_, other)) = other {
        let message =
            format!("the policy is for pods of its own namespace {namespace} only: naming {other} has no effect");
        d.warn(node.at, super::Topic::OtherNamespace, &message);
    }
}

fn traffic_rule(d: &mut Decoder<'_>, node: &Node, section: Section) -> Option<CiliumTrafficRule> {
    let mut fields = d.fields(node)?;
    let peers = select::peers(d, &mut fields, section.ingress, section.deny);
    let ports = cilium_ports::port_rules(d, &mut fields, section);
    let icmps = cilium_ports::icmps(d, &mut fields);
    if let Some(entry) = node.get("icmps").filter(|_| !icmps.is_empty() && !ports.is_empty()) {
        let fault = Fault::new(entry.key_at, ErrorKind::Value, "icmps beside toPorts", "one of them in a rule");
        d.fault(fault.remedy("write them as two rules"));
    }
    let authentication = if section.deny { None } else { d.optional(&mut fields, "authentication", authentication) };
    d.close(&fields, &[]);
    let peers = peers?;
    if peers == CiliumPeers::Any && ports.is_empty() && icmps.is_empty() && section.deny {
        let message =
            format!("{}: an empty rule matches nothing; toEntities or fromEntities: [all] denies all", d.path());
        d.note(node.at, super::Severity::Warning, super::Topic::MatchesNothing, message);
    }
    Some(CiliumTrafficRule { peers, ports, icmps, authentication, location: d.location(node.at) })
}

fn authentication(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumAuthentication> {
    const ALLOWED: &str = "disabled, required or test-always-fail";
    let mut fields = d.fields(node)?;
    let mode = d.required(&mut fields, "mode", ALLOWED, |d, node| match &*d.string(node)? {
        "disabled" => Some(CiliumAuthentication::Disabled),
        "required" => Some(CiliumAuthentication::Required),
        "test-always-fail" => Some(CiliumAuthentication::TestAlwaysFail),
        _ => {
            d.refuse(node, ALLOWED);
            None
        }
    });
    d.close(&fields, &[]);
    mode
}

fn default_deny(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumDefaultDeny> {
    let mut fields = d.fields(node)?;
    let ingress = d.optional(&mut fields, "ingress", Decoder::boolean);
    let egress = d.optional(&mut fields, "egress", Decoder::boolean);
    d.close(&fields, &[]);
    Some(CiliumDefaultDeny { ingress, egress })
}

fn rule_label(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumRuleLabel> {
    let mut fields = d.fields(node)?;
    let key = d.required(&mut fields, "key", "a label key", Decoder::string);
    let value = d.optional(&mut fields, "value", Decoder::string).unwrap_or_else(|| "".into());
    let source = d.optional(&mut fields, "source", Decoder::string).unwrap_or_else(|| "".into());
    d.close(&fields, &[]);
    Some(CiliumRuleLabel { key: key?, value, source })
}

fn log(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    let mut fields = d.fields(node)?;
    let value = d.optional(&mut fields, "value", |d, node| {
        let value = d.string(node)?;
        if value.chars().count() > 32 || value.contains(char::is_control) {
            d.refuse(node, "at most 32 printable characters");
        }
        Some(value)
    });
    d.close(&fields, &[]);
    value
}

/// A `CiliumCIDRGroup`.
pub(super) fn cidr_group(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let external_cidrs = d.required(root, "spec", "an object with externalCIDRs", |d, node| {
        let mut fields = d.fields(node)?;
        let cidrs =
            d.required(&mut fields, "externalCIDRs", "a list of CIDRs", |d, node| d.items(node, select::prefix));
        d.close(&fields, &[]);
        cidrs
    });
    Some(Object::CiliumCidrGroup(Arc::new(CiliumCidrGroup { meta: meta?, external_cidrs: external_cidrs? })))
}
