//! Port-set algebra: from rules that overlap to prefixes of which the longest decides.

use std::collections::{BTreeMap, BTreeSet};

use strait_base::{PortRange, Protocol};

use crate::{
    plan::{PortKey, PortVerdict},
    rule::Precedence,
};

/// What one rule does on which ports.
#[derive(Clone, Debug)]
pub(crate) struct Layer<O> {
    pub precedence: Precedence,
    pub effect: PortVerdict,
    pub origin: O,
    pub spans: Spans,
}

/// On which ports.
#[derive(Clone, Debug)]
pub(crate) enum Spans {
    /// Everything, also protocols without ports.
    Any,
    /// These; none where empty.
    Of(Vec<(Protocol, PortRange)>),
}

/// What decides for a port: the highest precedence that covers it, and all rules of that precedence and effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Winner<O> {
    pub precedence: Precedence,
    pub effect: PortVerdict,
    pub origins: BTreeSet<O>,
}

impl Spans {
    fn covers(&self, protocol: Protocol, range: PortRange) -> bool {
        match self {
            Self::Any => true,
            Self::Of(spans) => spans
                .iter()
                .any(|(p, span)| *p == protocol && span.first() <= range.first() && range.last() <= span.last()),
        }
    }
}

fn winner<'a, O: Ord + Clone + 'a>(layers: impl Iterator<Item = &'a Layer<O>>) -> Option<Winner<O>> {
    let mut best: Option<Winner<O>> = None;
    for layer in layers {
        let rank = (layer.precedence, layer.effect);
        match &mut best {
            Some(best) if (best.precedence, best.effect) == rank => {
                best.origins.insert(layer.origin.clone());
            }
            Some(best) if (best.precedence, best.effect) > rank => {}
            _ => {
                let origins = [layer.origin.clone()].into();
                best = Some(Winner { precedence: layer.precedence, effect: layer.effect, origins });
            }
        }
    }
    best
}

/// The prefixes that decide as `layers` do: for every protocol and port the longest prefix over it carries its winner, and where
/// there is no prefix there is no winner.
///
/// Entries nest three deep at most: every protocol, a protocol, ports whose winner differs from that of the protocol as a whole.
/// The last never overlap.
pub(crate) fn resolve<O: Ord + Clone>(layers: &[Layer<O>]) -> BTreeMap<PortKey, Winner<O>> {
    let mut entries = BTreeMap::new();
    let everywhere = winner(layers.iter().filter(|layer| matches!(layer.spans, Spans::Any)));
    for protocol in Protocol::ALL {
        let over = |range| winner(layers.iter().filter(|layer| layer.spans.covers(protocol, range)));
        let whole = over(PortRange::ALL);
        if whole.is_some() && whole != everywhere {
            insert(&mut entries, Some(protocol), PortRange::ALL, whole.as_ref());
        }
        // Runs of ports with one winner; a cut is where a rule's range begins or has just ended.
        let mut run: Option<(PortRange, Option<Winner<O>>)> = None;
        for range in pieces(layers, protocol) {
            let here = over(range);
            run = match run {
                Some((before, winner)) if winner == here => {
                    PortRange::new(before.first(), range.last()).map(|joined| (joined, winner))
                }
                Some((before, winner)) => {
                    if winner != whole {
                        insert(&mut entries, Some(protocol), before, winner.as_ref());
                    }
                    Some((range, here))
                }
                None => Some((range, here)),
            };
        }
        if let Some((last, winner)) = run
            && winner != whole
        {
            insert(&mut entries, Some(protocol), last, winner.as_ref());
        }
    }
    if let Some(everywhere) = everywhere {
        entries.insert(PortKey { protocol: None, port: 0, prefix_len: 0 }, everywhere);
    }
    entries
}

fn insert<O: Clone>(
    entries: &mut BTreeMap<PortKey, Winner<O>>,
    protocol: Option<Protocol>,
    range: PortRange,
    winner: Option<&Winner<O>>,
) {
    let Some(winner) = winner else { return };
    for (port, prefix_len) in range.prefixes() {
        entries.insert(PortKey { protocol: protocol.map(Protocol::number), port, prefix_len }, winner.clone());
    }
}

