//! Fragments: tiny, overlapping, orphaned.

use super::world::{Content, FAMILIES, rx, tx};
use super::{PEER, Vector};
use crate::abi::{Direction, DropReason};
use crate::host::build::{tcp, udp};
use crate::host::tcp_flags::SYN;
use crate::parse::protocol::{TCP, UDP};

use Direction::{Egress, Ingress};

const LOST: DropReason = DropReason::FragmentNotFound;
const OVERLAP: DropReason = DropReason::FragmentOverlap;

pub(super) fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (v6, family) in FAMILIES {
        all.extend(ordinary(v6, family));
        all.extend(evasive(v6, family));
    }
    all.push(atomic());
    all.push(next_header_changes());
    all
}

fn ordinary(v6: bool, family: &str) -> Vec<Vector> {
    let content = || Content::closed(1).allow(Egress, PEER, UDP, 53).allow(Ingress, PEER, UDP, 53);
    let first = |id| tx(v6).fragment(id, 0, true).ip(UDP, &udp(4000, 53, 16));
    let later = |id| tx(v6).fragment(id, 24, false).ip(UDP, &[1; 16]);
    vec![
        Vector::new(format!("{family}: later fragments follow the first"), content())
            .out(first(1))
            .out(tx(v6).fragment(1, 24, true).ip(UDP, &[1; 16]))
            .out(tx(v6).fragment(1, 40, false).ip(UDP, &[1; 3])),
        Vector::new(format!("{family}: a later fragment without a first"), content())
            .out_dropped(later(1), LOST)
            .out(first(2))
            .out_dropped(later(3), LOST)
            .out_dropped(tx(v6).fragment(2, 24, false).dst(super::world::other(v6)).ip(UDP, &[1; 16]), LOST),
        Vector::new(format!("{family}: a first fragment that is denied leads none after it"), content())
            .out_dropped(tx(v6).fragment(1, 0, true).ip(UDP, &udp(4000, 54, 16)), DropReason::PolicyDenied)
            .out_dropped(later(1), LOST),
        Vector::new(format!("{family}: fragments towards the pod"), content())
            .into(rx(v6).fragment(1, 0, true).ip(UDP, &udp(4000, 53, 16)))
            .into(rx(v6).fragment(1, 24, false).ip(UDP, &[1; 16]))
            .into_dropped(rx(v6).fragment(2, 24, false).ip(UDP, &[1; 16]), LOST)
            // What passed at one hook vouches for nothing at the other.
            .out_dropped(later(1), LOST),
    ]
}

fn evasive(v6: bool, family: &str) -> Vec<Vector> {
    let open = || Content::closed(1).allow(Egress, PEER, TCP, 80);
    let syn = tcp(4000, 80, SYN);
    vec![
        Vector::new(format!("{family}: a first fragment too small for its header"), open())
            .out_dropped(tx(v6).fragment(1, 0, true).ip(TCP, &syn[..8]), OVERLAP)
            .out_dropped(tx(v6).fragment(1, 0, true).ip(TCP, &syn[..16]), OVERLAP)
            .out_dropped(tx(v6).fragment(1, 0, true).ip(UDP, &[0, 1, 0, 2]), OVERLAP)
            .out_dropped(tx(v6).fragment(1, 16, false).ip(TCP, &syn), LOST),
        Vector::new(format!("{family}: a later fragment that would overwrite flags or ports"), open())
            .out(tx(v6).fragment(1, 0, true).ip(TCP, &[&syn[..], &[0; 4]].concat()))
            .out_dropped(tx(v6).fragment(1, 8, true).ip(TCP, &[0; 16]), OVERLAP)
            .out_dropped(tx(v6).fragment(1, 16, false).ip(TCP, &[0; 16]), OVERLAP)
            .out(tx(v6).fragment(1, 24, false).ip(TCP, &[0; 16])),
        Vector::new(format!("{family}: a second first fragment to a denied port"), open())
            .out(tx(v6).fragment(1, 0, true).ip(TCP, &[&syn[..], &[0; 4]].concat()))
            .out_dropped(
                tx(v6).fragment(1, 0, true).ip(TCP, &[&tcp(4000, 22, SYN)[..], &[0; 4]].concat()),
                DropReason::PolicyDenied,
            ),
        Vector::new(format!("{family}: errors and neighbours in fragments"), Content::open(1))
            .out(tx(v6).udp(4000, 53))
            .into_dropped(rx(v6).fragment(1, 0, true).unreachable(&tx(v6).udp(4000, 53)), OVERLAP),
    ]
}

fn atomic() -> Vector {
    let content = Content::closed(1).allow(Egress, PEER, TCP, 80);
    Vector::new("IPv6: an atomic fragment is a whole packet", content)
        .out(tx(true).fragment(1, 0, false).tcp(4000, 80, SYN))
        .out_dropped(tx(true).fragment(1, 0, false).tcp(4000, 81, SYN), DropReason::PolicyDenied)
}

/// RFC 8200 §4.5: of the next headers in fragments only the first's counts, so a later one must not be found under its own.
fn next_header_changes() -> Vector {
    let content = Content::closed(1).allow(Egress, PEER, UDP, 53);
    Vector::new("IPv6: later fragments with another next header", content)
        .out(tx(true).fragment(1, 0, true).ip(UDP, &udp(4000, 53, 16)))
        .out(tx(true).fragment(1, 24, false).ip(TCP, &[1; 16]))
        .out_dropped(tx(true).fragment(2, 24, false).ip(UDP, &[1; 16]), LOST)
        .out_dropped(
            tx(true).extension(44, &[0, 0, 0, 1, 0, 0, 0, 9]).fragment(9, 0, true).tcp(4000, 80, SYN),
            DropReason::InvalidExtensionHeader,
        )
}
