//! Conntrack and policy together: the established path, a new connection, an old verdict.

use crate::abi::{CloseReason, Config, Direction, DropReason, EventKind, PeerPlace, Port, ct_flags, ipcache_flags};
use crate::conntrack::{self, Opener, Outcome};
use crate::flow::{Flow, Signal};
use crate::maps::Maps;
use crate::policy::{self, Passage, Question};
use crate::report;

/// Lets a packet of a known flow through or says why not. Where its peer is, for a packet of a connection whose verdict
/// stands. Generic, so that each hook gets code of its own.
#[inline(always)]
pub(crate) fn track<M: Maps, const SENT: bool>(
    maps: &mut M,
    flow: &mut Flow,
    config: &Config,
) -> Result<PeerPlace, DropReason> {
    let now = maps.tick_ns();
    let known = maps.connection(&flow.key, |entry| (conntrack::observe(entry, flow, now, config), entry.peer_place));
    let (outcome, place) = known.unwrap_or((Outcome::Fresh(None), 0));
    match outcome {
        Outcome::Pass => {}
        Outcome::PassActive => report::connection(maps, flow, EventKind::Active, None),
        Outcome::PassClosed(reason) => report::connection(maps, flow, EventKind::Closed, Some(reason)),
        Outcome::Fresh(ended) => return fresh(maps, flow, config, ended).map(|()| PeerPlace::Unknown),
        Outcome::Rejudge(opener) => {
            rejudge(maps, flow, config, opener)?;
            match maps.connection(&flow.key, |entry| conntrack::observe(entry, flow, now, config)) {
                Some(Outcome::PassActive) => report::connection(maps, flow, EventKind::Active, None),
                Some(Outcome::PassClosed(reason)) => report::connection(maps, flow, EventKind::Closed, Some(reason)),
                // Evicted or judged anew in between by another CPU: the packet itself was judged.
                Some(Outcome::Pass | Outcome::Fresh(_) | Outcome::Rejudge(_)) | None => {}
            }
            return Ok(PeerPlace::Unknown);
        }
    }
    Ok(PeerPlace::from_number(place))
}

/// Judges a packet that belongs to no connection, and remembers the connection it opens.
#[inline(never)]
fn fresh<M: Maps>(
    maps: &mut M,
    flow: &mut Flow,
    config: &Config,
    ended: Option<CloseReason>,
) -> Result<(), DropReason> {
    flow.fresh = true;
    look_up_peer(maps, flow);
    let passage = judge(maps, flow, flow.direction, flow.policy_port)?;
    let mut flags = match passage {
        Passage::Allowed => 0,
        Passage::Audited => ct_flags::AUDITED,
    };
    match flow.signal {
        Signal::Datagram | Signal::Open => {}
        // Nothing to remember: the one ends what is not there, the other answers what was not asked.
        Signal::Reset | Signal::EchoReply => return Ok(()),
        Signal::Segment | Signal::Finish => {
            // Whoever opened it did so unseen. Were only the packet's own direction judged, a server that still talks on a
            // connection which a policy change has cut would open it anew, from the inside.
            let origin = flow.origin;
            judge(maps, flow, opposite(flow.direction), flow.reverse_port)
                .map_err(|_| DropReason::UnknownConnection)?;
            flow.origin = origin;
            flags |= ct_flags::PICKED_UP;
        }
    }
    if ended.is_some() {
        report::connection(maps, flow, EventKind::Closed, ended);
    }
    let now = maps.clock_ns();
    if !maps.insert_connection(&flow.key, |entry| conntrack::open(entry, flow, now, config, flags)) {
        return Err(DropReason::CtInsertFailed);
    }
    report::opened(maps, flow, now, config, flags);
    Ok(())
}

/// Judges again what opened an existing connection, and stamps the entry with the verdict.
#[inline(never)]
pub(crate) fn rejudge<M: Maps>(
    maps: &mut M,
    flow: &mut Flow,
    config: &Config,
    opener: Opener,
) -> Result<(), DropReason> {
    look_up_peer(maps, flow);
    let now = maps.tick_ns();
    match judge_opener(maps, flow, opener) {
        Ok(passage) => {
            let audited = passage == Passage::Audited;
            let anew = maps.connection(&flow.key, |entry| conntrack::allow_again(entry, flow, now, config, audited));
            if anew == Some(true) {
                report::connection(maps, flow, EventKind::Opened, None);
            }
            Ok(())
        }
        Err(reason) => {
            let untold = maps.connection(&flow.key, |entry| conntrack::deny(entry, flow, now, config));
            if untold == Some(true) {
                report::connection(maps, flow, EventKind::Closed, Some(CloseReason::Denied));
            }
            Err(reason)
        }
    }
}

#[inline(always)]
fn judge_opener<M: Maps>(maps: &M, flow: &mut Flow, opener: Opener) -> Result<Passage, DropReason> {
    let passage = judge(maps, flow, opener.direction, opener.port)?;
    if opener.picked_up {
        let origin = flow.origin;
        let port = match opener.direction {
            Direction::Egress => flow.key.local_port,
            Direction::Ingress => flow.key.remote_port,
        };
        judge(maps, flow, opposite(opener.direction), port)?;
        flow.origin = origin;
    }
    Ok(passage)
}

#[inline(always)]
fn judge<M: Maps>(maps: &M, flow: &mut Flow, direction: Direction, port: Port) -> Result<Passage, DropReason> {
    let question = Question { subject: flow.subject, peer: flow.peer, direction, protocol: flow.key.protocol, port };
    policy::judge(maps, &question, &mut flow.origin)
}

#[inline(always)]
fn look_up_peer<M: Maps>(maps: &M, flow: &mut Flow) {
    let (identity, flags) = maps.ipcache(flow.key.remote).map_or((0, 0), |value| (value.identity, value.flags));
    flow.peer = identity;
    flow.peer_place = if flags & ipcache_flags::LOCAL_ENDPOINT != 0 {
        PeerPlace::Endpoint
    } else if flags & ipcache_flags::HOST != 0 {
        PeerPlace::Unknown
    } else {
        PeerPlace::Beyond
    };
}

#[inline(always)]
fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}
