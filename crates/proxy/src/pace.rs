//! How fast a request's body must come.

use std::task::{Context, Poll};

use strait_http::Framing;

use crate::{deadline::Deadline, limits::Limits};

/// What took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slow {
    /// Nothing moved.
    Idle,
    /// The body moved, but by too little.
    Body,
}

/// The two clocks of an exchange, on its one [`Deadline`]: that of idleness, which each movement starts anew, and that of the time over
/// which the body's bytes are counted.
#[derive(Debug)]
pub(crate) struct Pace<'a> {
    limits: &'a Limits,
    /// Bytes that must come within the time of their limit.
    least: u64,
    idle_at: u64,
    counted_at: u64,
    /// Bytes of the body when the count began.
    before: u64,
    /// Whether the gate itself held the body up since.
    held_up: bool,
}

impl<'a> Pace<'a> {
    /// Begins to count for a body of that framing, if it is counted. How fast a conversation goes (`talks`) is a matter of both its ends.
    pub(crate) fn new(limits: &'a Limits, framing: Framing, talks: bool, deadline: &Deadline) -> Self {
        let told = match framing {
            Framing::None | Framing::UntilClose => false,
            Framing::Length(length) => length > 0,
            Framing::Chunked => !talks,
        };
        let seconds = limits.body_rate_time.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of a product of positive numbers")]
        #[expect(clippy::cast_precision_loss, reason = "a rate needs none")]
        let least = if told { (limits.body_rate as f64 * seconds).ceil() as u64 } else { 0 };
        let mut pace = Self {
            limits,
            least,
            idle_at: u64::MAX,
            counted_at: if least > 0 { deadline.after(limits.body_rate_time) } else { u64::MAX },
            before: 0,
            held_up: false,
        };
        pace.moved(deadline);
        pace
    }

    /// That something moved.
    pub(crate) fn moved(&mut self, deadline: &Deadline) {
        self.idle_at = deadline.after(self.limits.idle);
        deadline.set_at(self.idle_at.min(self.counted_at));
    }

    /// Ready when something is too slow. The body has so many `bytes` now; `waits` is whether it waits for the client, none where all of it
    /// is there.
    pub(crate) fn poll(
        &mut self,
        bytes: u64,
        waits: Option<bool>,
        deadline: &Deadline,
        cx: &Context<'_>,
    ) -> Poll<Slow> {
        self.held_up |= waits == Some(false);
        while deadline.poll(cx).is_ready() {
            if deadline.is_past(self.idle_at) {
                return Poll::Ready(Slow::Idle);
            }
            if waits.is_none() {
                self.counted_at = u64::MAX;
            } else {
                if !self.held_up && bytes.saturating_sub(self.before) < self.least {
                    return Poll::Ready(Slow::Body);
                }
                (self.before, self.held_up) = (bytes, waits == Some(false));
                self.counted_at = deadline.after(self.limits.body_rate_time);
            }
            deadline.set_at(self.idle_at.min(self.counted_at));
        }
        Poll::Pending
    }
}
