//! When a request is sent again, and how many may be.
//!
//! A request is sent again only while the client got nothing of an answer and all that was sent of the body is still here. What a back end
//! may have begun to work on is sent again where that is harmless (RFC 9110, 9.2.2), or where the route names the status that
//! the client would get.

use std::{net::SocketAddr, time::Duration};

use strait_route::{Lost, Retry, RetryConstraint};
use tokio::time::Instant;

use crate::backend::Target;

/// Of the time between attempts, how much more than the least there may be.
const MOST_BACKOFF: u32 = 10;

/// The attempts of one request.
#[derive(Default)]
pub(crate) struct Tries {
    again: u32,
    /// The target that the request is to be sent to at once.
    pub(crate) same: Option<Target>,
    /// Endpoints that failed.
    pub(crate) failed: Vec<SocketAddr>,
}

/// Why an attempt is no answer for the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Nothing was sent.
    NotSent,
    /// It was sent, and then the connection ended or took too long: the client would get this status.
    Lost(u16),
    /// The back end answered with this status.
    Answered(u16),
}

impl Tries {
    /// Begins anew; what was allocated stays.
    pub(crate) fn clear(&mut self) {
        (self.again, self.same) = (0, None);
        self.failed.clear();
    }

    /// Whether a request with this outcome is to be sent again.
    pub(crate) fn wants(&self, retry: &Retry, outcome: Outcome, idempotent: bool) -> bool {
        let listed = |status: u16| retry.codes.binary_search(&status).is_ok();
        self.again < retry.attempts
            && match outcome {
                Outcome::NotSent => retry.not_sent,
                Outcome::Lost(status) => match retry.lost {
                    Lost::Harmless => idempotent || listed(status),
                    Lost::Always => true,
                    Lost::Never => false,
                },
                Outcome::Answered(status) => listed(status),
            }
    }

    /// Counts one more; gives how long to wait before: twice as long each time, and up to half as much again, which `random` draws.
    pub(crate) fn next(&mut self, retry: &Retry, random: u64) -> Duration {
        let wait = retry.backoff.saturating_mul((1 << self.again.min(16)).min(MOST_BACKOFF));
        self.again += 1;
        let jitter = u64::try_from(wait.as_micros() / 2).unwrap_or(u64::MAX);
        wait + Duration::from_micros(random % jitter.saturating_add(1))
    }
}

const SLOTS: usize = 10;

/// Requests to a back end and retries among them, in the interval of its budget; and retries in that of the least rate.
#[derive(Debug)]
pub(crate) struct Budget {
    constraint: RetryConstraint,
    requests: Window,
    retries: Window,
    least: Window,
}

impl Budget {
    pub(crate) fn new(constraint: RetryConstraint, now: Instant) -> Self {
        Self {
            constraint,
            requests: Window::new(constraint.interval, now),
            retries: Window::new(constraint.interval, now),
            least: Window::new(constraint.min_retries_interval, now),
        }
    }

    /// Whether it is of that constraint.
    pub(crate) fn is_of(&self, constraint: &RetryConstraint) -> bool {
        self.constraint == *constraint
    }

    /// A request is sent for the first time.
    pub(crate) fn request(&mut self, now: Instant) {
        self.requests.add(now);
    }

    /// Whether a request may be sent again; counts it then.
    pub(crate) fn retry(&mut self, now: Instant) -> bool {
        let requests = u64::from(self.requests.sum(now));
        let may = self.least.sum(now) < self.constraint.min_retries
            || u64::from(self.retries.sum(now) + 1) * 100 <= requests * u64::from(self.constraint.percent);
        if may {
            self.retries.add(now);
            self.least.add(now);
        }
        may
    }
}

/// How often something happened in the last interval, to a tenth of it.
#[derive(Debug)]
struct Window {
    slots: [u32; SLOTS],
    /// The slot at hand, counted from the start.
    at: u64,
    start: Instant,
    slot: Duration,
}

