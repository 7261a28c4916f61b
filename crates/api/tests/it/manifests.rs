//! Manifests that are right.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use strait_api::{Object, PeerSelector, PortRef, parse, write::to_json};

/// Every manifest of well-known projects that is at hand parses without an error.
#[test]
fn manifests_of_others() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !root.is_dir() {
        eprintln!("SKIPPED: no manifests at {}", root.display());
        return;
    }
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "{files:?}");
    let mut wrong = Vec::new();
    for path in files {
        let name: Arc<str> = path.display().to_string().into();
        let parsed = parse(&name, &std::fs::read(&path).unwrap());
        wrong.extend(parsed.errors.iter().map(ToString::to_string));
        for object in &parsed.objects {
            reads_back(object);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            into.push(path);
        }
    }
}

/// Writing an object and reading it gives the object. Compared as debug text without locations.
#[track_caller]
pub(crate) fn reads_back(object: &Object) {
    let written = to_json(object);
    let parsed = parse(&Arc::from("written.json"), written.as_bytes());
    // What is worth a note is worth it again.
    assert!(parsed.errors.is_empty(), "{written}\n{parsed:?}");
    assert_eq!(parsed.objects.len(), 1, "{written}");
    assert_eq!(without_locations(&parsed.objects[0]), without_locations(object), "{written}");
    // The debug text of a secret hides its values; its manifest does not.
    assert_eq!(to_json(&parsed.objects[0]), written);
}

fn without_locations(object: &Object) -> String {
    let text = format!("{object:?}");
    let mut parts = text.split("Location {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// What a policy of this spec means, in short.
fn policy(spec: &str) -> String {
    let indented: String = spec.lines().flat_map(|line| ["  ", line, "\n"]).collect();
    let text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: ns}}\nspec:\n{indented}"
    );
    let parsed = parse(&Arc::from("p.yaml"), text.as_bytes());
    assert!(parsed.errors.is_empty(), "{text}{:?}", parsed.errors);
    let Object::NetworkPolicy(policy) = &parsed.objects[0] else { unreachable!() };
    let mut out = policy.pod_selector.to_string();
    let directions =
        [("in", policy.isolates_ingress, &policy.ingress), ("out", policy.isolates_egress, &policy.egress)];
    for (direction, isolates, rules) in directions {
        if isolates {
            out.extend(["; ", direction]);
        }
        for rule in rules {
            let peers = rule.peers.iter().map(|peer| peer_text(&peer.selects));
            let ports = rule.ports.iter().map(|port| {
                let number = port.port.as_ref().map_or("*".to_owned(), |port| match port {
                    PortRef::Number(number) => number.to_string(),
                    PortRef::Name(name) => name.to_string(),
                });
                let end = port.end_port.map_or(String::new(), |end| format!("-{end}"));
                format!("{number}{end}/{}", port.protocol)
            });
            out.extend([" [", &peers.chain(ports).collect::<Vec<_>>().join(" "), "]"]);
        }
    }
    out
}

fn peer_text(peer: &PeerSelector) -> String {
    match peer {
        PeerSelector::Pods(pods) => format!("pods({pods})"),
        PeerSelector::Namespaces(namespaces) => format!("ns({namespaces})"),
        PeerSelector::NamespacedPods { namespaces, pods } => format!("ns({namespaces})&pods({pods})"),
        PeerSelector::IpBlock { cidr, except } => {
            except.iter().fold(cidr.to_string(), |out, net| format!("{out}-{net}"))
        }
    }
}

