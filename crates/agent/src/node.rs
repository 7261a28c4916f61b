//! One node's state and what changes it. Nothing here waits: the event loop ([`crate::run()`]) calls in with what happened.
//!
//! ```text
//! refresh ─┐
//! endpoint_add ─┼→ enforce: objects → Snapshot → NodePlan → Datapath::apply → View
//! endpoint_delete ─┘                                                           ↓
//! take_events ─────────────────────────────────────────────────────── Flows ─→ followers
//! ```

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use strait_api::{
    ObjectKey, Objects,
    source::{Detail, Directory, SourceError},
};
use strait_datapath::{
    ApplyError, AttachError, Attachment, Closed, Datapath, Event, Happening, Incomplete, Interface, Kernel, MapError,
    give_back_memory, monotonic_ns, sysctl::tracks_connections,
};
use strait_flow::Ring;
use strait_model::{Compiler, LocalNode, PlanDelta, PodKey};
use strait_packet::abi::{Config, DenyResponse, DropReason};
use thiserror::Error;

use crate::{
    api::{Done, EndpointSpec, HostPolicyRevision, HostPolicyStatus, PodName},
    flows::Flows,
    host_policy::CommitConfirm,
    lastgood::LastGood,
    log::{Level, log},
    state::{RunDir, StateError},
    view::{View, unknown_node},
};

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node it serves.
    pub node: Arc<str>,
    /// Manifests, later ones over earlier ones.
    pub roots: Vec<PathBuf>,
    /// Where it keeps its state and its socket.
    pub run_dir: PathBuf,
    /// Interfaces to the rest of the world.
    pub uplinks: Vec<String>,
    /// Every packet goes through the host's stack, also where connections could take the shortcut past it.
    pub host_legacy_routing: bool,
    /// What a connection that policy denies hears.
    pub deny_response: DenyResponse,
    /// What has to outlive a reboot: the host policies that were confirmed last.
    pub state_dir: PathBuf,
    /// How long changed host policies stay in force without being confirmed; with zero none has to be.
    pub host_policy_confirm: Duration,
    /// What it runs on.
    pub host: Host,
}

/// What an agent runs on, for [`Status`](crate::api::Status).
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Version of the kernel.
    pub kernel: String,
    /// Features it lacks, and what follows.
    pub missing_features: Vec<String>,
}

/// Why an agent could not start. What is pinned stays in force.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its run directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its manifests.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An uplink that is not there.
    #[error("no interface {name}: {cause}")]
    Uplink {
        /// Its name.
        name: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Programs could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The kernel's maps could not be read.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// What the agent asks of its network namespace.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    /// Finds the index of an interface by its name.
    pub index_of: fn(&str) -> io::Result<u32>,
    /// Lists the addresses by which others reach the node.
    pub addresses: fn() -> io::Result<Vec<IpAddr>>,
}

/// An endpoint and what became of it.
pub(crate) struct Endpoint {
    pub(crate) spec: EndpointSpec,
    /// Index of its host-side veth, once programs run on it.
    pub(crate) ifindex: Option<u32>,
    /// Why no programs run on it.
    pub(crate) error: Option<String>,
}

/// A node.
pub(crate) struct Node<K> {
    pub(crate) options: Options,
    pub(crate) started: Timestamp,
    pub(crate) directory: Directory,
    pub(crate) datapath: Datapath<K>,
    pub(crate) endpoints: BTreeMap<PodName, Endpoint>,
    pub(crate) view: View,
    pub(crate) closed: BTreeMap<PodKey, Closed>,
    pub(crate) revision: u32,
    pub(crate) enforcement_error: Option<String>,
    pub(crate) last_good: LastGood,
    pub(crate) flows: Flows,
    pub(crate) host_policies: CommitConfirm,
    run: RunDir,
    links: Links,
    /// What the node knows of itself.
    local: LocalNode,
    compiler: Compiler,
    /// Numbers that were given when they were saved last; `None` where they never were.
    saved: Option<u64>,
    /// Objects that are others than what was compiled.
    changed: BTreeSet<ObjectKey>,
    compiled: bool,
    /// Why nothing is here to be served.
    pub(crate) unknown: Option<String>,
    /// What is wrong with what the node's annotation says that denied connections hear.
    pub(crate) wrong_response: Option<String>,
    /// Endpoints that sent with another hardware address than the one they were added with, which is dropped.
    pub(crate) strange_macs: BTreeSet<PodName>,
}

