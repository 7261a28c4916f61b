//! Host policies, by packets: what a selected node receives and sends itself, and what it forwards.

use std::{
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    process::{Child, Stdio},
    sync::mpsc,
    time::Duration,
};

use strait_agent::api::{HostPolicyStage, HostPolicyStatus};
use strait_base::Protocol;
use strait_lab::probe::{Knock, PATIENCE, Probe};

use crate::bed::{Bed, LONG_PATIENCE, eventually, kill, place, strait};

const CLUSTER: &str = "\
kind: Node
apiVersion: v1
metadata: {name: node-1}
---
kind: Node
apiVersion: v1
metadata: {name: node-2, labels: {role: edge}}
---
kind: Pod
apiVersion: v1
metadata: {name: on-edge}
spec: {hostNetwork: true, nodeName: node-2, containers: [{name: c, ports: [{containerPort: 8080}, {containerPort: 8081}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: on-other}
spec: {hostNetwork: true, nodeName: node-1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: near, labels: {app: friend}}
spec: {nodeName: node-2, containers: [{name: c, ports: [{containerPort: 8080}, {containerPort: 8081}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: stranger}
spec: {nodeName: node-2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: far, labels: {app: friend}}
spec: {nodeName: node-1, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: closed-but-to-its-node}
spec: {podSelector: {matchLabels: {app: friend}}, policyTypes: [Ingress]}
";

/// Lets the outside and friends in to 8080 of the node.
const RECEIVES: &str = "\
kind: CiliumClusterwideNetworkPolicy
apiVersion: cilium.io/v2
metadata: {name: edge}
spec:
  nodeSelector: {matchLabels: {role: edge}}
  ingress:
  - fromEntities: [world]
    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
  - fromEndpoints: [{matchLabels: {app: friend}}]
    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
";

/// Lets the node out to pods' 8080.
const SENDS: &str = "\
kind: CiliumClusterwideNetworkPolicy
apiVersion: cilium.io/v2
metadata: {name: edge}
spec:
  nodeSelector: {matchLabels: {role: edge}}
  egress:
  - toEndpoints: [{}]
    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
";

/// From, to (a pod, or `outside`), TCP port. What each policy says: [`RECEIVES`], [`SENDS`], none.
const WAYS: [(&str, &str, u16, [bool; 3]); 13] = [
    ("outside", "default/on-edge", 8080, [true, true, true]),
    ("outside", "default/on-edge", 8081, [false, true, true]),
    ("default/near", "default/on-edge", 8080, [true, true, true]),
    ("default/near", "default/on-edge", 8081, [false, true, true]),
    ("default/stranger", "default/on-edge", 8080, [false, true, true]),
    ("default/far", "default/on-edge", 8080, [true, true, true]),
    ("node/node-1", "default/on-edge", 8080, [false, true, true]),
    // The node's own connections, and the answers to them.
    ("node/node-2", "outside", 80, [true, false, true]),
    ("node/node-2", "default/on-other", 8080, [true, false, true]),
    // A node reaches its own pods, whatever their policy.
    ("node/node-2", "default/near", 8080, [true, true, true]),
    ("node/node-2", "default/near", 8081, [true, false, true]),
    // What it forwards, and what another node does, is none of its own.
    ("outside", "default/stranger", 8080, [true, true, true]),
    ("default/stranger", "outside", 80, [true, true, true]),
];

fn check(bed: &Bed, policy: usize) {
    let outside = bed.lab.status().unwrap().outside;
    for wanted in [true, false] {
        let probes: Vec<Probe> = WAYS
            .iter()
            .filter(|(.., expected)| expected[policy] == wanted)
            .flat_map(|(from, to, port, _)| [(*from, *to, *port, true), (*from, *to, *port, false)])
            .map(|(from, to, port, v4)| Probe {
                from: place(from),
                source: None,
                to: match to {
                    "outside" => *outside.iter().find(|address| address.is_ipv4() == v4).unwrap(),
                    pod => bed.address(pod, v4),
                },
                knock: Knock::Port(Protocol::Tcp, port),
            })
            .collect();
        let answered = bed.ask(&probes, if wanted { LONG_PATIENCE } else { PATIENCE });
        let wrong: Vec<_> =
            probes.iter().zip(answered).filter(|(_, answered)| *answered != wanted).map(|(probe, _)| probe).collect();
        assert!(wrong.is_empty(), "policy {policy}: expected {wanted} of {wrong:?}");
    }
}

#[test]
fn host_policies_judge_what_a_node_receives_and_sends_itself() {
    let files = [("cluster.yaml", CLUSTER), ("host.yaml", RECEIVES)];
    let Some(bed) = Bed::up("host", &files) else { return };
    check(&bed, 0);
    bed.save("host.yaml", SENDS);
    bed.lab.sync().unwrap();
    check(&bed, 1);
    std::fs::remove_file(bed.folder().join("host.yaml")).unwrap();
    bed.lab.sync().unwrap();
    check(&bed, 2);
    bed.down();
}

/// What lets the outside in to one port of the edge. Every port is named in each, so that the outside's servers stay as they are.
fn lets_in(port: u16) -> String {
    let (open, others) = RECEIVES.split_once("  - fromEndpoints").unwrap();
    let others = others.replace("{port: '8080', protocol: TCP}", "{port: '8080'}, {port: '8081'}");
    format!("{}  - fromEndpoints{others}", open.replace("8080", &port.to_string()))
}

/// An operator outside who has a connection to the node open all the time, as with SSH.
struct Operator {
    process: Child,
    hear: mpsc::Receiver<String>,
}

impl Operator {
    /// Says a line and waits for its answer before the next. The socket waits as long as it takes.
    fn connect(bed: &Bed, from: &str, to: IpAddr, port: u16) -> Self {
        let script = format!(
            "exec 3<>/dev/tcp/{to}/{port}; while read line; do echo \"$line\" >&3; read answer <&3; echo \"$answer\"; done"
        );
        let mut process = bed
            .lab
            .command(&place(from), "bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (tell, hear) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
        Self { process, hear }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Within ten seconds more than TCP takes to send again what was lost.
    fn hears(&self, line: &str) {
        assert_eq!(self.hear.recv_timeout(LONG_PATIENCE * 6).unwrap(), line);
    }

    fn hears_nothing(&self) {
        assert!(self.hear.recv_timeout(PATIENCE).is_err());
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(bed: &Bed, words: &[&str]) -> (bool, String) {
    let output = strait().args(words).args(["--lab", &bed.lab.name().to_string()]).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.success(), text.concat())
}

/// How the edge's host policies stand.
fn stands(bed: &Bed) -> HostPolicyStatus {
    bed.lab.agent("node-2").status().unwrap().host_policy.unwrap()
}

fn reaches(bed: &Bed, port: u16) -> bool {
    let knock = Knock::Port(Protocol::Tcp, port);
    let probe = Probe { from: place("outside"), source: None, to: bed.address("default/on-edge", true), knock };
    bed.ask(&[probe], PATIENCE).remove(0)
}

fn kill_agent(bed: &Bed) {
    let pid = || bed.lab.status().unwrap().agents.into_iter().find(|agent| agent.node == "node-2").unwrap().pid;
    let before = pid();
    kill(before.unwrap());
    eventually("another agent answers", || {
        pid().is_some_and(|now| Some(now) != before) && bed.lab.agent("node-2").status().is_ok()
    });
}

#[test]
fn a_host_policy_that_cuts_the_operator_off_is_rolled_back() {
    let files = [("cluster.yaml", CLUSTER), ("host.yaml", &lets_in(8080))];
    let window = |options: &mut strait_lab::Options| options.host_policy_confirm = Duration::from_secs(5);
    let Some(bed) = Bed::up_with("confirm", &files, window) else { return };
    let mut operator = Operator::connect(&bed, "outside", bed.address("default/on-edge", true), 8080);
    operator.say("hello");
    operator.hears("hello");

    // Cut off: the connection that is open as well. Then it is back, without anybody's doing, and nothing of it is lost.
    bed.save("host.yaml", &lets_in(8081));
    bed.lab.sync().unwrap();
    let status = stands(&bed);
    assert_eq!((status.stage, status.changes), (HostPolicyStage::Unconfirmed, vec!["~edge".to_owned()]));
    operator.say("are you there");
    operator.hears_nothing();
    eventually("it is rolled back", || stands(&bed).stage == HostPolicyStage::RolledBack);
    operator.hears("are you there");
    assert!(reaches(&bed, 8080) && !reaches(&bed, 8081));
    let (ok, text) = command(&bed, &["status"]);
    assert!(!ok && text.contains("rolled back ") && text.contains("nobody confirmed them in time"), "{text}");
    let (ok, text) = command(&bed, &["host-policy", "status"]);
    assert!(!ok && text.contains("in force   edge  ") && text.contains("confirmed.yaml"), "{text}");

    // It stays so while the policies of pods follow the manifests.
    bed.save("cluster.yaml", &CLUSTER.replace("closed-but-to-its-node", "renamed"));
    bed.lab.sync().unwrap();
    assert!(reaches(&bed, 8080) && !reaches(&bed, 8081));

    // On purpose now, and confirmed; with a word about a revision that is not there before.
    let revision = status.revision.to_string();
    let (ok, text) = command(&bed, &["host-policy", "retry", &revision]);
    assert!(ok && text.contains(&format!("strait host-policy confirm {revision}")), "{text}");
    let (ok, text) = command(&bed, &["host-policy", "confirm", "0000000000000000"]);
    assert!(!ok && text.contains("left as they are"), "{text}");
    let (ok, text) = command(&bed, &["host-policy", "confirm", &revision, "--node", "node-2"]);
    assert!(ok && text.contains("confirmed"), "{text}");
    assert!(!reaches(&bed, 8080) && reaches(&bed, 8081));

    // An agent that dies: what was confirmed stays, what was not is rolled back, with policies of pods that came at once in force.
    kill_agent(&bed);
    assert_eq!(stands(&bed).stage, HostPolicyStage::Confirmed);
    assert!(!reaches(&bed, 8080) && reaches(&bed, 8081));
    let pods =
        "---\nkind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: more}\nspec: {podSelector: {}}\n";
    bed.save("host.yaml", &format!("{}{pods}", lets_in(8080)));
    bed.lab.sync().unwrap();
    assert_eq!(stands(&bed).stage, HostPolicyStage::Unconfirmed);
    kill_agent(&bed);
    let status = stands(&bed);
    assert_eq!(status.stage, HostPolicyStage::RolledBack);
    assert_eq!(status.reason.as_deref(), Some("the agent started anew before anybody confirmed them"));
    assert!(!reaches(&bed, 8080) && reaches(&bed, 8081));
    assert!(bed.denied("outside", "default/stranger", 8080));
    drop(operator);
    bed.down();
}

/// Lets the outside in to 8080 and the node out to 80, and nothing else: whoever reads a connection the wrong way round cuts it.
const BOTH_WAYS: &str = "\
kind: CiliumClusterwideNetworkPolicy
apiVersion: cilium.io/v2
metadata: {name: edge}
spec:
  nodeSelector: {matchLabels: {role: edge}}
  ingress: [{fromEntities: [world], toPorts: [{ports: [{port: '8080', protocol: TCP}]}]}]
  egress: [{toEntities: [world], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]
";

#[test]
fn a_first_host_policy_cuts_nothing_that_it_allows() {
    // The outside's servers have these ports from the beginning.
    let elsewhere = BOTH_WAYS.replace("role: edge", "role: nowhere");
    let files = [("cluster.yaml", CLUSTER), ("host.yaml", &elsewhere)];
    let Some(bed) = Bed::up("first", &files) else { return };
    let node = bed.address("default/on-edge", true);
    let outside = *bed.lab.status().unwrap().outside.iter().find(|address| address.is_ipv4()).unwrap();
    let mut talks = [
        Operator::connect(&bed, "outside", node, 8080),
        Operator::connect(&bed, "node/node-2", outside, 80),
        Operator::connect(&bed, "outside", node, 8081),
    ];
    for talk in &mut talks {
        talk.say("before");
        talk.hears("before");
    }
    bed.save("host.yaml", BOTH_WAYS);
    bed.lab.sync().unwrap();
    for talk in &mut talks {
        talk.say("after");
    }
    let [receives, sends, denied] = talks;
    receives.hears("after");
    sends.hears("after");
    denied.hears_nothing();
    bed.down();
}

#[test]
fn a_host_policy_is_about_every_address_of_the_node() {
    let files = [("cluster.yaml", CLUSTER), ("host.yaml", RECEIVES)];
    let Some(bed) = Bed::up("addresses", &files) else { return };
    let answered = |to: &str, port: u16| {
        let knock = Knock::Port(Protocol::Tcp, port);
        let probe = Probe { from: place("outside"), source: None, to: to.parse().unwrap(), knock };
        bed.ask(&[probe], PATIENCE).remove(0)
    };
    // One that the node gets beside those of its object, at its uplink. Nothing says so but its interface.
    let own = bed.address("default/on-edge", true).to_string();
    let (network, _) = own.rsplit_once('.').unwrap();
    let other = format!("{network}.99");
    let with_length = format!("{other}/32");
    bed.prints("node/node-2", &["ip", "address", "add", &with_length, "dev", "eth0"]);
    bed.prints("outside", &["ip", "route", "add", &other, "dev", "eth0"]);
    eventually("the other port is closed at it", || !answered(&other, 8081));
    assert!(answered(&other, 8080));
    // A pod finds the node behind it as well.
    let from_pod = |port| {
        let knock = Knock::Port(Protocol::Tcp, port);
        let probe = Probe { from: place("default/near"), source: None, to: other.parse().unwrap(), knock };
        bed.ask(&[probe], PATIENCE).remove(0)
    };
    assert!(from_pod(8080) && !from_pod(8081));
    bed.down();
}

/// Nodes as ends of the matrix: by packets as by the model.
#[test]
fn the_matrix_of_nodes_is_what_packets_say() {
    let Some(bed) = Bed::up("nodes", &[("cluster.yaml", CLUSTER), ("host.yaml", RECEIVES)]) else { return };
    for policy in [RECEIVES, SENDS, BOTH_WAYS] {
        bed.save("host.yaml", policy);
        bed.lab.sync().unwrap();
        for family in [&["--ipv6"][..], &[]] {
            let matrix = |live: &[&str]| {
                let words = ["policy", "matrix", "--nodes", "-o", "json", "--probe", "8080/TCP", "--probe", "8081/TCP"];
                let (ok, text) = command(&bed, &[&words, family, live].concat());
                assert!(ok, "{text}");
                text
            };
            let said = matrix(&[]);
            assert!(said.contains("node/node-1") && said.contains("false"), "{said}");
            assert_eq!(said, matrix(&["--live"]));
        }
    }
    bed.down();
}
