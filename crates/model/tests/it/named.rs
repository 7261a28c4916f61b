//! From what people type to whom they mean.

use strait_model::Snapshot;

use crate::support::{CLUSTER, objects};

#[test]
fn names_and_what_they_mean() {
    let workloads = ["web-0", "web-1", "db-0"].map(|name| {
        let workload = &name[..name.len() - 2];
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: a, annotations: {{strait.dev/workload: Deployment/{workload}}}}}\nspec: {{containers: [{{name: c}}]}}\n",
        )
    });
    let snapshot = Snapshot::new(&objects("named.yaml", &format!("{CLUSTER}{}", workloads.concat())));
    for (text, expected) in [
        ("a/server", "a/server"),
        ("client", "b/client"),
        ("10.244.1.11", "a/server"),
        ("::ffff:10.244.1.11", "a/server"),
        ("fd00:10:244:2::11", "b/other"),
        ("172.30.0.12", "node/node-2"),
        ("node/node-1", "node/node-1"),
        ("203.0.113.7", "203.0.113.7"),
        ("a/db", "a/db-0"),
        ("a/web", "\"web\" in namespace \"a\" has 2 pods; name one of them: a/web-0, a/web-1"),
        (
            "serv",
            "no pod or workload \"serv\" in namespace \"b\" (did you mean a/server?); write NAMESPACE/POD, POD, node/NODE or an address",
        ),
        (
            "nothing",
            "no pod or workload \"nothing\" in namespace \"b\"; write NAMESPACE/POD, POD, node/NODE or an address",
        ),
        ("node/node-7", "no node \"node-7\"; there are: node-1, node-2"),
    ] {
        let found = match snapshot.party(text, "b") {
            Ok(party) => party.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text}");
    }
}
