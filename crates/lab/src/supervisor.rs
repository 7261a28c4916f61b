//! The process that keeps a lab as its manifests say: starts what died, and follows changes.
//!
//! ```text
//! manifests changed ─┐
//! a process ended ───┼→ one queue → reconcile: objects → topology → generated files → network → agents → programs
//! someone asks ──────┘                                                                      (level-triggered)
//! ```
//!
//! Killing it stops nothing: agents, programs, links and policy go on without it, and `strait lab down` ends them by
//! what is on disk.

mod children;
mod control;
mod files;
mod listening;
mod programs;
mod reconcile;
mod report;
mod wait;
mod watch;

use std::{
    fs,
    io::{self, Write},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use strait_api::source::Directory;

pub use self::report::{AgentStatus, PodStatus, ProgramStatus, Status};
use self::{children::Owner, reconcile::Cluster};
use crate::{
    cgroup::Cgroup,
    error::Error,
    lab::Settings,
    names::{LabName, Paths, SUPERVISOR},
    process::Process,
    teardown,
};

/// After a change that could not be made as asked, when to try again.
const RETRY: Duration = Duration::from_secs(2);

/// A question to the supervisor, one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How the lab is.
    Status,
    /// Read the manifests now, and answer once they are in force.
    Sync,
}

/// Its answer, one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Status(Box<Status>),
    Synced,
    Refused(String),
}

/// What the supervisor says to `up` on its standard output, a line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Word {
    Progress(String),
    Up,
    Failed(String),
}

/// What the supervisor acts on.
pub(crate) enum Event {
    /// The manifests may have changed. Nothing more is said of it until the sender of this was answered.
    Changed(mpsc::SyncSender<()>),
    /// The child of this number ended.
    Exited(u64),
    /// Someone asks.
    Asked(Request, mpsc::SyncSender<Reply>),
}

/// The clock of the lab.
#[expect(
    clippy::disallowed_methods,
    reason = "supervising is about real time: restarts are delayed, waits have deadlines"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Brings the lab called `name` up, says so on standard output, and keeps it for as long as the process runs. Its files
/// must be as `up` makes them.
pub fn supervise(name: &LabName) -> Result<(), Error> {
    let paths = Paths::of(name);
    // A lab stays; what its starter had open, a lock perhaps, is none of its business.
    strait_datapath::close_inherited().map_err(Error::io("closing descriptors of", "/proc/self/fd"))?;
    // A session of its own, so that the terminal's signals are for others. It fails where the process leads one
    // already.
    let _ = nix::unistd::setsid();
    let settings = Settings::read(name)?;
    let cgroup = Cgroup::of_lab(name)?;
    let own = cgroup.child(SUPERVISOR);
    own.create()?;
    own.join()?;
    let pid = paths.supervisor_pid();
    let this = Process::with_id(std::process::id());
    this.map_or(Ok(()), |this| this.write(&pid)).map_err(Error::io("writing", &pid))?;

    match bring_up(settings, &paths, cgroup.clone()) {
        Ok(supervisor) => {
            if say(&Word::Up).is_err() {
                return abandon(&paths, &cgroup);
            }
            supervisor.run();
            Ok(())
        }
        Err(error) => match say(&Word::Failed(error.to_string())) {
            // Whoever started this takes it away.
            Ok(()) => Err(error),
            Err(_) => abandon(&paths, &cgroup),
        },
    }
}

fn say(word: &Word) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&[serde_json::to_vec(word)?, vec![b'\n']].concat())?;
    out.flush()
}

/// Whoever started the lab is gone, so nobody knows of it: it is taken away from inside.
fn abandon(paths: &Paths, cgroup: &Cgroup) -> Result<(), Error> {
    eprintln!("nobody waits for the lab any more; taking it away");
    Cgroup::root()?.join()?;
    cgroup.end()?;
    teardown::take_away(paths)
}

