//! Making the lab as its manifests say, from whatever it is now.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use strait_agent::api::{EndpointSpec, Mac, PodName as AgentPodName};
use strait_api::{Objects, source::Directory};
use strait_datapath::sysctl;

use super::{
    Event,
    children::{Children, Owner},
    files, programs,
};
use crate::{
    cgroup::Cgroup,
    dns::Zone,
    error::Error,
    generated,
    lab::Settings,
    names::{Paths, Place, PodName, agent_file_name},
    network::Network,
    process::write_atomically,
    teardown,
    topology::{PodPlace, Program, Topology, pod_configuration},
};

/// Requests to agents at once.
const AT_ONCE: usize = 16;

/// The lab as it is.
pub(super) struct Cluster {
    pub(super) settings: Settings,
    pub(super) paths: Paths,
    cgroup: Cgroup,
    pub(super) network: Network,
    pub(super) children: Children,
    expanded: Option<Objects>,
    /// What was asked for last.
    pub(super) topology: Topology,
    /// What is there of its nodes and pods.
    pub(super) nodes: BTreeSet<Arc<str>>,
    pods: BTreeMap<PodName, PodPlace>,
    /// Pods whose policy is enforced and whose link is up.
    pub(super) open: BTreeSet<PodName>,
    /// Programs of the outside as started.
    pub(super) outside: Vec<Program>,
    /// Programs started since they were last waited for, and those that waiting did not help.
    pub(super) started: Vec<Owner>,
    pub(super) unready: BTreeSet<Owner>,
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Cluster {
    pub(super) fn new(
        settings: Settings,
        paths: Paths,
        cgroup: Cgroup,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, Error> {
        let mut settings = settings;
        settings.ipv6 &= sysctl::has_ipv6();
        Ok(Self {
            network: Network::create(&paths)?,
            settings,
            paths,
            cgroup,
            children: Children::new(events),
            expanded: None,
            topology: Topology::default(),
            nodes: BTreeSet::new(),
            pods: BTreeMap::new(),
            open: BTreeSet::new(),
            outside: Vec::new(),
            started: Vec::new(),
            unready: BTreeSet::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// What could not be made as asked the last time.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn fail(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Makes the lab as the objects of `directory` say. What concerns one pod or one node alone becomes a problem and
    /// holds nothing else up; an error is what stops everything.
    pub(super) fn reconcile(
        &mut self,
        directory: &Directory,
        mut progress: impl FnMut(String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.problems.clear();
        let written = generated::with_name_server(directory.objects());
        self.expand(directory.objects(), &written)?;
        let wanted = self.topology.clone();
        let new_nodes: Vec<_> = wanted.nodes.keys().filter(|node| !self.nodes.contains(*node)).cloned().collect();
        let new_pods = wanted.pods.iter().filter(|(name, pod)| self.pods.get(*name) != Some(pod)).count();
        if !new_nodes.is_empty() {
            progress(format!("{} nodes, {} pods: network", wanted.nodes.len(), wanted.pods.len()))?;
        }

        self.remove_pods(&wanted);
        self.remove_nodes(&wanted);
        self.add_nodes(&new_nodes);
        self.add_pods(&wanted);
        self.configure(&wanted);
        self.start_programs(&wanted);
        if !new_nodes.is_empty() {
            progress("agents: loading programs into the kernel".to_owned())?;
        }
        self.wait_for_agents(&new_nodes);
        if new_pods > 0 {
            progress(format!("{new_pods} pods: enforcing policy"))?;
        }
        self.open_pods(&wanted);
        self.configure(&wanted);
        self.sync_agents(&wanted);
        if new_pods > 0 {
            progress("servers: waiting until they listen".to_owned())?;
        }
        self.wait_for_programs();
        Ok(())
    }

    /// Works out what there is to be, and writes what agents and name servers read.
    fn expand(&mut self, users: &Objects, written: &Objects) -> Result<(), Error> {
        let options = strait_cluster::Options {
            node_names: (1..=self.settings.nodes).map(|number| format!("node-{number}")).collect(),
            ipv6: self.settings.ipv6,
        };
        let expansion = strait_cluster::expand(written, &options, self.expanded.as_ref());
        self.notes = expansion.notes;
        if !sysctl::has_ipv6() {
            self.notes.push("this kernel has no IPv6, so the lab has none".to_owned());
        }
        self.topology = Topology::of(&expansion.objects, self.settings.ipv6, &mut self.notes);
        let folder = self.paths.generated();
        generated::write(&folder, users, &expansion.objects).map_err(Error::io("writing into", folder))?;
        let zone = Zone::of(&expansion.objects, self.settings.ipv6);
        let path = self.paths.zone();
        let text = serde_json::to_vec(&zone).unwrap_or_default();
        if fs::read(&path).ok().as_deref() != Some(&text) {
            write_atomically(&path, &text).map_err(Error::io("writing", path))?;
        }
        self.expanded = Some(expansion.objects);
        Ok(())
    }

    /// Notes a failure about one thing; says whether it went well.
    fn check(&mut self, what: impl std::fmt::Display, result: Result<(), Error>) -> bool {
        match result {
            Ok(()) => true,
            Err(error) => {
                self.problems.push(format!("{what}: {error}"));
                false
            }
        }
    }

    fn remove_pods(&mut self, wanted: &Topology) {
        let gone: Vec<_> = self
            .pods
            .iter()
            .filter(|(name, pod)| wanted.pods.get(*name).is_none_or(|new| !same_network(new, pod)))
            .map(|(name, pod)| (name.clone(), pod.clone()))
            .collect();
        for (name, pod) in gone {
            let result = self.remove_pod(&name, &pod);
            if self.check(&name, result) {
                self.pods.remove(&name);
            }
        }
    }

    fn remove_pod(&mut self, name: &PodName, pod: &PodPlace) -> Result<(), Error> {
        let place = Place::Pod(name.clone());
        self.end_programs(&place)?;
        if !pod.host_network {
            self.open.remove(name);
            // An agent that is away learns of it when it is back: the pod is not among the objects any more.
            let agent = self.agent(&pod.node);
            let deleted = agent.endpoint_delete(agent_name(name));
            self.network.remove_pod(name, pod)?;
            if self.topology.nodes.contains_key(&pod.node) {
                deleted.map_err(|cause| Error::Agent { node: pod.node.to_string(), cause })?;
            }
        }
        files::remove(&self.paths, name, pod)
    }

    fn remove_nodes(&mut self, wanted: &Topology) {
        let gone: Vec<_> = self.nodes.iter().filter(|node| !wanted.nodes.contains_key(*node)).cloned().collect();
        for node in gone {
            let result = self.remove_node(&node);
            if self.check(&node, result) {
                self.nodes.remove(&node);
            }
        }
    }

    fn remove_node(&mut self, node: &Arc<str>) -> Result<(), Error> {
        self.children.forget(&Owner::Agent(Arc::clone(node)));
        self.cgroup.child(&agent_file_name(node)).end()?;
        let place = Place::Node(Arc::clone(node));
        self.cgroup.child(&place.file_name()).end()?;
        teardown::remove(&teardown::pins(&self.paths, node))?;
        teardown::remove(&self.paths.agent(node))?;
        self.network.remove_node(node)
    }

    fn add_nodes(&mut self, new: &[Arc<str>]) {
        for node in new {
            let result =
                self.claim_pins(node).and_then(|()| self.network.add_node(node)).and_then(|()| self.start_agent(node));
            if self.check(node, result) {
                self.nodes.insert(Arc::clone(node));
            }
        }
    }

    /// Pins that are there before the node is are not this lab's: those of lab `a-b`'s node `c` and lab `a`'s node
    /// `b-c` have one name.
    fn claim_pins(&self, node: &str) -> Result<(), Error> {
        let pins = teardown::pins(&self.paths, node);
        if pins.exists() && !self.paths.agent(node).exists() {
            return Err(Error::Supervisor(format!(
                "{} is there already: another lab has it, or one left it; give this lab another name, or remove it (rm -r)",
                pins.display()
            )));
        }
        Ok(())
    }

    fn add_pods(&mut self, wanted: &Topology) {
        for (name, pod) in &wanted.pods {
            if self.pods.get(name).is_some_and(|there| there == pod) {
                continue;
            }
            let mut result = files::write(&self.paths, name, pod);
            if result.is_ok() && !pod.host_network && !self.network.has_pod(name) {
                result = self.network.add_pod(name, pod, &pod_configuration(name, pod));
            }
            self.check(name, result);
        }
    }

    fn configure(&mut self, wanted: &Topology) {
        for node in self.nodes.clone() {
            // A route needs its interface up, and that of a pod is not before its policy is enforced.
            let mut configuration = wanted.node_configuration(&node);
            let closed: BTreeSet<_> = wanted
                .own_network()
                .filter(|(name, _)| !self.open.contains(*name))
                .map(|(name, _)| PodPlace::link(name))
                .collect();
            configuration.routes.retain(|route| !closed.contains(&route.device));
            configuration.neighbours.retain(|(device, _), _| !closed.contains(device));
            let place = Place::Node(Arc::clone(&node));
            let result = self.network.configure(&place, &configuration);
            self.check(node, result);
        }
        let result = self.network.configure(&Place::Outside, &wanted.outside_configuration());
        self.check("outside", result);
    }

    fn start_programs(&mut self, wanted: &Topology) {
        for (name, pod) in &wanted.pods {
            let running = self.pods.get(name).map(|there| &there.programs);
            let place = Place::Pod(name.clone());
            if running == Some(&pod.programs) {
                self.pods.insert(name.clone(), pod.clone());
                continue;
            }
            let result = self.replace_programs(&place, &pod.programs);
            if self.check(name, result) {
                self.pods.insert(name.clone(), pod.clone());
            }
        }
        let outside = vec![programs::outside(&wanted.outside)];
        if self.outside != outside {
            let result = self.replace_programs(&Place::Outside, &outside);
            if self.check("outside", result) {
                self.outside = outside;
            }
        }
    }

    /// Ends what runs in `place` and starts `programs` there.
    fn replace_programs(&mut self, place: &Place, programs: &[Program]) -> Result<(), Error> {
        self.end_programs(place)?;
        for (number, program) in programs.iter().enumerate() {
            self.start_program(place, program, number)?;
            self.started.push(Owner::Program(place.clone(), number));
        }
        Ok(())
    }

    /// Ends everything in `place`, `exec`ed shells too, as if its containers were replaced.
    fn end_programs(&mut self, place: &Place) -> Result<(), Error> {
        self.children.forget_programs(place);
        self.unready.retain(|owner| !matches!(owner, Owner::Program(of, _) if of == place));
        Ok(self.cgroup.child(&place.file_name()).end()?)
    }

    fn start_program(&mut self, place: &Place, program: &Program, number: usize) -> Result<(), Error> {
        let Some(command) = programs::command(&self.settings, &self.paths, place, program)? else { return Ok(()) };
        let executable = self.settings.executable.clone();
        self.children.start(Owner::Program(place.clone(), number), command).map_err(Error::io("starting", executable))
    }

    pub(super) fn start_agent(&mut self, node: &Arc<str>) -> Result<(), Error> {
        let run = self.paths.agent(node);
        fs::create_dir_all(&run).map_err(Error::io("making", run))?;
        let command = programs::agent(&self.settings, &self.paths, node)?;
        let executable = self.settings.executable.clone();
        self.children.start(Owner::Agent(Arc::clone(node)), command).map_err(Error::io("starting", executable))
    }

    /// A child ended. Says what to start again and after which time.
    pub(super) fn exited(&mut self, number: u64) -> Option<(Duration, Owner)> {
        let (delay, owner) = self.children.exited(number)?;
        let again = match &owner {
            Owner::Agent(_) => self.settings.restart_agents,
            Owner::Program(..) => true,
        };
        again.then_some((delay, owner))
    }

    /// Starts again what ended, if it is still wanted and has not been started since.
    pub(super) fn start_again(&mut self, owner: &Owner) -> Result<(), Error> {
        if self.children.get(owner).is_none_or(|child| child.ended().is_none()) {
            return Ok(());
        }
        match owner {
            Owner::Agent(node) if self.nodes.contains(node) => self.start_agent(node),
            Owner::Program(place, number) => {
                let programs = match place {
                    Place::Pod(name) => self.pods.get(name).map(|pod| pod.programs.clone()).unwrap_or_default(),
                    Place::Outside => self.outside.clone(),
                    Place::Node(_) => Vec::new(),
                };
                match programs.get(*number) {
                    Some(program) => self.start_program(place, program, *number),
                    None => Ok(()),
                }
            }
            Owner::Agent(_) => Ok(()),
        }
    }

    pub(super) fn agent(&self, node: &str) -> strait_agent::Client {
        strait_agent::Client::new(self.paths.agent(node).join(strait_agent::api::SOCKET))
    }

    /// Has agents enforce policy on pods that are new, then lets their traffic through.
    fn open_pods(&mut self, wanted: &Topology) {
        let closed: Vec<_> =
            wanted.own_network().filter(|(name, _)| !self.open.contains(*name) && self.network.has_pod(name)).collect();
        for group in closed.chunks(AT_ONCE) {
            let results: Vec<_> = thread::scope(|scope| {
                let asked: Vec<_> = group
                    .iter()
                    .map(|(name, pod)| {
                        let client = self.agent(&pod.node);
                        scope.spawn(move || client.endpoint_add(endpoint(name, pod)))
                    })
                    .collect();
                asked.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
            });
            for ((name, pod), result) in group.iter().zip(results) {
                let result = match result {
                    Ok(Ok(_)) => self.network.open_pod(name, pod),
                    Ok(Err(cause)) => Err(Error::Agent { node: pod.node.to_string(), cause }),
                    Err(_) => Err(Error::Supervisor("a thread panicked".to_owned())),
                };
                if self.check(name, result) {
                    self.open.insert((*name).clone());
                }
            }
        }
    }
}

/// Whether what was made of the network for `old` serves `new` too.
fn same_network(new: &PodPlace, old: &PodPlace) -> bool {
    (&new.node, &new.addresses, new.host_network) == (&old.node, &old.addresses, old.host_network)
}

fn agent_name(name: &PodName) -> AgentPodName {
    AgentPodName { namespace: Arc::clone(&name.namespace), pod: Arc::clone(&name.name) }
}

fn endpoint(name: &PodName, pod: &PodPlace) -> EndpointSpec {
    EndpointSpec {
        name: agent_name(name),
        ifname: PodPlace::link(name),
        mac: Mac(PodPlace::mac(name)),
        addresses: pod.addresses.clone(),
    }
}
