//! Why a connection is allowed or not: for people, and as JSON.

use std::fmt::Write as _;

use serde::Serialize;
use strait_base::{IdentityId, Labels, Location};

use crate::{
    connection::{Connection, Direction, Family},
    rule::{Origin, PeerSelector, Peers},
    snapshot::Snapshot,
    verdict::{Decision, Reason, Side, View},
};

/// A verdict and the steps that lead to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Who opens the connection, as asked.
    pub from: String,
    /// To whom, as asked.
    pub to: String,
    /// Over what: `80/TCP`.
    pub l4: String,
    /// The family that was judged; `None` where the sides have no address of a common one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Whether it may be opened.
    pub allowed: bool,
    /// What each side's policies say: egress of the one that opens it, then ingress of the other. Empty without a family.
    pub steps: Vec<Step>,
}

/// What the policies of one side say, and about whom.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// From the subject's view.
    pub direction: Direction,
    /// Whose policies are asked.
    pub subject: Who,
    /// The policies that select the subject, in this direction or the other.
    pub policies: Vec<PolicyRef>,
    /// The other side.
    pub peer: Who,
    /// What they say.
    pub decision: Decision,
}

/// One side, as policies see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    /// `namespace/pod`, `node/name` or an address.
    pub name: String,
    /// The address that was judged.
    pub address: std::net::IpAddr,
    /// The base identity. Agents refine it on their node where policies tell its members apart.
    pub identity: IdentityId,
    /// The labels of a pod; `reserved:…` of everything else.
    pub labels: Vec<String>,
    /// The labels of a pod's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespace_labels: Vec<String>,
    /// The blocks of the subject's rules that the address is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
}

/// A policy that selects the subject.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it isolates the subject in the direction of the step.
    pub isolates: bool,
    /// Where it is written.
    pub location: Location,
}

impl Snapshot {
    /// As [`verdict`](Self::verdict), with every step and, for a deny, the nearest miss.
    pub fn explain(&self, connection: &Connection) -> Explanation {
        let views = self.views(connection);
        let steps: Vec<_> = views.iter().flatten().map(|view| self.step(view)).collect();
        Explanation {
            from: connection.from.to_string(),
            to: connection.to.to_string(),
            l4: connection.l4.to_string(),
            family: views.map(|[egress, _]| Family::of(egress.peer.address())),
            allowed: !steps.is_empty() && steps.iter().all(|step| step.decision.allowed),
            steps,
        }
    }

    fn step(&self, view: &View<'_>) -> Step {
        let mut decision = self.decide(view);
        if decision.reason == Reason::NoRule {
            decision.nearest_miss = self.nearest_miss(view);
        }
        let policies = self.policies_about(view.subject).into_iter().map(|policy| PolicyRef {
            kind: policy.kind.to_string(),
            namespace: policy.namespace.to_string(),
            name: policy.name.to_string(),
            isolates: policy.isolates.contains(&view.direction),
            location: policy.location.clone(),
        });
        Step {
            direction: view.direction,
            subject: match view.subject {
                // As a subject of policies, a node is `host`, whoever asks.
                Side::Node(..) => self.who(view.subject, view.subject),
                Side::Pod(..) | Side::Address(_) => self.who(view.subject, view.peer),
            },
            policies: policies.collect(),
            peer: Who { cidrs: self.blocks_around(view), ..self.who(view.peer, view.subject) },
            decision,
        }
    }

    /// `side` as `other` sees it.
    fn who(&self, side: Side<'_>, other: Side<'_>) -> Who {
        let lines = |labels: &Labels| labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let address = side.address();
        let reserved = |identity: IdentityId, name: String| Who {
            name,
            address,
            identity,
            labels: vec![format!("reserved:{identity}")],
            namespace_labels: Vec::new(),
            cidrs: Vec::new(),
        };
        match side {
            Side::Pod(pod, _) => Who {
                name: pod.key.to_string(),
                address,
                identity: self.identity(pod),
                labels: lines(pod.labels()),
                namespace_labels: self.namespace(&pod.key.namespace).map(lines).unwrap_or_default(),
                cidrs: Vec::new(),
            },
            Side::Node(node, _) => {
                let own = other.node() == Some(&node.name);
                let identity = if own { IdentityId::HOST } else { IdentityId::REMOTE_NODE };
                reserved(identity, format!("node/{}", node.name))
            }
            Side::Address(_) if self.pod_cidr_over(address.into()).is_some() => {
                reserved(IdentityId::UNMANAGED, address.to_string())
            }
            Side::Address(_) if address.is_ipv4() => reserved(IdentityId::WORLD_IPV4, address.to_string()),
            Side::Address(_) => reserved(IdentityId::WORLD_IPV6, address.to_string()),
        }
    }

    /// The blocks among the subject's rules that the peer's address is in.
    fn blocks_around(&self, view: &View<'_>) -> Vec<String> {
        let rules = self.policies_about(view.subject).into_iter().flat_map(|policy| &policy.rules);
        let rules = rules.filter(|rule| rule.direction == view.direction);
        let peers = rules.flat_map(|rule| match &rule.peers {
            Peers::Any => [].iter(),
            Peers::Of(peers) => peers.iter(),
        });
        let blocks = peers.filter_map(|peer| match &peer.selects {
            PeerSelector::Block(block) if self.is_peer(peer, view) => Some(block.to_string()),
            PeerSelector::Block(_) | PeerSelector::Endpoints(_) | PeerSelector::Nodes(_) | PeerSelector::Entity(_) => {
                None
            }
        });
        blocks.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}

/// Terminal colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    color: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn verdict(self, allowed: bool, text: &str) -> String {
        self.with(if allowed { "1;32" } else { "1;31" }, text)
    }

    fn place(self, location: &Location) -> String {
        self.with("36", &format!("{}:{}", location.file, location.line))
    }

    fn strong(self, text: &str) -> String {
        self.with("1", text)
    }
}

