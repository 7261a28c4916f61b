//! Prints what a packet costs, as a JSON array with a row for each way, family and load. `cargo xtask bench datapath` reads it.

use strait_datapath::{
    cost::{self, Effort, Load, Way},
    program_name,
};

/// Hardly anything, a full policy, a full policy and many connections.
const LOADS: [Load; 3] = [
    Load { peers: 1, connections: 1 },
    Load { peers: 16_000, connections: 1 },
    Load { peers: 16_000, connections: 16_000 },
];
/// Rounds make up for a busy machine: the least counts.
const EFFORT: Effort = Effort { rounds: 5, repeat: 200_000, flows: 1_000 };

fn main() -> Result<(), cost::Error> {
    let rows: Vec<String> = cost::test_run_cost(&LOADS, EFFORT)?
        .into_iter()
        .map(|cost| {
            let way = match cost.way {
                Way::Out => "to a pod elsewhere",
                Way::In => "from a pod elsewhere",
                Way::Beside => "to a pod beside it",
                Way::Arriving => "from the network to a pod",
            };
            let program = program_name(cost.way.hook());
            let family = if cost.ipv6 { "IPv6" } else { "IPv4" };
            format!(
                "  {{\"program\": \"{program}\", \"way\": \"{way}\", \"family\": \"{family}\", \"policyEntries\": {}, \
                 \"connections\": {}, \"establishedNs\": {:.1}, \"newFlowNs\": {:.1}, \"wakingFlowNs\": {:.1}}}",
                cost.load.peers, cost.load.connections, cost.established_ns, cost.new_flow_ns, cost.waking_flow_ns
            )
        })
        .collect();
    println!("[\n{}\n]", rows.join(",\n"));
    Ok(())
}
