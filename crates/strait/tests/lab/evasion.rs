//! Ways around a policy, tried with packet sockets from pods and from outside: a corpus of attempts, each packet of which must
//! end as the corpus says, with the reason counted, and with nothing of it heard at anyone's end. Packets that policy permits are
//! part of each attempt, so that a harness that hears nothing fails.

mod corpus;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    time::Duration,
};

use strait_agent::api::FlowsRequest;
use strait_lab::{
    Lab, Place, PodName,
    topology::{PodPlace, uplink_mac},
};
use strait_packet::{
    abi::{DropReason, Hook},
    host::Wire,
};

use self::{
    corpus::{Attempt, From},
    wire::{Raw, is_stamped, stamp},
};
use crate::bed::{Bed, place};

/// Looks for a packet or a count before it counts as never coming: a few seconds.
const LOOKS: u32 = 400;

const CLUSTER: &str = "\
kind: Pod
apiVersion: v1
metadata: {name: red, labels: {team: red}}
spec: {nodeName: node-1, containers: [{name: c}]}
---
kind: Pod
apiVersion: v1
metadata: {name: mute, labels: {team: mute}}
spec: {nodeName: node-1, containers: [{name: c}]}
---
kind: Pod
apiVersion: v1
metadata: {name: blue, labels: {team: blue}}
spec: {nodeName: node-1, containers: [{name: c}]}
---
kind: Pod
apiVersion: v1
metadata: {name: near, labels: {team: victim}}
spec: {nodeName: node-1, containers: [{name: c}]}
---
kind: Pod
apiVersion: v1
metadata: {name: far, labels: {team: victim}}
spec: {nodeName: node-2, containers: [{name: c}]}
";

/// Whoever attacks may speak to TCP 80 and UDP 9, blue to all ports and protocols; mute may not speak to others either.
const POLICIES: &str = "\
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: victim}
spec:
  podSelector: {matchLabels: {team: victim}}
  ingress:
  - from:
    - podSelector: {matchExpressions: [{key: team, operator: In, values: [red, mute]}]}
    - ipBlock: {cidr: 203.0.113.0/24}
    - ipBlock: {cidr: '2001:db8:113::/64'}
    ports: [{port: 80}, {port: 9, protocol: UDP}]
  - from: [{podSelector: {matchLabels: {team: blue}}}]
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: mute}
spec:
  podSelector: {matchLabels: {team: mute}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {team: victim}}}], ports: [{port: 9, protocol: UDP}]}]
";

/// What must become of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It arrives: policy permits it.
    Arrives,
    /// A hook drops it and counts why.
    Dropped(Hook, DropReason),
    /// It arrives nowhere: it is for the node, or the node's own stack has no use for it.
    Ends,
}

/// Frames of which each must end alike.
struct Step {
    frames: Vec<Vec<u8>>,
    fate: Fate,
}

/// Who is where, for one attempt.
struct Case {
    v6: bool,
    /// Number of the attempt, carried by its packets.
    mark: u16,
    /// Whether the victim is on the attacker's node.
    near: bool,
    attacker: End,
    victim: End,
    blue: End,
    outside: IpAddr,
    /// The addresses of the attacker's node and of the other.
    nodes: [IpAddr; 2],
    /// The next hop on the attacker's link.
    hop_mac: [u8; 6],
}

struct End {
    ip: IpAddr,
    mac: [u8; 6],
}

impl Case {
    /// From the attacker to the victim.
    fn tx(&self) -> Wire {
        Wire::new(self.attacker.mac, self.hop_mac, self.attacker.ip, self.victim.ip)
    }

    /// What the victim would send to the attacker.
    fn rx(&self) -> Wire {
        Wire::new(self.victim.mac, self.attacker.mac, self.victim.ip, self.attacker.ip)
    }
}