impl<K: Kernel> Node<K> {
    /// Reads what an earlier agent left, attaches programs to what is there, and enforces.
    pub(crate) fn start(options: Options, datapath: Datapath<K>, links: Links) -> Result<Self, StartError> {
        let run = RunDir::open(&options.run_dir)?;
        let saved = run.allocator().unwrap_or_else(|error| {
            log(Level::Warn, "identity numbers are given anew", &[("reason", &error)]);
            None
        });
        let saved = saved.unwrap_or_default();
        let (specs, unreadable) = run.endpoints()?;
        for error in unreadable {
            log(Level::Error, "endpoint unknown until it is added again", &[("reason", &error)]);
        }
        let directory = Directory::open_with(&options.roots, Detail::Traffic)?;
        let (last_good, copied) = LastGood::open(&options.run_dir)?;
        // Looked for before anything is attached: a name that is wrong leaves everything as it was.
        let uplink = |name: &String| match (links.index_of)(name) {
            Ok(index) => Ok(Interface { index, name: name.clone() }),
            Err(cause) => Err(StartError::Uplink { name: name.clone(), cause }),
        };
        let uplinks = options.uplinks.iter().map(uplink).collect::<Result<Vec<_>, _>>()?;
        let mut node = Self {
            started: Timestamp::now(),
            directory,
            datapath,
            endpoints: BTreeMap::new(),
            view: View::empty(),
            closed: BTreeMap::new(),
            revision: 0,
            enforcement_error: None,
            last_good,
            flows: Flows::new(Arc::clone(&options.node)),
            host_policies: CommitConfirm::open(&options.state_dir, &options.node, options.host_policy_confirm),
            run,
            links,
            local: LocalNode { name: Arc::clone(&options.node), addresses: Vec::new() },
            compiler: Compiler::new(saved),
            saved: None,
            changed: BTreeSet::new(),
            compiled: false,
            unknown: None,
            wrong_response: None,
            strange_macs: BTreeSet::new(),
            options,
        };
        for (name, spec) in specs {
            let endpoint = node.attach(spec);
            if let Some(error) = &endpoint.error {
                log(Level::Warn, "endpoint is closed", &[("pod", &name), ("reason", error)]);
            }
            node.endpoints.insert(name, endpoint);
        }
        for problem in node.directory.problems().filter(|problem| problem.is_worth_showing()) {
            log_problem(problem);
        }
        let files = node.directory.objects().iter().map(|object| Arc::clone(&object.meta().location.file));
        node.keep_last_good(&files.chain(copied).collect());
        node.look_at_addresses();
        node.enforce();
        // Last: what arrives from outside meets the policy that is in force by now.
        for uplink in &uplinks {
            node.datapath.attach_uplink(uplink)?;
        }
        Ok(node)
    }

    /// Takes in what changed on disk. True where there is more to come by itself.
    pub(crate) fn refresh(&mut self) -> bool {
        let change = self.directory.refresh();
        for problem in change.new_problems.iter().filter(|problem| problem.is_worth_showing()) {
            log_problem(problem);
        }
        if change.solved > 0 {
            log(Level::Info, "problems in manifests solved", &[("count", &change.solved)]);
        }
        let copies = self.last_good.keys();
        if self.last_good.settle(self.directory.problems()) || change.changed {
            // A copy stands in for what is not there; what is there now may have been one.
            self.changed.extend(change.objects.into_iter().chain(copies).chain(self.last_good.keys()));
            self.enforce();
        }
        // Behind it: a copy may be late, enforcement not.
        if !change.files.is_empty() {
            self.keep_last_good(&change.files.iter().cloned().collect());
        }
        change.pending
    }

