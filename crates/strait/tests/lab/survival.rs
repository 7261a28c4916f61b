//! Agents die; traffic and policy do not.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use crate::bed::{Bed, eventually, kill, place};

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