/// All ports, cut wherever a range of `protocol` begins or ends; in order.
fn pieces<O>(layers: &[Layer<O>], protocol: Protocol) -> Vec<PortRange> {
    let mut cuts = BTreeSet::from([0, 1 << 16]);
    for layer in layers {
        if let Spans::Of(spans) = &layer.spans {
            for (_, span) in spans.iter().filter(|(p, _)| *p == protocol) {
                cuts.extend([u32::from(span.first()), u32::from(span.last()) + 1]);
            }
        }
    }
    let cuts: Vec<_> = cuts.into_iter().collect();
    let piece = |pair: &[u32]| match pair {
        [first, end] => PortRange::new(u16::try_from(*first).ok()?, u16::try_from(end - 1).ok()?),
        _ => None,
    };
    cuts.windows(2).filter_map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{OriginId, PortEntry, PortSet},
        rule::Tier,
    };

    fn layer(effect: PortVerdict, origin: u32, spans: Spans) -> Layer<u32> {
        Layer { precedence: Precedence::new(Tier::NORMAL, 0, effect), effect, origin, spans }
    }

    fn tcp(first: u16, last: u16) -> Spans {
        Spans::Of(vec![(Protocol::Tcp, PortRange::new(first, last).unwrap())])
    }

    /// What decides for each port, asked of the layers one by one.
    fn direct(layers: &[Layer<u32>], protocol: u8, port: u16) -> Option<Winner<u32>> {
        winner(layers.iter().filter(|layer| match &layer.spans {
            Spans::Any => true,
            Spans::Of(spans) => spans.iter().any(|(p, range)| p.number() == protocol && range.contains(port)),
        }))
    }

    fn looked_up(entries: &BTreeMap<PortKey, Winner<u32>>, protocol: u8, port: u16) -> Option<Winner<u32>> {
        let numbered: Vec<_> = entries.values().cloned().collect();
        let set = PortSet {
            entries: (0..)
                .zip(entries)
                .map(|(index, (key, winner))| {
                    (
                        *key,
                        PortEntry {
                            verdict: winner.effect,
                            origin: OriginId(index),
                            precedence: winner.precedence.number(),
                        },
                    )
                })
                .collect(),
        };
        set.lookup(protocol, port).map(|entry| numbered[entry.origin.0 as usize].clone())
    }

    #[test]
    fn longest_prefix_decides_as_the_rules_do() {
        use PortVerdict::{Allow, Deny};
        let cases: Vec<(&str, Vec<Layer<u32>>, usize)> = vec![
            ("nothing", vec![], 0),
            ("no port at all", vec![layer(Allow, 1, Spans::Of(vec![]))], 0),
            ("everything", vec![layer(Allow, 1, Spans::Any)], 1),
            ("one port", vec![layer(Allow, 1, tcp(80, 80))], 1),
            ("a protocol", vec![layer(Allow, 1, tcp(0, 65535))], 1),
            ("twice the same", vec![layer(Allow, 1, tcp(80, 80)), layer(Allow, 2, tcp(80, 80))], 1),
            ("a port of everything", vec![layer(Allow, 1, Spans::Any), layer(Allow, 2, tcp(80, 80))], 2),
            ("a port of a protocol", vec![layer(Allow, 1, tcp(0, 65535)), layer(Allow, 2, tcp(443, 443))], 2),
            ("overlap", vec![layer(Allow, 1, tcp(8000, 8010)), layer(Allow, 2, tcp(8005, 9000))], 16),
            ("nested", vec![layer(Allow, 1, tcp(1024, 65535)), layer(Allow, 2, tcp(8080, 8080))], 18),
            ("halves", vec![layer(Allow, 1, tcp(0, 32767)), layer(Allow, 2, tcp(32768, 65535))], 2),
            ("neighbours join", vec![layer(Allow, 1, tcp(80, 80)), layer(Allow, 1, tcp(81, 81))], 1),
            ("deny in allow", vec![layer(Allow, 1, Spans::Any), layer(Deny, 2, tcp(22, 22))], 2),
            ("deny over allow", vec![layer(Allow, 1, tcp(22, 22)), layer(Deny, 2, Spans::Any)], 1),
        ];
        for (name, layers, count) in cases {
            let entries = resolve(&layers);
            for protocol in [1, 6, 17, 132] {
                for port in 0..=u16::MAX {
                    // Every port of what is interesting, every 997th of the rest.
                    if port % 997 == 0 || port < 100 || (7990..9010).contains(&port) || (32_760..32_775).contains(&port)
                    {
                        let (expected, found) = (direct(&layers, protocol, port), looked_up(&entries, protocol, port));
                        assert_eq!(found, expected, "{name}: {port} of protocol {protocol}");
                    }
                }
            }
            assert_eq!(entries.len(), count, "{name}: entries {:?}", entries.keys());
        }
    }
}
