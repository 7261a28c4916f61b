//! What follows a change is what is made from nothing.

use std::{collections::BTreeMap, fmt::Debug, net::IpAddr, sync::Arc};

use strait_api::{Namespace, Node, Object, ObjectKey, Objects, Pod, PodPhase};
use strait_datapath::{
    Attachment, Datapath, Fake, Kernel,
    table::{Ipcache, Policy},
};
use strait_model::{AllocatorState, Compiler, Connection, L4, LocalNode, NodePlan, Party, PlanDelta, PodKey, Snapshot};
use strait_packet::abi::{Direction as AbiDirection, PolicyKey, PolicyValue};
use strait_testkit::{draw::Draw, mixed_case};

/// Clusters that are changed unless `STRAIT_CASES` says otherwise.
const CASES: u64 = 50;
/// Changes of each.
const CHANGES: usize = 40;
const NODES: [&str; 2] = ["node-1", "node-2"];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
}

/// How often changes were followed, and how often everything was made anew.
#[derive(Default, Debug)]
struct Figures {
    followed: usize,
    unchanged: usize,
    anew: usize,
}

/// Random clusters with policies of all kinds, changed at random: cases from seed `STRAIT_SEED_BASE` (0), `STRAIT_CASES` of them.
#[test]
fn a_changed_cluster_is_what_it_would_be_from_nothing() {
    let first = number("STRAIT_SEED_BASE").unwrap_or(0);
    let mut figures = Figures::default();
    for seed in first..first + number("STRAIT_CASES").unwrap_or(CASES) {
        change(seed, &mut figures);
    }
    println!("{figures:?}");
    assert!(figures.followed > figures.unchanged / 2 && figures.anew == 0, "{figures:?}");
}

fn change(seed: u64, figures: &mut Figures) {
    let mut draw = Draw::new(seed ^ 0x0063_6861_6e67);
    let mut objects = mixed_case(seed).objects;
    let local = local(&mut draw, &objects);
    let mut snapshot = Snapshot::seen_from(&objects, local.clone());
    let mut nodes = NODES.map(|node| {
        let mut compiler = Compiler::new(AllocatorState::default());
        let plan = compiler.compile(&snapshot, node);
        let mut datapath = Datapath::over(Fake::new()).unwrap();
        datapath.apply(&plan, &attachments(&plan, &mut draw)).unwrap();
        (node, compiler, plan, datapath)
    });
    for step in 0..CHANGES {
        let mut keys = Vec::new();
        for _ in 0..draw.weighted(&[(6, 1), (2, 2), (1, 5)]) {
            keys.push(edit(&mut draw, &mut objects));
        }
        let context = format!("seed {seed}, step {step}: {keys:?}");
        let delta = snapshot.update(&objects, &keys);
        let fresh = Snapshot::seen_from(&objects, local.clone());
        same_snapshot(&snapshot, &fresh, &mut draw, &context);
        for (node, compiler, plan, datapath) in &mut nodes {
            let before = plan.clone();
            let changes = compiler.advance(&snapshot, &delta, node, plan);
            match () {
                () if changes.everything => figures.anew += 1,
                () if changes.is_empty() => figures.unchanged += 1,
                () => figures.followed += 1,
            }
            let expected = Compiler::new(compiler.state()).compile(&fresh, node);
            let context = format!("{context}, {node}");
            same_plan(plan, &expected, &context);
            told(&before, plan, &changes, &context);
            let attachments = attachments(plan, &mut draw);
            // Somebody else's hand in the tables, now and then: found when they are read, and put right.
            if draw.chance(5) {
                meddle(datapath);
            }
            let applied = datapath.follow(plan, &attachments, &changes).unwrap();
            let mut anew = Datapath::over(Fake::new()).unwrap();
            let expected = anew.apply(plan, &attachments).unwrap();
            same_tables(datapath, &anew, &context);
            assert_eq!(applied.closed, expected.closed, "{context}");
            // Nothing is left to do, and nothing was written that had not changed.
            assert!(!datapath.apply(plan, &attachments).unwrap().changed(), "{context}");
        }
    }
}

/// What the first node knows of itself: sometimes addresses, also such as others claim.
fn local(draw: &mut Draw, objects: &Objects) -> LocalNode {
    let mut addresses: Vec<IpAddr> = Vec::new();
    if draw.chance(50) {
        let claimed: Vec<IpAddr> = objects.pods().flat_map(|pod| pod.pod_ips.clone()).collect();
        let claimed = (!claimed.is_empty()).then(|| *draw.pick(&claimed));
        addresses.extend(claimed.into_iter().chain(["192.168.77.1".parse().unwrap()]));
    }
    LocalNode { name: NODES[0].into(), addresses }
}

