//! The judges, judged.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod agreement;
mod all_kinds;
mod corpora;
mod expansion;
mod generator;
mod incremental;
mod live;
mod truths;
