//! Rules, peers and ports that others of the same effect cover: nothing changes without them.

use std::collections::{BTreeMap, BTreeSet};

use strait_base::Protocol;
use strait_model::{
    Direction,
    rule::{Effect, NamespaceSelector, Ports, Rule, Subject, Tier},
};

use crate::{
    Context, Report, codes,
    cover::{self, Covers, Item},
    views::{PolicyView, RuleView},
};

/// A rule of the normal tier that is enforced, and what it is of.
#[derive(Clone, Copy)]
pub(crate) struct Enforced<'a> {
    pub view: &'a PolicyView<'a>,
    pub rule_view: &'a RuleView<'a>,
    pub rule: &'a Rule,
    pub subject: &'a Subject,
}

/// All enforced rules of the normal tier, by direction and effect; within these by the namespace that they are about (empty: any).
pub(crate) struct Normal<'a> {
    by: BTreeMap<(Direction, Effect), BTreeMap<&'a str, Vec<Enforced<'a>>>>,
}

impl<'a> Normal<'a> {
    pub(crate) fn new(policies: &'a [PolicyView<'a>]) -> Self {
        let mut by: BTreeMap<_, BTreeMap<&'a str, Vec<Enforced<'a>>>> = BTreeMap::new();
        let mut all: Vec<Enforced<'a>> = policies.iter().flat_map(of).collect();
        all.retain(|one| one.rule.precedence.tier() == Tier::Normal && !one.rule.audit);
        all.sort_by(|a, b| a.rule.origin.location.cmp(&b.rule.origin.location));
        for one in all {
            let bucket = by.entry((one.rule.direction, one.rule.effect)).or_default();
            bucket.entry(namespace(one.subject)).or_default().push(one);
        }
        Self { by }
    }

    pub(crate) fn all(&self, effect: Effect) -> impl Iterator<Item = Enforced<'a>> {
        let buckets = self.by.iter().filter(move |((_, of), _)| *of == effect);
        buckets.flat_map(|(_, bucket)| bucket.values().flatten().copied())
    }

    /// The rules of `direction` and `effect` about all that `subject` is about.
    pub(crate) fn over(
        &self,
        covers: &Covers<'_>,
        subject: &Subject,
        direction: Direction,
        effect: Effect,
    ) -> Vec<Enforced<'a>> {
        let Some(bucket) = self.by.get(&(direction, effect)) else { return Vec::new() };
        let own = namespace(subject);
        let names: BTreeSet<&str> = [own, ""].into();
        let candidates = names.into_iter().filter_map(|name| bucket.get(name)).flatten();
        candidates.filter(|one| covers.subject(subject, one.subject)).copied().collect()
    }
}

/// The rules of a policy.
pub(crate) fn of<'a>(view: &'a PolicyView<'a>) -> impl Iterator<Item = Enforced<'a>> {
    view.rules.iter().flat_map(move |rule_view| {
        let subject = view.policy.map(|policy| &policy.subject);
        rule_view.lowered.iter().filter_map(move |rule| Some(Enforced { view, rule_view, rule, subject: subject? }))
    })
}

fn namespace(subject: &Subject) -> &str {
    match subject.endpoints().map(|selector| &selector.namespaces) {
        Some(NamespaceSelector::Named(name)) => name,
        // A Cilium selector that names a namespace is still about the policy's own.
        Some(NamespaceSelector::Labelled(_)) | None => "",
    }
}

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    let covers = Covers { snapshot: context.snapshot };
    let normal = Normal::new(&context.policies);
    let mut removed = BTreeSet::new();
    for effect in [Effect::Allow, Effect::Deny] {
        let mut rules: Vec<Enforced<'_>> = normal.all(effect).collect();
        // Of two that cover each other the later one is the one too many.
        rules.sort_by(|a, b| b.rule.origin.location.cmp(&a.rule.origin.location));
        for one in rules {
            let mut others = normal.over(&covers, one.subject, one.rule.direction, effect);
            others.retain(|other| {
                !std::ptr::eq(other.rule, one.rule) && !removed.contains(&std::ptr::from_ref(other.rule))
            });
            if let Some(by) = covered(&covers, one.rule, &others) {
                removed.insert(std::ptr::from_ref(one.rule));
                if !one.rule_view.lowered.iter().all(|part| removed.contains(&std::ptr::from_ref(*part))) {
                    continue;
                }
                let verb = if effect == Effect::Deny { "denies" } else { "allows" };
                let by = named(&by);
                let message = format!("everything that this rule {verb}, {by} {verb} as well: it changes nothing");
                let remedy = "remove it, or narrow the other if that allows more than is meant";
                report.add(&codes::REDUNDANT_RULE, &one.view.object, &one.rule_view.at, message, remedy);
            }
        }
    }
    for view in &context.policies {
        for rule in &view.rules {
            let gone = rule.lowered.iter().any(|part| removed.contains(&std::ptr::from_ref(*part)));
            if !rule.lowered.is_empty() && !gone {
                within(&covers, view, rule, report);
            }
        }
    }
}