/// A descriptor a pod soon exceeds the usual soft limit of 1024; the hard one is there to be used.
fn more_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

struct Supervisor {
    cluster: Cluster,
    directory: Directory,
    events: mpsc::Receiver<Event>,
    /// Processes to start again, and when.
    due: Vec<(Instant, Owner)>,
    /// When to reconcile again after a failure.
    retry: Option<Instant>,
}

fn bring_up(settings: Settings, paths: &Paths, cgroup: Cgroup) -> Result<Supervisor, Error> {
    let progress = |text: String| -> Result<(), Error> {
        say(&Word::Progress(text)).map_err(Error::io("telling whoever waits", "standard output"))
    };
    more_descriptors();
    let directory = Directory::open(&settings.manifests)?;
    let (sender, events) = mpsc::channel();
    for folder in [paths.generated(), paths.agents()] {
        fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
    }
    let mut cluster = Cluster::new(settings, paths.clone(), cgroup, sender.clone())?;
    for problem in directory.problems().filter(|problem| problem.is_worth_showing()) {
        progress(problem.to_string())?;
    }
    cluster.reconcile(&directory, progress)?;
    if let Some(problem) = cluster.problems().first() {
        return Err(Error::Supervisor(problem.clone()));
    }
    control::listen(&paths.supervisor_socket(), sender.clone())?;
    watch::start(&directory, sender)?;
    Ok(Supervisor { cluster, directory, events, due: Vec::new(), retry: None })
}

impl Supervisor {
    fn run(mut self) {
        loop {
            let next = self.due.iter().map(|(when, _)| *when).chain(self.retry).min();
            let event = match next {
                Some(when) => self.events.recv_timeout(when.saturating_duration_since(now())).ok(),
                None => self.events.recv().ok(),
            };
            match event {
                Some(Event::Changed(seen)) => {
                    self.take_in(false);
                    let _ = seen.send(());
                }
                Some(Event::Exited(child)) => {
                    if let Some((delay, owner)) = self.cluster.exited(child) {
                        self.due.push((now() + delay, owner));
                    }
                }
                Some(Event::Asked(Request::Status, reply)) => {
                    let _ = reply.send(Reply::Status(Box::new(self.cluster.status(&self.directory))));
                }
                Some(Event::Asked(Request::Sync, reply)) => {
                    self.take_in(true);
                    let problems = self.cluster.problems();
                    let answer = if problems.is_empty() { Reply::Synced } else { Reply::Refused(problems.join("\n")) };
                    let _ = reply.send(answer);
                }
                None => {}
            }
            self.start_what_is_due();
            if self.retry.is_some_and(|when| when <= now()) {
                self.take_in(true);
            }
        }
    }

    /// Reads the manifests and makes the lab so; with `anyway` even if they are as they were.
    fn take_in(&mut self, anyway: bool) {
        let before = self.directory.generation();
        // A file that went away may be on its way back; the descriptor says when that is settled.
        while self.directory.refresh().pending {
            if let Err(error) = self.directory.wait(strait_api::source::GRACE * 4) {
                eprintln!("waiting for manifests: {error}");
                break;
            }
        }
        if self.directory.generation() == before && !anyway {
            return;
        }
        if let Err(error) = self.cluster.reconcile(&self.directory, |_| Ok(())) {
            self.cluster.fail(error.to_string());
        }
        for problem in self.cluster.problems() {
            eprintln!("{problem}");
        }
        self.retry = (!self.cluster.problems().is_empty()).then(|| now() + RETRY);
    }

    fn start_what_is_due(&mut self) {
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(when, _)| *when <= now());
        self.due = later;
        for (_, owner) in due {
            // What cannot be started now, for want of memory or because its file is just being replaced, can be later: nothing else would
            // ever start it.
            if let Err(error) = self.cluster.start_again(&owner) {
                eprintln!("{owner}: {error}");
                self.due.push((now() + RETRY, owner));
            }
        }
    }
}
