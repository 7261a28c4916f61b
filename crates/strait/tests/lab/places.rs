//! What a process sees in a pod, on a node and outside.

use crate::bed::Bed;

const SHOP: &str = "\
kind: Deployment
apiVersion: apps/v1
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
kind: Service
apiVersion: v1
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 8080}]}
---
kind: StatefulSet
apiVersion: apps/v1
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, ports: [{containerPort: 5432}]}]}
---
kind: Service
apiVersion: v1
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}
---
kind: Pod
apiVersion: v1
metadata:
  name: real
  namespace: shop
  annotations: {lab.strait.dev/run: host}
spec:
  containers:
  - name: server
    command: [sh, -c]
    args: ['exec python3 -m http.server --bind :: \"$PORT\"']
    env: [{name: PORT, value: '8000'}]
    ports: [{containerPort: 8000}]
---
kind: Pod
apiVersion: v1
metadata: {name: on-host, namespace: shop}
spec: {hostNetwork: true, nodeName: node-2, containers: [{name: c, ports: [{containerPort: 9999}]}]}
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: out, namespace: elsewhere}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24, except: [198.51.100.128/25]}}], ports: [{port: 4433}]}]
";

#[test]
fn inside() {
    let Some(bed) = Bed::up("inside", &[("shop.yaml", SHOP)]) else { return };

    let resolv = bed.prints("shop/web-0", &["cat", "/etc/resolv.conf"]);
    let server = bed.address("kube-system/coredns-0", true);
    assert!(resolv.starts_with(&format!("nameserver {server}\n")), "{resolv}");
    assert!(resolv.contains("search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5"));
    assert_eq!(bed.prints("shop/web-0", &["hostname"]), "web-0\n");
    assert!(bed.prints("shop/web-0", &["cat", "/etc/hosts"]).contains("web-0"));
    let cgroup = bed.prints("shop/web-0", &["cat", "/proc/self/cgroup"]);
    assert!(cgroup.contains(&format!("0::/strait-lab/{}/shop_web-0", bed.lab.name())), "{cgroup}");

    // Names, by the resolver of the C library.
    let names = |name: &str| bed.prints("shop/web-0", &["getent", "ahostsv4", name]);
    for pod in ["shop/web-0", "shop/web-1"] {
        assert!(names("web").contains(&bed.address(pod, true).to_string()));
        assert!(names("web.shop.svc.cluster.local").contains(&bed.address(pod, true).to_string()));
    }
    let db = bed.address("shop/db-0", true).to_string();
    assert!(names("db-0.db").contains(&db));
    assert!(names(&format!("{}.shop.pod", db.replace('.', "-"))).contains(&db));
    assert!(names("example.com").contains("203.0.113.10"));
    assert_eq!(bed.exec("shop/web-0", &["getent", "hosts", "nowhere"]).status.code(), Some(2));

    // Exit code, standard input.
    assert_eq!(bed.exec("shop/web-0", &["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(bed.exec("shop/web-9", &["true"]).status.code(), Some(2));

    let answer = bed.prints("shop/web-1", &["curl", "-s", "--max-time", "5", "http://web:8080/path"]);
    assert!(answer.contains("\"namespace\": \"shop\"") && answer.contains("\"service\": \"web\""), "{answer}");
    let listing = bed.prints(
        "shop/web-1",
        &["curl", "-s", "--max-time", "5", &format!("http://{}:8000/", bed.address("shop/real", true))],
    );
    assert!(listing.contains("Directory listing"), "{listing}");
    assert!(bed.reaches("shop/web-0", "shop/on-host", 9999));
    assert!(bed.prints("node/node-2", &["ip", "-o", "addr", "show", "eth0"]).contains("172.30.0.12"));

    // A host in the block that a policy names and one in its hole, which answer from the address they were asked at.
    for address in ["198.51.100.1", "198.51.100.129", "203.0.113.10", "[2001:db8:113::10]"] {
        for port in [80, 4433] {
            let answer =
                bed.prints("shop/web-0", &["curl", "-s", "--max-time", "5", &format!("http://{address}:{port}/")]);
            assert!(answer.contains(&format!("\"destinationAddress\": \"{address}:{port}\"")), "{answer}");
        }
    }
    let web = bed.address("shop/web-0", false);
    let answer = bed.prints("outside", &["curl", "-s", "--max-time", "5", &format!("http://[{web}]:8080/")]);
    assert!(answer.contains("\"sourceAddress\": \"[2001:db8:113::10]:"), "{answer}");
    bed.down();
}

#[test]
fn bookinfo() {
    let manifests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/bookinfo/platform/kube/bookinfo.yaml");
    let Ok(text) = std::fs::read_to_string(&manifests) else {
        eprintln!("SKIPPED bookinfo: no {}; it is not part of this repository", manifests.display());
        return;
    };
    let Some(bed) = Bed::up("bookinfo", &[("bookinfo.yaml", &text)]) else { return };
    let status = bed.lab.status().unwrap();
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    let pods: Vec<_> =
        status.pods.iter().map(|pod| pod.name.to_string()).filter(|pod| pod.starts_with("default/")).collect();
    assert_eq!(
        pods,
        ["details-v1-0", "productpage-v1-0", "ratings-v1-0", "reviews-v1-0", "reviews-v2-0", "reviews-v3-0"]
            .map(|pod| format!("default/{pod}"))
    );
    for service in ["details", "productpage", "ratings", "reviews"] {
        let url = format!("http://{service}:9080/");
        let answer = bed.prints("default/productpage-v1-0", &["curl", "-s", "--max-time", "5", &url]);
        assert!(answer.contains(&format!("\"service\": \"{service}\"")), "{answer}");
    }
    bed.down();
}

/// Names as long as the API server lets them be, longer than a file's may be.
#[test]
fn names_may_be_long() {
    let (namespace, pod) = ("n".repeat(63), format!("{}-0", "p".repeat(251)));
    let manifest = format!(
        "kind: Namespace\napiVersion: v1\nmetadata: {{name: {namespace}}}\n---\n\
        kind: Pod\napiVersion: v1\nmetadata: {{name: {pod}, namespace: {namespace}}}\n\
        spec: {{containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}\n"
    );
    let Some(bed) = Bed::up("long", &[("pods.yaml", &manifest)]) else { return };
    let name = format!("{namespace}/{pod}");
    assert!(bed.reaches(&name, &name, 80));
    bed.down();
}
