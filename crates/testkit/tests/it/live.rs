//! Cases for a running lab.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use strait_api::{Object, Objects, parse};
use strait_testkit::{End, LiveCase, Traffic, live::PODS, live_case};

const OUTSIDE: [&str; 2] = ["203.0.113.10", "2001:db8:113::10"];

fn outside() -> Vec<IpAddr> {
    OUTSIDE.iter().map(|text| text.parse().unwrap()).collect()
}

/// What the lab reads from the files is what the probes are computed from.
#[test]
fn files_expand_to_the_same_pods() {
    let mut addresses = None;
    let mut kinds = BTreeSet::new();
    for seed in 0..100 {
        let case = live_case(seed);
        let mut objects = Objects::default();
        for (name, text) in case.files() {
            let parsed = parse(&Arc::from(name), text.as_bytes());
            assert!(parsed.errors.is_empty(), "seed {seed}: {:#?}\n{text}", parsed.errors);
            for object in parsed.objects {
                objects.insert(object).unwrap();
            }
        }
        let expanded = strait_cluster::expand(&objects, &strait_cluster::Options::default(), None).objects;
        let of = |objects: &Objects| -> Vec<_> {
            objects.pods().map(|pod| (pod.meta.name.clone(), pod.spec.node_name.clone(), pod.pod_ips.clone())).collect()
        };
        assert_eq!(of(&expanded).len(), PODS.len());
        assert_eq!(of(&expanded), of(&case.expanded), "seed {seed}");
        assert_eq!(*addresses.get_or_insert_with(|| of(&expanded)), of(&expanded), "seed {seed} moves pods");
        let all = |objects: &Objects| objects.iter().map(Object::key).collect::<BTreeSet<_>>();
        assert_eq!(all(&expanded), all(&case.expanded), "seed {seed}");
        let policies: Vec<_> = expanded.iter().map(Object::kind).filter(|kind| kind.is_policy()).collect();
        assert!(!policies.is_empty(), "seed {seed}");
        kinds.extend(policies);
    }
    assert_eq!(kinds.len(), 7, "{kinds:?}");
}

#[test]
fn probes_try_everything_and_expect_both() {
    let (mut allowed, mut denied) = (0, 0);
    let (mut v6, mut icmp, mut udp, mut sctp) = (0, 0, 0, 0);
    for seed in 0..100 {
        let by_source = live_case(seed).probes(&outside(), 400);
        let all: Vec<_> = by_source.values().flatten().collect();
        assert_eq!(all.len(), 400, "seed {seed}");
        assert!(by_source.iter().all(|(from, probes)| probes.iter().all(|probe| probe.from == *from)));
        assert!(by_source.keys().any(|from| matches!(from, End::Address(_))));
        allowed += all.iter().filter(|probe| probe.expected).count();
        denied += all.iter().filter(|probe| !probe.expected).count();
        v6 += all.iter().filter(|probe| probe.to.is_ipv6()).count();
        icmp += all.iter().filter(|probe| probe.traffic == Traffic::Icmp).count();
        sctp += all.iter().filter(|probe| probe.traffic.to_string().ends_with("SCTP")).count();
        udp += all.iter().filter(|probe| probe.traffic.to_string().ends_with("UDP")).count();
    }
    for (what, count) in
        [("allowed", allowed), ("denied", denied), ("IPv6", v6), ("ICMP", icmp), ("UDP", udp), ("SCTP", sctp)]
    {
        assert!(count > 500, "{what}: {count} of 40,000");
    }
}

/// A case that fails is made small without moving a pod.
#[test]
fn minimized_cases_keep_the_pods() {
    let case = live_case(3);
    let denied = case.probes(&outside(), 400).into_values().flatten().find(|probe| !probe.expected).unwrap();
    let still = |case: &LiveCase| case.expected(&denied).is_some_and(|probe| !probe.expected);
    let small = case.minimized(still);
    assert!(still(&small));
    let policies = |case: &LiveCase| case.given.iter().filter(|object| object.kind().is_policy()).count();
    assert!(policies(&case) > 1, "{}", policies(&case));
    assert_eq!(policies(&small), 1);
    let pods = |case: &LiveCase| -> Vec<_> {
        case.expanded.pods().map(|pod| (pod.meta.name.clone(), pod.pod_ips.clone())).collect()
    };
    assert_eq!(pods(&small), pods(&case));
}
