//! The event loop: one thread, a task for each source of events.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use strait_datapath::{Datapath, EventReader, Kernel, netlink::AddressWatch};
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    task::LocalSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};

use crate::{
    api::SOCKET,
    log::{Level, log},
    node::{Links, Node, Options, StartError},
    server::{Shared, listen, serve},
};

/// A change is taken in at once, unless another was this long ago: what comes in a row is then taken in together. Events of the kernel
/// that come in a row are read together, too.
const GATHER: Duration = Duration::from_millis(10);
/// How often connections that fell silent are collected. Conntrack treats an expired entry as absent, so this is only about room
/// and about when its end is reported.
const TEND: Duration = Duration::from_secs(10);
/// First and longest wait before what failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How often at least the time of host policies is looked at; none is given less.
const LOOK: Duration = Duration::from_secs(1);
/// Events that are taken before others get a turn.
const EVENTS_AT_ONCE: usize = 512;

/// Why an agent ended other than by a signal. What is pinned stays in force.
#[derive(Debug, Error)]
pub enum RunError {
    /// It could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Another agent serves the run directory.
    #[error("another agent uses {}: stop it first", .0.display())]
    Busy(PathBuf),
    /// A file, socket or signal of its own.
    #[error("cannot {doing}: {cause}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

impl RunError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { doing, cause }
    }
}

/// The right to be the agent of a run directory; ends with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

/// Takes the run directory, before anything of another agent is touched.
pub fn lock(options: &Options) -> Result<Lock, RunError> {
    let at = |path: &Path, cause: io::Error| io::Error::new(cause.kind(), format!("{}: {cause}", path.display()));
    fs::create_dir_all(&options.run_dir)
        .map_err(|cause| RunError::io("make the run directory")(at(&options.run_dir, cause)))?;
    let path = options.run_dir.join("agent.lock");
    let file = fs::File::create(&path).map_err(|cause| RunError::io("make the lock file")(at(&path, cause)))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(fs::TryLockError::WouldBlock) => Err(RunError::Busy(options.run_dir.clone())),
        Err(fs::TryLockError::Error(cause)) => Err(RunError::Io { doing: "lock the run directory", cause }),
    }
}

/// Serves a node until SIGTERM or SIGINT. Enforcement stays when this returns: programs and maps are pinned.
pub fn run<K: Kernel + 'static>(
    options: Options,
    lock: Lock,
    datapath: Datapath<K>,
    events: Option<EventReader>,
    links: Links,
    addresses: Option<AddressWatch>,
) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::io("start the event loop"))?;
    let result = LocalSet::new().block_on(&runtime, until_signal(options, datapath, events, links, addresses));
    drop(lock);
    result
}

async fn until_signal<K: Kernel + 'static>(
    options: Options,
    datapath: Datapath<K>,
    events: Option<EventReader>,
    links: Links,
    addresses: Option<AddressWatch>,
) -> Result<(), RunError> {
    // Before anything else: a signal during the start is not lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::io("listen to SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::io("listen to SIGINT"))?;

    let socket = options.run_dir.join(SOCKET);
    let name = options.node.clone();
    let node = Node::start(options, datapath, links)?;
    let manifests = node.directory.watcher().map_err(RunError::io("watch the manifests"))?;
    let shared = Rc::new(Shared::new(node));

    let manifests = readiness(manifests).map_err(RunError::io("watch the manifests"))?;
    tokio::task::spawn_local(watch_manifests(manifests, Rc::clone(&shared)));
    if let Some(events) = events {
        let ready = events.as_fd().try_clone_to_owned().and_then(readiness);
        let ready = ready.map_err(RunError::io("read the event ring"))?;
        tokio::task::spawn_local(read_events(ready, events, Rc::clone(&shared)));
    }
    if let Some(addresses) = addresses {
        let ready = addresses.as_fd().try_clone_to_owned().and_then(readiness);
        let ready = ready.map_err(RunError::io("watch the node's addresses"))?;
        tokio::task::spawn_local(watch_addresses(ready, addresses, Rc::clone(&shared)));
    }
    tokio::task::spawn_local(tend(Rc::clone(&shared)));
    tokio::task::spawn_local(retry(Rc::clone(&shared)));
    tokio::task::spawn_local(settle_host_policies(Rc::clone(&shared)));
    let listener = listen(&socket).map_err(RunError::io("open the socket"))?;
    tokio::task::spawn_local(serve(listener, Rc::clone(&shared)));
    log(Level::Info, "serving", &[("node", &name), ("socket", &socket.display())]);

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = fs::remove_file(&socket);
    log(Level::Info, "stopped; what is enforced stays enforced", &[("node", &name)]);
    Ok(())
}

#[expect(deprecated, reason = "an OwnedFd stays open as long as it lives, which is what the unsafe successor asks for")]
fn readiness(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

async fn watch_manifests<K: Kernel>(fd: AsyncFd<OwnedFd>, shared: Rc<Shared<K>>) {
    let mut next = Instant::now();
    loop {
        match fd.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                log(Level::Error, "manifests are no longer watched", &[("reason", &error)]);
                return;
            }
        }
        sleep_until(next).await;
        shared.node.borrow_mut().refresh();
        next = Instant::now() + GATHER;
    }
}

/// As for manifests: those that change in a row are taken in together.
async fn watch_addresses<K: Kernel>(fd: AsyncFd<OwnedFd>, mut watch: AddressWatch, shared: Rc<Shared<K>>) {
    loop {
        match fd.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                log(Level::Error, "addresses are no longer watched", &[("reason", &error)]);
                return;
            }
        }
        watch.drain();
        shared.node.borrow_mut().follow_addresses();
        sleep(GATHER).await;
    }
}

async fn read_events<K: Kernel>(fd: AsyncFd<OwnedFd>, mut events: EventReader, shared: Rc<Shared<K>>) {
    let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
    loop {
        match fd.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                log(Level::Error, "events are no longer read", &[("reason", &error)]);
                return;
            }
        }
        // A reader that has caught up is woken by the next event, at the cost of the connection that caused it: about 6 µs
        // beside 0.6 µs for the rest. Reading late makes that a hundred a second at most; the ring holds 8,000 events.
        sleep(GATHER).await;
        loop {
            batch.extend(std::iter::from_fn(|| events.next()).take(EVENTS_AT_ONCE));
            if batch.is_empty() {
                break;
            }
            shared.node.borrow_mut().take_events(&batch);
            shared.announce();
            batch.clear();
            tokio::task::yield_now().await;
        }
    }
}

async fn tend<K: Kernel>(shared: Rc<Shared<K>>) {
    let mut ticks = interval_at(Instant::now() + TEND, TEND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.node.borrow_mut().tend();
        shared.announce();
    }
}

/// Tries again what failed, at growing intervals.
async fn retry<K: Kernel>(shared: Rc<Shared<K>>) {
    let mut wait = RETRY.0;
    loop {
        sleep(wait).await;
        let failed = shared.node.borrow().must_retry();
        wait = if failed { (wait * 2).min(RETRY.1) } else { RETRY.0 };
        if failed {
            shared.node.borrow_mut().retry();
        }
    }
}

/// Rolls host policies back when their time is over. A deadline that is set while this sleeps is no earlier than its next look.
async fn settle_host_policies<K: Kernel>(shared: Rc<Shared<K>>) {
    loop {
        let remaining = shared.node.borrow().host_policies.remaining();
        sleep(remaining.map_or(LOOK, |left| left.min(LOOK))).await;
        shared.node.borrow_mut().settle_host_policies();
    }
}
