//! The compiled plans, the rules and the reference give one answer.

use std::net::IpAddr;

use strait_model::{AllocatorState, Compiler, Connection, Direction, Family, L4, NodePlan, Party, Snapshot, Verdict};
use strait_testkit::{Traffic, probes, reference};

use crate::support::party;

/// Random clusters asked about in full. More of them, and mixed with packets, are asked elsewhere.
const CASES: u64 = 60;

/// Asserts that the plans of both ends' nodes judge as `verdict` says.
pub(crate) fn plans_agree(snapshot: &Snapshot, plans: &[NodePlan], asked: &Connection, verdict: &Verdict) {
    let Some(family) = verdict.family else { return };
    let address = |party: &Party| -> Option<IpAddr> {
        match party {
            Party::Pod(key) => {
                let pod = snapshot.pod(key)?;
                let node = pod.node().and_then(|node| snapshot.node(node));
                pod.address(family).or_else(|| node?.address(family))
            }
            Party::Node(name) => snapshot.node(name)?.address(family),
            Party::Address(address) => (Family::of(*address) == family).then_some(*address),
        }
    };
    let (Some(from), Some(to)) = (address(&asked.from), address(&asked.to)) else { panic!("no address: {asked:?}") };
    for (direction, own, peer, decision) in
        [(Direction::Egress, from, to, &verdict.egress), (Direction::Ingress, to, from, &verdict.ingress)]
    {
        let Some(pod) = snapshot.pods().find(|pod| pod.addresses.contains(&own)) else { continue };
        for plan in plans {
            let Some(judged) = plan.judge_address(&pod.key, direction, peer, asked.l4) else { continue };
            assert_eq!(judged.allowed, decision.allowed, "{direction} of {asked:?}\n{decision:#?}");
            let mut origins = decision.origins.clone();
            origins.sort_unstable();
            let compiled = plan.origins.get(&judged.origin).cloned().unwrap_or_default();
            assert_eq!(compiled, origins, "{direction} of {asked:?}: the plan blames others");
        }
    }
}

#[test]
fn plans_rules_and_reference_agree_on_random_clusters() {
    let mut asked = 0;
    for seed in 0..CASES {
        let case = strait_testkit::case(seed);
        let snapshot = Snapshot::new(&case.objects);
        let nodes: Vec<_> = snapshot.nodes().map(|node| node.name.clone()).collect();
        let plans: Vec<_> =
            nodes.iter().map(|node| Compiler::new(AllocatorState::default()).compile(&snapshot, node)).collect();
        for question in probes::probes(&case.objects) {
            let l4 = match question.traffic {
                Traffic::Port(protocol, port) => L4::Port { protocol, port },
                Traffic::Icmp => L4::Icmp,
            };
            let family = Some(if question.v6 { Family::V6 } else { Family::V4 });
            let connection = Connection { from: party(&question.from), to: party(&question.to), l4, family };
            let verdict = snapshot.verdict(&connection);
            let Some(answer) = reference::judge(&case.objects, &question) else {
                assert!(!verdict.allowed, "seed {seed}: {question} cannot be");
                continue;
            };
            assert_eq!(
                (verdict.egress.allowed, verdict.ingress.allowed),
                (answer.egress.allowed(), answer.ingress.allowed()),
                "seed {seed}: {question}: the reference says {answer:?}\n{}\n{}",
                snapshot.explain(&connection).render(false),
                case.yaml(),
            );
            plans_agree(&snapshot, &plans, &connection, &verdict);
            asked += 1;
        }
    }
    assert!(asked > 10_000, "only {asked} questions");
}
