//! Waiting until what was started does its work.

use std::{collections::BTreeSet, sync::Arc, thread, time::Duration};

use strait_base::Protocol;

use super::{
    children::{FIRST_DELAY, Owner},
    listening, now, programs,
    reconcile::Cluster,
};
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
    /// Waits until all agents answer. One of the `new` nodes that ends is broken; another one is started again, if they
    /// are.
    pub(super) fn wait_for_agents(&mut self, new: &[Arc<str>]) {
        let deadline = now() + AGENT_START;
        for node in self.nodes.clone() {
            let owner = Owner::Agent(Arc::clone(&node));
            let client = self.agent(&node);
            while let Err(error) = client.status() {
                let ended = self.children.get(&owner).and_then(|child| child.ended().map(ToOwned::to_owned));
                let again = self.settings.restart_agents && !new.contains(&node) && now() < deadline;
                if ended.is_some() && again && self.start_agent(&node).is_ok() {
                    thread::sleep(FIRST_DELAY);
                    continue;
                }
                if ended.is_some() || now() > deadline {
                    let log = last_lines(&self.paths.log(&agent_file_name(&node)));
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

    /// Waits until every program that was started since the last time listens on its ports. One that does not is
    /// remembered, for status to look at again.
    pub(super) fn wait_for_programs(&mut self) {
        let deadline = now() + LISTEN;
        for owner in std::mem::take(&mut self.started) {
            loop {
                let silent = self.silent_ports(&owner);
                if silent.is_empty() {
                    break;
                }
                let ended = self.children.get(&owner).is_some_and(|child| child.ended().is_some());
                if ended || now() > deadline {
                    self.unready.insert(owner);
                    break;
                }
                thread::sleep(LOOK);
            }
        }
    }

    /// Programs that do not listen where they should, a sentence each.
    pub(super) fn unready_programs(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for owner in &self.unready {
            let Owner::Program(place, _) = owner else { continue };
            let silent = self.silent_ports(owner);
            if silent.is_empty() {
                continue;
            }
            let ports: Vec<_> = silent.iter().map(|(protocol, port)| format!("{port}/{protocol}")).collect();
            let ended = self.children.get(owner).and_then(|child| child.ended());
            let log = last_lines(&self.paths.log(&place.file_name()));
            sentences.push(format!(
                "{place}: nothing listens on {}{}; {}{log}",
                ports.join(" "),
                ended.map(|how| format!(", the program ended: {how}")).unwrap_or_default(),
                if log.is_empty() { "it wrote nothing" } else { "the end of its log:\n" },
            ));
        }
        sentences
    }

    /// Ports of a program that nothing listens on.
    fn silent_ports(&self, owner: &Owner) -> BTreeSet<(Protocol, u16)> {
        let Owner::Program(place, number) = owner else { return BTreeSet::new() };
        let (programs, namespace) = match place {
            Place::Pod(name) => match self.topology.pods.get(name) {
                Some(pod) if pod.host_network => (&pod.programs, Place::Node(Arc::clone(&pod.node))),
                Some(pod) => (&pod.programs, place.clone()),
                None => return BTreeSet::new(),
            },
            Place::Node(_) | Place::Outside => (&self.outside, place.clone()),
        };
        match (programs.get(*number), self.network.netns(&namespace)) {
            (Some(program), Some(netns)) => {
                let wanted = programs::listening(program);
                if wanted.is_empty() { wanted } else { wanted.difference(&listening::ports(netns)).copied().collect() }
            }
            _ => BTreeSet::new(),
        }
    }
}
