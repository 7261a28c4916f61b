//! The agent over a kernel in memory.

use std::{
    cell::{Cell, RefCell},
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use expect_test::{Expect, expect};
use strait_base::{IdentityId, Protocol};
use strait_datapath::{Count, Event, Fake, Happening, Socket};
use strait_flow::{Output, Printer, Record};
use strait_model::{Direction, IpcacheKind, L4, OriginId};
use strait_packet::{
    abi::{DropReason, Hook, PolicyValue},
    hooks::Verdict,
    host::{Wire, tcp_flags},
};
use tempfile::TempDir;

use super::*;
use crate::api::Mac;

const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}, annotations: {strait.dev/workload: Deployment/web}}
spec: {nodeName: node-1, containers: [{name: web, image: web}]}
status: {phase: Running, podIPs: [{ip: 10.244.1.10}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: shop, labels: {app: db}}
spec: {nodeName: node-1, containers: [{name: db, image: db}]}
status: {phase: Running, podIPs: [{ip: 10.244.1.11}]}
";

pub(crate) const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
    - from: [{podSelector: {matchLabels: {app: web}}}]
      ports: [{port: 5432}]
";

thread_local! {
    /// Links that are not there.
    static GONE: Cell<&'static str> = const { Cell::new("") };
    /// What the node's interfaces have.
    static ADDRESSES: RefCell<Vec<IpAddr>> = const { RefCell::new(Vec::new()) };
}

/// `lxc7` has index 7; everything else is not there.
fn index_of(name: &str) -> io::Result<u32> {
    name.strip_prefix("lxc")
        .filter(|_| GONE.get() != name)
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

pub(crate) struct Setup {
    folder: TempDir,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("manifests")).unwrap();
        let setup = Self { folder };
        setup.write("cluster.yaml", CLUSTER);
        setup.write("policy.yaml", POLICY);
        setup
    }

    pub(crate) fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join("manifests").join(file)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    pub(crate) fn start(&self, kernel: Fake) -> Node<Fake> {
        let options = Options {
            node: "node-1".into(),
            roots: vec![self.folder.path().join("manifests")],
            run_dir: self.folder.path().join("run"),
            uplinks: vec!["lxc99".to_owned()],
            host_legacy_routing: false,
            deny_response: DenyResponse::Reset,
            state_dir: self.folder.path().join("state"),
            host_policy_confirm: Duration::from_mins(1),
            host: Host::default(),
        };
        let links = Links { index_of, addresses: || Ok(ADDRESSES.with_borrow(Clone::clone)) };
        Node::start(options, Datapath::over(kernel).unwrap(), links).unwrap()
    }

    /// Paths as users see them, without where this test happens to run.
    fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn shortcuts_are_taken_where_nobody_else_follows_connections() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::default());
    let wanted = u32::from(!tracks_connections());
    assert_eq!(node.datapath.config().shortcut, wanted);
    for (legacy, expected) in [(true, 0), (false, wanted)] {
        node.options.host_legacy_routing = legacy;
        node.tend();
        assert_eq!(node.datapath.config().shortcut, expected, "--enable-host-legacy-routing: {legacy}");
    }
}

fn spec(pod: &str, ifname: &str, address: &str) -> EndpointSpec {
    EndpointSpec {
        name: PodName { namespace: "shop".into(), pod: pod.into() },
        ifname: ifname.to_owned(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        addresses: vec![address.parse().unwrap()],
    }
}

pub(crate) fn web() -> EndpointSpec {
    spec("web-0", "lxc7", "10.244.1.10")
}

pub(crate) fn db() -> EndpointSpec {
    spec("db-0", "lxc8", "10.244.1.11")
}

fn identity(node: &Node<Fake>, pod: &str) -> IdentityId {
    node.view.plan.endpoints[&PodKey::new("shop", pod)].identity
}

/// What the kernel does with a connection from web to db.
fn web_reaches_db(node: &Node<Fake>, port: u16) -> bool {
    let plan = &node.view.plan;
    plan.judge(identity(node, "db-0"), Direction::Ingress, identity(node, "web-0"), 6, port).allowed
}

fn kernel_policy(node: &Node<Fake>) -> Vec<PolicyValue> {
    node.datapath.policy().values().copied().collect()
}

#[test]
fn a_change_of_manifests_is_enforced_and_a_broken_one_is_not() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(web()).unwrap();
    node.endpoint_add(db()).unwrap();
    assert!(web_reaches_db(&node, 5432) && !web_reaches_db(&node, 80));
    let revision = node.revision;

    setup.write("policy.yaml", &POLICY.replace("5432", "80"));
    node.refresh();
    assert!(!web_reaches_db(&node, 5432) && web_reaches_db(&node, 80));
    assert!(node.revision > revision);
    assert!(node.status().ok, "{:?}", node.status());

    let before = kernel_policy(&node);
    setup.write("policy.yaml", &POLICY.replace("podSelector:", "podSelectro:"));
    node.refresh();
    assert_eq!(kernel_policy(&node), before);
    let status = node.status();
    assert!(!status.ok);
    assert!(
        setup.relative(&status.problems[0]).starts_with("manifests/policy.yaml:5:3: spec.podSelectro"),
        "{:?}",
        status.problems
    );

    setup.write("policy.yaml", POLICY);
    node.refresh();
    assert!(web_reaches_db(&node, 5432) && node.status().ok);
}

