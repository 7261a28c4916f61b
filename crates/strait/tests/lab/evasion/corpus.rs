//! The attempts, by what they abuse.

mod fragments;
mod headers;
mod link;
mod options;
mod source;
mod transport;
mod tunnels;

use strait_packet::{
    abi::{DropReason, Hook},
    host::Wire,
};

use super::{Case, Fate, Step};

/// Mark of the permitted packet behind every attempt.
pub(super) const FENCE: u16 = 0x1fff;

/// Who tries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// A pod whose egress is open.
    Red,
    /// A pod that may send UDP 9 to victims and nothing else.
    Mute,
    /// A host outside of the cluster.
    Outside,
}

impl From {
    pub(super) fn place(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Mute => "mute",
            Self::Outside => "outside",
        }
    }
}

/// An attempt: packets in order, and what must become of each.
pub(super) struct Attempt {
    pub(super) name: &'static str,
    pub(super) from: From,
    /// The only family it makes sense in; true for IPv6.
    pub(super) family: Option<bool>,
    /// It does not depend on where the victim is.
    pub(super) on_link: bool,
    pub(super) steps: fn(&Case) -> Vec<Step>,
}

impl Attempt {
    const fn new(name: &'static str, from: From, steps: fn(&Case) -> Vec<Step>) -> Self {
        Self { name, from, family: None, on_link: false, steps }
    }

    const fn red(name: &'static str, steps: fn(&Case) -> Vec<Step>) -> Self {
        Self::new(name, From::Red, steps)
    }

    const fn mute(name: &'static str, steps: fn(&Case) -> Vec<Step>) -> Self {
        Self::new(name, From::Mute, steps)
    }

    const fn outside(name: &'static str, steps: fn(&Case) -> Vec<Step>) -> Self {
        Self::new(name, From::Outside, steps)
    }

    const fn v4(self) -> Self {
        Self { family: Some(false), ..self }
    }

    const fn v6(self) -> Self {
        Self { family: Some(true), ..self }
    }

    const fn on_link(self) -> Self {
        Self { on_link: true, ..self }
    }
}

const OUT: Hook = Hook::FromPod;
const IN: Hook = Hook::ToPod;
const UP: Hook = Hook::FromUplink;
const DENIED: DropReason = DropReason::PolicyDenied;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

const TCP: u8 = 6;
const UDP: u8 = 17;

pub(super) fn all() -> Vec<Attempt> {
    [
        source::attempts(),
        link::attempts(),
        headers::attempts(),
        options::attempts(),
        fragments::attempts(),
        transport::attempts(),
        tunnels::attempts(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn arrives(frame: Vec<u8>) -> Step {
    Step { frames: vec![frame], fate: Fate::Arrives }
}

fn ends(frame: Vec<u8>) -> Step {
    Step { frames: vec![frame], fate: Fate::Ends }
}

fn drops(hook: Hook, reason: DropReason, frame: Vec<u8>) -> Step {
    all_drop(hook, reason, vec![frame])
}

fn all_drop(hook: Hook, reason: DropReason, frames: Vec<Vec<u8>>) -> Step {
    Step { frames, fate: Fate::Dropped(hook, reason) }
}

/// A packet that policy denies the attacker: a SYN to port 22.
fn denied(wire: &Wire) -> Vec<u8> {
    wire.tcp(4022, 22, SYN)
}

/// A packet that policy allows: a SYN to port 80.
fn allowed(wire: &Wire) -> Vec<u8> {
    wire.tcp(4080, 80, SYN)
}

fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

/// A UDP header whose length says `length`, and `data` bytes.
fn udp(from: u16, to: u16, length: u16, data: usize) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes(), length.to_be_bytes()].concat();
    bytes.resize(8 + data, 0);
    bytes
}

fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

/// Where the transport header starts in a frame without options.
fn l4(case: &Case) -> usize {
    if case.v6 { 54 } else { 34 }
}
