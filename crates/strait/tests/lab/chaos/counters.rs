//! What kernels count: the network stack of a pod, and the programs of all agents.

use std::{collections::BTreeMap, fmt, fs, ops::Sub};

use super::{CLIENTS, PROBER, STRANGER, load::network};
use crate::bed::Bed;

const SENDERS: [&str; 4] = [CLIENTS[0], CLIENTS[1], STRANGER, PROBER];

/// Packets that a pod's network stack had to send again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    /// Openings of connections.
    openings_again: u64,
    /// All segments.
    again: u64,
}

impl Network {
    pub(super) fn of_this_thread() -> Self {
        let counters: BTreeMap<_, _> = ["netstat", "snmp"].into_iter().flat_map(read).collect();
        Self { openings_again: counters["TcpExt:TCPSynRetrans"], again: counters["Tcp:RetransSegs"] }
    }
}

impl Sub for Network {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { openings_again: self.openings_again - before.openings_again, again: self.again - before.again }
    }
}

/// `/proc/net/{netstat,snmp}`: a line of names, then a line of numbers, both after `Kind:`.
fn read(file: &str) -> Vec<(String, u64)> {
    let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let pairs = lines
        .as_chunks()
        .0
        .iter()
        .flat_map(|[names, values]| names.iter().zip(values).skip(1).zip([names[0]].repeat(999)));
    pairs.map(|((name, value), kind)| (format!("{kind}{name}"), value.parse().unwrap_or_default())).collect()
}

/// Packets that this machine had no room for, in queues that all of it shares.
fn crowded_out() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").unwrap();
    let dropped = |line: &str| line.split_whitespace().nth(1).and_then(|count| u64::from_str_radix(count, 16).ok());
    text.lines().filter_map(dropped).sum()
}

/// What all kernels counted so far.
pub(super) struct Counts {
    networks: BTreeMap<&'static str, Network>,
    crowded_out: u64,
    /// By program and reason.
    dropped: BTreeMap<String, u64>,
    events_lost: u64,
    /// What fits, by node and map.
    capacities: BTreeMap<String, u64>,
}

impl Counts {
    pub(super) fn now(bed: &Bed) -> Self {
        let networks = SENDERS.into_iter().map(|pod| (pod, network(bed, pod))).collect();
        let (mut dropped, mut events_lost, mut capacities) = (BTreeMap::new(), 0, BTreeMap::new());
        for node in bed.lab.agents().keys() {
            let status = bed.lab.agent(node).status().unwrap();
            events_lost += status.lost_events;
            capacities.extend(status.maps.iter().map(|map| (format!("{} on {node}", map.name), map.capacity)));
            for count in status.packets {
                if let Some(reason) = count.drop_reason {
                    *dropped.entry(format!("{} {reason}", count.hook)).or_default() += count.packets;
                }
            }
        }
        Self { networks, crowded_out: crowded_out(), dropped, events_lost, capacities }
    }

    pub(super) fn since(&self, before: &Self) -> Differences {
        // Neighbours chatter by themselves, and nothing depends on it.
        let chatter = ["IGMP_HANDLED", "MULTICAST_HANDLED"];
        let dropped = self
            .dropped
            .iter()
            .map(|(what, count)| (what.clone(), count - before.dropped.get(what).copied().unwrap_or_default()));
        Differences {
            dropped: dropped
                .filter(|(what, count)| *count > 0 && !chatter.iter().any(|name| what.ends_with(name)))
                .collect(),
            networks: self.networks.iter().map(|(pod, network)| (*pod, *network - before.networks[pod])).collect(),
            crowded_out: self.crowded_out - before.crowded_out,
            events_lost: self.events_lost - before.events_lost,
            grown: self
                .capacities
                .iter()
                .map(|(map, now)| (map.clone(), before.capacities[map], *now))
                .filter(|(_, before, now)| now > before)
                .collect(),
        }
    }
}

/// What they counted in between.
pub(super) struct Differences {
    pub(super) dropped: BTreeMap<String, u64>,
    networks: BTreeMap<&'static str, Network>,
    crowded_out: u64,
    events_lost: u64,
    /// Maps that have become larger: from, to.
    grown: Vec<(String, u64, u64)>,
}

impl Differences {
    /// How many maps have grown.
    pub(super) fn grown(&self) -> usize {
        self.grown.len()
    }

    /// Openings of connections that somebody had to send again.
    pub(super) fn openings_again(&self) -> u64 {
        self.networks.values().map(|network| network.openings_again).sum()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "dropped by the programs: {:?}; events lost and counted: {}", self.dropped, self.events_lost)?;
        writeln!(f, "maps that grew (from, to): {:?}", self.grown)?;
        for (pod, network) in &self.networks {
            writeln!(f, "sent again by {pod}: {} openings, {} segments", network.openings_again, network.again)?;
        }
        write!(f, "packets without room in queues that the whole machine shares: {}", self.crowded_out)
    }
}
