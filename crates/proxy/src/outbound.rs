//! How many connections a worker has to each back end, and how many of its requests wait for one.
//!
//! Each worker has an even part of what the limits allow, so that none asks another: a place is counted when a connection is opened and
//! when it ends, not by the requests on it.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc};

use tokio::sync::Notify;

use crate::limits::Limits;

/// What there is of one back end.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    connections: Cell<usize>,
    pending: Cell<usize>,
    /// Of those that are pending, those that wait for another's connection.
    waiting: Cell<usize>,
    freed: Notify,
}

/// The part of limits that one worker has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    connections: usize,
    pending: usize,
}

impl Share {
    pub(crate) fn of(limits: &Limits, workers: usize) -> Self {
        let part = |all: usize| all.div_ceil(workers.max(1));
        Self {
            connections: (limits.backend_connections / workers.max(1)).max(1),
            pending: part(limits.pending_requests),
        }
    }
}

/// By name of the back end.
pub(crate) type AllOutbound = BTreeMap<Arc<str>, Rc<Outbound>>;

impl Outbound {
    /// A place for one more connection, if there may be one.
    pub(crate) fn enter(self: &Rc<Self>, share: Share) -> Option<Held> {
        if self.connections.get() >= share.connections {
            return None;
        }
        self.connections.set(self.connections.get() + 1);
        Some(Held(Rc::clone(self)))
    }

    /// Counts a request that waits for a connection, if it may.
    pub(crate) fn pend(self: &Rc<Self>, share: Share) -> Option<Pending> {
        if self.pending.get() >= share.pending {
            return None;
        }
        self.pending.set(self.pending.get() + 1);
        Some(Pending(Rc::clone(self)))
    }

    /// Waits until a connection ends, or has room for a request: whoever asks first gets it.
    pub(crate) async fn freed(&self) {
        let _waiting = Waiting::new(&self.waiting);
        self.freed.notified().await;
    }

    pub(crate) fn is_full(&self, share: Share) -> bool {
        self.connections.get() >= share.connections
    }
}

/// One who waits, until dropped.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The place of a connection: given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held(Rc<Outbound>);

impl Held {
    /// That the connection takes another request.
    pub(crate) fn has_room(&self) {
        if self.0.waiting.get() > 0 {
            self.0.freed.notify_one();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.has_room();
    }
}

/// A request that waits: no longer when it is dropped.
pub(crate) struct Pending(Rc<Outbound>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.set(self.0.pending.get() - 1);
    }
}
