//! The file of statuses, written by a thread of its own: it is not on the way of what is served.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use strait_api::ObjectKey;
use strait_route::Status;
use tokio::time::Instant;

use super::render;

/// How long changes are gathered before they are written together.
const GATHER: Duration = Duration::from_millis(50);

/// Statuses of objects; none where an object has none any more.
type Statuses = Vec<(ObjectKey, Option<Status>)>;

enum Order {
    Take(Statuses),
    /// Tell when all that was taken is written.
    Tell(SyncSender<anyhow::Result<()>>),
}

/// A file that is kept equal to all statuses. What is given to it before it is dropped is written.
pub(super) struct StatusFile {
    orders: Option<SyncSender<Order>>,
    writer: Option<JoinHandle<()>>,
}

impl StatusFile {
    pub(super) fn start(path: PathBuf) -> anyhow::Result<Self> {
        // Changes that come faster than they are written wait.
        let (orders, received) = sync_channel(64);
        let writer = thread::Builder::new().name("statuses".into());
        let writer = writer.spawn(move || Writer { path, documents: BTreeMap::new() }.run(&received))?;
        Ok(Self { orders: Some(orders), writer: Some(writer) })
    }

    /// Takes in statuses of objects.
    pub(super) fn update(&self, statuses: impl Iterator<Item = (ObjectKey, Option<Status>)>) {
        let statuses = statuses.collect();
        let _ = self.orders.as_ref().map(|orders| orders.send(Order::Take(statuses)));
    }

    /// Waits until what was taken in is written.
    pub(super) fn written(&self) -> anyhow::Result<()> {
        let (tell, told) = sync_channel(1);
        let _ = self.orders.as_ref().map(|orders| orders.send(Order::Tell(tell)));
        told.recv().context("the writer of statuses has ended")?
    }
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct Writer {
    path: PathBuf,
    /// As they are in the file.
    documents: BTreeMap<ObjectKey, String>,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut said = BTreeSet::new();
        let mut ended = false;
        while !ended {
            let Ok(first) = orders.recv() else { return };
            let mut waiting = self.take(first);
            let until = Instant::now() + GATHER;
            while waiting.is_none() {
                match orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(order) => waiting = self.take(order),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        ended = true;
                        break;
                    }
                }
            }
            let written = self.write();
            if let Some(waiting) = waiting {
                let _ = waiting.send(written);
            } else if let Err(error) = written {
                let text = format!("{error:#}; the statuses in it are of before");
                if said.insert(text.clone()) {
                    eprintln!("{text}");
                }
            } else {
                said.clear();
            }
        }
    }

    /// Gives who waits until all is written, if somebody does.
    fn take(&mut self, order: Order) -> Option<SyncSender<anyhow::Result<()>>> {
        match order {
            Order::Tell(waiting) => return Some(waiting),
            Order::Take(statuses) => {
                for (object, status) in statuses {
                    match status {
                        Some(status) => _ = self.documents.insert(object, render::documents(&[status])),
                        None => _ = self.documents.remove(&object),
                    }
                }
            }
        }
        None
    }

    /// Writes all statuses in place of those before, at once.
    fn write(&self) -> anyhow::Result<()> {
        let part = self.path.with_extension("part");
        let cannot = |path: &Path| format!("cannot write {}", path.display());
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(&part)?);
            for document in self.documents.values() {
                file.write_all(document.as_bytes())?;
            }
            file.flush()
        };
        write().with_context(|| cannot(&part))?;
        std::fs::rename(&part, &self.path).with_context(|| cannot(&self.path))
    }
}
