//! Where lines go: from workers to a thread that writes them.
//!
//! ```text
//! worker ─ line ─▶ chunk ─(full, or 100 ms old)─▶ queue ─▶ thread ─ write ─▶ file
//!            ▲                                                │
//!            └───────────── empty chunks, to be filled again ─┘
//! ```
//!
//! A worker owns [`CHUNKS`] chunks and never waits for one: without an empty chunk its lines are dropped, and counted.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::sync::Notify;

/// How large a chunk becomes before it is handed over.
const CHUNK: usize = 64 << 10;
/// Chunks of a worker: what a log may lag behind is a MiB a worker.
const CHUNKS: usize = 16;
/// How long a line waits for others at most.
const WAIT: Duration = Duration::from_millis(100);

/// Lines on their way.
struct Chunk {
    bytes: Vec<u8>,
    lines: u64,
    back: SyncSender<Vec<u8>>,
}

/// A log's file and the thread that writes it.
#[derive(Debug)]
pub(crate) struct Sink {
    queue: SyncSender<Chunk>,
    state: Arc<State>,
    /// Ends when all lines are written, after the last worker has.
    finished: Receiver<()>,
}

/// What a sink's thread and others know of each other.
#[derive(Debug, Default)]
pub(crate) struct State {
    written: AtomicU64,
    failed: AtomicU64,
    reopen: AtomicBool,
}

impl State {
    /// Lines that were written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Lines that could not be written.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Has the file opened anew before the next lines, after somebody has moved it away.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }
}

/// Where a log goes.
enum Target {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(File, PathBuf),
}

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
        match path.to_str() {
            // By their names they would be opened anew, which sockets do not allow.
            Some("-" | "/dev/stdout") => Ok(Self::Stdout(io::stdout())),
            Some("/dev/stderr") => Ok(Self::Stderr(io::stderr())),
            _ => Ok(Self::File(file(path)?, path.to_owned())),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(out) => {
                let mut out = out.lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::Stderr(out) => out.write_all(bytes),
            Self::File(file, _) => file.write_all(bytes),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(open, path) = self {
            *open = file(path)?;
        }
        Ok(())
    }
}

fn file(path: &Path) -> io::Result<File> {
    // To open a pipe without a reader would wait for one; opened for both, it takes what it has room for.
    let is_pipe = path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    OpenOptions::new().append(true).read(is_pipe).create(true).mode(0o640).open(path)
}

impl Sink {
    /// Opens the file, or what stands for one: `-` is the standard output.
    pub(crate) fn open(path: &Path, workers: usize) -> io::Result<Self> {
        let mut target = Target::open(path)?;
        let (queue, chunks) = sync_channel::<Chunk>(CHUNKS * workers);
        let (done, finished) = sync_channel(1);
        let state = Arc::<State>::default();
        let of_thread = Arc::clone(&state);
        thread::Builder::new().name("access-log".into()).spawn(move || {
            write(&mut target, &chunks, &of_thread);
            let _ = done.send(());
        })?;
        Ok(Self { queue, state, finished })
    }

    pub(crate) const fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The way into the log for one worker, which counts what it drops.
    pub(crate) fn lines(&self) -> Lines {
        let (back, empty) = sync_channel(CHUNKS);
        let queue = self.queue.clone();
        Lines { open: RefCell::default(), queue, back, empty, filled: Notify::new() }
    }

    /// Waits until all is written, at most so long. Whether it is.
    pub(crate) fn finish(self, most: Duration) -> bool {
        let Self { queue, finished, .. } = self;
        drop(queue);
        finished.recv_timeout(most).is_ok()
    }
}

fn write(target: &mut Target, chunks: &Receiver<Chunk>, state: &State) {
    let mut failing = false;
    for Chunk { mut bytes, lines, back } in chunks {
        let reopened = if state.reopen.swap(false, Relaxed) { target.reopen() } else { Ok(()) };
        match reopened.and_then(|()| target.write(&bytes)) {
            Ok(()) => {
                state.written.fetch_add(lines, Relaxed);
                failing = false;
            }
            Err(error) => {
                state.failed.fetch_add(lines, Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    eprintln!("access log: lines are lost: {error}");
                }
            }
        }
        bytes.clear();
        // One long line must not be remembered for ever.
        bytes.shrink_to(2 * CHUNK);
        let _ = back.try_send(bytes);
    }
}

/// A worker's way into a log.
pub(crate) struct Lines {
    open: RefCell<Open>,
    queue: SyncSender<Chunk>,
    back: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    /// That a chunk has its first line.
    filled: Notify,
}