#[test]
fn policies() {
    let cases = [
        ("podSelector: {}", "<all>; in"),
        ("{}", "<all>; in"),
        ("podSelector:", "<all>; in"),
        ("podSelector: {}\npolicyTypes: []", "<all>; in"),
        ("podSelector: {}\npolicyTypes: [Egress]", "<all>; out"),
        ("podSelector: {}\npolicyTypes: [Ingress, Egress]", "<all>; in; out"),
        ("podSelector: {}\npolicyTypes: [Ingress, Ingress]", "<all>; in"),
        ("podSelector: {}\negress: []", "<all>; in"),
        ("podSelector: {}\negress:", "<all>; in"),
        ("podSelector: {}\negress: [{}]", "<all>; in; out []"),
        ("podSelector: {}\ningress: [{}]", "<all>; in []"),
        ("podSelector: {}\ningress: [{from: [], ports: []}]", "<all>; in []"),
        ("podSelector: {}\ningress: [{from: , ports: ~}]", "<all>; in []"),
        ("podSelector: {matchLabels: {a: \"1\", b: x}}", "a=1,b=x; in"),
        ("podSelector: {matchLabels: {a: ''}}", "a=; in"),
        ("podSelector: {matchLabels: , matchExpressions: }", "<all>; in"),
        ("podSelector: {matchExpressions: [{key: a, operator: Exists, values: []}]}", "a; in"),
        ("podSelector: {matchExpressions: [{key: a, operator: In, values: ['', x]}]}", "a in (,x); in"),
        ("ingress: [{from: [{podSelector: {}}]}]", "<all>; in [pods(<all>)]"),
        ("ingress: [{from: [{namespaceSelector: {}}]}]", "<all>; in [ns(<all>)]"),
        ("ingress: [{from: [{namespaceSelector: {}, podSelector: }]}]", "<all>; in [ns(<all>)]"),
        (
            "ingress:\n- from:\n  - namespaceSelector: {matchLabels: {a: b}}\n    podSelector: {matchLabels: {c: d}}",
            "<all>; in [ns(a=b)&pods(c=d)]",
        ),
        (
            "ingress:\n- from:\n  - namespaceSelector: {matchLabels: {a: b}}\n  - podSelector: {matchLabels: {c: d}}",
            "<all>; in [ns(a=b) pods(c=d)]",
        ),
        ("ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/8}}]}]", "<all>; in [10.0.0.0/8]"),
        ("ingress: [{from: [{ipBlock: {cidr: 010.0.0.0/8}}]}]", "<all>; in [10.0.0.0/8]"),
        ("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]", "<all>; in [0.0.0.0/0-10.0.0.0/8]"),
        ("ingress: [{from: [{ipBlock: {cidr: '::/0', except: }}]}]", "<all>; in [::/0]"),
        ("ingress: [{ports: [{}]}]", "<all>; in [*/TCP]"),
        ("ingress: [{ports: [{protocol: UDP}]}]", "<all>; in [*/UDP]"),
        ("ingress: [{ports: [{port: 1}, {port: 65535, protocol: SCTP}]}]", "<all>; in [1/TCP 65535/SCTP]"),
        (
            "ingress: [{ports: [{port: 80, endPort: 80}, {port: 1, endPort: 65535}]}]",
            "<all>; in [80-80/TCP 1-65535/TCP]",
        ),
        ("ingress: [{ports: [{port: http}, {port: a-1}, {port: 8a}]}]", "<all>; in [http/TCP a-1/TCP 8a/TCP]"),
        ("ingress: [{ports: [{port: 0x50}, {port: 8_080}]}]", "<all>; in [80/TCP 8080/TCP]"),
        (
            "ingress:\n- &rule {ports: &ports [{port: 80}]}\n- *rule\n- {<<: *rule, from: [{podSelector: {}}]}\n- {ports: *ports}",
            "<all>; in [80/TCP] [80/TCP] [pods(<all>) 80/TCP] [80/TCP]",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(policy(spec), expected, "{spec}");
    }
}

/// Each line marked in the manifest is where the rule, peer or port says it is written.
#[test]
fn locations() {
    let text = "# comment\n---\n\u{20}\napiVersion: networking.k8s.io/v1 # 4:1 the object\nkind: NetworkPolicy\nmetadata: {name: p, namespace: ns, annotations: {é: é}}\n".replace("é: é", "e: é")
        + "spec:\n  ingress:\n  - from: # 9:5 a rule\n    - podSelector: {} # 10:7 a peer\n    -   ipBlock: {cidr: 10.0.0.0/8} # 11:9\n    ports: [{port: 80}, {port: 81}] # 12:13 and 12:25\n  - {} # 13:5\n";
    for text in [text.clone(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
        let parsed = parse(&Arc::from("dir/p.yaml"), text.as_bytes());
        let [Object::NetworkPolicy(policy)] = &parsed.objects[..] else { unreachable!("{parsed:?}") };
        let rules = policy.ingress.iter().flat_map(|rule| {
            let peers = rule.peers.iter().map(|peer| &peer.location);
            [&rule.location].into_iter().chain(peers).chain(rule.ports.iter().map(|port| &port.location))
        });
        let found: Vec<String> = [&policy.meta.location].into_iter().chain(rules).map(ToString::to_string).collect();
        let expected = ["4:1", "9:5", "10:7", "11:9", "12:13", "12:25", "13:5"].map(|at| format!("dir/p.yaml:{at}"));
        assert_eq!(found, expected);
    }
}

/// What is worth knowing about manifests that are right.
#[test]
fn notes() {
    let policy =
        |spec: &str| format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\n{spec}");
    let cilium = |section: &str| {
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p, namespace: a}}\nspec:\n  endpointSelector: {{}}\n  {section}\n"
        )
    };
    let cases = [
        (
            "apiVersion: cilium.io/v2\nkind: CiliumEgressGatewayPolicy\nmetadata: {name: p}\n".to_owned(),
            "m.yaml:2:7: CiliumEgressGatewayPolicy (cilium.io/v2) is a policy that is NOT enforced: this version does not know the kind",
        ),
        (
            "apiVersion: apps/v1beta2\nkind: Deployment\n".to_owned(),
            "m.yaml:2:7: Deployment in apps/v1beta2 is skipped: it is read in apps/v1 only",
        ),
        (
            "apiVersion: example.com/v1\nkind: Thing\n".to_owned(),
            "m.yaml:2:7: Thing (example.com/v1) is skipped: it means nothing to the network",
        ),
        (
            "replicas: 2\nimage: nginx\n".to_owned(),
            "m.yaml:1:1: not a Kubernetes object (no apiVersion, kind or metadata): skipped",
        ),
        (policy(""), "m.yaml:1:1: a NetworkPolicy without a spec isolates every pod of its namespace for ingress"),
        (
            policy("spec: {ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/8}}]}]}"),
            "m.yaml:4:43: spec.ingress[0].from[0].ipBlock.cidr: 10.1.2.3/8 has host bits set and means 10.0.0.0/8",
        ),
        (
            policy("spec: {ingress: [{}], policyTypes: [Egress]}"),
            "m.yaml:4:8: spec.ingress: these rules have no effect: policyTypes does not name the direction",
        ),
        (
            policy("spec: {podSelector: {matchLabels: {app: }}}"),
            "m.yaml:4:36: spec.podSelector.matchLabels[app]: nothing after the colon reads as the empty string; write \"\" to say so",
        ),
        (
            cilium("egress: [{toCIDR: [10.1.2.3/8]}]"),
            "m.yaml:6:22: spec.egress[0].toCIDR[0]: 10.1.2.3/8 has host bits set and means 10.0.0.0/8",
        ),
        (
            cilium("ingress: [{fromEndpoints: []}]"),
            "m.yaml:6:29: spec.ingress[0].fromEndpoints: an empty list selects nobody: this rule matches nothing",
        ),
        (
            cilium("ingress: [{toPorts: [{}]}]"),
            "m.yaml:6:24: spec.ingress[0].toPorts[0]: without ports this entry matches nothing; \"0\" is every port",
        ),
        (
            cilium("ingressDeny: [{}]"),
            "m.yaml:6:17: spec.ingressDeny[0]: an empty rule matches nothing; toEntities or fromEntities: [all] denies all",
        ),
        (
            cilium("ingress: [{toPorts: [{ports: [{port: \"80\", protocol: TCP}], rules: {http: []}}]}]"),
            "m.yaml:6:70: spec.ingress[0].toPorts[0].rules: no rule in it, so that every request is allowed",
        ),
        (
            cilium("ingress: [{fromEndpoints: [{matchLabels: {\"container:a\": b}}]}]"),
            "m.yaml:6:45: spec.ingress[0].fromEndpoints[0].matchLabels: nothing here has labels of the source \"container\"",
        ),
        (
            cilium("ingress: [{}]").replace(
                "endpointSelector: {}",
                "endpointSelector: {matchLabels: {\"k8s:io.kubernetes.pod.namespace\": b}}",
            ),
            "m.yaml:5:21: spec.endpointSelector: the policy is for pods of its own namespace a only: naming b has no effect",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p, lables: {a: b}}\nspec: {containers: [{name: c}]}\n"
                .to_owned(),
            "m.yaml:3:21: metadata.lables: this unknown field is ignored; did you mean \"labels\"?",
        ),
    ];
    for (text, expected) in cases {
        let parsed = parse(&Arc::from("m.yaml"), text.as_bytes());
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let notes: Vec<String> = parsed.notes.iter().map(ToString::to_string).collect();
        assert_eq!(notes, [expected], "{text}");
    }
}

