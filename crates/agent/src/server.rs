//! The socket: one request a connection, answers as lines of JSON. Nobody on the other side makes the agent wait: a request has
//! to come, and an answer to be taken, within a deadline, and only so many connections are served at once.

use std::{cell::RefCell, io, path::Path, rc::Rc, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use strait_datapath::Kernel;
use strait_flow::{Cursor, LostEvents, LostSource, Record, Ring, What};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    api::{Answer, FlowsRequest, REQUEST_LIMIT, Request},
    log::{Level, log},
    node::Node,
};

/// Connections at once; more have to wait for a free place.
const CONNECTIONS: usize = 64;
/// Followers of flows among them: they stay, and leave room for others.
const FOLLOWERS: usize = 32;
/// A request has to be here by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// What is written has to be taken by then.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Files that go have a grace; a folder that does not come to rest is not waited for longer than this.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
const SETTLE_STEP: Duration = Duration::from_millis(10);
/// Records that are written at once.
const BATCH: usize = 256;

/// What the tasks of an agent share; all run on one thread.
pub(crate) struct Shared<K> {
    pub(crate) node: RefCell<Node<K>>,
    /// Counts flow records: followers wake when it changes.
    pub(crate) flows: watch::Sender<u64>,
    followers: Semaphore,
}

impl<K: Kernel> Shared<K> {
    pub(crate) fn new(node: Node<K>) -> Self {
        Self { node: RefCell::new(node), flows: watch::Sender::new(0), followers: Semaphore::new(FOLLOWERS) }
    }

    /// Wakes followers.
    pub(crate) fn announce(&self) {
        let seen = self.node.borrow().flows.seen();
        self.flows.send_if_modified(|last| std::mem::replace(last, seen) != seen);
    }
}

/// Opens the socket for its owner only, in place of one that a dead agent left. The caller holds the lock of the run directory.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the task is dropped.
pub(crate) async fn serve<K: Kernel + 'static>(listener: UnixListener, shared: Rc<Shared<K>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Rc::clone(&shared);
                tokio::task::spawn_local(async move {
                    // A client that hangs up early is its own affair.
                    let _ = converse(stream, &shared).await;
                    drop(place);
                });
            }
            Err(error) => {
                log(Level::Error, "cannot accept on the socket", &[("reason", &error)]);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse<K: Kernel>(mut stream: UnixStream, shared: &Shared<K>) -> io::Result<()> {
    let request = match timeout(REQUEST_TIMEOUT, read_request(&mut stream)).await {
        Ok(request) => request?,
        Err(_) => Err(format!("no request within {} s", REQUEST_TIMEOUT.as_secs())),
    };
    let request = match request {
        Ok(request) => request,
        Err(message) => return write(&mut stream, &line(&Answer::Error(message))?).await,
    };
    let answer = match request {
        Request::Flows(request) => return flows(&mut stream, &request, shared).await,
        Request::Wait => settle(shared).await,
        Request::EndpointAdd(spec) => done(shared.node.borrow_mut().endpoint_add(spec)),
        Request::EndpointDelete(name) => done(shared.node.borrow_mut().endpoint_delete(&name)),
        Request::Status => Answer::Status(Box::new(shared.node.borrow().status())),
        Request::Identities => Answer::Identities(shared.node.borrow().identities()),
        Request::Ipcache => Answer::Ipcache(shared.node.borrow().ipcache()),
        Request::Endpoints => Answer::Endpoints(shared.node.borrow().endpoint_list()),
        Request::HostPolicyConfirm { revision } => {
            shared.node.borrow_mut().confirm_host_policy(revision).map_or_else(Answer::Error, Answer::HostPolicy)
        }
        Request::HostPolicyRetry { revision } => {
            shared.node.borrow_mut().retry_host_policy(revision).map_or_else(Answer::Error, Answer::HostPolicy)
        }
        Request::PolicyMap { endpoint } => {
            shared.node.borrow().policy_map(endpoint.as_ref()).map_or_else(Answer::Error, Answer::PolicyMap)
        }
    };
    write(&mut stream, &line(&answer)?).await
}

fn done(result: Result<crate::api::Done, String>) -> Answer {
    result.map_or_else(Answer::Error, Answer::Done)
}

/// The request, or what is wrong with it.
async fn read_request(stream: &mut UnixStream) -> io::Result<Result<Request, String>> {
    let mut text = Vec::new();
    loop {
        if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            return Ok(serde_json::from_slice(&text[..end]).map_err(|error| format!("not a request: {error}")));
        }
        if text.len() > REQUEST_LIMIT {
            return Ok(Err(format!("a request is one line of at most {REQUEST_LIMIT} bytes")));
        }
        if stream.read_buf(&mut text).await? == 0 {
            return Ok(Err("a request ends with a line break".to_owned()));
        }
    }
}

