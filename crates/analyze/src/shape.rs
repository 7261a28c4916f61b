//! YAML that is valid and easily means something else than it looks.

use strait_api::PeerSelector as WrittenPeer;
use strait_base::PortRange;
use strait_model::{
    Direction,
    rule::{EndpointSelector, L4Match, NamespaceSelector, PeerSelector, Peers, Ports},
};

use crate::{
    Context, Report, codes,
    cover::Covers,
    objects::section,
    place::At,
    views::{PolicyView, RuleView, Written, WrittenRule},
};

/// Where names are looked up: DNS, and DNS of `OpenShift`'s pods.
pub(crate) const DNS_PORTS: [u16; 2] = [53, 5353];

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    for view in &context.policies {
        for rule in &view.rules {
            empty_lists(view, rule, report);
            split_peer(context, view, rule, report);
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            let rules: Vec<&RuleView<'_>> = view.rules.iter().filter(|rule| rule.direction == direction).collect();
            split_rule(view, &rules, report);
            empty_rules(view, &rules, report);
        }
        for rule in &view.rules {
            allows_all(context, view, rule, report);
        }
        policy_types(context, view, report);
    }
}

/// `from: []`, `ports: []`, `toPorts: []`.
fn empty_lists(view: &PolicyView<'_>, rule: &RuleView<'_>, report: &mut Report<'_>) {
    let peers = if rule.direction == Direction::Ingress { "from" } else { "to" };
    let names: &[(&'static str, &str)] = match rule.written {
        WrittenRule::Kubernetes(_) => &[(peers, "every peer"), ("ports", "every port")],
        WrittenRule::Cilium(_) => &[("toPorts", "every port and protocol"), ("icmps", "every port and protocol")],
        WrittenRule::Cluster(_) => &[],
    };
    for (name, all) in names {
        let at = rule.at.field(name);
        // An empty rule of Cilium's matches nothing.
        let nothing = matches!(rule.written, WrittenRule::Cilium(_)) && rule.lowered.is_empty();
        if !nothing && report.files.exactly(&at).and_then(|place| place.items()) == Some(0) {
            let message = format!("an empty list means {all}, as if it were not there");
            let remedy = format!("remove {name} if that is meant; remove the rule if nobody is meant");
            report.add(&codes::EMPTY_LIST_ALLOWS_ALL, &view.object, &at, message, remedy);
        }
    }
}

/// A selector of namespaces and right after it one of pods, as two peers, where the pods are in those namespaces.
fn split_peer(context: &Context<'_>, view: &PolicyView<'_>, rule: &RuleView<'_>, report: &mut Report<'_>) {
    let WrittenRule::Kubernetes(written) = rule.written else { return };
    for pair in written.peers.windows(2) {
        let [first, second] = pair else { continue };
        let (WrittenPeer::Namespaces(namespaces), WrittenPeer::Pods(pods)) = (&first.selects, &second.selects) else {
            continue;
        };
        if namespaces.is_empty() || pods.is_empty() {
            continue;
        }
        let there = EndpointSelector::new(NamespaceSelector::Labelled(namespaces.clone()), pods.clone());
        let others = context.cluster.groups_of(&there);
        if let Some(group) = others.iter().find(|group| *group.namespace != view.object.namespace) {
            let message = format!(
                "these are two peers: every pod of the namespaces {namespaces}, and the pods {pods} of namespace {}; pods with both ({} …) exist",
                view.object.namespace,
                group.name()
            );
            let remedy =
                "if only those are meant, remove the - before podSelector, so that one peer has both selectors";
            report.add(&codes::SPLIT_PEER, &view.object, &At::new(&second.location), message, remedy);
        }
    }
}

/// A rule with peers alone and right after it one with ports alone.
fn split_rule(view: &PolicyView<'_>, rules: &[&RuleView<'_>], report: &mut Report<'_>) {
    for pair in rules.windows(2) {
        let [first, second] = pair else { continue };
        let same_list = match (first.written, second.written) {
            (WrittenRule::Kubernetes(_), WrittenRule::Kubernetes(_)) => true,
            (WrittenRule::Cilium(a), WrittenRule::Cilium(b)) => {
                a.icmps.is_empty() && b.icmps.is_empty() && first.has_same_effect(second)
            }
            _ => false,
        };
        let names_lookup = second.ports.iter().all(|port| match &port.ports {
            Ports::Range(range) => DNS_PORTS.iter().any(|dns| *range == PortRange::single(*dns)),
            Ports::Named(name) => name.contains("dns"),
        });
        let explicit = match second.written {
            WrittenRule::Cilium(written) => !matches!(written.peers, strait_api::CiliumPeers::Any),
            WrittenRule::Kubernetes(_) | WrittenRule::Cluster(_) => false,
        };
        let split =
            first.peers.is_some() && first.ports.is_empty() && second.peers.is_none() && !second.ports.is_empty();
        if same_list && split && !names_lookup && !explicit {
            let message = "these are two rules: the one before is about its peers on every port, this one about everybody on these ports";
            let remedy = "if only those peers on only these ports are meant, remove the - before the ports, so that one rule has both";
            report.add(&codes::SPLIT_RULE, &view.object, &second.at, message, remedy);
        }
    }
}

