//! The host policies of a node as one value: what is put on trial, confirmed and rolled back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use ipnet::IpNet;
use strait_api::{
    CiliumCidrRule, CiliumCidrSource, CiliumNetworkPolicy, CiliumPeers, CiliumRule, CiliumSelector, CiliumSubject,
    Kind, Object, ObjectKey, ObjectMeta, Objects, parse::parse, write::to_json,
};
use strait_base::{Labels, Location, Shared};
use strait_model::{audits, cilium_selector};

use crate::api::{HostPolicyName, HostPolicyRevision};

/// On a host policy: `"false"` keeps it out of trials; it is in force as its manifest says.
const CONFIRM_ANNOTATION: &str = "strait.dev/host-policy-confirm";
/// Behind the name of a confirmed policy where a manifest's policy of that name is in force beside it.
const BESIDE: &str = " (confirmed)";

/// Host policies that select a node: their sections about it, with the CIDR groups that they name resolved and without what has no
/// effect. Two sets are equal where they mean the same, wherever they are written.
#[derive(Clone, Debug)]
pub(crate) struct HostPolicies {
    policies: BTreeMap<Arc<str>, HostPolicy>,
    revision: HostPolicyRevision,
}

#[derive(Clone, Debug)]
struct HostPolicy {
    object: Arc<CiliumNetworkPolicy>,
    /// What it means.
    text: String,
}

impl PartialEq for HostPolicies {
    fn eq(&self, other: &Self) -> bool {
        let texts = |set: &Self| set.policies.values().map(|policy| policy.text.clone()).collect::<Vec<_>>();
        self.revision == other.revision && texts(self) == texts(other)
    }
}

impl HostPolicies {
    /// Those that select `node`; `None` where no object says which labels it has.
    pub(crate) fn of(objects: &Objects, node: &str) -> Option<Self> {
        let labels = labels(objects, node)?;
        let about = |policy: &Arc<CiliumNetworkPolicy>| {
            let rules: Vec<_> =
                policy.rules.iter().filter(|rule| selects(rule, labels)).map(|rule| plain(rule, objects)).collect();
            let meta = &policy.meta;
            (!rules.is_empty()).then(|| named(Arc::clone(&meta.name), meta.location.clone(), rules))
        };
        Some(Self::new(objects.cilium_policies().filter(|policy| is_tried(policy)).filter_map(about)))
    }

    fn new(policies: impl Iterator<Item = CiliumNetworkPolicy>) -> Self {
        let policies: BTreeMap<_, _> = policies
            .map(|policy| {
                let object = Arc::new(policy);
                let text = to_json(&Object::CiliumNetworkPolicy(Arc::clone(&object)));
                (Arc::clone(&object.meta.name), HostPolicy { object, text })
            })
            .collect();
        let revision = HostPolicyRevision::of(policies.values().map(|policy| policy.text.as_str()));
        Self { policies, revision }
    }

    /// What names what they mean; the same on every node for which they mean the same.
    pub(crate) const fn revision(&self) -> HostPolicyRevision {
        self.revision
    }

    /// Their names, and where they are written.
    pub(crate) fn names(&self) -> Vec<HostPolicyName> {
        let name = |policy: &HostPolicy| HostPolicyName {
            name: Arc::clone(&policy.object.meta.name),
            file: Arc::clone(&policy.object.meta.location.file),
            line: policy.object.meta.location.line,
        };
        self.policies.values().map(name).collect()
    }

    /// How this set differs from `before`: `+new`, `-gone`, `~other`.
    pub(crate) fn differences(&self, before: &Self) -> Vec<String> {
        let names: BTreeSet<_> = self.policies.keys().chain(before.policies.keys()).collect();
        let text = |set: &Self, name: &Arc<str>| set.policies.get(name).map(|policy| policy.text.clone());
        let changed = names.into_iter().filter_map(|name| match (text(self, name), text(before, name)) {
            (Some(_), None) => Some(format!("+{name}")),
            (None, Some(_)) => Some(format!("-{name}")),
            (now, before) => (now != before).then(|| format!("~{name}")),
        });
        changed.collect()
    }

    /// `objects` with these in the place of the host policies that select `node` there.
    pub(crate) fn impose(&self, objects: &Objects, node: &str) -> Objects {
        let mut all = objects.clone();
        let Some(labels) = labels(objects, node) else { return all };
        for policy in objects.cilium_policies().filter(|policy| is_tried(policy)) {
            if !policy.rules.iter().any(|rule| selects(rule, labels)) {
                continue;
            }
            let mut rest = CiliumNetworkPolicy::clone(policy);
            rest.rules.retain(|rule| !selects(rule, labels));
            let object = Object::CiliumNetworkPolicy(Arc::new(rest));
            if matches!(&object, Object::CiliumNetworkPolicy(rest) if rest.rules.is_empty()) {
                all.remove(&object.key());
            } else {
                all.replace(object);
            }
        }
        for policy in self.policies.values() {
            let object = Object::CiliumNetworkPolicy(Arc::clone(&policy.object));
            if let Err(object) = all.insert(object) {
                let beside = CiliumNetworkPolicy {
                    meta: ObjectMeta {
                        name: format!("{}{BESIDE}", object.meta().name).into(),
                        ..policy.object.meta.clone()
                    },
                    ..CiliumNetworkPolicy::clone(&policy.object)
                };
                all.replace(Object::CiliumNetworkPolicy(Arc::new(beside)));
            }
        }
        all
    }

