//! A lab as tests and the command line hold it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use strait_api::{Objects, source::Directory};

use crate::{
    error::Error,
    names::{LabName, Paths, Place, SUPERVISOR},
    probe::{Order, Outcome, Probe},
    process::{Process, write_atomically},
    supervisor::{Reply, Request, Status, Word},
    teardown,
};

/// Longest wait for the supervisor to do what it was asked: a change of a large cluster on a busy machine.
const ANSWER: Duration = Duration::from_mins(2);
/// How many lines of a log say what went wrong.
const LAST_LINES: usize = 12;

/// How to start a lab.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it is called.
    pub name: LabName,
    /// Files and folders of manifests.
    pub manifests: Vec<PathBuf>,
    /// How many nodes there are, where the manifests declare none: `node-1` and so on.
    pub nodes: u32,
    /// Whether everything has IPv6 addresses too.
    pub ipv6: bool,
    /// Whether agents that die are started again.
    pub restart_agents: bool,
    /// How long changed host policies stay in force without being confirmed; zero where none has to be.
    pub host_policy_confirm: Duration,
    /// More options for every `strait agent`.
    pub agent_options: Vec<String>,
    /// The `strait` binary that plays all roles.
    pub executable: PathBuf,
}

impl Options {
    /// Two nodes, both families, agents that are kept alive, all played by the running binary.
    pub fn new(name: LabName, manifests: Vec<PathBuf>) -> io::Result<Self> {
        let executable = std::env::current_exe()?;
        Ok(Self {
            name,
            manifests,
            nodes: 2,
            ipv6: true,
            restart_agents: true,
            host_policy_confirm: Duration::ZERO,
            agent_options: Vec::new(),
            executable,
        })
    }
}

/// What a lab was started with, kept in `lab.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// What it is called.
    pub name: LabName,
    /// Files and folders of manifests, as the user named them.
    pub manifests: Vec<PathBuf>,
    /// Where relative ones among them start.
    pub directory: PathBuf,
    /// How many nodes there are, where the manifests declare none.
    pub nodes: u32,
    /// Whether everything has IPv6 addresses too.
    pub ipv6: bool,
    /// Whether agents that die are started again.
    pub restart_agents: bool,
    /// How long changed host policies stay in force without being confirmed; zero where none has to be.
    #[serde(default)]
    pub host_policy_confirm: Duration,
    /// More options for every `strait agent`.
    #[serde(default)]
    pub agent_options: Vec<String>,
    /// The `strait` binary that plays all roles.
    pub executable: PathBuf,
}

impl Settings {
    /// Those of the lab called `name`.
    pub fn read(name: &LabName) -> Result<Self, Error> {
        let path = Paths::of(name).settings();
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| Error::io("reading", path)(io::Error::other(error)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoSuchLab(name.clone())),
            Err(error) => Err(Error::io("reading", path)(error)),
        }
    }
}

/// One of the labs on this host.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// What it is called.
    pub name: LabName,
    /// Whether its supervisor runs.
    pub running: bool,
    /// What it was started with; `None` where it is half made.
    pub settings: Option<Settings>,
}

/// A lab that is up.
#[derive(Clone, Debug)]
pub struct Lab {
    paths: Paths,
    settings: Settings,
}

