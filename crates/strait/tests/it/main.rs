//! The command line as people and programs use it, without root: manifests in a folder, one command, what comes out.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::needless_raw_string_hashes, reason = "what UPDATE_EXPECT=1 writes")]

mod analyze;
mod matrix;
mod question;
mod usage;

use std::{
    fmt::Write as _,
    fs,
    process::{Command, Output},
};

use expect_test::Expect;
use tempfile::TempDir;

/// A folder that commands run in.
struct Folder(TempDir);

const SHOP: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: db, ports: [{name: sql, containerPort: 5432}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: shop}
spec: {type: ExternalName, externalName: old.example}
";

const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
    - from:
        - podSelector: {matchLabels: {app: web}}
      ports:
        - {port: sql}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
    - to: [{podSelector: {matchLabels: {app: db}}}]
    - to: [{ipBlock: {cidr: 203.0.113.0/24}}]
      ports: [{port: 443}]
";

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.0.path().join("shop")).unwrap();
        folder.write("shop/shop.yaml", SHOP);
        folder.write("shop/policy.yaml", POLICY);
        folder
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).unwrap();
    }

    fn run(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_strait"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env_remove("NO_COLOR")
            .env_remove("STRAIT_LAB")
            .env("COLUMNS", "100")
            .output()
            .unwrap()
    }

    /// Runs a command line; compares what it prints (errors behind the rest) and its exit code.
    fn check(&self, line: &str, expected: &Expect) {
        let Output { status, stdout, stderr } = self.run(line);
        let mut text = String::from_utf8(stdout).unwrap();
        for line in String::from_utf8(stderr).unwrap().lines() {
            writeln!(text, "stderr: {line}").unwrap();
        }
        writeln!(text, "exit {}", status.code().unwrap()).unwrap();
        expected.assert_eq(&text);
    }
}
