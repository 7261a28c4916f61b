//! Connections to back ends that wait for their next request, one worker's.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead as _, ReadBuf};

use crate::{backend::Target, io::Stream};

/// Idle connections, the last used first: the others get old and are closed.
#[derive(Default)]
pub(crate) struct Pool {
    idle: BTreeMap<Target, Vec<(Stream, Instant)>>,
    count: usize,
}

/// The most idle connections of a worker, over all back ends, and to one of them.
const MOST: usize = 4096;
const MOST_EACH: usize = 256;
/// How long a connection may idle. Most servers close theirs after a minute or more.
const IDLE: Duration = Duration::from_secs(50);

impl Pool {
    /// A connection to that target, if one is idle.
    pub(crate) fn take(&mut self, target: &Target, now: Instant) -> Option<Stream> {
        let idle = self.idle.get_mut(target)?;
        while let Some((mut stream, since)) = idle.pop() {
            self.count -= 1;
            if now.duration_since(since) >= IDLE {
                // The others have waited longer.
                self.count -= idle.len();
                idle.clear();
                return None;
            }
            if is_quiet(&mut stream) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(crate) fn put(&mut self, target: Target, stream: Stream, now: Instant) {
        if self.count >= MOST {
            self.expire(now);
        }
        let idle = self.idle.entry(target).or_default();
        if self.count < MOST && idle.len() < MOST_EACH {
            idle.push((stream, now));
            self.count += 1;
        }
    }

    /// Closes what has idled too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        for idle in self.idle.values_mut() {
            idle.retain(|(_, since)| now.duration_since(*since) < IDLE);
        }
        self.idle.retain(|_, idle| !idle.is_empty());
        self.count = self.idle.values().map(Vec::len).sum();
    }

    /// Closes what leads to none of the targets that `keep` accepts.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Target) -> bool) {
        self.idle.retain(|target, _| keep(target));
        self.count = self.idle.values().map(Vec::len).sum();
    }
}

/// Whether nothing came on an idle connection: neither its end nor bytes that nobody asked for. Costs no system call where nothing did.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte)).is_pending()
}
