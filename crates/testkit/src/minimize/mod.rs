//! Makes a failing case small.

mod cilium;
mod cluster_network_policy;

use std::sync::Arc;

use strait_api::{CiliumCidrGroup, NetworkPolicy, NetworkPolicyRule, Object, Objects, PeerSelector, Pod};
use strait_base::LabelSelector;

/// The smallest cluster that can be had from `objects` by leaving out one thing after the other (a policy, a pod, a rule, a peer, a port, an
/// exception, a requirement, a label, a declared port) while `fails` still holds.
pub fn minimize(objects: &Objects, mut fails: impl FnMut(&Objects) -> bool) -> Objects {
    let mut smallest = objects.clone();
    loop {
        let Some(smaller) = candidates(&smallest).find(|candidate| fails(candidate)) else { return smallest };
        smallest = smaller;
    }
}

/// Everything that is one thing less.
fn candidates(objects: &Objects) -> impl Iterator<Item = Objects> {
    let all: Vec<Object> = objects.iter().cloned().collect();
    let objects = objects.clone();
    all.into_iter().flat_map(move |object| {
        let mut out = Vec::new();
        match &object {
            Object::NetworkPolicy(policy) => {
                out.push(without(&objects, &object));
                let smaller = smaller_policies(policy).into_iter().map(|policy| Object::NetworkPolicy(policy.into()));
                out.extend(smaller.map(|policy| with(&objects, policy)));
            }
            Object::Pod(pod) => {
                out.push(without(&objects, &object));
                let smaller = smaller_pods(pod).into_iter().map(|pod| Object::Pod(pod.into()));
                out.extend(smaller.map(|pod| with(&objects, pod)));
            }
            Object::CiliumNetworkPolicy(policy) => {
                out.push(without(&objects, &object));
                let smaller = cilium::smaller(policy).into_iter();
                out.extend(smaller.map(|policy| with(&objects, Object::CiliumNetworkPolicy(policy.into()))));
            }
            Object::ClusterNetworkPolicy(policy) => {
                out.push(without(&objects, &object));
                let smaller = cluster_network_policy::smaller(policy).into_iter();
                out.extend(smaller.map(|policy| with(&objects, Object::ClusterNetworkPolicy(policy.into()))));
            }
            Object::CiliumCidrGroup(group) => {
                out.push(without(&objects, &object));
                let smaller = one_less(&group.external_cidrs).into_iter().map(|external_cidrs| {
                    let smaller = CiliumCidrGroup { external_cidrs, ..CiliumCidrGroup::clone(group) };
                    with(&objects, Object::CiliumCidrGroup(smaller.into()))
                });
                out.extend(smaller);
            }
            Object::Service(_) | Object::EndpointSlice(_) => out.push(without(&objects, &object)),
            Object::Namespace(_)
            | Object::Node(_)
            | Object::ServiceAccount(_)
            | Object::ConfigMap(_)
            | Object::GatewayClass(_)
            | Object::Gateway(_)
            | Object::ListenerSet(_)
            | Object::Route(_)
            | Object::ReferenceGrant(_)
            | Object::BackendTlsPolicy(_)
            | Object::BackendTrafficPolicy(_)
            | Object::IstioGateway(_)
            | Object::VirtualService(_)
            | Object::DestinationRule(_)
            | Object::ServiceEntry(_)
            | Object::WorkloadEntry(_)
            | Object::Secret(_)
            | Object::Workload(_) => {}
        }
        out
    })
}

fn without(objects: &Objects, object: &Object) -> Objects {
    let mut out = objects.clone();
    out.remove(&object.key());
    out
}

fn with(objects: &Objects, object: Object) -> Objects {
    let mut out = objects.clone();
    out.replace(object);
    out
}

/// Every list that lacks one of `all`.
fn one_less<T: Clone>(all: &[T]) -> Vec<Vec<T>> {
    let lacking = |at: usize| all[..at].iter().chain(&all[at + 1..]).cloned().collect();
    (0..all.len()).map(lacking).collect()
}

