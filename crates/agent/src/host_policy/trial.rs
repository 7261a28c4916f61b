//! Whether a node's host policies are in force for good, until a deadline, or not any more. Time comes in as a value.
//!
//! ```text
//!                         another set, recorded as tried
//!       ┌───────────┐ ──────────────────────────────────→ ┌─────────────┐ ─┐ another set: a deadline of its own
//!   ──→ │ Confirmed │                                     │ Unconfirmed │ ←┘
//!       └───────────┘ ←────────────────────────────────── └─────────────┘
//!             ↑         confirm of its revision, recorded;   │         ↑
//!             │         or the confirmed set again           │ deadline│ another set; retry of its revision
//!             │                                  restart ↓ │
//!             │                                       ┌────────────┐
//!             └────────────────────────────────────── │ RolledBack │
//!               the confirmed set again               └────────────┘
//! ```
//!
//! Every step gives what has to be on disk before it takes effect. So whenever the agent dies, the next one finds a set that was tried
//! and not confirmed, and does not put it in force again by itself.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::set::HostPolicies;
use crate::api::HostPolicyRevision;

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Since the machine started: what deadlines are measured by.
    pub monotonic: Duration,
    /// To be shown.
    pub wall: Timestamp,
}

/// How the wanted set stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It is the confirmed one.
    Confirmed,
    /// It is in force until `deadline`, by [`Now::monotonic`].
    Unconfirmed { since: Timestamp, deadline: Duration },
    /// It is not in force; the confirmed one is.
    RolledBack { since: Timestamp, cause: Cause },
}

/// Why a set was rolled back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// Nobody confirmed it in time.
    Deadline,
    /// The agent started anew before it was confirmed.
    Restart,
}

/// What has to be on disk before a step takes effect.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Record {
    /// This is the confirmed set, and none is tried.
    Confirmed(Arc<HostPolicies>),
    /// This one is tried.
    Tried(HostPolicyRevision),
    /// None is tried.
    Untried,
}

/// What an earlier agent left on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub confirmed: Option<HostPolicies>,
    pub tried: Option<HostPolicyRevision>,
}

/// Why a set is not confirmed, or not tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "host policies {found} are in force unconfirmed, not {asked}: they changed meanwhile; nothing is confirmed"
    )]
    Other { asked: HostPolicyRevision, found: HostPolicyRevision },
    #[error(
        "host policies {0} are not in force: they were rolled back; `strait host-policy retry {0}` puts them in force again, until another deadline"
    )]
    RolledBack(HostPolicyRevision),
    #[error("host policies {confirmed} are in force and confirmed; {asked} are not there")]
    Unknown { asked: HostPolicyRevision, confirmed: HostPolicyRevision },
    #[error("no host policies {0} were rolled back")]
    NotRolledBack(HostPolicyRevision),
}

/// The host policies that a node shall have, and those that it had last with somebody's consent.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Trial {
    confirmed: Arc<HostPolicies>,
    wanted: Arc<HostPolicies>,
    stage: Stage,
}

impl Trial {
    /// At the agent's start. Where nothing was ever recorded, the node is new or reinstalled: what manifests say is taken as it is, as
    /// there is nothing else that anybody agreed to, and nothing would leave the node open.
    pub(crate) fn begin(found: Found, wanted: HostPolicies, window: Duration, now: Now) -> (Self, Record) {
        let wanted = Arc::new(wanted);
        let Some(confirmed) = found.confirmed.map(Arc::new) else { return Self::confirmed(wanted) };
        let before = Self { confirmed: Arc::clone(&confirmed), wanted: confirmed, stage: Stage::Confirmed };
        if found.tried == Some(wanted.revision()) && wanted != before.confirmed && !window.is_zero() {
            let stage = Stage::RolledBack { since: now.wall, cause: Cause::Restart };
            let record = Record::Tried(wanted.revision());
            return (Self { wanted, stage, ..before }, record);
        }
        before.observe(&wanted, window, now).unwrap_or((before, Record::Untried))
    }

