//! What a packet costs, by `BPF_PROG_TEST_RUN` in a testbed: the programs alone, without the network stack around them.

use std::{collections::BTreeMap, io, net::IpAddr, path::Path};

use ipnet::IpNet;
use strait_base::IdentityId;
use strait_model::{
    Direction, EndpointPlan, IpcacheEntry, IpcacheKind, NodePlan, OriginId, PodKey, PolicyEntry, PolicyKey, PortEntry,
    PortKey, PortSet, PortSetId, PortVerdict,
};
use strait_packet::{
    abi::{Hook, action},
    host::{Wire, tcp_flags},
};

use crate::{
    Attachment, Bpf, Datapath, EventReader, Options, PIN_ROOT,
    bpf::{self, PinError, remove_pins},
    kernel::{AttachError, Kernel as _, MapError},
    netns,
    reconcile::ApplyError,
    table::Conntrack,
    testbed::{self, Testbed},
};

const SERVER: IdentityId = IdentityId(300);
const CLIENT: IdentityId = IdentityId(301);
const FIRST_PEER: u32 = 1_000;
const PORT: u16 = 80;
/// The port of the connection that is established; those of new ones follow, then those of others.
const FIRST_PORT: u16 = 10_000;
const OTHERS_FROM: u16 = 30_000;
/// Events that the ring holds with room to spare: a full one would make new connections look cheap.
const EVENTS_KEPT: usize = 1_000;

/// The way of a packet, from a program's view.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// From a pod to one elsewhere, through the host's stack.
    Out,
    /// To a pod from one elsewhere, out of the host's stack.
    In,
    /// From a pod to one beside it: by the shortcut once established.
    Beside,
    /// From elsewhere, at the uplink: by the shortcut once established.
    Arriving,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Out, Self::In, Self::Beside, Self::Arriving];

    /// The program that is measured.
    pub const fn hook(self) -> Hook {
        match self {
            Self::Out | Self::Beside => Hook::FromPod,
            Self::In => Hook::ToPod,
            Self::Arriving => Hook::FromUplink,
        }
    }

    /// Whether packets of an established connection go past the host's stack. They are changed on the way, so that the kernel
    /// cannot run one many times in a row.
    pub const fn is_short(self) -> bool {
        matches!(self, Self::Beside | Self::Arriving)
    }

    /// Whether a packet that opens a connection is judged here: at the uplink it is left to the pod's hook.
    pub const fn opens(self) -> bool {
        !matches!(self, Self::Arriving)
    }
}

/// How much the maps hold besides what the packet needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Load {
    /// Identities that the ipcache knows and that the policy of either pod allows, an entry each.
    pub peers: u16,
    /// Connections of others; at most 35,536.
    pub connections: u16,
}

/// What a packet costs at one program.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// Which way it goes.
    pub way: Way,
    /// Whether of IPv6.
    pub ipv6: bool,
    /// With maps how full.
    pub load: Load,
    /// Nanoseconds for a packet of an established TCP connection, mean of many in a row (on a [short way](Way::is_short) as for
    /// new flows), least of all rounds.
    pub established_ns: f64,
    /// Nanoseconds for the first packet of a TCP connection that policy allows: conntrack miss, ipcache, policy, port set, insertion,
    /// event. Median of single runs, without what a single run of an established packet takes longer than one in a row; least
    /// of all rounds. Zero where that is not [judged](Way::opens).
    pub new_flow_ns: f64,
    /// The same while the reader of events has read all there is, so that every new connection wakes it.
    pub waking_flow_ns: f64,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Times each load takes its turn.
    pub rounds: u16,
    /// Packets of an established connection in a row.
    pub repeat: u32,
    /// New connections a round; at most 19,999.
    pub flows: u16,
}

