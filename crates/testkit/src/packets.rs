//! A node's plan on trial by packets: loaded into the tables that programs read, and asked with frames as pods and uplinks send them.
//!
//! The tables and what walks them are a [`Machine`]'s: [`Host`] is `packet` over tables in memory, the tests of `datapath` have the programs
//! in the kernel. Both are asked by the same frames.

use std::net::IpAddr;

use strait_base::Protocol;
use strait_datapath::{Attachment, Datapath, Fake};
use strait_model::{Direction, NodePlan, OriginId, PodKey};
use strait_packet::{
    abi::{Config, DropReason, Event, EventKind, Hook, event_flags},
    hooks::Verdict,
    host::{MemoryMaps, Wire, tcp_flags},
};

use crate::{Traffic, plan::Subject};

/// Where what is no pod of the node comes in.
const UPLINK: u32 = 1;
/// Who delivers to pods, and to the uplink.
const ROUTER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];
/// The node's own, at the uplink.
const NODE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfd];
/// Openings come from here on, each from the next: no connection is a part of an earlier one.
const FIRST_PORT: u16 = 32_768;

/// An interface behind which a pod can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its index at the node's end.
    pub ifindex: u32,
    /// Hardware address of the pod's end.
    pub mac: [u8; 6],
}

/// What became of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Whether it goes on.
    pub passed: bool,
    /// Whether it went to its pod at once, which no hook of that pod sees.
    pub delivered: bool,
    /// What was told of it, if anything.
    pub told: Option<Told>,
}

/// The event of a frame that opened a connection or was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Why it was dropped.
    pub reason: Option<DropReason>,
    /// Due to which rules, or to what isolates.
    pub origin: OriginId,
    /// Whether it passed as policies are only audited.
    pub audited: bool,
}

/// Tables and programs.
pub trait Machine {
    /// Says who it is.
    const NAME: &'static str;
    /// The package whose tests put it on trial.
    const PACKAGE: &'static str;

    /// Interfaces, one for each pod that a node may have.
    fn places(&self) -> Vec<Place>;

    /// Forgets all connections; may forget more. An error is text.
    fn renew(&mut self) -> Result<(), String>;

    /// Goes over to `plan`. An error is text.
    fn load(&mut self, plan: &NodePlan, attachments: &[Attachment]) -> Result<(), String>;

    /// Runs one frame through a hook. Connections are remembered, drops are told every time. An error is text.
    fn run(&mut self, hook: Hook, ifindex: u32, frame: &[u8]) -> Result<Seen, String>;
}

/// The configuration that a machine needs to tell of every drop.
pub fn telling(config: &Config) -> Config {
    Config { drop_interval_ns: 0, ..*config }
}

/// `packet` over the tables that `datapath` writes, in memory.
#[derive(Debug)]
pub struct Host {
    datapath: Datapath<Fake>,
    maps: MemoryMaps,
}

impl Host {
    /// Empty tables. An error is text.
    pub fn new() -> Result<Self, String> {
        let mut datapath = Datapath::over(Fake::new()).map_err(|error| error.to_string())?;
        let config = telling(datapath.config());
        datapath.set_config(&config).map_err(|error| error.to_string())?;
        Ok(Self { datapath, maps: MemoryMaps::default() })
    }
}

impl Machine for Host {
    const NAME: &'static str = "host maps";
    const PACKAGE: &'static str = "strait-testkit";

    fn places(&self) -> Vec<Place> {
        (10..42).map(|number| Place { ifindex: number.into(), mac: [0x02, 0, 0, 0, 0, number] }).collect()
    }

    fn renew(&mut self) -> Result<(), String> {
        *self = Self::new()?;
        Ok(())
    }

    fn load(&mut self, plan: &NodePlan, attachments: &[Attachment]) -> Result<(), String> {
        self.datapath.apply(plan, attachments).map_err(|error| error.to_string())?;
        self.maps = self.datapath.kernel().maps();
        Ok(())
    }

    fn run(&mut self, hook: Hook, ifindex: u32, frame: &[u8]) -> Result<Seen, String> {
        self.maps.now_ns += 1;
        let verdict = self.maps.run(hook, ifindex, frame);
        let told = self.maps.events.drain(..).next_back().map(|event| told(&event));
        let (passed, delivered) = match verdict {
            Verdict::Pass => (true, false),
            Verdict::Deliver { ifindex } if self.maps.endpoints.contains_key(&ifindex) => (true, true),
            Verdict::Deliver { ifindex } => return Err(format!("delivered to {ifindex}, which is no pod's")),
            Verdict::Drop(reason) => match told {
                Some(told) if told.reason != Some(reason) => {
                    return Err(format!("dropped for {reason:?}, told {told:?}"));
                }
                _ => (false, false),
            },
        };
        Ok(Seen { passed, delivered, told })
    }
}

fn told(event: &Event) -> Told {
    let dropped = event.kind == EventKind::Dropped as u8;
    Told {
        reason: dropped.then(|| DropReason::from_number(event.reason)).flatten(),
        origin: OriginId(event.origin),
        audited: event.flags & event_flags::AUDIT != 0,
    }
}

/// One side of a connection, as the node of the pod sees it.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    /// Whose policies are asked: a pod's, at its link, or the node's, at the uplink.
    pub subject: &'a Subject,
    /// Whether it opens the connection or is asked.
    pub direction: Direction,
    /// Its address.
    pub local: IpAddr,
    /// The other end's, of the same family.
    pub remote: IpAddr,
    /// Whether what the other end sends comes over the uplink.
    pub from_afar: bool,
    /// What is sent.
    pub traffic: Traffic,
}

