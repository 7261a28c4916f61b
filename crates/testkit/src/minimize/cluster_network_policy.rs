//! Smaller policies of the tiers.

use strait_api::{ClusterNetworkPolicy, ClusterPeer, ClusterPeerSelector, ClusterRule, ClusterSubject};
use strait_base::LabelSelector;

use super::{one_less, one_smaller, smaller_selectors};

pub(super) fn smaller(policy: &ClusterNetworkPolicy) -> Vec<ClusterNetworkPolicy> {
    let lists = |rules: &[ClusterRule]| [one_less(rules), one_smaller(rules, smaller_rules)].concat();
    let mut out = Vec::new();
    out.extend(lists(&policy.ingress).into_iter().map(|ingress| ClusterNetworkPolicy { ingress, ..policy.clone() }));
    out.extend(lists(&policy.egress).into_iter().map(|egress| ClusterNetworkPolicy { egress, ..policy.clone() }));
    let subjects: Vec<ClusterSubject> = match &policy.subject {
        ClusterSubject::Namespaces(namespaces) => {
            smaller_selectors(namespaces).into_iter().map(ClusterSubject::Namespaces).collect()
        }
        ClusterSubject::Pods { namespaces, pods } => smaller_pairs(namespaces, pods)
            .map(|(namespaces, pods)| ClusterSubject::Pods { namespaces, pods })
            .collect(),
    };
    out.extend(subjects.into_iter().map(|subject| ClusterNetworkPolicy { subject, ..policy.clone() }));
    out
}

fn smaller_pairs(one: &LabelSelector, other: &LabelSelector) -> impl Iterator<Item = (LabelSelector, LabelSelector)> {
    let ones = smaller_selectors(one).into_iter().map(|one| (one, other.clone()));
    ones.chain(smaller_selectors(other).into_iter().map(|other| (one.clone(), other)))
}

fn smaller_rules(rule: &ClusterRule) -> Vec<ClusterRule> {
    let mut peers = one_smaller(&rule.peers, smaller_peers);
    if rule.peers.len() > 1 {
        peers.extend(one_less(&rule.peers));
    }
    let peers = peers.into_iter().map(|peers| ClusterRule { peers, ..rule.clone() });
    peers.chain(one_less(&rule.ports).into_iter().map(|ports| ClusterRule { ports, ..rule.clone() })).collect()
}

fn smaller_peers(peer: &ClusterPeer) -> Vec<ClusterPeer> {
    let smaller: Vec<ClusterPeerSelector> = match &peer.selects {
        ClusterPeerSelector::Namespaces(one) => {
            smaller_selectors(one).into_iter().map(ClusterPeerSelector::Namespaces).collect()
        }
        ClusterPeerSelector::Nodes(one) => smaller_selectors(one).into_iter().map(ClusterPeerSelector::Nodes).collect(),
        ClusterPeerSelector::Pods { namespaces, pods } => smaller_pairs(namespaces, pods)
            .map(|(namespaces, pods)| ClusterPeerSelector::Pods { namespaces, pods })
            .collect(),
        ClusterPeerSelector::Networks(networks) if networks.len() > 1 => {
            one_less(networks).into_iter().map(ClusterPeerSelector::Networks).collect()
        }
        ClusterPeerSelector::Networks(_) | ClusterPeerSelector::DomainNames(_) => Vec::new(),
    };
    smaller.into_iter().map(|selects| ClusterPeer { selects, location: peer.location.clone() }).collect()
}
