//! Processes by id and start time, so that an id that was given to another process since is never mistaken for the one
//! it was.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// A process that ran at some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

impl Process {
    /// The one that has id `pid` now; `None` where there is none, or it is dead and only not yet waited for.
    pub fn with_id(pid: u32) -> Option<Self> {
        let (state, start) = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, start })
    }

    /// Whether it still runs.
    pub fn runs(self) -> bool {
        Self::with_id(self.pid) == Some(self)
    }

    /// Keeps it in `path`.
    pub fn write(self, path: &Path) -> io::Result<()> {
        write_atomically(path, serde_json::to_string(&self)?.as_bytes())
    }

    /// The one kept in `path`; `None` where there is no such file.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// State letter and start time out of `/proc/PID/stat`. The second field is a command in brackets that may hold
/// anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Readers see the old content or the new, never half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    fs::write(&draft, bytes)?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_brackets_in_the_command() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1 1";
        assert_eq!(parse_stat(stat), Some(('S', 12345)));
    }

    #[test]
    fn this_process_runs() {
        let this = Process::with_id(std::process::id()).unwrap();
        assert!(this.runs());
        assert!(!Process { start: this.start + 1, ..this }.runs());
    }
}