/// A node with a plan, on a machine.
pub struct Node<'a, M> {
    machine: &'a mut M,
    pods: Vec<(PodKey, Place)>,
    next_port: u16,
    /// Frames that were run.
    pub frames: usize,
}

impl<'a, M: Machine> Node<'a, M> {
    /// Goes over to `plan`, with each of its pods at a place of its own, by way of `before` if there is one. An error says what the machine
    /// would not do.
    pub fn new(machine: &'a mut M, before: Option<&NodePlan>, plan: &NodePlan) -> Result<Self, String> {
        machine.renew()?;
        let places = machine.places();
        let mut pods = Vec::new();
        for plan in before.into_iter().chain([plan]) {
            if plan.endpoints.len() > places.len() {
                return Err(format!("{} pods, and room for {}", plan.endpoints.len(), places.len()));
            }
            pods = plan.endpoints.keys().cloned().zip(places.iter().copied()).collect();
            let attachments: Vec<_> = pods
                .iter()
                .map(|(pod, place)| Attachment { pod: pod.clone(), ifindex: place.ifindex, mac: place.mac })
                .collect();
            machine.load(plan, &attachments)?;
        }
        Ok(Self { machine, pods, next_port: FIRST_PORT, frames: 0 })
    }

    /// What becomes of the packet that opens the connection; of one that passes, the answer must pass too. An error is what makes no sense
    /// whatever policies say.
    pub fn judge(&mut self, passage: &Passage<'_>) -> Result<Seen, String> {
        let place = match passage.subject {
            Subject::Host => Place { ifindex: UPLINK, mac: NODE_MAC },
            Subject::Pod(wanted) => {
                let found = self.pods.iter().find(|(pod, _)| pod == wanted);
                found.ok_or_else(|| format!("{wanted} has no place"))?.1
            }
        };
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);

        let out = Wire::new(place.mac, ROUTER_MAC, passage.local, passage.remote);
        let back = Wire::new(ROUTER_MAC, place.mac, passage.remote, passage.local);
        let (opening, reply) = match passage.direction {
            Direction::Egress => (opening(&out, passage.traffic, port), answer(&back, passage.traffic, port)),
            Direction::Ingress => (opening(&back, passage.traffic, port), answer(&out, passage.traffic, port)),
        };
        let here = |direction: Direction| match (passage.subject, direction) {
            (Subject::Pod(_), Direction::Egress) => (Hook::FromPod, Direction::Ingress),
            (Subject::Pod(_), Direction::Ingress) => (Hook::ToPod, Direction::Egress),
            (Subject::Host, Direction::Egress) => (Hook::ToUplink, Direction::Ingress),
            (Subject::Host, Direction::Ingress) => (Hook::FromUplink, Direction::Egress),
        };
        let (hook, other_way) = here(passage.direction);
        if self.over_uplink(passage, passage.direction, &opening)? {
            return Err("an opening goes past the pod's own hook".to_owned());
        }
        let seen = self.run(hook, place.ifindex, &opening)?;
        if seen.passed && !self.over_uplink(passage, other_way, &reply)? {
            let answered = self.run(here(other_way).0, place.ifindex, &reply)?;
            if !answered.passed {
                return Err(format!("the answer is dropped: {answered:?}"));
            }
        }
        Ok(seen)
    }

    /// What comes over the uplink is nobody's of this node. Whether it is with its pod then.
    fn over_uplink(&mut self, passage: &Passage<'_>, direction: Direction, frame: &[u8]) -> Result<bool, String> {
        let of_pod = matches!(passage.subject, Subject::Pod(_));
        if !of_pod || direction != Direction::Ingress || !passage.from_afar {
            return Ok(false);
        }
        let seen = self.run(Hook::FromUplink, UPLINK, frame)?;
        if seen.passed { Ok(seen.delivered) } else { Err(format!("dropped at the uplink: {seen:?}")) }
    }

    fn run(&mut self, hook: Hook, ifindex: u32, frame: &[u8]) -> Result<Seen, String> {
        self.frames += 1;
        self.machine.run(hook, ifindex, frame)
    }
}

/// The first packet from `port`. An ICMP echo has it for its identifier.
fn opening(wire: &Wire, traffic: Traffic, port: u16) -> Vec<u8> {
    const INIT: u8 = 1;
    match traffic {
        Traffic::Port(Protocol::Tcp, to) => wire.tcp(port, to, tcp_flags::SYN),
        Traffic::Port(Protocol::Udp, to) => wire.udp(port, to),
        Traffic::Port(Protocol::Sctp, to) => wire.sctp(port, to, INIT),
        Traffic::Icmp => wire.ping(port),
    }
}

/// The first packet back to `port`.
fn answer(wire: &Wire, traffic: Traffic, port: u16) -> Vec<u8> {
    const INIT_ACK: u8 = 2;
    match traffic {
        Traffic::Port(Protocol::Tcp, from) => wire.tcp(from, port, tcp_flags::SYN | tcp_flags::ACK),
        Traffic::Port(Protocol::Udp, from) => wire.udp(from, port),
        Traffic::Port(Protocol::Sctp, from) => wire.sctp(from, port, INIT_ACK),
        Traffic::Icmp => wire.pong(port),
    }
}
