//! Manifests as bytes: whatever is read is consistent.

use std::sync::Arc;

use strait_api::{Object, parse, write::to_json};

/// Reads `bytes` as the file `name`. Errors say where, in the file and in one line; what is read, read back, is the same.
pub(super) fn check(name: &str, bytes: &[u8]) -> Vec<Object> {
    let parsed = parse(&Arc::from(name), bytes);
    // A carriage return ends a line of YAML, too.
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    for error in &parsed.errors {
        let line = usize::try_from(error.location.line).unwrap_or(usize::MAX);
        assert!((1..=lines).contains(&line) && error.location.column > 0, "{error} is beyond line {lines}");
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
    for note in &parsed.notes {
        assert!(!note.to_string().contains(char::is_control), "{note:?}");
    }
    parsed.objects.iter().for_each(reads_back);
    parsed.objects
}

fn reads_back(object: &Object) {
    let written = to_json(object);
    let again = parse(&Arc::from("written.json"), written.as_bytes());
    assert!(again.errors.is_empty(), "{written}\n{:?}", again.errors);
    let [again] = &again.objects[..] else {
        assert_eq!(again.objects.len(), 1, "{written}");
        return;
    };
    assert_eq!(without_locations(again), without_locations(object), "{written}");
    // The debug text of a secret hides its values; its manifest does not.
    assert_eq!(to_json(again), written);
}

fn without_locations(object: &Object) -> String {
    let text = format!("{object:?}");
    let mut parts = text.split("Location {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + part.split_once('}').map_or("", |(_, rest)| rest))
}
