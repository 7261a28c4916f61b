//! `ObjectMeta`, labels and label selectors.

use std::{collections::BTreeMap, sync::Arc};

use strait_base::{LabelSelector, Labels, Operator, Requirement, Shared};

use super::{
    decode::{Decoder, Fields, Step},
    report::ErrorKind,
    text::Fault,
    tree::{Entry, Node, quoted},
    values,
};
use crate::types::{Kind, ObjectMeta};

/// The fields of `ObjectMeta` that mean nothing here.
const IGNORED: [&str; 9] = [
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The API server's limit on all annotations of an object, in bytes.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// `metadata` of an object.
pub(super) fn object_meta(d: &mut Decoder<'_>, kind: Kind, root: &mut Fields<'_>) -> Option<ObjectMeta> {
    let at = root.node.at;
    let location = d.location(at);
    d.required(root, "metadata", "an object with a name", |d, node| {
        let mut fields = d.fields(node)?;
        let allowed = name_allowed(node);
        let name = d.required(&mut fields, "name", allowed, |d, node| d.checked(node, name_check(kind)));
        let namespace = namespace(d, kind, &mut fields);
        let mut labels = d.optional(&mut fields, "labels", |d, node| Some(labels(d, node))).unwrap_or_default();
        let annotations =
            d.optional(&mut fields, "annotations", |d, node| Some(annotations(d, node))).unwrap_or_default();
        let generation = d.optional(&mut fields, "generation", |d, node| d.integer(node, 0, i64::from(i32::MAX)));
        let created = d.optional(&mut fields, "creationTimestamp", timestamp);
        d.close(&fields, &IGNORED);
        let name = name?;
        let generation = generation.filter(|generation| *generation > 0).unwrap_or(1);
        if kind == Kind::Namespace {
            labels.insert("kubernetes.io/metadata.name", &name);
        }
        Some(ObjectMeta { name, namespace, labels, annotations, generation, created, location })
    })
}

/// An RFC 3339 time, in seconds since 1970.
fn timestamp(d: &mut Decoder<'_>, node: &Node) -> Option<i64> {
    let text = d.string(node)?;
    let read = text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    if read.is_none() {
        d.refuse(node, "a time, as 2025-04-01T12:00:00Z");
    }
    read
}

fn name_allowed(meta: &Node) -> &'static str {
    match meta.get("generateName") {
        Some(_) => "a name (generateName makes another object at every reading)",
        None => "a name",
    }
}

/// Which names the API server allows for a kind.
fn name_check(kind: Kind) -> fn(&str) -> Result<(), &'static str> {
    match kind {
        Kind::Namespace => values::label_1123,
        Kind::Service => values::label_1035,
        Kind::CronJob => values::cron_job_name,
        Kind::Node
        | Kind::Pod
        | Kind::ServiceAccount
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::EndpointSlice
        | Kind::Deployment
        | Kind::ReplicaSet
        | Kind::StatefulSet
        | Kind::DaemonSet
        | Kind::ReplicationController
        | Kind::Job
        | Kind::NetworkPolicy
        | Kind::CiliumNetworkPolicy
        | Kind::CiliumClusterwideNetworkPolicy
        | Kind::CiliumCidrGroup
        | Kind::ClusterNetworkPolicy
        | Kind::AdminNetworkPolicy
        | Kind::BaselineAdminNetworkPolicy
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::HttpRoute
        | Kind::GrpcRoute
        | Kind::TlsRoute
        | Kind::TcpRoute
        | Kind::UdpRoute
        | Kind::ReferenceGrant
        | Kind::BackendTlsPolicy
        | Kind::BackendTrafficPolicy
        | Kind::IstioGateway
        | Kind::VirtualService
        | Kind::DestinationRule
        | Kind::ServiceEntry
        | Kind::WorkloadEntry => values::subdomain_1123,
    }
}

fn namespace(d: &mut Decoder<'_>, kind: Kind, fields: &mut Fields<'_>) -> Arc<str> {
    let given = d.optional(fields, "namespace", |d, node| {
        let text = d.string(node)?;
        if kind.cluster_scoped() {
            if !text.is_empty() {
                d.refuse_with(node, format!("no namespace: a {kind} is in none"), "remove the field");
            }
            return None;
        }
        if text.is_empty() {
            return None;
        }
        d.checked(node, values::label_1123)
    });
    given.unwrap_or_else(|| if kind.cluster_scoped() { "".into() } else { "default".into() })
}

