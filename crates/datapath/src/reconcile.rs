//! Makes the tables equal to what a plan wants, in an order in which no packet is judged by half a policy for longer than it
//! takes, and never by a more open one.
//!
//! ```text
//!  room ─→ port sets ─→ policy ─→ ipcache ─→ endpoints ─→ stale ipcache ─→ stale policy ─→ stale port sets ─→ revision
//!          (new ids)   exact peers              │
//!                      before any       closed where something they need did not fit
//! ```
//!
//! Where there is not room for all, tables first become larger with what is in them, so that growing changes no verdict and no
//! revision: a packet that meets a program of the larger tables is judged as by one of the smaller.
//!
//! Every entry refers to what is to its left, so what is new is complete before anything points to it, and what is stale is
//! unreferenced before it goes. Connections made meanwhile carry the old revision and are judged again after the last step.

use std::collections::{BTreeMap, BTreeSet};

use strait_model::{NodePlan, PodKey};
use strait_packet::abi::{
    ANY_PEER, Config, CtKey, Endpoint, IpcacheKey, IpcacheValue, PolicyKey, PolicyValue, PortRule, PortSetKey,
};

use crate::{
    desired::{Attachment, Closed, Desired},
    kernel::{AttachError, Kernel, MapError},
    room::{GrowError, Room, grown},
    table::{Endpoints, Ipcache, Policy, PortSets, Table},
};

/// Keeps the tables of a kernel equal to a plan.
#[derive(Debug)]
pub struct Datapath<K> {
    pub(crate) kernel: K,
    pub(crate) mirror: Mirror,
    pub(crate) config: Config,
    /// The tables are as the plan that was applied last wants them.
    pub(crate) settled: bool,
    /// Connections that were there at the last collection, where the table was nearly full.
    pub(crate) crowd: BTreeSet<CtKey>,
    pub(crate) forgotten: u64,
}

/// What the tables hold: read once, then kept by every write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Mirror {
    pub(crate) port_sets: BTreeMap<PortSetKey, PortRule>,
    pub(crate) policy: BTreeMap<PolicyKey, PolicyValue>,
    pub(crate) ipcache: BTreeMap<IpcacheKey, IpcacheValue>,
    pub(crate) endpoints: BTreeMap<u32, Endpoint>,
}

/// Entries written and removed in one table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Added, or given another value.
    pub written: usize,
    /// Removed.
    pub deleted: usize,
}

impl Changes {
    const fn any(self) -> bool {
        self.written > 0 || self.deleted > 0
    }
}

/// What one [`Datapath::apply`] did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// `PORT_SETS`.
    pub port_sets: Changes,
    /// `POLICY`.
    pub policy: Changes,
    /// `IPCACHE`.
    pub ipcache: Changes,
    /// `ENDPOINTS`.
    pub endpoints: Changes,
    /// The revision in force, raised if anything changed.
    pub revision: u32,
    /// Endpoints that get no traffic, and why.
    pub closed: BTreeMap<PodKey, Closed>,
    /// There is no room for what host policies need: nothing is let to or from the node itself.
    pub host_closed: bool,
}

impl Applied {
    /// Whether anything was written or removed.
    pub const fn changed(&self) -> bool {
        self.port_sets.any() || self.policy.any() || self.ipcache.any() || self.endpoints.any()
    }
}

/// One table did not take what it should.
#[derive(Debug)]
pub struct Shortfall {
    /// The table.
    pub map: &'static str,
    /// Entries that the plan needs.
    pub needed: usize,
    /// Entries that it may hold.
    pub allowed: u32,
    /// The first refusal.
    pub error: MapError,
    /// Why it did not become larger, where it might have.
    pub growth: Option<String>,
}

impl std::fmt::Display for Shortfall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "map {}: {} entries are needed, {} are allowed ({})",
            self.map, self.needed, self.allowed, self.error
        )?;
        self.growth.as_ref().map_or(Ok(()), |growth| write!(f, "; {growth}"))
    }
}

