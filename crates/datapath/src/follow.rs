//! A plan that changed a little: what is done costs what changed, whatever the tables hold.
//!
//! The order is that of [`Datapath::apply`], which also takes over where anything is not as it should be: more changed than is listed, there
//! is no room, a table refuses. From whatever this left half done it goes on.

use std::collections::BTreeMap;

use strait_model::{NodePlan, PlanDelta};
use strait_packet::abi::{ANY_PEER, PortRule, PortSetKey};

use crate::{
    desired::{Attachment, Desired, ipcache_entry, ipcache_key, policy_entry, policy_key, port_set_entries},
    kernel::{Kernel, MapError},
    reconcile::{Applied, ApplyError, Changes, Datapath},
    table::{Endpoints, Ipcache, Policy, PortSets, Table},
};

/// Lengths of the prefixes that entries of a port set have: any protocol; a protocol and so many bits of the port.
fn port_set_lengths() -> impl Iterator<Item = u32> {
    std::iter::once(32).chain(40..=56)
}

/// What a table shall hold under some keys; `None` for nothing.
type Wanted<T> = BTreeMap<<T as Table>::Key, Option<<T as Table>::Value>>;

impl<K: Kernel> Datapath<K> {
    /// As [`apply`](Self::apply), where `plan` differs from the one that was applied last in no more than `changes` says.
    pub fn follow(
        &mut self,
        plan: &NodePlan,
        attachments: &[Attachment],
        changes: &PlanDelta,
    ) -> Result<Applied, ApplyError> {
        if !self.settled || changes.everything {
            return self.apply(plan, attachments);
        }
        match self.follow_closely(plan, attachments, changes) {
            Some(applied) => Ok(applied),
            None => self.apply(plan, attachments),
        }
    }

    /// `None` where it did not work out.
    fn follow_closely(&mut self, plan: &NodePlan, attachments: &[Attachment], changes: &PlanDelta) -> Option<Applied> {
        // Until the end, whoever looks has to look at everything.
        self.settled = false;
        let endpoints = Desired::of_endpoints(plan, attachments);
        if endpoints.host != self.config.host {
            return None;
        }
        let port_sets = self.port_sets_wanted(plan, changes);
        let policy: Wanted<Policy> = changes
            .policy
            .iter()
            .map(|key| (policy_key(*key), plan.policy.get(key).map(|entry| policy_entry(*entry))))
            .collect();
        let ipcache: Wanted<Ipcache> = changes
            .ipcache
            .iter()
            .map(|prefix| (ipcache_key(*prefix), plan.ipcache.get(prefix).map(ipcache_entry)))
            .collect();
        let there = &self.mirror;
        let stale = there.endpoints.keys().filter(|index| !endpoints.endpoints.contains_key(index));
        let stale: Vec<u32> = stale.copied().collect();
        let wanted: Wanted<Endpoints> = endpoints
            .endpoints
            .iter()
            .map(|(index, endpoint)| (*index, Some(*endpoint)))
            .chain(stale.into_iter().map(|index| (index, None)))
            .collect();
        let rooms = [
            has_room::<PortSets>(&self.kernel, &there.port_sets, &port_sets),
            has_room::<Policy>(&self.kernel, &there.policy, &policy),
            has_room::<Ipcache>(&self.kernel, &there.ipcache, &ipcache),
            has_room::<Endpoints>(&self.kernel, &there.endpoints, &wanted),
        ];
        if rooms.contains(&false) {
            return None;
        }
        let mut applied = Applied { closed: endpoints.closed, ..Applied::default() };
        let (kernel, mirror) = (&mut self.kernel, &mut self.mirror);
        let of = &mut applied;
        write::<PortSets>(kernel, &mut mirror.port_sets, &port_sets, &mut of.port_sets, |_| true).ok()?;
        for any in [false, true] {
            let wanted = |key: &strait_packet::abi::PolicyKey| (key.peer == ANY_PEER) == any;
            write::<Policy>(kernel, &mut mirror.policy, &policy, &mut of.policy, wanted).ok()?;
        }
        write::<Ipcache>(kernel, &mut mirror.ipcache, &ipcache, &mut of.ipcache, |_| true).ok()?;
        write::<Endpoints>(kernel, &mut mirror.endpoints, &wanted, &mut of.endpoints, |_| true).ok()?;
        remove::<Endpoints>(kernel, &mut mirror.endpoints, &wanted, &mut of.endpoints).ok()?;
        remove::<Ipcache>(kernel, &mut mirror.ipcache, &ipcache, &mut of.ipcache).ok()?;
        remove::<Policy>(kernel, &mut mirror.policy, &policy, &mut of.policy).ok()?;
        remove::<PortSets>(kernel, &mut mirror.port_sets, &port_sets, &mut of.port_sets).ok()?;
        if applied.changed() {
            self.raise_revision().ok()?;
        }
        applied.revision = self.config.revision;
        self.kernel.activate().ok()?;
        self.settled = true;
        Some(applied)
    }

    /// Of a port set that changed, every entry that it has or had.
    fn port_sets_wanted(&self, plan: &NodePlan, changes: &PlanDelta) -> Wanted<PortSets> {
        let mut wanted = Wanted::<PortSets>::new();
        for id in &changes.port_sets {
            let held = port_set_lengths().flat_map(|prefix_len| {
                let first = PortSetKey { prefix_len, port_set: id.0, protocol: 0, port: [0; 2], pad: 0 };
                let last = PortSetKey { protocol: u8::MAX, port: [u8::MAX; 2], pad: u8::MAX, ..first };
                self.mirror.port_sets.range(first..=last).map(|(key, _)| *key)
            });
            wanted.extend(held.map(|key| (key, None)));
            let entries = plan.port_sets.get(id).into_iter().flat_map(|set| port_set_entries(*id, set));
            wanted.extend(entries.map(|(key, rule): (PortSetKey, PortRule)| (key, Some(rule))));
        }
        wanted
    }
}

fn has_room<T: Table>(kernel: &impl Kernel, held: &BTreeMap<T::Key, T::Value>, wanted: &Wanted<T>) -> bool {
    let new = wanted.iter().filter(|(key, value)| value.is_some() && !held.contains_key(key)).count();
    held.len() + new <= kernel.capacity::<T>() as usize
}

fn write<T: Table>(
    kernel: &mut impl Kernel,
    mirror: &mut BTreeMap<T::Key, T::Value>,
    wanted: &Wanted<T>,
    changes: &mut Changes,
    now: impl Fn(&T::Key) -> bool,
) -> Result<(), MapError> {
    for (key, value) in wanted {
        if let Some(value) = value
            && now(key)
            && mirror.get(key) != Some(value)
        {
            kernel.upsert::<T>(key, value)?;
            mirror.insert(*key, *value);
            changes.written += 1;
        }
    }
    Ok(())
}

fn remove<T: Table>(
    kernel: &mut impl Kernel,
    mirror: &mut BTreeMap<T::Key, T::Value>,
    wanted: &Wanted<T>,
    changes: &mut Changes,
) -> Result<(), MapError> {
    for key in wanted.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key) {
        if mirror.contains_key(key) {
            kernel.delete::<T>(key)?;
            mirror.remove(key);
            changes.deleted += 1;
        }
    }
    Ok(())
}