    fn confirmed(wanted: Arc<HostPolicies>) -> (Self, Record) {
        let record = Record::Confirmed(Arc::clone(&wanted));
        (Self { confirmed: Arc::clone(&wanted), wanted, stage: Stage::Confirmed }, record)
    }

    /// Manifests say this now. `None` where that is nothing new. Without a window, what they say needs no consent.
    pub(crate) fn observe(&self, wanted: &HostPolicies, window: Duration, now: Now) -> Option<(Self, Record)> {
        if *wanted == *self.wanted && !(window.is_zero() && self.stage != Stage::Confirmed) {
            return None;
        }
        let wanted = Arc::new(wanted.clone());
        if window.is_zero() {
            return Some(Self::confirmed(wanted));
        }
        if wanted == self.confirmed {
            return Some((Self { wanted, stage: Stage::Confirmed, ..self.clone() }, Record::Untried));
        }
        Some(self.trial_of(wanted, window, now))
    }

    fn trial_of(&self, wanted: Arc<HostPolicies>, window: Duration, now: Now) -> (Self, Record) {
        let record = Record::Tried(wanted.revision());
        let stage = Stage::Unconfirmed { since: now.wall, deadline: now.monotonic.saturating_add(window) };
        (Self { wanted, stage, ..self.clone() }, record)
    }

    /// What the passing of time does. It is on disk already that the set was tried.
    pub(crate) fn expire(&self, now: Now) -> Option<Self> {
        let due = matches!(self.stage, Stage::Unconfirmed { deadline, .. } if deadline <= now.monotonic);
        let stage = Stage::RolledBack { since: now.wall, cause: Cause::Deadline };
        due.then(|| Self { stage, ..self.clone() })
    }

    /// Somebody says that the set with this revision is good. `None` where that is known. The caller [expires](Self::expire) first.
    pub(crate) fn confirm(&self, asked: HostPolicyRevision) -> Result<Option<(Self, Record)>, Refusal> {
        let wanted = self.wanted.revision();
        match self.stage {
            Stage::Confirmed if asked == wanted => Ok(None),
            Stage::Confirmed => Err(Refusal::Unknown { asked, confirmed: wanted }),
            Stage::Unconfirmed { .. } if asked == wanted => Ok(Some(Self::confirmed(Arc::clone(&self.wanted)))),
            Stage::Unconfirmed { .. } => Err(Refusal::Other { asked, found: wanted }),
            Stage::RolledBack { .. } if asked == wanted => Err(Refusal::RolledBack(asked)),
            Stage::RolledBack { .. } => Err(Refusal::Unknown { asked, confirmed: self.confirmed.revision() }),
        }
    }

    /// Somebody wants the set that was rolled back to be tried again.
    pub(crate) fn retry(
        &self,
        asked: HostPolicyRevision,
        window: Duration,
        now: Now,
    ) -> Result<(Self, Record), Refusal> {
        match self.stage {
            Stage::RolledBack { .. } if asked == self.wanted.revision() => {
                Ok(self.trial_of(Arc::clone(&self.wanted), window, now))
            }
            Stage::Confirmed | Stage::Unconfirmed { .. } | Stage::RolledBack { .. } => {
                Err(Refusal::NotRolledBack(asked))
            }
        }
    }

    pub(crate) const fn stage(&self) -> Stage {
        self.stage
    }

    /// What manifests say.
    pub(crate) const fn wanted(&self) -> &Arc<HostPolicies> {
        &self.wanted
    }

    /// What somebody agreed to last.
    pub(crate) const fn last_confirmed(&self) -> &Arc<HostPolicies> {
        &self.confirmed
    }

    /// What the node shall do.
    pub(crate) const fn in_force(&self) -> &Arc<HostPolicies> {
        match self.stage {
            Stage::Confirmed | Stage::RolledBack { .. } => &self.confirmed,
            Stage::Unconfirmed { .. } => &self.wanted,
        }
    }
}

