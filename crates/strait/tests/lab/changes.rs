//! Manifests change, and the lab with them.

use crate::bed::{Bed, eventually};

const DENY: &str = "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: deny}\nspec: {podSelector: {matchLabels: {app: web}}}\n";

fn web(replicas: u32, port: u16, app: &str) -> String {
    format!(
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {{name: web}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {app}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {app}}}}}\n    spec: {{containers: [{{name: c, ports: [{{containerPort: {port}}}]}}]}}\n\
         ---\nkind: Pod\napiVersion: v1\nmetadata: {{name: client}}\nspec: {{containers: [{{name: c}}]}}\n"
    )
}

#[test]
fn the_lab_follows_its_manifests() {
    let Some(bed) = Bed::up("follow", &[("web.yaml", &web(1, 80, "web"))]) else { return };
    let address = bed.address("default/web-0", true);
    assert!(bed.reaches("default/client", "default/web-0", 80));

    // By itself, without being asked to.
    bed.save("deny.yaml", DENY);
    eventually("the new policy is enforced", || !bed.reaches("default/client", "default/web-0", 80));
    bed.save("web.yaml", &web(3, 80, "web"));
    eventually("the workload has grown", || {
        bed.lab.status().unwrap().pods.iter().any(|pod| pod.name.to_string() == "default/web-2" && pod.open)
    });
    // A pod is never open before its policy is.
    assert!(!bed.reaches("default/client", "default/web-2", 80));

    // Other labels, other policies; what stays keeps its address.
    bed.save("web.yaml", &web(3, 80, "renamed"));
    bed.lab.sync().unwrap();
    assert!(bed.reaches("default/client", "default/web-2", 80));
    assert_eq!(bed.address("default/web-0", true), address);

    bed.save("web.yaml", &web(1, 8080, "renamed"));
    bed.lab.sync().unwrap();
    assert_eq!(bed.address("default/web-0", true), address);
    let url = format!("http://{address}:8080/");
    assert!(bed.prints("default/client", &["curl", "-s", "--max-time", "5", &url]).contains("web-0"));
    assert_eq!(bed.exec("default/web-2", &["true"]).status.code(), Some(2), "web-2 is gone");

    std::fs::remove_file(bed.folder().join("deny.yaml")).unwrap();
    bed.save("web.yaml", &web(1, 8080, "web"));
    bed.lab.sync().unwrap();
    assert!(bed.reaches("default/client", "default/web-0", 8080));
    bed.down();
}

#[test]
fn a_broken_manifest_takes_nothing_out_of_force() {
    let files = [("web.yaml", &*web(1, 80, "web")), ("deny.yaml", DENY)];
    let Some(bed) = Bed::up("broken", &files) else { return };
    assert!(!bed.reaches("default/client", "default/web-0", 80));
    for broken in [
        "{",
        "",
        "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: deny}\nspec: {podSelectr: {}}\n",
    ] {
        bed.save("deny.yaml", broken);
        bed.lab.sync().unwrap();
        assert!(!bed.reaches("default/client", "default/web-0", 80), "{broken:?}");
        let status = bed.lab.status().unwrap();
        assert!(status.problems.iter().any(|problem| problem.contains("deny.yaml")), "{:?}", status.problems);
    }
    // A broken file of pods keeps the pods.
    bed.save("web.yaml", "kind: Pod\napiVersion: v1\nmetadata: {name: [}\n");
    bed.lab.sync().unwrap();
    assert!(bed.lab.status().unwrap().pods.iter().any(|pod| pod.name.to_string() == "default/web-0"));
    bed.save("web.yaml", &web(1, 80, "web"));
    bed.save("deny.yaml", DENY);
    bed.lab.sync().unwrap();
    assert!(bed.lab.status().unwrap().problems.is_empty());
    bed.down();
}