    /// Every key that imposing them may give, take or change.
    pub(crate) fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        let names = self.policies.keys().flat_map(|name| [Arc::clone(name), format!("{name}{BESIDE}").into()]);
        names.map(|name| ObjectKey { kind: Kind::CiliumClusterwideNetworkPolicy, namespace: "".into(), name })
    }

    /// As a manifest.
    pub(crate) fn to_manifest(&self) -> String {
        let mut text = String::from(
            "# The host policies that were confirmed last on this node, as `strait agent` keeps them. Not a file to edit.\n",
        );
        for policy in self.policies.values() {
            // Writing to a string cannot fail.
            let _ = write!(text, "---\n{}\n", policy.text);
        }
        text
    }

    /// As [`to_manifest`](Self::to_manifest) wrote them; `None` where that is not what this is.
    pub(crate) fn from_manifest(file: &Arc<str>, text: &[u8]) -> Option<Self> {
        let parsed = parse(file, text);
        let all = parsed.objects.len();
        let objects: Objects = parsed.objects.into_iter().collect();
        let policies: Vec<_> = objects.cilium_policies().filter(|policy| policy.clusterwide).cloned().collect();
        // An empty file is one that was cut off.
        let whole = parsed.errors.is_empty() && policies.len() == all && !text.is_empty();
        whole.then(|| Self::new(policies.into_iter().map(|policy| CiliumNetworkPolicy::clone(&policy))))
    }
}

fn labels<'o>(objects: &'o Objects, node: &str) -> Option<&'o Labels> {
    objects.nodes().find(|known| *known.meta.name == *node).map(|node| &node.meta.labels)
}

fn is_tried(policy: &CiliumNetworkPolicy) -> bool {
    let exempt = policy.meta.annotations.get(CONFIRM_ANNOTATION).is_some_and(|value| **value == *"false");
    // One that only reports cuts nobody off.
    policy.clusterwide && !exempt && !audits(&policy.meta)
}

fn selects(rule: &CiliumRule, labels: &Labels) -> bool {
    match &rule.subject {
        CiliumSubject::Endpoints(_) => false,
        CiliumSubject::Nodes(nodes) => cilium_selector::nodes(nodes).is_some_and(|selector| selector.matches(labels)),
    }
}

fn named(name: Arc<str>, location: Location, rules: Vec<CiliumRule>) -> CiliumNetworkPolicy {
    let meta = ObjectMeta {
        name,
        namespace: "".into(),
        labels: Labels::default(),
        annotations: Shared::default(),
        generation: 1,
        created: None,
        location,
    };
    CiliumNetworkPolicy { meta, clusterwide: true, rules }
}

/// What `rule` means for a node that it selects, whatever becomes of that node's labels and of CIDR groups.
fn plain(rule: &CiliumRule, objects: &Objects) -> CiliumRule {
    let mut rule = CiliumRule {
        subject: CiliumSubject::Nodes(CiliumSelector::default()),
        labels: Vec::new(),
        description: None,
        log: None,
        ..rule.clone()
    };
    for section in [&mut rule.ingress, &mut rule.ingress_deny, &mut rule.egress, &mut rule.egress_deny] {
        for traffic in section {
            if let CiliumPeers::CidrSets(sets) = &mut traffic.peers {
                *sets = sets.iter().flat_map(|set| resolved(set, objects)).collect();
            }
        }
    }
    rule
}

/// An entry without its group: an entry for each prefix of it.
fn resolved(set: &CiliumCidrRule, objects: &Objects) -> Vec<CiliumCidrRule> {
    let groups = objects.cilium_cidr_groups();
    let prefixes: Vec<IpNet> = match &set.source {
        CiliumCidrSource::Cidr(_) => return vec![set.clone()],
        CiliumCidrSource::Group(name) => {
            groups.filter(|group| group.meta.name == *name).flat_map(|group| group.external_cidrs.clone()).collect()
        }
        CiliumCidrSource::GroupSelector(selector) => match cilium_selector::objects(selector) {
            None => Vec::new(),
            Some(labels) => groups
                .filter(|group| labels.matches(group.labels()))
                .flat_map(|group| group.external_cidrs.clone())
                .collect(),
        },
    };
    let entry = |prefix: IpNet| {
        // Beside a prefix, exceptions lie inside it; one that is wider leaves nothing.
        let left = !set.except.iter().any(|except| except.contains(&prefix));
        let except = set.except.iter().filter(|except| prefix.contains(*except)).copied().collect();
        left.then(|| CiliumCidrRule { source: CiliumCidrSource::Cidr(prefix), except, location: set.location.clone() })
    };
    prefixes.into_iter().filter_map(entry).collect()
}
