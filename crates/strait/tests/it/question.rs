use expect_test::expect;

use crate::{Folder, POLICY};

#[test]
fn verdict() {
    let folder = Folder::new();
    for (line, expected) in [
        (
            "--from shop/web-0 --to shop/db-0 --port 5432/TCP",
            expect![[r#"
            allowed  shop/web-0 → shop/db-0 5432/TCP  egress by NetworkPolicy shop/web egress[0] (shop/policy.yaml:19); ingress by NetworkPolicy shop/db ingress[0] (shop/policy.yaml:7)
            exit 0
        "#]],
        ),
        (
            "--from shop/web-0 --to shop/db-0 --port 8080",
            expect![[r#"
            denied   shop/web-0 → shop/db-0 8080/TCP  ingress isolated by NetworkPolicy shop/db (shop/policy.yaml:1): would be allowed by shop/policy.yaml:10 but for port 8080/TCP (rule allows sql/TCP; sql of shop/db-0 is 5432/TCP)
            exit 1
        "#]],
        ),
        (
            "--from shop/db-0 --to shop/web-1 --port 8080",
            expect![[r#"
            allowed  shop/db-0 → shop/web-1 8080/TCP
            exit 0
        "#]],
        ),
        // Names of several pods; a service's port leads to its pods'.
        (
            "--from db --to front --port 80 -n shop",
            expect![[r#"
            allowed  shop/db-0 → shop/web-0 8080/TCP
            allowed  shop/db-0 → shop/web-1 8080/TCP
            2 of 2 connections are allowed
            exit 0
        "#]],
        ),
        (
            "--from shop/web --to shop/db --port 53/UDP",
            expect![[r#"
            denied   shop/web-0 → shop/db-0 53/UDP  ingress isolated by NetworkPolicy shop/db (shop/policy.yaml:1): would be allowed by shop/policy.yaml:10 but for port 53/UDP (rule allows sql/TCP)
            denied   shop/web-1 → shop/db-0 53/UDP  ingress isolated by NetworkPolicy shop/db (shop/policy.yaml:1): would be allowed by shop/policy.yaml:10 but for port 53/UDP (rule allows sql/TCP)
            0 of 2 connections are allowed
            exit 1
        "#]],
        ),
        (
            "--from shop/web --to shop/web --port 8080",
            expect![[r#"
                allowed  shop/web-0 → shop/web-0 8080/TCP  a pod reaches itself
                denied   shop/web-1 → shop/web-0 8080/TCP  egress isolated by NetworkPolicy shop/web (shop/policy.yaml:12): would be allowed by shop/policy.yaml:19 but for podSelector app=db (found app=web)
                denied   shop/web-0 → shop/web-1 8080/TCP  egress isolated by NetworkPolicy shop/web (shop/policy.yaml:12): would be allowed by shop/policy.yaml:19 but for podSelector app=db (found app=web)
                allowed  shop/web-1 → shop/web-1 8080/TCP  a pod reaches itself
                2 of 4 connections are allowed
                exit 1
            "#]],
        ),
        (
            "--from shop/web-0 --to 203.0.113.9 --port 443",
            expect![[r#"
            allowed  shop/web-0 → 203.0.113.9 443/TCP  egress by NetworkPolicy shop/web egress[1] (shop/policy.yaml:20)
            exit 0
        "#]],
        ),
        (
            "--from 203.0.113.9 --to shop/db-0 --port ICMP",
            expect![[r#"
            denied   203.0.113.9 → shop/db-0 ICMP  ingress isolated by NetworkPolicy shop/db (shop/policy.yaml:1): would be allowed by shop/policy.yaml:8 but for podSelector app=web (found 203.0.113.9, which is no pod) and ICMP (rule allows sql/TCP)
            exit 1
        "#]],
        ),
        (
            "--from node/node-1 --to shop/db-0 --port 5432 --family ipv6",
            expect![[r#"
            allowed  node/node-1 → shop/db-0 5432/TCP  a node and its pods reach each other
            exit 0
        "#]],
        ),
    ] {
        folder.check(&format!("policy verdict -f shop {line}"), &expected);
    }
}

#[test]
fn questions_that_cannot_be_answered() {
    let folder = Folder::new();
    for (line, expected) in [
        (
            "--from shop/web-7 --to shop/db-0 --port 80",
            expect![[r#"
            stderr: error: no pod or workload "web-7" in namespace "shop"; write NAMESPACE/POD, POD, node/NODE or an address
            exit 2
        "#]],
        ),
        (
            "--from shop/web-0 --to shop/front --port 8080",
            expect![[r#"
            stderr: error: service shop/front has no port 8080/TCP; it has 80/TCP (shop/shop.yaml:21:1)
            exit 2
        "#]],
        ),
        (
            "--from shop/web-0 --to shop/old --port 80",
            expect![[r#"
            stderr: error: service shop/old (shop/shop.yaml:26:1) is another name for old.example; ask for its address
            exit 2
        "#]],
        ),
        (
            "--from shop/web-0 --to node/node-9 --port 80",
            expect![[r#"
            stderr: error: no node "node-9"; there are: node-1, node-2
            exit 2
        "#]],
        ),
    ] {
        folder.check(&format!("policy verdict -f shop {line}"), &expected);
    }
    folder.check(
        "policy verdict -f nowhere --from a --to b --port 1",
        &expect![[r#"
        stderr: error: nowhere: No such file or directory (os error 2); name a manifest file or a folder of them
        exit 2
    "#]],
    );
}

#[test]
fn neither_manifests_nor_lab() {
    let folder = Folder::new();
    folder.check("policy verdict --lab no-such-lab --from a --to b --port 1", &expect![[r#"
        stderr: error: no manifests are named (-f DIR), and there is no lab `no-such-lab` (`strait lab list` shows those there are; start one with `strait lab up -f DIR --name no-such-lab`)
        exit 2
    "#]]);
}

#[test]
fn manifests_with_errors_get_no_answer() {
    let folder = Folder::new();
    folder.write("shop/policy.yaml", &POLICY.replace("port: 443", "port: 70000").replace("egress:", "egres:"));
    folder.check("policy verdict -f shop --from shop/web-0 --to shop/db-0 --port 5432", &expect![[r#"
        stderr: error: shop/policy.yaml:18:3: spec.egres: found the unknown field "egres", allowed only podSelector, policyTypes, ingress, egress; did you mean "egress"?
        stderr: error: the manifests have an error; correct it and ask again
        exit 2
    "#]]);
}

#[test]
fn verdict_as_json() {
    let folder = Folder::new();
    folder.check(
        "policy verdict -f shop --from shop/web-0 --to shop/db-0 --port 5432 -o json",
        &expect![[r#"
        {
          "from": "shop/web-0",
          "to": "shop/db-0",
          "port": 5432,
          "protocol": "TCP",
          "allowed": true,
          "connections": [
            {
              "from": "shop/web-0",
              "to": "shop/db-0",
              "port": 5432,
              "protocol": "TCP",
              "family": "IPv4",
              "allowed": true,
              "egress": {
                "allowed": true,
                "isolated": true,
                "reason": "rule",
                "origins": [
                  {
                    "kind": "NetworkPolicy",
                    "namespace": "shop",
                    "name": "web",
                    "direction": "egress",
                    "rule": 0,
                    "location": {
                      "file": "shop/policy.yaml",
                      "line": 19,
                      "column": 7
                    }
                  }
                ]
              },
              "ingress": {
                "allowed": true,
                "isolated": true,
                "reason": "rule",
                "origins": [
                  {
                    "kind": "NetworkPolicy",
                    "namespace": "shop",
                    "name": "db",
                    "direction": "ingress",
                    "rule": 0,
                    "location": {
                      "file": "shop/policy.yaml",
                      "line": 7,
                      "column": 7
                    }
                  }
                ]
              }
            }
          ]
        }
        exit 0
    "#]],
    );
}

#[test]
fn explain() {
    let folder = Folder::new();
    folder.check("policy explain -f shop --from shop/web-0 --to shop/db-0 --port 8080/TCP", &expect![[r#"
        shop/web-0 → shop/db-0 8080/TCP over IPv4

          egress    shop/web-0 10.244.2.10 (identity 34365, labels app=web,pod-template-hash=68cdbbbd89)
          policy    NetworkPolicy shop/web  shop/policy.yaml:12
          peer      shop/db-0 10.244.1.10 (identity 55503, labels app=db,apps.kubernetes.io/pod-index=0,controller-revision-hash=db-7676dd7cfc,statefulset.kubernetes.io/pod-name=db-0)
          isolated  yes: what no rule allows is denied
          allowed   by a rule
                    NetworkPolicy shop/web egress[0]  shop/policy.yaml:19

          ingress   shop/db-0 10.244.1.10 (identity 55503, labels app=db,apps.kubernetes.io/pod-index=0,controller-revision-hash=db-7676dd7cfc,statefulset.kubernetes.io/pod-name=db-0)
          policy    NetworkPolicy shop/db  shop/policy.yaml:1
          peer      shop/web-0 10.244.2.10 (identity 34365, labels app=web,pod-template-hash=68cdbbbd89)
          isolated  yes: what no rule allows is denied
          denied    isolated by shop/db, and no rule allows it
          nearest   would be allowed by shop/policy.yaml:10 but for port 8080/TCP (rule allows sql/TCP; sql of shop/db-0 is 5432/TCP)  [NetworkPolicy shop/db ingress[0]]

        verdict: DENIED by ingress of shop/db-0
        exit 1
    "#]]);
    folder.check("policy explain -f shop --from shop/web-0 --to shop/db-0 --port 5432/TCP", &expect![[r#"
        shop/web-0 → shop/db-0 5432/TCP over IPv4

          egress    shop/web-0 10.244.2.10 (identity 34365, labels app=web,pod-template-hash=68cdbbbd89)
          policy    NetworkPolicy shop/web  shop/policy.yaml:12
          peer      shop/db-0 10.244.1.10 (identity 55503, labels app=db,apps.kubernetes.io/pod-index=0,controller-revision-hash=db-7676dd7cfc,statefulset.kubernetes.io/pod-name=db-0)
          isolated  yes: what no rule allows is denied
          allowed   by a rule
                    NetworkPolicy shop/web egress[0]  shop/policy.yaml:19

          ingress   shop/db-0 10.244.1.10 (identity 55503, labels app=db,apps.kubernetes.io/pod-index=0,controller-revision-hash=db-7676dd7cfc,statefulset.kubernetes.io/pod-name=db-0)
          policy    NetworkPolicy shop/db  shop/policy.yaml:1
          peer      shop/web-0 10.244.2.10 (identity 34365, labels app=web,pod-template-hash=68cdbbbd89)
          isolated  yes: what no rule allows is denied
          allowed   by a rule
                    NetworkPolicy shop/db ingress[0]  shop/policy.yaml:7

        verdict: ALLOWED
        exit 0
    "#]]);
    let colored = folder.run("policy explain -f shop --from shop/web-0 --to shop/db-0 --port 80 --color always");
    assert!(String::from_utf8(colored.stdout).unwrap().contains("\x1b["));
}
