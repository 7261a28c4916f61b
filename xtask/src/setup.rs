//! What a machine needs, and how it gets there.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use crate::{
    bench::gateway,
    grpc,
    run::{cargo, is_root, shown, step, succeeds},
};

/// The linker of BPF programs, and the LLVM it is built with.
const BPF_LINKER: &str = "bpf-linker@0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";
const NEXTEST: &str = "cargo-nextest@0.9.143";
const DENY: &str = "cargo-deny@0.20.2";

/// What a machine is set up for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Demo,
    Test,
    Bench,
}

/// How something gets onto the machine.
enum Source {
    /// Packages of Debian 12.
    Debian(&'static [&'static str]),
    /// Packages of Debian 12 whose service this machine has no use for: only the program is wanted.
    Programs { packages: &'static [&'static str], service: &'static str },
    /// A component of the rustup toolchain.
    Component(&'static str),
    /// A program from crates.io, with the environment its build needs.
    Crate { name: &'static str, flags: &'static [&'static str], needs_llvm: bool },
    /// What installs itself into the target folder.
    Own(fn() -> Result<()>),
}

struct Need {
    what: &'static str,
    why: &'static str,
    tasks: &'static [Task],
    present: fn() -> bool,
    source: Source,
}

const EVERY: &[Task] = &[Task::Demo, Task::Test, Task::Bench];

/// In the order of installation: bpf-linker is built with LLVM.
const NEEDS: &[Need] = &[
    Need {
        what: "cc",
        why: "the C compiler: links Rust programs, builds the TLS library",
        tasks: EVERY,
        present: || runs("cc", &["--version"]),
        source: Source::Debian(&["build-essential"]),
    },
    Need {
        what: "a Rust compiler for BPF (Debian's rustc-web with core for bpfel-unknown-none, or a nightly with rust-src)",
        why: "builds the kernel's programs",
        tasks: EVERY,
        present: || has_debian_bpf() || has_nightly(),
        source: Source::Debian(&["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"]),
    },
    Need {
        what: "LLVM 22 in /usr/lib/llvm-22",
        why: "bpf-linker is built with it",
        tasks: EVERY,
        present: || Path::new(LLVM).join("bin/llvm-config").exists(),
        source: Source::Debian(&["llvm-22-dev"]),
    },
    Need {
        what: "bpf-linker 0.13",
        why: "links the kernel's programs",
        tasks: EVERY,
        present: || runs("bpf-linker", &["--version"]),
        source: Source::Crate {
            name: BPF_LINKER,
            flags: &["--no-default-features", "--features", "llvm-22"],
            needs_llvm: true,
        },
    },
    Need {
        what: "rustfmt",
        why: "checks formatting",
        tasks: &[Task::Test],
        present: || succeeds(cargo().args(["fmt", "--version"])),
        source: Source::Component("rustfmt"),
    },
    Need {
        what: "clippy",
        why: "lints",
        tasks: &[Task::Test],
        present: || succeeds(cargo().args(["clippy", "--version"])),
        source: Source::Component("clippy"),
    },
    Need {
        what: "cargo-nextest",
        why: "runs the tests",
        tasks: &[Task::Test],
        present: || succeeds(cargo().args(["nextest", "--version"])),
        source: Source::Crate {
            name: NEXTEST,
            // Not what updates itself.
            flags: &["--locked", "--no-default-features", "--features", "default-no-update"],
            needs_llvm: false,
        },
    },
    Need {
        what: "cargo-deny",
        why: "checks licences and banned dependencies",
        tasks: &[Task::Test],
        present: || succeeds(cargo().args(["deny", "--version"])),
        source: Source::Crate { name: DENY, flags: &["--locked", "--no-default-features"], needs_llvm: false },
    },
    Need {
        what: "curl",
        why: "the HTTP client of demo and tests",
        tasks: &[Task::Demo, Task::Test],
        present: || runs("curl", &["--version"]),
        source: Source::Debian(&["curl"]),
    },
    Need {
        what: "ip (iproute2)",
        why: "the tests look at links and routes with it",
        tasks: &[Task::Test],
        present: || runs("ip", &["-V"]),
        source: Source::Debian(&["iproute2"]),
    },
    Need {
        what: "iperf3",
        why: "measures throughput, and transfers under test",
        tasks: &[Task::Test, Task::Bench],
        present: || runs("iperf3", &["--version"]),
        source: Source::Debian(&["iperf3"]),
    },
    Need {
        what: "strace",
        why: "counts the system calls of a request",
        tasks: &[Task::Test],
        present: || runs("strace", &["--version"]),
        source: Source::Debian(&["strace"]),
    },
    Need {
        what: "perf",
        why: "tells where the CPU time goes",
        tasks: &[Task::Bench],
        present: || runs("perf", &["--version"]),
        source: Source::Debian(&["linux-perf"]),
    },
    Need {
        what: "valgrind",
        why: "counts the instructions of a request",
        tasks: &[Task::Bench],
        present: || runs("valgrind", &["--version"]),
        source: Source::Debian(&["valgrind"]),
    },
    Need {
        what: "nghttp and h2load (nghttp2-client)",
        why: "clients of HTTP/2 under test",
        tasks: &[Task::Test],
        present: || runs("nghttp", &["--version"]) && runs("h2load", &["--version"]),
        source: Source::Debian(&["nghttp2-client"]),
    },
    Need {
        what: "haproxy",
        why: "what the gate is compared with",
        tasks: &[Task::Bench],
        present: || runs("haproxy", &["-v"]),
        source: Source::Programs { packages: &["haproxy"], service: "haproxy" },
    },
    Need {
        what: "nginx with its stream module",
        why: "a back end under test, and what the gate is compared with",
        tasks: &[Task::Test, Task::Bench],
        present: || runs("nginx", &["-v"]) && Path::new("/usr/lib/nginx/modules/ngx_stream_module.so").exists(),
        source: Source::Programs { packages: &["nginx", "libnginx-mod-stream"], service: "nginx" },
    },
    Need {
        what: "python3 with venv",
        why: "Envoy and aioquic come as packages of Python",
        tasks: &[Task::Test, Task::Bench],
        present: || runs("python3", &["-c", "import venv, ensurepip"]),
        source: Source::Debian(&["python3", "python3-venv"]),
    },
    Need {
        what: "Envoy 1.40 in target/peers",
        why: "client and server under test, and what the gate is compared with",
        tasks: &[Task::Test, Task::Bench],
        present: gateway::has_envoy,
        source: Source::Own(gateway::install_envoy),
    },
    Need {
        what: "aioquic 1.7 in target/peers",
        why: "a client of HTTP/3 under test",
        tasks: &[Task::Test],
        present: gateway::has_aioquic,
        source: Source::Own(gateway::install_aioquic),
    },
    Need {
        what: "the peer of gRPC in target/peers",
        why: "tonic's client and server, under test",
        tasks: &[Task::Test],
        present: grpc::is_there,
        source: Source::Own(grpc::build),
    },
];

/// `setup [demo|test|bench] [--check]`; without a task, everything.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (mut tasks, mut only_check) = (Vec::new(), false);
    for argument in arguments {
        match *argument {
            "demo" => tasks.push(Task::Demo),
            "test" => tasks.push(Task::Test),
            "bench" => tasks.push(Task::Bench),
            "--check" => only_check = true,
            other => bail!("found `{other}`; allowed are demo, test, bench and --check"),
        }
    }
    let wanted = |need: &&Need| tasks.is_empty() || need.tasks.iter().any(|task| tasks.contains(task));
    let missing: Vec<&Need> = NEEDS.iter().filter(wanted).filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        println!("setup: nothing is missing");
        return Ok(());
    }
    let list: Vec<_> = missing.iter().map(|need| format!("  {}: {}\n", need.what, need.why)).collect();
    if only_check {
        bail!("missing here:\n{}", list.concat());
    }
    println!("setup: missing here:\n{}", list.concat());
    install(&missing)?;
    let still: Vec<_> = missing.iter().filter(|need| !(need.present)()).map(|need| need.what).collect();
    if !still.is_empty() {
        bail!("installed, and still not found: {} (is ~/.cargo/bin on PATH?)", still.join(", "));
    }
    Ok(())
}

