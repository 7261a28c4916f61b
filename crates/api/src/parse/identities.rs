//! `v1` Namespace, Node, ServiceAccount, ConfigMap and Secret.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    decode::{Decoder, Fields},
    meta,
    report::ErrorKind,
    text::Fault,
    tree::{Node as Tree, quoted},
    values,
};
use crate::types::{ConfigMap, Namespace, Node, Object, ObjectMeta, Secret, ServiceAccount};

pub(super) fn namespace(meta: ObjectMeta) -> Object {
    Object::Namespace(Arc::new(Namespace { meta }))
}

pub(super) fn service_account(meta: ObjectMeta) -> Object {
    Object::ServiceAccount(Arc::new(ServiceAccount { meta }))
}

pub(super) fn node(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let pod_cidrs = d.optional(root, "spec", |d, node| {
        let mut spec = d.fields(node)?;
        let many = d.list(&mut spec, "podCIDRs", pod_cidr);
        let one = d.optional(&mut spec, "podCIDR", pod_cidr);
        d.close(&spec, &[]);
        one_per_family(d, node, "podCIDRs", many.iter().map(|net: &IpNet| net.addr()));
        Some(first_among(d, node, "podCIDR", one, many))
    });
    let addresses = d.optional(root, "status", |d, node| {
        let mut status = d.fields(node)?;
        let addresses = d.list(&mut status, "addresses", |d, node| {
            let mut fields = d.fields(node)?;
            let of = d.required(&mut fields, "type", "a type, as InternalIP", Decoder::string)?;
            let internal = &*of == "InternalIP";
            d.required(&mut fields, "address", "an address", |d, node| {
                if internal { address(d, node) } else { d.string(node).and(None) }
            })
        });
        Some(addresses)
    });
    let (pod_cidrs, addresses) = (pod_cidrs.unwrap_or_default(), addresses.unwrap_or_default());
    Some(Object::Node(Arc::new(Node { meta: meta?, pod_cidrs, addresses })))
}

/// A prefix whose host bits are zero.
fn pod_cidr(d: &mut Decoder<'_>, node: &Tree) -> Option<IpNet> {
    let text = d.string(node)?;
    match values::prefix(&text) {
        Ok((net, _)) => Some(net.trunc()),
        Err(allowed) => {
            d.refuse(node, allowed);
            None
        }
    }
}

/// An address.
pub(super) fn address(d: &mut Decoder<'_>, node: &Tree) -> Option<IpAddr> {
    let text = d.string(node)?;
    match values::address(&text) {
        Ok((address, sloppy)) => {
            if sloppy.0 {
                d.warn(
                    node.at,
                    super::Topic::LeadingZeros,
                    &format!("{text} has leading zeros, which are read as decimal: {address}"),
                );
            }
            Some(address)
        }
        Err(allowed) => {
            d.refuse(node, allowed);
            None
        }
    }
}

/// Refuses a second address of a family in the list `name` of `parent`.
pub(super) fn one_per_family(
    d: &mut Decoder<'_>,
    parent: &Tree,
    name: &'static str,
    addresses: impl Iterator<Item = IpAddr>,
) {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv4);
    for family in [v4, v6] {
        if let ([_, second, ..], Some(entry)) = (&family[..], parent.get(name)) {
            let fault = Fault::new(
                entry.value.at,
                ErrorKind::Value,
                format!("{second} as a second of its family"),
                "at most one IPv4 and one IPv6",
            );
            d.within(super::decode::Step::Field(name), |d| d.fault(fault));
        }
    }
}

/// `many`, or `one` where there are none; `one` must be the first of them, as the API server wants it.
pub(super) fn first_among<T: PartialEq + std::fmt::Display>(
    d: &mut Decoder<'_>,
    parent: &Tree,
    name: &'static str,
    one: Option<T>,
    many: Vec<T>,
) -> Vec<T> {
    match (one, many.first()) {
        (Some(one), None) => vec![one],
        (Some(one), Some(first)) if one != *first => {
            if let Some(entry) = parent.get(name) {
                d.within(super::decode::Step::Field(name), |d| {
                    d.refuse(&entry.value, format!("the first of {name}s ({first})"));
                });
            }
            many
        }
        _ => many,
    }
}

pub(super) fn config_map(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let data_key = |d: &mut Decoder<'_>, entry: &super::tree::Entry| meta::key(d, entry, values::data_key);
    let data = d.optional(root, "data", |d, node| Some(d.strings(node, data_key))).unwrap_or_default();
    let binary = d.optional(root, "binaryData", |d, node| Some(bytes(d, node))).unwrap_or_default();
    if let Some(key) = binary.keys().find(|key| data.contains_key(*key)) {
        let at = root.node.at;
        d.fault(Fault::new(
            at,
            ErrorKind::Duplicate,
            format!("the key {} in data and binaryData", quoted(key)),
            "each key in one of them",
        ));
    }
    Some(Object::ConfigMap(Arc::new(ConfigMap { meta: meta?, data })))
}

pub(super) fn secret(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let secret_type = d.optional(root, "type", Decoder::string).unwrap_or_else(|| "Opaque".into());
    let mut data = d.optional(root, "data", |d, node| Some(bytes(d, node))).unwrap_or_default();
    let data_key = |d: &mut Decoder<'_>, entry: &super::tree::Entry| meta::key(d, entry, values::data_key);
    let plain = d.optional(root, "stringData", |d, node| Some(d.strings(node, data_key))).unwrap_or_default();
    data.extend(plain.into_iter().map(|(key, value)| (key, value.as_bytes().to_vec())));
    Some(Object::Secret(Arc::new(Secret { meta: meta?, secret_type, data })))
}

/// Base64 by key. What is refused is not shown: it may be a secret.
fn bytes(d: &mut Decoder<'_>, node: &Tree) -> BTreeMap<Arc<str>, Vec<u8>> {
    let mut decoded = BTreeMap::new();
    d.strings(node, |d, entry| {
        meta::key(d, entry, values::data_key);
        let super::tree::Value::Scalar(scalar) = &entry.value.value else { return };
        let text = if entry.value.is_null() { "" } else { &scalar.text };
        match values::base64(text) {
            Some(bytes) => {
                decoded.insert(Arc::clone(&entry.key), bytes);
            }
            None => d.within(super::decode::Step::Key(Arc::clone(&entry.key)), |d| {
                let fault =
                    Fault::new(entry.value.at, ErrorKind::Value, "something else (not shown)", "base64 with padding");
                d.fault(fault.remedy("encode it, or write it plainly under stringData"));
            }),
        }
    });
    decoded
}
