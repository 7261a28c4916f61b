//! Waiting until what was started does its work.

use std::{sync::Arc, thread, time::Duration};

use super::{children::Owner, listening, now, programs, reconcile::Cluster};
use crate::{
    lab::last_lines,
    names::{Place, agent_file_name},
    topology::Topology,
};

/// Longest wait for an agent to answer after it was started: it loads and has the kernel verify its programs.
const AGENT_START: Duration = Duration::from_secs(30);
/// Longest wait for programs to listen. One that does not is a problem, and no reason to have no lab.
const LISTEN: Duration = Duration::from_secs(10);
/// Between looks at what is waited for.
const LOOK: Duration = Duration::from_millis(4);

impl Cluster {
    /// Waits until the agents of `nodes` answer.
    pub(super) fn wait_for_agents(&mut self, nodes: &[Arc<str>]) {
        let deadline = now() + AGENT_START;
        for node in nodes {
            let owner = Owner::Agent(Arc::clone(node));
            let client = self.agent(node);
            loop {
                let Err(error) = client.status() else { break };
                let ended = self.children.get(&owner).and_then(|child| child.ended().map(ToOwned::to_owned));
                if ended.is_some() || now() > deadline {
                    let log = last_lines(&self.paths.log(&agent_file_name(node)));
                    let why = ended.map_or_else(|| error.to_string(), |how| format!("it ended: {how}"));
                    self.problems.push(format!("agent on {node}: {why}; the end of its log:\n{log}"));
                    break;
                }
                thread::sleep(LOOK);
            }
        }
    }

    /// Waits until every agent enforces what is on disk now.
    pub(super) fn sync_agents(&mut self, wanted: &Topology) {
        let nodes: Vec<_> = wanted.nodes.keys().filter(|node| self.nodes.contains(*node)).collect();
        let results: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = nodes
                .iter()
                .map(|node| {
                    let client = self.agent(node);
                    scope.spawn(move || client.wait())
                })
                .collect();
            asked.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        for (node, result) in nodes.into_iter().zip(results) {
            match result {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => self.problems.push(format!("agent on {node}: {error}")),
                Err(_) => self.problems.push(format!("agent on {node}: a thread panicked")),
            }
        }
    }

    /// Waits until every program listens on its ports.
    pub(super) fn wait_for_programs(&mut self, wanted: &Topology) {
        let deadline = now() + LISTEN;
        let pods = wanted.pods.iter().map(|(name, pod)| {
            let netns = if pod.host_network { Place::Node(Arc::clone(&pod.node)) } else { Place::Pod(name.clone()) };
            (Place::Pod(name.clone()), netns, &pod.programs)
        });
        let outside = self.outside.clone();
        let places: Vec<_> = pods.chain([(Place::Outside, Place::Outside, &outside)]).collect();
        for (place, namespace, programs) in places {
            let Some(netns) = self.network.netns(&namespace) else { continue };
            for (number, program) in programs.iter().enumerate() {
                let ports = programs::listening(program);
                if ports.is_empty() {
                    continue;
                }
                let child = self.children.get(&Owner::Program(place.clone(), number));
                loop {
                    let open = listening::ports(netns);
                    if ports.is_subset(&open) {
                        break;
                    }
                    let ended = child.and_then(|child| child.ended());
                    if ended.is_some() || now() > deadline {
                        let missing: Vec<_> =
                            ports.difference(&open).map(|(protocol, port)| format!("{port}/{protocol}")).collect();
                        self.problems.push(format!(
                            "{place}: nothing listens on {}{}; the end of its log:\n{}",
                            missing.join(" "),
                            ended.map(|how| format!(", the program ended: {how}")).unwrap_or_default(),
                            last_lines(&self.paths.log(&place.file_name()))
                        ));
                        break;
                    }
                    thread::sleep(LOOK);
                }
            }
        }
    }
}
