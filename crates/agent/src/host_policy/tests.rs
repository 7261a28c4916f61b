//! Commit-confirm over a kernel in memory.

use std::{fs, net::IpAddr};

use strait_base::Protocol;
use strait_datapath::Fake;
use strait_model::{Direction, L4};

use super::*;
use crate::node::{
    Node,
    tests::{POLICY, Setup, db},
};

/// What a policy named `name` lets in from outside, and nothing else: TCP to these ports.
fn lets_in(name: &str, ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(|port| format!("{{port: '{port}', protocol: TCP}}")).collect();
    format!(
        "apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {{name: {name}}}
spec:
  nodeSelector: {{}}
  ingress: [{{fromEntities: [world], toPorts: [{{ports: [{}]}}]}}]
",
        ports.join(", ")
    )
}

/// Which of these ports of the node the outside reaches.
fn open(node: &Node<Fake>) -> Vec<u16> {
    let [own, outside] = ["172.30.0.11", "203.0.113.10"].map(|address| address.parse::<IpAddr>().unwrap());
    let reaches = |port: &u16| {
        let l4 = L4::Port { protocol: Protocol::Tcp, port: *port };
        let judged = node.view.plan.judge_host_address(own, Direction::Ingress, outside, l4);
        judged.is_none_or(|judgement| judgement.allowed)
    };
    [22, 80, 443].into_iter().filter(reaches).collect()
}

fn told(node: &Node<Fake>) -> HostPolicyStatus {
    node.status().host_policy.unwrap()
}

fn pass(node: &mut Node<Fake>, seconds: u64) {
    trial::advance(Duration::from_secs(seconds));
    node.settle_host_policies();
}

fn restart(setup: &Setup, node: Node<Fake>) -> Node<Fake> {
    let kernel = node.datapath.kernel().clone();
    drop(node);
    setup.start(kernel)
}

#[test]
fn a_policy_that_nobody_confirms_is_rolled_back() {
    let setup = Setup::new();
    setup.write("host.yaml", &lets_in("edge", &[22, 80]));
    let mut node = setup.start(Fake::new());
    // There from the beginning: a node is never open because nobody is there to confirm.
    assert_eq!((open(&node), told(&node).stage), (vec![22, 80], HostPolicyStage::Confirmed));

    setup.write("host.yaml", &lets_in("edge", &[443]));
    node.refresh();
    let status = told(&node);
    assert_eq!((open(&node), status.stage), (vec![443], HostPolicyStage::Unconfirmed));
    assert_eq!(status.changes, ["~edge"]);
    assert!(node.status().ok && status.remaining_ms.is_some_and(|left| left > 50_000 && left <= 60_000));
    pass(&mut node, 58);
    assert_eq!(open(&node), [443]);
    pass(&mut node, 2);
    let status = told(&node);
    assert_eq!((open(&node), status.stage), (vec![22, 80], HostPolicyStage::RolledBack));
    assert_eq!(status.reason.as_deref(), Some("nobody confirmed them in time"));
    assert!(status.in_force[0].file.ends_with("confirmed.yaml"), "{status:?}");
    assert!(!node.status().ok);

    // It stays so whatever else changes, and through restarts.
    setup.write("policy.yaml", &POLICY.replace("5432", "80"));
    node.refresh();
    assert_eq!(open(&node), [22, 80]);
    setup.write("host.yaml", &format!("# A remark.\n{}", lets_in("edge", &[443])));
    node.refresh();
    pass(&mut node, 100);
    let mut node = restart(&setup, node);
    assert_eq!((open(&node), told(&node).stage), (vec![22, 80], HostPolicyStage::RolledBack));

    // Said too late, then on purpose.
    let revision = told(&node).revision;
    let error = node.confirm_host_policy(revision).unwrap_err();
    assert!(error.contains("were rolled back") && error.contains("strait host-policy retry"), "{error}");
    assert_eq!(open(&node), [22, 80]);
    node.retry_host_policy(revision).unwrap();
    assert_eq!(open(&node), [443]);
    assert_eq!(node.confirm_host_policy(revision).unwrap().stage, HostPolicyStage::Confirmed);
    pass(&mut node, 1000);
    assert_eq!(open(&node), [443]);
    let mut node = restart(&setup, node);
    assert_eq!((open(&node), told(&node).stage), (vec![443], HostPolicyStage::Confirmed));
    assert!(node.status().ok && told(&node).in_force[0].file.ends_with("host.yaml"));

    // To have none is a change like others.
    fs::remove_file(setup.path("host.yaml")).unwrap();
    while node.refresh() {}
    assert_eq!((open(&node), told(&node).changes), (vec![22, 80, 443], vec!["-edge".to_owned()]));
    pass(&mut node, 60);
    assert_eq!(open(&node), [443]);
}

