//! Randomness that a seed, or bytes, repeat on every machine.

/// A stream of choices.
#[derive(Clone, Debug)]
pub struct Draw {
    /// `SplitMix64`.
    state: u64,
    /// What decides first, the next one last.
    bytes: Vec<u8>,
}

impl Draw {
    /// The stream of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed, bytes: Vec::new() }
    }

    /// The stream that `bytes` decide, one choice after the other: a fuzzer that changes a byte changes a choice. After them it goes on as
    /// that of seed 0.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self { state: 0, bytes: bytes.iter().rev().copied().collect() }
    }

    /// Whether what comes is no more decided by bytes.
    pub const fn is_spent(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        if !self.is_spent() {
            return self.of_next_bytes(8);
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of_next_bytes(&mut self, most: usize) -> u64 {
        let next = (0..most).map_while(|_| self.bytes.pop());
        next.fold(0, |number, byte| number << 8 | u64::from(byte))
    }

    /// A number below `bound`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        let number = match bound {
            _ if self.is_spent() => self.number(),
            1 => 0,
            2..=0x100 => self.of_next_bytes(1),
            0x101..=0x1_0000 => self.of_next_bytes(2),
            _ => self.number(),
        };
        usize::try_from(number % bound).unwrap_or(0)
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `all`, which must not be empty.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// One of `all`, the first ones more often: weights as given.
    pub fn weighted<T: Copy>(&mut self, all: &[(usize, T)]) -> T {
        let mut left = self.below(all.iter().map(|(weight, _)| weight).sum());
        for (weight, value) in all {
            if left < *weight {
                return *value;
            }
            left -= weight;
        }
        all[0].1
    }

    /// `all` in another order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }
}