/// `{}` among other rules of a Cilium policy, where a NetworkPolicy would allow everything.
fn empty_rules(view: &PolicyView<'_>, rules: &[&RuleView<'_>], report: &mut Report<'_>) {
    let Written::Cilium(_, spec) = view.written else { return };
    for list in [&spec.ingress, &spec.egress] {
        for rule in rules.iter().filter(|_| list.len() > 1) {
            let WrittenRule::Cilium(written) = rule.written else { continue };
            let is_empty = matches!(written.peers, strait_api::CiliumPeers::Any)
                && written.ports.is_empty()
                && written.icmps.is_empty()
                && list.iter().any(|one| std::ptr::eq(one, written));
            if is_empty {
                let message = "an empty rule matches nothing in Cilium's kinds: beside others it changes nothing";
                let remedy = "remove it; to allow everyone write fromEntities or toEntities: [all]";
                report.add(&codes::MATCHES_NOTHING, &view.object, &rule.at, message, remedy);
            }
        }
    }
}

/// A rule for everyone and everything: beside a policy that denies all it undoes that, alone it is as if no policy were there.
fn allows_all(context: &Context<'_>, view: &PolicyView<'_>, rule: &RuleView<'_>, report: &mut Report<'_>) {
    let everything = rule.lowered.iter().any(|one| {
        matches!((&one.peers, &one.l4), (Peers::Any, L4Match::Any))
            && one.effect == strait_model::rule::Effect::Allow
            && one.precedence.tier() == strait_model::rule::Tier::Normal
            && !one.audit
    });
    let Some(policy) = view.policy.filter(|_| everything) else { return };
    let covers = Covers { snapshot: context.snapshot };
    let undone = context.policies.iter().filter(|other| !other.audit()).find(|other| {
        other.policy.is_some_and(|denying| {
            denying.isolates.contains(&rule.direction)
                && !denying.rules.iter().any(|one| one.direction == rule.direction)
                && covers.subject(&denying.subject, &policy.subject)
        })
    });
    let direction = section(rule.direction);
    if let Some(denying) = undone {
        let message = format!(
            "this rule allows all {direction} to or from pods of which {} denies all: that has no effect",
            denying.object
        );
        let remedy = "remove one of the two policies, or make this rule narrower";
        report.add(&codes::DEFAULT_DENY_UNDONE, &view.object, &rule.at, message, remedy);
        return;
    }
    let peers = if rule.direction == Direction::Ingress { "from" } else { "to" };
    let listed = report.files.exactly(&rule.at.field(peers)).and_then(|place| place.items()).is_some();
    if matches!(rule.written, WrittenRule::Kubernetes(_)) && !listed {
        let message = format!(
            "a rule without {peers} and ports allows everyone everything: as if the policy did not isolate for {direction}"
        );
        let remedy = format!(
            "to deny all, write {direction}: [] (with the direction in policyTypes); to allow all, no policy is needed"
        );
        report.add(&codes::ALLOWS_ALL, &view.object, &rule.at, message, remedy);
    }
}

/// A policy with egress rules alone and without `policyTypes` closes ingress as well.
fn policy_types(context: &Context<'_>, view: &PolicyView<'_>, report: &mut Report<'_>) {
    let Written::Kubernetes(object) = view.written else { return };
    if view.audit() || object.egress.is_empty() || !object.ingress.is_empty() || !object.isolates_ingress {
        return;
    }
    let named = |name: &'static str| report.files.exactly(&view.at.field(name)).and_then(|place| place.items());
    // `ingress: []` says that it is meant.
    if named("policyTypes").is_some_and(|count| count > 0) || named("ingress").is_some() {
        return;
    }
    let Some(policy) = view.policy else { return };
    let groups = view.endpoints().map(|subject| context.cluster.groups_of(subject)).unwrap_or_default();
    let alone = groups
        .iter()
        .any(|group| !crate::tiers::isolators(group, Direction::Ingress).any(|other| !std::ptr::eq(other, policy)));
    if alone || context.cluster.groups.is_empty() {
        let message = "without policyTypes the policy isolates for ingress as well, and has no ingress rule: nobody can connect to its pods";
        let remedy = "write policyTypes: [Egress]; or [Ingress, Egress] if that is meant";
        report.add(&codes::POLICY_TYPES_INFERRED, &view.object, &view.at, message, remedy);
    }
}

impl RuleView<'_> {
    fn has_same_effect(&self, other: &Self) -> bool {
        self.lowered.first().map(|rule| rule.effect) == other.lowered.first().map(|rule| rule.effect)
    }
}

/// Whether a selector of peers means pods.
pub(crate) const fn is_pods(selector: &PeerSelector) -> bool {
    matches!(selector, PeerSelector::Endpoints(_))
}
