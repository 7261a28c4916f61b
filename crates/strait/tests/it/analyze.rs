use expect_test::expect;

use crate::Folder;

const MISTAKES: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: typo, namespace: shop}
spec:
  podSelector: {matchLabels: {app: wbe}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: wrong, namespace: shop}
spec:
  podSelector: {}
  ingres: []
";

#[test]
fn analyze() {
    let folder = Folder::new();
    folder.check(
        "analyze -f shop --severity warning",
        &expect![[r#"
            shop/policy.yaml:19:7: warning[egress-without-dns] NetworkPolicy shop/web spec.egress[0]
                shop/web may connect to others here, but no rule lets them look up names (port 53/UDP): connections by name fail
                allow egress to the cluster's name servers on port 53, UDP and TCP
            exit 1
        "#]],
    );
    folder.check("analyze -f shop --ignore egress-without-dns", &expect![[r#"
        shop/policy.yaml:1:1: info[namespace-without-default-deny] NetworkPolicy shop/db
            anybody can connect to shop/web: no policy isolates them for ingress, while others of the namespace are isolated
            add a NetworkPolicy with podSelector: {} and policyTypes: [Ingress], and allow what is needed
        exit 1
    "#]]);
    folder.write("shop/mistakes.yaml", MISTAKES);
    // A wrong document is a finding, and the others of its file are looked at.
    folder.check("analyze -f shop --ignore egress-without-dns -o json", &expect![[r#"
        [
          {
            "code": "subject-selects-nothing",
            "severity": "warning",
            "kind": "NetworkPolicy",
            "namespace": "shop",
            "name": "typo",
            "path": "spec.podSelector.matchLabels[app]",
            "file": "shop/mistakes.yaml",
            "line": 5,
            "column": 31,
            "message": "no pod in namespace shop has app=wbe: the policy is about nobody, and isolates nobody",
            "remedy": "did you mean app=web?"
          },
          {
            "code": "manifest-invalid",
            "severity": "error",
            "kind": "NetworkPolicy",
            "namespace": "shop",
            "name": "wrong",
            "path": "spec.ingres",
            "file": "shop/mistakes.yaml",
            "line": 12,
            "column": 3,
            "message": "found the unknown field \"ingres\", allowed only podSelector, policyTypes, ingress, egress: nothing of the object is in force",
            "remedy": "did you mean \"ingress\"?"
          },
          {
            "code": "namespace-without-default-deny",
            "severity": "info",
            "kind": "NetworkPolicy",
            "namespace": "shop",
            "name": "db",
            "path": "",
            "file": "shop/policy.yaml",
            "line": 1,
            "column": 1,
            "message": "anybody can connect to shop/web: no policy isolates them for ingress, while others of the namespace are isolated",
            "remedy": "add a NetworkPolicy with podSelector: {} and policyTypes: [Ingress], and allow what is needed"
          }
        ]
        exit 1
    "#]]);
    folder.check("analyze -f shop --severity error", &expect![[r#"
        shop/mistakes.yaml:12:3: error[manifest-invalid] NetworkPolicy shop/wrong spec.ingres
            found the unknown field "ingres", allowed only podSelector, policyTypes, ingress, egress: nothing of the object is in force
            did you mean "ingress"?
        exit 1
    "#]]);
    folder.check(
        "analyze -f shop --ignore nonsense",
        &expect![[r#"
        stderr: error: invalid value 'nonsense' for '--ignore <CODE>': no such code; strait analyze --codes lists them
        stderr: 
        stderr: For more information, try '--help'.
        exit 2
    "#]],
    );
    folder.check(
        "analyze -f nowhere",
        &expect![[r#"
        stderr: error: nowhere: No such file or directory (os error 2); name a manifest file or a folder of them
        exit 2
    "#]],
    );
    folder.check(
        "analyze",
        &expect![[r#"
        stderr: error: the following required arguments were not provided:
        stderr:   --filename <DIR>
        stderr: 
        stderr: Usage: strait analyze --filename <DIR>
        stderr: 
        stderr: For more information, try '--help'.
        exit 2
    "#]],
    );
}

#[test]
fn codes_are_listed() {
    let output = crate::Folder::new().run("analyze --codes");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.lines().count() > 60, "{text}");
    assert!(text.contains("subject-selects-nothing"), "{text}");
}
