//! Manifests that are right.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use strait_api::{Object, parse, write::to_json};

/// Every manifest of well-known projects that is at hand parses without an error.
#[test]
fn manifests_of_others() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !root.is_dir() {
        eprintln!("SKIPPED: no manifests at {}", root.display());
        return;
    }
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "{files:?}");
    let mut wrong = Vec::new();
    for path in files {
        let name: Arc<str> = path.display().to_string().into();
        let parsed = parse(&name, &std::fs::read(&path).unwrap());
        wrong.extend(parsed.errors.iter().map(ToString::to_string));
        for object in &parsed.objects {
            reads_back(object);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            into.push(path);
        }
    }
}

/// Writing an object and reading it gives the object. Compared as debug text without locations.
#[track_caller]
pub(crate) fn reads_back(object: &Object) {
    let written = to_json(object);
    let parsed = parse(&Arc::from("written.json"), written.as_bytes());
    assert!(parsed.errors.is_empty() && parsed.notes.is_empty(), "{written}\n{parsed:?}");
    assert_eq!(parsed.objects.len(), 1, "{written}");
    assert_eq!(without_locations(&parsed.objects[0]), without_locations(object), "{written}");
    // The debug text of a secret hides its values; its manifest does not.
    assert_eq!(to_json(&parsed.objects[0]), written);
}

fn without_locations(object: &Object) -> String {
    let text = format!("{object:?}");
    let mut parts = text.split("Location {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + part.split_once('}').map_or("", |(_, rest)| rest))
}
