//! Events: few, whatever the traffic.

use crate::abi::{
    Addr, CloseReason, Config, CtEntry, DropKey, DropReason, DropSeen, Event, EventKind, Port, ct_flags, event_flags,
};
use crate::flow::Flow;
use crate::maps::Maps;
use crate::parse::protocol;

/// Tells of the connection that `flow` belongs to.
#[inline(never)]
pub(crate) fn connection<M: Maps>(maps: &mut M, flow: &Flow, kind: EventKind, reason: Option<CloseReason>) {
    let Some(entry) = maps.connection(&flow.key, |entry| *entry) else {
        return;
    };
    let now = maps.clock_ns();
    maps.emit(kind, |event| {
        describe(event, flow, now);
        from_entry(event, &entry, kind);
        event.kind = kind as u8;
        event.reason = reason.map_or(0, |reason| reason as u8);
    });
}

/// Tells of a connection that `flow` opened just now. What the entry holds is what the packet says, so it is not looked up.
#[inline(always)]
pub(crate) fn opened<M: Maps>(maps: &mut M, flow: &Flow, now_ns: u64, config: &Config, flags: u8) {
    maps.emit(EventKind::Opened, |event| {
        describe(event, flow, now_ns);
        event.kind = EventKind::Opened as u8;
        event.created_ns = now_ns;
        event.revision = config.revision;
        event.flags |= entry_flags(flags);
        count(event, flow, 1, u64::from(flow.len));
    });
}

#[inline(always)]
fn count(event: &mut Event, flow: &Flow, packets: u64, bytes: u64) {
    if flow.is_tx() {
        event.tx_packets = packets;
        event.tx_bytes = bytes;
    } else {
        event.rx_packets = packets;
        event.rx_bytes = bytes;
    }
}

#[inline(always)]
fn entry_flags(flags: u8) -> u8 {
    let audit = if flags & ct_flags::AUDITED != 0 { event_flags::AUDIT } else { 0 };
    let picked_up = if flags & ct_flags::PICKED_UP != 0 { event_flags::PICKED_UP } else { 0 };
    audit | picked_up
}

#[inline(always)]
fn from_entry(event: &mut Event, entry: &CtEntry, kind: EventKind) {
    if entry.direction != event.direction {
        event.flags |= event_flags::REPLY;
    }
    event.flags |= entry_flags(entry.flags);
    event.direction = entry.direction;
    event.created_ns = entry.created_ns;
    event.tx_packets = entry.tx_packets;
    event.tx_bytes = entry.tx_bytes;
    event.rx_packets = entry.rx_packets;
    event.rx_bytes = entry.rx_bytes;
    event.endpoint = entry.endpoint;
    event.subject = entry.subject;
    event.peer = entry.peer;
    event.origin = entry.origin;
    event.revision = entry.revision;
    if !matches!(kind, EventKind::Opened) {
        event.tcp_flags = entry.tx_tcp_flags | entry.rx_tcp_flags;
    }
}

#[inline(always)]
fn describe(event: &mut Event, flow: &Flow, now_ns: u64) {
    event.time_ns = now_ns;
    event.local = flow.key.local;
    event.remote = flow.key.remote;
    event.ifindex = flow.ifindex;
    event.endpoint = flow.endpoint;
    event.subject = flow.subject;
    event.peer = flow.peer;
    event.origin = flow.origin;
    event.local_port = flow.key.local_port;
    // The remote port of ICMP is the engine's own mark.
    let icmp = matches!(flow.key.protocol, protocol::ICMP | protocol::ICMPV6);
    event.remote_port = if icmp { Port::ZERO } else { flow.key.remote_port };
    event.direction = flow.direction as u8;
    event.protocol = flow.key.protocol;
    event.tcp_flags = flow.tcp_flags;
    event.icmp_type = flow.icmp_type;
    event.icmp_code = flow.icmp_code;
    event.hook = flow.hook as u8;
    event.flags = flow.event_flags;
}

/// Counts a drop and tells of it: at once the first time, then summed up.
#[inline(never)]
pub(crate) fn dropped<M: Maps>(maps: &mut M, flow: &Flow, reason: DropReason, config: &Config) {
    if reason.is_quiet() {
        return;
    }
    let key = drop_key(flow, reason);
    let now = maps.tick_ns();
    let due = maps.drop_seen(&key, |seen| {
        seen.packets += 1;
        seen.bytes += u64::from(flow.len);
        if now.saturating_sub(seen.last_event_ns) < config.drop_interval_ns {
            return None;
        }
        seen.last_event_ns = now;
        let told = (seen.packets, seen.bytes);
        seen.packets = 0;
        seen.bytes = 0;
        Some(told)
    });
    let (packets, bytes) = match due {
        Some(None) => return,
        Some(Some(told)) => told,
        None => {
            let seen = DropSeen {
                last_event_ns: now,
                packets: 0,
                bytes: 0,
                endpoint: flow.endpoint,
                subject: flow.subject,
                peer: flow.peer,
                origin: flow.origin,
            };
            maps.insert_drop_seen(&key, &seen);
            (1, u64::from(flow.len))
        }
    };
    let exact = maps.clock_ns();
    maps.emit(EventKind::Dropped, |event| {
        describe(event, flow, exact);
        event.kind = EventKind::Dropped as u8;
        event.reason = reason as u8;
        event.revision = config.revision;
        count(event, flow, packets, bytes);
    });
}

/// What a sender can make up at will must not make events: without policy's word only interface and reason count, and the
/// port that opens a connection never does.
#[inline(always)]
fn drop_key(flow: &Flow, reason: DropReason) -> DropKey {
    let policy = reason.is_policy();
    DropKey {
        local: if policy { flow.key.local } else { Addr::UNSPECIFIED },
        remote: if policy { flow.key.remote } else { Addr::UNSPECIFIED },
        ifindex: flow.ifindex,
        policy_port: if policy { flow.policy_port } else { Port::ZERO },
        protocol: if policy { flow.key.protocol } else { 0 },
        reason: reason as u8,
        hook: flow.hook as u8,
        pad: [0; 3],
    }
}
