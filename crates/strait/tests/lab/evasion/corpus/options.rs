//! IPv4 options.

use strait_packet::abi::DropReason;

use super::{Attempt, DENIED, IN, OUT, UP, allowed, arrives, denied, drops};
use crate::evasion::{Case, Step, wire::octets};

const ROUTED: DropReason = DropReason::SourceRouted;
const INVALID: DropReason = DropReason::InvalidPacket;
const LOOSE: u8 = 131;
const STRICT: u8 = 137;

/// A source route by way of a pod that may, with its pointer at `pointer`.
fn route(c: &Case, kind: u8, pointer: u8) -> Vec<u8> {
    [&[kind, 7, pointer][..], &octets(c.blue.ip), &[0]].concat()
}

pub(super) fn attempts() -> Vec<Attempt> {
    fn refused(c: &Case, reason: DropReason, options: &[u8]) -> Vec<Step> {
        let wire = c.tx().options(options);
        vec![drops(OUT, reason, allowed(&wire)), drops(OUT, reason, denied(&wire))]
    }
    fn passed(c: &Case, options: &[u8]) -> Vec<Step> {
        let wire = c.tx().options(options);
        vec![arrives(allowed(&wire)), drops(IN, DENIED, denied(&wire)), drops(IN, DENIED, wire.ip(47, &[0; 8]))]
    }
    [
        Attempt::red("loose source route", |c| refused(c, ROUTED, &route(c, LOOSE, 4))),
        Attempt::red("strict source route", |c| refused(c, ROUTED, &route(c, STRICT, 4))),
        Attempt::red("source route at its end", |c| refused(c, ROUTED, &route(c, LOOSE, 8))),
        Attempt::red("source route behind padding", |c| {
            refused(c, ROUTED, &[&[1, 1, 1, 1][..], &route(c, LOOSE, 4)].concat())
        }),
        Attempt::red("source route behind another option", |c| {
            refused(c, ROUTED, &[&[7, 7, 4, 0, 0, 0, 0, 1][..], &route(c, STRICT, 4)].concat())
        }),
        Attempt::red("source route without a length", |c| refused(c, ROUTED, &[LOOSE, 0, 0, 0])),
        Attempt::red("source route by way of the victim", |c| {
            let wire = c.tx().dst(c.blue.ip).options(&[&[LOOSE, 7, 4][..], &octets(c.victim.ip), &[0]].concat());
            vec![drops(OUT, ROUTED, denied(&wire)), drops(OUT, ROUTED, allowed(&wire))]
        }),
        Attempt::red("source route behind the end of options", |c| {
            let wire = c.tx().options(&[&[0, 0, 0, 0][..], &route(c, LOOSE, 4)].concat());
            vec![drops(IN, DENIED, denied(&wire)), arrives(allowed(&wire))]
        }),
        Attempt::red("record route", |c| passed(c, &[7, 7, 4, 0, 0, 0, 0, 0])),
        Attempt::red("timestamp", |c| passed(c, &[68, 8, 5, 0, 0, 0, 0, 0])),
        Attempt::red("forty bytes of padding", |c| passed(c, &[1; 40])),
        Attempt::red("an experimental option", |c| passed(c, &[30, 4, 0, 0])),
        Attempt::red("option of length 0", |c| refused(c, INVALID, &[7, 0, 0, 0])),
        Attempt::red("option of length 1", |c| refused(c, INVALID, &[68, 1, 0, 0])),
        Attempt::red("option longer than the header", |c| refused(c, INVALID, &[7, 40, 4, 0])),
        Attempt::red("option that ends at its first byte", |c| refused(c, INVALID, &[1, 1, 1, 7])),
        Attempt::outside("source route from outside", |c| {
            [LOOSE, STRICT].map(|kind| drops(UP, ROUTED, allowed(&c.tx().options(&route(c, kind, 4))))).into()
        }),
    ]
    .into_iter()
    .map(Attempt::v4)
    .collect()
}