/// Drop counters by node, hook and reason.
type Counts = BTreeMap<(&'static str, Hook, DropReason), u64>;

struct Field {
    bed: Bed,
    sockets: BTreeMap<&'static str, Raw>,
    /// By name and family (true for IPv6).
    addresses: BTreeMap<(&'static str, bool), IpAddr>,
}

const NODES: [&str; 2] = ["node-1", "node-2"];
const ENDS: [&str; 6] = ["red", "mute", "blue", "near", "far", "outside"];

impl Field {
    fn new(bed: Bed) -> Self {
        let mut sockets: BTreeMap<_, _> = ENDS.iter().map(|name| (*name, Raw::open(&bed.lab, &place(name)))).collect();
        // The switch may show others' frames to all its ports.
        sockets.get_mut("outside").unwrap().promiscuous = false;
        let outside = bed.lab.status().unwrap().outside;
        let mut addresses = BTreeMap::new();
        for v6 in [false, true] {
            addresses.insert(("outside", v6), *outside.iter().find(|address| address.is_ipv6() == v6).unwrap());
            for name in ENDS.into_iter().filter(|name| *name != "outside") {
                addresses.insert((name, v6), bed.address(&format!("default/{name}"), !v6));
            }
        }
        Self { bed, sockets, addresses }
    }

    fn case(&self, attempt: &Attempt, v6: bool, near: bool, mark: u16) -> Case {
        let outside = self.addresses[&("outside", v6)];
        let pod = |name: &'static str| End {
            ip: self.addresses[&(name, v6)],
            mac: PodPlace::mac(&PodName { namespace: "default".into(), name: name.into() }),
        };
        let (attacker, hop_mac) = match attempt.from {
            From::Outside => {
                let node = Place::Node(if near { "node-1" } else { "node-2" }.into());
                (End { ip: outside, mac: uplink_mac(&Place::Outside) }, uplink_mac(&node))
            }
            From::Red | From::Mute => {
                let name = attempt.from.place();
                let name_of = PodName { namespace: "default".into(), name: name.into() };
                (pod(name), PodPlace::node_mac(&name_of))
            }
        };
        let nodes = [11_u16, 12].map(|last| {
            if v6 {
                IpAddr::from([0xfd00, 0x172, 0x30, 0, 0, 0, 0, if last == 11 { 0x11 } else { 0x12 }])
            } else {
                IpAddr::from([172, 30, 0, u8::try_from(last).unwrap()])
            }
        });
        let victim = pod(if near { "near" } else { "far" });
        Case { v6, mark, near, attacker, victim, blue: pod("blue"), outside, nodes, hop_mac }
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for node in NODES {
            for count in self.bed.lab.agent(node).status().unwrap().packets {
                let mut hooks = [Hook::FromPod, Hook::ToPod, Hook::FromUplink].into_iter();
                let hook = hooks.find(|hook| hook.program() == &*count.hook);
                let reasons = DropReason::ALL.iter();
                let reason = reasons.copied().find(|reason| Some(reason.name()) == count.drop_reason.as_deref());
                if let (Some(hook), Some(reason)) = (hook, reason) {
                    counts.insert((node, hook, reason), count.packets);
                }
            }
        }
        counts
    }

    /// Tries one attempt. What went otherwise than it should, as text.
    fn attempt(&self, attempt: &Attempt, case: &Case) -> String {
        let mut wrong = String::new();
        let victim = if case.near { "near" } else { "far" };
        let sender = &self.sockets[attempt.from.place()];
        let mut arrived: BTreeMap<&str, usize> = BTreeMap::new();
        let mut due = 0;
        for (number, step) in (attempt.steps)(case).into_iter().enumerate() {
            let before = self.counts();
            let expected = step.frames.len();
            for mut frame in step.frames {
                stamp(&mut frame, case.mark);
                sender.send(&frame);
            }
            let ended = match step.fate {
                Fate::Ends => true,
                Fate::Arrives => {
                    due += expected;
                    until(|| {
                        self.listen(case.mark, &mut arrived);
                        arrived.get(victim).copied().unwrap_or(0) >= due
                    })
                }
                Fate::Dropped(hook, reason) => {
                    let by_attacker = hook == Hook::FromPod;
                    let key = (if by_attacker || case.near { NODES[0] } else { NODES[1] }, hook, reason);
                    let count = |counts: &Counts| counts.get(&key).copied().unwrap_or(0);
                    until(|| count(&self.counts()) >= count(&before) + expected as u64)
                }
            };
            if !ended {
                let other: Vec<_> = self.counts().into_iter().filter(|(key, n)| before.get(key) != Some(n)).collect();
                writeln!(wrong, "  step {number} should be {:?}; counted {other:?}", step.fate).unwrap();
            }
        }
        // What is permitted arrives behind everything else, so that whatever was to arrive has.
        let fence = [&b"fence"[..], &case.mark.to_be_bytes()].concat();
        sender.send(&{
            let mut frame = case.tx().ip(17, &[&[0xd0, 0x09, 0, 9, 0, 15, 0, 0], &fence[..]].concat());
            stamp(&mut frame, corpus::FENCE);
            frame
        });
        let heard = until(|| self.listen_for(case.mark, &mut arrived, &fence));
        if !heard {
            writeln!(wrong, "  what is permitted was not heard at its end").unwrap();
        }
        arrived.remove(attempt.from.place());
        if arrived.remove(victim).unwrap_or(0) != due || !arrived.is_empty() {
            writeln!(wrong, "  heard at {victim} other than {due} frames, and elsewhere {arrived:?}").unwrap();
        }
        wrong
    }

    /// Counts frames of an attempt where they arrive.
    fn listen(&self, mark: u16, arrived: &mut BTreeMap<&'static str, usize>) {
        self.listen_for(mark, arrived, &[0; 64]);
    }

    fn listen_for(&self, mark: u16, arrived: &mut BTreeMap<&'static str, usize>, text: &[u8]) -> bool {
        let mut heard = false;
        for (name, socket) in &self.sockets {
            for frame in socket.heard() {
                if is_stamped(&frame, mark) {
                    *arrived.entry(name).or_default() += 1;
                }
                heard |= frame.windows(text.len()).any(|bytes| bytes == text);
            }
        }
        heard
    }

    /// Whom a node believes to be where: what ARP and neighbour discovery poison.
    fn neighbours(&self) -> BTreeSet<String> {
        let lines = |node| self.bed.prints(&format!("node/{node}"), &["ip", "neigh", "show"]);
        let all: String = NODES.into_iter().map(lines).collect();
        let fixed = all.lines().filter(|line| line.contains("PERMANENT")).map(|line| line.trim().to_owned());
        fixed.collect()
    }
}

fn until(mut condition: impl FnMut() -> bool) -> bool {
    for look in 0..LOOKS {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(if look < 50 { 1 } else { 10 }));
    }
    false
}

