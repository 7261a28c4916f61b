//! Addresses of names that back ends are behind: looked up beside requests, never on their way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use strait_route::Resolved;
use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};

/// How often a name is looked up again, and how soon after a failure.
const AGAIN: Duration = Duration::from_secs(30);
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// The most names, and the most addresses of each.
const NAMES: usize = 1024;
const ADDRESSES: usize = 256;
/// The most lookups at once: each takes a thread until the system's resolver gives up.
const AT_ONCE: usize = 8;

/// Looks names up, each again and again as long as it is wanted. What was found last stays when a lookup fails.
pub(super) struct Resolver {
    resolved: Resolved,
    lookups: BTreeMap<Arc<str>, AbortHandle>,
    send: mpsc::Sender<(Arc<str>, Vec<IpAddr>)>,
    found: mpsc::Receiver<(Arc<str>, Vec<IpAddr>)>,
    turns: Arc<Semaphore>,
}

impl Resolver {
    pub(super) fn new() -> Self {
        let (send, found) = mpsc::channel(64);
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { resolved: Resolved::new(), lookups: BTreeMap::new(), send, found, turns }
    }

    /// What is known.
    pub(super) fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// Wants these names, and no others. Gives those that are too many.
    pub(super) fn want(&mut self, names: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        let lookups = &mut self.lookups;
        lookups.retain(|name, lookup| {
            let stays = names.contains(name);
            if !stays {
                lookup.abort();
            }
            stays
        });
        self.resolved.retain(|name, _| names.contains(name));
        let mut refused = Vec::new();
        for name in names {
            if lookups.contains_key(name) {
                continue;
            }
            if lookups.len() >= NAMES {
                refused.push(Arc::clone(name));
                continue;
            }
            let task = follow(Arc::clone(name), self.send.clone(), Arc::clone(&self.turns));
            lookups.insert(Arc::clone(name), tokio::spawn(task).abort_handle());
        }
        refused
    }

    /// Waits until something changed.
    pub(super) async fn changed(&mut self) {
        loop {
            // This side holds a sender: the channel never ends.
            let Some(found) = self.found.recv().await else { return };
            let mut changed = self.take(found);
            while let Ok(found) = self.found.try_recv() {
                changed |= self.take(found);
            }
            if changed {
                return;
            }
        }
    }

    /// Waits until every name that is wanted was found, at most so long.
    pub(super) async fn all_found(&mut self, most: Duration) {
        let deadline = Instant::now() + most;
        while self.resolved.len() < self.lookups.len() {
            if timeout_at(deadline, self.changed()).await.is_err() {
                return;
            }
        }
    }

    fn take(&mut self, (name, addresses): (Arc<str>, Vec<IpAddr>)) -> bool {
        if !self.lookups.contains_key(&name) {
            return false;
        }
        let changed = self.resolved.get(&name) != Some(&addresses);
        self.resolved.insert(name, addresses);
        changed
    }
}

async fn follow(name: Arc<str>, found: mpsc::Sender<(Arc<str>, Vec<IpAddr>)>, turns: Arc<Semaphore>) {
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let asked = Arc::clone(&name);
        let lookup = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let found = (&*asked, 0_u16).to_socket_addrs().ok()?;
            // In order, so that answers that only differ in theirs are the same.
            let addresses: BTreeSet<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
            Some(addresses.into_iter().take(ADDRESSES).collect::<Vec<_>>())
        });
        let addresses = lookup.await.ok().flatten().unwrap_or_default();
        let again = if addresses.is_empty() { AFTER_FAILURE } else { AGAIN };
        if !addresses.is_empty() && found.send((Arc::clone(&name), addresses)).await.is_err() {
            return;
        }
        sleep(again).await;
    }
}
