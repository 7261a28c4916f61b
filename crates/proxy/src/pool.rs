//! Connections to back ends that wait for their next request, one worker's.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead as _, ReadBuf};

use crate::{backend::Target, io::Stream, side::Wire};

/// Idle connections, the last used first: the others get old and are closed.
#[derive(Default)]
pub(crate) struct Pool {
    idle: BTreeMap<u32, Vec<Idle>>,
    count: usize,
}

/// A connection that waits for its next request.
struct Idle {
    wire: Wire,
    /// The gate's own address on it.
    local: Option<SocketAddr>,
    since: Instant,
}

/// The most idle connections of a worker, over all back ends, and to one of them.
const MOST: usize = 4096;
const MOST_EACH: usize = 256;
/// How long a connection may idle. Most servers close theirs after a minute or more.
const IDLE: Duration = Duration::from_secs(50);

impl Pool {
    /// A connection to that target, if one is idle.
    pub(crate) fn take(&mut self, target: &Target, now: Instant) -> Option<(Wire, Option<SocketAddr>)> {
        let idle = self.idle.get_mut(&target.number)?;
        while let Some(Idle { mut wire, local, since }) = idle.pop() {
            self.count -= 1;
            if now.duration_since(since) >= IDLE {
                // The others have waited longer.
                self.count -= idle.len();
                idle.clear();
                return None;
            }
            if is_quiet(&mut wire.stream) {
                return Some((wire, local));
            }
        }
        None
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put(&mut self, target: &Target, mut wire: Wire, local: Option<SocketAddr>, now: Instant) {
        if self.count >= MOST {
            self.expire(now);
        }
        let idle = self.idle.entry(target.number).or_default();
        if self.count < MOST && idle.len() < MOST_EACH {
            wire.inbound.release();
            if let Some(held) = &wire.held {
                held.has_room();
            }
            idle.push(Idle { wire, local, since: now });
            self.count += 1;
        }
    }

    /// Closes one connection to any of these targets, so that another one can take its place. Whether there was one.
    pub(crate) fn give_up(&mut self, mut numbers: impl Iterator<Item = u32>) -> bool {
        let given = numbers.any(|number| {
            let Some(idle) = self.idle.get_mut(&number).filter(|idle| !idle.is_empty()) else { return false };
            // The one that has waited longest.
            idle.remove(0);
            true
        });
        self.count -= usize::from(given);
        given
    }

    /// Closes what has idled too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        for idle in self.idle.values_mut() {
            idle.retain(|idle| now.duration_since(idle.since) < IDLE);
        }
        self.idle.retain(|_, idle| !idle.is_empty());
        self.count = self.idle.values().map(Vec::len).sum();
    }

    /// Closes what leads to none of the targets whose numbers `keep` accepts.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.idle.retain(|number, _| keep(*number));
        self.count = self.idle.values().map(Vec::len).sum();
    }
}

/// Whether nothing came on an idle connection: neither its end nor bytes that nobody asked for. Costs no system call where nothing did.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte)).is_pending()
}
