//! Policies change, agents die and are replaced, under traffic that must not notice.
//!
//! ```text
//!  transfers, open all the time ─┐
//!  connects, a thousand a second ┤        100 changes of policies, for which maps have to grow
//!  iperf3 ───────────────────────┼─ lab ─ kill -9 of agents, at rest and amid a change
//!  forbidden connects ───────────┤        another binary, and back
//!  a pod whose permission changes┘
//! ```
//!
//! That nothing was lost is judged by counts. The programs may have dropped exactly as many packets as were sent that nothing
//! allows: one more is an allowed one. What else may lose a packet on a busy machine (queues of the kernel) is counted beside.
//!
//! `STRAIT_CHAOS_UPDATES` makes it as long as one likes; `cargo xtask chaos` runs it so and shows the counts.

mod agents;
mod counters;
mod events;
mod load;
mod transfers;
mod updates;

use std::{fmt, net::IpAddr, sync::atomic::Ordering::Relaxed, time::SystemTime};

use self::{
    agents::Builds,
    counters::{Counts, Differences},
    load::{Ledger, Load, RARE, STEADY, each, reaches, serve},
    transfers::Transfers,
    updates::{BASE, CONNECT, FORBIDDEN, LEDGER, TRANSFER, pods, prober, update},
};
use crate::bed::Bed;

/// Changes, where the environment does not say: as many as fit beside the other tests.
const UPDATES: u32 = 100;
/// An agent is killed with every so many changes, on one node and the other; by turns at rest and right after a file was saved.
const KILLS: u32 = 20;
/// Connections a second of each of four threads: a thousand together, and some for what is late.
const PER_SECOND: u32 = 275;
/// Maps that have to grow.
const SMALL: [&str; 3] = ["policy=4", "port-sets=4", "ipcache=16"];
const SERVERS: [&str; 2] = ["default/server-1", "default/server-2"];
const CLIENTS: [&str; 2] = ["default/client-a", "default/client-b"];
const STRANGER: &str = "default/stranger";
const PROBER: &str = "default/prober";
const GOAL: &str = "default/goal";
const NODES: [&str; 2] = ["node-1", "node-2"];

#[test]
fn chaos_is_not_noticed_by_traffic() {
    let updates = std::env::var("STRAIT_CHAOS_UPDATES").map_or(UPDATES, |text| text.parse().unwrap());
    let builds = Builds::new();
    let (pods, prober) = (pods(), prober(false));
    let files = [("pods.yaml", &*pods), ("base.yaml", BASE), ("prober.yaml", &prober)];
    let small = |options: &mut strait_lab::Options| {
        options.executable = builds.executable();
        options.agent_options = SMALL.map(|room| format!("--map-capacity={room}")).into();
    };
    let Some(bed) = Bed::up_with("chaos", &files, small) else { return };
    let both = |pod: &str| [bed.address(pod, true), bed.address(pod, false)];
    let servers: Vec<IpAddr> = SERVERS.into_iter().flat_map(both).collect();
    for server in SERVERS {
        serve(&bed, server, &[&CONNECT[..], &[TRANSFER, LEDGER, FORBIDDEN]].concat());
    }
    serve(&bed, GOAL, &CONNECT[..1]);

    let (before, started) = (Counts::now(&bed), SystemTime::now());
    let (load, iperf) = traffic(&bed, &servers);
    let told = events::accounted(&bed, CLIENTS[0], servers[2]);
    let changed = change(&bed, &builds, updates);
    let (iperf, ledger) = (iperf.end(), load.end());
    let seconds = started.elapsed().unwrap().as_secs_f64();
    let counted = Counts::now(&bed).since(&before);

    let connects = ledger.connects.load(Relaxed);
    let rate = f64::from(u32::try_from(connects).unwrap()) / seconds;
    println!("{updates} changes in {seconds:.0} s, {changed}; events: {told}\n{rate:.0} allowed connects a second");
    println!("{ledger}\niperf3: {iperf:?} (transfers, bytes)\n{counted}");
    assert_eq!(ledger.wrong(), [""; 0], "of {connects} connects");
    let (transfers, bytes) = iperf.unwrap_or_else(|error| panic!("{error}"));
    assert!(transfers > 0 && bytes > 0 && ledger.transfers.load(Relaxed) == 10 && connects > 1_000);
    assert!(updates < 10 || changed.allowed > 0 && changed.denied > 0);
    assert!(updates < 50 || counted.grown() >= 2 * NODES.len(), "maps hardly grew");
    judge(&counted, &ledger, &changed);
    bed.down();
}

