//! The state of a connection.
//!
//! ```text
//!              answered             one side done          both done        acknowledged
//!   ─ New ────────────► Established ──────────► Closing ──────────► LastAck ────────────► Closed
//!      │                     │                     │                   │   reset, from any  ▲
//!      └─────────────────────┴─────────────────────┴───────────────────┴────────────────────┘
//!      └───────── any, when a later policy denies it ─────────► Denied ─── allowed again ──► Established
//! ```
//!
//! A stream (TCP, SCTP) counts as answered when the opener speaks again after the answer; a datagram flow with the answer.
//! A packet that opens (SYN, INIT) against the direction of the entry, or over one that is ending, is a new connection and is
//! judged as one. Sequence numbers are not followed: a forged reset shortens the life of an entry and nothing else.

use crate::abi::{CloseReason, Config, CtEntry, CtState, Direction, Port, ct_flags};
use crate::flow::{Flow, Signal};
use crate::parse::protocol;

/// What an entry says to one more packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passes and was counted.
    Pass,
    /// It passes, was counted, and it is time to tell of the connection.
    PassActive,
    /// It passes, was counted, and ended the connection.
    PassClosed(CloseReason),
    /// It is not part of the connection; judge it as a new one. The reason tells how the old one ended, if nobody told yet.
    Fresh(Option<CloseReason>),
    /// The verdict is of another policy revision, or was a denial: judge again what opened the connection.
    Rejudge(Opener),
}

/// What opened a connection, as far as policy is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// Which way.
    pub direction: Direction,
    /// To which port, or of which ICMP type.
    pub port: Port,
    /// Joined in the middle: either side may have opened it.
    pub picked_up: bool,
}

/// Lets `flow` pass by `entry`: decides, counts, moves the state.
#[inline(always)]
pub fn observe(entry: &mut CtEntry, flow: &Flow, now_ns: u64, config: &Config) -> Outcome {
    let untold = entry.flags & ct_flags::CLOSE_REPORTED == 0;
    if entry.expired(now_ns) {
        return Outcome::Fresh(if untold { Some(CloseReason::Timeout) } else { None });
    }
    let state = CtState::from_number(entry.state);
    // A pod that got the address of one that is gone has nothing to do with its connections.
    let other_pod = entry.endpoint != flow.endpoint;
    if other_pod || (flow.signal == Signal::Open && reopens(entry, state, flow)) {
        return Outcome::Fresh(if untold { Some(CloseReason::Replaced) } else { None });
    }
    if entry.revision != config.revision || state == CtState::Denied {
        return Outcome::Rejudge(Opener {
            direction: Direction::from_number(entry.direction),
            port: entry.policy_port,
            picked_up: entry.flags & ct_flags::PICKED_UP != 0,
        });
    }
    count(entry, flow, now_ns);
    if let Some(reason) = advance(entry, state, flow, config) {
        if untold {
            entry.flags |= ct_flags::CLOSE_REPORTED;
            return Outcome::PassClosed(reason);
        }
        return Outcome::Pass;
    }
    if untold && now_ns.saturating_sub(entry.last_report_ns) >= config.report_interval_ns {
        entry.last_report_ns = now_ns;
        return Outcome::PassActive;
    }
    Outcome::Pass
}

/// Makes `entry`, which is empty, the connection that `flow` opens; policy has allowed it.
#[inline(always)]
pub fn open(entry: &mut CtEntry, flow: &Flow, now_ns: u64, config: &Config, flags: u8) {
    entry.created_ns = now_ns;
    entry.last_report_ns = now_ns;
    entry.revision = config.revision;
    entry.origin = flow.origin;
    entry.endpoint = flow.endpoint;
    entry.subject = flow.subject;
    entry.peer = flow.peer;
    entry.peer_place = flow.peer_place as u8;
    entry.ifindex = flow.ifindex;
    entry.policy_port = flow.policy_port;
    entry.direction = flow.direction as u8;
    entry.flags = flags;
    let picked_up = flags & ct_flags::PICKED_UP != 0;
    set_state(entry, flow, if picked_up { CtState::Established } else { CtState::New }, config);
    count(entry, flow, now_ns);
    if picked_up {
        advance(entry, CtState::Established, flow, config);
    }
}

