//! The way past the host's stack, to the pod that a packet goes to.
//!
//! ```text
//!  from_pod ────┬─→ routing ─→ neighbours ─→ to_pod ─→ queue ─→ pod
//!  from_uplink ─┤                                                ▲
//!               └─→ shortcut: judged as by to_pod ───────────────┘
//! ```
//!
//! What `to_pod` would do is done here: the receiver's entry is looked up, counted, moved on, told of. A packet takes this way
//! only where that is a plain pass: its receiver's entry stands, under the revision in force, and its receiver has spoken. Then
//! the host's stack has carried the connection both ways as it is (a translated one looks different at each end, so no entry is
//! found), just as flow tables of netfilter take over what the stack has seen established. Everything else goes the long way,
//! where `to_pod` decides.

use crate::abi::{CloseReason, Config, CtKey, Direction, EventKind, Hook, PeerPlace};
use crate::conntrack::{self, Outcome};
use crate::flow::Flow;
use crate::frame::{Frame, Head, halves};
use crate::maps::Maps;
use crate::parse::{ETHERNET, Ip, Part, Transport, protocol};
use crate::report;

/// True if a packet may take the shortcut, as far as the packet goes: nothing that a router does beyond handing it on.
#[inline(always)]
pub(crate) fn is_plain<F: Frame>(frame: &F, ip: &Ip, config: &Config) -> bool {
    let fixed = ETHERNET + if ip.v6 { 40 } else { 20 };
    config.shortcut != 0
        && ip.part == Part::Whole
        && ip.transport == fixed
        && ip.hop_limit > 1
        && matches!(ip.protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
        && !frame.has_vlan_tag()
        && frame.is_for_host()
}

/// A packet as the pod that it goes to sees it. Working memory, as the rest of a hook's: the stack has no room for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrival {
    flow: Flow,
    key: CtKey,
    head: Head,
    /// See [`passed`].
    told: u8,
}

impl Arrival {
    /// The packet `sent`, of a protocol with ports, at the other end.
    #[inline(always)]
    pub(crate) fn turn(&mut self, sent: &Flow) {
        self.key = CtKey {
            local: sent.key.remote,
            remote: sent.key.local,
            local_port: sent.key.remote_port,
            remote_port: sent.key.local_port,
            ..sent.key
        };
        self.flow = *sent;
        self.flow.key = self.key;
        self.flow.direction = Direction::Ingress;
    }

    /// The packet `seen` on its way in, with what its transport header says.
    #[inline(always)]
    pub(crate) fn follow(&mut self, seen: &Flow, protocol: u8, transport: &Transport) {
        self.flow = *seen;
        self.flow.set_transport(protocol, transport);
        self.key = self.flow.key;
    }
}

/// An [`Outcome`] that passes, as a number: what LLVM makes of the enum once it has gone through the lookup, the verifier refuses.
mod passed {
    use super::Outcome;

    /// It does not pass.
    pub(super) const NOT: u8 = 0x80;
    /// Nothing to tell.
    pub(super) const QUIETLY: u8 = 0x81;
    /// Time to tell of the connection.
    pub(super) const ACTIVE: u8 = 0x82;

    /// These, or the reason why the connection ended.
    #[inline(always)]
    pub(super) const fn number(outcome: Outcome) -> u8 {
        match outcome {
            Outcome::Pass => QUIETLY,
            Outcome::PassActive => ACTIVE,
            Outcome::PassClosed(reason) => reason as u8,
            Outcome::Fresh(_) | Outcome::Rejudge(_) => NOT,
        }
    }
}

/// Judges `arrival`, whose peer must be at `from`, in place of `to_pod`, and makes the frame what a router would. The interface
/// whose pod it goes to; `None` if it must go the long way.
#[inline(always)]
pub(crate) fn deliver<F: Frame, M: Maps>(
    frame: &F,
    maps: &mut M,
    arrival: &mut Arrival,
    v6: bool,
    config: &Config,
    from: PeerPlace,
) -> Option<u32> {
    let ifindex = deliver_to(frame, maps, arrival, v6, config, from);
    if ifindex == 0 {
        return None;
    }
    match arrival.told {
        passed::QUIETLY => {}
        passed::ACTIVE => report::connection(maps, &arrival.flow, EventKind::Active, None),
        closed => report::connection(maps, &arrival.flow, EventKind::Closed, CloseReason::from_number(closed)),
    }
    Some(ifindex)
}

/// As [`deliver`]; zero for none. A call, as its stack does not fit into that of the programs.
#[inline(never)]
fn deliver_to<F: Frame, M: Maps>(
    frame: &F,
    maps: &mut M,
    arrival: &mut Arrival,
    v6: bool,
    config: &Config,
    from: PeerPlace,
) -> u32 {
    let Arrival { flow, key, head, told } = arrival;
    let Some(words) = frame.words(0) else { return 0 };
    *head = words;
    flow.hook = Hook::ToPod;
    let now = maps.tick_ns();
    let passed = maps.connection_at(key, |entry, endpoint| {
        let stands = entry.revision == config.revision
            && entry.endpoint == endpoint.id
            && entry.peer_place == from as u8
            && entry.tx_packets != 0;
        if !stands || !endpoint.owns(flow.key.local) {
            return passed::NOT;
        }
        flow.ifindex = entry.ifindex;
        flow.endpoint = endpoint.id;
        flow.subject = endpoint.identity;
        route(head, endpoint.mac);
        passed::number(conntrack::observe(entry, flow, now, config))
    });
    *told = passed.unwrap_or(passed::NOT);
    if *told == passed::NOT {
        return 0;
    }
    let sum_change = one_hop(head, v6);
    if !frame.replace_head(head, sum_change) {
        return 0;
    }
    maps.count(Hook::ToPod, None, flow.len);
    flow.ifindex
}

/// Addresses the frame to the hardware address `to`, from the one it came to, which is the node's.
#[inline(always)]
fn route(head: &mut Head, to: [u8; 6]) {
    let [first, second, third, ..] = head;
    let ((own_0, own_1), (own_2, _)) = (halves(*first), halves(*second));
    let [to_0, to_1, to_2, to_3, to_4, to_5] = to;
    *first = u32::from_ne_bytes([to_0, to_1, to_2, to_3]);
    *second = word(u16::from_ne_bytes([to_4, to_5]), own_0);
    *third = word(own_1, own_2);
}

/// Takes a hop. By how much the sum over what follows the Ethernet header changes.
#[inline(always)]
fn one_hop(head: &mut Head, v6: bool) -> u32 {
    let [.., sixth, seventh] = head;
    let (before, after) = halves(*sixth);
    if v6 {
        // The hop limit, low byte of its half, is one less, and no checksum makes up for it.
        *sixth = word(u16::from_be(before).wrapping_sub(1).to_be(), after);
        return !u32::from(1_u16.to_be());
    }
    // As `ip_decrease_ttl` of Linux (RFC 1141): the header's sum stays what it was. The TTL is the high byte.
    *sixth = word(before, u16::from_be(after).wrapping_sub(0x100).to_be());
    let (sum, source) = halves(*seventh);
    let sum = u32::from(u16::from_be(sum)) + 0x100;
    let [_, _, sum_high, sum_low] = (sum + u32::from(sum >= 0xffff)).to_be_bytes();
    *seventh = word(u16::from_ne_bytes([sum_high, sum_low]), source);
    0
}

/// From its halves as they lie in a frame.
#[inline(always)]
fn word(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}
