//! Clients: as fast as they are answered, or at a fixed rate whatever the answers.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::{
    clock,
    codec::{Codec, Protocol, Requests},
    cpu::Cpu,
    transport::{ClientTls, Scratch, Transport},
};

/// What is to be done.
pub(crate) struct Work {
    pub(crate) at: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) requests: Requests,
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    /// Each request on a connection of its own, which the client closes.
    pub(crate) new_connections: bool,
    /// Requests a second; none is as fast as they are answered.
    pub(crate) rate: Option<f64>,
    /// At least; it goes on until every connection was answered once and nothing waits.
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Whose CPU time is measured over the window.
    pub(crate) pids: Vec<u32>,
}

/// What was seen in the window.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: u64,
    /// From the first moment on.
    pub(crate) answered_in_all: u64,
    /// From when a request was due to the end of its answer, in nanoseconds, in order. What was never answered counts as long as
    /// it waited.
    pub(crate) latencies: Vec<u32>,
    pub(crate) seconds: f64,
    pub(crate) cpu: Cpu,
    /// From the first moment on.
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// Connections that the gate ended in order.
    pub(crate) ended: u64,
}

/// More errors than these end the run.
const ERRORS: u64 = 50;
/// A connection on which nothing was heard for so long while something was asked has an error for each request.
const STUCK: Duration = Duration::from_secs(5);
/// Longer than so many seconds nothing is warmed up: what waits then will wait.
const COLD: Duration = Duration::from_secs(15);
const TIMER: Token = Token(usize::MAX);

struct Connection {
    transport: Transport,
    codec: Codec,
    input: Vec<u8>,
    out: Vec<u8>,
    answered: bool,
    /// When the last answer came, or the first request since was sent.
    heard: Instant,
}

struct Engine<'a> {
    work: &'a Work,
    poll: Poll,
    connections: Vec<Connection>,
    /// Connections with room for a request, once for each; used at a fixed rate.
    free: VecDeque<usize>,
    /// When requests were due that no connection had room for.
    waiting: VecDeque<Instant>,
    scratch: Scratch,
    done: Vec<Instant>,
    next_block: usize,
    seen: Seen,
}

/// Does the work and tells what was seen.
pub(crate) fn run(work: &Work) -> Result<Seen> {
    let mut engine = Engine {
        work,
        poll: Poll::new()?,
        connections: Vec::new(),
        free: VecDeque::new(),
        waiting: VecDeque::new(),
        scratch: Scratch::new(),
        done: Vec::new(),
        next_block: 0,
        seen: Seen::default(),
    };
    engine.run()
}