    /// What is in force: what manifests say, and copies of what broken ones said.
    pub(crate) fn objects(&self) -> Cow<'_, Objects> {
        self.last_good.complete(self.directory.objects())
    }

    /// Compiles what changed and makes the kernel enforce it. Level-triggered: what fails is tried again by the next call.
    pub(crate) fn enforce(&mut self) {
        self.write_up_flows();
        let objects = self.last_good.complete(self.directory.objects());
        let known = self.view.snapshot.problems().to_vec();
        let node = &self.options.node;
        self.changed.extend(self.host_policies.observe(&objects, &self.changed, node));
        let objects = self.host_policies.complete(objects, node);
        let changes = if self.compiled {
            let keys: Vec<_> = std::mem::take(&mut self.changed).into_iter().collect();
            self.view.follow(&objects, &keys, &mut self.compiler, &self.local)
        } else {
            self.view.begin(&objects, &mut self.compiler, &self.local);
            PlanDelta { everything: true, ..PlanDelta::default() }
        };
        self.compiled = true;
        let unknown = unknown_node(&objects, node);
        if let Some(problem) = unknown.as_ref().filter(|_| self.unknown != unknown) {
            log(Level::Warn, "node", &[("problem", problem)]);
        }
        self.unknown = unknown;
        let asked = asked_response(&objects, node);
        self.flows.forget_misses();
        for problem in self.view.snapshot.problems().iter().filter(|problem| !known.contains(problem)) {
            log(Level::Warn, "policy", &[("problem", problem)]);
        }
        self.choose_response(asked);
        self.save_numbers();
        self.apply(&changes);
        if changes.everything {
            give_back_memory();
        }
    }

    /// What denied connections hear: as the annotation of the node says, else as the agent was told at its start. It is no part of any
    /// verdict, and may change at any time.
    fn choose_response(&mut self, asked: Option<Result<DenyResponse, String>>) {
        let (response, wrong) = match asked {
            None => (self.options.deny_response, None),
            Some(Ok(response)) => (response, None),
            Some(Err(problem)) => (self.options.deny_response, Some(problem)),
        };
        if let Some(problem) = wrong.as_ref().filter(|_| self.wrong_response != wrong) {
            log(Level::Warn, "node", &[("problem", problem)]);
        }
        self.wrong_response = wrong;
        let config = Config { deny_response: response as u32, ..*self.datapath.config() };
        if config == *self.datapath.config() {
            return;
        }
        match self.datapath.set_config(&config) {
            Ok(()) => log(Level::Info, "denied connections hear", &[("response", &response.name())]),
            Err(error) => log(Level::Error, "cannot choose what denied connections hear", &[("reason", &error)]),
        }
    }

    /// Takes in which addresses the node has. True where they are others than before.
    fn look_at_addresses(&mut self) -> bool {
        match (self.links.addresses)() {
            Ok(addresses) => {
                let changed = self.local.addresses != addresses;
                self.local.addresses = addresses;
                changed
            }
            Err(error) => {
                log(Level::Error, "cannot list the node's addresses", &[("reason", &error)]);
                false
            }
        }
    }

    /// Addresses of the node may have changed.
    pub(crate) fn follow_addresses(&mut self) {
        if self.look_at_addresses() {
            log(Level::Info, "the node's addresses changed", &[("count", &self.local.addresses.len())]);
            self.enforce();
        }
    }

    /// Lets connections that both ends know take the shortcut past the host's stack, unless netfilter follows connections there:
    /// it would take the rest of one whose packets it has missed for invalid.
    fn choose_way(&mut self) {
        let past = !self.options.host_legacy_routing && !tracks_connections();
        match self.datapath.take_shortcuts(past) {
            Ok(false) => {}
            Ok(true) => {
                let way = if past { "past the host's stack" } else { "through the host's stack" };
                log(Level::Info, "established connections are carried", &[("way", &way)]);
            }
            Err(error) => log(Level::Error, "cannot choose the way of packets", &[("reason", &error)]),
        }
    }

    /// Puts the current plan, which differs so from the one that was in force, in force for the endpoints that are there.
    fn apply(&mut self, changes: &PlanDelta) {
        self.choose_way();
        let attachments: Vec<Attachment> = self
            .endpoints
            .values()
            .filter_map(|endpoint| {
                let pod = pod_key(&endpoint.spec.name);
                Some(Attachment { pod, ifindex: endpoint.ifindex?, mac: endpoint.spec.mac.0 })
            })
            .collect();
        let result = self.datapath.follow(&self.view.plan, &attachments, changes);
        let error = result.as_ref().err().map(ToString::to_string);
        if error != self.enforcement_error {
            match &error {
                Some(error) => log(Level::Error, "not everything is enforced; trying again", &[("reason", error)]),
                None => log(Level::Info, "everything is enforced again", &[]),
            }
        }
        self.enforcement_error = error;
        let applied = match result {
            Ok(applied) | Err(ApplyError::Incomplete(Incomplete { applied, .. })) => applied,
            // The tables are written; programs still judge by older ones.
            Err(ApplyError::Attach(_)) => return,
        };
        if applied.changed() {
            log(
                Level::Info,
                "enforced",
                &[
                    ("generation", &self.directory.generation()),
                    ("revision", &applied.revision),
                    ("policies", &self.view.snapshot.policies().len()),
                    ("endpoints", &attachments.len()),
                    ("policy_entries", &self.datapath.policy().len()),
                ],
            );
        }
        self.revision = applied.revision;
        self.closed = applied.closed;
    }

    /// A pod's link is there. Programs run on it before its policy is loaded: until then it is closed.
    pub(crate) fn endpoint_add(&mut self, spec: EndpointSpec) -> Result<Done, String> {
        check(&spec)?;
        let name = spec.name.clone();
        let known = self.endpoints.get(&name).map(|endpoint| (endpoint.spec.ifname.clone(), endpoint.ifindex));
        self.run.save_endpoint(&spec).map_err(|error| error.to_string())?;
        let ifname = spec.ifname.clone();
        let endpoint = self.attach(spec);
        if let Some((old_name, Some(old_index))) = known
            && (old_name != ifname || Some(old_index) != endpoint.ifindex)
        {
            self.detach(&name, &old_name, old_index);
        }
        let error = endpoint.error.clone();
        self.write_up_flows();
        self.endpoints.insert(name.clone(), endpoint);
        self.strange_macs.remove(&name);
        // The manifest that places the pod may have been written just before.
        self.refresh();
        self.apply(&PlanDelta::default());
        match error.or_else(|| self.enforcement_error.clone()) {
            None => {
                log(Level::Info, "endpoint added", &[("pod", &name), ("interface", &ifname)]);
                Ok(self.done())
            }
            Some(error) => Err(format!("{name}: {error}")),
        }
    }

    /// A pod's link is gone or about to.
    pub(crate) fn endpoint_delete(&mut self, name: &PodName) -> Result<Done, String> {
        check_name(name)?;
        self.strange_macs.remove(name);
        self.write_up_flows();
        if let Some(endpoint) = self.endpoints.remove(name) {
            self.apply(&PlanDelta::default());
            if let Some(index) = endpoint.ifindex {
                self.detach(name, &endpoint.spec.ifname, index);
            }
            log(Level::Info, "endpoint deleted", &[("pod", name)]);
        }
        self.run.remove_endpoint(name).map_err(|error| error.to_string())?;
        Ok(self.done())
    }

    /// What is in force.
    pub(crate) fn done(&self) -> Done {
        Done { generation: self.directory.generation(), revision: u64::from(self.revision) }
    }

    /// Keeps what the kernel reported.
    pub(crate) fn take_events(&mut self, events: &[Event]) {
        let strange = |event: &&Event| event.happening == Happening::Dropped(DropReason::InvalidSourceMac);
        for event in events.iter().filter(strange) {
            let sender = self.endpoints.values().find(|endpoint| endpoint.ifindex == Some(event.endpoint));
            if let Some(name) = sender.map(|endpoint| endpoint.spec.name.clone()) {
                self.notice_mac(&name);
            }
        }
        self.flows.take(events);
    }

    /// Makes flow records of what the kernel reported: for somebody to read, or as it has to be done before objects or endpoints
    /// become others, which records are named after.
    pub(crate) fn write_up_flows(&mut self) -> &Ring {
        let Self { flows, endpoints, view, .. } = self;
        let pods = || {
            let named = |endpoint: &Endpoint| Some((endpoint.ifindex?, pod_key(&endpoint.spec.name)));
            endpoints.values().filter_map(named).collect()
        };
        flows.write_up(pods, view);
        flows.ring()
    }

    /// A pod sends with a hardware address that is not its own. It may have got another, or feign one; from a packet nobody can tell, and
    /// only who made its link says which is its own: by adding the endpoint again.
    fn notice_mac(&mut self, name: &PodName) {
        if self.strange_macs.insert(name.clone()) {
            log(Level::Warn, "endpoint", &[("problem", &self.strange_mac(name))]);
        }
    }

    /// What is to be said about one of [`strange_macs`](Self::strange_macs).
    pub(crate) fn strange_mac(&self, name: &PodName) -> String {
        let known = self.endpoints.get(name).map(|endpoint| endpoint.spec.mac.to_string()).unwrap_or_default();
        format!(
            "{name} sent with another hardware address than {known}, which it was added with: that is dropped; \
             where its link has got another one, the endpoint has to be added again with it"
        )
    }

    /// What the programs leave to user space: connections that fell silent, drops that were summed up, entries that somebody
    /// else changed. Also tries again what could not be enforced or attached.
    pub(crate) fn tend(&mut self) {
        let now = monotonic_ns();
        match self.datapath.conntrack_gc(now).and_then(|mut events| {
            events.extend(self.datapath.drop_gc(now)?);
            Ok(events)
        }) {
            Ok(events) => self.take_events(&events),
            Err(error) => log(Level::Error, "cannot collect", &[("reason", &error)]),
        }
        match self.datapath.reread() {
            Ok(0) => {}
            Ok(count) => log(Level::Warn, "maps were changed by somebody else", &[("entries", &count)]),
            Err(error) => log(Level::Error, "cannot read the maps", &[("reason", &error)]),
        }
        self.follow_addresses();
        self.retry();
    }

    /// Tries again what failed, and looks whether links are still those that programs run on.
    pub(crate) fn retry(&mut self) {
        let moved: Vec<PodName> = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| (self.links.index_of)(&endpoint.spec.ifname).ok() != endpoint.ifindex)
            .map(|(name, _)| name.clone())
            .collect();
        if !moved.is_empty() {
            self.write_up_flows();
        }
        for name in moved {
            if let Some(endpoint) = self.endpoints.remove(&name) {
                let endpoint = self.attach(endpoint.spec);
                match &endpoint.error {
                    Some(error) => log(Level::Warn, "endpoint is closed", &[("pod", &name), ("reason", error)]),
                    None => log(Level::Info, "endpoint is attached again", &[("pod", &name)]),
                }
                self.endpoints.insert(name, endpoint);
            }
        }
        self.apply(&PlanDelta::default());
    }

    /// Rolls host policies back that nobody confirmed in time.
    pub(crate) fn settle_host_policies(&mut self) {
        if self.host_policies.is_due() {
            self.enforce();
        }
    }

    /// Keeps the host policies with this revision.
    pub(crate) fn confirm_host_policy(&mut self, revision: HostPolicyRevision) -> Result<HostPolicyStatus, String> {
        self.decide_host_policy(|policies| policies.confirm(revision))
    }

    /// Has the host policies with this revision, which were rolled back, tried again.
    pub(crate) fn retry_host_policy(&mut self, revision: HostPolicyRevision) -> Result<HostPolicyStatus, String> {
        self.decide_host_policy(|policies| policies.retry(revision))
    }

    fn decide_host_policy(
        &mut self,
        decide: impl FnOnce(&mut CommitConfirm) -> Result<(), String>,
    ) -> Result<HostPolicyStatus, String> {
        self.settle_host_policies();
        decide(&mut self.host_policies)?;
        self.settle_host_policies();
        self.host_policies.status().ok_or_else(|| "no manifest knows this node".to_owned())
    }

    /// Whether something failed that may work later.
    pub(crate) fn must_retry(&self) -> bool {
        self.enforcement_error.is_some()
    }

    fn attach(&mut self, spec: EndpointSpec) -> Endpoint {
        let attached = (self.links.index_of)(&spec.ifname)
            .map_err(|error| format!("its link {} is gone: {error}", spec.ifname))
            .and_then(|index| {
                let interface = Interface { index, name: spec.ifname.clone() };
                self.datapath.attach_pod(&interface).map(|()| index).map_err(|error| error.to_string())
            });
        match attached {
            Ok(index) => Endpoint { spec, ifindex: Some(index), error: None },
            Err(error) => Endpoint { spec, ifindex: None, error: Some(error) },
        }
    }

    fn detach(&mut self, name: &PodName, ifname: &str, index: u32) {
        if let Err(error) = self.datapath.detach_pod(index) {
            log(Level::Warn, "cannot detach", &[("pod", name), ("interface", &ifname), ("reason", &error)]);
        }
    }

    /// Numbers are on disk before the kernel sees them, so that a new agent gives the same.
    fn save_numbers(&mut self) {
        let given = self.compiler.numbers_given();
        if self.saved == Some(given) {
            return;
        }
        match self.run.save_allocator(&self.compiler.state()) {
            Ok(()) => self.saved = Some(given),
            Err(error) => log(Level::Error, "identity numbers would not survive a restart", &[("reason", &error)]),
        }
    }

    fn keep_last_good(&mut self, files: &BTreeSet<Arc<str>>) {
        if let Err(error) = self.last_good.keep(files, &self.directory) {
            log(Level::Error, "a file that breaks while no agent runs would be out of force", &[("reason", &error)]);
        }
        self.last_good.settle(self.directory.problems());
    }
}