impl Explanation {
    /// For people; with terminal colours where `color`. Ends with a newline.
    pub fn render(&self, color: bool) -> String {
        let paint = Paint { color };
        let mut out = String::new();
        // Writing to a string cannot fail.
        let family = self.family.map(|family| format!(" over {family}")).unwrap_or_default();
        let _ = writeln!(out, "{} → {} {}{family}", paint.strong(&self.from), paint.strong(&self.to), self.l4);
        if self.steps.is_empty() {
            let _ = writeln!(out, "\n  the two sides have no address of a common family");
        }
        for step in &self.steps {
            out.push('\n');
            step.render(&mut out, paint);
        }
        let word = if self.allowed { "ALLOWED" } else { "DENIED" };
        let _ = writeln!(out, "\nverdict: {}{}", paint.verdict(self.allowed, word), self.blame());
        out
    }

    /// Which side is to blame for a deny.
    fn blame(&self) -> String {
        let denied: Vec<_> = self.steps.iter().filter(|step| !step.decision.allowed).collect();
        match denied.as_slice() {
            [] => String::new(),
            [step] => format!(" by {} of {}", step.direction, step.subject.name),
            _ => " by both sides".to_owned(),
        }
    }
}

impl Step {
    fn render(&self, out: &mut String, paint: Paint) {
        let mut line = |label: &str, text: &str| {
            let _ = writeln!(out, "  {label:<9} {text}");
        };
        let title = match self.direction {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        };
        line(title, &self.subject.text(paint));
        for policy in &self.policies {
            let namespace = if policy.namespace.is_empty() { "" } else { "/" };
            let without = if policy.isolates { "" } else { ", not about this direction" };
            line(
                "policy",
                &format!(
                    "{} {}{namespace}{}{without}  {}",
                    policy.kind,
                    policy.namespace,
                    policy.name,
                    paint.place(&policy.location)
                ),
            );
        }
        line("peer", &self.peer.text(paint));
        let decision = &self.decision;
        let word = paint.verdict(decision.allowed, if decision.allowed { "allowed" } else { "denied" });
        line("isolated", if decision.isolated { "yes: what no rule allows is denied" } else { "no" });
        line(&word_padded(&word, paint), &decision.because());
        let by_rules = matches!(decision.reason, Reason::Rule | Reason::Closed | Reason::Audited);
        for origin in decision.origins.iter().filter(|_| by_rules) {
            line("", &format!("{}  {}", rule_name(origin), paint.place(&origin.location)));
        }
        for origin in &decision.passed {
            line("passed on", &format!("by {}  {}", rule_name(origin), paint.place(&origin.location)));
        }
        if let Some(miss) = &decision.nearest_miss {
            line("nearest", &format!("{miss}  [{}]", rule_name(&miss.origin)));
        }
    }
}

/// Escape codes have no width; the label column counts what is seen.
fn word_padded(word: &str, paint: Paint) -> String {
    let codes = if paint.color { "\x1b[1;32m\x1b[0m".len() } else { 0 };
    format!("{word:<width$}", width = 9 + codes)
}

fn rule_name(origin: &Origin) -> String {
    let namespace = if origin.namespace.is_empty() { String::new() } else { format!("{}/", origin.namespace) };
    let rule = origin.rule.map(|rule| format!(" {}[{rule}]", origin.list())).unwrap_or_default();
    format!("{} {namespace}{}{rule}", origin.kind, origin.name)
}

impl Decision {
    fn because(&self) -> String {
        match self.reason {
            Reason::NotPolicySubject => {
                "policies do not apply to addresses outside the cluster, nor to nodes that no host policy selects"
                    .to_owned()
            }
            Reason::NotIsolated => "no policy isolates it in this direction".to_owned(),
            Reason::OwnPod => "a pod always reaches itself".to_owned(),
            Reason::Loopback => "a node always reaches itself".to_owned(),
            Reason::OwnNode => "a node and its own pods reach each other".to_owned(),
            Reason::Rule if self.allowed => "by a rule".to_owned(),
            Reason::Rule => "by an explicit rule".to_owned(),
            Reason::NoRule => {
                let policies = self.origins.iter().map(|origin| match &*origin.namespace {
                    "" => origin.name.to_string(),
                    namespace => format!("{namespace}/{}", origin.name),
                });
                format!("isolated by {}, and no rule allows it", policies.collect::<Vec<_>>().join(", "))
            }
            Reason::Closed => {
                "by a rule that asks for more than is enforced yet (L7, TLS, authentication): it is closed".to_owned()
            }
            Reason::Audited => "what would deny it only reports".to_owned(),
            Reason::NoAddress => "no address of this family".to_owned(),
        }
    }
}

impl Who {
    fn text(&self, paint: Paint) -> String {
        let identity = match self.identity.reserved_name() {
            Some(name) => format!("identity {} {name}", self.identity.0),
            // All labels of the pod; what a controller adds to them is no part of its identity.
            None if self.labels.is_empty() => format!("identity {}, no labels", self.identity.0),
            None => format!("identity {}, labels {}", self.identity.0, self.labels.join(",")),
        };
        let address = self.address.to_string();
        let address = if address == self.name { String::new() } else { format!(" {address}") };
        let blocks = if self.cidrs.is_empty() { String::new() } else { format!(", in {}", self.cidrs.join(" and ")) };
        format!("{}{address} ({identity}{blocks})", paint.strong(&self.name))
    }
}