impl Lab {
    /// Starts a lab. Returns once all pods' policies are enforced and their servers listen; `progress` is told what is
    /// being done, a line at a time. Where that fails, nothing stays behind.
    pub fn up(options: Options, mut progress: impl FnMut(&str)) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let paths = Paths::of(&options.name);
        claim(&paths)?;
        let started = start(&paths, options, &mut progress);
        if started.is_err() {
            // A supervisor that could, has done so itself.
            teardown::down(paths.name())?;
        }
        started
    }

    /// The lab called `name`, started by whoever.
    pub fn attach(name: &LabName) -> Result<Self, Error> {
        Ok(Self { paths: Paths::of(name), settings: Settings::read(name)? })
    }

    /// All labs on this host, in order of their names.
    pub fn list() -> Vec<Listed> {
        let entries = fs::read_dir(Paths::all_labs()).into_iter().flatten().flatten();
        let mut labs: Vec<_> = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse::<LabName>().ok())
            .map(|name| Listed {
                running: supervisor_runs(&Paths::of(&name)),
                settings: Settings::read(&name).ok(),
                name,
            })
            .collect();
        labs.sort_by(|a, b| a.name.cmp(&b.name));
        labs
    }

    /// What it is called.
    pub fn name(&self) -> &LabName {
        self.paths.name()
    }

    /// Its files.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What it was started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Ends it; see [`crate::down`].
    pub fn down(self) -> Result<(), Error> {
        teardown::down(self.paths.name()).map(|_| ())
    }

    /// Whether its supervisor runs.
    pub fn supervised(&self) -> bool {
        supervisor_runs(&self.paths)
    }

    /// How it is.
    pub fn status(&self) -> Result<Status, Error> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            Reply::Refused(text) => Err(Error::Supervisor(text)),
            Reply::Synced => Err(Error::Supervisor("the supervisor answered another question".to_owned())),
        }
    }

    /// Has the lab read its manifests now; returns once they are in force everywhere. Where something could not be made
    /// as they say, that is the error.
    pub fn sync(&self) -> Result<(), Error> {
        match self.ask(&Request::Sync)? {
            Reply::Refused(text) => Err(Error::Supervisor(text)),
            Reply::Synced | Reply::Status(_) => Ok(()),
        }
    }

    /// The manifests and what the lab made of them: pods with addresses, nodes, namespaces. As agents read them.
    pub fn objects(&self) -> Result<Objects, Error> {
        Ok(Directory::open(&self.roots())?.objects().clone())
    }

    /// The folders that agents read, the user's first. Relative ones start where the lab was started.
    pub fn roots(&self) -> Vec<PathBuf> {
        let manifests = self.settings.manifests.iter().map(|path| self.settings.directory.join(path));
        manifests.chain([self.paths.generated()]).collect()
    }

    /// Run directories of the agents, by node.
    pub fn agents(&self) -> BTreeMap<String, PathBuf> {
        let entries = fs::read_dir(self.paths.agents()).into_iter().flatten().flatten();
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
    }

    /// The agent on `node`.
    pub fn agent(&self, node: &str) -> strait_agent::Client {
        strait_agent::Client::new(self.paths.agent(node).join(strait_agent::api::SOCKET))
    }

    /// A command that will run `program` in `place`. Its streams and exit code are the program's own.
    pub fn command(&self, place: &Place, program: impl AsRef<OsStr>) -> Command {
        let mut command = enter(&self.settings.executable, self.paths.name(), place);
        command.arg("--").arg(program);
        command
    }

    /// Runs a program in `place` and gives what it wrote.
    pub fn exec<S: AsRef<OsStr>>(&self, place: &Place, command: &[S]) -> io::Result<Output> {
        let [program, arguments @ ..] = command else { return Err(io::ErrorKind::InvalidInput.into()) };
        self.command(place, program).args(arguments).stdin(Stdio::null()).output()
    }

    /// Tries all `probes` at once, one process a source; the outcomes are in their order. Silence counts after
    /// `patience` ([`crate::probe::PATIENCE`]).
    pub fn probe(&self, probes: &[Probe], patience: Duration) -> Result<Vec<Outcome>, Error> {
        let mut by_place: BTreeMap<&Place, Vec<usize>> = BTreeMap::new();
        for (index, probe) in probes.iter().enumerate() {
            by_place.entry(&probe.from).or_default().push(index);
        }
        let mut outcomes = vec![Outcome::Denied; probes.len()];
        std::thread::scope(|scope| {
            let threads: Vec<_> = by_place
                .into_iter()
                .map(|(place, indices)| {
                    scope.spawn(move || {
                        let own = indices.iter().map(|index| probes[*index].clone()).collect();
                        self.probe_from(place, own, patience).map(|found| (indices, found))
                    })
                })
                .collect();
            for thread in threads {
                let (indices, found) =
                    thread.join().map_err(|_| Error::Supervisor("a probing thread panicked".to_owned()))??;
                for (index, outcome) in indices.into_iter().zip(found) {
                    outcomes[index] = outcome;
                }
            }
            Ok(outcomes)
        })
    }

    fn probe_from(&self, place: &Place, probes: Vec<Probe>, patience: Duration) -> Result<Vec<Outcome>, Error> {
        let fail = |detail: String| Error::Probe { place: place.to_string(), detail };
        let expected = probes.len();
        let order = Order { patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), probes };
        let mut child = self
            .command(place, &self.settings.executable)
            .args(["lab", "probe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| fail(error.to_string()))?;
        if let Some(mut input) = child.stdin.take() {
            // What could not be written shows in what comes back.
            let _ = serde_json::to_vec(&order).map(|bytes| input.write_all(&bytes));
        }
        let output = child.wait_with_output().map_err(|error| fail(error.to_string()))?;
        match serde_json::from_slice::<Vec<Outcome>>(&output.stdout) {
            Ok(outcomes) if outcomes.len() == expected => Ok(outcomes),
            _ => Err(fail(format!(
                "the process ended with {} and said: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply, Error> {
        if !self.supervised() {
            return Err(Error::Abandoned(self.paths.name().clone()));
        }
        let socket = self.paths.supervisor_socket();
        let answer = || -> io::Result<Reply> {
            let mut stream = UnixStream::connect(&socket)?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.write_all(&[serde_json::to_vec(request)?, vec![b'\n']].concat())?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok(serde_json::from_str(&line)?)
        };
        answer().map_err(Error::io("asking the supervisor at", &socket))
    }
}

/// `strait lab enter` into `place`, the command still missing.
pub(crate) fn enter(executable: &Path, name: &LabName, place: &Place) -> Command {
    let mut command = Command::new(executable);
    command.args(["lab", "enter", "--lab", &name.to_string(), "--place", &place.to_string()]);
    command
}

fn supervisor_runs(paths: &Paths) -> bool {
    Process::read(&paths.supervisor_pid()).ok().flatten().is_some_and(Process::runs)
}

/// Makes the lab's folder, which only one can.
fn claim(paths: &Paths) -> Result<(), Error> {
    fs::create_dir_all(Paths::all_labs()).map_err(Error::io("making", Paths::all_labs()))?;
    match fs::create_dir(paths.root()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(if supervisor_runs(paths) {
            Error::Running(paths.name().clone())
        } else {
            Error::Abandoned(paths.name().clone())
        }),
        Err(error) => Err(Error::io("making", paths.root())(error)),
    }
}

fn start(paths: &Paths, options: Options, progress: &mut impl FnMut(&str)) -> Result<Lab, Error> {
    let Options { name, manifests, nodes, ipv6, restart_agents, host_policy_confirm, agent_options, executable } =
        options;
    let directory = std::env::current_dir().map_err(Error::io("finding", "."))?;
    let settings = Settings {
        name,
        manifests,
        directory,
        nodes,
        ipv6,
        restart_agents,
        host_policy_confirm,
        agent_options,
        executable,
    };
    let text = serde_json::to_vec_pretty(&settings).unwrap_or_default();
    write_atomically(&paths.settings(), &text).map_err(Error::io("writing", paths.settings()))?;
    fs::create_dir(paths.logs()).map_err(Error::io("making", paths.logs()))?;
    let path = paths.log(SUPERVISOR);
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("opening the log", &path))?;
    let mut child = Command::new(&settings.executable)
        .args(["lab", "supervise", "--lab", &settings.name.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(Error::io("starting", &settings.executable))?;
    let words = child.stdout.take().into_iter().flat_map(|stream| BufReader::new(stream).lines());
    for line in words.map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Word::Progress(text)) => progress(&text),
            Ok(Word::Up) => {
                // So that it does not stay a zombie while this process lives.
                std::thread::spawn(move || child.wait());
                return Ok(Lab { paths: paths.clone(), settings });
            }
            Ok(Word::Failed(text)) => {
                // Its last word comes before it ends; what it left is taken away once it has.
                let _ = child.wait();
                return Err(Error::Supervisor(text));
            }
            Err(_) => {}
        }
    }
    let _ = child.wait();
    Err(Error::Crashed { lab: paths.name().clone(), log: last_lines(&path) })
}

/// The end of a log, for an error.
pub(crate) fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
