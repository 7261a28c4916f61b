//! Mistakes are found where they are, and nothing is found where there are none.
//!
//! `tests/mistakes`: each file makes one mistake in the cluster of `tests/base.yaml`; its last lines say all that is to be found then
//! (`# finds CODE FILE:LINE:COLUMN FIELD`), and something that one of the findings says (`# says TEXT`). `tests/good`: manifests in which nothing is to be found, each for itself.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod scale;
mod sound;
mod upstream;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use strait_analyze::{Finding, Manifests, analyze, codes};
use strait_api::{Directory, Objects, Problem, parse};

const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
/// The beginning of 2030.
const NOW: i64 = 1_893_456_000;
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What is found in the files under `roots`, read as the command line reads them.
fn find(roots: &[PathBuf]) -> Vec<Finding> {
    let directory = Directory::open(roots).unwrap();
    let problems: Vec<Problem> = directory.problems().cloned().collect();
    let mut declared: Objects = directory.objects().clone();
    let mut files: BTreeSet<Arc<str>> =
        declared.iter().map(|object| Arc::clone(&object.meta().location.file)).collect();
    files.extend(problems.iter().filter_map(Problem::location).map(|location| Arc::clone(&location.file)));
    let texts: BTreeMap<Arc<str>, Vec<u8>> =
        files.into_iter().map(|file| (Arc::clone(&file), fs::read(&*file).unwrap())).collect();
    for (file, text) in &texts {
        for object in parse(file, text).objects {
            if declared.get(&object.key()).is_none() {
                declared.replace(object);
            }
        }
    }
    let expanded = strait_cluster::expand(&declared, &strait_cluster::Options::default(), None).objects;
    analyze(&Manifests { declared: &declared, expanded: &expanded, problems: &problems, texts: &texts, now: NOW })
}

/// `CODE FILE:LINE:COLUMN FIELD` of each.
fn short(findings: &[Finding]) -> Vec<String> {
    let line = |finding: &Finding| {
        let file = Path::new(&*finding.location.file).file_name().unwrap().to_str().unwrap();
        let (line, column) = (finding.location.line, finding.location.column);
        format!("{} {file}:{line}:{column} {}", finding.code.name, finding.path).trim_end().to_owned()
    };
    findings.iter().map(line).collect()
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

#[test]
fn every_mistake_is_found_where_it_is_and_nothing_else() {
    let base = fs::read_to_string(format!("{TESTS}/base.yaml")).unwrap();
    let mut wrong = String::new();
    let mut found = BTreeSet::new();
    let files = yaml_files(Path::new(&format!("{TESTS}/mistakes")));
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let expected: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# finds ")).collect();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("base.yaml"), &base).unwrap();
        fs::write(folder.path().join("mistake.yaml"), &text).unwrap();
        let findings = find(&[folder.path().to_owned()]);
        found.extend(findings.iter().map(|finding| finding.code.name));
        assert!(findings.iter().all(|finding| !finding.message.is_empty() && !finding.remedy.is_empty()));
        for says in text.lines().filter_map(|line| line.strip_prefix("# says ")) {
            let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
            assert!(texts.iter().any(|text| text.contains(says)), "{}: {says}: {texts:#?}", path.display());
        }
        let (mut expected, mut findings) = (expected, short(&findings));
        expected.sort_unstable();
        findings.sort_unstable();
        if findings != expected || expected.is_empty() {
            let name = path.file_name().unwrap().display();
            write!(wrong, "{name}\n  expected {expected:#?}\n  found {findings:#?}\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(files.len() >= 40, "{} mistakes", files.len());
    let all: BTreeSet<&str> = codes::ALL.iter().map(|code| code.name).collect();
    let never: Vec<_> = all.difference(&found).collect();
    assert_eq!(never, [&"no-pods"], "codes that no mistake shows");
}

#[test]
fn policies_alone_are_said_not_to_be_looked_at_whole() {
    let folder = tempfile::tempdir().unwrap();
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x, namespace: shop}\n\
                spec:\n  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Ingress]\n";
    fs::write(folder.path().join("policy.yaml"), text).unwrap();
    assert_eq!(short(&find(&[folder.path().to_owned()])), ["no-pods policy.yaml:1:1"]);
}

#[test]
fn nothing_is_found_in_good_manifests() {
    let mut roots = vec![PathBuf::from(format!("{ROOT}/samples/shop")), PathBuf::from(format!("{TESTS}/base.yaml"))];
    roots.extend(yaml_files(Path::new(&format!("{TESTS}/good"))));
    assert!(roots.len() > 5);
    for root in roots {
        let findings: Vec<String> = find(std::slice::from_ref(&root)).iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{}: {findings:#?}", root.display());
    }
}

#[test]
fn the_documentation_lists_every_code() {
    let text = fs::read_to_string(format!("{ROOT}/docs/analyze.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> =
        codes::ALL.iter().map(|code| format!("| `{}` | {} | {} |", code.name, code.severity, code.means)).collect();
    assert_eq!(rows, expected);
}
