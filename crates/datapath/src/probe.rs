//! What this host offers, found out by trying and not by version numbers, and what it costs where something is missing.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use aya::{
    maps::MapType,
    programs::{ProgramType, SchedClassifier, TcAttachType},
    sys::{is_map_supported, is_program_supported},
};
use nix::{
    mount::{MsFlags, mount},
    sys::utsname::uname,
};

/// Where the kernel's BPF file system is expected.
pub const BPFFS: &str = "/sys/fs/bpf";

/// What this host offers.
#[derive(Clone, Debug)]
pub struct Report {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// Where cgroup v2 is mounted, if it is; not always `/sys/fs/cgroup`.
    pub cgroup2: Option<PathBuf>,
    /// Where bpffs is mounted, if it is.
    pub bpffs: Option<PathBuf>,
    /// Every feature that was looked for.
    pub features: Vec<Feature>,
}

/// One feature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feature {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// Whether the datapath cannot do without.
    pub required: bool,
    /// What is lost without it, and what to do.
    pub without: &'static str,
}

/// Required features are missing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this host (kernel {kernel}) cannot run the datapath:{}", lines(missing))]
pub struct Missing {
    /// The kernel's release.
    pub kernel: String,
    /// What is missing.
    pub missing: Vec<Feature>,
}

fn lines(features: &[Feature]) -> String {
    features.iter().fold(String::new(), |text, feature| text + "\n  " + &feature.to_string())
}

/// `TCX links: missing: …`.
impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.present {
            write!(f, "{}: present", self.name)
        } else {
            write!(f, "{}: missing: {}", self.name, self.without)
        }
    }
}

impl Report {
    /// Features that are missing, required ones first.
    pub fn missing(&self) -> impl Iterator<Item = &Feature> {
        let of = |required| self.features.iter().filter(move |f| !f.present && f.required == required);
        of(true).chain(of(false))
    }

    /// An error that names every required feature that is missing.
    pub fn require(&self) -> Result<(), Missing> {
        let missing: Vec<Feature> = self.missing().filter(|feature| feature.required).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(Missing { kernel: self.kernel.clone(), missing }) }
    }
}

/// Looks for everything. Changes nothing.
pub fn probe() -> Report {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let cgroup2 = mount_of(&mounts, "cgroup2");
    let bpffs = mount_of(&mounts, "bpf");
    let capabilities = effective_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let kernel = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let feature = |name, present, required, without| Feature { name, present, required, without };
    let holds = |number: u32| capabilities & (1 << number) != 0;
    let map = |kind| is_map_supported(kind).unwrap_or(false);
    let features = vec![
        feature(
            "CAP_NET_ADMIN",
            holds(12) || holds(21),
            true,
            "links, routes and programs cannot be set; run as root or grant it",
        ),
        feature(
            "CAP_BPF",
            holds(39) || holds(21),
            true,
            "maps and programs cannot be loaded; run as root or grant CAP_BPF (before Linux 5.8: CAP_SYS_ADMIN)",
        ),
        feature(
            "CAP_SYS_ADMIN",
            holds(21),
            false,
            "bpffs cannot be mounted and network namespaces cannot be made or entered: needed by the lab, and by the agent \
             where /sys/fs/bpf is not mounted yet",
        ),
        feature(
            "tc programs",
            is_program_supported(ProgramType::SchedClassifier).unwrap_or(false),
            true,
            "nothing can be enforced; the kernel needs CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT",
        ),
        feature(
            "TCX links",
            SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok(),
            true,
            "programs cannot be attached; needs Linux 6.6 or newer",
        ),
        feature(
            "LPM tries",
            map(MapType::LpmTrie),
            true,
            "addresses and ports cannot be looked up; needs Linux 4.11 or newer",
        ),
        feature(
            "LRU hashes",
            map(MapType::LruHash),
            true,
            "connections cannot be remembered; needs Linux 4.10 or newer",
        ),
        feature("ring buffers", map(MapType::RingBuf), true, "events cannot be read; needs Linux 5.8 or newer"),
        feature(
            "kernel BTF",
            Path::new("/sys/kernel/btf/vmlinux").exists(),
            false,
            "nothing yet; programs that read kernel structures will need CONFIG_DEBUG_INFO_BTF",
        ),
        feature(
            "cgroup v2",
            cgroup2.is_some(),
            false,
            "no cgroup per pod, and no socket load balancing: mount it with `mount -t cgroup2 none /sys/fs/cgroup/unified`",
        ),
        feature(
            "IPv6",
            crate::sysctl::has_ipv6(),
            false,
            "pods have IPv4 addresses only; the kernel needs CONFIG_IPV6",
        ),
    ];
    Report { kernel, cgroup2, bpffs, features }
}

/// bpffs cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount bpffs on {}: {source} (needs CAP_SYS_ADMIN; or as root: mount -t bpf bpf {})", at.display(), at.display())]
pub struct MountError {
    /// Where.
    pub at: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

/// Where bpffs is mounted; mounts it on [`BPFFS`] where it is not. In a mount namespace that a tool remounted `/sys` in, this is
/// a bpffs of its own, without the pins of others.
pub fn ensure_bpffs() -> Result<PathBuf, MountError> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let at = PathBuf::from(BPFFS);
    if mounts_of(&mounts, "bpf").any(|path| path == at) {
        return Ok(at);
    }
    match mount(
        Some("bpf"),
        &at,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None::<&str>,
    ) {
        Ok(()) => Ok(at),
        Err(error) => Err(MountError { at, source: error.into() }),
    }
}

fn mount_of(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts_of(mounts, kind).next()
}

/// Mount points of a file system type, of `/proc/mounts`.
fn mounts_of(mounts: &str, kind: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(move |line| {
        let mut fields = line.split(' ');
        let (_, point, of) = (fields.next()?, fields.next()?, fields.next()?);
        (of == kind).then(|| PathBuf::from(unescaped(point)))
    })
}

/// `/proc/mounts` writes space, tab, newline and backslash as three octal digits.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

fn effective_capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      bpf /mnt/a\\040b bpf rw 0 0\nbroken\n";
        for (kind, expected) in
            [("cgroup2", Some("/sys/fs/cgroup/unified")), ("bpf", Some("/mnt/a b")), ("btrfs", None)]
        {
            assert_eq!(mount_of(mounts, kind), expected.map(PathBuf::from), "{kind}");
        }
        for (status, expected) in [("Name:\tx\nCapEff:\t000001fffeffffff\nCapBnd:\t0\n", 0x1ff_feff_ffff), ("", 0)] {
            assert_eq!(effective_capabilities(status), expected);
        }
    }

    #[test]
    fn names_everything_required_that_is_missing() {
        let feature = |name, present, required| Feature { name, present, required, without: "what to do" };
        let features = vec![feature("a", true, true), feature("b", false, false), feature("c", false, true)];
        let report = Report { kernel: "5.4".to_owned(), cgroup2: None, bpffs: None, features };
        assert_eq!(report.missing().map(|f| f.name).collect::<Vec<_>>(), ["c", "b"]);
        let error = report.require().unwrap_err().to_string();
        assert_eq!(error, "this host (kernel 5.4) cannot run the datapath:\n  c: missing: what to do");
    }
}
