//! The reference against the others: `model`'s verdicts, its plans as a datapath would read them, and the tables made of them with packets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use strait_api::Objects;
use strait_base::Protocol;
use strait_model::{
    AllocatorState, Compiler, Connection as Question, Decision, Family, L4, NodePlan, Origin, Party, PodKey, Reason,
    Snapshot,
};
use strait_packet::abi::DropReason;

use crate::{
    Case, Connection, End, Traffic,
    draw::Draw,
    minimize,
    packets::{Machine, Node, Passage, Seen},
    plan::{self, Direction, Subject},
    probes,
    reference::{self, Answer, RuleAt, Side},
};

/// Somebody judged a connection other than the reference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disagreement {
    /// Who.
    pub judge: &'static str,
    /// What was asked.
    pub connection: Connection,
    /// What the reference says.
    pub expected: Answer,
    /// What the judge says.
    pub found: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { judge, connection, expected, found } = self;
        writeln!(f, "{judge} disagrees with the reference")?;
        write!(f, "  connection: {connection}\n  reference:  {expected:?}\n  {judge}: {found}")
    }
}

/// What a trial counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Clusters with policies.
    pub cases: usize,
    /// Connections, each asked of all judges.
    pub connections: usize,
    /// Those that the reference allows because rules do.
    pub allowed_by_rules: usize,
    /// Those that the reference denies.
    pub denied: usize,
    /// Of these, those that a rule denies.
    pub denied_by_rules: usize,
    /// Of these, those that no enforcer is there for.
    pub closed: usize,
    /// Those that it allows because policies are only audited.
    pub audited: usize,
    /// Those of nodes that host policies select.
    pub of_hosts: usize,
    /// Frames that a machine was asked with.
    pub frames: usize,
}

impl Figures {
    fn count(&mut self, connection: &Connection, answer: &Answer) {
        let of_host =
            |end: &End, side: &Side| matches!(end, End::Node(_)) && !matches!(side, Side::NotASubject | Side::Loopback);
        self.of_hosts +=
            usize::from(of_host(&connection.from, &answer.egress) || of_host(&connection.to, &answer.ingress));
        let either = |is: fn(&Side) -> bool| usize::from(is(&answer.egress) || is(&answer.ingress));
        self.connections += 1;
        if answer.allowed() {
            self.allowed_by_rules += either(|side| matches!(side, Side::Rules(_)));
            self.audited += either(|side| matches!(side, Side::Audited(_)));
        } else {
            self.denied += 1;
            self.denied_by_rules += either(|side| matches!(side, Side::Denied(_)));
            self.closed += either(|side| matches!(side, Side::Closed(_)));
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cases: self.cases + other.cases,
            connections: self.connections + other.connections,
            allowed_by_rules: self.allowed_by_rules + other.allowed_by_rules,
            denied: self.denied + other.denied,
            denied_by_rules: self.denied_by_rules + other.denied_by_rules,
            closed: self.closed + other.closed,
            audited: self.audited + other.audited,
            of_hosts: self.of_hosts + other.of_hosts,
            frames: self.frames + other.frames,
        }
    }
}

/// The judges of one cluster.
struct Bench<'a> {
    objects: &'a Objects,
    snapshot: Snapshot,
    plans: BTreeMap<Arc<str>, Plans>,
}

/// What a node's compiler made.
struct Plans {
    last: Option<NodePlan>,
    now: NodePlan,
}

/// A question, the reference's answer, and the pods and nodes whose policies it is about.
struct Asked {
    connection: Connection,
    expected: Answer,
    seats: Vec<Seat>,
}

/// A pod or node at one end of a connection to somebody else.
struct Seat {
    node: Arc<str>,
    subject: Subject,
    direction: Direction,
    local: IpAddr,
    remote: IpAddr,
    /// The other end is neither the node nor on it.
    from_afar: bool,
    /// The other end is the node, which the pod is on.
    with_node: bool,
}

