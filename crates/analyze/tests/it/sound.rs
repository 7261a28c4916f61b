//! Rules that are said to change nothing decide nothing: asked of random clusters with policies of all kinds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_analyze::{Manifests, analyze};
use strait_api::{Objects, parse};
use strait_base::Location;
use strait_model::{Party, Reason, Snapshot};
use strait_testkit::{mixed_case, probes, trial};

/// Clusters that are tried, and every how many-th question is asked of each; `STRAIT_CASES` asks for more clusters.
const CASES: u64 = 60;
const STEP: usize = 7;

#[test]
fn rules_that_are_said_to_be_void_decide_nothing() {
    let cases = std::env::var("STRAIT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let (mut void_rules, mut redundant_rules) = (0, 0);
    for seed in 0..cases {
        let text = mixed_case(seed).yaml();
        let file: Arc<str> = "case.yaml".into();
        let parsed = parse(&file, text.as_bytes());
        assert_eq!(parsed.errors, [], "seed {seed}");
        let mut objects = Objects::default();
        parsed.objects.into_iter().for_each(|object| objects.replace(object));
        let texts = BTreeMap::from([(file, text.clone().into_bytes())]);
        let findings = analyze(&Manifests {
            declared: &objects,
            expanded: &objects,
            problems: &[],
            texts: &texts,
            now: crate::NOW,
        });
        let snapshot = Snapshot::new(&objects);
        // Rules that are one in the IR: of others a part may be void and another not.
        let mut parts: BTreeMap<&Location, usize> = BTreeMap::new();
        for rule in snapshot.policies().iter().flat_map(|policy| &policy.rules) {
            *parts.entry(&rule.origin.location).or_default() += 1;
        }
        let whole = |codes: &[&str]| -> BTreeSet<&Location> {
            let of_codes = findings.iter().filter(|finding| codes.contains(&finding.code.name));
            of_codes.map(|finding| &finding.location).filter(|at| parts.get(at) == Some(&1)).collect()
        };
        let void = whole(&["allow-denied", "deny-overridden", "shadowed-rule", "l7-bypassed"]);
        let redundant = whole(&["redundant-rule"]);
        void_rules += void.len();
        redundant_rules += redundant.len();
        if void.is_empty() && redundant.is_empty() {
            continue;
        }
        for connection in probes::probes(&objects).step_by(STEP) {
            let question = trial::question(&connection);
            let verdict = snapshot.verdict(&question);
            // Between a pod and its node rules of some kinds have no say, and all is allowed that those of others do not deny.
            let with_node = matches!(question.from, Party::Node(_)) || matches!(question.to, Party::Node(_));
            for decision in [&verdict.egress, &verdict.ingress] {
                for origin in &decision.origins {
                    assert!(!void.contains(&origin.location), "seed {seed}: {origin} decides {connection}\n{text}");
                }
                let alone = decision.reason == Reason::Rule
                    && !with_node
                    && decision.origins.iter().all(|origin| redundant.contains(&origin.location));
                assert!(!alone, "seed {seed}: {:?} decide {connection} alone\n{text}", decision.origins);
            }
        }
    }
    println!("{cases} clusters, {void_rules} void rules, {redundant_rules} redundant ones");
    assert!(void_rules > 10 && redundant_rules > 10, "{void_rules} void rules, {redundant_rules} redundant ones");
}
