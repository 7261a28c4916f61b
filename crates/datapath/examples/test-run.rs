//! Prints what a packet costs, as one JSON object from what was run to nanoseconds. `cargo xtask bench datapath` reads it.

use strait_datapath::{cost, program_name};

const REPEAT: u32 = 1_000_000;
const FLOWS: u16 = 5_000;

fn main() -> Result<(), cost::Error> {
    let mut lines = Vec::new();
    for cost in cost::test_run_cost(REPEAT, FLOWS)? {
        let program = program_name(cost.hook);
        let family = if cost.ipv6 { "IPv6" } else { "IPv4" };
        for (packet, nanoseconds) in [
            ("established", cost.established_ns),
            ("new flow", cost.new_flow_ns),
            ("new flow that wakes the event reader", cost.waking_flow_ns),
        ] {
            lines.push(format!("  \"{program}, {family}, {packet}\": {nanoseconds:.0}"));
        }
    }
    println!("{{\n{}\n}}", lines.join(",\n"));
    Ok(())
}