impl Asked {
    fn side(&self, seat: &Seat) -> &Side {
        match seat.direction {
            Direction::Egress => &self.expected.egress,
            Direction::Ingress => &self.expected.ingress,
        }
    }

    /// Whose word a packet at the seat ends with: between a pod and its node, both judge where the pod is, the sender first.
    fn last_word(&self, seat: &Seat) -> &Side {
        if !seat.with_node {
            return self.side(seat);
        }
        let receiver = !matches!(self.expected.ingress, Side::NotASubject);
        if self.expected.egress.allowed() && receiver { &self.expected.ingress } else { &self.expected.egress }
    }

    fn disagreement(&self, judge: &'static str, found: String) -> Disagreement {
        Disagreement { judge, connection: self.connection.clone(), expected: self.expected.clone(), found }
    }
}

/// Asks all judges about `objects`: everything there is to ask, or as many questions as `sample` says, drawn fairly. The plans are those of
/// compilers that have compiled `before` first, if there is one; `machine` gets one after the other. Stops at the first disagreement.
pub fn compare<M: Machine>(
    objects: &Objects,
    before: Option<&Objects>,
    sample: Option<(usize, &mut Draw)>,
    machine: &mut M,
) -> (Figures, Option<Disagreement>) {
    let mut figures = Figures { cases: 1, ..Figures::default() };
    let bench = match Bench::new(objects, before) {
        Ok(bench) => bench,
        Err(what) => return (figures, Some(nonsense("plan", what))),
    };
    let mut all = Vec::new();
    for connection in questions(objects, sample) {
        let Some(expected) = reference::judge(objects, &connection) else { continue };
        figures.count(&connection, &expected);
        let asked = Asked { seats: bench.seats(&connection), connection, expected };
        if let Some(found) = bench.judge(&asked) {
            return (figures, Some(found));
        }
        all.push(asked);
    }
    for (node, plans) in &bench.plans {
        let found = judge_by_packets(node, plans, &all, machine, &mut figures.frames);
        if found.is_some() {
            return (figures, found);
        }
    }
    (figures, None)
}

/// What to ask.
fn questions(objects: &Objects, sample: Option<(usize, &mut Draw)>) -> Vec<Connection> {
    let Some((count, draw)) = sample else { return probes::probes(objects).collect() };
    let (pairs, traffic) = (probes::pairs(objects), probes::traffic(objects));
    if pairs.is_empty() {
        return Vec::new();
    }
    let tcp: Vec<_> =
        traffic.iter().copied().filter(|traffic| matches!(traffic, Traffic::Port(Protocol::Tcp, _))).collect();
    let mut one = || {
        let (from, to, v6) = draw.pick(&pairs).clone();
        // As many TCP questions as of all others together: most ports are of TCP.
        let traffic = if draw.chance(25) { &tcp } else { &traffic };
        Connection { from, to, v6, traffic: *draw.pick(traffic) }
    };
    (0..count).map(|_| one()).collect()
}

/// One node's part of all questions, as its machine sees it.
fn judge_by_packets<M: Machine>(
    node: &Arc<str>,
    plans: &Plans,
    all: &[Asked],
    machine: &mut M,
    frames: &mut usize,
) -> Option<Disagreement> {
    let mut on_trial = match Node::new(machine, plans.last.as_ref(), &plans.now) {
        Ok(on_trial) => on_trial,
        Err(what) => return Some(nonsense(M::NAME, format!("{node}: {what}"))),
    };
    for asked in all {
        // What the node says to its pods passes at their links.
        let at_pod = |seat: &Seat| seat.subject == Subject::Host && !seat.from_afar;
        let here = |seat: &&Seat| seat.node == *node && is_one_host(seat.remote) && !at_pod(seat);
        for seat in asked.seats.iter().filter(here) {
            let passage = Passage {
                subject: &seat.subject,
                direction: seat.direction,
                local: seat.local,
                remote: seat.remote,
                from_afar: seat.from_afar,
                traffic: asked.connection.traffic,
            };
            let found = match on_trial.judge(&passage) {
                Ok(seen) if same_passage(seen, &plans.now, asked.last_word(seat)) => continue,
                Ok(seen) => {
                    let origins = seen.told.and_then(|told| plans.now.origins.get(&told.origin));
                    format!("{seen:?} {origins:?}")
                }
                Err(what) => what,
            };
            return Some(asked.disagreement(M::NAME, format!("{:?} on {node}: {found}", seat.direction)));
        }
    }
    *frames += on_trial.frames;
    None
}

