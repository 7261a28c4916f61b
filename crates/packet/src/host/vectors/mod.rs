//! Packets and what must become of them: one table, run on the host by this crate's tests and in the kernel by `datapath`'s.
//!
//! Every vector has one endpoint, at an interface of the runner's choice with the hardware address [`NODE_MAC`], and starts with
//! empty connection state. Nothing in it
//! depends on time.

mod connection;
mod evasion;
mod fragment;
mod header;
mod icmp;
mod neighbour;
mod node;
mod policy;
mod response;
mod source;
mod uplink;
mod world;

pub use response::{Denial, Heard, check, denials};
pub use world::{Content, HOST, NODE_MAC, OTHER, PEER, POD, POD_MAC, SUBJECT};

use crate::abi::{DropReason, Hook};
use crate::hooks::Verdict;
use crate::host::MemoryMaps;

/// One step of a vector.
#[derive(Clone, Debug)]
pub enum Step {
    /// The maps that policy depends on get this content, and the configuration its revision.
    Load(Content),
    /// A frame goes through a hook.
    Send {
        /// Which program.
        hook: Hook,
        /// From the Ethernet header on.
        frame: Vec<u8>,
        /// What must become of it; a delivery is to interface zero, for the endpoint's ([`Verdict::at`]).
        expect: Verdict,
    },
}

impl Verdict {
    /// The verdict that a vector expects where the endpoint is at `ifindex`.
    #[must_use]
    pub const fn at(self, ifindex: u32) -> Self {
        if let Self::Deliver { .. } = self { Self::Deliver { ifindex } } else { self }
    }
}

/// A named sequence of steps.
#[derive(Clone, Debug)]
pub struct Vector {
    /// What it shows.
    pub name: String,
    /// From empty maps on.
    pub steps: Vec<Step>,
}

impl Vector {
    fn new(name: impl Into<String>, content: Content) -> Self {
        Self { name: name.into(), steps: vec![Step::Load(content)] }
    }

    fn load(mut self, content: Content) -> Self {
        self.steps.push(Step::Load(content));
        self
    }

    fn send(mut self, hook: Hook, frame: Vec<u8>, expect: Verdict) -> Self {
        self.steps.push(Step::Send { hook, frame, expect });
        self
    }

    /// The pod sends it and it passes.
    fn out(self, frame: Vec<u8>) -> Self {
        self.send(Hook::FromPod, frame, Verdict::Pass)
    }

    /// The pod receives it.
    fn into(self, frame: Vec<u8>) -> Self {
        self.send(Hook::ToPod, frame, Verdict::Pass)
    }

    /// It arrives at the node and goes to the pod past the host's stack.
    fn delivered(self, frame: Vec<u8>) -> Self {
        self.send(Hook::FromUplink, frame, Verdict::Deliver { ifindex: 0 })
    }

    /// It arrives at the node and goes through the host's stack.
    fn arrives(self, frame: Vec<u8>) -> Self {
        self.send(Hook::FromUplink, frame, Verdict::Pass)
    }

    /// The pod sends it and it is dropped.
    fn out_dropped(self, frame: Vec<u8>, reason: DropReason) -> Self {
        self.send(Hook::FromPod, frame, Verdict::Drop(reason))
    }

    /// It would reach the pod and is dropped.
    fn into_dropped(self, frame: Vec<u8>, reason: DropReason) -> Self {
        self.send(Hook::ToPod, frame, Verdict::Drop(reason))
    }
}

/// All of them.
pub fn all() -> Vec<Vector> {
    [
        source::vectors(),
        neighbour::vectors(),
        header::vectors(),
        policy::vectors(),
        connection::vectors(),
        icmp::vectors(),
        fragment::vectors(),
        evasion::vectors(),
        uplink::vectors(),
        node::vectors(),
    ]
    .concat()
}

impl MemoryMaps {
    /// Replaces what policy depends on by `content`, with the endpoint at `ifindex`; connections stay.
    pub fn load(&mut self, content: &Content, ifindex: u32) {
        self.config = Some(content.config());
        self.endpoints = [(ifindex, content.endpoint)].into();
        self.ipcache = content.ipcache.iter().copied().collect();
        self.policy = content.policy.iter().copied().collect();
        self.port_sets = content.port_sets.iter().copied().collect();
    }
}