/// The plan is not fully in force. What could be applied is; endpoints that depend on the rest are closed until a later
/// [`Datapath::apply`] succeeds.
#[derive(Debug, thiserror::Error)]
#[error("policy is not fully in force: {}; closed until it is: {}", list(shortfalls), closed(applied))]
pub struct Incomplete {
    /// What did not fit, by table.
    pub shortfalls: Vec<Shortfall>,
    /// What was done, and who is closed.
    pub applied: Applied,
}

/// A plan could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Not all of it is in force.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// The tables are in force, but programs still run on older ones.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

fn list(shortfalls: &[Shortfall]) -> String {
    shortfalls.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn closed(applied: &Applied) -> String {
    let host = applied.host_closed.then(|| "the node itself".to_owned());
    let all: Vec<_> = host.into_iter().chain(applied.closed.keys().map(ToString::to_string)).collect();
    if all.is_empty() { "no endpoint".to_owned() } else { all.join(", ") }
}

/// What went wrong in one pass.
#[derive(Default)]
struct Trouble {
    /// The first refusal of each table.
    errors: BTreeMap<&'static str, MapError>,
    /// Subjects whose policy is incomplete, and the table that refused.
    subjects: BTreeMap<u32, &'static str>,
}

impl Trouble {
    fn note(&mut self, map: &'static str, error: MapError) {
        self.errors.entry(map).or_insert(error);
    }
}

impl<K: Kernel> Datapath<K> {
    /// Takes over the tables of `kernel` as they are. A `CONFIG` that was never written gets its defaults.
    pub fn over(mut kernel: K) -> Result<Self, MapError> {
        let found = kernel.config()?;
        let config = found.unwrap_or_default();
        if found.is_none() {
            kernel.set_config(&config)?;
        }
        let (mirror, crowd) = (Mirror::default(), BTreeSet::new());
        let mut datapath = Self { kernel, mirror, config, settled: false, crowd, forgotten: 0 };
        datapath.reread()?;
        Ok(datapath)
    }

    /// Makes the tables equal to `plan` with pods where `attachments` say; does nothing where they are. Level-triggered: after
    /// an error, the next call goes on from whatever state there is.
    /// Compares whole tables; [`follow`](Self::follow) does not.
    pub fn apply(&mut self, plan: &NodePlan, attachments: &[Attachment]) -> Result<Applied, ApplyError> {
        self.settled = false;
        let mut desired = Desired::new(plan, attachments);
        let mut applied = Applied::default();
        let growth = match self.make_room(&desired) {
            Ok(()) => None,
            Err(GrowError::Unfinished(error)) => return Err(error.into()),
            Err(error) => Some(error.to_string()),
        };
        let mut trouble = Trouble::default();
        // New entries go in before stale ones go out. Where that does not fit, the second pass has the room the first one made.
        for again in [false, true] {
            if again {
                desired = Desired::new(plan, attachments);
            }
            let deleted = applied.deleted();
            // First out of sight, then without entries: nothing is judged by a policy that is half gone.
            trouble = Trouble::default();
            if desired.host == 0 {
                settle_host(&mut self.kernel, &mut self.config, &desired, &mut trouble);
            }
            // From now on the node is judged. Of what it has open, conntrack has to know beforehand, and of what opened meanwhile
            // afterwards: until then the one who sends tries again.
            let begins = desired.host != 0 && self.config.host == 0;
            if begins {
                self.learn_connections();
            }
            self.pass(&mut desired, &mut applied, &mut trouble);
            settle_host(&mut self.kernel, &mut self.config, &desired, &mut trouble);
            if begins && self.config.host != 0 {
                self.learn_connections();
            }
            applied.closed = std::mem::take(&mut desired.closed);
            applied.host_closed = desired.host_closed;
            if trouble.errors.is_empty() || applied.deleted() == deleted {
                break;
            }
        }
        if applied.changed()
            && let Err(error) = self.raise_revision()
        {
            trouble.note(strait_packet::abi::map::CONFIG, error);
        }
        applied.revision = self.config.revision;
        self.kernel.activate()?;
        if trouble.errors.is_empty() {
            self.settled = true;
            return Ok(applied);
        }
        let desired = Desired::new(plan, attachments);
        let shortfall = |(map, error)| Shortfall { growth: growth.clone(), ..self.shortfall(&desired, map, error) };
        Err(Incomplete { shortfalls: trouble.errors.into_iter().map(shortfall).collect(), applied }.into())
    }

    /// From now on, connections are judged anew.
    pub(crate) fn raise_revision(&mut self) -> Result<(), MapError> {
        self.config.revision = self.config.revision.checked_add(1).unwrap_or(1);
        self.kernel.set_config(&self.config)
    }

    /// Makes tables larger that cannot hold what is in them beside what is wanted, so that nothing has to go before its
    /// successor is there.
    fn make_room(&mut self, desired: &Desired) -> Result<(), GrowError> {
        let mut larger = BTreeMap::new();
        let Self { kernel, mirror, .. } = self;
        let mut consider = |map, entries: Option<u32>| larger.extend(entries.map(|entries| (map, entries)));
        consider(PortSets::NAME, wanted(kernel.room::<PortSets>(), &mirror.port_sets, &desired.port_sets));
        consider(Policy::NAME, wanted(kernel.room::<Policy>(), &mirror.policy, &desired.policy));
        consider(Ipcache::NAME, wanted(kernel.room::<Ipcache>(), &mirror.ipcache, &desired.ipcache));
        consider(Endpoints::NAME, wanted(kernel.room::<Endpoints>(), &mirror.endpoints, &desired.endpoints));
        kernel.grow(&larger)
    }

    fn pass(&mut self, desired: &mut Desired, applied: &mut Applied, trouble: &mut Trouble) {
        let Self { kernel, mirror, config, .. } = self;

        let lacking = write::<PortSets>(
            kernel,
            &mut mirror.port_sets,
            &desired.port_sets,
            &mut applied.port_sets,
            |_| true,
            trouble,
        );
        let lacking_sets: BTreeSet<u32> = lacking.iter().map(|key| key.port_set).collect();
        for (key, value) in &desired.policy {
            if lacking_sets.contains(&value.port_set) {
                trouble.subjects.insert(key.subject, PortSets::NAME);
            }
        }
        // A peer's own entry says more than the one for any peer: first, so that it is never missing behind a wider one.
        // Where one of those is missing, the other stays as it is until the endpoint is closed.
        for any in [false, true] {
            let incomplete: BTreeSet<u32> = trouble.subjects.keys().copied().collect();
            let wanted = |key: &PolicyKey| (key.peer == ANY_PEER) == any && !incomplete.contains(&key.subject);
            let lacking =
                write::<Policy>(kernel, &mut mirror.policy, &desired.policy, &mut applied.policy, wanted, trouble);
            trouble.subjects.extend(lacking.iter().map(|key| (key.subject, Policy::NAME)));
        }
        let lacking =
            write::<Ipcache>(kernel, &mut mirror.ipcache, &desired.ipcache, &mut applied.ipcache, |_| true, trouble);
        if !lacking.is_empty() {
            trouble.subjects.extend(desired.peer_dependent().into_iter().map(|subject| (subject, Ipcache::NAME)));
        }

        desired.close(&trouble.subjects);
        if desired.host_closed {
            settle_host(kernel, config, desired, trouble);
        }
        settle_endpoints(kernel, mirror, desired, applied, trouble);

        let stuck = remove::<Ipcache>(kernel, &mut mirror.ipcache, &desired.ipcache, &mut applied.ipcache, trouble);
        if !stuck.is_empty() {
            trouble.subjects.extend(desired.peer_dependent().into_iter().map(|subject| (subject, Ipcache::NAME)));
        }
        let stuck = remove::<Policy>(kernel, &mut mirror.policy, &desired.policy, &mut applied.policy, trouble);
        trouble.subjects.extend(stuck.iter().map(|key| (key.subject, Policy::NAME)));
        remove::<PortSets>(kernel, &mut mirror.port_sets, &desired.port_sets, &mut applied.port_sets, trouble);

        // What could not be removed may be more open than what is wanted.
        desired.close(&trouble.subjects);
        settle_endpoints(kernel, mirror, desired, applied, trouble);
    }

    fn shortfall(&self, desired: &Desired, map: &'static str, error: MapError) -> Shortfall {
        let (needed, allowed) = match map {
            PortSets::NAME => (desired.port_sets.len(), self.kernel.capacity::<PortSets>()),
            Policy::NAME => (desired.policy.len(), self.kernel.capacity::<Policy>()),
            Ipcache::NAME => (desired.ipcache.len(), self.kernel.capacity::<Ipcache>()),
            Endpoints::NAME => (desired.endpoints.len(), self.kernel.capacity::<Endpoints>()),
            _ => (1, 1),
        };
        Shortfall { map, needed, allowed, error, growth: None }
    }

    /// Reads the tables again and returns how many entries were not as this datapath left them: somebody else wrote to them.
    /// The next [`apply`](Self::apply) puts them right.
    pub fn reread(&mut self) -> Result<usize, MapError> {
        let (kernel, there) = (&self.kernel, &self.mirror);
        if holds::<PortSets>(kernel, &there.port_sets)?
            && holds::<Policy>(kernel, &there.policy)?
            && holds::<Ipcache>(kernel, &there.ipcache)?
            && holds::<Endpoints>(kernel, &there.endpoints)?
        {
            return Ok(0);
        }
        let found = Mirror {
            port_sets: self.kernel.entries::<PortSets>()?,
            policy: self.kernel.entries::<Policy>()?,
            ipcache: self.kernel.entries::<Ipcache>()?,
            endpoints: self.kernel.entries::<Endpoints>()?,
        };
        let differing = differences(&self.mirror.port_sets, &found.port_sets)
            + differences(&self.mirror.policy, &found.policy)
            + differences(&self.mirror.ipcache, &found.ipcache)
            + differences(&self.mirror.endpoints, &found.endpoints);
        if differing > 0 {
            self.mirror = found;
            self.settled = false;
        }
        Ok(differing)
    }

    /// `CONFIG` as it is in force.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Changes intervals and timeouts. The revision, the layout version and how the node is judged are the datapath's own and stay.
    pub fn set_config(&mut self, config: &Config) -> Result<(), MapError> {
        let Config { abi_version, revision, host, .. } = self.config;
        let config = Config { abi_version, revision, host, ..*config };
        self.kernel.set_config(&config)?;
        self.config = config;
        Ok(())
    }

    /// Whether connections that both ends know go past the host's stack. True if that changed.
    pub fn take_shortcuts(&mut self, yes: bool) -> Result<bool, MapError> {
        let config = Config { shortcut: u32::from(yes), ..self.config };
        if config == self.config {
            return Ok(false);
        }
        self.set_config(&config)?;
        Ok(true)
    }

    /// The kernel underneath, to read.
    pub const fn kernel(&self) -> &K {
        &self.kernel
    }

    /// The kernel underneath. Who writes past the datapath makes it [`reread`](Self::reread).
    pub const fn kernel_mut(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// Lets go of the kernel; everything stays as it is.
    pub fn into_kernel(self) -> K {
        self.kernel
    }

    /// `IPCACHE` as it is in force.
    pub const fn ipcache(&self) -> &BTreeMap<IpcacheKey, IpcacheValue> {
        &self.mirror.ipcache
    }

    /// `POLICY` as it is in force.
    pub const fn policy(&self) -> &BTreeMap<PolicyKey, PolicyValue> {
        &self.mirror.policy
    }

    /// `PORT_SETS` as it is in force.
    pub const fn port_sets(&self) -> &BTreeMap<PortSetKey, PortRule> {
        &self.mirror.port_sets
    }

    /// `ENDPOINTS` as it is in force.
    pub const fn endpoints(&self) -> &BTreeMap<u32, Endpoint> {
        &self.mirror.endpoints
    }
}

impl Applied {
    const fn deleted(&self) -> usize {
        self.port_sets.deleted + self.policy.deleted + self.ipcache.deleted + self.endpoints.deleted
    }
}

/// The capacity that a table needs for what is in it and what is to come; `None` where it has it.
fn wanted<Key: Ord, Value>(room: Room, present: &BTreeMap<Key, Value>, desired: &BTreeMap<Key, Value>) -> Option<u32> {
    if present.len() + desired.len() <= room.capacity as usize {
        return None;
    }
    let new = desired.keys().filter(|key| !present.contains_key(key)).count();
    grown(room, present.len() + new)
}

/// Whether a table holds just this, without a copy of it.
fn holds<T: Table>(kernel: &impl Kernel, expected: &BTreeMap<T::Key, T::Value>) -> Result<bool, MapError> {
    let (mut seen, mut same) = (0, true);
    kernel.each::<T>(&mut |key, value| {
        seen += 1;
        same &= expected.get(&key) == Some(&value);
    })?;
    Ok(same && seen == expected.len())
}

fn differences<Key: Ord, Value: Eq>(expected: &BTreeMap<Key, Value>, found: &BTreeMap<Key, Value>) -> usize {
    let changed = expected.iter().filter(|(key, value)| found.get(key) != Some(value)).count();
    changed + found.keys().filter(|key| !expected.contains_key(key)).count()
}

/// Writes what is missing or different; returns the keys that the table refused.
fn write<T: Table>(
    kernel: &mut impl Kernel,
    mirror: &mut BTreeMap<T::Key, T::Value>,
    desired: &BTreeMap<T::Key, T::Value>,
    changes: &mut Changes,
    wanted: impl Fn(&T::Key) -> bool,
    trouble: &mut Trouble,
) -> Vec<T::Key> {
    let mut refused = Vec::new();
    // Made at once, a map is full; one that grows in order of its keys is half empty.
    let mut first = mirror.is_empty().then(Vec::new);
    for (key, value) in desired {
        if mirror.get(key) == Some(value) || !wanted(key) {
            continue;
        }
        match kernel.upsert::<T>(key, value) {
            Ok(()) => {
                match &mut first {
                    Some(first) => first.push((*key, *value)),
                    None => drop(mirror.insert(*key, *value)),
                }
                changes.written += 1;
            }
            Err(error) => {
                trouble.note(T::NAME, error);
                refused.push(*key);
            }
        }
    }
    if let Some(first) = first {
        *mirror = first.into_iter().collect();
    }
    refused
}

/// Removes what is not wanted; returns the keys that the table would not let go.
fn remove<T: Table>(
    kernel: &mut impl Kernel,
    mirror: &mut BTreeMap<T::Key, T::Value>,
    desired: &BTreeMap<T::Key, T::Value>,
    changes: &mut Changes,
    trouble: &mut Trouble,
) -> Vec<T::Key> {
    let stale: Vec<T::Key> = mirror.keys().filter(|key| !desired.contains_key(key)).copied().collect();
    let mut stuck = Vec::new();
    for key in stale {
        match kernel.delete::<T>(&key) {
            Ok(_) => {
                mirror.remove(&key);
                changes.deleted += 1;
            }
            Err(error) => {
                trouble.note(T::NAME, error);
                stuck.push(key);
            }
        }
    }
    stuck
}

/// Whether and as whom the node itself is judged.
fn settle_host<K: Kernel>(kernel: &mut K, config: &mut Config, desired: &Desired, trouble: &mut Trouble) {
    if config.host == desired.host {
        return;
    }
    let wanted = Config { host: desired.host, ..*config };
    match kernel.set_config(&wanted) {
        Ok(()) => *config = wanted,
        Err(error) => trouble.note(strait_packet::abi::map::CONFIG, error),
    }
}

/// Endpoints that cannot be written are removed: without an entry the programs drop everything.
fn settle_endpoints(
    kernel: &mut impl Kernel,
    mirror: &mut Mirror,
    desired: &mut Desired,
    applied: &mut Applied,
    trouble: &mut Trouble,
) {
    let refused = write::<Endpoints>(
        kernel,
        &mut mirror.endpoints,
        &desired.endpoints,
        &mut applied.endpoints,
        |_| true,
        trouble,
    );
    for ifindex in refused {
        desired.endpoints.remove(&ifindex);
        if let Some(pod) = desired.pods.get(&ifindex) {
            desired.closed.insert(pod.clone(), Closed::NoRoom(Endpoints::NAME));
        }
    }
    remove::<Endpoints>(kernel, &mut mirror.endpoints, &desired.endpoints, &mut applied.endpoints, trouble);
}