#[test]
fn a_restart_rolls_back_what_nobody_confirmed() {
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    node.endpoint_add(db()).unwrap();
    let rules = |node: &Node<Fake>| node.datapath.policy().len();
    let before = rules(&node);
    // With a policy of pods in the same breath: that one stays.
    setup.write("both.yaml", &format!("{}---\n{}", lets_in("edge", &[443]), POLICY.replace("name: db", "name: more")));
    node.refresh();
    assert_eq!((open(&node), told(&node).stage), (vec![443], HostPolicyStage::Unconfirmed));
    assert!(rules(&node) > before && node.datapath.config().host != 0);
    let policies = node.view.snapshot.policies().len();

    let mut node = restart(&setup, node);
    let status = told(&node);
    assert_eq!((open(&node), status.stage), (vec![22, 80, 443], HostPolicyStage::RolledBack));
    assert_eq!(status.reason.as_deref(), Some("the agent started anew before anybody confirmed them"));
    assert_eq!((node.datapath.config().host, node.view.snapshot.policies().len()), (0, policies - 1));

    // What is found to be new is tried, also at a start.
    drop(node);
    setup.write("both.yaml", &lets_in("edge", &[80]));
    node = setup.start(Fake::new());
    assert_eq!((open(&node), told(&node).stage), (vec![80], HostPolicyStage::Unconfirmed));
    // A change meanwhile is not confirmed with what was looked at.
    let looked_at = told(&node).revision;
    setup.write("both.yaml", &lets_in("edge", &[22]));
    node.refresh();
    let error = node.confirm_host_policy(looked_at).unwrap_err();
    assert!(error.contains("they changed meanwhile"), "{error}");
    pass(&mut node, 60);
    assert_eq!(open(&node), [22, 80, 443]);
}

/// What a policy means changes without a change of the policy.
#[test]
fn whatever_changes_what_is_let_in_is_tried() {
    let group = |cidr: &str| {
        format!(
            "---\napiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {{name: admins}}\nspec: {{externalCIDRs: [{cidr}]}}\n"
        )
    };
    let named = lets_in("edge", &[22])
        .replace("fromEntities: [world]", "fromCIDRSet: [{cidrGroupRef: admins, except: [203.0.113.128/25]}]");
    let setup = Setup::new();
    setup.write("host.yaml", &format!("{named}{}", group("203.0.113.0/24")));
    let mut node = setup.start(Fake::new());
    assert_eq!(open(&node), [22]);
    setup.write("host.yaml", &format!("{named}{}", group("198.51.100.0/24")));
    node.refresh();
    assert_eq!((open(&node), told(&node).stage), (vec![], HostPolicyStage::Unconfirmed));
    pass(&mut node, 60);
    assert_eq!(open(&node), [22]);
    assert_eq!(open(&restart(&setup, node)), [22]);

    // A label of the node has another policy select it, and the roll-back holds whatever the labels are.
    let cluster = fs::read_to_string(setup.path("cluster.yaml")).unwrap();
    let setup = Setup::new();
    let edge = lets_in("edge", &[22]).replace("nodeSelector: {}", "nodeSelector: {matchLabels: {role: edge}}");
    let core = lets_in("core", &[443]).replace("nodeSelector: {}", "nodeSelector: {matchLabels: {role: core}}");
    setup.write("host.yaml", &format!("{edge}---\n{core}"));
    let labelled = |role: &str| {
        cluster.replace("metadata: {name: node-1}", &format!("metadata: {{name: node-1, labels: {{role: {role}}}}}"))
    };
    setup.write("cluster.yaml", &labelled("edge"));
    let mut node = setup.start(Fake::new());
    assert_eq!(open(&node), [22]);
    setup.write("cluster.yaml", &labelled("core"));
    node.refresh();
    assert_eq!((open(&node), told(&node).changes), (vec![443], vec!["+core".to_owned(), "-edge".to_owned()]));
    pass(&mut node, 60);
    assert_eq!(open(&node), [22]);

    // Not a change: another way to say that it selects this node.
    setup.write("cluster.yaml", &labelled("edge"));
    node.refresh();
    assert_eq!(told(&node).stage, HostPolicyStage::Confirmed);
    setup.write("host.yaml", &lets_in("edge", &[22]));
    node.refresh();
    assert_eq!((open(&node), told(&node).stage), (vec![22], HostPolicyStage::Confirmed));
    // A node that no manifest knows for a while: nothing is decided about it.
    setup.write("cluster.yaml", &cluster.replace("node-1", "node-9"));
    node.refresh();
    setup.write("cluster.yaml", &cluster);
    node.refresh();
    assert_eq!((open(&node), told(&node).stage), (vec![22], HostPolicyStage::Confirmed));
}

