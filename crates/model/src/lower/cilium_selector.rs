//! Cilium's selectors: label keys with a source.
//!
//! A pod has `k8s:` labels: its own, and of its namespace, service account and cluster under keys of their own. A key of another
//! source, or of a cluster, is settled here: where no pod can have it, a requirement of it selects nobody or everybody.

use std::sync::Arc;

use strait_api::{CiliumKey, CiliumSelector, CiliumSource};
use strait_base::{LabelSelector, Operator, Requirement};

use crate::rule::{EndpointSelector, Entity, NamespaceSelector, PeerSelector};

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";
const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";
const CLUSTER: &str = "io.cilium.k8s.policy.cluster";
const API_SERVER: &str = "kube-apiserver";
/// The name of a cluster that nobody named.
const CLUSTER_NAME: &str = "default";

/// Every requirement of `selector`, those of `matchLabels` first.
fn requirements(selector: &CiliumSelector) -> impl Iterator<Item = (&CiliumKey, Operator)> {
    let labels = selector.match_labels.iter().map(|(key, value)| (key, Operator::In(vec![Arc::clone(value)])));
    labels.chain(selector.match_expressions.iter().map(|requirement| (&requirement.key, requirement.operator.clone())))
}

/// The pods that `selector` selects; `None` where it selects none whatever their labels. Without a word about namespaces they are
/// those of `namespace`, where there is one.
pub fn endpoints(selector: &CiliumSelector, namespace: Option<&Arc<str>>) -> Option<EndpointSelector> {
    let mut namespaces = Vec::new();
    let mut pods = Vec::new();
    let mut accounts = Vec::new();
    for (key, operator) in requirements(selector) {
        let requirement = |key: &str, operator| Requirement { key: Arc::from(key), operator };
        match &key.source {
            CiliumSource::Any | CiliumSource::K8s => match &*key.key {
                NAMESPACE => namespaces.push(requirement(crate::snapshot::NAMESPACE_NAME, operator)),
                SERVICE_ACCOUNT => accounts.push(operator),
                CLUSTER => holds(&operator, CLUSTER_NAME).then_some(())?,
                other => match other.strip_prefix(NAMESPACE_LABELS) {
                    Some(label) => namespaces.push(requirement(label, operator)),
                    None => pods.push(requirement(other, operator)),
                },
            },
            CiliumSource::Reserved
            | CiliumSource::Cidr
            | CiliumSource::CidrGroup
            | CiliumSource::Fqdn
            | CiliumSource::Node
            | CiliumSource::Other(_) => holds_without(&operator).then_some(())?,
        }
    }
    let namespaces = match namespace {
        Some(namespace) if namespaces.is_empty() => NamespaceSelector::Named(Arc::clone(namespace)),
        _ => NamespaceSelector::Labelled(all_of(namespaces)),
    };
    Some(EndpointSelector { namespaces, pods: all_of(pods), accounts })
}

/// The pods that a policy is about: those of its namespace, where it has one, whatever other namespace the selector names.
pub fn subjects(selector: &CiliumSelector, namespace: Option<&Arc<str>>) -> Option<EndpointSelector> {
    let mut selected = endpoints(selector, namespace)?;
    if let (Some(namespace), NamespaceSelector::Labelled(labels)) = (namespace, &mut selected.namespaces) {
        labels.match_labels.insert(crate::snapshot::NAMESPACE_NAME, namespace);
    }
    Some(selected)
}

/// The nodes that `selector` selects, by their labels; `None` where it selects none.
pub fn nodes(selector: &CiliumSelector) -> Option<LabelSelector> {
    let mut labels = Vec::new();
    for (key, operator) in requirements(selector) {
        match &key.source {
            CiliumSource::Any | CiliumSource::K8s | CiliumSource::Node => {
                labels.push(Requirement { key: Arc::clone(&key.key), operator });
            }
            CiliumSource::Reserved
            | CiliumSource::Cidr
            | CiliumSource::CidrGroup
            | CiliumSource::Fqdn
            | CiliumSource::Other(_) => holds_without(&operator).then_some(())?,
        }
    }
    Some(all_of(labels))
}

/// The labels that `selector` asks of an object that is no endpoint; `None` where it selects none.
pub fn objects(selector: &CiliumSelector) -> Option<LabelSelector> {
    nodes(selector)
}

/// Whom a selector selects that names reserved labels: it is taken as it is, of whatever namespace, and means nodes and the world as
/// well as pods.
pub enum Reserved {
    /// The API server.
    ApiServer,
    /// These.
    Peers(Vec<PeerSelector>),
}

/// `None` where `selector` names no reserved label. The API server is told apart only where a selector asks for nothing else: beside
/// other requirements it makes an allowing rule select nobody, and a denying one whomever the others select.
pub fn reserved(selector: &CiliumSelector, denies: bool) -> Option<Reserved> {
    let is_reserved = |key: &CiliumKey| key.source == CiliumSource::Reserved;
    let all: Vec<_> = requirements(selector).collect();
    if !all.iter().any(|(key, _)| is_reserved(key)) {
        return None;
    }
    let is_api_server = |key: &CiliumKey| is_reserved(key) && *key.key == *API_SERVER;
    if let [(key, operator)] = all.as_slice()
        && is_api_server(key)
        && holds(operator, "")
    {
        return Some(Reserved::ApiServer);
    }
    if !denies && all.iter().any(|(key, _)| is_api_server(key)) {
        return Some(Reserved::Peers(Vec::new()));
    }
    let has = |entity: Entity, name: &str| {
        name == entity.to_string() || name == "world" && matches!(entity, Entity::WorldIpv4 | Entity::WorldIpv6)
    };
    let selected = |entity: &Entity| {
        let mut others = all.iter().filter(|(key, _)| !is_api_server(key));
        others.all(|(key, operator)| {
            if is_reserved(key) && has(*entity, &key.key) { holds(operator, "") } else { holds_without(operator) }
        })
    };
    let classes =
        [Entity::Host, Entity::RemoteNode, Entity::Unmanaged, Entity::WorldIpv4, Entity::WorldIpv6].into_iter();
    let pods = endpoints(selector, None).map(PeerSelector::Endpoints);
    Some(Reserved::Peers(classes.filter(selected).map(PeerSelector::Entity).chain(pods).collect()))
}

fn holds(operator: &Operator, value: &str) -> bool {
    Requirement { key: "".into(), operator: operator.clone() }.matches(&[("", value)].into_iter().collect())
}

/// Whether it holds of labels that are not there.
fn holds_without(operator: &Operator) -> bool {
    matches!(operator, Operator::NotIn(_) | Operator::DoesNotExist)
}

/// One value goes to `matchLabels`, as people write it.
fn all_of(requirements: Vec<Requirement>) -> LabelSelector {
    let mut selector = LabelSelector::default();
    for requirement in requirements {
        let Requirement { key, operator } = &requirement;
        match operator {
            Operator::In(values) if values.len() == 1 && selector.match_labels.get(key).is_none() => {
                let value = values.first().map_or("", |value| value);
                selector.match_labels.insert(key, value);
            }
            Operator::In(_) | Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => {
                selector.match_expressions.push(requirement);
            }
        }
    }
    selector
}
