//! What reads and writes a connection.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use strait_http::{
    HeadError,
    h2::{Event, Key},
};
use tokio::io::AsyncWrite as _;

use super::link::{Link, State};
use crate::{
    deadline::{Deadline, Late},
    exchange::LINGER,
    io::{Buffer, Stream, poll_write},
    worker::Worker,
};

/// How often a connection is read before others have their turn.
const READS: usize = 4;
/// Bytes that wait to be written, from where on nothing more is read.
const OUTPUT: usize = 1 << 20;
/// How long the intervals are that floods are counted in.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long the other side may take to answer whether it is there.
const ANSWER: Duration = Duration::from_secs(10);

/// The one task that reads and writes a connection's socket.
#[expect(clippy::struct_excessive_bools, reason = "each is of its own")]
pub(super) struct Driver {
    worker: Rc<Worker>,
    link: Rc<Link>,
    io: Stream,
    inbound: Buffer,
    deadline: Deadline,
    started: Instant,
    /// When it is too old for further requests; only a client's ever is.
    old: Option<Instant>,
    waits: Waits,
    unflushed: bool,
    /// Whether streams were woken that run before what they write is written.
    woke: bool,
    /// Whether something came or went since the deadline was set.
    moved: bool,
    /// Whether the end is said, and only to be written.
    ending: bool,
}

/// What a connection as a whole waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    /// The other side's first words.
    Opening,
    /// The rest of a head.
    Head,
    /// That what is to be written is taken.
    Writing,
    /// A stream, or whatever comes first.
    Idle,
    /// The answer of a back end that has been silent.
    Answer,
    /// Its streams, each of which looks after itself.
    Streams,
    /// That the other side has noticed the end.
    Leaving,
    /// That the last words are written.
    Ending,
}

/// What becomes of a new request; the error is why it is not to be served.
pub(super) type Accept<'a> = &'a mut dyn FnMut(&Rc<Link>, &mut State, Key, Option<HeadError>);

/// The connection is over.
struct Over;

impl Driver {
    /// `inbound` was read already.
    pub(super) fn new(worker: &Rc<Worker>, link: &Rc<Link>, io: Stream, inbound: Buffer, deadline: Deadline) -> Self {
        let started = tokio::time::Instant::now().into_std();
        deadline.set(worker.limits.head_time);
        Self {
            worker: Rc::clone(worker),
            link: Rc::clone(link),
            io,
            inbound,
            deadline,
            started,
            old: None,
            waits: Waits::Opening,
            unflushed: false,
            woke: false,
            moved: false,
            ending: false,
        }
    }

    /// The same, of a connection that may grow old.
    pub(super) fn aging(self) -> Self {
        Self { old: self.worker.old(), ..self }
    }

    /// Drives the connection to its end.
    pub(super) async fn run(mut self, accept: Accept<'_>) {
        if !self.inbound.is_empty() && self.frames(accept).is_err() {
            self.ending = true;
        }
        poll_fn(|cx| self.poll(accept, cx)).await;
        self.link.state.borrow_mut().end();
        let Self { io, inbound, deadline, .. } = &mut self;
        // What was said last is not to be lost in a reset of the connection.
        let ended = poll_fn(|cx| {
            std::task::ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
            loop {
                inbound.clear();
                if std::task::ready!(inbound.poll_fill(io, cx))? == 0 {
                    return Poll::Ready(std::io::Result::Ok(()));
                }
            }
        });
        let _ = deadline.limit(LINGER, ended).await;
    }