/// The rules that together cover `rule`; `None` where something of it is left (or it matches nothing).
pub(crate) fn covered<'a>(covers: &Covers<'_>, rule: &Rule, others: &[Enforced<'a>]) -> Option<Vec<Enforced<'a>>> {
    let items = cover::items(rule);
    let mut by: Vec<Enforced<'a>> = Vec::new();
    for item in &items {
        let other = covering(covers, *item, others)?;
        if !by.iter().any(|known| std::ptr::eq(known.rule, other.rule)) {
            by.push(other);
        }
    }
    (!by.is_empty()).then_some(by)
}

pub(crate) fn covering<'a>(covers: &Covers<'_>, item: Item<'_>, others: &[Enforced<'a>]) -> Option<Enforced<'a>> {
    others.iter().find(|other| covers.item(item, other.rule)).copied()
}

/// The origins of rules, at most three.
pub(crate) fn named(rules: &[Enforced<'_>]) -> String {
    const LISTED: usize = 3;
    let mut texts: Vec<String> = rules.iter().map(|one| one.rule.origin.to_string()).collect();
    texts.dedup();
    let more = texts.len().saturating_sub(LISTED);
    texts.truncate(LISTED);
    let text = texts.join(" and ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

/// Peers and ports of one rule that others of it cover.
fn within(covers: &Covers<'_>, view: &PolicyView<'_>, rule: &RuleView<'_>, report: &mut Report<'_>) {
    let peers = rule.peers.as_deref().unwrap_or_default();
    for (index, peer) in peers.iter().enumerate() {
        let covering = peers.iter().enumerate().find(|(other, over)| {
            let in_it = |a: &[&_], b: &[&_]| !a.is_empty() && a.iter().all(|a| b.iter().any(|b| covers.peer(a, b)));
            *other != index && in_it(&peer.means, &over.means) && (*other < index || !in_it(&over.means, &peer.means))
        });
        if let Some((other, _)) = covering {
            let message = format!("entry {other} of the list names all that this one does: it changes nothing");
            let remedy = "remove it, or correct the one that means too much";
            report.add(&codes::REDUNDANT_PEER, &view.object, &peer.at, message, remedy);
        }
    }
    for (index, port) in rule.ports.iter().enumerate() {
        let covering = rule.ports.iter().enumerate().find(|(other, over)| {
            let in_it = |a: (&[Protocol], &Ports), b: (&[Protocol], &Ports)| {
                a.0.iter().all(|one| b.0.iter().any(|other| cover::port_in_port((*one, a.1), (*other, b.1))))
            };
            let (own, over) = ((&*port.protocols, &port.ports), (&*over.protocols, &over.ports));
            *other != index && in_it(own, over) && (*other < index || !in_it(over, own))
        });
        // Entries of `toPorts` differ in what they ask of layer 7.
        let plain = rule.lowered.len() == 1 && !rule.has(Effect::Closed);
        if let Some((other, _)) = covering.filter(|_| plain) {
            let over = rule
                .ports
                .get(other)
                .map(|port| report.files.locate(&port.at).1)
                .map_or(String::new(), |at| format!(" (line {})", at.line));
            let message = format!("another port of the rule{over} holds this one: it changes nothing");
            report.add(&codes::REDUNDANT_PORT, &view.object, &port.at, message, "remove it, or correct the other");
        }
    }
}
