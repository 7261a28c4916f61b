//! Host policies under commit-confirm: one that cuts people off from the node is rolled back unless somebody confirms it in time.
//!
//! ```text
//! objects ─→ set (what they mean for this node) ─→ trial ─→ in force ─→ objects with those in their place
//!                                                    ↑ ↓
//!                                              time, people, record (disk)
//! ```

mod record;
mod set;
mod trial;

use std::{borrow::Cow, collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use strait_api::{Kind, ObjectKey, Objects};
use strait_datapath::monotonic_ns;

use self::{
    record::Disk,
    set::HostPolicies,
    trial::{Cause, Found, Now, Record, Stage, Trial},
};
use crate::{
    api::{HostPolicyName, HostPolicyRevision, HostPolicyStage, HostPolicyStatus},
    log::{Level, log},
};

/// The host policies of this agent's node.
pub(crate) struct CommitConfirm {
    disk: Disk,
    /// How long a change may stay in force without being confirmed; zero where none has to be.
    window: Duration,
    /// What an earlier agent left, until objects say anything of the node.
    found: Found,
    trial: Option<Trial>,
    /// The set that is in the place of manifests' host policies.
    imposed: Option<Arc<HostPolicies>>,
    /// Those in force, and where they are written now.
    names: Vec<HostPolicyName>,
    /// Something is to be put in force although manifests are as they were.
    due: bool,
    /// Why what manifests say could not be recorded.
    error: Option<String>,
}

impl Now {
    /// This moment.
    pub(crate) fn read() -> Self {
        let monotonic = Duration::from_nanos(monotonic_ns());
        #[cfg(test)]
        let monotonic = monotonic + trial::advanced();
        Self { monotonic, wall: Timestamp::now() }
    }
}

impl CommitConfirm {
    pub(crate) fn open(state_dir: &Path, node: &str, window: Duration) -> Self {
        let disk = Disk::new(state_dir, node);
        let found = disk.read().unwrap_or_else(|error| {
            log(Level::Error, "which host policies were confirmed is not known", &[("reason", &error)]);
            Found::default()
        });
        Self { disk, window, found, trial: None, imposed: None, names: Vec::new(), due: false, error: None }
    }

    /// Takes in what objects say, where these keys are of objects that differ. Returns the keys of those that may have to be others than
    /// they were for that reason.
    pub(crate) fn observe(&mut self, objects: &Objects, changed: &BTreeSet<ObjectKey>, node: &str) -> Vec<ObjectKey> {
        let concerns = |key: &ObjectKey| {
            matches!(key.kind, Kind::CiliumClusterwideNetworkPolicy | Kind::CiliumCidrGroup | Kind::Node)
        };
        if self.trial.is_some() && !self.due && !changed.iter().any(concerns) {
            return Vec::new();
        }
        // A node that no manifest knows has none, and will have those that it had when it is back.
        let Some(wanted) = HostPolicies::of(objects, node) else { return Vec::new() };
        self.due = false;
        let now = Now::read();
        let step = match &self.trial {
            Some(trial) => trial.observe(&wanted, self.window, now),
            None => Some(Trial::begin(std::mem::take(&mut self.found), wanted.clone(), self.window, now)),
        };
        if let Some((next, record)) = step {
            self.follow(next, &record);
        }
        let in_force = self.trial.as_ref().map(Trial::in_force).filter(|set| ***set != wanted);
        // Manifests have other lines by now.
        let imposed = in_force.map(|set| self.disk.kept(set).map_or_else(|| Arc::clone(set), Arc::new));
        let before = std::mem::replace(&mut self.imposed, imposed);
        self.names = self.imposed.as_deref().unwrap_or(&wanted).names();
        let sets: Vec<_> = before.iter().chain(&self.imposed).map(|set| &**set).collect();
        if sets.is_empty() {
            return Vec::new();
        }
        sets.into_iter().chain([&wanted]).flat_map(|set| set.keys().collect::<Vec<_>>()).collect()
    }

    /// `objects` with the host policies that are in force.
    pub(crate) fn complete<'o>(&self, objects: Cow<'o, Objects>, node: &str) -> Cow<'o, Objects> {
        match &self.imposed {
            Some(set) => Cow::Owned(set.impose(&objects, node)),
            None => objects,
        }
    }

    /// Whether something is to be put in force by now although manifests are as they were.
    pub(crate) fn is_due(&mut self) -> bool {
        if let Some(next) = self.trial.as_ref().and_then(|trial| trial.expire(Now::read())) {
            self.trial = Some(next);
            self.due = true;
            self.tell();
        }
        self.due
    }

    /// How long until something is due by itself.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        match self.trial.as_ref()?.stage() {
            Stage::Unconfirmed { deadline, .. } => Some(deadline.saturating_sub(Now::read().monotonic)),
            Stage::Confirmed | Stage::RolledBack { .. } => None,
        }
    }

    /// Somebody says that what is in force is good. The caller has asked what [is due](Self::is_due) before, and enforces.
    pub(crate) fn confirm(&mut self, revision: HostPolicyRevision) -> Result<(), String> {
        let step = self.known()?.confirm(revision).map_err(|refusal| refusal.to_string())?;
        self.take(step)
    }

    /// Somebody wants another try. The caller enforces.
    pub(crate) fn retry(&mut self, revision: HostPolicyRevision) -> Result<(), String> {
        let now = Now::read();
        let step = self.known()?.retry(revision, self.window, now).map_err(|refusal| refusal.to_string())?;
        self.take(Some(step))
    }

    fn known(&self) -> Result<&Trial, String> {
        self.trial.as_ref().ok_or_else(|| "no manifest knows this node, so it has no host policies".to_owned())
    }

    fn take(&mut self, step: Option<(Trial, Record)>) -> Result<(), String> {
        let Some((next, record)) = step else { return Ok(()) };
        self.disk.write(&record).map_err(|error| error.to_string())?;
        self.error = None;
        self.due = true;
        self.trial = Some(next);
        self.tell();
        Ok(())
    }

    /// On disk first. What cannot be recorded as tried is not tried: an agent that died meanwhile would leave it to one that thinks it new.
    fn follow(&mut self, next: Trial, record: &Record) {
        let written = self.disk.write(record);
        match (written, record, &self.trial) {
            (Ok(()), ..) => self.error = None,
            (Err(error), Record::Tried(_), Some(_)) => {
                self.fail(format!("{error}; the host policies that were in force stay, and this is tried again"));
                self.due = true;
                return;
            }
            // What a start without a record would come to as well, or where there is nothing yet that could stay.
            (Err(error), Record::Confirmed(_) | Record::Untried | Record::Tried(_), _) => self.fail(error.to_string()),
        }
        self.trial = Some(next);
        self.tell();
    }

    fn fail(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            log(Level::Error, "host policies cannot be recorded", &[("reason", &error)]);
        }
        self.error = Some(error);
    }

    fn tell(&self) {
        let Some(trial) = &self.trial else { return };
        let revision = trial.wanted().revision();
        let confirmed = trial.last_confirmed();
        let changes = trial.wanted().differences(confirmed).join(" ");
        match trial.stage() {
            Stage::Confirmed if trial.wanted().names().is_empty() => {}
            Stage::Confirmed => log(Level::Info, "host policies are confirmed", &[("host_policies", &revision)]),
            Stage::Unconfirmed { .. } => log(
                Level::Warn,
                "host policies changed and will be rolled back unless confirmed",
                &[
                    ("host_policies", &revision),
                    ("changes", &changes),
                    ("within_seconds", &self.window.as_secs_f64()),
                    ("confirm", &format!("strait host-policy confirm {revision}")),
                ],
            ),
            Stage::RolledBack { cause, .. } => log(
                Level::Error,
                "host policies are rolled back",
                &[
                    ("host_policies", &revision),
                    ("to", &confirmed.revision()),
                    ("changes", &changes),
                    ("reason", &reason(cause)),
                ],
            ),
        }
    }

    pub(crate) fn status(&self) -> Option<HostPolicyStatus> {
        let trial = self.trial.as_ref()?;
        let (stage, since, cause) = match trial.stage() {
            Stage::Confirmed => (HostPolicyStage::Confirmed, None, None),
            Stage::Unconfirmed { since, .. } => (HostPolicyStage::Unconfirmed, Some(since), None),
            Stage::RolledBack { since, cause } => (HostPolicyStage::RolledBack, Some(since), Some(cause)),
        };
        Some(HostPolicyStatus {
            stage,
            revision: trial.wanted().revision(),
            confirmed: trial.last_confirmed().revision(),
            in_force: self.names.clone(),
            changes: trial.wanted().differences(trial.last_confirmed()),
            since,
            remaining_ms: self.remaining().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            reason: cause.map(|cause| reason(cause).into()),
            error: self.error.clone(),
        })
    }
}

const fn reason(cause: Cause) -> &'static str {
    match cause {
        Cause::Deadline => "nobody confirmed them in time",
        Cause::Restart => "the agent started anew before anybody confirmed them",
    }
}

#[cfg(test)]
mod tests;
