//! Cases for a running lab.

use std::{net::IpAddr, sync::Arc};

use strait_api::{Objects, parse};
use strait_testkit::{End, Traffic, live::PODS, live_case};

const OUTSIDE: [&str; 2] = ["203.0.113.10", "2001:db8:113::10"];

fn outside() -> Vec<IpAddr> {
    OUTSIDE.iter().map(|text| text.parse().unwrap()).collect()
}

/// What the lab reads from the files is what the probes are computed from.
#[test]
fn files_expand_to_the_same_pods() {
    let mut addresses = None;
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
        assert_eq!(expanded.network_policies().count(), case.expanded.network_policies().count());
        assert!(expanded.network_policies().count() > 0);
    }
}

#[test]
fn probes_try_everything_and_expect_both() {
    let (mut allowed, mut denied) = (0, 0);
    let (mut v6, mut icmp, mut udp) = (0, 0, 0);
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
        udp += all.iter().filter(|probe| probe.traffic.to_string().ends_with("UDP")).count();
    }
    for (what, count) in [("allowed", allowed), ("denied", denied), ("IPv6", v6), ("ICMP", icmp), ("UDP", udp)] {
        assert!(count > 500, "{what}: {count} of 40,000");
    }
}
