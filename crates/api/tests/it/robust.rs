//! No input panics, and none takes long.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::Index};
use strait_api::parse;

/// One object of every kind that is read.
pub(crate) const EVERY_KIND: &str = include_str!("../every-kind.yaml");

/// Reads `bytes` as YAML and as JSON. Whatever is read is consistent: objects read back, errors say where.
fn read(bytes: &[u8]) {
    for name in ["input.yaml", "input.json"] {
        let parsed = parse(&Arc::from(name), bytes);
        // A carriage return ends a line of YAML, too.
        let lines = u32::try_from(bytes.split(|byte| matches!(byte, b'\n' | b'\r')).count()).unwrap() + 1;
        for error in &parsed.errors {
            assert!((1..=lines).contains(&error.location.line) && error.location.column > 0, "{error}");
            assert!(!error.to_string().contains(|c: char| c.is_control()), "{error:?}");
        }
        for note in &parsed.notes {
            assert!(!note.to_string().contains(|c: char| c.is_control()), "{note:?}");
        }
        for object in &parsed.objects {
            crate::manifests::reads_back(object);
        }
    }
}

/// Pieces of YAML, so that random texts get past the scanner.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("  "),
        Just("- "),
        Just(": "),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just("? "),
        Just("&a "),
        Just("*a"),
        Just("<<: "),
        Just("!!str "),
        Just("! "),
        Just("|\n"),
        Just(">-\n"),
        Just("\""),
        Just("'"),
        Just("---\n"),
        Just("...\n"),
        Just("%YAML 1.1\n"),
        Just("# c\n"),
        Just("\t"),
        Just("\r\n"),
        Just("\u{feff}"),
        Just("a"),
        Just("80"),
        Just("~"),
        Just("0x"),
        Just("-"),
        Just("é"),
        Just("\\"),
        Just("\\u"),
        Just("d83d"),
        Just("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"),
        Just("kind: List\nitems:\n"),
        Just("spec:\n"),
    ];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// Copies a stretch to another place.
    Copy(Index, usize, Index),
    Truncate(Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let bytes = prop_oneof![
        vec(any::<u8>(), 1..4),
        prop::sample::select(vec![
            "{}", "[]", "null", "-1", "99999", "\"\"", "&x ", "*x", "\n", "  ", ":", "- ", "true"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let edit = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<Index>(), bytes).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), 1..80_usize, any::<Index>()).prop_map(|(from, length, to)| Edit::Copy(from, length, to)),
        any::<Index>().prop_map(Edit::Truncate),
    ];
    vec(edit, 1..6)
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let at = |index: &Index, bytes: &Vec<u8>| index.index(bytes.len() + 1);
    match edit {
        Edit::Set(index, byte) => {
            let at = at(index, bytes);
            bytes.iter_mut().skip(at).take(1).for_each(|slot| *slot = *byte);
        }
        Edit::Insert(index, new) => {
            let at = at(index, bytes);
            bytes.splice(at..at, new.iter().copied());
        }
        Edit::Remove(index, length) => {
            let at = at(index, bytes);
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Edit::Copy(from, length, to) => {
            let (from, to) = (at(from, bytes), at(to, bytes));
            let copy = bytes[from..(from + length).min(bytes.len())].to_vec();
            bytes.splice(to..to, copy);
        }
        Edit::Truncate(index) => bytes.truncate(index.index(bytes.len() + 1)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..400)) {
        read(&bytes);
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        read(text.as_bytes());
    }

    #[test]
    fn any_pieces(text in pieces()) {
        read(text.as_bytes());
    }

}

/// How many cases of the larger inputs; `PROPTEST_CASES` asks for more.
fn fewer() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { default } else { ProptestConfig { cases: 64, ..default } }
}

proptest! {
    #![proptest_config(fewer())]

    #[test]
    fn edited_manifests(edits in edits()) {
        let mut bytes = EVERY_KIND.as_bytes().to_vec();
        for edit in &edits {
            apply(&mut bytes, edit);
        }
        read(&bytes);
    }

    #[test]
    fn edited_json(edits in edits()) {
        let parsed = parse(&Arc::from("every-kind.yaml"), EVERY_KIND.as_bytes());
        let mut bytes: Vec<u8> = parsed.objects.iter().flat_map(|object| strait_api::write::to_json(object).into_bytes()).collect();
        for edit in &edits {
            apply(&mut bytes, edit);
        }
        read(&bytes);
    }
}

#[test]
fn every_kind_is_in_the_sample() {
    let parsed = parse(&Arc::from("every-kind.yaml"), EVERY_KIND.as_bytes());
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    // What is read and not enforced yet is said, and nothing else.
    let others = || parsed.notes.iter().filter(|note| note.topic != strait_api::Topic::NotEnforced);
    assert!(others().next().is_none(), "{:?}", others().collect::<Vec<_>>());
    let kinds: std::collections::BTreeSet<_> = parsed.objects.iter().map(strait_api::Object::kind).collect();
    assert_eq!(kinds.len(), 38, "{kinds:?}");
    parsed.objects.iter().for_each(crate::manifests::reads_back);
}