/// The cost cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No testbed.
    #[error(transparent)]
    Testbed(#[from] testbed::Error),
    /// No namespace.
    #[error(transparent)]
    Netns(#[from] netns::Error),
    /// No datapath.
    #[error(transparent)]
    Open(#[from] bpf::Error),
    /// Programs that do not attach.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A plan that does not apply.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A map that cannot be read.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Pins that cannot be removed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The kernel would not run a program.
    #[error("BPF_PROG_TEST_RUN: {0}")]
    Run(#[from] io::Error),
    /// What should pass was dropped, or took another way than what is measured.
    #[error("a packet that policy allows got {returned} from {hook:?}, expected is {expected}")]
    Wrong {
        /// Where.
        hook: Hook,
        /// What the program returned.
        returned: i32,
        /// What it should.
        expected: i32,
    },
}

/// Measures every way, IPv4 and IPv6, under every load; the loads in turns, so that a busy moment hits all. Needs root; leaves
/// nothing behind.
pub fn test_run_cost(loads: &[Load], effort: Effort) -> Result<Vec<Cost>, Error> {
    let mut beds = Vec::new();
    let costs = loads
        .iter()
        .enumerate()
        .try_for_each(|(number, load)| {
            beds.push(Bed::new(number, *load)?);
            Ok(())
        })
        .and_then(|()| measure(&mut beds, effort));
    for bed in &beds {
        remove_pins(Path::new(PIN_ROOT), &bed.instance)?;
    }
    costs
}

fn measure(beds: &mut [Bed], effort: Effort) -> Result<Vec<Cost>, Error> {
    let mut costs = Vec::new();
    for ipv6 in [false, true] {
        for way in Way::ALL {
            let mut best: Vec<Option<Cost>> = vec![None; beds.len()];
            for _ in 0..effort.rounds.max(1) {
                for (bed, best) in beds.iter_mut().zip(&mut best) {
                    let cost = bed.cost(way, ipv6, effort)?;
                    *best = Some(best.map_or(cost, |best| Cost {
                        established_ns: best.established_ns.min(cost.established_ns),
                        new_flow_ns: best.new_flow_ns.min(cost.new_flow_ns),
                        waking_flow_ns: best.waking_flow_ns.min(cost.waking_flow_ns),
                        ..cost
                    }));
                }
            }
            costs.extend(best.into_iter().flatten());
        }
    }
    Ok(costs)
}

/// Two pods under one load.
struct Bed {
    pods: Testbed,
    instance: String,
    load: Load,
    datapath: Datapath<Bpf>,
    events: EventReader,
}

impl Bed {
    fn new(number: usize, load: Load) -> Result<Self, Error> {
        let bed = Testbed::new(2)?;
        let instance = format!("cost-{}-{number}", std::process::id());
        let (datapath, events) = bed.router.run(|| open(&bed, &instance, load))??;
        Ok(Self { pods: bed, instance, load, datapath, events })
    }

    fn cost(&mut self, way: Way, ipv6: bool, effort: Effort) -> Result<Cost, Error> {
        let Self { pods: bed, load, datapath, events, .. } = self;
        let load = *load;
        bed.router.run(|| {
            let flows = effort.flows.clamp(1, OTHERS_FROM - FIRST_PORT - 1);
            let traffic = Traffic::new(way, bed, ipv6);
            traffic.fill(datapath, events, load.connections)?;
            let in_a_row = Traffic::new(if way.is_short() { Way::In } else { way }, bed, ipv6);
            in_a_row.establish(datapath)?;
            let mut established_ns = in_a_row.packets(datapath, effort.repeat.max(1))?;
            let overhead = (in_a_row.single_packets(datapath, flows)? - established_ns).max(0.0);
            if way.is_short() {
                traffic.establish(datapath)?;
                established_ns = (traffic.single_packets(datapath, flows)? - overhead).max(0.0);
            }
            let mut cost = Cost { way, ipv6, load, established_ns, new_flow_ns: 0.0, waking_flow_ns: 0.0 };
            if way.opens() {
                let mut new = |events_kept| traffic.new_flow(datapath, events, flows, overhead, events_kept);
                cost.new_flow_ns = new(EVENTS_KEPT)?;
                cost.waking_flow_ns = new(1)?;
            }
            forget(datapath, events)?;
            Ok(cost)
        })?
    }
}

fn open(bed: &Testbed, instance: &str, load: Load) -> Result<(Datapath<Bpf>, EventReader), Error> {
    let mut datapath = Datapath::open(&Options::new(instance))?;
    let events = datapath.events()?;
    let mut attachments = Vec::new();
    for (pod, name) in bed.pods.iter().zip(["client", "server"]) {
        datapath.attach_pod(&pod.interface)?;
        attachments.push(Attachment { pod: PodKey::new("default", name), ifindex: pod.interface.index, mac: pod.mac });
    }
    datapath.apply(&plan(bed, load.peers), &attachments)?;
    Ok((datapath, events))
}

/// A pod elsewhere; the first of the peers.
fn elsewhere(ipv6: bool) -> IpAddr {
    peer_addresses(0)[usize::from(ipv6)]
}

fn peer_addresses(number: u16) -> [IpAddr; 2] {
    let [high, low] = number.to_be_bytes();
    [IpAddr::from([10, 1, high, low]), IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, number])]
}

/// TCP connections one way.
struct Traffic {
    way: Way,
    /// Index of the interface that the measured program sees, and those of the pods at both ends; elsewhere it is the same.
    ifindex: u32,
    ends: [u32; 2],
    wire: Wire,
    back: Wire,
}

impl Traffic {
    fn new(way: Way, bed: &Testbed, ipv6: bool) -> Self {
        let (client, server) = (&bed.pods[0], &bed.pods[1]);
        let address = |pod: &testbed::Pod| if ipv6 { pod.v6 } else { pod.v4 };
        let beyond = [2, 0, 0, 0, 3, 1];
        let (client_at, server_at) = (client.interface.index, server.interface.index);
        let (wire, back, ends) = match way {
            Way::Out => (
                Wire::new(client.mac, client.router_mac, address(client), elsewhere(ipv6)),
                Wire::new(client.router_mac, client.mac, elsewhere(ipv6), address(client)),
                [client_at, client_at],
            ),
            Way::In => (
                Wire::new(server.router_mac, server.mac, elsewhere(ipv6), address(server)),
                Wire::new(server.mac, server.router_mac, address(server), elsewhere(ipv6)),
                [server_at, server_at],
            ),
            Way::Beside => (
                Wire::new(client.mac, client.router_mac, address(client), address(server)),
                Wire::new(server.mac, server.router_mac, address(server), address(client)),
                [client_at, server_at],
            ),
            // The client's link stands in for the uplink: the program asks nothing of it but its hardware address.
            Way::Arriving => (
                Wire::new(beyond, client.router_mac, elsewhere(ipv6), address(server)),
                Wire::new(server.mac, server.router_mac, address(server), elsewhere(ipv6)),
                [server_at, server_at],
            ),
        };
        let ifindex = if matches!(way, Way::In) { server_at } else { client_at };
        Self { way, ifindex, ends, wire, back }
    }

    /// Connections of others between the two ends.
    fn fill(&self, datapath: &Datapath<Bpf>, events: &mut EventReader, connections: u16) -> Result<(), Error> {
        let (hook, ifindex) = self.opener();
        for port in (OTHERS_FROM..=u16::MAX).take(connections.into()) {
            run(datapath, hook, &self.wire.tcp(port, PORT, tcp_flags::SYN), ifindex, 1, action::PASS)?;
        }
        while events.next().is_some() {}
        Ok(())
    }

    /// Where the first packet of a connection is judged.
    fn opener(&self) -> (Hook, u32) {
        match self.way {
            Way::Out | Way::Beside => (Hook::FromPod, self.ends[0]),
            Way::In | Way::Arriving => (Hook::ToPod, self.ends[1]),
        }
    }

    /// Establishes a connection at all hooks that judge it.
    fn establish(&self, datapath: &Datapath<Bpf>) -> Result<(), Error> {
        let [from, to] = self.ends;
        let syn = self.wire.tcp(FIRST_PORT, PORT, tcp_flags::SYN);
        let answer = self.back.tcp(PORT, FIRST_PORT, tcp_flags::SYN | tcp_flags::ACK);
        match self.way {
            Way::Out => {
                run(datapath, Hook::FromPod, &syn, from, 1, action::PASS)?;
                run(datapath, Hook::ToPod, &answer, from, 1, action::PASS)?;
            }
            Way::In | Way::Arriving => {
                run(datapath, Hook::ToPod, &syn, to, 1, action::PASS)?;
                run(datapath, Hook::FromPod, &answer, to, 1, action::PASS)?;
            }
            Way::Beside => {
                run(datapath, Hook::FromPod, &syn, from, 1, action::PASS)?;
                run(datapath, Hook::ToPod, &syn, to, 1, action::PASS)?;
                run(datapath, Hook::FromPod, &answer, to, 1, action::REDIRECT)?;
            }
        }
        self.packets(datapath, 1).map(drop)
    }

    /// Has `repeat` packets of the connection judged.
    fn packets(&self, datapath: &Datapath<Bpf>, repeat: u32) -> Result<f64, Error> {
        let packet = self.wire.tcp(FIRST_PORT, PORT, tcp_flags::ACK | tcp_flags::PSH);
        let expected = if self.way.is_short() { action::REDIRECT } else { action::PASS };
        run(datapath, self.way.hook(), &packet, self.ifindex, repeat, expected)
    }

    /// Median of runs with one packet of the connection each.
    fn single_packets(&self, datapath: &Datapath<Bpf>, runs: u16) -> Result<f64, Error> {
        let single: Result<Vec<f64>, Error> = (0..runs).map(|_| self.packets(datapath, 1)).collect();
        Ok(median(single?))
    }

    fn new_flow(
        &self,
        datapath: &mut Datapath<Bpf>,
        events: &mut EventReader,
        flows: u16,
        overhead: f64,
        events_kept: usize,
    ) -> Result<f64, Error> {
        let mut runs = Vec::new();
        for number in 1..=flows {
            let opening = self.wire.tcp(FIRST_PORT + number, PORT, tcp_flags::SYN);
            runs.push(run(datapath, self.way.hook(), &opening, self.ifindex, 1, action::PASS)?);
            if runs.len().is_multiple_of(events_kept) {
                while events.next().is_some() {}
            }
        }
        for key in datapath.kernel.entries::<Conntrack>()?.into_keys() {
            let ports = [key.local_port.get(), key.remote_port.get()];
            if ports.iter().any(|port| (FIRST_PORT + 1..=FIRST_PORT + flows).contains(port)) {
                datapath.kernel.delete::<Conntrack>(&key)?;
            }
        }
        Ok((median(runs) - overhead).max(0.0))
    }
}

/// Ends every connection.
fn forget(datapath: &mut Datapath<Bpf>, events: &mut EventReader) -> Result<(), Error> {
    for key in datapath.kernel.entries::<Conntrack>()?.into_keys() {
        datapath.kernel.delete::<Conntrack>(&key)?;
    }
    while events.next().is_some() {}
    Ok(())
}

/// Nanoseconds a run.
fn run(
    datapath: &Datapath<Bpf>,
    hook: Hook,
    frame: &[u8],
    ifindex: u32,
    repeat: u32,
    expected: i32,
) -> Result<f64, Error> {
    let (returned, duration) = datapath.kernel.test_run(hook, frame, ifindex, repeat)?;
    if returned == expected { Ok(duration.as_secs_f64() * 1e9) } else { Err(Error::Wrong { hook, returned, expected }) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Both pods are isolated both ways and take port 80 and some ranges from each other and from `peers` identities elsewhere.
fn plan(bed: &Testbed, peers: u16) -> NodePlan {
    let mut plan = NodePlan::default();
    let entries = [(80, 16), (443, 16), (8000, 12), (9090, 16), (53, 16)].map(|(port, prefix_len)| {
        (
            PortKey { protocol: Some(6), port: port & (u16::MAX << (16 - prefix_len)), prefix_len },
            PortEntry { verdict: PortVerdict::Allow, origin: OriginId(2), precedence: 0 },
        )
    });
    plan.port_sets.insert(PortSetId(1), PortSet { entries: BTreeMap::from(entries) });
    let mut allowed = vec![CLIENT, SERVER];
    for number in 0..peers.max(1) {
        let identity = IdentityId(FIRST_PEER + u32::from(number));
        for address in peer_addresses(number) {
            ipcache(&mut plan, address.into(), identity, IpcacheKind::RemotePod);
        }
        allowed.push(identity);
    }
    for (pod, (name, subject)) in bed.pods.iter().zip([("client", CLIENT), ("server", SERVER)]) {
        let addresses = vec![pod.v4, pod.v6];
        for address in &addresses {
            ipcache(&mut plan, (*address).into(), subject, IpcacheKind::LocalPod);
        }
        plan.endpoints.insert(PodKey::new("default", name), EndpointPlan { identity: subject, addresses });
        for direction in [Direction::Ingress, Direction::Egress] {
            let any = PolicyKey { subject, direction, peer: IdentityId::UNKNOWN };
            plan.policy.insert(any, PolicyEntry { port_set: PortSetId::EMPTY, default_origin: OriginId(1) });
            for peer in &allowed {
                let key = PolicyKey { subject, direction, peer: *peer };
                plan.policy.insert(key, PolicyEntry { port_set: PortSetId(1), default_origin: OriginId(1) });
            }
        }
    }
    plan
}

fn ipcache(plan: &mut NodePlan, prefix: IpNet, identity: IdentityId, kind: IpcacheKind) {
    plan.ipcache.insert(prefix, IpcacheEntry { identity, kind, node: None });
}