fn install(missing: &[&Need]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().flat_map(|need| packages_of(need)).copied().collect();
    if !packages.is_empty() {
        step(&format!("install from Debian: {}", packages.join(" ")), || install_debian(&packages, missing))?;
    }
    let services = missing.iter().filter_map(|need| match need.source {
        Source::Programs { service, .. } => Some(service),
        Source::Debian(_) | Source::Component(_) | Source::Crate { .. } | Source::Own(_) => None,
    });
    for service in services {
        // Nor at the next start of this machine.
        step(&format!("keep the service {service} off"), || {
            shown(Command::new("update-rc.d").args([service, "disable"]))
        })?;
    }
    for need in missing {
        match need.source {
            Source::Debian(_) | Source::Programs { .. } => {}
            Source::Own(install) => step(&format!("install {}", need.what), install)?,
            Source::Component(name) => {
                step(&format!("add {name} to the Rust toolchain"), || {
                    shown(Command::new("rustup").args(["component", "add", name]))
                })?;
            }
            Source::Crate { name, flags, needs_llvm } => {
                step(&format!("build and install {name} (some minutes)"), || install_crate(name, flags, needs_llvm))?;
            }
        }
    }
    Ok(())
}

fn packages_of(need: &Need) -> &'static [&'static str] {
    match need.source {
        Source::Debian(packages) | Source::Programs { packages, .. } => packages,
        Source::Component(_) | Source::Crate { .. } | Source::Own(_) => &[],
    }
}