#[test]
fn what_is_exempt_needs_no_confirmation() {
    let annotated = |text: &str, annotation: &str| {
        text.replace("metadata: {name: edge}", &format!("metadata: {{name: edge, annotations: {{{annotation}}}}}"))
    };
    let setup = Setup::new();
    let mut node = setup.start(Fake::new());
    setup.write("host.yaml", &annotated(&lets_in("edge", &[443]), "strait.dev/host-policy-confirm: 'false'"));
    node.refresh();
    assert_eq!((open(&node), told(&node).stage), (vec![443], HostPolicyStage::Confirmed));
    // One that only reports is none of those that cut people off.
    setup.write("host.yaml", &annotated(&lets_in("edge", &[443]), "strait.dev/audit: 'true'"));
    node.refresh();
    assert_eq!((open(&node), told(&node).stage), (vec![22, 80, 443], HostPolicyStage::Confirmed));
    setup.write("host.yaml", &lets_in("edge", &[443]));
    node.refresh();
    assert_eq!((open(&node), told(&node).stage), (vec![443], HostPolicyStage::Unconfirmed));
    let revision = told(&node).revision;
    node.confirm_host_policy(revision).unwrap();

    // Back to reporting, and nobody confirms: the confirmed one is in force beside it.
    setup.write("host.yaml", &annotated(&lets_in("edge", &[22]), "strait.dev/audit: 'true'"));
    node.refresh();
    assert_eq!(open(&node), [22, 80, 443]);
    pass(&mut node, 60);
    assert_eq!(open(&node), [443]);
    let names: Vec<_> = node.view.snapshot.policies().iter().map(|policy| policy.name.to_string()).collect();
    assert_eq!(names, ["db", "edge", "edge (confirmed)"]);
    // And not once more when it goes.
    fs::remove_file(setup.path("host.yaml")).unwrap();
    while node.refresh() {}
    assert_eq!((open(&node), told(&node).stage), (vec![443], HostPolicyStage::RolledBack));
    let names: Vec<_> = node.view.snapshot.policies().iter().map(|policy| policy.name.to_string()).collect();
    assert_eq!(names, ["db", "edge"]);
}

/// Of a policy with sections about pods and about nodes, those about nodes go back.
#[test]
fn sections_about_pods_are_not_rolled_back() {
    let both = |port: u16, app: &str| {
        let text = lets_in("edge", &[port]);
        let (head, spec) = text.split_once("spec:\n").unwrap();
        let spec = spec.trim().replace("\n  ", "\n    ");
        format!(
            "{head}specs:\n  - {spec}\n  - endpointSelector: {{matchLabels: {{app: {app}}}}}\n    ingress: [{{}}]\n"
        )
    };
    let setup = Setup::new();
    setup.write("host.yaml", &both(22, "web"));
    let mut node = setup.start(Fake::new());
    setup.write("host.yaml", &both(443, "db"));
    node.refresh();
    assert_eq!((open(&node), told(&node).changes), (vec![443], vec!["~edge".to_owned()]));
    pass(&mut node, 60);
    assert_eq!(open(&node), [22]);
    let subjects: Vec<_> =
        node.view.snapshot.policies().iter().map(|policy| format!("{} {:?}", policy.name, policy.subject)).collect();
    assert!(subjects.iter().any(|subject| subject.contains("\"db\"") && subject.starts_with("edge")), "{subjects:?}");
    assert!(!subjects.iter().any(|subject| subject.contains("\"web\"")), "{subjects:?}");
}

