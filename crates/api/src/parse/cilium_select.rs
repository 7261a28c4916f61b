//! `cilium.io/v2`: whom rules name, as `pkg/policy/api` checks it.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

use super::{
    decode::{Decoder, Fields, Step, nearest},
    meta,
    report::ErrorKind,
    text::Fault,
    tree::{Entry, Mark, Node, quoted},
    values,
};
use crate::types::{
    CiliumCidrRule, CiliumCidrSource, CiliumCloudGroup, CiliumEntity, CiliumFqdn, CiliumKey, CiliumPeers,
    CiliumRequirement, CiliumSelector, CiliumService, CiliumSource,
};

const KEY: &str = "a label key, perhaps with a source before it, as k8s:app or reserved:host";

/// An `EndpointSelector`.
pub(super) fn selector(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumSelector> {
    let mut fields = d.fields(node)?;
    let match_labels =
        d.optional(&mut fields, "matchLabels", |d, node| Some(match_labels(d, node))).unwrap_or_default();
    let match_expressions = d.list(&mut fields, "matchExpressions", |d, node| {
        let (key, operator) = meta::requirement(d, node, |d, node| {
            let text = d.string(node)?;
            let key = key(&text);
            match &key {
                Some(key) => warn_of_source(d, node.at, key),
                None => d.refuse(node, KEY),
            }
            key
        })?;
        Some(CiliumRequirement { key, operator })
    });
    d.close(&fields, &[]);
    Some(CiliumSelector { match_labels, match_expressions })
}

fn match_labels(d: &mut Decoder<'_>, node: &Node) -> BTreeMap<CiliumKey, Arc<str>> {
    let mut keys: BTreeMap<Arc<str>, CiliumKey> = BTreeMap::new();
    let texts = d.strings(node, |d: &mut Decoder<'_>, entry: &Entry| {
        meta::value(d, entry);
        let Some(key) = key(&entry.key) else {
            let found = format!("the key {}", quoted(&entry.key));
            return d.fault(Fault::new(entry.key_at, ErrorKind::Value, found, KEY));
        };
        if let Some((first, _)) = keys.iter().find(|(_, other)| **other == key) {
            let found = format!("{} beside {}", quoted(&entry.key), quoted(first));
            let fault = Fault::new(entry.key_at, ErrorKind::Duplicate, found, "each key once, as both name one label");
            return d.fault(fault.remedy("remove one of them"));
        }
        warn_of_source(d, entry.key_at, &key);
        keys.insert(Arc::clone(&entry.key), key);
    });
    texts.into_iter().filter_map(|(text, value)| Some((keys.remove(&text)?, value))).collect()
}

/// A key as `labels.ParseSelectLabel` reads it.
fn key(text: &str) -> Option<CiliumKey> {
    let reserved = text.strip_prefix('$').or_else(|| text.strip_prefix("reserved."));
    let (source, key) = match (text.split_once(':'), reserved) {
        (Some((source, key)), _) => (source, key),
        (None, Some(key)) => ("reserved", key),
        (None, None) => ("any", text),
    };
    let known = [
        CiliumSource::Any,
        CiliumSource::K8s,
        CiliumSource::Reserved,
        CiliumSource::Cidr,
        CiliumSource::CidrGroup,
        CiliumSource::Fqdn,
        CiliumSource::Node,
    ];
    let valid = values::label_1123(source).is_ok() && values::qualified_name(key).is_ok();
    let source = known.into_iter().find(|known| known.as_str() == source);
    let source =
        source.unwrap_or_else(|| CiliumSource::Other(text.split_once(':').map_or("", |(source, _)| source).into()));
    valid.then(|| CiliumKey { source, key: key.into() })
}

fn warn_of_source(d: &mut Decoder<'_>, at: Mark, key: &CiliumKey) {
    if let CiliumSource::Other(source) = &key.source {
        d.warn(at, super::Topic::UnknownSource, &format!("nothing here has labels of the source {}", quoted(source)));
    }
}