/// Reads what is on disk now and answers when it is enforced.
async fn settle<K: Kernel>(shared: &Shared<K>) -> Answer {
    let settled = timeout(SETTLE_TIMEOUT, async {
        // Something is about to come by itself: a file has gone and its grace runs.
        while shared.node.borrow_mut().refresh() {
            tokio::time::sleep(SETTLE_STEP).await;
        }
    })
    .await;
    let node = shared.node.borrow();
    match (settled, &node.enforcement_error) {
        (_, Some(error)) => Answer::Error(error.clone()),
        (Err(_), None) => Answer::Error("the manifests do not come to rest".to_owned()),
        (Ok(()), None) => Answer::Done(node.done()),
    }
}

/// Where a follower is.
struct Follower {
    cursor: Cursor,
    kernel_lost: u64,
}

async fn flows<K: Kernel>(stream: &mut UnixStream, request: &FlowsRequest, shared: &Shared<K>) -> io::Result<()> {
    let place = shared.followers.try_acquire();
    if request.follow && place.is_err() {
        let message = format!("{FOLLOWERS} clients follow the flows already");
        return write(stream, &line(&Answer::Error(message))?).await;
    }
    let mut seen = shared.flows.subscribe();
    seen.mark_unchanged();
    let mut buffer = line(&Answer::Flows)?;
    let mut follower = {
        let mut node = shared.node.borrow_mut();
        let ring = node.write_up_flows();
        for record in held(ring, request) {
            buffer.extend(line(&record)?);
        }
        Follower { cursor: ring.newest(), kernel_lost: node.lost_events() }
    };
    for chunk in buffer.chunks(1 << 16) {
        write(stream, chunk).await?;
    }
    if !request.follow {
        return Ok(());
    }
    loop {
        let mut hangup = [0];
        tokio::select! {
            changed = seen.changed() => if changed.is_err() { return Ok(()) },
            // A client says nothing more; what can be read is that it has gone.
            _ = stream.read(&mut hangup) => return Ok(()),
        }
        loop {
            let (batch, more) = next_batch(&mut shared.node.borrow_mut(), request, &mut follower)?;
            if !batch.is_empty() {
                write(stream, &batch).await?;
            }
            if !more {
                break;
            }
        }
    }
}

/// What the ring holds of what is asked for, oldest first.
fn held(ring: &Ring, request: &FlowsRequest) -> Vec<Record> {
    let limit = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let wanted = |flow: &&Arc<strait_flow::Flow>| {
        request.since.is_none_or(|since| flow.time >= since)
            && request.until.is_none_or(|until| flow.time <= until)
            && request.filter.matches(flow)
    };
    let record = |flow: &Arc<strait_flow::Flow>| Record::flow(Arc::clone(flow));
    if let Some(last) = request.last {
        let mut records: Vec<Record> = ring.iter().rev().filter(wanted).take(limit(last)).map(record).collect();
        records.reverse();
        return records;
    }
    ring.iter().filter(wanted).take(request.first.map_or(usize::MAX, limit)).map(record).collect()
}

/// Lines for the follower, at most a batch, and whether there are more.
fn next_batch<K: Kernel>(
    node: &mut Node<K>,
    request: &FlowsRequest,
    follower: &mut Follower,
) -> io::Result<(Vec<u8>, bool)> {
    let mut lines = Vec::new();
    let kernel_lost = node.lost_events();
    let missed = kernel_lost.saturating_sub(follower.kernel_lost);
    follower.kernel_lost = kernel_lost;
    if missed > 0 {
        lines.extend(line(&lost(node, LostSource::PerfEventRingBuffer, missed))?);
    }
    node.write_up_flows();
    for _ in 0..BATCH {
        let (missed, flow) = node.flows.ring().next(&mut follower.cursor);
        if missed > 0 {
            lines.extend(line(&lost(node, LostSource::HubbleRingBuffer, missed))?);
        }
        let Some(flow) = flow else { return Ok((lines, false)) };
        if request.filter.matches(flow) {
            lines.extend(line(&Record::flow(Arc::clone(flow)))?);
        }
    }
    Ok((lines, true))
}

fn lost<K>(node: &Node<K>, source: LostSource, count: u64) -> Record {
    Record {
        what: What::LostEvents(LostEvents { source, num_events_lost: count }),
        node_name: Arc::clone(&node.options.node),
        time: Timestamp::now(),
    }
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

async fn write(stream: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    match timeout(WRITE_TIMEOUT, stream.write_all(bytes)).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests;
