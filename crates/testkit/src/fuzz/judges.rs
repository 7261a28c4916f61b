//! The reference against all others, on cases that bytes choose.

use crate::{draw::Draw, generate::mixed_objects, packets::Host, render, trial::try_objects};

/// Questions about each case.
const QUESTIONS: usize = 40;

/// Bytes choose a cluster, the one that was in force before, and the questions.
pub(super) fn run(bytes: &[u8]) {
    let mut draw = Draw::of_bytes(bytes);
    let objects = mixed_objects(&mut draw);
    let before = draw.chance(30).then(|| mixed_objects(&mut draw));
    let host = Host::new();
    assert!(host.is_ok(), "{host:?}");
    let Ok(mut host) = host else { return };
    if let Err(small) = try_objects(&objects, before.as_ref(), Some((QUESTIONS, &mut draw)), &mut host) {
        let (disagreement, objects) = *small;
        let manifests = render::manifests(&objects, &mut Draw::new(0));
        assert!(objects.is_empty() && !manifests.is_empty(), "{disagreement}\n{manifests}");
    }
}
