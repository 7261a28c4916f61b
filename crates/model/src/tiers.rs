//! How rules decide together.
//!
//! ```text
//! Admin     by priority, first match: allow, deny, or pass to the next tier
//! Normal    a deny, else an allow, else a rule that is closed, else isolation (a pod is isolated: denied)
//! Baseline  by priority, first match: allow, deny, or pass
//! Open      allowed
//! ```
//!
//! Policies that only report are asked beside those that are enforced: what the enforced ones let pass and all of them together would
//! deny is let pass and reported. They never allow what the enforced ones deny.

use std::collections::BTreeSet;

use crate::{
    plan::PortVerdict,
    rule::{Effect, Precedence, Tier},
};

/// Something that has a say about a connection.
#[derive(Clone, Debug)]
pub(crate) struct Voice<O> {
    pub precedence: Precedence,
    pub effect: Effect,
    /// It only reports.
    pub audit: bool,
    pub by: By<O>,
}

/// Whose say it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum By<O> {
    Rule(O),
    /// Policies that isolate the subject.
    Isolation,
    /// Policies that would isolate the subject, and only report.
    AuditedIsolation,
    /// Policies isolate the subject, though not from its own node.
    OwnNode,
    /// Nothing isolates the subject.
    Open,
}

/// What comes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Outcome<O> {
    pub verdict: PortVerdict,
    pub precedence: Precedence,
    /// What decided; all of one precedence.
    pub by: BTreeSet<By<O>>,
    /// Of the effect of these.
    pub effect: Effect,
    /// Rules that left it to the tier after theirs.
    pub passed: Vec<O>,
}

/// What holds between a subject and a peer without any rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Background {
    pub enforced: Isolation,
    /// By policies that only report.
    pub audited: Isolation,
}

/// Whether policies isolate a subject from a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Isolation {
    #[default]
    None,
    /// They isolate it from others: the peer is its own node.
    ButOwnNode,
    Isolated,
}

impl Background {
    /// Whether a policy that does not isolate from the own node has a say about it: where others do isolate from it.
    pub(crate) fn asks_all(self) -> bool {
        self.enforced.max(self.audited) != Isolation::ButOwnNode
    }

    pub(crate) fn voices<O>(self) -> impl Iterator<Item = Voice<O>> {
        let voice = |isolation, audit| {
            let (effect, by) = match isolation {
                Isolation::None => return None,
                Isolation::ButOwnNode => (Effect::Allow, By::OwnNode),
                Isolation::Isolated if audit => (Effect::Deny, By::AuditedIsolation),
                Isolation::Isolated => (Effect::Deny, By::Isolation),
            };
            Some(Voice { precedence: Precedence::isolation(effect), effect, audit, by })
        };
        let open = Voice { precedence: Precedence::OPEN, effect: Effect::Allow, audit: false, by: By::Open };
        [voice(self.enforced, false), voice(self.audited, true), Some(open)].into_iter().flatten()
    }
}

/// What these voices, all of which match, come to; `None` where there is none.
pub(crate) fn decide<'a, O: Ord + Clone + 'a>(
    voices: &(impl Iterator<Item = &'a Voice<O>> + Clone),
) -> Option<Outcome<O>> {
    let enforced = settle(&voices.clone().filter(|voice| !voice.audit));
    if voices.clone().all(|voice| !voice.audit) {
        return enforced;
    }
    let all = settle(voices);
    match (enforced, all) {
        (Some(enforced), Some(all)) if enforced.verdict.passes() && !all.verdict.passes() => {
            Some(Outcome { verdict: PortVerdict::Audit, ..all })
        }
        (enforced, _) => enforced,
    }
}

/// The highest precedence decides; where it passes, the highest of the tiers behind.
fn settle<'a, O: Ord + Clone + 'a>(voices: &(impl Iterator<Item = &'a Voice<O>> + Clone)) -> Option<Outcome<O>> {
    let mut passed = Vec::new();
    let mut behind: Option<Tier> = None;
    loop {
        let rank = |voice: &&Voice<O>| (voice.precedence, voice.effect);
        let left = voices.clone().filter(|voice| behind.is_none_or(|tier| voice.precedence.tier() > tier));
        let best = left.clone().max_by_key(rank)?;
        let equal = left.filter(|voice| rank(voice) == rank(&best));
        if best.effect == Effect::Pass {
            passed.extend(equal.filter_map(|voice| match &voice.by {
                By::Rule(origin) => Some(origin.clone()),
                By::Isolation | By::AuditedIsolation | By::OwnNode | By::Open => None,
            }));
            behind = Some(best.precedence.tier());
            continue;
        }
        return Some(Outcome {
            verdict: if best.effect.passes() { PortVerdict::Allow } else { PortVerdict::Deny },
            precedence: best.precedence,
            by: equal.map(|voice| voice.by.clone()).collect(),
            effect: best.effect,
            passed,
        });
    }
}
