//! What people read.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use strait_model::Snapshot;

use crate::support::{CLUSTER, connection, objects};

const POLICIES: &str = r"---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: a}
spec:
  podSelector: {}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: a}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: red}}
      podSelector: {matchLabels: {app: client}}
    ports:
    - port: 80
    - port: dns
      protocol: UDP
  - from:
    - ipBlock:
        cidr: 203.0.113.0/24
        except: [203.0.113.128/25]
    ports:
    - port: admin
";

fn snapshot() -> Snapshot {
    Snapshot::new(&objects("shop.yaml", &format!("{CLUSTER}{POLICIES}")))
}

fn check(question: &str, expected: &Expect) {
    let snapshot = snapshot();
    expected.assert_eq(&snapshot.explain(&connection(&snapshot, question)).render(false));
}

#[test]
fn an_allowed_connection() {
    check(
        "a/client -> a/server 80/TCP",
        &expect![[r#"
            a/client → a/server 80/TCP over IPv4

              egress    a/client 10.244.1.10 (identity 22475, labels app=client,tier=front)
              policy    NetworkPolicy a/deny, not about this direction  shop.yaml:64
              peer      a/server 10.244.1.11 (identity 38895, labels app=server)
              isolated  no
              allowed   no policy isolates it in this direction

              ingress   a/server 10.244.1.11 (identity 38895, labels app=server)
              policy    NetworkPolicy a/deny  shop.yaml:64
              policy    NetworkPolicy a/server  shop.yaml:70
              peer      a/client 10.244.1.10 (identity 22475, labels app=client,tier=front)
              isolated  yes: what no rule allows is denied
              allowed   by a rule
                        NetworkPolicy a/server ingress[0]  shop.yaml:76

            verdict: ALLOWED
        "#]],
    );
}

#[test]
fn a_denied_connection() {
    check(
        "b/client -> a/server 80/TCP v6",
        &expect![[r#"
            b/client → a/server 80/TCP over IPv6

              egress    b/client fd00:10:244:2::10 (identity 51422, labels app=client)
              peer      a/server fd00:10:244:1::11 (identity 38895, labels app=server)
              isolated  no
              allowed   no policy isolates it in this direction

              ingress   a/server fd00:10:244:1::11 (identity 38895, labels app=server)
              policy    NetworkPolicy a/deny  shop.yaml:64
              policy    NetworkPolicy a/server  shop.yaml:70
              peer      b/client fd00:10:244:2::10 (identity 51422, labels app=client)
              isolated  yes: what no rule allows is denied
              denied    isolated by a/deny, a/server, and no rule allows it
              nearest   would be allowed by shop.yaml:77 but for namespace label team=red (found team=blue)  [NetworkPolicy a/server ingress[0]]

            verdict: DENIED by ingress of a/server
        "#]],
    );
}

#[test]
fn sides_without_a_common_family() {
    check(
        "203.0.113.7 -> a/server 80/TCP v6",
        &expect![[r"
        203.0.113.7 → a/server 80/TCP

          the two sides have no address of a common family

        verdict: DENIED
    "]],
    );
}

#[test]
fn nearest_misses() {
    let snapshot = snapshot();
    let mut text = String::new();
    for question in [
        "a/client -> a/server 8080/TCP",
        "a/client -> a/server 53/TCP",
        "a/client -> a/server icmp",
        "b/client -> a/server 80/TCP",
        "b/other -> a/server 80/TCP",
        "b/other -> a/server 81/TCP",
        "203.0.113.7 -> a/server 80/TCP",
        "203.0.113.200 -> a/server 9000/TCP",
        "198.51.100.1 -> a/server 9000/TCP",
        "198.51.100.1 -> a/server 80/TCP",
        "node/node-2 -> a/server 80/TCP",
        "b/other -> a/client 80/TCP",
    ] {
        let explanation = snapshot.explain(&connection(&snapshot, question));
        let miss = explanation.steps[1].decision.nearest_miss.as_ref();
        let miss = miss.map_or_else(|| "nothing near".to_owned(), ToString::to_string);
        writeln!(text, "{question}: {miss}").unwrap();
    }
    expect![[r#"
        a/client -> a/server 8080/TCP: would be allowed by shop.yaml:76 but for port 8080/TCP (rule allows 80/TCP,dns/UDP)
        a/client -> a/server 53/TCP: would be allowed by shop.yaml:76 but for port 53/TCP (rule allows 80/TCP,dns/UDP)
        a/client -> a/server icmp: would be allowed by shop.yaml:76 but for ICMP (rule allows 80/TCP,dns/UDP)
        b/client -> a/server 80/TCP: would be allowed by shop.yaml:77 but for namespace label team=red (found team=blue)
        b/other -> a/server 80/TCP: would be allowed by shop.yaml:77 but for namespace label team=red (found team=blue) and podSelector app=client (found app=other)
        b/other -> a/server 81/TCP: would be allowed by shop.yaml:77 but for namespace label team=red (found team=blue) and podSelector app=client (found app=other) and port 81/TCP (rule allows 80/TCP,dns/UDP)
        203.0.113.7 -> a/server 80/TCP: would be allowed by shop.yaml:88 but for port 80/TCP (rule allows admin/TCP; admin of a/server is 9000/TCP)
        203.0.113.200 -> a/server 9000/TCP: would be allowed by shop.yaml:84 but for except 203.0.113.128/25 (found 203.0.113.200)
        198.51.100.1 -> a/server 9000/TCP: would be allowed by shop.yaml:84 but for ipBlock 203.0.113.0/24 (found 198.51.100.1)
        198.51.100.1 -> a/server 80/TCP: would be allowed by shop.yaml:84 but for ipBlock 203.0.113.0/24 (found 198.51.100.1) and port 80/TCP (rule allows admin/TCP; admin of a/server is 9000/TCP)
        node/node-2 -> a/server 80/TCP: would be allowed by shop.yaml:84 but for ipBlock 203.0.113.0/24 (found 172.30.0.12) and port 80/TCP (rule allows admin/TCP; admin of a/server is 9000/TCP)
        b/other -> a/client 80/TCP: nothing near
    "#]].assert_eq(&text);
}

#[test]
fn colours_do_not_shift_columns() {
    let snapshot = snapshot();
    let explanation = snapshot.explain(&connection(&snapshot, "b/client -> a/server 80/TCP"));
    let mut plain = explanation.render(true);
    for code in ["1;31", "1;32", "36", "1", "0"] {
        plain = plain.replace(&format!("\x1b[{code}m"), "");
    }
    assert_eq!(plain, explanation.render(false));
}

#[test]
fn as_json() {
    let snapshot = snapshot();
    let explanation = snapshot.explain(&connection(&snapshot, "203.0.113.200 -> a/server 80/TCP"));
    expect![[r#"
        {
          "allowed": false,
          "isolated": true,
          "reason": "noRule",
          "origins": [
            {
              "kind": "NetworkPolicy",
              "namespace": "a",
              "name": "deny",
              "direction": "ingress",
              "rule": null,
              "location": {
                "file": "shop.yaml",
                "line": 64,
                "column": 1
              }
            },
            {
              "kind": "NetworkPolicy",
              "namespace": "a",
              "name": "server",
              "direction": "ingress",
              "rule": null,
              "location": {
                "file": "shop.yaml",
                "line": 70,
                "column": 1
              }
            }
          ],
          "nearestMiss": {
            "origin": {
              "kind": "NetworkPolicy",
              "namespace": "a",
              "name": "server",
              "direction": "ingress",
              "rule": 1,
              "location": {
                "file": "shop.yaml",
                "line": 83,
                "column": 5
              }
            },
            "location": {
              "file": "shop.yaml",
              "line": 84,
              "column": 7
            },
            "conditions": [
              {
                "except": {
                  "except": "203.0.113.128/25",
                  "found": "203.0.113.200"
                }
              },
              {
                "port": {
                  "wanted": "admin/TCP",
                  "found": "80/TCP",
                  "name": "admin of a/server is 9000/TCP"
                }
              }
            ]
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&explanation.steps[1].decision).unwrap());
}
