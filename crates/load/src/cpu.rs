//! CPU time of processes, threads and children that have ended included.

use std::fs;

use anyhow::{Context as _, Result};

/// Of all processes together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// On a CPU, in nanoseconds.
    pub(crate) nanoseconds: u64,
    /// Ticks in user mode and in the kernel: coarse, for their proportion.
    pub(crate) user: u64,
    pub(crate) system: u64,
}

impl Cpu {
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut all = Self::default();
        for pid in pids {
            for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))? {
                // A thread that ends in between is as good as one that had ended before.
                let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
                all.nanoseconds += text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0_u64);
            }
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let after = stat.rsplit_once(") ").context("a stat file without a name")?.1;
            let field = |index: usize| after.split(' ').nth(index).and_then(|text| text.parse().ok()).unwrap_or(0_u64);
            all.user += field(11);
            all.system += field(12);
        }
        Ok(all)
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds.saturating_sub(before.nanoseconds),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}
