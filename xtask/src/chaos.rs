//! `cargo xtask chaos`: the lab test of that name, as long as one likes, its counts shown.

use anyhow::{Context as _, Result};

use crate::{
    bpf,
    run::{cargo, shown, step},
};

pub(crate) fn run(updates: &str) -> Result<()> {
    updates.parse::<u32>().with_context(|| format!("found `{updates}`; allowed is a number of updates"))?;
    step("build the programs", || bpf::build().map(drop))?;
    step(&format!("{updates} changes of policies under traffic"), || {
        let mut test = cargo();
        test.args(["nextest", "run", "--package", "strait", "--no-capture", "chaos_is_not_noticed_by_traffic"]);
        shown(test.envs([("STRAIT_CHAOS_UPDATES", updates), ("STRAIT_REQUIRE_ROOT", "1"), ("STRAIT_REQUIRE_BPF", "1")]))
    })
}
