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
    testbed::{self, Pod, Testbed},
};

/// Identities that the ipcache and the policy know besides the two pods', as in a cluster of some size.
const PEERS: u16 = 1_000;
const SERVER: IdentityId = IdentityId(300);
const CLIENT: IdentityId = IdentityId(301);
const FIRST_PEER: u32 = 1_000;
const PORT: u16 = 80;

/// What a packet costs at one hook.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// The program.
    pub hook: Hook,
    /// Whether of IPv6.
    pub ipv6: bool,
    /// Nanoseconds for a packet of an established TCP connection, mean of many in a row.
    pub established_ns: f64,
    /// Nanoseconds for the first packet of a TCP connection that policy allows: conntrack miss, ipcache, policy, port set, insertion,
    /// event. Median of single runs, without what a single run of an established packet takes longer than one in a row.
    pub new_flow_ns: f64,
    /// The same while the reader of events has read all there is, so that every new connection wakes it.
    pub waking_flow_ns: f64,
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
    /// What should pass was dropped, so nothing was measured.
    #[error("a packet that policy allows was dropped at {0:?}")]
    Dropped(Hook),
}

/// Measures every hook of a pod, IPv4 and IPv6: `repeat` packets of an established connection, `flows` new ones (at most 50,000).
/// Needs root; leaves nothing behind.
pub fn test_run_cost(repeat: u32, flows: u16) -> Result<Vec<Cost>, Error> {
    let bed = Testbed::new(2)?;
    let instance = format!("cost-{}", std::process::id());
    let costs = bed.router.run(|| measure(&bed, &instance, repeat.max(1), flows.clamp(1, 50_000)))?;
    remove_pins(Path::new(PIN_ROOT), &instance)?;
    costs
}

fn measure(bed: &Testbed, instance: &str, repeat: u32, flows: u16) -> Result<Vec<Cost>, Error> {
    let mut datapath = Datapath::open(&Options::new(instance))?;
    let mut events = datapath.events()?;
    let mut attachments = Vec::new();
    for (pod, name) in bed.pods.iter().zip(["client", "server"]) {
        datapath.attach_pod(&pod.interface)?;
        attachments.push(Attachment { pod: PodKey::new("default", name), ifindex: pod.interface.index, mac: pod.mac });
    }
    let [client, server] = &bed.pods[..] else { return Ok(Vec::new()) };
    datapath.apply(&plan(client, server), &attachments)?;
    let mut costs = Vec::new();
    for ipv6 in [false, true] {
        for hook in [Hook::FromPod, Hook::ToPod] {
            let traffic = Traffic::new(hook, client, server, ipv6);
            costs.push(traffic.cost(&mut datapath, &mut events, repeat, flows)?);
        }
    }
    Ok(costs)
}

/// One direction of TCP connections between the two pods, as one of them sees it.
struct Traffic {
    hook: Hook,
    ipv6: bool,
    ifindex: u32,
    wire: Wire,
    back: Wire,
}

impl Traffic {
    fn new(hook: Hook, client: &Pod, server: &Pod, ipv6: bool) -> Self {
        let address = |pod: &Pod| if ipv6 { pod.v6 } else { pod.v4 };
        let wire = Wire::new(client.mac, server.mac, address(client), address(server));
        let back = Wire::new(server.mac, client.mac, address(server), address(client));
        let seen_at = if matches!(hook, Hook::FromPod) { client } else { server };
        Self { hook, ipv6, ifindex: seen_at.interface.index, wire, back }
    }