impl<'a> Bench<'a> {
    /// An error says what of its own promises a plan breaks.
    fn new(objects: &'a Objects, before: Option<&Objects>) -> Result<Self, String> {
        let snapshot = Snapshot::new(objects);
        let before = before.map(Snapshot::new);
        let mut plans = BTreeMap::new();
        for node in objects.nodes() {
            // Each node's agent has a compiler of its own.
            let name = &node.meta.name;
            let mut compiler = Compiler::new(AllocatorState::default());
            let last = before.as_ref().map(|before| compiler.compile(before, name));
            let now = compiler.compile(&snapshot, name);
            let broken = plan::broken(&now).or_else(|| plan::contradicts(last.as_ref()?, &now));
            if let Some(what) = broken {
                return Err(format!("{name}: {what}"));
            }
            plans.insert(Arc::clone(name), Plans { last, now });
        }
        Ok(Self { objects, snapshot, plans })
    }

    /// The model's verdict and the plans' entries.
    fn judge(&self, asked: &Asked) -> Option<Disagreement> {
        let expected = &asked.expected;
        let verdict = self.snapshot.verdict(&question(&asked.connection));
        let same = verdict.allowed == expected.allowed()
            && same_decision(&verdict.egress, &expected.egress)
            && same_decision(&verdict.ingress, &expected.ingress);
        if !same {
            return Some(asked.disagreement("model", format!("{verdict:?}")));
        }
        for seat in &asked.seats {
            let Some(Plans { now: plan, .. }) = self.plans.get(&seat.node) else { continue };
            let side = asked.side(seat);
            let found = plan::judge(plan, &seat.subject, seat.direction, seat.remote, asked.connection.traffic);
            if found.allowed() != side.allowed() || !same_origins(found.origins(plan), side) {
                let (direction, node, origins) = (seat.direction, &seat.node, found.origins(plan));
                return Some(asked.disagreement("plan", format!("{direction:?} on {node}: {found:?} {origins:?}")));
            }
        }
        None
    }

    /// Where the connection is judged: at the pods and nodes among its ends. What one sends to itself does not leave it.
    fn seats(&self, connection: &Connection) -> Vec<Seat> {
        let (from, to) = (self.subject(&connection.from), self.subject(&connection.to));
        if from.is_some() && from == to {
            return Vec::new();
        }
        let address = |end| self.address(end, connection.v6);
        let (Some(source), Some(destination)) = (address(&connection.from), address(&connection.to)) else {
            return Vec::new();
        };
        let mut seats = Vec::new();
        for (direction, me, other, local, remote) in [
            (Direction::Egress, &from, &to, source, destination),
            (Direction::Ingress, &to, &from, destination, source),
        ] {
            let Some((subject, node)) = me.clone() else { continue };
            let near = other.as_ref().filter(|(_, its)| *its == node);
            let with_node = near.is_some_and(|(other, _)| *other == Subject::Host);
            seats.push(Seat { node, subject, direction, local, remote, from_afar: near.is_none(), with_node });
        }
        seats
    }

