//! Manifests change, and the lab with them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, TcpStream},
};

use strait_datapath::netns::Netns;
use strait_lab::probe::PATIENCE;

use crate::bed::{Bed, LONG_PATIENCE, eventually, place, strait};

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
    eventually("the new policy is enforced", || bed.denied("default/client", "default/web-0", 80));
    bed.save("web.yaml", &web(3, 80, "web"));
    eventually("the workload has grown", || {
        bed.lab.status().unwrap().pods.iter().any(|pod| pod.name.to_string() == "default/web-2" && pod.open)
    });
    // A pod is never open before its policy is.
    assert!(bed.denied("default/client", "default/web-2", 80));

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
    assert!(bed.denied("default/client", "default/web-0", 80));
    for broken in [
        "{",
        "",
        "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: deny}\nspec: {podSelectr: {}}\n",
    ] {
        bed.save("deny.yaml", broken);
        bed.lab.sync().unwrap();
        assert!(bed.denied("default/client", "default/web-0", 80), "{broken:?}");
        let status = bed.lab.status().unwrap();
        assert!(status.problems.iter().any(|problem| problem.contains("deny.yaml")), "{:?}", status.problems);
        // Manifests without the broken file would answer that all is allowed.
        let question = ["policy", "verdict", "--from", "default/client", "--to", "default/web-0", "--port", "80/TCP"];
        let answer = strait().args(question).args(["--lab", &bed.lab.name().to_string()]).output().unwrap();
        let said = String::from_utf8_lossy(&answer.stderr);
        assert!(said.contains("deny.yaml"), "{broken:?}: {said}");
        assert_eq!(answer.status.code() == Some(2), !broken.is_empty(), "{broken:?}: {said}");
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

/// A connection that policy stops says nothing more, and goes on where it was when policy allows it again.
#[test]
fn connections_that_are_open_follow_their_policy() {
    let place_of = |name: &str, node: &str| {
        format!(
            "kind: Pod\napiVersion: v1\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec: {{nodeName: {node}, containers: [{{name: c, ports: [{{containerPort: 7}}]}}]}}\n---\n"
        )
    };
    let pods = [place_of("near", "node-2"), place_of("far", "node-1"), place_of("web", "node-2")].concat();
    let Some(bed) = Bed::up("open", &[("pods.yaml", &pods)]) else { return };
    let mut talks: Vec<_> = ["near", "far"]
        .into_iter()
        .flat_map(|from| {
            [true, false].map(|v4| Talk::open(&bed, &format!("default/{from}"), bed.address("default/web", v4)))
        })
        .collect();
    // What is more than what was there says nothing of the connections; what is less, stops them. What of it is about the one
    // side, leaves the other.
    let allow = |peers: &str| {
        let from = format!("{{podSelector: {{matchExpressions: [{{key: app, operator: In, values: [{peers}]}}]}}}}");
        DENY.replace("{app: web}}", &format!("{{app: web}}}}, ingress: [{{from: [{from}], ports: [{{port: 7}}]}}]"))
    };
    for (number, (policy, near, far)) in [
        (allow("near, far"), true, true),
        (DENY.to_owned(), false, false),
        (allow("near, far, other"), true, true),
        (allow("far"), false, true),
        (allow("near"), true, false),
        (allow("near, far"), true, true),
    ]
    .into_iter()
    .enumerate()
    {
        bed.save("policy.yaml", &policy);
        bed.lab.sync().unwrap();
        assert!(bed.lab.status().unwrap().problems.is_empty(), "{:?}", bed.lab.status());
        for (talk, goes_on) in talks.iter_mut().zip([near, near, far, far]) {
            talk.say(&format!("{number}"), goes_on);
        }
    }
    bed.down();
}

/// A connection to the echo server at port 7, which gives back what it gets.
struct Talk {
    stream: TcpStream,
    /// What was said and not heard yet.
    due: String,
}

impl Talk {
    fn open(bed: &Bed, from: &str, to: IpAddr) -> Self {
        let netns = Netns::open(&bed.lab.paths().namespace(&place(from))).unwrap();
        let stream = netns.run(|| TcpStream::connect((to, 7)).unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut talk = Self { stream, due: String::new() };
        talk.say("hello", true);
        talk
    }

    /// Says a line, and hears it with all that was said in vain before; or nothing.
    fn say(&mut self, line: &str, heard: bool) {
        self.due.extend([line, "\n"]);
        writeln!(self.stream, "{line}").unwrap();
        // What was held back is sent again at growing intervals.
        self.stream.set_read_timeout(Some(if heard { 3 * LONG_PATIENCE } else { PATIENCE })).unwrap();
        if heard {
            let mut all = vec![0; self.due.len()];
            self.stream.read_exact(&mut all).unwrap_or_else(|error| panic!("after {:?}: {error}", self.due));
            assert_eq!(String::from_utf8(all).unwrap(), self.due);
            self.due.clear();
        } else {
            let error = self.stream.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        }
    }
}

#[test]
fn nodes_come_and_go() {
    let node = |name: &str| format!("kind: Node\napiVersion: v1\nmetadata: {{name: {name}}}\n---\n");
    let pod = |name: &str, node: &str| {
        format!(
            "kind: Pod\napiVersion: v1\nmetadata: {{name: {name}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}\n---\n"
        )
    };
    let two = [node("a.example.com"), node("b"), pod("one", "a.example.com"), pod("two", "b")].concat();
    let Some(bed) = Bed::up("nodes", &[("cluster.yaml", &two)]) else { return };
    assert!(bed.reaches("default/one", "default/two", 80));
    let address = bed.address("default/one", true);

    let other = [node("a.example.com"), node("c"), pod("one", "a.example.com"), pod("three", "c")].concat();
    bed.save("cluster.yaml", &other);
    bed.lab.sync().unwrap();
    let status = bed.lab.status().unwrap();
    assert_eq!(status.agents.iter().map(|agent| &*agent.node).collect::<Vec<_>>(), ["a.example.com", "c"]);
    assert!(status.agents.iter().all(|agent| agent.pid.is_some()));
    assert_eq!(bed.address("default/one", true), address);
    assert!(bed.reaches("default/one", "default/three", 80) && bed.reaches("default/three", "default/one", 80));
    assert_eq!(bed.exec("node/b", &["true"]).status.code(), Some(2), "b is gone");
    bed.down();
}

#[test]
fn without_ipv6() {
    let files = [("web.yaml", &*web(2, 80, "web"))];
    let Some(bed) = Bed::up_with("v4", &files, |options| options.ipv6 = false) else { return };
    let status = bed.lab.status().unwrap();
    let addresses = status.pods.iter().flat_map(|pod| &pod.addresses).chain(&status.outside);
    assert!(addresses.clone().count() > 3 && addresses.clone().all(std::net::IpAddr::is_ipv4));
    assert!(bed.reaches("default/client", "default/web-1", 80));
    bed.down();
}

#[test]
fn a_program_that_fails_is_shown_and_holds_nothing_up() {
    let failing = "kind: Pod\napiVersion: v1\nmetadata: {name: failing, annotations: {lab.strait.dev/run: host}}\n\
                   spec: {containers: [{name: c, command: [sh, -c, 'echo out of order; exit 4'], ports: [{containerPort: 80}]}]}\n";
    let files = [("web.yaml", &*web(1, 80, "web")), ("failing.yaml", failing)];
    let Some(bed) = Bed::up("failing", &files) else { return };
    let problems = bed.lab.status().unwrap().problems;
    assert!(
        problems.iter().any(|text| text.contains("default/failing") && text.contains("out of order")),
        "{problems:?}"
    );
    bed.lab.sync().unwrap();
    assert!(bed.reaches("default/client", "default/web-0", 80));
    bed.save("failing.yaml", &failing.replace("echo out of order; exit 4", "exec python3 -m http.server 80"));
    bed.lab.sync().unwrap();
    // The lab waits for servers, but not for ever; a busy machine may take longer to start this one.
    eventually("the server listens", || bed.lab.status().unwrap().problems.is_empty());
    bed.down();
}
