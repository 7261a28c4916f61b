//! The pods that selectors can tell apart.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use strait_api::{Kind, Objects};
use strait_base::{LabelSelector, Labels, Protocol};
use strait_model::{
    Pod, Snapshot,
    rule::{EndpointSelector, NamespaceSelector, PeerSelector, Peers, Policy},
};

/// Label keys that differ from replica to replica: pods are told apart by them only where a selector asks for them.
const PER_REPLICA: [&str; 8] = [
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "controller-revision-hash",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "job-completion-index",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// Pods that no selector tells apart and that declare the same ports.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub namespace: &'a Arc<str>,
    pub account: &'a Arc<str>,
    pub labels: Labels,
    /// Name, protocol and number of the ports that they declare.
    pub ports: Vec<(Option<&'a str>, Protocol, u16)>,
    /// One of them.
    pub pod: &'a Pod,
    /// The policies that select them.
    pub policies: Vec<&'a Policy>,
}

impl Group<'_> {
    /// How people call them: by the workload, else by the pod.
    pub(crate) fn name(&self) -> String {
        let name = self.pod.workload().and_then(|workload| workload.split_once('/')).map(|(_, name)| name);
        format!("{}/{}", self.namespace, name.unwrap_or(&self.pod.key.name))
    }
}

/// Every group, and what they are found by.
pub(crate) struct Cluster<'a> {
    pub snapshot: &'a Snapshot,
    pub groups: Vec<Group<'a>>,
    /// Namespaces that something other than a policy is in, or that are declared.
    pub namespaces: BTreeSet<Arc<str>>,
    by_namespace: BTreeMap<&'a str, Vec<usize>>,
    selected: RefCell<BTreeMap<EndpointSelector, Rc<[usize]>>>,
}

type Key<'a> = (&'a Arc<str>, &'a Arc<str>, Labels, Vec<(Option<&'a str>, Protocol, u16)>);

impl<'a> Cluster<'a> {
    pub(crate) fn new(declared: &Objects, objects: &Objects, snapshot: &'a Snapshot) -> Self {
        let asked = asked_keys(snapshot, objects);
        let told = |key: &str| !PER_REPLICA.contains(&key) || asked.contains(key);
        let mut groups: BTreeMap<Key<'a>, &'a Pod> = BTreeMap::new();
        for pod in snapshot.pods().filter(|pod| pod.is_endpoint()) {
            let labels = pod.labels().iter().filter(|(key, _)| told(key)).collect();
            let containers = pod.object().spec.containers.iter();
            let ports = containers.flat_map(|container| &container.ports);
            let mut ports: Vec<_> =
                ports.map(|port| (port.name.as_deref(), port.protocol, port.container_port)).collect();
            ports.sort_unstable();
            groups.entry((&pod.key.namespace, pod.service_account(), labels, ports)).or_insert(pod);
        }
        let group = |((namespace, account, labels, ports), pod): (Key<'a>, &'a Pod)| {
            let policies = snapshot.policies_of(pod).collect();
            Group { namespace, account, labels, ports, pod, policies }
        };
        let groups: Vec<_> = groups.into_iter().map(group).collect();
        let mut by_namespace: BTreeMap<&'a str, Vec<usize>> = BTreeMap::new();
        for (index, group) in groups.iter().enumerate() {
            by_namespace.entry(group.namespace).or_default().push(index);
        }
        Self {
            snapshot,
            groups,
            namespaces: namespaces(declared),
            by_namespace,
            selected: RefCell::new(BTreeMap::new()),
        }
    }