#[test]
fn a_file_that_broke_while_no_agent_ran_stays_in_force() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(db()).unwrap();
    let before = kernel_policy(&node);
    let kernel = node.datapath.kernel().clone();
    drop(node);

    setup.write("policy.yaml", "{{ .Values.policy }}");
    let mut node = setup.start(kernel);
    assert_eq!(kernel_policy(&node), before);
    assert!(!web_reaches_db(&node, 80), "{:?}", node.status());
    let problems = node.status().problems.join("\n");
    assert!(problems.contains("policy.yaml:1:"), "{problems}");
    assert!(problems.contains("(broken since before this agent started; its copy"), "{problems}");
    assert!(!problems.contains("NOTHING"), "{problems}");

    // Set right, with another rule: the copy has had its time.
    setup.write("policy.yaml", &POLICY.replace("5432", "80"));
    node.refresh();
    assert!(web_reaches_db(&node, 80) && !web_reaches_db(&node, 5432));
    assert!(node.status().ok, "{:?}", node.status().problems);
}

/// As a save that failed leaves it. Who means it deletes the file, or leaves a comment in it.
#[test]
fn a_file_that_was_emptied_while_no_agent_ran_stays_in_force() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(db()).unwrap();
    let before = kernel_policy(&node);
    for (text, stays) in [("", true), ("# none\n", false), ("", false)] {
        let kernel = node.datapath.kernel().clone();
        drop(node);
        setup.write("policy.yaml", text);
        node = setup.start(kernel);
        assert_eq!(kernel_policy(&node) == before, stays, "{text:?}");
        let problems = node.status().problems.join("\n");
        assert_eq!(problems.contains("policy.yaml: empty since before this agent started"), stays, "{problems}");
    }
    assert!(node.status().ok, "{:?}", node.status());

    // It ends as it does for a file that was emptied before the agent's eyes.
    setup.write("policy.yaml", POLICY);
    node.refresh();
    for end in ["", POLICY] {
        let kernel = node.datapath.kernel().clone();
        drop(node);
        setup.write("policy.yaml", "");
        node = setup.start(kernel);
        assert!(!node.status().ok && kernel_policy(&node) == before);
        if end.is_empty() {
            fs::remove_file(setup.path("policy.yaml")).unwrap();
        } else {
            setup.write("policy.yaml", end);
        }
        while node.refresh() {}
        assert!(node.status().ok, "{:?}", node.status());
        assert_eq!(kernel_policy(&node) == before, !end.is_empty());
        setup.write("policy.yaml", POLICY);
        node.refresh();
    }
}

#[test]
fn a_node_that_no_manifest_knows_is_told_of() {
    let setup = Setup::new();
    let told = |node: &Node<Fake>| node.status().notes.join("\n");
    let mut node = setup.start(Fake::new());
    assert_eq!(told(&node), "");
    setup.write("cluster.yaml", &CLUSTER.replace("node-1", "other"));
    node.refresh();
    assert!(told(&node).contains("no manifest has the node node-1"), "{}", told(&node));
    assert!(told(&node).contains("nodes in manifests: other ("), "{}", told(&node));
    // Without nodes, where pods are says which there are.
    setup.write("cluster.yaml", &CLUSTER.replace("kind: Node", "kind: Namespace"));
    node.refresh();
    assert_eq!(told(&node), "");
}

