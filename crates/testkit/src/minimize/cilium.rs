//! Smaller Cilium policies.

use strait_api::{
    CiliumCidrRule, CiliumDefaultDeny, CiliumNetworkPolicy, CiliumPeers, CiliumPortRule, CiliumRule, CiliumSelector,
    CiliumSubject, CiliumTrafficRule,
};

use super::{one_less, one_smaller};

pub(super) fn smaller(policy: &CiliumNetworkPolicy) -> Vec<CiliumNetworkPolicy> {
    let mut lists = one_smaller(&policy.rules, smaller_rules);
    if policy.rules.len() > 1 {
        lists.extend(one_less(&policy.rules));
    }
    lists.into_iter().map(|rules| CiliumNetworkPolicy { rules, ..policy.clone() }).collect()
}

fn smaller_rules(rule: &CiliumRule) -> Vec<CiliumRule> {
    let mut out = Vec::new();
    if rule.enable_default_deny != CiliumDefaultDeny::default() {
        out.push(CiliumRule { enable_default_deny: CiliumDefaultDeny::default(), ..rule.clone() });
    }
    let subjects: Vec<CiliumSubject> = match &rule.subject {
        CiliumSubject::Endpoints(one) => smaller_selectors(one).into_iter().map(CiliumSubject::Endpoints).collect(),
        CiliumSubject::Nodes(one) => smaller_selectors(one).into_iter().map(CiliumSubject::Nodes).collect(),
    };
    out.extend(subjects.into_iter().map(|subject| CiliumRule { subject, ..rule.clone() }));
    let lists = |rules: &[CiliumTrafficRule]| [one_less(rules), one_smaller(rules, smaller_traffic)].concat();
    out.extend(lists(&rule.ingress).into_iter().map(|ingress| CiliumRule { ingress, ..rule.clone() }));
    out.extend(lists(&rule.ingress_deny).into_iter().map(|ingress_deny| CiliumRule { ingress_deny, ..rule.clone() }));
    out.extend(lists(&rule.egress).into_iter().map(|egress| CiliumRule { egress, ..rule.clone() }));
    out.extend(lists(&rule.egress_deny).into_iter().map(|egress_deny| CiliumRule { egress_deny, ..rule.clone() }));
    out
}

fn smaller_traffic(rule: &CiliumTrafficRule) -> Vec<CiliumTrafficRule> {
    let mut out = Vec::new();
    if rule.authentication.is_some() {
        out.push(CiliumTrafficRule { authentication: None, ..rule.clone() });
    }
    out.extend(smaller_peers(&rule.peers).into_iter().map(|peers| CiliumTrafficRule { peers, ..rule.clone() }));
    let ports = [one_less(&rule.ports), one_smaller(&rule.ports, smaller_ports)].concat();
    out.extend(ports.into_iter().map(|ports| CiliumTrafficRule { ports, ..rule.clone() }));
    let icmps = [one_less(&rule.icmps), one_smaller(&rule.icmps, |fields| one_less(fields))].concat();
    out.extend(icmps.into_iter().map(|icmps| CiliumTrafficRule { icmps, ..rule.clone() }));
    out
}

fn smaller_ports(rule: &CiliumPortRule) -> Vec<CiliumPortRule> {
    one_less(&rule.ports).into_iter().map(|ports| CiliumPortRule { ports, ..rule.clone() }).collect()
}

fn smaller_peers(peers: &CiliumPeers) -> Vec<CiliumPeers> {
    let selectors = |all: &[CiliumSelector]| [one_less(all), one_smaller(all, smaller_selectors)].concat();
    match peers {
        CiliumPeers::Any => Vec::new(),
        CiliumPeers::Endpoints(all) => selectors(all).into_iter().map(CiliumPeers::Endpoints).collect(),
        CiliumPeers::Nodes(all) => selectors(all).into_iter().map(CiliumPeers::Nodes).collect(),
        CiliumPeers::Cidrs(all) => one_less(all).into_iter().map(CiliumPeers::Cidrs).collect(),
        CiliumPeers::CidrSets(all) => {
            [one_less(all), one_smaller(all, smaller_sets)].concat().into_iter().map(CiliumPeers::CidrSets).collect()
        }
        CiliumPeers::Entities(all) => one_less(all).into_iter().map(CiliumPeers::Entities).collect(),
        CiliumPeers::Services(all) => one_less(all).into_iter().map(CiliumPeers::Services).collect(),
        CiliumPeers::Fqdns(all) => one_less(all).into_iter().map(CiliumPeers::Fqdns).collect(),
        CiliumPeers::Groups(all) => one_less(all).into_iter().map(CiliumPeers::Groups).collect(),
    }
}

fn smaller_sets(set: &CiliumCidrRule) -> Vec<CiliumCidrRule> {
    one_less(&set.except).into_iter().map(|except| CiliumCidrRule { except, ..set.clone() }).collect()
}

fn smaller_selectors(selector: &CiliumSelector) -> Vec<CiliumSelector> {
    let mut out = Vec::new();
    for key in selector.match_labels.keys() {
        let mut smaller = selector.clone();
        smaller.match_labels.remove(key);
        out.push(smaller);
    }
    let lists = one_less(&selector.match_expressions).into_iter();
    out.extend(lists.map(|match_expressions| CiliumSelector { match_expressions, ..selector.clone() }));
    out
}
