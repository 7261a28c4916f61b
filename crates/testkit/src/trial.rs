//! The reference against the others: `model`'s verdicts, and its plans as a datapath would read them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use strait_api::Objects;
use strait_base::Protocol;
use strait_model::{
    AllocatorState, Compiler, Connection as Question, Decision, Family, L4, NodePlan, Origin, Party, PodKey, Reason,
    Snapshot,
};

use crate::{
    Case, Connection, End, Traffic,
    draw::Draw,
    minimize,
    plan::{self, Direction},
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
}

impl Figures {
    fn count(&mut self, answer: &Answer) {
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
        }
    }
}

/// The judges of one cluster.
struct Bench<'a> {
    objects: &'a Objects,
    snapshot: Snapshot,
    plans: BTreeMap<Arc<str>, NodePlan>,
}

/// Asks all judges about `objects`: everything there is to ask, or as many questions as `sample` says, drawn fairly. The plans are those of
/// compilers that have compiled `before` first, if there is one. Stops at the first disagreement.
pub fn compare(
    objects: &Objects,
    before: Option<&Objects>,
    sample: Option<(usize, &mut Draw)>,
) -> (Figures, Option<Disagreement>) {
    let mut figures = Figures { cases: 1, ..Figures::default() };
    let bench = match Bench::new(objects, before) {
        Ok(bench) => bench,
        Err(what) => return (figures, Some(nonsense(what))),
    };
    let mut one = |connection: &Connection| {
        let expected = reference::judge(objects, connection)?;
        figures.count(&expected);
        bench.judge(connection, &expected)
    };
    let found = match sample {
        None => probes::probes(objects).find_map(|connection| one(&connection)),
        Some((count, draw)) => {
            let (pairs, traffic) = (probes::pairs(objects), probes::traffic(objects));
            let tcp: Vec<_> =
                traffic.iter().copied().filter(|traffic| matches!(traffic, Traffic::Port(Protocol::Tcp, _))).collect();
            let mut ask = || {
                let (from, to, v6) = draw.pick(&pairs).clone();
                // As many TCP questions as of all others together: most ports are of TCP.
                let traffic = if draw.chance(25) { &tcp } else { &traffic };
                one(&Connection { from, to, v6, traffic: *draw.pick(traffic) })
            };
            if pairs.is_empty() { None } else { (0..count).find_map(|_| ask()) }
        }
    };
    (figures, found)
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
            let plan = compiler.compile(&snapshot, name);
            let broken = plan::broken(&plan).or_else(|| plan::contradicts(last.as_ref()?, &plan));
            if let Some(what) = broken {
                return Err(format!("{name}: {what}"));
            }
            plans.insert(Arc::clone(name), plan);
        }
        Ok(Self { objects, snapshot, plans })
    }

    fn judge(&self, connection: &Connection, expected: &Answer) -> Option<Disagreement> {
        let disagreement =
            |judge, found| Disagreement { judge, connection: connection.clone(), expected: expected.clone(), found };
        let verdict = self.snapshot.verdict(&question(connection));
        let same = verdict.allowed == expected.allowed()
            && same_decision(&verdict.egress, &expected.egress)
            && same_decision(&verdict.ingress, &expected.ingress);
        if !same {
            return Some(disagreement("model", format!("{verdict:?}")));
        }
        for (direction, me, peer, side) in [
            (Direction::Egress, &connection.from, &connection.to, &expected.egress),
            (Direction::Ingress, &connection.to, &connection.from, &expected.ingress),
        ] {
            let Some((key, node)) = self.endpoint(me) else { continue };
            let (Some(plan), Some(address)) = (self.plans.get(&node), self.address(peer, connection.v6)) else {
                continue;
            };
            // A pod's packets to itself do not leave it.
            if self.endpoint(peer).is_some_and(|(other, _)| other == key) {
                continue;
            }
            let found = plan::judge(plan, &key, direction, address, connection.traffic);
            if found.allowed() != side.allowed() || !same_origins(found.origins(plan), side) {
                let origins = found.origins(plan);
                return Some(disagreement("plan", format!("{direction:?} on {node}: {found:?} {origins:?}")));
            }
        }
        None
    }

    /// The pod that is or has the end, if policies apply to it, and its node.
    fn endpoint(&self, end: &End) -> Option<(PodKey, Arc<str>)> {
        let running = |pod: &&Arc<strait_api::Pod>| {
            use strait_api::PodPhase::{Failed, Succeeded};
            !pod.spec.host_network && !matches!(pod.phase, Succeeded | Failed)
        };
        let mut pods = self.objects.pods().filter(running);
        let pod = match end {
            End::Pod(namespace, name) => pods.find(|pod| pod.meta.namespace == *namespace && pod.meta.name == *name)?,
            End::Node(_) => return None,
            End::Address(address) => pods.find(|pod| pod.pod_ips.contains(address))?,
        };
        let key = PodKey::new(&pod.meta.namespace, &pod.meta.name);
        Some((key, Arc::clone(pod.spec.node_name.as_ref()?)))
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

/// A plan that breaks its promises, whatever is asked.
fn nonsense(what: String) -> Disagreement {
    let nobody = End::Node(Arc::default());
    Disagreement {
        judge: "plan",
        connection: Connection { from: nobody.clone(), to: nobody, traffic: Traffic::Icmp, v6: false },
        expected: Answer { egress: Side::NotAPod, ingress: Side::NotAPod },
        found: what,
    }
}

fn same_decision(found: &Decision, expected: &Side) -> bool {
    let reason = match expected {
        Side::NotAPod => Reason::NotPolicySubject,
        Side::Itself => Reason::OwnPod,
        Side::OwnNode => Reason::OwnNode,
        Side::NotIsolated => Reason::NotIsolated,
        Side::Rules(_) | Side::Denied(_) => Reason::Rule,
        Side::Closed(_) => Reason::Closed,
        Side::NoRule(_) => Reason::NoRule,
        Side::Audited(_) => Reason::Audited,
    };
    found.allowed == expected.allowed() && found.reason == reason && same_origins(&found.origins, expected)
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
        Side::NotAPod | Side::Itself | Side::OwnNode | Side::NotIsolated | Side::Audited(_) => BTreeSet::new(),
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
pub fn try_case(case: &Case, questions: Option<usize>) -> Result<Figures, Box<Failure>> {
    let mut draw = Draw::new(case.seed);
    // Every other case meets compilers with a past.
    let past = (case.seed % 2 == 1).then(|| case.of_seed(case.seed - 1).objects);
    let all = |objects: &Objects| compare(objects, past.as_ref(), None).1;
    let (figures, found) = compare(&case.objects, past.as_ref(), questions.map(|count| (count, &mut draw)));
    let Some(first) = found else { return Ok(figures) };
    let objects = minimize(&case.objects, |objects| all(objects).is_some_and(|found| found.judge == first.judge));
    let disagreement = all(&objects).unwrap_or(first);
    Err(Box::new(Failure { disagreement, small: Case { objects, ..case.clone() } }))
}

/// A case on which the judges disagree.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// About what, in the small case.
    pub disagreement: Disagreement,
    /// The case, minimized.
    pub small: Case,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Disagreement { judge, connection, expected, found } = &self.disagreement;
        writeln!(f, "seed {}: {judge} disagrees with the reference", self.small.seed)?;
        writeln!(f, "  connection: {connection}\n  reference:  {expected:?}\n  {judge}: {found}")?;
        let test = if self.small.mixed { "random_mixed" } else { "random_network" };
        writeln!(f, "  replay: STRAIT_SEED={} cargo test -p strait-testkit {test}", self.small.seed)?;
        write!(f, "{}", self.small.yaml())
    }
}