#[cfg(test)]
thread_local! {
    static ADVANCED: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// How far a test has put the clock forward.
#[cfg(test)]
pub(crate) fn advanced() -> Duration {
    ADVANCED.get()
}

#[cfg(test)]
pub(crate) fn advance(time: Duration) {
    ADVANCED.set(ADVANCED.get() + time);
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn set(name: &str) -> HostPolicies {
        let text = format!(
            "{{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {{name: {name}}}, spec: {{nodeSelector: {{}}, ingress: [{{}}]}}}}"
        );
        let text = if name == "none" { "# none\n" } else { &text };
        HostPolicies::from_manifest(&"test.yaml".into(), text.as_bytes()).unwrap()
    }

    fn at(second: u64) -> Now {
        Now { monotonic: Duration::from_secs(second), wall: Timestamp::from_second(1_000_000).unwrap() }
    }

    /// What is in force, and how what is wanted stands.
    fn told(trial: &Trial) -> String {
        let name = |set: &HostPolicies| set.names().first().map_or("none".to_owned(), |policy| policy.name.to_string());
        let stage = match trial.stage {
            Stage::Confirmed => "confirmed".to_owned(),
            Stage::Unconfirmed { deadline, .. } => format!("until {}", deadline.as_secs()),
            Stage::RolledBack { cause, .. } => format!("rolled back: {cause:?}"),
        };
        format!("{} ({} {stage})", name(trial.in_force()), name(&trial.wanted))
    }

    /// What happens, at which second.
    #[derive(Clone, Copy)]
    enum Happens {
        Manifests(&'static str),
        Time,
        Confirm(&'static str),
        Retry(&'static str),
        Restart,
    }

    /// As the agent does it: what is on disk is all that a restart knows.
    fn run(window: Duration, first: &str, steps: &[(u64, Happens, &str)]) {
        let (mut trial, record) = Trial::begin(Found::default(), set(first), window, at(0));
        let mut disk = Found::default();
        let write = |disk: &mut Found, record: Record| match record {
            Record::Confirmed(set) => *disk = Found { confirmed: Some(HostPolicies::clone(&set)), tried: None },
            Record::Tried(revision) => disk.tried = Some(revision),
            Record::Untried => disk.tried = None,
        };
        write(&mut disk, record);
        for (number, (second, happens, expected)) in steps.iter().enumerate() {
            let now = at(*second);
            trial = trial.expire(now).unwrap_or(trial);
            let step = match happens {
                Happens::Manifests(name) => Ok(trial.observe(&set(name), window, now)),
                Happens::Time => Ok(None),
                Happens::Confirm(name) => trial.confirm(set(name).revision()),
                Happens::Retry(name) => trial.retry(set(name).revision(), window, now).map(Some),
                Happens::Restart => {
                    let wanted = HostPolicies::clone(&trial.wanted);
                    Ok(Some(Trial::begin(disk.clone(), wanted, window, now)))
                }
            };
            let refused = match step {
                Ok(Some((next, record))) => {
                    write(&mut disk, record);
                    trial = next;
                    ""
                }
                Ok(None) => "",
                Err(_) => " refused",
            };
            assert_eq!(format!("{}{refused}", told(&trial)), *expected, "step {number}");
        }
    }

    #[test]
    fn sets_come_are_confirmed_and_go() {
        use Happens::{Confirm, Manifests, Restart, Retry, Time};
        let tables: [&[(u64, Happens, &str)]; 8] = [
            &[
                (1, Time, "a (a confirmed)"),
                (5, Manifests("b"), "b (b until 65)"),
                (64, Time, "b (b until 65)"),
                (65, Time, "a (b rolled back: Deadline)"),
                (900, Manifests("b"), "a (b rolled back: Deadline)"),
                (901, Confirm("b"), "a (b rolled back: Deadline) refused"),
                (902, Confirm("a"), "a (b rolled back: Deadline) refused"),
                (950, Restart, "a (b rolled back: Restart)"),
                (951, Retry("a"), "a (b rolled back: Restart) refused"),
                (952, Retry("b"), "b (b until 1012)"),
                (953, Confirm("b"), "b (b confirmed)"),
                (954, Restart, "b (b confirmed)"),
            ],
            // Confirmed in time, and known to the next agent.
            &[
                (5, Manifests("b"), "b (b until 65)"),
                (64, Confirm("b"), "b (b confirmed)"),
                (70, Restart, "b (b confirmed)"),
            ],
            // Too late by nothing: who comes with the deadline finds it rolled back.
            &[(5, Manifests("b"), "b (b until 65)"), (65, Confirm("b"), "a (b rolled back: Deadline) refused")],
            // A change that came meanwhile is not confirmed with what was looked at.
            &[
                (5, Manifests("b"), "b (b until 65)"),
                (50, Manifests("c"), "c (c until 110)"),
                (51, Confirm("b"), "c (c until 110) refused"),
                (100, Time, "c (c until 110)"),
                (110, Time, "a (c rolled back: Deadline)"),
                (111, Manifests("b"), "b (b until 171)"),
                (112, Confirm("b"), "b (b confirmed)"),
            ],
            // A restart rolls back what was not confirmed, and what it finds to be new is tried.
            &[
                (5, Manifests("b"), "b (b until 65)"),
                (6, Restart, "a (b rolled back: Restart)"),
                (7, Restart, "a (b rolled back: Restart)"),
                (8, Manifests("c"), "c (c until 68)"),
            ],
            // Taken back by hand; then it is a change like any other.
            &[
                (5, Manifests("b"), "b (b until 65)"),
                (6, Manifests("a"), "a (a confirmed)"),
                (7, Restart, "a (a confirmed)"),
                (8, Manifests("b"), "b (b until 68)"),
                (80, Time, "a (b rolled back: Deadline)"),
                (81, Manifests("a"), "a (a confirmed)"),
                (82, Manifests("b"), "b (b until 142)"),
            ],
            // To have none any more is a change as well.
            &[
                (5, Manifests("none"), "none (none until 65)"),
                (65, Time, "a (none rolled back: Deadline)"),
                (66, Retry("none"), "none (none until 126)"),
                (67, Confirm("none"), "none (none confirmed)"),
                (68, Manifests("a"), "a (a until 128)"),
                (128, Time, "none (a rolled back: Deadline)"),
            ],
            // What nobody asked about.
            &[
                (5, Confirm("a"), "a (a confirmed)"),
                (6, Confirm("b"), "a (a confirmed) refused"),
                (7, Retry("a"), "a (a confirmed) refused"),
            ],
        ];
        for steps in tables {
            run(WINDOW, "a", steps);
        }
    }

    #[test]
    fn without_a_window_manifests_have_their_way() {
        use Happens::{Confirm, Manifests, Restart};
        run(
            Duration::ZERO,
            "a",
            &[
                (5, Manifests("b"), "b (b confirmed)"),
                (6, Confirm("b"), "b (b confirmed)"),
                (7, Restart, "b (b confirmed)"),
            ],
        );
        // Also with what was rolled back before.
        let found = Found { confirmed: Some(set("a")), tried: Some(set("b").revision()) };
        let (trial, record) = Trial::begin(found, set("b"), Duration::ZERO, at(1));
        assert_eq!(told(&trial), "b (b confirmed)");
        assert!(matches!(record, Record::Confirmed(_)));
    }

    /// Changes that were made while no agent ran are tried, not taken as they are.
    #[test]
    fn what_changed_while_no_agent_ran_is_tried() {
        let found = Found { confirmed: Some(set("a")), tried: None };
        let (trial, record) = Trial::begin(found.clone(), set("b"), WINDOW, at(1));
        assert_eq!(told(&trial), "b (b until 61)");
        assert_eq!(record, Record::Tried(set("b").revision()));
        let found = Found { tried: Some(set("b").revision()), ..found };
        assert_eq!(told(&Trial::begin(found.clone(), set("c"), WINDOW, at(1)).0), "c (c until 61)");
        assert_eq!(told(&Trial::begin(found, set("a"), WINDOW, at(1)).0), "a (a confirmed)");
    }
}