/// The corpus of wrong manifests: none of them, written over a policy, changes what the kernel has; neither does a restart.
#[test]
fn no_wrong_manifest_takes_policy_away() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests/malformed");
    let wrong: Vec<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    assert!(wrong.len() >= 40);
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(db()).unwrap();
    let before = kernel_policy(&node);
    for file in wrong {
        fs::copy(&file, setup.path("policy.yaml")).unwrap();
        node.refresh();
        assert!(!node.status().ok, "{} is not refused", file.display());
        assert_eq!(kernel_policy(&node), before, "{}", file.display());
        let kernel = node.datapath.kernel().clone();
        drop(node);
        node = setup.start(kernel);
        assert!(!node.status().ok, "{} is not refused at the start", file.display());
        assert_eq!(kernel_policy(&node), before, "{} at the start", file.display());
        setup.write("policy.yaml", POLICY);
        node.refresh();
        assert!(node.status().ok, "{:?}", node.status().problems);
    }
}

#[test]
fn a_file_that_was_deleted_while_no_agent_ran_has_no_copy() {
    let setup = Setup::new();
    drop(setup.start(Fake::new()));
    fs::remove_file(setup.path("policy.yaml")).unwrap();
    let kernel = setup.start(Fake::new()).datapath.kernel().clone();
    setup.write("policy.yaml", "not yet right: [");
    let node = setup.start(kernel);
    assert!(node.view.snapshot.policies().is_empty());
}

#[test]
fn a_new_agent_takes_over_without_a_write() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(web()).unwrap();
    node.endpoint_add(db()).unwrap();
    let mut kernel = node.datapath.kernel().clone();
    kernel.take_writes();
    drop(node);

    let node = setup.start(kernel);
    let mut kernel = node.datapath.kernel().clone();
    assert_eq!(kernel.take_writes(), []);
    assert_eq!(node.status().endpoints.ready, 2);
}

#[test]
fn endpoints_come_and_go() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    let attached = |node: &Node<Fake>| node.datapath.attached().unwrap();
    assert_eq!(attached(&node), [(99, Hook::FromUplink), (99, Hook::ToUplink)]);

    let first = node.endpoint_add(web()).unwrap();
    assert_eq!(node.endpoint_add(web()).unwrap(), first, "adding again changes nothing");
    assert_eq!(node.datapath.endpoints()[&7].identity, identity(&node, "web-0").0);
    assert_eq!(attached(&node), [(7, Hook::FromPod), (7, Hook::ToPod), (99, Hook::FromUplink), (99, Hook::ToUplink)]);

    // The pod came back behind another link.
    node.endpoint_add(spec("web-0", "lxc9", "10.244.1.10")).unwrap();
    assert_eq!(node.datapath.endpoints().keys().copied().collect::<Vec<_>>(), [9]);
    assert_eq!(attached(&node), [(9, Hook::FromPod), (9, Hook::ToPod), (99, Hook::FromUplink), (99, Hook::ToUplink)]);

    node.endpoint_delete(&web().name).unwrap();
    node.endpoint_delete(&web().name).unwrap();
    assert!(node.datapath.endpoints().is_empty() && node.endpoint_list().is_empty());
    assert_eq!(attached(&node), [(99, Hook::FromUplink), (99, Hook::ToUplink)]);
}

/// From packets nobody can tell whether a pod has got another hardware address or feigns one: it is told of, and taken in with the endpoint.
#[test]
fn another_hardware_address_is_told_of_and_taken_in_when_the_endpoint_is_added_again() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(web()).unwrap();
    node.endpoint_add(db()).unwrap();
    let held = |node: &Node<Fake>| node.datapath.endpoints().values().map(|endpoint| endpoint.mac).collect::<Vec<_>>();
    let told = |node: &Node<Fake>| node.status().notes.iter().filter(|note| note.contains("hardware address")).count();
    let (old, new) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
    let dropped = event(&node, Happening::Dropped(DropReason::InvalidSourceMac), Direction::Ingress, 80);
    node.take_events(&[dropped.clone(), dropped]);
    assert_eq!((told(&node), held(&node)), (1, vec![old, old]), "{:?}", node.status().notes);

    node.endpoint_add(EndpointSpec { mac: Mac(new), ..db() }).unwrap();
    assert_eq!((told(&node), held(&node)), (0, vec![old, new]));
    drop(node);
    let node = setup.start(Fake::new());
    assert_eq!(held(&node), [old, new], "a new agent knows it");
}