/// On a Node: what connections hear that policy denies on it.
const DENY_RESPONSE: &str = "strait.dev/deny-response";

/// What the annotation of the node says, where it has one.
fn asked_response(objects: &Objects, node: &str) -> Option<Result<DenyResponse, String>> {
    let object = objects.nodes().find(|known| *known.meta.name == *node)?;
    let asked = object.meta.annotations.get(DENY_RESPONSE)?;
    let known = [DenyResponse::Silent, DenyResponse::Icmp, DenyResponse::Reset].into_iter();
    Some(known.clone().find(|response| *response.name() == **asked).ok_or_else(|| {
        let names: Vec<_> = known.map(DenyResponse::name).collect();
        format!(
            "{}: annotation {DENY_RESPONSE} of node {node}: found {asked:?}, allowed are {}",
            object.meta.location,
            names.join(", ")
        )
    }))
}

pub(crate) fn pod_key(name: &PodName) -> PodKey {
    PodKey { namespace: Arc::clone(&name.namespace), name: Arc::clone(&name.pod) }
}

fn log_problem(problem: &strait_api::source::Problem) {
    let level = if problem.is_error() { Level::Error } else { Level::Warn };
    log(level, "manifest", &[("problem", problem)]);
}

fn check(spec: &EndpointSpec) -> Result<(), String> {
    check_name(&spec.name)?;
    // IFNAMSIZ with its terminator; the rest is what the kernel takes (`dev_valid_name`).
    let ifname = spec.ifname.as_str();
    let valid = !ifname.is_empty()
        && ifname.len() < 16
        && ifname != "."
        && ifname != ".."
        && !ifname.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if valid { Ok(()) } else { Err(format!("`{ifname}` is not the name of an interface")) }
}

/// They become part of a file name.
fn check_name(name: &PodName) -> Result<(), String> {
    let dns = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.')
            && !text.starts_with(['-', '.'])
            && !text.ends_with(['-', '.'])
    };
    if dns(&name.namespace) && dns(&name.pod) {
        Ok(())
    } else {
        Err(format!("`{name}` is not the name of a pod (expected lower-case letters, digits, dashes and dots)"))
    }
}

#[cfg(test)]
pub(crate) mod tests;