    /// The pod or node that is or has the end, if policies may apply to it, and the node where.
    fn subject(&self, end: &End) -> Option<(Subject, Arc<str>)> {
        use strait_api::PodPhase::{Failed, Succeeded};
        let node = |name: &Arc<str>| Some((Subject::Host, Arc::clone(name)));
        let mut running = self.objects.pods().filter(|pod| !matches!(pod.phase, Succeeded | Failed));
        let pod = match end {
            End::Node(name) => return node(name),
            End::Pod(namespace, name) => {
                running.find(|pod| pod.meta.namespace == *namespace && pod.meta.name == *name)?
            }
            End::Address(address) => {
                if let Some(found) = self.objects.nodes().find(|found| found.addresses.contains(address)) {
                    return node(&found.meta.name);
                }
                running.find(|pod| !pod.spec.host_network && pod.pod_ips.contains(address))?
            }
        };
        let on = pod.spec.node_name.as_ref()?;
        if pod.spec.host_network {
            return node(on);
        }
        Some((Subject::Pod(PodKey::new(&pod.meta.namespace, &pod.meta.name)), Arc::clone(on)))
    }

    fn address(&self, end: &End, v6: bool) -> Option<IpAddr> {
        let of = |addresses: &[IpAddr]| addresses.iter().copied().find(|address| address.is_ipv6() == v6);
        let node = |name: &str| of(&self.objects.nodes().find(|node| *node.meta.name == *name)?.addresses);
        match end {
            End::Address(address) => Some(*address),
            End::Node(name) => node(name),
            End::Pod(namespace, name) => {
                let pod = self.objects.pods().find(|pod| pod.meta.namespace == *namespace && pod.meta.name == *name)?;
                if pod.spec.host_network { node(pod.spec.node_name.as_ref()?) } else { of(&pod.pod_ips) }
            }
        }
    }
}

/// What is wrong whatever is asked.
fn nonsense(judge: &'static str, what: String) -> Disagreement {
    let nobody = End::Node(Arc::default());
    Disagreement {
        judge,
        connection: Connection { from: nobody.clone(), to: nobody, traffic: Traffic::Icmp, v6: false },
        expected: Answer { egress: Side::NotASubject, ingress: Side::NotASubject },
        found: what,
    }
}

fn same_decision(found: &Decision, expected: &Side) -> bool {
    let reason = match expected {
        Side::NotASubject => Reason::NotPolicySubject,
        Side::Itself => Reason::OwnPod,
        Side::Loopback => Reason::Loopback,
        Side::OwnNode => Reason::OwnNode,
        Side::NotIsolated => Reason::NotIsolated,
        Side::Rules(_) | Side::Denied(_) => Reason::Rule,
        Side::Closed(_) => Reason::Closed,
        Side::NoRule(_) => Reason::NoRule,
        Side::Audited(_) => Reason::Audited,
    };
    found.allowed == expected.allowed() && found.reason == reason && same_origins(&found.origins, expected)
}