    fn cost(
        &self,
        datapath: &mut Datapath<Bpf>,
        events: &mut EventReader,
        repeat: u32,
        flows: u16,
    ) -> Result<Cost, Error> {
        const FIRST_PORT: u16 = 10_000;
        let established = self.wire.tcp(FIRST_PORT, PORT, tcp_flags::ACK | tcp_flags::PSH);
        let opposite = if matches!(self.hook, Hook::FromPod) { Hook::ToPod } else { Hook::FromPod };
        self.run(datapath, self.hook, &self.wire.tcp(FIRST_PORT, PORT, tcp_flags::SYN), 1)?;
        self.run(datapath, opposite, &self.back.tcp(PORT, FIRST_PORT, tcp_flags::SYN | tcp_flags::ACK), 1)?;
        self.run(datapath, self.hook, &established, 1_000)?;
        let established_ns = self.run(datapath, self.hook, &established, repeat)?;

        let mut single = Vec::new();
        for _ in 0..flows {
            single.push(self.run(datapath, self.hook, &established, 1)?);
        }
        let overhead = (median(single) - established_ns).max(0.0);
        let mut new = |datapath: &mut Datapath<Bpf>, events_kept: usize| -> Result<f64, Error> {
            let mut runs = Vec::new();
            for port in 0..flows {
                let opening = self.wire.tcp(FIRST_PORT + 1 + port, PORT, tcp_flags::SYN);
                runs.push(self.run(datapath, self.hook, &opening, 1)?);
                if runs.len().is_multiple_of(events_kept) {
                    while events.next().is_some() {}
                }
            }
            for key in datapath.kernel.entries::<Conntrack>()?.into_keys() {
                datapath.kernel.delete::<Conntrack>(&key)?;
            }
            Ok((median(runs) - overhead).max(0.0))
        };
        // Less than the ring holds: a full ring would make new connections look cheap.
        let new_flow_ns = new(datapath, 1_000)?;
        let waking_flow_ns = new(datapath, 1)?;
        Ok(Cost { hook: self.hook, ipv6: self.ipv6, established_ns, new_flow_ns, waking_flow_ns })
    }

    /// Nanoseconds a run.
    fn run(&self, datapath: &Datapath<Bpf>, hook: Hook, frame: &[u8], repeat: u32) -> Result<f64, Error> {
        let (returned, duration) = datapath.kernel.test_run(hook, frame, self.ifindex, repeat)?;
        if matches!(returned, action::PASS | action::REDIRECT) {
            Ok(duration.as_secs_f64() * 1e9)
        } else {
            Err(Error::Dropped(hook))
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Both pods are isolated both ways and take port 80 and some ranges from a thousand identities, one of them the other pod.
fn plan(client: &Pod, server: &Pod) -> NodePlan {
    let mut plan = NodePlan::default();
    let entries = [(80, 16), (443, 16), (8000, 12), (9090, 16), (53, 16)].map(|(port, prefix_len)| {
        (
            PortKey { protocol: Some(6), port: port & (u16::MAX << (16 - prefix_len)), prefix_len },
            PortEntry { verdict: PortVerdict::Allow, origin: OriginId(2), precedence: 0 },
        )
    });
    plan.port_sets.insert(PortSetId(1), PortSet { entries: BTreeMap::from(entries) });
    let mut peers = vec![CLIENT, SERVER];
    for number in 0..PEERS {
        let identity = IdentityId(FIRST_PEER + u32::from(number));
        let [high, low] = number.to_be_bytes();
        for address in [IpAddr::from([10, 1, high, low]), IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, number])] {
            ipcache(&mut plan, address.into(), identity, IpcacheKind::RemotePod);
        }
        peers.push(identity);
    }
    for (pod, name, subject) in [(client, "client", CLIENT), (server, "server", SERVER)] {
        let addresses = vec![pod.v4, pod.v6];
        for address in &addresses {
            ipcache(&mut plan, (*address).into(), subject, IpcacheKind::LocalPod);
        }
        plan.endpoints.insert(PodKey::new("default", name), EndpointPlan { identity: subject, addresses });
        for direction in [Direction::Ingress, Direction::Egress] {
            let any = PolicyKey { subject, direction, peer: IdentityId::UNKNOWN };
            plan.policy.insert(any, PolicyEntry { port_set: PortSetId::EMPTY, default_origin: OriginId(1) });
            for peer in &peers {
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
