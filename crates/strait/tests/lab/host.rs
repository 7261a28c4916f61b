//! Host policies, by packets: what a selected node receives and sends itself, and what it forwards.

use strait_base::Protocol;
use strait_lab::probe::{Knock, PATIENCE, Probe};

use crate::bed::{Bed, LONG_PATIENCE, place};

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
