//! Times that rules set.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// A time that something may take, to the millisecond, where a rule sets one. What counts it down is allocated once.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Begins to count down, where there is anything to.
    pub(crate) fn set(&mut self, within: Option<Duration>) {
        match (within, &mut self.0) {
            (None, sleep) => *sleep = None,
            (Some(within), Some(sleep)) => sleep.as_mut().reset(tokio::time::Instant::now() + within),
            (Some(within), none) => *none = Some(Box::pin(sleep(within))),
        }
    }

    /// Waits for `what`, which is pinned where it is: moved into this it would be there twice. None where it takes too long.
    pub(crate) async fn of<F: Future>(&mut self, mut what: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| match (what.as_mut().poll(cx), &mut self.0) {
            (Poll::Ready(output), _) => Poll::Ready(Some(output)),
            (Poll::Pending, Some(sleep)) => sleep.as_mut().poll(cx).map(|()| None),
            (Poll::Pending, None) => Poll::Pending,
        })
        .await
    }
}
