//! Times that rules set.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A time that something may take, to the millisecond, where a rule sets one. What counts it down is allocated once.
#[derive(Default)]
pub(crate) struct Timer {
    due: Option<Instant>,
    /// Wakes at that time, or at the time of a request before: then it begins anew. So a request that is answered in time costs no change
    /// of the runtime's timers.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Begins to count down, where there is anything to.
    pub(crate) fn set(&mut self, within: Option<Duration>) {
        self.due = within.map(|within| Instant::now() + within);
        match (self.due, &mut self.sleep) {
            (None, sleep) => *sleep = None,
            (Some(due), Some(sleep)) if sleep.deadline() > due => sleep.as_mut().reset(due),
            (Some(_), Some(_)) => {}
            (Some(due), none) => *none = Some(Box::pin(sleep_until(due))),
        }
    }

    /// Ready when the time is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(due), Some(sleep)) = (self.due, &mut self.sleep) else { return Poll::Pending };
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }

    /// Waits for `what`, which is pinned where it is: moved into this it would be there twice. None where it takes too long.
    pub(crate) async fn of<F: Future>(&mut self, mut what: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| match what.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Each next time may be longer or shorter than the one before, which has passed or not.
    #[tokio::test(flavor = "current_thread")]
    async fn each_time_is_its_own() {
        let mut timer = Timer::default();
        let ended = async |timer: &mut Timer| timer.of(std::pin::pin!(std::future::pending::<()>())).await;
        for within in [20, 5, 30, 10] {
            let began = Instant::now();
            timer.set(Some(Duration::from_millis(within)));
            assert_eq!(ended(&mut timer).await, None);
            assert!(began.elapsed() >= Duration::from_millis(within), "{within} ms");
            // One that is not used up, and long over when the next begins.
            timer.set(Some(Duration::from_millis(1)));
        }
        timer.set(None);
        assert!(timer.poll(&mut Context::from_waker(Waker::noop())).is_pending(), "without a time there is no end");
    }
}
