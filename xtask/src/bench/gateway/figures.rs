//! Values of turns, their medians, and what they are beside a peer's.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::scenario::Goal;

/// Values by figure, one of each turn.
#[derive(Debug, Default)]
pub(super) struct Samples(BTreeMap<&'static str, Vec<f64>>);

impl Samples {
    pub(super) fn add(&mut self, figure: &'static str, value: f64) {
        self.0.entry(figure).or_default().push(value);
    }

    pub(super) fn median(&self, figure: &str) -> Option<f64> {
        self.0.get(figure).and_then(|values| median(values))
    }

    /// The median of the ratios of each turn.
    pub(super) fn ratio(&self, peer: &Self, figure: &str) -> Option<f64> {
        let turns = self.0.get(figure)?.iter().zip(peer.0.get(figure)?);
        // Coarse figures may be nothing in a short turn.
        let ratios: Vec<f64> = turns.filter(|(_, other)| **other > 0.0).map(|(own, other)| own / other).collect();
        median(&ratios)
    }

    pub(super) fn json(&self) -> Value {
        let figures: Map<_, _> = self
            .0
            .iter()
            .map(|(figure, values)| ((*figure).to_owned(), json!({ "median": median(values), "turns": values })))
            .collect();
        Value::Object(figures)
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted.get(middle).copied()
    } else {
        Some(f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, sorted[middle]))
    }
}

/// A goal against what was measured, as a line and as JSON.
pub(super) fn judged(what: &str, value: f64, at_most: f64, unit: &str) -> (String, Value) {
    // As it is printed, so that 0.90 is not missed by nothing.
    let met = value < at_most + 0.005;
    let line = format!("{}  {what}: {value:.2}{unit}, goal ≤ {at_most}{unit}", if met { "met   " } else { "MISSED" });
    (line, json!({ "goal": what, "value": value, "atMost": at_most, "met": met }))
}

pub(super) fn against(goal: Goal, own: &Samples, peer: &Samples) -> Option<(String, Value)> {
    let what = match goal.figure {
        "cpuMicroseconds" => "CPU a request",
        "p99Microseconds" => "p99 at a fixed rate",
        other => other,
    };
    Some(judged(&format!("{what} / {}", goal.peer), own.ratio(peer, goal.figure)?, goal.at_most, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_turns() {
        let (mut own, mut peer) = (Samples::default(), Samples::default());
        // A noisy turn hits both.
        for (a, b) in [(1.0, 2.0), (10.0, 20.0), (3.0, 2.0)] {
            own.add("x", a);
            peer.add("x", b);
        }
        assert_eq!((own.median("x"), own.ratio(&peer, "x")), (Some(3.0), Some(0.5)));
        assert_eq!((own.median("y"), own.ratio(&peer, "y")), (None, None));
        own.add("x", 5.0);
        assert_eq!(own.median("x"), Some(4.0));
    }

    #[test]
    fn goals_are_met_as_they_are_printed() {
        for (value, met) in [(0.9, true), (0.904, true), (0.906, false)] {
            assert_eq!(judged("x", value, 0.9, "").1["met"], met, "{value}");
        }
    }
}