/// Many, and oneself, are not reached through a router, whatever policies say.
fn is_one_host(address: IpAddr) -> bool {
    !address.is_multicast() && !address.is_loopback() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether a frame went as the side says, and what was told of it says why.
fn same_passage(seen: Seen, plan: &NodePlan, side: &Side) -> bool {
    let reason = match side {
        Side::Denied(_) | Side::Closed(_) => Some(DropReason::PolicyDeny),
        Side::NoRule(_) => Some(DropReason::PolicyDenied),
        Side::NotASubject
        | Side::Itself
        | Side::Loopback
        | Side::OwnNode
        | Side::NotIsolated
        | Side::Rules(_)
        | Side::Audited(_) => None,
    };
    if *side == Side::NotASubject {
        return seen.passed && seen.told.is_none();
    }
    seen.passed == side.allowed()
        && seen.told.is_some_and(|told| {
            let origins = plan.origins.get(&told.origin).map_or(&[][..], |origins| origins);
            told.reason == reason && told.audited == matches!(side, Side::Audited(_)) && same_origins(origins, side)
        })
}

/// Whether the origins are all the rules that decide, or all the policies that isolate, and nothing else.
fn same_origins(found: &[Origin], expected: &Side) -> bool {
    let found: BTreeSet<_> =
        found.iter().map(|origin| (&*origin.kind, &*origin.namespace, &*origin.name, place(origin))).collect();
    let expected = if let Side::Audited(denied) = expected { denied } else { expected };
    let expected: BTreeSet<_> = match expected {
        Side::Rules(causes) | Side::Denied(causes) | Side::Closed(causes) | Side::NoRule(causes) => {
            causes.iter().map(|cause| (cause.kind, &*cause.namespace, &*cause.name, cause.rule)).collect()
        }
        Side::NotASubject | Side::Itself | Side::Loopback | Side::OwnNode | Side::NotIsolated | Side::Audited(_) => {
            BTreeSet::new()
        }
    };
    found == expected
}

/// Where the rule is that an origin names: its index, and `ingressDeny` or `specs[1].egress` as its list.
fn place(origin: &Origin) -> Option<RuleAt> {
    let section = origin.section.as_deref().unwrap_or_default();
    let spec =
        section.strip_prefix("specs[").and_then(|rest| rest.split_once(']')).and_then(|(spec, _)| spec.parse().ok());
    Some(RuleAt {
        spec: spec.unwrap_or(0),
        deny: section.ends_with("Deny"),
        index: usize::try_from(origin.rule?).ok()?,
    })
}

/// In `model`'s words.
pub fn question(connection: &Connection) -> Question {
    let party = |end: &End| match end {
        End::Pod(namespace, name) => Party::Pod(PodKey::new(namespace, name)),
        End::Node(name) => Party::Node(Arc::clone(name)),
        End::Address(address) => Party::Address(*address),
    };
    Question {
        from: party(&connection.from),
        to: party(&connection.to),
        l4: match connection.traffic {
            Traffic::Port(protocol, port) => L4::Port { protocol, port },
            Traffic::Icmp => L4::Icmp,
        },
        family: Some(if connection.v6 { Family::V6 } else { Family::V4 }),
    }
}

/// Puts `case` on trial with `questions` questions, or with all there are. A failure comes small, as manifests, and says how to repeat it.
pub fn try_case<M: Machine>(case: &Case, questions: Option<usize>, machine: &mut M) -> Result<Figures, Box<Failure>> {
    let mut draw = Draw::new(case.seed);
    // Every other case meets compilers and tables with a past.
    let past = (case.seed % 2 == 1).then(|| case.of_seed(case.seed - 1).objects);
    try_objects(&case.objects, past.as_ref(), questions.map(|count| (count, &mut draw)), machine).map_err(|small| {
        let (disagreement, objects) = *small;
        Failure { disagreement, small: Case { objects, ..case.clone() }, package: M::PACKAGE }.into()
    })
}

/// As [`compare`]; the error is a disagreement in the smallest cluster that still has one.
pub fn try_objects<M: Machine>(
    objects: &Objects,
    before: Option<&Objects>,
    sample: Option<(usize, &mut Draw)>,
    machine: &mut M,
) -> Result<Figures, Box<(Disagreement, Objects)>> {
    let (figures, found) = compare(objects, before, sample, machine);
    let Some(first) = found else { return Ok(figures) };
    let mut all = |objects: &Objects| compare(objects, before, None, machine).1;
    let small = minimize(objects, |objects| all(objects).is_some_and(|found| found.judge == first.judge));
    let disagreement = all(&small).unwrap_or(first);
    Err((disagreement, small).into())
}

/// A case on which the judges disagree.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// About what, in the small case.
    pub disagreement: Disagreement,
    /// The case, minimized.
    pub small: Case,
    /// The package whose tests repeat it.
    pub package: &'static str,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.small.seed, self.disagreement)?;
        let test = if self.small.mixed { "random_mixed" } else { "random_network" };
        writeln!(f, "  replay: STRAIT_SEED={} cargo test -p {} {test}", self.small.seed, self.package)?;
        write!(f, "{}", self.small.yaml())
    }
}
