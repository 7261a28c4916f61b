//! What the documentation says of its own examples, asked of the reference evaluator.
//!
//! A question reads `from → to port/protocol [v6]`, its answer is `yes` or `no`.

use std::{fmt::Write as _, sync::Arc};

use strait_api::{Objects, parse};
use strait_testkit::{Connection, End, Traffic, reference};

/// Two pods of the documentation's example, a stranger, and their namespaces; `alice` has clients and others, `default` a replica pair that
/// differs in what `web` means.
const CLUSTER: &str = r"
{apiVersion: v1, kind: Namespace, metadata: {name: myproject, labels: {project: myproject}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: alice, labels: {user: alice}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, labels: {role: db}}, spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 6379, name: redis}]}]}, status: {podIP: 10.244.1.200}}
---
{apiVersion: v1, kind: Pod, metadata: {name: frontend, labels: {role: frontend}}, spec: {nodeName: node-2, containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: stranger, labels: {role: x}}, spec: {nodeName: node-2, containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: on-host, labels: {role: frontend}}, spec: {nodeName: node-2, hostNetwork: true, containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: done, labels: {role: frontend}}, spec: {nodeName: node-2, containers: [{name: c, image: i}]}, status: {phase: Succeeded}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-a, labels: {app: web}}, spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 8080, name: web}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-b, labels: {app: web}}, spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{containerPort: 9090, name: web}, {containerPort: 53, name: dns, protocol: UDP}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: worker, namespace: myproject, labels: {role: x}}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: alice, labels: {role: client}}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: alice, labels: {role: x}}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, labels: {role: client}}, spec: {containers: [{name: c, image: i}]}}
";

fn cluster(specs: &[&str]) -> Objects {
    let mut text = String::new();
    for (number, spec) in specs.iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p{number}, namespace: default}}\nspec: {spec}\n"
        );
    }
    with(&text)
}

/// The cluster, with further manifests.
fn with(manifests: &str) -> Objects {
    let text = format!("{CLUSTER}{manifests}");
    let parsed = parse(&Arc::from("truth.yaml"), text.as_bytes());
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    strait_cluster::expand(&parsed.objects.into_iter().collect(), &strait_cluster::Options::default(), None).objects
}

fn end(text: &str) -> End {
    if let Ok(address) = text.parse() {
        End::Address(address)
    } else if let Some(node) = text.strip_prefix("node/") {
        End::Node(node.into())
    } else {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        End::Pod(namespace.into(), name.into())
    }
}

fn question(text: &str) -> Connection {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [from, "→", to, traffic, rest @ ..] = &words[..] else { panic!("question {text:?}") };
    let traffic = match traffic.split_once('/') {
        Some((port, protocol)) => Traffic::Port(protocol.parse().unwrap(), port.parse().unwrap()),
        None => Traffic::Icmp,
    };
    let v6 = rest.contains(&"v6") || to.contains(':') || from.contains(':');
    Connection { from: end(from), to: end(to), traffic, v6 }
}

/// Each line of `truths` is a question and its answer.
#[track_caller]
fn check(specs: &[&str], truths: &str) {
    answers(&cluster(specs), &specs.join("\n"), truths);
}

/// As [`check`], with policies of any kind, written out.
#[track_caller]
pub(super) fn check_manifests(manifests: &str, truths: &str) {
    answers(&with(manifests), manifests, truths);
}

#[track_caller]
fn answers(objects: &Objects, policies: &str, truths: &str) {
    for line in truths.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (asked, expected) = line.rsplit_once(' ').unwrap();
        let answer = reference::judge(objects, &question(asked)).unwrap_or_else(|| panic!("no such ends: {line}"));
        assert_eq!(answer.allowed(), expected == "yes", "{line}\n{policies}\nanswer: {answer:?}");
    }
}

#[test]
fn no_policy_everything_is_allowed() {
    check(
        &[],
        "frontend → db 6379/TCP yes
         203.0.113.9 → db 1/UDP yes
         db → 203.0.113.9 443/SCTP yes
         db → 2001:db8:113::9 icmp yes",
    );
}