#[test]
fn a_link_that_vanished_is_noticed_and_taken_up_again() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(web()).unwrap();
    GONE.set("lxc7");
    node.tend();
    assert_eq!(node.endpoint_list()[0].closed.as_deref(), Some("its link lxc7 is gone: entity not found"));
    assert!(node.datapath.endpoints().is_empty());
    GONE.set("");
    node.tend();
    assert!(node.status().ok && node.datapath.endpoints().contains_key(&7));
}

const HOST_POLICY: &str = "
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: edge}
spec:
  nodeSelector: {}
  ingress: [{fromEntities: [world], toPorts: [{ports: [{port: '22', protocol: TCP}]}]}]
  egress: [{toEntities: [world], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}]
";

/// What interfaces have beside what the Node object says is the node's, unless it is somebody else's.
#[test]
fn a_node_is_judged_at_every_address_it_has() {
    let all = |texts: &[&str]| texts.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect::<Vec<_>>();
    let setup = Setup::new();
    setup.write("host.yaml", HOST_POLICY);
    setup.write(
        "service.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}",
    );
    ADDRESSES.set(all(&["172.30.0.11", "192.0.2.7", "fd00::7", "10.244.1.10", "10.96.0.1"]));
    let mut node = setup.start(Fake::new());
    let l4 = L4::Port { protocol: Protocol::Tcp, port: 80 };
    let judged = |node: &Node<Fake>| {
        let hosts = node.view.plan.ipcache.iter().filter(|(_, entry)| entry.kind == IpcacheKind::Host);
        let hosts: Vec<_> = hosts.map(|(prefix, _)| prefix.addr()).collect();
        for own in &hosts {
            let peer: IpAddr = if own.is_ipv4() { "203.0.113.10" } else { "2001:db8::10" }.parse().unwrap();
            let judged = node.view.plan.judge_host_address(*own, Direction::Ingress, peer, l4);
            assert!(judged.is_some_and(|judgement| !judgement.allowed), "{own}");
        }
        hosts
    };
    assert_eq!(judged(&node), all(&["172.30.0.11", "192.0.2.7", "fd00::7"]));
    assert_eq!(node.view.pod_at("10.244.1.10".parse().unwrap()), Some(&PodKey::new("shop", "web-0")));

    // They come and go, and what manifests change meanwhile changes nothing of it.
    ADDRESSES.set(all(&["172.30.0.11", "198.18.0.1"]));
    node.follow_addresses();
    assert_eq!(judged(&node), all(&["172.30.0.11", "198.18.0.1"]));
    setup.write("policy.yaml", &POLICY.replace("5432", "80"));
    node.refresh();
    setup.write(
        "cluster.yaml",
        &CLUSTER.replace("metadata: {name: node-1}", "metadata: {name: node-1, labels: {a: b}}"),
    );
    node.refresh();
    assert_eq!(judged(&node), all(&["172.30.0.11", "198.18.0.1"]));
    ADDRESSES.set(Vec::new());
    node.tend();
    assert_eq!(judged(&node), all(&["172.30.0.11"]));
}

