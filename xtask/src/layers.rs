//! The invariants of ARCHITECTURE.md that the dependency graph and the sources can be asked about.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::run::{cargo, printed, root};

/// Every crate and its layer; a dependency points to a lower one. Equal layers do not know each other.
const LAYERS: &[(&str, u32)] = &[
    ("strait-base", 0),
    ("strait-api", 1),
    ("strait-packet", 1),
    ("strait-http", 1),
    ("strait-echo", 1),
    ("strait-cluster", 2),
    ("strait-model", 2),
    ("strait-route", 2),
    ("strait-analyze", 3),
    ("strait-flow", 3),
    ("strait-proxy", 4),
    ("strait-datapath", 4),
    ("strait-agent", 5),
    ("strait-lab", 6),
    ("strait", 7),
];

/// Crates that tests and benchmarks alone may use.
const ONLY_FOR_TESTS: &[&str] = &["strait-load", "strait-testkit"];

/// Crates that do no I/O, and what would give it to them.
const PURE: &[&str] = &[
    "strait-base",
    "strait-packet",
    "strait-http",
    "strait-model",
    "strait-route",
    "strait-cluster",
    "strait-analyze",
];
const IO: &[&str] = &["tokio", "mio", "aya", "nix", "rustix", "libc", "socket2", "rtnetlink", "inotify", "hyper"];

/// Folders whose crates may hold `unsafe`.
const UNSAFE: &[&str] = &["crates/datapath", "bpf"];

/// Lines a file may have before it wants splitting.
const LINES: usize = 800;

/// Dependencies of each workspace package: name → (normal and build, dev).
fn dependencies() -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(root());
    let (text, _) = printed(&mut metadata).unwrap();
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter().map(|package| {
        let (mut normal, mut dev) = (Vec::new(), Vec::new());
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap().to_owned();
            if dependency["kind"] == "dev" { dev.push(name) } else { normal.push(name) }
        }
        (package["name"].as_str().unwrap().to_owned(), (normal, dev))
    });
    packages.collect()
}

fn layer(name: &str) -> Option<u32> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

#[test]
fn dependencies_point_downward() {
    let mut wrong = Vec::new();
    for (name, (normal, _)) in dependencies() {
        if name == "xtask" || ONLY_FOR_TESTS.contains(&name.as_str()) {
            continue;
        }
        let Some(own) = layer(&name) else {
            wrong.push(format!("{name} has no layer; give it one in xtask/src/layers.rs"));
            continue;
        };
        for dependency in normal {
            if ONLY_FOR_TESTS.contains(&dependency.as_str()) {
                wrong.push(format!("{name} → {dependency}, which is for tests alone"));
            } else if layer(&dependency).is_some_and(|other| other >= own) {
                wrong.push(format!("{name} → {dependency} does not point downward"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_crates_know_no_io() {
    let packages = dependencies();
    for name in PURE {
        let (normal, _) = &packages[*name];
        let found: Vec<_> = normal.iter().filter(|dependency| IO.contains(&dependency.as_str())).collect();
        assert!(found.is_empty(), "{name} depends on {found:?}");
    }
}

#[test]
fn the_reference_evaluator_shares_no_code_with_the_model() {
    let mut files = Vec::new();
    rust_files(&root().join("crates/testkit/src/reference"), &mut files);
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let shared = text.lines().find(|line| line.contains("strait_model") || line.contains("crate::plan"));
        assert_eq!(shared, None, "{}", file.display());
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for manifest in manifests() {
        let text = fs::read_to_string(&manifest).unwrap();
        let own = UNSAFE.iter().any(|folder| manifest.starts_with(root().join(folder)));
        assert!(own || text.contains("[lints]\nworkspace = true"), "{} does not", manifest.display());
    }
}

#[test]
fn no_file_is_too_long() {
    let mut files = Vec::new();
    for folder in ["crates", "bpf", "fuzz", "peers", "xtask"] {
        rust_files(&root().join(folder), &mut files);
    }
    assert!(!files.is_empty());
    let long: Vec<_> = files
        .iter()
        .map(|file| (file, fs::read_to_string(file).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LINES)
        .collect();
    assert!(long.is_empty(), "over {LINES} lines: {long:?}");
}

fn manifests() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    crates.chain([root().join("xtask")]).map(|folder| folder.join("Cargo.toml")).filter(|file| file.exists()).collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
