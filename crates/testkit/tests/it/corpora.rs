//! What fuzzers found worth keeping, without a fuzzer.

use std::{fs, path::Path};

use strait_testkit::fuzz::TARGETS;

#[test]
fn every_corpus_passes() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    for target in TARGETS {
        assert!(fuzz.join("targets").join(target.name).with_extension("rs").exists(), "{} has no binary", target.name);
        let corpus = fuzz.join("corpus").join(target.name);
        let inputs: Vec<_> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{} is empty", corpus.display());
        for input in inputs {
            println!("{}", input.display());
            (target.run)(&fs::read(&input).unwrap());
        }
    }
}