/// Every list in which one of `all` is smaller.
fn one_smaller<T: Clone>(all: &[T], smaller: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let mut out = Vec::new();
    for (at, one) in all.iter().enumerate() {
        for smaller in smaller(one) {
            let mut list = all.to_vec();
            list[at] = smaller;
            out.push(list);
        }
    }
    out
}

fn smaller_pods(pod: &Pod) -> Vec<Pod> {
    let mut out = Vec::new();
    for key in pod.meta.labels.0.keys() {
        let mut smaller = pod.clone();
        smaller.meta.labels.0.remove(key);
        out.push(smaller);
    }
    for (container, ports) in pod.spec.containers.iter().map(|container| container.ports.len()).enumerate() {
        for port in 0..ports {
            let mut smaller = pod.clone();
            smaller.spec.containers[container].ports.remove(port);
            out.push(smaller);
        }
    }
    out
}

fn smaller_policies(policy: &NetworkPolicy) -> Vec<NetworkPolicy> {
    let mut out = Vec::new();
    let mut push = |change: &dyn Fn(&mut NetworkPolicy)| {
        let mut smaller = policy.clone();
        change(&mut smaller);
        out.push(smaller);
    };
    if policy.isolates_ingress && policy.isolates_egress {
        push(&|smaller| smaller.isolates_ingress = false);
        push(&|smaller| smaller.isolates_egress = false);
    }
    for selector in smaller_selectors(&policy.pod_selector) {
        push(&|smaller| smaller.pod_selector = selector.clone());
    }
    for at in 0..policy.ingress.len() {
        push(&|smaller| drop(smaller.ingress.remove(at)));
        for rule in smaller_rules(&policy.ingress[at]) {
            push(&|smaller| smaller.ingress[at] = rule.clone());
        }
    }
    for at in 0..policy.egress.len() {
        push(&|smaller| drop(smaller.egress.remove(at)));
        for rule in smaller_rules(&policy.egress[at]) {
            push(&|smaller| smaller.egress[at] = rule.clone());
        }
    }
    out
}

fn smaller_rules(rule: &NetworkPolicyRule) -> Vec<NetworkPolicyRule> {
    let mut out = Vec::new();
    for at in 0..rule.ports.len() {
        let mut smaller = rule.clone();
        smaller.ports.remove(at);
        out.push(smaller);
    }
    for at in 0..rule.peers.len() {
        let mut smaller = rule.clone();
        smaller.peers.remove(at);
        out.push(smaller);
        for selects in smaller_peers(&rule.peers[at].selects) {
            let mut smaller = rule.clone();
            smaller.peers[at].selects = selects;
            out.push(smaller);
        }
    }
    out
}

fn smaller_peers(peer: &PeerSelector) -> Vec<PeerSelector> {
    match peer {
        PeerSelector::Pods(pods) => smaller_selectors(pods).into_iter().map(PeerSelector::Pods).collect(),
        PeerSelector::Namespaces(namespaces) => {
            smaller_selectors(namespaces).into_iter().map(PeerSelector::Namespaces).collect()
        }
        PeerSelector::NamespacedPods { namespaces, pods } => {
            let fewer_namespaces = smaller_selectors(namespaces)
                .into_iter()
                .map(|namespaces| PeerSelector::NamespacedPods { namespaces, pods: pods.clone() });
            let fewer_pods = smaller_selectors(pods)
                .into_iter()
                .map(|pods| PeerSelector::NamespacedPods { namespaces: namespaces.clone(), pods });
            fewer_namespaces.chain(fewer_pods).collect()
        }
        PeerSelector::IpBlock { cidr, except } => (0..except.len())
            .map(|at| {
                let mut except = except.clone();
                except.remove(at);
                PeerSelector::IpBlock { cidr: *cidr, except }
            })
            .collect(),
    }
}

fn smaller_selectors(selector: &LabelSelector) -> Vec<LabelSelector> {
    let mut out = Vec::new();
    for key in selector.match_labels.0.keys().map(Arc::clone) {
        let mut smaller = selector.clone();
        smaller.match_labels.0.remove(&key);
        out.push(smaller);
    }
    for at in 0..selector.match_expressions.len() {
        let mut smaller = selector.clone();
        smaller.match_expressions.remove(at);
        out.push(smaller);
    }
    out
}