    /// Whether a namespace is, or is sure to be without a manifest that says so.
    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name) || name == "default" || is_system(name)
    }

    /// The groups of a namespace.
    pub(crate) fn in_namespace(&self, name: &str) -> impl Iterator<Item = &Group<'a>> {
        self.by_namespace.get(name).into_iter().flatten().filter_map(|index| self.groups.get(*index))
    }

    /// The namespaces that `selector` selects, of those that there are.
    pub(crate) fn namespaces_of(&self, selector: &NamespaceSelector) -> Vec<&'a str> {
        match selector {
            NamespaceSelector::Named(name) => {
                self.snapshot.namespaces().filter(|(known, _)| *known == name).map(|(known, _)| &**known).collect()
            }
            NamespaceSelector::Labelled(labels) => self
                .snapshot
                .namespaces()
                .filter(|(_, found)| labels.matches(found))
                .map(|(name, _)| &**name)
                .filter(|name| self.has_namespace(name))
                .collect(),
        }
    }

    /// Indices of the groups that `selector` selects, in order.
    pub(crate) fn select(&self, selector: &EndpointSelector) -> Rc<[usize]> {
        if let Some(known) = self.selected.borrow().get(selector) {
            return Rc::clone(known);
        }
        let namespaces = self.namespaces_of(&selector.namespaces);
        let within = namespaces.iter().filter_map(|name| self.by_namespace.get(name)).flatten().copied();
        let matches = |index: &usize| {
            self.groups
                .get(*index)
                .is_some_and(|group| selector.pods.matches(&group.labels) && selector.matches_account(group.account))
        };
        let mut found: Vec<usize> = within.filter(matches).collect();
        found.sort_unstable();
        let found: Rc<[usize]> = found.into();
        self.selected.borrow_mut().insert(selector.clone(), Rc::clone(&found));
        found
    }

    /// The groups that `selector` selects.
    pub(crate) fn groups_of(&self, selector: &EndpointSelector) -> Vec<&Group<'a>> {
        self.select(selector).iter().filter_map(|index| self.groups.get(*index)).collect()
    }
}

/// Namespaces that belong to the platform: `kube-` is reserved by Kubernetes, `openshift-` by `OpenShift`. Their pods are rarely among an
/// application's manifests.
pub(crate) fn is_system(namespace: &str) -> bool {
    namespace.starts_with("kube-") || namespace.starts_with("openshift-")
}

/// Whether a selector of pods names the cluster's name servers by the labels that distributions give them.
pub(crate) fn names_dns(pods: &LabelSelector) -> bool {
    const SERVERS: [&str; 6] = ["kube-dns", "coredns", "core-dns", "node-local-dns", "nodelocaldns", "dns"];
    let key =
        |key: &str| matches!(key, "k8s-app" | "app.kubernetes.io/name" | "dns.operator.openshift.io/daemonset-dns");
    let is_server = |value: &str| SERVERS.contains(&value);
    pods.match_labels.iter().any(|(name, value)| key(name) && is_server(value))
        || pods.match_expressions.iter().any(|requirement| match &requirement.operator {
            strait_base::Operator::In(values) => key(&requirement.key) && values.iter().any(|value| is_server(value)),
            strait_base::Operator::Exists => &*requirement.key == "dns.operator.openshift.io/daemonset-dns",
            strait_base::Operator::NotIn(_) | strait_base::Operator::DoesNotExist => false,
        })
}

fn namespaces(declared: &Objects) -> BTreeSet<Arc<str>> {
    let mut all: BTreeSet<Arc<str>> = declared.namespaces().map(|found| Arc::clone(&found.meta.name)).collect();
    for object in declared.iter().filter(|object| !object.kind().is_policy() && object.kind() != Kind::Namespace) {
        if !object.meta().namespace.is_empty() {
            all.insert(Arc::clone(&object.meta().namespace));
        }
    }
    all
}

/// Every label key of a pod that a selector asks for.
fn asked_keys<'a>(snapshot: &'a Snapshot, objects: &'a Objects) -> BTreeSet<&'a str> {
    let mut keys = BTreeSet::new();
    let mut ask = |selector: &'a LabelSelector| {
        keys.extend(selector.match_labels.iter().map(|(key, _)| key));
        keys.extend(selector.match_expressions.iter().map(|requirement| &*requirement.key));
    };
    for policy in snapshot.policies() {
        policy.subject.endpoints().into_iter().for_each(|subject| ask(&subject.pods));
        for rule in &policy.rules {
            let Peers::Of(peers) = &rule.peers else { continue };
            for peer in peers {
                if let PeerSelector::Endpoints(selector) = &peer.selects {
                    ask(&selector.pods);
                }
            }
        }
    }
    keys.extend(objects.services().flat_map(|service| service.selector.iter().map(|(key, _)| key)));
    keys
}
