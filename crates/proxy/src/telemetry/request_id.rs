//! Ids of requests: UUIDs of version 4, from a generator that every worker seeds by itself.

use std::cell::Cell;

/// Makes ids. They tell requests apart and are no secrets.
pub(crate) struct RequestIds(Cell<[u64; 2]>);

/// An id as text.
pub(crate) type RequestId = [u8; 36];

const DIGITS: [u8; 16] = *b"0123456789abcdef";
/// Where the two digits of each byte stand.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

impl RequestIds {
    /// A generator that no other one agrees with.
    pub(crate) fn new() -> Self {
        let mut seed = [0; 16];
        // Without the system's randomness ids of several workers would be alike, which harms nobody but readers of logs.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        let (high, low) = seed.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(1, u64::from_le_bytes);
        Self(Cell::new([word(high), word(low) | 1]))
    }

    /// The next id.
    pub(crate) fn next(&self) -> RequestId {
        let [a, b] = [self.word(), self.word()];
        let bits = u128::from(a) << 64 | u128::from(b);
        let bits = bits & !(0xf << 76 | 0b11 << 62) | 4 << 76 | 0b10 << 62;
        let mut text = [b'-'; 36];
        for (byte, at) in bits.to_be_bytes().into_iter().zip(PLACES) {
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }

    /// xoroshiro128+ (Blackman and Vigna): its low bits, which are weak, stand where nobody looks for randomness.
    fn word(&self) -> u64 {
        let [a, b] = self.0.get();
        let mixed = a ^ b;
        self.0.set([a.rotate_left(24) ^ mixed ^ mixed << 16, mixed.rotate_left(37)]);
        a.wrapping_add(b)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_uuids_and_differ() {
        let (one, other) = (RequestIds::new(), RequestIds::new());
        let ids: BTreeSet<_> = (0..1000).flat_map(|_| [one.next(), other.next()]).collect();
        assert_eq!(ids.len(), 2000);
        for id in ids {
            let text = std::str::from_utf8(&id).unwrap();
            let parts: Vec<_> = text.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{text}");
            assert!(text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')), "{text}");
            assert!(text[14..].starts_with('4') && matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{text}");
        }
    }
}