fn install_debian(packages: &[&str], missing: &[&Need]) -> Result<()> {
    if !runs("apt-get", &["--version"]) {
        let names: Vec<_> = missing.iter().filter(|need| !packages_of(need).is_empty()).map(|need| need.what).collect();
        bail!("this is no Debian; install with your distribution's means, then run this again: {}", names.join("; "));
    }
    if !is_root() {
        bail!("installing needs root; run as root, or first: sudo apt-get install {}", packages.join(" "));
    }
    shown(apt().args(["update", "-qq"]))?;
    // --no-remove: Debian's rustc-web takes the place of Debian's rustc, which somebody may be using.
    let quiet = NoServices::begin()?;
    let install = shown(apt().args(["install", "-y", "-qq", "--no-remove"]).args(packages));
    drop(quiet);
    install.map_err(|error| {
        error.context(
            "Debian's packages could not be installed. The names are Debian 12's; rustc-web cannot be beside Debian's \
             rustc (remove it, or give rustup a nightly with rust-src)",
        )
    })
}

/// While it lives, packages start no services: this is asked before each (`invoke-rc.d`, `deb-systemd-invoke`).
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn begin() -> Result<Self> {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        // Where there is one, as in containers, it has been decided.
        if policy.exists() {
            return Ok(Self(None));
        }
        let made = Self(Some(policy));
        fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(made)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = self.0 {
            let _it_was_removed = fs::remove_file(policy);
        }
    }
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

fn install_crate(name: &str, flags: &[&str], needs_llvm: bool) -> Result<()> {
    let mut install = cargo();
    install.args(["install", name]).args(flags);
    // Not the workspace's target folder: its lock file and profile are not this program's.
    install.env_remove("CARGO_TARGET_DIR");
    // These tools wait for others most of the time: what counts is how soon they are built.
    install.envs([
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
        ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    ]);
    if needs_llvm {
        let path = std::env::var("PATH").unwrap_or_default();
        install
            .env("LLVM_SYS_221_PREFIX", LLVM)
            .env("RUSTFLAGS", format!("-L{LLVM}/lib"))
            .env("PATH", format!("{LLVM}/bin:{path}"));
    }
    shown(&mut install)
}

/// rustup's nightly with the sources of `core`: the ordinary way to BPF.
fn has_nightly() -> bool {
    let listed = Command::new("rustup")
        .args(["component", "list", "--installed", "--toolchain", "nightly"])
        .stderr(Stdio::null())
        .output();
    listed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "rust-src"))
}

/// Debian's second Rust with a prebuilt `core` for BPF.
fn has_debian_bpf() -> bool {
    Path::new("/usr/lib/rustlib/bpfel-unknown-none/lib").is_dir() && Path::new("/usr/bin/cargo").exists()
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    succeeds(Command::new(program).args(arguments))
}