impl Engine<'_> {
    fn run(&mut self) -> Result<Seen> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        if let Some(rate) = self.work.rate {
            let period = Duration::from_secs_f64(1.0 / rate).max(Duration::from_micros(100));
            let period = Timespec { tv_sec: 0, tv_nsec: i64::from(period.subsec_nanos()) };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: period, it_value: period })?;
            self.poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        }
        for index in 0..self.work.connections {
            let connection = self.open(index)?;
            self.connections.push(connection);
            self.free.extend(std::iter::repeat_n(index, self.room_at_first()));
            self.drive(index);
        }
        let start = clock();
        let mut measured = start + self.work.warm_up;
        let mut end = measured + self.work.window;
        let (mut due, mut before) = (start, None);
        let mut events = Events::with_capacity(1024);
        loop {
            let now = clock();
            if before.is_none() && now >= measured && self.is_cold() && now < start + COLD {
                measured = now + Duration::from_millis(100);
                end = measured + self.work.window;
            }
            if before.is_none() && now >= measured {
                before = Some((Cpu::of(&self.work.pids)?, clock()));
                self.seen.answered = 0;
                self.seen.latencies.clear();
            }
            if now >= end {
                break;
            }
            if self.seen.errors > ERRORS {
                bail!("{} errors, the first: {}", self.seen.errors, self.seen.first_error.as_deref().unwrap_or("?"));
            }
            let until = if before.is_none() { measured } else { end };
            // Whole milliseconds are what it waits for: the timer tells when a request is due.
            self.poll.poll(&mut events, Some(until.saturating_duration_since(now).max(Duration::from_millis(1))))?;
            for event in &events {
                if event.token() == TIMER {
                    // How many periods are over is asked of the clock.
                    let _ = rustix::io::read(&timer, &mut [0; 8]);
                } else {
                    self.drive(event.token().0);
                }
            }
            if let Some(rate) = self.work.rate {
                let (now, period) = (clock(), Duration::from_secs_f64(1.0 / rate));
                while due <= now {
                    self.waiting.push_back(due);
                    due += period;
                }
                self.assign();
            }
        }
        let (cpu, started) = before.context("the window never began")?;
        self.seen.cpu = Cpu::of(&self.work.pids)?.since(cpu);
        self.seen.seconds = started.elapsed().as_secs_f64();
        self.finish();
        Ok(std::mem::take(&mut self.seen))
    }

    /// Whether connections are still being made, or what was asked meanwhile waits for them.
    fn is_cold(&self) -> bool {
        let new = |connection: &Connection| !connection.answered && !self.work.new_connections;
        !self.waiting.is_empty() || self.connections.iter().any(new)
    }

    /// What was not answered: as long as it waited.
    fn finish(&mut self) {
        let now = clock();
        let mut lost = 0;
        for connection in &self.connections {
            let pending = connection.codec.pending();
            if now.saturating_duration_since(connection.heard) > STUCK {
                lost += pending.len();
            }
            self.waiting.extend(pending);
        }
        for _ in 0..lost {
            self.fail(&"no answer");
        }
        // As fast as it goes, how long the last ones waited says nothing.
        if self.work.rate.is_some() {
            let waited = self.waiting.drain(..).map(|due| nanoseconds(now.saturating_duration_since(due)));
            self.seen.latencies.extend(waited);
        }
        self.seen.latencies.sort_unstable();
    }

    fn room_at_first(&self) -> usize {
        if self.work.protocol == Protocol::Http2 { self.work.streams } else { 1 }
    }

    fn open(&mut self, index: usize) -> Result<Connection> {
        let mut transport = Transport::connect(self.work.at, self.work.tls.as_ref())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut transport.stream, Token(index), interest)?;
        let mut out = Vec::new();
        let codec = Codec::new(self.work.protocol, self.room_at_first(), &mut out);
        let mut connection = Connection { transport, codec, input: Vec::new(), out, answered: false, heard: clock() };
        if self.work.rate.is_none() {
            self.fill(&mut connection);
        }
        Ok(connection)
    }

    /// Begins as many requests as there is room for.
    fn fill(&mut self, connection: &mut Connection) {
        let now = clock();
        for _ in 0..connection.codec.room() {
            let block = self.block();
            connection.codec.begin(&self.work.requests.blocks[block], now, &mut connection.out);
        }
    }

    /// Requests go through all routes in turn.
    fn block(&mut self) -> usize {
        self.next_block = (self.next_block + 1) % self.work.requests.blocks.len();
        self.next_block
    }

    /// Reads, takes answers, asks again, writes.
    fn drive(&mut self, index: usize) {
        let result = self.advance(index);
        let connection = &self.connections[index];
        let over = match result {
            Ok(answered) => {
                let one_only = self.work.new_connections && answered > 0;
                if connection.codec.is_last() && connection.codec.pending().is_empty() {
                    self.seen.ended += 1;
                    true
                } else {
                    one_only
                }
            }
            Err(error) => {
                let lost = connection.codec.pending().len();
                if lost == 0 && self.work.rate.is_some() && error.is::<Ended>() {
                    self.seen.ended += 1;
                } else {
                    for _ in 0..lost.max(1) {
                        self.fail(&format!("{error:#}"));
                    }
                }
                true
            }
        };
        if over {
            self.replace(index);
        }
    }

    fn advance(&mut self, index: usize) -> Result<usize> {
        let connection = &mut self.connections[index];
        let more = connection.transport.read(&mut self.scratch, &mut connection.input)?;
        let mut answered = 0;
        if !connection.input.is_empty() {
            let body = self.work.requests.body;
            connection.codec.receive(&mut connection.input, &mut connection.out, body, &mut self.done)?;
            answered = self.done.len();
            let now = clock();
            if answered > 0 {
                connection.answered = true;
                connection.heard = now;
            }
            self.seen.answered += answered as u64;
            self.seen.answered_in_all += answered as u64;
            for due in self.done.drain(..) {
                self.seen.latencies.push(nanoseconds(now.saturating_duration_since(due)));
            }
            let again = !self.work.new_connections && !connection.codec.is_last();
            if self.work.rate.is_none() && again {
                for _ in 0..connection.codec.room() {
                    self.next_block = (self.next_block + 1) % self.work.requests.blocks.len();
                    let block = &self.work.requests.blocks[self.next_block];
                    connection.codec.begin(block, now, &mut connection.out);
                }
            } else if again {
                self.free.extend(std::iter::repeat_n(index, answered));
            }
        }
        connection.transport.write(&mut connection.out)?;
        if more || answered > 0 { Ok(answered) } else { Err(Ended.into()) }
    }

    /// A new connection in the place of one that is over.
    fn replace(&mut self, index: usize) {
        match self.open(index) {
            Ok(mut connection) => {
                if let Err(error) = connection.transport.write(&mut connection.out) {
                    self.fail(&error);
                }
                self.free.retain(|free| *free != index);
                self.free.extend(std::iter::repeat_n(index, self.room_at_first()));
                self.connections[index] = connection;
            }
            Err(error) => self.fail(&format!("{error:#}")),
        }
    }

    /// Begins what is due, on the connections that have been free for longest.
    fn assign(&mut self) {
        while !self.waiting.is_empty() {
            let Some(index) = self.free.pop_front() else { return };
            if self.connections[index].codec.room() == 0 {
                continue;
            }
            let Some(due) = self.waiting.pop_front() else { return };
            let block = self.block();
            let connection = &mut self.connections[index];
            if connection.codec.pending().is_empty() {
                connection.heard = clock();
            }
            connection.codec.begin(&self.work.requests.blocks[block], due, &mut connection.out);
            if let Err(error) = connection.transport.write(&mut connection.out) {
                self.fail(&error);
            }
        }
    }

    fn fail(&mut self, error: &dyn std::fmt::Display) {
        self.seen.errors += 1;
        self.seen.first_error.get_or_insert_with(|| error.to_string());
    }
}

/// The gate has closed a connection.
#[derive(Debug)]
struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was closed")
    }
}

impl std::error::Error for Ended {}

fn nanoseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX)
}
