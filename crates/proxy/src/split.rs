//! Shares of traffic, exact to the request.

use strait_route::Split;

/// Where one worker is in going round the back ends of one split: smooth weighted round robin. Of any `total` picks in a row each back
/// end gets exactly its weight, spread evenly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Vec<i64>);

impl Turns {
    /// The index of the next target, if there is any.
    pub(crate) fn next(&mut self, split: &Split) -> Option<usize> {
        match split.targets.len() {
            0 => return None,
            1 => return Some(0),
            count if self.0.len() != count => self.0 = vec![0; count],
            _ => {}
        }
        let mut best = 0;
        for (index, target) in split.targets.iter().enumerate() {
            self.0[index] += i64::from(target.weight);
            if self.0[index] > self.0[best] {
                best = index;
            }
        }
        self.0[best] -= i64::from(split.total);
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use strait_route::WeightedBackend;

    use super::*;

    #[test]
    fn any_hundred_in_a_row_are_exact() {
        for weights in [vec![1, 99], vec![50, 50], vec![90, 10], vec![33, 33, 34], vec![100]] {
            let targets: Vec<_> = weights
                .iter()
                .map(|weight| WeightedBackend { weight: *weight, backend: None, filters: Vec::new() })
                .collect();
            let split = Split { targets, total: weights.iter().sum(), ..Split::default() };
            let mut turns = Turns::default();
            let picks: Vec<usize> = (0..1000).map(|_| turns.next(&split).unwrap()).collect();
            for window in picks.windows(100) {
                for (index, weight) in weights.iter().enumerate() {
                    let count = window.iter().filter(|pick| **pick == index).count();
                    assert_eq!(count, usize::try_from(*weight).unwrap(), "{weights:?}");
                }
            }
        }
        assert_eq!(Turns::default().next(&Split::default()), None);
    }
}