/// Everything that goes on all the time.
fn traffic(bed: &Bed, servers: &[IpAddr]) -> (Load, Transfers) {
    let (mut load, mut iperf) = (Load::new(), Transfers::new());
    for (client, server) in CLIENTS.into_iter().zip(SERVERS.into_iter().rev()) {
        // Half of it stays on its node.
        for _ in 0..2 {
            load.connects(bed, client, each(servers, &CONNECT), PER_SECOND);
        }
        for address in servers {
            load.transfer(bed, client, (*address, TRANSFER).into(), STEADY);
        }
        load.transfer(bed, client, (servers[0], TRANSFER).into(), RARE);
        load.forbidden(bed, client, each(servers, &[FORBIDDEN]));
        iperf.start(bed, client, server);
    }
    load.forbidden(bed, STRANGER, each(servers, &[CONNECT[0], TRANSFER, FORBIDDEN]));
    (load, iperf)
}

/// What was done.
#[derive(Default)]
struct Changed {
    kills: u32,
    replaced: u32,
    /// How often the prober got through, and how often it did not, as it should.
    allowed: u64,
    denied: u64,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, replaced, allowed, denied } = self;
        write!(
            f,
            "{kills} kills, {replaced} agents replaced by another build; the prober: {allowed} times allowed, {denied} times denied"
        )
    }
}

/// Changes policies and agents.
fn change(bed: &Bed, builds: &Builds, updates: u32) -> Changed {
    let mut changed = Changed::default();
    let goal = (bed.address(GOAL, true), CONNECT[0]).into();
    for number in 0..updates {
        let node = NODES[usize::try_from(number / KILLS % 2).unwrap()];
        let at_rest = (number % KILLS == KILLS / 2).then(|| agents::crash(bed, node));
        let permission = update(bed, number);
        let amid = (number % KILLS == 0).then(|| agents::crash(bed, node));
        for pid in at_rest.into_iter().chain(amid) {
            agents::back(bed, node, pid);
            changed.kills += 1;
        }
        // A third in: another binary. Two thirds in: the old one again.
        for (at, build) in [(updates / 3, "new"), (updates * 2 / 3, "old")] {
            if number == at {
                builds.install(build);
                for node in NODES {
                    let pid = agents::crash(bed, node);
                    assert_eq!(agents::back(bed, node, pid), build);
                    changed.replaced += 1;
                }
            }
        }
        for node in NODES {
            bed.lab.agent(node).wait().unwrap_or_else(|error| panic!("change {number}, {node}: {error}"));
        }
        if let Some(permission) = permission {
            *if permission { &mut changed.allowed } else { &mut changed.denied } += 1;
            assert_eq!(
                reaches(bed, PROBER, goal, permission),
                permission,
                "change {number}: whether the prober reaches its goal"
            );
        }
    }
    changed
}

/// Denied at the servers' door: what nothing allows; on the prober's way out: what was asked while it was denied. An opening that
/// was sent again is a packet more, whoever sent it. All else that was dropped was allowed.
fn judge(counted: &Differences, ledger: &Ledger, changed: &Changed) {
    let mut unexpected = counted.dropped.clone();
    let mut denied = |program: &str| -> u64 {
        let reasons = ["POLICY_DENIED", "POLICY_DENY"].iter();
        reasons.filter_map(|reason| unexpected.remove(&format!("{program} {reason}"))).sum()
    };
    let (at_servers, on_the_way_out) = (denied("to_pod"), denied("from_pod"));
    let (refused, again) = (ledger.refused.load(Relaxed), counted.openings_again());
    assert!(
        at_servers > 0 && at_servers <= refused + again,
        "{at_servers} packets to servers were denied; forbidden were {refused}, and at most {again} of them were sent again"
    );
    assert!(
        on_the_way_out <= changed.denied + again,
        "{on_the_way_out} packets were denied on their way out; forbidden were {}",
        changed.denied
    );
    assert!(unexpected.is_empty(), "dropped for no reason of the test: {unexpected:?}");
}