/// Reads one L3 member of a rule.
type Member = fn(&mut Decoder<'_>, &Node) -> Option<CiliumPeers>;

const INGRESS: [(&str, Member); 6] = [
    ("fromEndpoints", endpoints),
    ("fromCIDR", cidrs),
    ("fromCIDRSet", cidr_sets),
    ("fromEntities", entities),
    ("fromNodes", nodes),
    ("fromGroups", groups),
];

const EGRESS: [(&str, Member); 7] = [
    ("toEndpoints", endpoints),
    ("toCIDR", cidrs),
    ("toCIDRSet", cidr_sets),
    ("toEntities", entities),
    ("toNodes", nodes),
    ("toGroups", groups),
    ("toServices", services),
];

/// The L3 member of a rule: at most one that is not empty.
pub(super) fn peers(d: &mut Decoder<'_>, fields: &mut Fields<'_>, ingress: bool, deny: bool) -> Option<CiliumPeers> {
    let mut members: Vec<(&'static str, Member)> = if ingress { INGRESS.to_vec() } else { EGRESS.to_vec() };
    if !ingress && !deny {
        members.push(("toFQDNs", fqdns));
    }
    let (mut given, mut wrong) = (Vec::new(), false);
    for (name, read) in members {
        if fields.get(name).is_some() {
            match d.optional(fields, name, read) {
                Some(member) => given.push((name, member)),
                None => wrong = true,
            }
        }
    }
    let is_empty = |(_, member): &(&str, CiliumPeers)| match member {
        CiliumPeers::Endpoints(list) | CiliumPeers::Nodes(list) => list.is_empty(),
        CiliumPeers::Cidrs(list) => list.is_empty(),
        CiliumPeers::CidrSets(list) => list.is_empty(),
        CiliumPeers::Entities(list) => list.is_empty(),
        CiliumPeers::Any | CiliumPeers::Services(_) | CiliumPeers::Fqdns(_) | CiliumPeers::Groups(_) => false,
    };
    let mut full = given.iter().filter(|member| !is_empty(member));
    if let (Some((first, _)), Some((second, _))) = (full.next(), full.next()) {
        let at = fields.node.get(second).map_or(fields.node.at, |entry| entry.key_at);
        let fault = Fault::new(at, ErrorKind::Value, format!("{first} beside {second}"), "one of them in a rule");
        d.fault(fault.remedy("write them as two rules; each allows (or denies) on its own"));
        return None;
    }
    if wrong {
        return None;
    }
    let chosen = given.iter().position(is_empty).unwrap_or(0);
    let Some((name, member)) = given.into_iter().nth(chosen) else { return Some(CiliumPeers::Any) };
    if is_empty(&(name, member.clone())) {
        let at = fields.node.get(name).map_or(fields.node.at, |entry| entry.value.at);
        d.within(Step::Field(name), |d| {
            d.warn(at, super::Topic::EmptyList, "an empty list selects nobody: this rule matches nothing");
        });
    }
    Some(member)
}

fn endpoints(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumPeers> {
    d.items(node, selector).map(CiliumPeers::Endpoints)
}

fn nodes(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumPeers> {
    d.items(node, selector).map(CiliumPeers::Nodes)
}

fn cidrs(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumPeers> {
    d.items(node, address_or_prefix).map(CiliumPeers::Cidrs)
}

/// A prefix, or an address for it alone, as `netip` reads them: without leading zeros.
fn address_or_prefix(d: &mut Decoder<'_>, node: &Node) -> Option<IpNet> {
    let text = d.string(node)?;
    if !text.contains('/') {
        return match values::address(&text) {
            Ok((address, sloppy)) if !sloppy.0 => Some(address.into()),
            _ => {
                d.refuse(node, "a CIDR or an address, as 10.0.0.0/8, 2001:db8::/32 or 203.0.113.7");
                None
            }
        };
    }
    prefix(d, node)
}

/// A prefix; host bits are cleared with a warning.
pub(super) fn prefix(d: &mut Decoder<'_>, node: &Node) -> Option<IpNet> {
    let text = d.string(node)?;
    match values::prefix(&text) {
        Ok((_, sloppy)) if sloppy.0 => {
            d.refuse(node, "a CIDR without leading zeros");
            None
        }
        Ok((net, _)) => {
            if net.trunc() != net {
                d.warn(node.at, super::Topic::HostBits, &format!("{text} has host bits set and means {}", net.trunc()));
            }
            Some(net.trunc())
        }
        Err(allowed) => {
            d.refuse(node, allowed);
            None
        }
    }
}

fn cidr_sets(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumPeers> {
    d.items(node, cidr_rule).map(CiliumPeers::CidrSets)
}

fn cidr_rule(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumCidrRule> {
    let mut fields = d.fields(node)?;
    let names = ["cidr", "cidrGroupRef", "cidrGroupSelector"];
    let given: Vec<&str> = names.into_iter().filter(|name| fields.get(name).is_some()).collect();
    let cidr = d.optional(&mut fields, "cidr", prefix);
    let group = d.optional(&mut fields, "cidrGroupRef", |d, node| d.checked(node, values::subdomain_1123));
    let groups = d.optional(&mut fields, "cidrGroupSelector", selector);
    let except = d.list(&mut fields, "except", |d, node| {
        let except = prefix(d, node)?;
        // `IpNet::contains` is false across address families.
        match cidr {
            Some(cidr) if !cidr.contains(&except) => {
                d.refuse_with(node, format!("a CIDR inside {cidr}"), "remove it, or widen cidr");
                None
            }
            _ => Some(except),
        }
    });
    d.close(&fields, &[]);
    one_of(d, node, &names, &given)?;
    let source = match (cidr, group, groups) {
        (Some(cidr), ..) => CiliumCidrSource::Cidr(cidr),
        (_, Some(group), _) => CiliumCidrSource::Group(group),
        (.., groups) => CiliumCidrSource::GroupSelector(groups?),
    };
    Some(CiliumCidrRule { source, except, location: d.location(node.at) })
}

/// Refuses an object that does not have exactly one of `names`.
pub(super) fn one_of(d: &mut Decoder<'_>, node: &Node, names: &[&str], given: &[&str]) -> Option<()> {
    let allowed = format!("exactly one of {}", names.join(", "));
    let fault = match given {
        [_] => return Some(()),
        [] => Fault::new(node.at, ErrorKind::Missing, node.found(), allowed),
        several => Fault::new(node.at, ErrorKind::Value, several.join(" beside "), allowed),
    };
    // Null is as good as absent, which is easily overlooked.
    let null = names.iter().find(|name| given.is_empty() && node.get(name).is_some());
    d.fault(match null {
        Some(name) => {
            fault.remedy(format!("{name} is null, as if it were not there; give it a value ({{}} selects all)"))
        }
        None => fault,
    });
    None
}

fn entities(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumPeers> {
    d.items(node, entity).map(CiliumPeers::Entities)
}

fn entity(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumEntity> {
    let text = d.string(node)?;
    let names = || CiliumEntity::ALL.into_iter().map(CiliumEntity::as_str);
    let found = CiliumEntity::ALL.into_iter().find(|entity| entity.as_str() == &*text);
    if found.is_none() {
        let allowed = names().collect::<Vec<_>>().join(", ");
        match nearest(&text, names()) {
            Some(meant) => d.refuse_with(node, allowed, format!("did you mean \"{meant}\"?")),
            None => d.refuse(node, allowed),
        }
    }
    found
}

/// The items of a list that upstream would read as every peer where it is empty.
fn some_items<T>(
    d: &mut Decoder<'_>,
    node: &Node,
    read: impl FnMut(&mut Decoder<'_>, &Node) -> Option<T>,
) -> Option<Vec<T>> {
    if matches!(&node.value, super::tree::Value::Sequence(items) if items.is_empty()) {
        d.refuse_with(node, "at least one", "remove the field to mean every peer");
        return None;
    }
    d.items(node, read)
}

fn services(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumPeers> {
    let services = some_items(d, node, service)?;
    Some(CiliumPeers::Services(services.into_iter().flatten().collect()))
}

fn service(d: &mut Decoder<'_>, node: &Node) -> Option<Vec<CiliumService>> {
    let mut fields = d.fields(node)?;
    let mut out = Vec::new();
    let has_any = ["k8sService", "k8sServiceSelector"].into_iter().any(|name| fields.get(name).is_some());
    out.extend(d.optional(&mut fields, "k8sService", |d, node| {
        let mut fields = d.fields(node)?;
        let name = d.required(&mut fields, "serviceName", "the name of a Service", |d, node| {
            d.checked(node, values::label_1035)
        });
        let namespace = d.optional(&mut fields, "namespace", |d, node| d.checked(node, values::label_1123));
        d.close(&fields, &[]);
        Some(CiliumService::Named { name: name?, namespace })
    }));
    out.extend(d.optional(&mut fields, "k8sServiceSelector", |d, node| {
        let mut fields = d.fields(node)?;
        let selector = d.required(&mut fields, "selector", "a label selector", selector);
        let namespace = d.optional(&mut fields, "namespace", |d, node| d.checked(node, values::label_1123));
        d.close(&fields, &[]);
        Some(CiliumService::Selected { selector: selector?, namespace })
    }));
    d.close(&fields, &[]);
    if !has_any {
        d.fault(Fault::new(node.at, ErrorKind::Missing, node.found(), "k8sService or k8sServiceSelector"));
    }
    Some(out)
}

fn groups(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumPeers> {
    let groups = some_items(d, node, |d, node| {
        let mut fields = d.fields(node)?;
        let group = d.required(&mut fields, "aws", "a group of AWS", |d, node| {
            let mut fields = d.fields(node)?;
            let labels = d.optional(&mut fields, "labels", |d, node| Some(d.strings(node, |_, _| {})));
            let security_group_ids = d.list(&mut fields, "securityGroupsIds", Decoder::string);
            let security_group_names = d.list(&mut fields, "securityGroupsNames", Decoder::string);
            let region = d.optional(&mut fields, "region", Decoder::string);
            d.close(&fields, &[]);
            let labels = labels.unwrap_or_default();
            Some(CiliumCloudGroup { labels, security_group_ids, security_group_names, region })
        });
        d.close(&fields, &[]);
        group
    });
    groups.map(CiliumPeers::Groups)
}

fn fqdns(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumPeers> {
    some_items(d, node, fqdn).map(CiliumPeers::Fqdns)
}

/// An `FQDNSelector`.
pub(super) fn fqdn(d: &mut Decoder<'_>, node: &Node) -> Option<CiliumFqdn> {
    let mut fields = d.fields(node)?;
    let names = ["matchName", "matchPattern"];
    let given: Vec<&str> = names.into_iter().filter(|name| fields.get(name).is_some()).collect();
    let name = d.optional(&mut fields, "matchName", |d, node| dns_name(d, node, false));
    let pattern = d.optional(&mut fields, "matchPattern", |d, node| dns_name(d, node, true));
    d.close(&fields, &[]);
    one_of(d, node, &names, &given)?;
    name.map(CiliumFqdn::Name).or(pattern.map(CiliumFqdn::Pattern))
}

fn dns_name(d: &mut Decoder<'_>, node: &Node, pattern: bool) -> Option<Arc<str>> {
    let text = d.string(node)?;
    let name = text.strip_suffix('.').unwrap_or(&text);
    let in_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || pattern && c == '*';
    let valid = text.len() <= 255 && name.split('.').all(|label| !label.is_empty() && label.chars().all(in_label));
    if valid {
        return Some(name.to_ascii_lowercase().into());
    }
    let remedy = if name.contains('*') { "write it as matchPattern" } else { "write the name alone, as example.com" };
    let allowed = "a DNS name of letters, digits, '-', '_' and '.', at most 255 characters";
    if pattern {
        d.refuse(node, format!("{allowed}, with '*' for any characters but dots"));
    } else {
        d.refuse_with(node, allowed, remedy);
    }
    None
}
