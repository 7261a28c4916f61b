//! A lab for a test, gone when the test is.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use strait_base::Protocol;
use strait_lab::{
    Lab, LabName, Options, Place,
    leak::Traces,
    probe::{Knock, Outcome, PATIENCE, Probe},
};

/// Looks at a condition before it counts as never coming true: two minutes, as an agent takes that long to load its programs on a machine
/// that does ten things at once.
const LOOKS: u32 = 12_000;
/// How long to wait for what should come; it ends as soon as it does.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Bed {
    pub(crate) lab: Lab,
    folder: tempfile::TempDir,
    before: Traces,
}

/// True as root and with a BPF object. Elsewhere says loudly that `test` did not run, unless it is required to, as in
/// CI.
pub(crate) fn possible(test: &str) -> bool {
    for (there, required, what) in [
        (nix::unistd::geteuid().is_root(), "STRAIT_REQUIRE_ROOT", "root"),
        (strait_datapath::available(), "STRAIT_REQUIRE_BPF", "the BPF object (cargo xtask bpf)"),
    ] {
        if !there {
            assert!(std::env::var_os(required).is_none(), "{test} needs {what} and {required} is set");
            eprintln!("SKIPPED {test}: it needs {what}");
            return false;
        }
    }
    true
}

/// The binary under test.
pub(crate) fn strait() -> Command {
    Command::new(env!("CARGO_BIN_EXE_strait"))
}

/// Options for a lab of `manifests`. Tests may run at once, each in a process of its own.
pub(crate) fn options(test: &str, manifests: &Path) -> Options {
    let name: LabName = format!("t{}-{test}", std::process::id()).parse().unwrap();
    let mut options = Options::new(name, vec![manifests.to_owned()]).unwrap();
    options.executable = PathBuf::from(env!("CARGO_BIN_EXE_strait"));
    options
}

impl Bed {
    /// A lab of these files. `None` where this machine cannot have one.
    pub(crate) fn up(test: &str, files: &[(&str, &str)]) -> Option<Self> {
        Self::up_with(test, files, |_| {})
    }

    pub(crate) fn up_with(test: &str, files: &[(&str, &str)], tweak: impl FnOnce(&mut Options)) -> Option<Self> {
        possible(test).then(|| {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                fs::write(folder.path().join(name), text).unwrap();
            }
            let before = Traces::now();
            let mut options = options(test, folder.path());
            tweak(&mut options);
            let lab = Lab::up(options, |_| {}).unwrap_or_else(|error| panic!("{error}"));
            Self { lab, folder, before }
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Saves a file as editors do: written beside, then moved over.
    pub(crate) fn save(&self, name: &str, text: &str) {
        let draft = self.folder.path().join(format!(".{name}.tmp"));
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.folder.path().join(name)).unwrap();
    }

    /// Ends the lab; nothing of it may be left.
    pub(crate) fn down(self) {
        let name = self.lab.name().clone();
        assert!(strait_lab::down(&name).unwrap_or_else(|error| panic!("{error}")));
        let left = Traces::now().since(&self.before).of(&name);
        assert!(left.is_empty(), "left behind:\n{left}");
    }

    pub(crate) fn address(&self, pod: &str, v4: bool) -> IpAddr {
        let status = self.lab.status().unwrap();
        let pod = status.pods.iter().find(|one| one.name.to_string() == pod).unwrap();
        *pod.addresses.iter().find(|address| address.is_ipv4() == v4).unwrap()
    }

    /// Whether `from` reaches a TCP port of pod `to` over IPv4. A busy machine may take its time.
    pub(crate) fn reaches(&self, from: &str, to: &str, port: u16) -> bool {
        self.knock(from, to, port, LONG_PATIENCE)
    }

    /// Whether nothing comes of knocking at a TCP port of pod `to` over IPv4.
    pub(crate) fn denied(&self, from: &str, to: &str, port: u16) -> bool {
        !self.knock(from, to, port, PATIENCE)
    }

    fn knock(&self, from: &str, to: &str, port: u16, patience: Duration) -> bool {
        let knock = Knock::Port(Protocol::Tcp, port);
        let probe = Probe { from: place(from), source: None, to: self.address(to, true), knock };
        self.ask(&[probe], patience).remove(0)
    }

    /// Which probes are answered.
    pub(crate) fn ask(&self, probes: &[Probe], patience: Duration) -> Vec<bool> {
        let judge = |outcome: Outcome, probe: &Probe| match outcome {
            Outcome::Allowed(_) => true,
            Outcome::Denied => false,
            Outcome::Error(error) => panic!("{probe}: {error}"),
        };
        let outcomes = self.lab.probe(probes, patience).unwrap();
        outcomes.into_iter().zip(probes).map(|(outcome, probe)| judge(outcome, probe)).collect()
    }

    pub(crate) fn exec(&self, at: &str, command: &[&str]) -> Output {
        self.lab.exec(&place(at), command).unwrap()
    }

    /// What a command prints that must succeed.
    pub(crate) fn prints(&self, at: &str, command: &[&str]) -> String {
        let output = self.exec(at, command);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} at {at}: {}: {errors}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // After `down` there is nothing; after a failed test there is.
        let _ = strait_lab::down(self.lab.name());
    }
}

pub(crate) fn place(text: &str) -> Place {
    text.parse().unwrap()
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_or(|| what.to_owned(), condition);
}

/// As [`eventually`], with words that are found when it has failed.
pub(crate) fn eventually_or(what: impl FnOnce() -> String, mut condition: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never came true: {}", what());
}

/// Ends a process as a crash does.
pub(crate) fn kill(pid: u32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into().unwrap()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
}
