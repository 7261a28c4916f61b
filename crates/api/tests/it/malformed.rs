//! Manifests that are wrong: each of `tests/malformed` has its errors in a twin named `*.expected`. `UPDATE_EXPECT=1` writes them anew.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use strait_api::{Directory, Problem, parse, source::InForce};

use crate::source::{describe, policy, until};

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/malformed");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension != "expected"));
    files.sort();
    assert!(files.len() >= 92);
    files
}

#[test]
fn each_has_its_located_errors() {
    let mut wrong = Vec::new();
    for path in corpus() {
        let name: Arc<str> = path.file_name().unwrap().to_str().unwrap().into();
        let parsed = parse(&name, &fs::read(&path).unwrap());
        assert!(!parsed.errors.is_empty(), "{name} is not refused");
        let errors: String = parsed.errors.iter().flat_map(|error| [error.to_string(), "\n".to_owned()]).collect();
        let twin = PathBuf::from(format!("{}.expected", path.display()));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&twin, &errors).unwrap();
        } else if fs::read_to_string(&twin).ok().as_ref() != Some(&errors) {
            wrong.push(format!("{} does not say\n{errors}", twin.display()));
        }
    }
    assert!(wrong.is_empty(), "{}(UPDATE_EXPECT=1 writes them)", wrong.join("\n"));
}

/// Whatever is written over a good policy, that policy stays in force until the file is good again.
#[test]
fn none_takes_the_last_good_version_out_of_force() {
    let folder = tempfile::tempdir().unwrap();
    for wrong in corpus() {
        let path = folder.path().join("policy").with_extension(wrong.extension().unwrap());
        // JSON is YAML, so that the good version does for both.
        let good = |port: u32| {
            let text = policy("web", port);
            let key: Arc<str> = "good.yaml".into();
            strait_api::write::to_json(&parse(&key, text.as_bytes()).objects[0])
        };
        fs::write(&path, good(80)).unwrap();
        let mut directory = Directory::open(&[folder.path()]).unwrap();
        let before = directory.objects().clone();
        assert_eq!(before.len(), 1);
        fs::copy(&wrong, &path).unwrap();
        until(&mut directory, |d| d.problems().any(Problem::is_error));
        assert_eq!((directory.objects(), directory.generation()), (&before, 1), "{}", wrong.display());
        let kept = |problem: &Problem| matches!(problem, Problem::Wrong { in_force: InForce::LastGood, .. });
        assert!(directory.problems().filter(|problem| problem.is_error()).all(kept), "{}", describe(&directory));
        fs::write(&path, good(81)).unwrap();
        until(&mut directory, |d| !d.problems().any(Problem::is_error));
        assert_eq!((directory.objects() == &before, directory.generation()), (false, 2), "{}", wrong.display());
        fs::remove_file(path).unwrap();
    }
}