/// The node's own connections are known before the first policy about it is in force, and nothing else is.
#[test]
fn connections_that_are_open_are_judged_by_who_opened_them() {
    let setup = Setup::new();
    let mut kernel = Fake::new();
    let socket = |local: &str, remote: &str, state| Socket {
        protocol: 6,
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        state,
    };
    kernel.set_sockets(vec![
        socket("0.0.0.0:22", "0.0.0.0:0", 10),
        socket("172.30.0.11:22", "203.0.113.10:50000", 1),
        socket("172.30.0.11:40000", "203.0.113.10:443", 1),
        socket("172.30.0.11:40001", "203.0.113.10:80", 1),
    ]);
    let mut node = setup.start(kernel);
    assert_eq!(node.datapath.kernel().maps().conntrack.len(), 0);
    setup.write("host.yaml", HOST_POLICY);
    node.refresh();
    let mut maps = node.datapath.kernel().maps();
    assert_eq!(maps.conntrack.len(), 3);
    // Each in its middle, from either side: what the policy lets the opener do.
    let mut passes = |local: &str, remote: &str, sent| {
        let [local, remote]: [SocketAddr; 2] = [local, remote].map(|end| end.parse().unwrap());
        let (from, to, hook) = if sent { (local, remote, Hook::ToUplink) } else { (remote, local, Hook::FromUplink) };
        let frame = Wire::new([2; 6], [4; 6], from.ip(), to.ip()).tcp(from.port(), to.port(), tcp_flags::ACK);
        maps.run(hook, 99, &frame) == Verdict::Pass
    };
    for sent in [true, false] {
        assert!(passes("172.30.0.11:22", "203.0.113.10:50000", sent), "{sent}");
        assert!(passes("172.30.0.11:40000", "203.0.113.10:443", sent), "{sent}");
        assert!(!passes("172.30.0.11:40001", "203.0.113.10:80", sent), "{sent}");
        assert!(!passes("172.30.0.11:40002", "203.0.113.10:443", sent), "not known: {sent}");
    }
}