/// Shapes of files that hold objects.
#[test]
fn files() {
    let cases = [
        ("a.yaml", "", &[][..]),
        ("a.yaml", "# nothing\n---\n---\n...\n", &[]),
        ("a.yaml", "null\n---\n~\n", &[]),
        (
            "a.yaml",
            "%YAML 1.2\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n...\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n",
            &["Namespace/a", "Namespace/b"],
        ),
        (
            "a.yaml",
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Node, metadata: {name: m}}]}\n",
            &["Namespace/a", "Node/m"],
        ),
        ("a.yaml", "apiVersion: v1\nkind: List\nitems: []\n", &[]),
        (
            "a.yaml",
            "apiVersion: v1\nkind: ServiceAccountList\nmetadata: {resourceVersion: \"1\"}\nitems: [{metadata: {name: a}}]\n",
            &["ServiceAccount/default/a"],
        ),
        (
            "a.yaml",
            "{\"apiVersion\": \"v1\",\n\t\"kind\": \"Namespace\", \"metadata\": {\"name\": \"a\"}}\n{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"b\"}}",
            &["Namespace/a", "Namespace/b"],
        ),
        (
            "a.json",
            "\u{feff}{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"a\", \"annotations\": {\"x\": \"\\ud83d\\ude00 \\/ \\u00e9\"}}}",
            &["Namespace/a"],
        ),
        ("a.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: a}}", &["Namespace/a"]),
        (
            "a.yaml",
            "apiVersion: v1\r\nkind: Namespace\r\nmetadata:\r\n  name: a\r\n---\r\napiVersion: v1\r\nkind: Node\r\nmetadata: {name: m}\r\n",
            &["Namespace/a", "Node/m"],
        ),
        (
            "a.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: }\ndata:\n  80: a\n  on: b\n  text: |\n    - not: parsed\n    \ttab\n",
            &["ConfigMap/default/a"],
        ),
    ];
    for (name, text, expected) in cases {
        let parsed = parse(&Arc::from(name), text.as_bytes());
        assert!(parsed.errors.is_empty(), "{text}\n{:?}", parsed.errors);
        let keys: Vec<String> = parsed.objects.iter().map(|object| object.key().to_string()).collect();
        assert_eq!(keys, expected, "{text}");
    }
}
