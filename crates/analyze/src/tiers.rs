//! Policies of the Admin and Baseline tiers against each other.

use std::collections::BTreeMap;

use strait_api::{ClusterNetworkPolicy, ClusterTier};
use strait_model::{
    Direction,
    rule::{Effect, EndpointSelector, PeerSelector, Policy, Tier},
};

use crate::{
    Context, Report,
    cluster::Group,
    codes,
    cover::{self, Covers},
    place::At,
    redundant::{self, Enforced, covered, named},
    views::{PolicyView, Written},
};

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    let covers = Covers { snapshot: context.snapshot };
    for tier in [Tier::Admin, Tier::Baseline] {
        let mut rules: Vec<Enforced<'_>> = context.policies.iter().flat_map(redundant::of).collect();
        rules.retain(|one| one.rule.precedence.tier() == tier && !one.rule.audit);
        // First to be asked first; levels are above the effect in a precedence, so equal ones are of no two rules.
        rules.sort_by_key(|one| std::cmp::Reverse(one.rule.precedence));
        for (index, one) in rules.iter().enumerate() {
            let (earlier, later) = rules.split_at(index);
            shadowed(&covers, *one, earlier, report);
            if one.rule.effect == Effect::Pass {
                passes(&covers, *one, later.get(1..).unwrap_or_default(), report);
            }
        }
    }
    ties(context, &covers, report);
    baseline(context, report);
}

fn shadowed(covers: &Covers<'_>, one: Enforced<'_>, earlier: &[Enforced<'_>], report: &mut Report<'_>) {
    let mut over = earlier.to_vec();
    over.retain(|other| other.rule.direction == one.rule.direction && covers.subject(one.subject, other.subject));
    if let Some(by) = covered(covers, one.rule, &over) {
        let message = format!("{} decides all that this rule is about before it: it is never asked", named(&by));
        let remedy = "put it before the other (a lower priority number, or earlier in the list), or remove it";
        report.add(&codes::SHADOWED_RULE, &one.view.object, &one.rule_view.at, message, remedy);
    }
}

/// A Pass matters where a later rule of its tier would decide otherwise.
fn passes(covers: &Covers<'_>, one: Enforced<'_>, later: &[Enforced<'_>], report: &mut Report<'_>) {
    let matters = later.iter().any(|other| {
        other.rule.direction == one.rule.direction
            && other.rule.effect != Effect::Pass
            && covers.subjects_meet(one.subject, other.subject)
            && cover::items(one.rule).into_iter().any(|item| covers.item_meets(item, other.rule))
    });
    if !matters {
        let message = "no later rule of the tier is about the same traffic: without this rule it goes on to the next tier as well";
        let remedy = "remove it, or give the policy a lower priority number than those that it is to exempt from";
        report.add(&codes::PASS_WITHOUT_EFFECT, &one.view.object, &one.rule_view.at, message, remedy);
    }
}

/// Policies of equal priority that say different things of the same traffic.
fn ties(context: &Context<'_>, covers: &Covers<'_>, report: &mut Report<'_>) {
    let mut equal: BTreeMap<(ClusterTier, u16), Vec<(&PolicyView<'_>, &ClusterNetworkPolicy)>> = BTreeMap::new();
    for view in context.policies.iter().filter(|view| !view.audit()) {
        if let Written::Cluster(object) = view.written {
            equal.entry((object.tier, object.priority)).or_default().push((view, object));
        }
    }
    for views in equal.values() {
        for (index, (second, object)) in views.iter().enumerate() {
            for (first, _) in views.iter().take(index) {
                let mut pairs = redundant::of(first).flat_map(|a| redundant::of(second).map(move |b| (a, b)));
                let Some((a, b)) = pairs.find(|(a, b)| clash(context, covers, *a, *b)) else { continue };
                let message = format!(
                    "{} has priority {} too, and of the same traffic {} and {} say different things: which decides is not defined",
                    first.object, object.priority, a.rule.origin, b.rule.origin
                );
                let at = At::new(&object.meta.location).field("spec.priority");
                let remedy = "give one of them another priority; the lower number goes first";
                report.add(&codes::PRIORITY_TIE, &second.object, &at, message, remedy);
            }
        }
    }
}

fn clash(context: &Context<'_>, covers: &Covers<'_>, a: Enforced<'_>, b: Enforced<'_>) -> bool {
    if a.rule.direction != b.rule.direction || a.rule.effect == b.rule.effect {
        return false;
    }
    let common = |a: &EndpointSelector, b: &EndpointSelector| {
        let (a, b) = (context.cluster.select(a), context.cluster.select(b));
        a.iter().any(|group| b.contains(group))
    };
    let subjects = match (a.subject.endpoints(), b.subject.endpoints()) {
        (Some(a), Some(b)) if !context.cluster.groups.is_empty() => common(a, b),
        _ => covers.subjects_meet(a.subject, b.subject),
    };
    let peers_share = |item: cover::Item<'_>| match (item.peer, &b.rule.peers) {
        (Some(PeerSelector::Endpoints(a)), strait_model::rule::Peers::Of(peers))
            if !context.cluster.groups.is_empty() =>
        {
            peers.iter().any(|peer| match &peer.selects {
                PeerSelector::Endpoints(b) => common(a, b),
                PeerSelector::Block(_) => true,
                PeerSelector::Nodes(_) | PeerSelector::Entity(_) => false,
            })
        }
        _ => true,
    };
    subjects && cover::items(a.rule).into_iter().any(|item| covers.item_meets(item, b.rule) && peers_share(item))
}

/// Whether a policy of the normal tier isolates the group, so that the Baseline tier is not asked.
pub(crate) fn isolated(group: &Group<'_>, direction: Direction) -> bool {
    isolators(group, direction).next().is_some()
}

/// The policies that do.
pub(crate) fn isolators<'a>(group: &Group<'a>, direction: Direction) -> impl Iterator<Item = &'a Policy> {
    group.policies.iter().copied().filter(move |policy| !policy.audit && policy.isolates.contains(&direction))
}

fn baseline(context: &Context<'_>, report: &mut Report<'_>) {
    for view in context.policies.iter().filter(|view| !view.audit()) {
        let Written::Cluster(object) = view.written else { continue };
        let Some(subject) = view.endpoints().filter(|_| object.tier == ClusterTier::Baseline) else { continue };
        let groups = context.cluster.groups_of(subject);
        for (direction, field) in [(Direction::Ingress, "ingress"), (Direction::Egress, "egress")] {
            let has_rules = view.rules.iter().any(|rule| rule.direction == direction);
            if has_rules && !groups.is_empty() && groups.iter().all(|group| isolated(group, direction)) {
                let message = format!(
                    "every pod that it is about is isolated by policies of the normal tier ({} {}), so that it is never asked",
                    groups.first().and_then(|group| isolators(group, direction).next()).map_or("", |one| &one.kind),
                    groups
                        .first()
                        .and_then(|group| isolators(group, direction).next())
                        .map_or(String::new(), |one| format!("{}/{} …", one.namespace, one.name)),
                );
                let remedy =
                    "move the rules to the Admin tier if they are to hold for these pods, else leave or remove it";
                report.add(&codes::BASELINE_NEVER_REACHED, &view.object, &view.at.field(field), message, remedy);
            }
        }
    }
}
