//! Connections to back ends, shared by many requests of a worker.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use strait_http::h2::{Config, Connection, Role};
use tokio::sync::Semaphore;

use super::{Stream, drive::Driver, link::Link};
use crate::{
    backend::Target,
    io::{self, Buffer},
    outbound::Held,
    stream::Stream as Either,
    worker::Worker,
};

/// Connections of a worker to one target; more are opened as those that are there have as many streams as they may.
const MOST_EACH: usize = 64;
/// Streams of a connection, if its back end allows as many. Their windows together are the connection's: a slow one stops no other.
const STREAMS: u32 = 100;
const WINDOW: u32 = 64 << 10;
/// How long a connection may idle.
const IDLE: Duration = Duration::from_secs(50);

/// Connections of a worker by target.
#[derive(Default)]
pub(crate) struct Shared {
    connections: BTreeMap<u32, Vec<Rc<Link>>>,
    connecting: BTreeMap<u32, Arc<Semaphore>>,
}

/// What there is of connections to a target.
pub(crate) enum Found {
    /// Room for one more request.
    Place(Either),
    /// None yet, or none with room: another connection may be opened.
    None,
    /// As many connections as may be, and no room on any of them.
    Full,
}

impl Shared {
    /// A place on a connection that is there. The first with room is taken: the more requests are on one, the more goes out at once.
    pub(crate) fn place(&mut self, target: &Target, now: Instant) -> Found {
        let Some(all) = self.connections.get_mut(&target.number) else { return Found::None };
        let mut ended = false;
        for link in &*all {
            let mut state = link.state.borrow_mut();
            ended |= state.over || state.h2.is_leaving();
            if !state.over && !state.silent && state.h2.free() > 0 {
                state.used = Some(now);
                drop(state);
                return Found::Place(Either::Http2(Stream::of_back_end(Rc::clone(link))));
            }
        }
        if ended {
            all.retain(|link| {
                let state = link.state.borrow();
                !state.over && !state.h2.is_leaving()
            });
        }
        if all.len() < MOST_EACH { Found::None } else { Found::Full }
    }

    /// Who opens a connection to that target holds its permit: the others wait, and use it.
    pub(crate) fn turn(&mut self, target: &Target) -> Arc<Semaphore> {
        let turn = self.connecting.entry(target.number).or_insert_with(|| Arc::new(Semaphore::new(1)));
        Arc::clone(turn)
    }

    /// Lets go of what has idled too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        for all in self.connections.values_mut() {
            all.retain(|link| {
                let mut state = link.state.borrow_mut();
                let idle = state.used.is_none_or(|used| now.duration_since(used) >= IDLE);
                if idle && state.h2.active() == 0 {
                    state.h2.leave();
                    state.drive();
                }
                !state.over && !state.h2.is_leaving()
            });
        }
        self.connections.retain(|_, all| !all.is_empty());
        self.connecting.retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    /// Lets go of what leads to none of the targets whose numbers `keep` accepts. A connection ends when its last stream does.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.connections.retain(|number, all| {
            let stays = keep(*number);
            if !stays {
                for link in &*all {
                    let mut state = link.state.borrow_mut();
                    state.h2.leave();
                    state.drive();
                }
            }
            stays
        });
    }
}

/// Speaks HTTP/2 on a connection from here on.
pub(crate) fn share(worker: &Rc<Worker>, target: &Target, io: io::Stream, held: Held) -> Either {
    let config = worker.limits.floods.bound(Config {
        streams: STREAMS,
        stream_window: WINDOW,
        connection_window: WINDOW * STREAMS,
        extended_connect: false,
        ..Config::default()
    });
    let link = Link::new(Connection::new(Role::Client, config));
    let mut state = link.state.borrow_mut();
    (state.used, state.held) = (Some(tokio::time::Instant::now().into_std()), Some(held));
    drop(state);
    let deadline = worker.deadlines.enter();
    let driver = Driver::new(worker, &link, io, Buffer::default(), deadline);
    tokio::task::spawn_local(driver.run_client());
    worker.shared().connections.entry(target.number).or_default().push(Rc::clone(&link));
    Either::Http2(Stream::of_back_end(link))
}

impl Driver {
    async fn run_client(self) {
        // A server opens no streams: there is nothing to accept.
        self.run(&mut |_, _, _, _| {}).await;
    }
}

impl Stream {
    /// Waits until it is known whether an upgrade can be asked for.
    pub(crate) async fn settle(&self) -> bool {
        self.link().settled().await
    }
}
