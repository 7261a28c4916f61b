//! Agents die; traffic and policy do not.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use strait_datapath::{Datapath, Interface, netns::Netns};

use crate::bed::{Bed, eventually, kill, place, possible, strait};

const CLUSTER: &str = "\
kind: Pod
apiVersion: v1
metadata: {name: client, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c}]}
---
kind: Pod
apiVersion: v1
metadata: {name: stranger}
spec: {nodeName: node-1, containers: [{name: c}]}
---
kind: Pod
apiVersion: v1
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node-2, containers: [{name: c, ports: [{containerPort: 7}]}]}
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: server}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 7}]}]
";

#[test]
fn without_agents_everything_goes_on() {
    let files = [("cluster.yaml", CLUSTER)];
    let Some(bed) = Bed::up_with("agents", &files, |options| options.restart_agents = false) else { return };
    let status = bed.lab.status().unwrap();

    // A connection that is open all the time. Plain bytes come back from echo as they are.
    let to = bed.address("default/server", true);
    let script = format!(
        "exec 3<>/dev/tcp/{to}/7; while read line; do echo \"$line\" >&3; read answer <&3; echo \"$answer\"; done"
    );
    let mut talk = bed
        .lab
        .command(&place("default/client"), "bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut say, mut hear) = (talk.stdin.take().unwrap(), BufReader::new(talk.stdout.take().unwrap()).lines());
    let mut talks = |text: &str| {
        writeln!(say, "{text}").unwrap();
        assert_eq!(hear.next().unwrap().unwrap(), text);
    };
    talks("before");

    for agent in &status.agents {
        kill(agent.pid.unwrap());
    }
    eventually("the agents are gone", || bed.lab.status().unwrap().agents.iter().all(|agent| agent.pid.is_none()));
    talks("without agents");
    assert!(bed.reaches("default/client", "default/server", 7));
    assert!(bed.denied("default/stranger", "default/server", 7));
    assert!(bed.denied("outside", "default/server", 7));
    drop(say);
    talk.wait().unwrap();
    bed.down();
}

#[test]
fn a_new_agent_adopts_what_is_pinned() {
    let Some(bed) = Bed::up("adopt", &[("cluster.yaml", CLUSTER)]) else { return };
    let before = bed.lab.status().unwrap();
    let revision = |node: &str| bed.lab.agent(node).status().map(|status| status.revision);
    let revisions: Vec<_> = before.agents.iter().map(|agent| revision(&agent.node).unwrap()).collect();
    for agent in &before.agents {
        kill(agent.pid.unwrap());
    }
    eventually("agents are back", || {
        let now = bed.lab.status().unwrap();
        now.agents.iter().zip(&before.agents).all(|(new, old)| new.pid.is_some() && new.pid != old.pid)
            && now.agents.iter().all(|agent| {
                bed.lab.agent(&agent.node).status().is_ok_and(|status| status.ok && status.endpoints.closed == 0)
            })
    });
    // Nothing had to be written anew: the policy maps are at the revision they were at.
    for (agent, old) in before.agents.iter().zip(revisions) {
        assert_eq!(revision(&agent.node).unwrap(), old, "{}", agent.node);
    }
    assert!(bed.reaches("default/client", "default/server", 7));
    assert!(bed.denied("default/stranger", "default/server", 7));

    // And it is in charge.
    let from = "from: [{podSelector: {matchLabels: {app: client}}}], ";
    assert!(CLUSTER.contains(from));
    bed.save("cluster.yaml", &CLUSTER.replace(from, ""));
    bed.lab.sync().unwrap();
    assert!(bed.reaches("default/stranger", "default/server", 7));
    bed.down();
}

#[test]
fn servers_are_started_again() {
    let Some(bed) = Bed::up("servers", &[("cluster.yaml", CLUSTER)]) else { return };
    let program = |name: &str| {
        let status = bed.lab.status().unwrap();
        status.pods.iter().find(|pod| pod.name.to_string() == name).unwrap().programs[0].clone()
    };
    let before = program("default/server");
    kill(before.pid.unwrap());
    eventually("the server is back", || {
        let now = program("default/server");
        now.pid.is_some() && now.pid != before.pid && now.restarts == 1
    });
    bed.down();
}

/// So many policies, each lets another part of the server's peers in at a port of its own.
fn policies(count: u16) -> String {
    let policy = |number| {
        format!(
            "---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {{name: more-{number}}}
spec:
  podSelector: {{matchLabels: {{app: server}}}}
  ingress: [{{from: [{{ipBlock: {{cidr: 198.51.100.{number}/32}}}}], ports: [{{port: {}}}]}}]
",
            1_000 + number
        )
    };
    (0..count).map(policy).collect()
}

#[test]
fn maps_grow_with_the_manifests() {
    let files = [("cluster.yaml", CLUSTER)];
    let small = |options: &mut strait_lab::Options| {
        let rooms = ["policy=2", "port-sets=2", "ipcache=8", "endpoints=1"];
        options.agent_options = rooms.iter().map(|room| format!("--map-capacity={room}")).collect();
        options.agent_options.push("--map-limit=policy=64".to_owned());
    };
    let Some(bed) = Bed::up_with("growth", &files, small) else { return };
    let policy_map = || {
        let status = bed.lab.agent("node-2").status().unwrap();
        (status.ok, status.maps.into_iter().find(|map| &*map.name == "POLICY").unwrap())
    };
    let (ok, first) = policy_map();
    assert!(ok && first.growths > 0 && first.capacity < 16, "{first:?}");

    bed.save("more.yaml", &policies(20));
    bed.lab.sync().unwrap();
    let (ok, grown) = policy_map();
    assert!(ok && grown.growths > first.growths && grown.entries > 20, "{grown:?}");
    assert!(bed.reaches("default/client", "default/server", 7));
    assert!(bed.denied("default/stranger", "default/server", 7));

    // More than it may ever hold: closed, and told.
    bed.save("more.yaml", &policies(100));
    let error = bed.lab.sync().unwrap_err().to_string();
    assert!(error.contains("map POLICY: ") && error.contains("64 are allowed"), "{error}");
    assert!(bed.denied("default/client", "default/server", 7));
    let closed = bed.lab.agent("node-2").endpoints().unwrap();
    let closed: Vec<_> = closed.iter().filter_map(|endpoint| endpoint.closed.as_deref()).collect();
    assert_eq!(closed, ["what its policy needs does not fit into map POLICY"]);

    bed.save("more.yaml", &policies(1));
    bed.lab.sync().unwrap();
    assert!(policy_map().0 && bed.reaches("default/client", "default/server", 7));
    bed.down();
}

/// A name that is wrong is no reason to leave anything behind, or to take away what another start made.
#[test]
fn an_agent_that_cannot_start_leaves_everything_as_it_was() {
    if !possible("an_agent_that_cannot_start_leaves_everything_as_it_was") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let missing = folder.path().join("missing");
    let instance = format!("t{}-start", std::process::id());
    let pins = std::path::Path::new(strait_datapath::PIN_ROOT).join(&instance);
    let fails = |manifests: &std::path::Path, uplink: &str, expected: &str| {
        let mut agent = strait();
        agent.args(["agent", "--node", "a", "--instance", &instance, "--uplink", uplink, "-f"]).arg(manifests);
        let output = agent.arg("--run-dir").arg(folder.path().join("run")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{said}");
    };
    fails(&missing, "lo", "missing");
    assert!(!pins.exists());
    fails(&manifests, "nowhere0", "no interface nowhere0");
    assert!(!pins.exists());

    // Where something is attached, it stays: in a namespace of its own, as if a pod's link were there.
    let place = Netns::anonymous("of this test").unwrap();
    let mut datapath = place
        .run(|| {
            let mut datapath = Datapath::open(&strait_datapath::Options::new(&instance)).unwrap();
            datapath.attach_uplink(&Interface { index: 1, name: "lo".to_owned() }).unwrap();
            datapath
        })
        .unwrap();
    let enforced = || datapath.attached().unwrap();
    let before = enforced();
    assert_eq!(before.len(), 2);
    fails(&missing, "lo", "missing");
    assert!(pins.exists());
    assert_eq!(enforced(), before);
    assert!(datapath.detach_uplink(1).unwrap());
    strait_datapath::remove_pins(std::path::Path::new(strait_datapath::PIN_ROOT), &instance).unwrap();
}