/// Most pods of the node, behind links of their own, and one that the plan does not know.
fn attachments(plan: &NodePlan, draw: &mut Draw) -> Vec<Attachment> {
    let attachment = |(ifindex, pod): (u32, &PodKey)| Attachment { pod: pod.clone(), ifindex, mac: [2, 0, 0, 0, 0, 1] };
    let stranger = PodKey::new("nowhere", "stranger");
    let pods = (1..).zip(plan.endpoints.keys()).filter(|_| draw.chance(90)).map(attachment).collect::<Vec<_>>();
    pods.into_iter().chain([attachment((999, &stranger))]).collect()
}

/// An entry goes, another is there that nobody wants, and both are noticed.
fn meddle(datapath: &mut Datapath<Fake>) {
    let first = datapath.ipcache().keys().next().copied();
    if let Some(key) = first {
        datapath.kernel_mut().delete::<Ipcache>(&key).unwrap();
    }
    datapath
        .kernel_mut()
        .upsert::<Policy>(&PolicyKey::new(77, AbiDirection::Egress, 78), &PolicyValue::default())
        .unwrap();
    assert!(datapath.reread().unwrap() > 0);
}

fn same_tables(found: &Datapath<Fake>, expected: &Datapath<Fake>, context: &str) {
    same("IPCACHE", found.ipcache(), expected.ipcache(), context);
    same("POLICY", found.policy(), expected.policy(), context);
    same("PORT_SETS", found.port_sets(), expected.port_sets(), context);
    same("ENDPOINTS", found.endpoints(), expected.endpoints(), context);
    assert_eq!(found.config().host, expected.config().host, "{context}");
    let (found, expected) = (found.kernel().maps(), expected.kernel().maps());
    assert!(found.ipcache == expected.ipcache && found.policy == expected.policy, "{context}: the kernel's");
    assert!(found.port_sets == expected.port_sets && found.endpoints == expected.endpoints, "{context}: the kernel's");
}

/// Adds, replaces, moves or removes something.
fn edit(draw: &mut Draw, objects: &mut Objects) -> ObjectKey {
    let pods: Vec<Arc<Pod>> = objects.pods().cloned().collect();
    let nodes: Vec<Arc<Node>> = objects.nodes().cloned().collect();
    let namespaces: Vec<Arc<Namespace>> = objects.namespaces().cloned().collect();
    let object = match draw.below(13) {
        10 | 11 if !nodes.is_empty() => Object::Node(Arc::new(other_node(draw, &nodes, &pods))),
        12 if !namespaces.is_empty() => {
            let mut namespace = (**draw.pick(&namespaces)).clone();
            namespace.meta.labels = draw.pick(&namespaces).meta.labels.clone();
            Object::Namespace(Arc::new(namespace))
        }
        0..=3 if !pods.is_empty() => Object::Pod(Arc::new(other_pod(draw, &pods))),
        4 | 5 => {
            let there: Vec<ObjectKey> = objects.iter().map(Object::key).collect();
            if there.is_empty() {
                return edit(draw, objects);
            }
            let key = draw.pick(&there).clone();
            objects.remove(&key);
            return key;
        }
        _ => {
            let others = mixed_case(draw.number()).objects;
            let others: Vec<&Object> = others.iter().collect();
            (*draw.pick(&others)).clone()
        }
    };
    let key = object.key();
    objects.replace(object);
    key
}

