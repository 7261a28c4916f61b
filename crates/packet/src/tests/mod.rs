//! The vectors on the host, and what they cannot show: time, events, counters.

use crate::host::MemoryMaps;
use crate::host::vectors::{self, Step};

const IFINDEX: u32 = 3;

#[test]
fn every_vector_holds() {
    let mut failures = Vec::new();
    for vector in vectors::all() {
        let mut maps = MemoryMaps { now_ns: 1_000_000_000, ..MemoryMaps::default() };
        for (position, step) in vector.steps.iter().enumerate() {
            match step {
                Step::Load(content) => maps.load(content, IFINDEX),
                Step::Send { hook, frame, expect } => {
                    let seen = maps.run(*hook, IFINDEX, frame);
                    if seen != *expect {
                        failures.push(format!("{} step {position}: {seen:?}, expected {expect:?}", vector.name));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}