#[test]
fn what_cannot_be_enforced_is_closed_and_says_why() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(web()).unwrap();
    node.endpoint_add(spec("ghost", "lxc5", "10.244.1.66")).unwrap();
    node.endpoint_add(spec("db-0", "lxc8", "10.244.1.99")).unwrap();
    let gone = node.endpoint_add(spec("gone", "veth-gone", "10.244.1.67")).unwrap_err();
    assert_eq!(gone, "shop/gone: its link veth-gone is gone: entity not found");
    for (namespace, pod, ifname) in
        [("../etc", "x", "lxc1"), ("shop", "a_b", "lxc1"), ("shop", "web-0", "a/b"), ("shop", "web-0", "")]
    {
        let name = PodName { namespace: namespace.into(), pod: pod.into() };
        assert!(
            node.endpoint_add(EndpointSpec { name, ..spec("x", ifname, "10.0.0.1") }).is_err(),
            "{namespace} {pod} {ifname}"
        );
    }
    let closed: Vec<String> = node
        .endpoint_list()
        .iter()
        .map(|endpoint| format!("{}: {}", endpoint.spec.name, endpoint.closed.as_deref().unwrap_or("ready")))
        .collect();
    expect![[r"
        shop/db-0: its link has 10.244.1.99 but its manifest gives it 10.244.1.11
        shop/ghost: no manifest places this pod on this node
        shop/gone: its link veth-gone is gone: entity not found
        shop/web-0: ready"]]
    .assert_eq(&closed.join("\n"));
    assert!(!node.status().ok);
    assert_eq!(node.datapath.endpoints().keys().copied().collect::<Vec<_>>(), [7, 8]);

    // The manifest arrives.
    setup.write("ghost.yaml", &CLUSTER.rsplit("---").next().unwrap().replace("db-0", "ghost").replace(".11", ".66"));
    node.refresh();
    assert!(node.datapath.endpoints().contains_key(&5));
}

pub(crate) fn event(node: &Node<Fake>, happening: Happening, direction: Direction, port: u16) -> Event {
    let end = |address: &str, port| SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
    let (endpoint, subject, peer, local, remote) = match direction {
        Direction::Egress => (7, "web-0", "db-0", end("10.244.1.10", 43210), end("10.244.1.11", port)),
        Direction::Ingress => (8, "db-0", "web-0", end("10.244.1.11", port), end("10.244.1.10", 43210)),
    };
    let plan = &node.view.plan;
    let origin = plan.judge(identity(node, subject), direction, identity(node, peer), 6, port).origin;
    Event {
        time_ns: monotonic_ns(),
        created_ns: 0,
        happening,
        hook: if direction == Direction::Egress { Hook::FromPod } else { Hook::ToPod },
        ifindex: endpoint,
        endpoint,
        subject: identity(node, subject),
        peer: identity(node, peer),
        origin,
        revision: 1,
        direction,
        local,
        remote,
        protocol: 6,
        tcp_flags: 2,
        icmp: None,
        tx: Count::default(),
        rx: Count { packets: 3, bytes: 222 },
        flags: 0,
    }
}

fn printed(node: &mut Node<Fake>, folder: &Path) -> String {
    let mut printer = Printer::new(Output::Dict, false, true);
    let mut out = Vec::new();
    for flow in node.write_up_flows().iter() {
        printer.write(&Record::flow(Arc::clone(flow)), &mut out).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().filter(|line| !line.contains("TIMESTAMP"));
    lines.map(|line| line.replace(&format!("{}/", folder.display()), "")).collect::<Vec<_>>().join("\n")
}

fn check(actual: &str, expected: &Expect) {
    expected.assert_eq(actual);
}

#[test]
fn events_become_flows_with_names_and_rules() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(web()).unwrap();
    node.endpoint_add(db()).unwrap();
    let events = [
        event(&node, Happening::Opened, Direction::Egress, 5432),
        event(&node, Happening::Opened, Direction::Ingress, 5432),
        event(&node, Happening::Dropped(DropReason::PolicyDenied), Direction::Ingress, 80),
    ];
    node.take_events(&events);
    check(
        &printed(&mut node, setup.folder.path()),
        &expect![[r"
               NODE: node-1
             SOURCE: shop/web-0:43210
        DESTINATION: shop/db-0:5432
               TYPE: policy-verdict:none EGRESS
            VERDICT: ALLOWED
            SUMMARY: TCP Flags: SYN
        ------------
               NODE: node-1
             SOURCE: shop/web-0:43210
        DESTINATION: shop/db-0:5432
               TYPE: policy-verdict:L3-L4 INGRESS
            VERDICT: ALLOWED
            SUMMARY: TCP Flags: SYN
            DECIDED: NetworkPolicy shop/db manifests/policy.yaml:7
        ------------
               NODE: node-1
             SOURCE: shop/web-0:43210
        DESTINATION: shop/db-0:80
               TYPE: Policy denied
            VERDICT: DROPPED
            SUMMARY: TCP Flags: SYN; 3 packets
            DECIDED: isolated by NetworkPolicy shop/db manifests/policy.yaml:1; would be allowed by manifests/policy.yaml:8 but for port 80/TCP (rule allows 5432/TCP)"]],
    );
    let dropped = serde_json::to_value(&**node.write_up_flows().iter().last().unwrap()).unwrap();
    check(
        &setup.relative(&serde_json::to_string_pretty(&dropped["ingress_denied_by"]).unwrap()),
        &expect![[r#"
            [
              {
                "kind": "NetworkPolicy",
                "name": "db",
                "namespace": "shop",
                "revision": 1
              }
            ]"#]],
    );
    assert_eq!(dropped["source"]["workloads"][0]["kind"], "Deployment");

    // The policy went meanwhile: what it decided before can still be named.
    let late = event(&node, Happening::Opened, Direction::Ingress, 5432);
    setup.write("policy.yaml", &POLICY.replace("name: db", "name: other"));
    node.refresh();
    node.take_events(&[late]);
    assert_eq!(&*node.write_up_flows().iter().last().unwrap().strait.origins[0].name, "db");
    assert_ne!(node.write_up_flows().iter().last().unwrap().strait.origins, []);
    assert!(node.view.origins(OriginId::NONE).is_empty());
}

/// A record is made when somebody asks, or when what it is named after is about to change: it says what held when the report came.
#[test]
fn reports_are_written_up_in_the_words_of_when_they_came() {
    type Change = fn(&Setup, &mut Node<Fake>);
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(web()).unwrap();
    node.endpoint_add(db()).unwrap();
    let opened = event(&node, Happening::Opened, Direction::Ingress, 5432);
    let changes: [(&str, Change); 3] = [
        ("an endpoint goes", |_, node| assert!(node.endpoint_delete(&web().name).is_ok())),
        ("an endpoint comes", |_, node| assert!(node.endpoint_add(web()).is_ok())),
        ("another pod has the address", |setup, node| {
            setup.write("cluster.yaml", &CLUSTER.replace("web-0", "other"));
            node.refresh();
            assert_eq!(&*node.view.pod_at("10.244.1.10".parse().unwrap()).unwrap().name, "other");
        }),
    ];
    for (number, (what, change)) in changes.into_iter().enumerate() {
        node.take_events(std::slice::from_ref(&opened));
        assert_eq!(node.flows.waiting(), 1, "nobody asked: {what}");
        change(&setup, &mut node);
        assert_eq!(node.flows.waiting(), 0, "{what}");
        let flows = node.write_up_flows();
        let last = flows.iter().last().unwrap();
        assert_eq!(
            (flows.len(), &*last.source.pod_name, &*last.destination.pod_name),
            (number + 1, "web-0", "db-0"),
            "{what}"
        );
        assert_eq!(&*last.strait.origins[0].name, "db", "{what}");
    }
}

/// Of more reports than a ring holds, the newest are held and all are counted; who follows learns how many it missed.
#[test]
fn reports_that_nobody_asked_for_make_room() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    let (held, capacity) = node.flows.held();
    assert_eq!(held, 0);
    let sample = event(&node, Happening::Opened, Direction::Ingress, 5432);
    let reports = |ports: std::ops::Range<u16>| {
        let report = |port| {
            let mut event = sample.clone();
            event.remote.set_port(port);
            event
        };
        ports.map(report).collect::<Vec<_>>()
    };
    node.take_events(&reports(0..10));
    let mut cursor = node.write_up_flows().oldest();
    for chunk in 0..5 {
        node.take_events(&reports(10 + chunk * 1000..10 + (chunk + 1) * 1000));
    }
    assert_eq!((node.flows.seen(), node.flows.held(), node.flows.waiting()), (5010, (capacity, capacity), capacity));
    let (missed, oldest) = node.write_up_flows().next(&mut cursor);
    assert_eq!(missed, 5010 - capacity as u64);
    let port = |flow: &strait_flow::Flow| {
        let Some(strait_flow::Layer4::Tcp(ports)) = &flow.l4 else { panic!("{flow:?}") };
        ports.source_port
    };
    assert_eq!(u64::from(port(oldest.unwrap())), missed);
    assert_eq!((node.flows.seen(), node.flows.held()), (5010, (capacity, capacity)));
}

/// What a drop shows of packets whose headers were not all read.
#[test]
fn drops_say_no_more_than_is_known() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(web()).unwrap();
    let nowhere: SocketAddr = "[::]:0".parse().unwrap();
    for (protocol, icmp, addressed, expected) in [
        (1, Some((0, 0)), true, "ICMPv4 EchoReply"),
        (58, Some((136, 0)), true, "ICMPv6 type 136 code 0"),
        (58, Some((0, 0)), true, "ICMPv6 message"),
        (0, None, true, "IP protocol 0"),
        (0, None, false, ""),
    ] {
        let happening = Happening::Dropped(DropReason::InvalidSourceIp);
        let mut dropped = Event { protocol, icmp, ..event(&node, happening, Direction::Egress, 0) };
        if !addressed {
            (dropped.local, dropped.remote) = (nowhere, nowhere);
        }
        node.take_events(&[dropped]);
        assert_eq!(&*node.write_up_flows().iter().last().unwrap().summary, expected, "{protocol} {icmp:?}");
    }
}

#[test]
fn the_kernel_is_told_how_to_answer_denials() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::default());
    let told = |node: &mut Node<Fake>| {
        let status = node.status();
        let config = node.datapath.kernel_mut().config().unwrap().unwrap();
        assert_eq!(&*status.deny_response, DenyResponse::from_number(config.deny_response).name());
        (status.deny_response.to_string(), status.notes.join("\n"))
    };
    assert_eq!(told(&mut node).0, "reset");
    let revision = node.revision;
    for (asked, expected, note) in [
        ("icmp", "icmp", ""),
        ("silent", "silent", ""),
        (
            "loud",
            "reset",
            "annotation strait.dev/deny-response of node node-1: found \"loud\", allowed are silent, icmp, reset",
        ),
    ] {
        let annotated = format!("metadata: {{name: node-1, annotations: {{strait.dev/deny-response: {asked}}}}}");
        setup.write("cluster.yaml", &CLUSTER.replace("metadata: {name: node-1}", &annotated));
        node.refresh();
        let (response, notes) = told(&mut node);
        assert_eq!(response, expected);
        assert!(notes.contains(note) && notes.is_empty() == note.is_empty(), "{notes}");
    }
    setup.write("cluster.yaml", CLUSTER);
    node.refresh();
    assert_eq!(told(&mut node), ("reset".to_owned(), String::new()));
    // No connection is judged anew for that.
    assert_eq!(node.revision, revision);
}