/// Stamps `entry` with a new verdict that allows it. True if it was denied before and now begins anew.
#[inline(always)]
pub fn allow_again(entry: &mut CtEntry, flow: &Flow, now_ns: u64, config: &Config, audited: bool) -> bool {
    entry.revision = config.revision;
    entry.origin = flow.origin;
    entry.subject = flow.subject;
    entry.peer = flow.peer;
    entry.peer_place = flow.peer_place as u8;
    entry.ifindex = flow.ifindex;
    entry.flags = entry.flags & !ct_flags::AUDITED | if audited { ct_flags::AUDITED } else { 0 };
    if CtState::from_number(entry.state) != CtState::Denied {
        return false;
    }
    entry.created_ns = now_ns;
    entry.last_seen_ns = now_ns;
    entry.last_report_ns = now_ns;
    entry.tx_packets = 0;
    entry.tx_bytes = 0;
    entry.rx_packets = 0;
    entry.rx_bytes = 0;
    entry.flags &= !ct_flags::CLOSE_REPORTED;
    set_state(entry, flow, CtState::Established, config);
    true
}

/// Stamps `entry` with a new verdict that denies it. True if its end was not told yet.
#[inline(always)]
pub fn deny(entry: &mut CtEntry, flow: &Flow, now_ns: u64, config: &Config) -> bool {
    let untold = entry.flags & ct_flags::CLOSE_REPORTED == 0;
    entry.revision = config.revision;
    entry.last_seen_ns = now_ns;
    entry.flags |= ct_flags::CLOSE_REPORTED;
    set_state(entry, flow, CtState::Denied, config);
    untold
}

#[inline(always)]
fn reopens(entry: &CtEntry, state: CtState, flow: &Flow) -> bool {
    let ending = match state {
        CtState::New | CtState::Established => false,
        CtState::Closing | CtState::LastAck | CtState::Closed | CtState::Denied => true,
    };
    ending || entry.direction != flow.direction as u8
}

#[inline(always)]
fn count(entry: &mut CtEntry, flow: &Flow, now_ns: u64) {
    entry.last_seen_ns = now_ns;
    if flow.is_tx() {
        entry.tx_packets += 1;
        entry.tx_bytes += u64::from(flow.len);
        entry.tx_tcp_flags |= flow.tcp_flags;
    } else {
        entry.rx_packets += 1;
        entry.rx_bytes += u64::from(flow.len);
        entry.rx_tcp_flags |= flow.tcp_flags;
    }
}

/// Moves the state; the reason if the packet ended the connection.
#[inline(always)]
fn advance(entry: &mut CtEntry, state: CtState, flow: &Flow, config: &Config) -> Option<CloseReason> {
    match flow.signal {
        Signal::Reset => {
            set_state(entry, flow, CtState::Closed, config);
            return Some(CloseReason::Reset);
        }
        Signal::Finish => finish(entry, state, flow, config),
        Signal::Datagram | Signal::Open | Signal::Segment | Signal::EchoReply => match state {
            CtState::New => answer(entry, flow, config),
            CtState::LastAck => {
                let last_tx = entry.flags & ct_flags::FINISHED_LAST_TX != 0;
                if last_tx != flow.is_tx() {
                    set_state(entry, flow, CtState::Closed, config);
                    return Some(CloseReason::Fin);
                }
            }
            CtState::Established | CtState::Closing | CtState::Closed | CtState::Denied => {}
        },
    }
    None
}

#[inline(always)]
fn answer(entry: &mut CtEntry, flow: &Flow, config: &Config) {
    let stream = matches!(flow.key.protocol, protocol::TCP | protocol::SCTP);
    if entry.direction != flow.direction as u8 {
        entry.flags |= ct_flags::REPLIED;
        if !stream {
            set_state(entry, flow, CtState::Established, config);
        }
    } else if stream && entry.flags & ct_flags::REPLIED != 0 {
        set_state(entry, flow, CtState::Established, config);
    }
}

#[inline(always)]
fn finish(entry: &mut CtEntry, state: CtState, flow: &Flow, config: &Config) {
    let (own, other) = if flow.is_tx() {
        (ct_flags::FINISHED_TX, ct_flags::FINISHED_RX)
    } else {
        (ct_flags::FINISHED_RX, ct_flags::FINISHED_TX)
    };
    let again = entry.flags & own != 0;
    entry.flags |= own;
    match state {
        CtState::New | CtState::Established => set_state(entry, flow, CtState::Closing, config),
        CtState::Closing if !again && entry.flags & other != 0 => {
            if flow.is_tx() {
                entry.flags |= ct_flags::FINISHED_LAST_TX;
            }
            set_state(entry, flow, CtState::LastAck, config);
        }
        CtState::Closing | CtState::LastAck | CtState::Closed | CtState::Denied => {}
    }
}

#[inline(always)]
fn set_state(entry: &mut CtEntry, flow: &Flow, state: CtState, config: &Config) {
    entry.state = state as u8;
    entry.lifetime_ns = config.timeouts.of(flow.key.protocol, state);
}