/// Labels.
pub(super) fn labels(d: &mut Decoder<'_>, node: &Node) -> Labels {
    Labels(d.strings(node, label).into())
}

fn label(d: &mut Decoder<'_>, entry: &Entry) {
    key(d, entry, values::qualified_name);
    value(d, entry);
}

/// Refuses a value that labels cannot have.
pub(super) fn value(d: &mut Decoder<'_>, entry: &Entry) {
    d.within(Step::Key(Arc::clone(&entry.key)), |d| {
        if let super::tree::Value::Scalar(scalar) = &entry.value.value
            && scalar.reads == super::tree::Reads::String
        {
            d.checked(&entry.value, values::label_value);
        }
    });
}

/// Refuses a key that `check` does not allow.
pub(super) fn key(d: &mut Decoder<'_>, entry: &Entry, check: fn(&str) -> Result<(), &'static str>) {
    if let Err(allowed) = check(&entry.key) {
        d.fault(Fault::new(entry.key_at, ErrorKind::Value, format!("the key {}", quoted(&entry.key)), allowed));
    }
}

/// Annotations.
pub(super) fn annotations(d: &mut Decoder<'_>, node: &Node) -> Shared<BTreeMap<Arc<str>, Arc<str>>> {
    let all = d.strings(node, |d, entry| {
        if let Err(allowed) = values::qualified_name(&entry.key.to_lowercase()) {
            d.fault(Fault::new(entry.key_at, ErrorKind::Value, format!("the key {}", quoted(&entry.key)), allowed));
        }
    });
    let size: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS {
        let fault =
            Fault::new(node.at, ErrorKind::Limit, format!("{size} bytes"), format!("at most {MAX_ANNOTATIONS} bytes"));
        d.fault(fault);
    }
    all.into()
}

/// A `LabelSelector`.
pub(super) fn label_selector(d: &mut Decoder<'_>, node: &Node) -> Option<LabelSelector> {
    let mut fields = d.fields(node)?;
    let match_labels = d.optional(&mut fields, "matchLabels", |d, node| Some(labels(d, node))).unwrap_or_default();
    let match_expressions = d.list(&mut fields, "matchExpressions", |d, node| {
        let (key, operator) = requirement(d, node, |d, node| d.checked(node, values::qualified_name))?;
        Some(Requirement { key, operator })
    });
    d.close(&fields, &[]);
    Some(LabelSelector { match_labels, match_expressions })
}

/// One of `matchExpressions`: its key, as `key` reads it, and what must hold of it.
pub(super) fn requirement<K>(
    d: &mut Decoder<'_>,
    node: &Node,
    key: impl FnOnce(&mut Decoder<'_>, &Node) -> Option<K>,
) -> Option<(K, Operator)> {
    let mut fields = d.fields(node)?;
    let key = d.required(&mut fields, "key", "a label key", key);
    let operator = d.required(&mut fields, "operator", "In, NotIn, Exists or DoesNotExist", |d, node| {
        let text = d.string(node)?;
        if !matches!(&*text, "In" | "NotIn" | "Exists" | "DoesNotExist") {
            d.refuse(node, "In, NotIn, Exists or DoesNotExist");
            return None;
        }
        Some((text, node))
    });
    let values_node = fields.get("values");
    let values = d.list(&mut fields, "values", |d, node| d.checked(node, values::label_value));
    d.close(&fields, &[]);
    let (operator, operator_node) = operator?;
    let operator = match &*operator {
        "In" | "NotIn"
            if values_node
                .is_none_or(|node| matches!(&node.value, super::tree::Value::Sequence(items) if items.is_empty())) =>
        {
            d.missing(values_node.unwrap_or(operator_node).at, "values", &format!("at least one value for {operator}"));
            return None;
        }
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        _ => {
            if let Some(node) = values_node.filter(|_| !values.is_empty()) {
                d.within(Step::Field("values"), |d| {
                    d.refuse_with(node, format!("no values for {operator}"), "remove values, or use In or NotIn");
                });
            }
            if &*operator == "Exists" { Operator::Exists } else { Operator::DoesNotExist }
        }
    };
    Some((key?, operator))
}
