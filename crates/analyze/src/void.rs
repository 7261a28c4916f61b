//! Rules of the normal tier that something stronger leaves nothing to decide.

use strait_model::rule::{Effect, Tier};

use crate::{
    Context, Report, codes,
    cover::{self, Covers, Item},
    redundant::{self, Enforced, Normal, covered, covering, named},
};

/// What decides about an item before the rule that it is of.
#[derive(Clone, Copy)]
enum Before<'a> {
    Accepted(Enforced<'a>),
    Denied(Enforced<'a>),
    /// Nothing, or a part of it only.
    Open,
}

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    let covers = Covers { snapshot: context.snapshot };
    let normal = Normal::new(&context.policies);
    let mut admin: Vec<Enforced<'_>> = context.policies.iter().flat_map(redundant::of).collect();
    admin.retain(|one| one.rule.precedence.tier() == Tier::Admin && !one.rule.audit);
    admin.sort_by_key(|one| std::cmp::Reverse(one.rule.precedence));
    for effect in [Effect::Allow, Effect::Closed, Effect::Deny] {
        for one in normal.all(effect) {
            let denying = match effect {
                Effect::Deny => Vec::new(),
                Effect::Allow | Effect::Closed | Effect::Pass => {
                    normal.over(&covers, one.subject, one.rule.direction, Effect::Deny)
                }
            };
            let mut about = admin.clone();
            about.retain(|other| {
                other.rule.direction == one.rule.direction && covers.subjects_meet(one.subject, other.subject)
            });
            let decide = |item: Item<'_>| match first(&covers, &about, one, item) {
                Some(Before::Open) | None => match covering(&covers, item, &denying) {
                    Some(by) => Before::Denied(by),
                    None => Before::Open,
                },
                Some(before) => before,
            };
            judge(one, decide, report);
            if effect == Effect::Closed && one.rule_view.lowered.len() == 1 {
                let open = normal.over(&covers, one.subject, one.rule.direction, Effect::Allow);
                if let Some(by) = covered(&covers, one.rule, &open) {
                    let message =
                        format!("{} allows the same traffic outright, so that nothing of layer 7 is asked", named(&by));
                    let remedy = "narrow the other rule, or remove what this one asks for";
                    report.add(&codes::L7_BYPASSED, &one.view.object, &one.rule_view.at, message, remedy);
                }
            }
        }
    }
}

/// What the first of these rules of the Admin tier that can be about `item` does with it; `None` where there is none.
fn first<'a>(covers: &Covers<'_>, admin: &[Enforced<'a>], of: Enforced<'_>, item: Item<'_>) -> Option<Before<'a>> {
    let mut about = admin.iter().filter(|one| covers.item_meets(item, one.rule));
    let one = about.next()?;
    if !(covers.subject(of.subject, one.subject) && covers.item(item, one.rule)) {
        // Something of it is decided here and something is not: nothing can be said of it as a whole.
        return Some(Before::Open);
    }
    Some(match one.rule.effect {
        Effect::Allow => Before::Accepted(*one),
        Effect::Deny => Before::Denied(*one),
        Effect::Pass | Effect::Closed => Before::Open,
    })
}

fn judge<'a>(one: Enforced<'_>, decide: impl Fn(Item<'_>) -> Before<'a>, report: &mut Report<'_>) {
    let items = cover::items(one.rule);
    let before: Vec<Before<'a>> = items.iter().map(|item| decide(*item)).collect();
    let whole = |wanted: fn(&Before<'a>) -> Option<Enforced<'a>>| -> Option<Vec<Enforced<'a>>> {
        let by: Option<Vec<_>> = before.iter().map(wanted).collect();
        by.filter(|by| !by.is_empty())
    };
    let (at, object) = (&one.rule_view.at, &one.view.object);
    let opens = one.rule.effect != Effect::Deny;
    if let Some(by) = whole(denied) {
        if opens {
            let message = format!("{} denies all that this rule allows: it never takes effect", named(&by));
            let remedy = "remove one of the two, or make the deny narrower";
            report.add(&codes::ALLOW_DENIED, object, at, message, remedy);
        } else {
            let message = format!("{} denies all of it before: this rule changes nothing", named(&by));
            report.add(&codes::REDUNDANT_RULE, object, at, message, "remove it");
        }
        return;
    }
    if let Some(by) = whole(accepted) {
        if opens {
            let message = format!("{} accepts all of it before: this rule is never asked", named(&by));
            report.add(&codes::REDUNDANT_RULE, object, at, message, "remove it");
        } else {
            let message = format!("{} accepts all that this rule denies, before it is asked", named(&by));
            let remedy = "deny it in the Admin tier with a lower priority number, or narrow the rule that accepts";
            report.add(&codes::DENY_OVERRIDDEN, object, at, message, remedy);
        }
        return;
    }
    if opens {
        peers(one, &items, &before, report);
    }
}

/// Single peers of a rule that are denied whatever the port.
fn peers(one: Enforced<'_>, items: &[Item<'_>], before: &[Before<'_>], report: &mut Report<'_>) {
    let ports = cover::port_items(&one.rule.l4).len();
    let Some(views) = one.rule_view.peers.as_deref() else { return };
    for view in views {
        let mut of = items.iter().zip(before).filter(|(item, _)| {
            item.peer.is_some_and(|peer| view.means.iter().any(|known| std::ptr::eq(*known, peer)))
        });
        let by: Vec<_> = of.by_ref().filter_map(|(_, before)| denied(before)).collect();
        if !by.is_empty() && by.len() == ports * view.means.len() {
            let message = format!("{} denies all that the rule allows this peer", named(&by));
            let remedy = "remove the peer, or make the deny narrower";
            report.add(&codes::ALLOW_DENIED, &one.view.object, &view.at, message, remedy);
        }
    }
}

fn denied<'a>(before: &Before<'a>) -> Option<Enforced<'a>> {
    match before {
        Before::Denied(by) => Some(*by),
        Before::Accepted(_) | Before::Open => None,
    }
}

fn accepted<'a>(before: &Before<'a>) -> Option<Enforced<'a>> {
    match before {
        Before::Accepted(by) => Some(*by),
        Before::Denied(_) | Before::Open => None,
    }
}
