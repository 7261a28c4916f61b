//! Port-set algebra: from rules that overlap to prefixes of which the longest decides.

use std::collections::{BTreeMap, BTreeSet};

use strait_base::PortRange;

use crate::{
    plan::PortKey,
    tiers::{self, Outcome, Voice},
};

/// What one rule does on which ports.
#[derive(Clone, Debug)]
pub(crate) struct Layer<O> {
    pub voice: Voice<O>,
    pub spans: Spans,
}

/// On which ports.
#[derive(Clone, Debug)]
pub(crate) enum Spans {
    /// Everything, also protocols without ports.
    Any,
    /// These, by protocol number; none where empty. The ports of ICMP are its types.
    Of(Vec<(u8, PortRange)>),
}

impl Spans {
    fn covers(&self, protocol: u8, range: PortRange) -> bool {
        match self {
            Self::Any => true,
            Self::Of(spans) => spans
                .iter()
                .any(|(p, span)| *p == protocol && span.first() <= range.first() && range.last() <= span.last()),
        }
    }
}

/// The prefixes that decide as `layers` do: for every protocol and port the longest prefix over it carries its winner, and where
/// there is no prefix there is no winner.
///
/// Entries nest three deep at most: every protocol, a protocol, ports whose winner differs from that of the protocol as a whole.
/// The last never overlap.
pub(crate) fn resolve<O: Ord + Clone>(layers: &[Layer<O>]) -> BTreeMap<PortKey, Outcome<O>> {
    let mut entries = BTreeMap::new();
    let voices = |covers: &dyn Fn(&Spans) -> bool| {
        let covering: Vec<_> = layers.iter().filter(|layer| covers(&layer.spans)).map(|layer| &layer.voice).collect();
        // Which rules passed it on makes no difference to a datapath.
        tiers::decide(&covering.into_iter()).map(|outcome| Outcome { passed: Vec::new(), ..outcome })
    };
    let everywhere = voices(&|spans| matches!(spans, Spans::Any));
    for protocol in protocols(layers) {
        let over = |range| voices(&|spans| spans.covers(protocol, range));
        let whole = over(PortRange::ALL);
        if whole.is_some() && whole != everywhere {
            insert(&mut entries, Some(protocol), PortRange::ALL, whole.as_ref());
        }
        // Runs of ports with one winner; a cut is where a rule's range begins or has just ended.
        let mut run: Option<(PortRange, Option<Outcome<O>>)> = None;
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

/// The protocols that rules tell apart by port.
fn protocols<O>(layers: &[Layer<O>]) -> BTreeSet<u8> {
    let spans = layers.iter().flat_map(|layer| match &layer.spans {
        Spans::Any => [].iter(),
        Spans::Of(spans) => spans.iter(),
    });
    spans.map(|(protocol, _)| *protocol).collect()
}

fn insert<O: Clone>(
    entries: &mut BTreeMap<PortKey, Outcome<O>>,
    protocol: Option<u8>,
    range: PortRange,
    outcome: Option<&Outcome<O>>,
) {
    let Some(outcome) = outcome else { return };
    for (port, prefix_len) in range.prefixes() {
        entries.insert(PortKey { protocol, port, prefix_len }, outcome.clone());
    }
}

/// All ports, cut wherever a range of `protocol` begins or ends; in order.
fn pieces<O>(layers: &[Layer<O>], protocol: u8) -> Vec<PortRange> {
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
        rule::{Effect, Precedence, Tier},
        tiers::{Background, By, Isolation},
    };

    fn layer(effect: Effect, origin: u32, spans: Spans) -> Layer<u32> {
        ranked(Precedence::normal(effect), effect, origin, spans)
    }

    fn ranked(precedence: Precedence, effect: Effect, origin: u32, spans: Spans) -> Layer<u32> {
        Layer { voice: Voice { precedence, effect, audit: false, by: By::Rule(origin) }, spans }
    }

    fn isolation(isolated: bool) -> Vec<Layer<u32>> {
        let enforced = if isolated { Isolation::Isolated } else { Isolation::None };
        let background = Background { enforced, ..Background::default() };
        background.voices().map(|voice| Layer { voice, spans: Spans::Any }).collect()
    }

    fn tcp(first: u16, last: u16) -> Spans {
        Spans::Of(vec![(6, PortRange::new(first, last).unwrap())])
    }

    /// Everything is allowed before the normal tier, but for one port that is left to it.
    fn pass_80() -> Vec<Layer<u32>> {
        vec![
            ranked(Precedence::at(Tier::Admin, 0, Effect::Pass), Effect::Pass, 1, tcp(80, 80)),
            ranked(Precedence::at(Tier::Admin, 1, Effect::Allow), Effect::Allow, 2, Spans::Any),
        ]
    }

    /// What decides for each port, asked of the layers one by one.
    fn direct(layers: &[Layer<u32>], protocol: u8, port: u16) -> Option<Outcome<u32>> {
        let covering = layers.iter().filter(|layer| match &layer.spans {
            Spans::Any => true,
            Spans::Of(spans) => spans.iter().any(|(p, range)| *p == protocol && range.contains(port)),
        });
        tiers::decide(&covering.map(|layer| &layer.voice)).map(|outcome| Outcome { passed: Vec::new(), ..outcome })
    }

    fn looked_up(entries: &BTreeMap<PortKey, Outcome<u32>>, protocol: u8, port: u16) -> Option<Outcome<u32>> {
        let numbered: Vec<_> = entries.values().cloned().collect();
        let set = PortSet {
            entries: (0..)
                .zip(entries)
                .map(|(index, (key, winner))| {
                    (
                        *key,
                        PortEntry {
                            verdict: winner.verdict,
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
        use Effect::{Allow, Deny};
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
            ("a type of ICMP", vec![layer(Allow, 1, Spans::Of(vec![(1, PortRange::single(8))]))], 1),
            ("a hole passed to isolation", [pass_80(), isolation(true)].concat(), 2),
            ("a hole passed to nothing", [pass_80(), isolation(false)].concat(), 2),
            ("a hole passed to a rule", [pass_80(), vec![layer(Allow, 3, tcp(80, 80))], isolation(true)].concat(), 2),
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