    fn poll(&mut self, accept: Accept<'_>, cx: &mut Context<'_>) -> Poll<()> {
        self.link.state.borrow_mut().driven(cx);
        if let Ok(false) = self.turn(accept, cx) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Reads, then writes. Whether the connection has come to its end.
    fn turn(&mut self, accept: Accept<'_>, cx: &mut Context<'_>) -> Result<bool, Over> {
        if std::mem::take(&mut self.woke) {
            // The streams have run.
            self.write(cx)?;
        }
        if !self.ending {
            self.read(accept, cx)?;
            if self.woke {
                cx.waker().wake_by_ref();
                return Ok(false);
            }
        }
        self.write(cx)?;
        if self.ending {
            return self.end(cx);
        }
        self.leave();
        if self.is_done() {
            return Ok(true);
        }
        self.write(cx)?;
        self.limit(cx)?;
        Ok(false)
    }

    fn read(&mut self, accept: Accept<'_>, cx: &mut Context<'_>) -> Result<(), Over> {
        for _ in 0..READS {
            // Who does not take answers gets no more of them.
            if self.link.state.borrow().h2.output().len() > OUTPUT {
                return Ok(());
            }
            match self.inbound.poll_fill(&mut self.io, cx) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.moved = true;
                    if self.frames(accept).is_err() {
                        self.ending = true;
                        return Ok(());
                    }
                }
                Poll::Ready(_) => return Err(Over),
                Poll::Pending => return Ok(()),
            }
            // What came is served before more is read.
            if self.woke && self.inbound.is_empty() {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Takes the frames that were read.
    fn frames(&mut self, accept: Accept<'_>) -> Result<(), Over> {
        let mut state = self.link.state.borrow_mut();
        let state = &mut *state;
        let since = tokio::time::Instant::now().into_std().duration_since(self.started);
        state.h2.set_interval(since.as_secs() / INTERVAL.as_secs());
        let mut at = 0;
        loop {
            let step = state.h2.step(&self.inbound.as_slice()[at..]).map_err(|_| Over)?;
            at += step.taken;
            match step.event {
                None if step.taken == 0 => break,
                None => {}
                Some(Event::Request { key, end }) => {
                    state.begin(key, end);
                    accept(&self.link, state, key, None);
                    self.woke = true;
                }
                Some(Event::Refused { key, error }) => {
                    state.begin(key, true);
                    accept(&self.link, state, key, Some(error));
                    self.woke = true;
                }
                Some(event) => {
                    state.put(event);
                    self.woke = true;
                }
            }
        }
        self.inbound.consume(at);
        self.inbound.release();
        state.writable();
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Over> {
        let mut state = self.link.state.borrow_mut();
        while !state.h2.output().is_empty() {
            match poll_write(&mut self.io, state.h2.output(), &[], cx) {
                Poll::Ready(Ok(count)) => {
                    state.h2.wrote(count);
                    state.writable();
                    (self.unflushed, self.moved) = (true, true);
                }
                Poll::Ready(Err(_)) => return Err(Over),
                Poll::Pending => return Ok(()),
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => return Err(Over),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// Waits until the last words are written, but not for long.
    fn end(&mut self, cx: &Context<'_>) -> Result<bool, Over> {
        if self.link.state.borrow().h2.output().is_empty() && !self.unflushed {
            return Ok(true);
        }
        if self.waits != Waits::Ending {
            self.waits = Waits::Ending;
            self.deadline.set(LINGER);
        }
        if self.deadline.poll(cx).is_ready() { Err(Over) } else { Ok(false) }
    }

    /// Says that this side goes away, when the worker does or the connection is old.
    fn leave(&mut self) {
        if self.worker.is_draining() || self.left().is_some_and(|left| left.is_zero()) {
            self.link.state.borrow_mut().h2.leave();
        }
    }

    /// How long it is until it is old.
    fn left(&self) -> Option<Duration> {
        Some(self.old?.saturating_duration_since(self.worker.deadlines.now()))
    }

    /// Whether nothing is to be done any more.
    fn is_done(&mut self) -> bool {
        let state = self.link.state.borrow();
        let done = state.h2.is_done();
        // What is still to be written is, and that is all.
        self.ending |= done;
        done && state.h2.output().is_empty() && !self.unflushed
    }

    /// Ends what waits too long.
    fn limit(&mut self, cx: &Context<'_>) -> Result<(), Over> {
        let limits = &self.worker.limits;
        let left = self.left();
        let mut state = self.link.state.borrow_mut();
        let writing = !state.h2.output().is_empty();
        let (waits, within) = if !state.settled {
            (Waits::Opening, limits.head_time)
        } else if state.h2.awaits_head(self.inbound.as_slice()) {
            (Waits::Head, limits.head_time)
        } else if writing {
            (Waits::Writing, limits.idle)
        } else if state.silent {
            (Waits::Answer, ANSWER)
        } else if state.h2.active() > 0 {
            (Waits::Streams, Duration::MAX / 4)
        } else if state.h2.is_leaving() {
            (Waits::Leaving, limits.head_time)
        } else {
            (Waits::Idle, limits.idle)
        };
        // A connection that is silent hears of its age as well.
        let within = match (waits, left) {
            (Waits::Idle | Waits::Streams, Some(left)) if !state.h2.is_leaving() => within.min(left),
            _ => within,
        };
        let moves = !matches!(waits, Waits::Opening | Waits::Head);
        if waits != self.waits || (moves && self.moved) {
            self.waits = waits;
            self.deadline.set(within);
        }
        self.moved = false;
        let Poll::Ready(Late) = self.deadline.poll(cx) else { return Ok(()) };
        match waits {
            Waits::Idle | Waits::Leaving => {
                state.h2.leave_now();
                self.ending = true;
                state.drive();
                Ok(())
            }
            Waits::Opening | Waits::Head | Waits::Writing | Waits::Answer => Err(Over),
            Waits::Streams | Waits::Ending => Ok(()),
        }
    }
}