#[test]
fn nothing_gets_past_a_policy() {
    let files = [("cluster.yaml", CLUSTER), ("policies.yaml", POLICIES)];
    let Some(bed) = Bed::up("evasion", &files) else { return };
    let field = Field::new(bed);
    let neighbours = field.neighbours();
    let (mut tried, mut mark, mut failed, mut wrong) = (0, 0, 0, String::new());
    let mut reasons = BTreeSet::new();
    let only = std::env::var("STRAIT_ATTEMPT").ok();
    let corpus = corpus::all();
    for attempt in corpus.iter().filter(|one| only.as_ref().is_none_or(|only| one.name.contains(&**only))) {
        for v6 in [false, true].into_iter().filter(|v6| attempt.family.is_none_or(|family| family == *v6)) {
            for near in [true, false].into_iter().filter(|near| *near || !attempt.on_link) {
                mark += 1;
                tried += 1;
                let case = field.case(attempt, v6, near, mark);
                for step in (attempt.steps)(&case) {
                    if let Fate::Dropped(_, reason) = step.fate {
                        reasons.insert(reason);
                    }
                }
                let text = field.attempt(attempt, &case);
                if !text.is_empty() {
                    failed += 1;
                    let family = if v6 { "IPv6" } else { "IPv4" };
                    let where_ = if near { "same node" } else { "other node" };
                    writeln!(wrong, "{} ({family}, {where_}):\n{text}", attempt.name).unwrap();
                    // Each waits for what does not come: enough to see what is wrong.
                    assert!(failed < 10, "{wrong}and maybe more");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(field.neighbours(), neighbours, "someone is believed to be elsewhere");
    let told = told(&field.bed.lab);
    let untold: Vec<_> = reasons.iter().filter(|reason| !reason.is_quiet() && !told.contains(reason.name())).collect();
    assert!(untold.is_empty(), "no flow record tells of {untold:?}");
    eprintln!("{} attempts, tried {tried} ways, {} reasons", corpus.len(), reasons.len());
    assert!(only.is_some() || corpus.len() >= 150 && tried >= 400, "{} attempts, {tried} ways", corpus.len());
    field.bed.down();
}

/// The reasons that flow records tell.
fn told(lab: &Lab) -> BTreeSet<String> {
    let flows = |node| lab.agent(node).flows(FlowsRequest::default()).unwrap();
    let records =
        NODES.iter().flat_map(|node| flows(node).map(|record| serde_json::to_value(record.unwrap()).unwrap()));
    records
        .filter_map(|record| record.pointer("/flow/drop_reason_desc").and_then(|name| name.as_str()).map(str::to_owned))
        .collect()
}
