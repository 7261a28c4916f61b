//! Deadlines of one worker.
//!
//! Each connection has one [`Deadline`], which is moved with every step and costs no more than a store: what may have passed is looked for
//! from time to time, over all connections together. So a deadline is met late by up to [`SWEEP`], and never early.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// How often deadlines are looked at.
pub(crate) const SWEEP: Duration = Duration::from_millis(250);

/// That something took longer than it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Late;

/// All deadlines of a worker.
#[derive(Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    all: Rc<All>,
}

#[derive(Debug, Default)]
struct All {
    /// Milliseconds since the start, as of the last sweep.
    now: Cell<u64>,
    entries: RefCell<Vec<Rc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    /// Milliseconds since the start.
    at: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    /// Where it is among all.
    place: Cell<usize>,
}

impl Deadlines {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, all: Rc::default() }
    }

    /// The deadline of a new connection, which is far off.
    pub(crate) fn enter(&self) -> Deadline {
        let mut entries = self.all.entries.borrow_mut();
        let place = Cell::new(entries.len());
        let entry = Rc::new(Entry { at: Cell::new(u64::MAX), waker: RefCell::default(), place });
        entries.push(Rc::clone(&entry));
        Deadline { entry, all: Rc::clone(&self.all) }
    }

    /// The time as of the last sweep: near enough for what counts seconds.
    pub(crate) fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.all.now.get())
    }

    /// Wakes whoever has waited too long.
    pub(crate) fn sweep(&self, now: Instant) {
        let now = u64::try_from(now.duration_since(self.start).as_millis()).unwrap_or(u64::MAX);
        self.all.now.set(now);
        self.wake(|entry| entry.at.get() <= now);
    }

    /// Wakes every connection: something changed that each looks at for itself.
    pub(crate) fn wake_all(&self) {
        self.wake(|_| true);
    }

    fn wake(&self, wakes: impl Fn(&Entry) -> bool) {
        for entry in self.all.entries.borrow().iter().filter(|entry| wakes(entry)) {
            if let Some(waker) = &*entry.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }
}

/// By when a connection must go on. Every wait of the connection's task is under it.
#[derive(Debug)]
pub(crate) struct Deadline {
    entry: Rc<Entry>,
    all: Rc<All>,
}

impl Drop for Deadline {
    /// Is forgotten at once, not with the next sweep: what wakes a task holds the memory of the task until then.
    fn drop(&mut self) {
        let (mut entries, place) = (self.all.entries.borrow_mut(), self.entry.place.get());
        entries.swap_remove(place);
        if let Some(moved) = entries.get(place) {
            moved.place.set(place);
        }
        // Room that a flood of connections took is given back.
        if entries.capacity() > 1024 && entries.len() < entries.capacity() / 4 {
            let half = entries.capacity() / 2;
            entries.shrink_to(half);
        }
    }
}

impl Deadline {
    /// Gives so much time from now on.
    pub(crate) fn set(&self, within: Duration) {
        self.set_at(self.after(within));
    }

    /// The moment that much later than now, for [`Deadline::set_at`].
    pub(crate) fn after(&self, within: Duration) -> u64 {
        // The clock stands still between sweeps.
        let within = u64::try_from((within + SWEEP).as_millis()).unwrap_or(u64::MAX);
        self.all.now.get().saturating_add(within)
    }

    /// Gives time until then.
    pub(crate) fn set_at(&self, at: u64) {
        self.entry.at.set(at);
    }

    /// Whether that moment is over.
    pub(crate) fn is_past(&self, at: u64) -> bool {
        at <= self.all.now.get()
    }

    /// Ready when the time is over; else the task is woken when it is.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Late> {
        if self.entry.at.get() <= self.all.now.get() {
            return Poll::Ready(Late);
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits for `what`, but not longer than `within`.
    pub(crate) async fn limit<F: Future>(&self, within: Duration, what: F) -> Result<F::Output, Late> {
        self.set(within);
        let mut what = pin!(what);
        poll_fn(|cx| match what.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn late_but_never_early() {
        let start = tokio::time::Instant::now().into_std();
        let deadlines = Deadlines::new(start);
        let (first, second) = (deadlines.enter(), deadlines.enter());
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let count = || woken.0.load(Ordering::Relaxed);
        first.set(Duration::from_secs(1));
        second.set(Duration::from_secs(5));
        assert_eq!((first.poll(&cx), second.poll(&cx)), (Poll::Pending, Poll::Pending));
        deadlines.sweep(start + Duration::from_secs(1));
        assert_eq!((first.poll(&cx), count()), (Poll::Pending, 0), "it may have been set just before a sweep");
        deadlines.sweep(start + Duration::from_millis(1250));
        assert_eq!((first.poll(&cx), count()), (Poll::Ready(Late), 1));
        first.set(Duration::from_secs(1));
        deadlines.sweep(start + Duration::from_millis(1500));
        assert_eq!((first.poll(&cx), second.poll(&cx), count()), (Poll::Pending, Poll::Pending, 1), "it was moved");
        let third = deadlines.enter();
        assert_eq!(third.poll(&cx), Poll::Pending);
        drop(first);
        assert_eq!(Arc::strong_count(&woken), 4, "nothing of what is gone is kept, not even until the next sweep");
        deadlines.wake_all();
        assert_eq!(count(), 3);
        drop(third);
        drop(second);
        deadlines.wake_all();
        assert_eq!((count(), Arc::strong_count(&woken)), (3, 2));
    }
}