/// The page's "The NetworkPolicy resource".
#[test]
fn the_big_example() {
    check(
        &["
  podSelector: {matchLabels: {role: db}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
    - namespaceSelector: {matchLabels: {project: myproject}}
    - podSelector: {matchLabels: {role: frontend}}
    ports: [{protocol: TCP, port: 6379}]
  egress:
  - to: [{ipBlock: {cidr: 10.0.0.0/24}}]
    ports: [{protocol: TCP, port: 5978}]"],
        "frontend → db 6379/TCP yes
         frontend → db 6379/TCP v6 yes
         frontend → db 6380/TCP no
         frontend → db 6379/UDP no
         frontend → db icmp no
         stranger → db 6379/TCP no
         myproject/worker → db 6379/TCP yes
         alice/client → db 6379/TCP no
         172.17.0.1 → db 6379/TCP yes
         172.17.0.255 → db 6379/TCP yes
         172.17.2.0 → db 6379/TCP yes
         172.17.255.255 → db 6379/TCP yes
         172.17.1.7 → db 6379/TCP no
         172.18.0.1 → db 6379/TCP no
         db → 10.0.0.7 5978/TCP yes
         db → 10.0.1.7 5978/TCP no
         db → 10.0.0.7 5979/TCP no
         db → frontend 80/TCP no
         frontend → stranger 6379/TCP yes",
    );
}

/// "This policy contains a single from element allowing connections from Pods with the label role=client in namespaces with the label
/// user=alice", and the one with two elements, which "allows connections from Pods in the local Namespace with the label role=client, or from
/// any Pod in any namespace with the label user=alice".
#[test]
fn one_element_or_two() {
    check(
        &["
  podSelector: {matchLabels: {role: db}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {user: alice}}
      podSelector: {matchLabels: {role: client}}"],
        "alice/client → db 1/TCP yes
         alice/other → db 1/TCP no
         client → db 1/TCP no",
    );
    check(
        &["
  podSelector: {matchLabels: {role: db}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {user: alice}}
    - podSelector: {matchLabels: {role: client}}"],
        "alice/client → db 1/TCP yes
         alice/other → db 1/TCP yes
         client → db 1/TCP yes
         stranger → db 1/TCP no
         myproject/worker → db 1/TCP no",
    );
}

/// The page's "Default policies".
#[test]
fn default_policies() {
    let deny_ingress = "{podSelector: {}, policyTypes: [Ingress]}";
    let allow_ingress = "{podSelector: {}, ingress: [{}], policyTypes: [Ingress]}";
    let deny_egress = "{podSelector: {}, policyTypes: [Egress]}";
    let allow_egress = "{podSelector: {}, egress: [{}], policyTypes: [Egress]}";
    let deny_all = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
    check(&[deny_ingress], "frontend → db 1/TCP no\n db → alice/other 1/TCP yes\n alice/other → db icmp no");
    // "This default policy ... no additional policy can cause any incoming connection to those pods to be denied."
    check(
        &[deny_ingress, allow_ingress],
        "frontend → db 1/TCP yes\n 203.0.113.9 → db icmp yes\n db → stranger 1/SCTP yes",
    );
    check(&[deny_egress], "db → alice/other 1/TCP no\n alice/other → db 1/TCP yes\n db → 203.0.113.9 1/UDP no");
    check(&[deny_egress, allow_egress], "db → alice/other 1/TCP yes\n db → 203.0.113.9 icmp yes");
    check(&[deny_all], "frontend → db 1/TCP no\n db → alice/other 1/TCP no\n alice/other → alice/client 1/TCP yes");
    // Missing types: Ingress always, Egress where there are egress rules.
    check(&["{podSelector: {}}"], "alice/other → db 1/TCP no\n db → alice/other 1/TCP yes");
    check(
        &["{podSelector: {}, egress: [{to: [{namespaceSelector: {matchLabels: {user: alice}}}]}]}"],
        "alice/other → db 1/TCP no\n db → alice/other 1/TCP yes\n db → myproject/worker 1/TCP no",
    );
    // Rules of a direction that is not among the types have no effect.
    check(&["{podSelector: {}, policyTypes: [Egress], ingress: []}"], "alice/other → db 1/TCP yes");
    check(&["{podSelector: {}, policyTypes: [Ingress], egress: [{ports: [{port: 1}]}]}"], "db → alice/other 2/TCP yes");
}

/// "both the egress policy on the source pod and the ingress policy on the destination pod need to allow the connection".
#[test]
fn both_sides_must_allow() {
    let to_db = "{podSelector: {matchLabels: {role: frontend}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {role: db}}}]}]}";
    let from_frontend =
        "{podSelector: {matchLabels: {role: db}}, ingress: [{from: [{podSelector: {matchLabels: {role: frontend}}}]}]}";
    let from_nobody = "{podSelector: {matchLabels: {role: db}}, ingress: []}";
    check(&[to_db], "frontend → db 1/TCP yes\n frontend → stranger 1/TCP no");
    check(&[to_db, from_frontend], "frontend → db 1/TCP yes\n stranger → db 1/TCP no");
    check(&[to_db, from_nobody], "frontend → db 1/TCP no");
}

#[test]
fn always_allowed() {
    let deny_all = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
    check(
        &[deny_all],
        "db → db 6379/TCP yes
         db → 10.244.1.200 6379/TCP yes
         node/node-1 → db 6379/TCP yes
         172.30.0.11 → db 6379/TCP yes
         db → node/node-1 22/TCP yes
         db → fd00:172:30::11 22/TCP yes
         node/node-2 → db 6379/TCP no
         db → node/node-2 22/TCP no
         on-host → db 1/TCP no
         on-host → frontend 1/TCP yes
         frontend → on-host 1/TCP yes
         node/node-1 → node/node-2 1/TCP yes
         stranger → on-host 1/TCP yes
         203.0.113.9 → on-host 1/TCP yes",
    );
}

/// "ignored for podSelector and namespaceSelector matching ... traffic to/from hostNetwork pods is treated the same as other traffic to/from
/// the node IP".
#[test]
fn host_network_pods_are_their_node() {
    let from_frontend =
        "{podSelector: {matchLabels: {role: db}}, ingress: [{from: [{podSelector: {matchLabels: {role: frontend}}}]}]}";
    let from_node = "{podSelector: {matchLabels: {role: db}}, ingress: [{from: [{ipBlock: {cidr: 172.30.0.12/32}}]}]}";
    check(&[from_frontend], "frontend → db 1/TCP yes\n on-host → db 1/TCP no");
    check(
        &[from_node],
        "frontend → db 1/TCP no\n on-host → db 1/TCP yes\n on-host → db 1/TCP v6 no\n node/node-2 → db 1/TCP yes",
    );
}

#[test]
fn blocks_match_pods_too() {
    let pods = |except: &str| {
        format!(
            "{{podSelector: {{matchLabels: {{role: db}}}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.244.0.0/16, except: [{except}]}}}}]}}]}}"
        )
    };
    check(&[&pods("")], "frontend → db 1/TCP yes\n frontend → db 1/TCP v6 no\n 203.0.113.9 → db 1/TCP no");
    check(&[&pods("10.244.2.0/24")], "frontend → db 1/TCP no\n web-a → db 1/TCP yes");
    let v6 = "{podSelector: {matchLabels: {role: db}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: '::/0', except: ['2001:db8:113::/64']}}]}]}";
    check(
        &[v6],
        "db → frontend 1/TCP v6 yes\n db → frontend 1/TCP no\n db → 2001:db8:113::9 1/TCP no\n db → 2001:db8:114::9 1/TCP yes",
    );
}

#[test]
fn ports() {
    // A name is what the destination pod calls it, in the protocol it says.
    let named =
        "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: web}, {port: dns, protocol: UDP}]}]}";
    check(
        &[named],
        "frontend → web-a 8080/TCP yes
         frontend → web-a 9090/TCP no
         frontend → web-b 9090/TCP yes
         frontend → web-b 8080/TCP no
         frontend → web-b 53/UDP yes
         frontend → web-b 53/TCP no
         frontend → web-a 53/UDP no",
    );
    let out = "{podSelector: {matchLabels: {role: frontend}}, policyTypes: [Egress], egress: [{ports: [{port: web}]}]}";
    check(
        &[out],
        "frontend → web-a 8080/TCP yes
         frontend → web-b 9090/TCP yes
         frontend → web-b 8080/TCP no
         frontend → stranger 8080/TCP no
         frontend → 203.0.113.9 8080/TCP no",
    );
    // The page's "Targeting a range of ports": "any Pod with the label role=db ... to communicate with any IP within the range 10.0.0.0/24
    // over TCP, provided that the target port is between the range 32000 and 32768".
    let range = "{podSelector: {matchLabels: {role: db}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24}}], ports: [{protocol: TCP, port: 32000, endPort: 32768}]}]}";
    check(
        &[range],
        "db → 10.0.0.9 31999/TCP no
         db → 10.0.0.9 32000/TCP yes
         db → 10.0.0.9 32768/TCP yes
         db → 10.0.0.9 32769/TCP no
         db → 10.0.0.9 32000/UDP no
         db → 10.0.1.9 32000/TCP no",
    );
    // "If this field is not provided, this matches all port names and numbers": of the protocol, which is TCP by default.
    let all_tcp = "{podSelector: {matchLabels: {role: db}}, ingress: [{ports: [{}]}]}";
    check(
        &[all_tcp],
        "frontend → db 1/TCP yes\n frontend → db 65535/TCP yes\n frontend → db 1/UDP no\n frontend → db icmp no",
    );
    let no_ports = "{podSelector: {matchLabels: {role: db}}, ingress: [{ports: []}]}";
    check(&[no_ports], "frontend → db 1/TCP yes\n frontend → db 1/SCTP yes\n frontend → db icmp yes");
    let sctp = "{podSelector: {matchLabels: {role: db}}, ingress: [{ports: [{protocol: SCTP, port: 7}]}]}";
    check(&[sctp], "frontend → db 7/SCTP yes\n frontend → db 7/TCP no");
}

#[test]
fn selectors() {
    let from =
        |selector: &str| format!("{{podSelector: {{matchLabels: {{role: db}}}}, ingress: [{{from: [{selector}]}}]}}");
    let by_pod = |expression: &str| from(&format!("{{podSelector: {{matchExpressions: [{expression}]}}}}"));
    check(
        &[&by_pod("{key: role, operator: In, values: [frontend, x]}")],
        "frontend → db 1/TCP yes\n stranger → db 1/TCP yes\n client → db 1/TCP no\n web-a → db 1/TCP no",
    );
    check(
        &[&by_pod("{key: role, operator: NotIn, values: [frontend]}")],
        "frontend → db 1/TCP no\n stranger → db 1/TCP yes\n web-a → db 1/TCP yes",
    );
    check(
        &[&by_pod("{key: role, operator: Exists}")],
        "frontend → db 1/TCP yes\n web-a → db 1/TCP no\n alice/client → db 1/TCP no",
    );
    check(&[&by_pod("{key: role, operator: DoesNotExist}")], "frontend → db 1/TCP no\n web-a → db 1/TCP yes");
    // An empty podSelector is every pod of the policy's namespace, an empty namespaceSelector every pod of the cluster; neither is anybody else.
    check(
        &[&from("{podSelector: {}}")],
        "web-a → db 1/TCP yes\n alice/client → db 1/TCP no\n 203.0.113.9 → db 1/TCP no",
    );
    check(
        &[&from("{namespaceSelector: {}}")],
        "web-a → db 1/TCP yes\n alice/client → db 1/TCP yes\n 203.0.113.9 → db 1/TCP no\n node/node-2 → db 1/TCP no",
    );
    check(
        &[&from("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: alice}}}")],
        "alice/other → db 1/TCP yes\n web-a → db 1/TCP no",
    );
    // A namespace that no manifest declares has its name as a label all the same.
    check(
        &[&from(
            "{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [default]}]}}",
        )],
        "web-a → db 1/TCP yes\n alice/other → db 1/TCP no",
    );
}

#[test]
fn completed_pods_are_no_ends() {
    let objects = cluster(&[]);
    assert_eq!(reference::judge(&objects, &question("done → db 1/TCP")), None);
    assert_eq!(reference::judge(&objects, &question("db → done 1/TCP")), None);
}