/// The chunk that is being filled.
#[derive(Default)]
struct Open {
    bytes: Option<Vec<u8>>,
    lines: u64,
    /// How many chunks were made.
    made: usize,
}

impl Lines {
    /// Writes a line. False where there is no room, and it is lost.
    pub(crate) fn line(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut open = self.open.borrow_mut();
        let open = &mut *open;
        if open.bytes.is_none() {
            open.bytes = self.empty.try_recv().ok().or_else(|| {
                (open.made < CHUNKS).then(|| {
                    open.made += 1;
                    Vec::with_capacity(CHUNK + CHUNK / 8)
                })
            });
        }
        let Some(bytes) = &mut open.bytes else { return false };
        write(bytes);
        open.lines += 1;
        if bytes.len() >= CHUNK {
            self.hand_over(open);
        } else if open.lines == 1 {
            self.filled.notify_one();
        }
        true
    }

    /// Hands over what waits for more.
    fn hand_over(&self, open: &mut Open) {
        if let Some(bytes) = open.bytes.take() {
            let chunk = Chunk { bytes, lines: std::mem::take(&mut open.lines), back: self.back.clone() };
            // The queue holds all chunks of all workers.
            let _ = self.queue.try_send(chunk);
        }
    }

    /// Hands over what waits for more.
    pub(crate) fn flush(&self) {
        let mut open = self.open.borrow_mut();
        if open.lines > 0 {
            self.hand_over(&mut open);
        }
    }

    /// Hands lines over before they are old, for as long as the worker runs.
    pub(crate) async fn keep_flushed(&self) {
        loop {
            self.filled.notified().await;
            tokio::time::sleep(WAIT).await;
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _};

    use super::*;

    #[test]
    fn lines_of_all_workers_arrive_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let sink = Sink::open(&path, 2).unwrap();
        let threads = [0, 1].map(|worker| {
            let lines = sink.lines();
            std::thread::spawn(move || {
                let mut lost = 0;
                for number in 0..20_000 {
                    let text = format!("{worker} {number} {}\n", "x".repeat(number % 100));
                    lost += usize::from(!lines.line(|out| out.extend_from_slice(text.as_bytes())));
                }
                lines.flush();
                lost
            })
        });
        let lost: usize = threads.map(|thread| thread.join().unwrap()).iter().sum();
        let state = Arc::clone(sink.state());
        assert!(sink.finish(Duration::from_secs(20)));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count() + lost, 40_000);
        assert_eq!((state.written(), state.failed()), (text.lines().count() as u64, 0));
        let mut before = [-1; 2];
        for line in text.lines() {
            let mut words = line.split(' ');
            let worker: usize = words.next().unwrap().parse().unwrap();
            let number: i32 = words.next().unwrap().parse().unwrap();
            assert_eq!(words.next().unwrap().len(), usize::try_from(number % 100).unwrap());
            assert!(number > std::mem::replace(&mut before[worker], number));
        }
    }

    /// A pipe that nobody reads takes what it has room for, then chunks fill up, then lines are dropped; none of it waits. When
    /// somebody reads, lines go on.
    #[test]
    fn a_full_pipe_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let sink = Sink::open(&path, 1).unwrap();
        let lines = sink.lines();
        let line = |text: &[u8]| lines.line(|out| out.extend_from_slice(text));
        let taken = std::iter::repeat_with(|| line(&[b'\n'; 1000])).take(100_000).filter(|taken| *taken).count();
        assert!((500..3000).contains(&taken), "{taken}");
        let mut pipe = File::open(&path).unwrap();
        let mut read = vec![0; 1 << 20];
        pipe.read_exact(&mut read).unwrap();
        while !line(b"after\n") {
            std::thread::yield_now();
        }
        lines.flush();
        let mut end = Vec::new();
        while !end.ends_with(b"after\n") {
            let length = pipe.read(&mut read).unwrap();
            end.extend_from_slice(&read[..length]);
        }
    }

    #[test]
    fn a_file_that_was_moved_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let sink = Sink::open(&path, 1).unwrap();
        let lines = sink.lines();
        let write = |text: &str| {
            lines.line(|out| out.extend_from_slice(text.as_bytes()));
            lines.flush();
        };
        write("one\n");
        while sink.state().written() < 1 {
            std::thread::yield_now();
        }
        fs::rename(&path, &moved).unwrap();
        sink.state().reopen();
        write("two\n");
        drop(lines);
        assert!(sink.finish(Duration::from_secs(20)));
        assert_eq!((&*fs::read_to_string(moved).unwrap(), &*fs::read_to_string(path).unwrap()), ("one\n", "two\n"));
    }
}