/// One of the nodes, with something of another, or an address that a pod has.
fn other_node(draw: &mut Draw, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Node {
    let mut node = (**draw.pick(nodes)).clone();
    let other = draw.pick(nodes);
    match draw.below(7) {
        0 => node.meta.labels = other.meta.labels.clone(),
        1 => node.meta.name = format!("{}-more", other.meta.name).into(),
        2 => node.addresses.clone_from(&other.addresses),
        3 if !pods.is_empty() => node.addresses.extend(draw.pick(pods).pod_ips.first()),
        4 => node.addresses.clear(),
        5 => node.pod_cidrs.clone_from(&other.pod_cidrs),
        _ => node.addresses.reverse(),
    }
    node
}

/// One of the pods, with something of another.
fn other_pod(draw: &mut Draw, pods: &[Arc<Pod>]) -> Pod {
    let mut pod = (**draw.pick(pods)).clone();
    let other = draw.pick(pods);
    match draw.below(9) {
        0 => pod.meta.labels = other.meta.labels.clone(),
        1 => pod.meta.name = format!("{}-more", other.meta.name).into(),
        2 => pod.pod_ips.clone_from(&other.pod_ips),
        3 => pod.pod_ips.reverse(),
        4 => pod.spec.containers.clone_from(&other.spec.containers),
        5 => pod.spec.node_name = Some((*draw.pick(&["node-1", "node-2", "nowhere"])).into()),
        6 => pod.spec.host_network = draw.chance(30),
        7 => pod.phase = *draw.pick(&[PodPhase::Running, PodPhase::Succeeded, PodPhase::Failed]),
        _ => pod.meta.location.line += 1,
    }
    pod
}

fn same_snapshot(found: &Snapshot, expected: &Snapshot, draw: &mut Draw, context: &str) {
    assert_eq!(found.policies(), expected.policies(), "{context}");
    assert_eq!(found.problems(), expected.problems(), "{context}");
    assert!(found.namespaces().eq(expected.namespaces()), "{context}");
    assert!(found.nodes().eq(expected.nodes()), "{context}");
    let about = |snapshot: &Snapshot| {
        let pod = |pod: &strait_model::Pod| {
            let policies: Vec<_> = snapshot.policies_of(pod).map(|policy| policy.name.clone()).collect();
            (pod.key.clone(), pod.addresses().to_vec(), pod.named_ports.clone(), snapshot.identity(pod), policies)
        };
        snapshot.pods().map(pod).collect::<Vec<_>>()
    };
    assert_eq!(about(found), about(expected), "{context}");
    let pods: Vec<_> = expected.pods().map(|pod| pod.key.clone()).collect();
    for _ in 0..if pods.is_empty() { 0 } else { 2 } {
        let (from, to) = (Party::Pod(draw.pick(&pods).clone()), Party::Pod(draw.pick(&pods).clone()));
        let l4 = L4::Port { protocol: strait_base::Protocol::Tcp, port: *draw.pick(&[80, 443, 53, 8080]) };
        let asked = Connection { from, to, l4, family: None };
        let texts = [found, expected].map(|snapshot| snapshot.explain(&asked).render(false));
        assert_eq!(texts[0], texts[1], "{context}");
    }
}

fn same_plan(found: &NodePlan, expected: &NodePlan, context: &str) {
    same("ipcache", &found.ipcache, &expected.ipcache, context);
    same("endpoints", &found.endpoints, &expected.endpoints, context);
    same("identities", &found.identities, &expected.identities, context);
    same("policy", &found.policy, &expected.policy, context);
    same("port sets", &found.port_sets, &expected.port_sets, context);
    same("origins", &found.origins, &expected.origins, context);
    assert!(found == expected, "{context}: the plans differ");
}

fn same<K: Ord + Debug, V: Eq + Debug>(what: &str, found: &BTreeMap<K, V>, expected: &BTreeMap<K, V>, context: &str) {
    for (key, value) in expected {
        assert_eq!(found.get(key), Some(value), "{context}: {what} {key:?}");
    }
    for (key, value) in found {
        assert!(expected.contains_key(key), "{context}: {what} {key:?} should be gone: {value:?}");
    }
}

/// What differs is in the delta.
fn told(before: &NodePlan, after: &NodePlan, changes: &PlanDelta, context: &str) {
    if changes.everything {
        return;
    }
    all_told("ipcache", &before.ipcache, &after.ipcache, |key| changes.ipcache.contains(key), context);
    all_told("endpoints", &before.endpoints, &after.endpoints, |key| changes.endpoints.contains(key), context);
    all_told("policy", &before.policy, &after.policy, |key| changes.policy.contains(key), context);
    all_told("port sets", &before.port_sets, &after.port_sets, |key| changes.port_sets.contains(key), context);
    all_told("identities", &before.identities, &after.identities, |key| changes.identities.contains(key), context);
    all_told("origins", &before.origins, &after.origins, |key| changes.origins.contains_key(key), context);
}

fn all_told<K: Ord + Debug, V: Eq>(
    what: &str,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    told: impl Fn(&K) -> bool,
    context: &str,
) {
    for key in before.keys().chain(after.keys()).filter(|key| before.get(key) != after.get(key)) {
        assert!(told(key), "{context}: that {what} {key:?} changed is not told");
    }
}