impl Window {
    fn new(interval: Duration, now: Instant) -> Self {
        let slot = (interval / u32::try_from(SLOTS).unwrap_or(1)).max(Duration::from_micros(1));
        Self { slots: [0; SLOTS], at: 0, start: now, slot }
    }

    /// Forgets what is too long ago.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.start).as_nanos() / self.slot.as_nanos();
        let to = u64::try_from(passed).unwrap_or(u64::MAX);
        let gone = to.saturating_sub(self.at).min(SLOTS as u64);
        for slot in 0..gone {
            self.slots[index(self.at + 1 + slot)] = 0;
        }
        self.at = self.at.max(to);
    }

    fn add(&mut self, now: Instant) {
        self.turn(now);
        let slot = &mut self.slots[index(self.at)];
        *slot = slot.saturating_add(1);
    }

    fn sum(&mut self, now: Instant) -> u32 {
        self.turn(now);
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(*slot))
    }
}

fn index(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(codes: &[u16]) -> Retry {
        let backoff = Duration::from_millis(100);
        Retry { codes: codes.to_vec(), not_sent: true, lost: Lost::Harmless, attempts: 2, backoff }
    }

    #[test]
    fn what_is_sent_again() {
        let cases = [
            (Outcome::NotSent, false, true),
            (Outcome::Lost(502), true, true),
            (Outcome::Lost(502), false, false),
            (Outcome::Lost(504), false, true),
            (Outcome::Answered(504), false, true),
            (Outcome::Answered(502), true, false),
        ];
        for (outcome, idempotent, expected) in cases {
            assert_eq!(Tries::default().wants(&retry(&[504]), outcome, idempotent), expected, "{outcome:?}");
        }
        let cases = [
            (false, Lost::Never, Outcome::NotSent, false),
            (true, Lost::Never, Outcome::NotSent, true),
            (true, Lost::Never, Outcome::Lost(504), false),
            (true, Lost::Always, Outcome::Lost(502), true),
            (false, Lost::Never, Outcome::Answered(504), true),
        ];
        for (not_sent, lost, outcome, expected) in cases {
            let retry = Retry { not_sent, lost, ..retry(&[504]) };
            assert_eq!(Tries::default().wants(&retry, outcome, false), expected, "{lost:?} {outcome:?}");
        }
        let mut tries = Tries::default();
        let waits: Vec<_> = (0..2).map(|_| tries.next(&retry(&[]), 0)).collect();
        assert_eq!(waits, [Duration::from_millis(100), Duration::from_millis(200)]);
        assert!(!tries.wants(&retry(&[]), Outcome::NotSent, true), "no more than it may be");
        for random in [0, 1, 49_999, 50_000, u64::MAX] {
            let wait = Tries::default().next(&retry(&[]), random);
            assert!((Duration::from_millis(100)..=Duration::from_millis(150)).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn budgets() {
        let start = Instant::now();
        let constraint = RetryConstraint { min_retries: 1, ..RetryConstraint::default() };
        let mut budget = Budget::new(constraint, start);
        assert!(budget.retry(start), "the least rate");
        assert!(!budget.retry(start));
        (0..20).for_each(|_| budget.request(start));
        // Twenty per cent of twenty, of which one was used.
        let granted = (0..10).filter(|_| budget.retry(start + Duration::from_millis(500))).count();
        assert_eq!(granted, 3);
        assert!(budget.retry(start + Duration::from_millis(1600)), "the least rate again, a second later");
        let later = start + Duration::from_secs(11);
        assert!(budget.retry(later) && !budget.retry(later), "requests of long ago do not count");
        let none = RetryConstraint { percent: 0, ..constraint };
        let mut budget = Budget::new(none, start);
        (0..1000).for_each(|_| budget.request(start));
        assert!(budget.retry(start) && !budget.retry(start));
    }
}