#[test]
fn what_cannot_be_recorded_is_not_tried() {
    let setup = Setup::new();
    setup.write("host.yaml", &lets_in("edge", &[22]));
    let mut node = setup.start(Fake::new());
    let folder = setup.path("../state/host-policies");
    fs::rename(&folder, setup.path("../aside")).unwrap();
    fs::write(&folder, "in the way").unwrap();
    setup.write("host.yaml", &lets_in("edge", &[443]));
    node.refresh();
    let status = node.status();
    let error = status.host_policy.unwrap().error.unwrap();
    assert!(!status.ok && error.contains("that were in force stay"), "{error}");
    assert_eq!(open(&node), [22]);
    // Tried again by itself.
    fs::remove_file(&folder).unwrap();
    fs::rename(setup.path("../aside"), &folder).unwrap();
    node.settle_host_policies();
    assert_eq!((open(&node), told(&node).error), (vec![443], None));
    assert!(node.status().ok);
    pass(&mut node, 60);
    assert_eq!(open(&node), [22]);

    // A record that is damaged says nothing: the node begins with what manifests say.
    for file in walk(&folder).into_iter().filter(|file| file.ends_with("confirmed.yaml")) {
        fs::write(file, "{").unwrap();
    }
    assert_eq!(open(&restart(&setup, node)), [443]);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// What is written is read back as the same, whatever a policy may hold.
#[test]
fn records_hold_every_member_of_a_policy() {
    let members = "\
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: all, labels: {a: b}, annotations: {c: d}}
specs:
- nodeSelector: {matchExpressions: [{key: x, operator: DoesNotExist}]}
  description: words
  enableDefaultDeny: {ingress: false}
  ingress:
  - fromEndpoints: [{matchLabels: {'k8s:app': web}}]
    toPorts: [{ports: [{port: http}, {port: '80', endPort: 90, protocol: TCP}]}]
  - fromCIDR: [10.0.0.0/8, 'fd00::/8']
    icmps: [{fields: [{type: 8, family: IPv4}]}]
  - fromCIDRSet: [{cidrGroupRef: nobody}]
  - fromCIDRSet: [{cidrGroupRef: some, except: [198.51.100.0/25, 10.0.0.0/8]}, {cidr: 192.0.2.0/24, except: [192.0.2.1/32]}]
  - fromNodes: [{matchLabels: {role: core}}]
  - {}
  ingressDeny: [{fromEntities: [remote-node]}]
  egress:
  - toServices: [{k8sService: {serviceName: api, namespace: shop}}]
  - toFQDNs: [{matchName: a.example}]
    toPorts: [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchPattern: '*'}]}}]
  - toEntities: [kube-apiserver]
  egressDeny: [{toCIDR: [192.0.2.7/32]}]
- nodeSelector: {}
  egress: [{}]
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: some}
spec: {externalCIDRs: [198.51.100.0/24, 10.1.0.0/16]}
---
apiVersion: v1
kind: Node
metadata: {name: a}
";
    let parsed = strait_api::parse(&"x.yaml".into(), members.as_bytes());
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    let objects: Objects = parsed.objects.into_iter().collect();
    let set = HostPolicies::of(&objects, "a").unwrap();
    let text = set.to_manifest();
    let back = HostPolicies::from_manifest(&"y.yaml".into(), text.as_bytes()).unwrap();
    assert_eq!(back, set);
    assert_eq!(back.to_manifest(), text);
    // The group's first prefix without its half; the second is left out whole.
    assert!(
        text.contains(r#"{"cidr":"198.51.100.0/24","except":["198.51.100.0/25"]}"#) && !text.contains("10.1.0.0"),
        "{text}"
    );
    for cut in [0, 40, text.len() / 2, text.len() - 3] {
        let cut = HostPolicies::from_manifest(&"y.yaml".into(), &text.as_bytes()[..cut]);
        assert!(cut.is_none_or(|cut| cut != set));
    }
}
