//! Manifests that are right.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use strait_api::parse;

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
