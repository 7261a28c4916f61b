//! Policies, lowered one object at a time.

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{Kind, Object, ObjectKey, Objects};
use strait_base::Labels;

use crate::{
    identity::{self, BaseIdentity},
    lower::{self, Lowered},
    problem::Problem,
    rule::{NamespaceSelector, Policy, Subject},
};

/// Policies in the order of their objects, those of a kind together.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    /// What each object is lowered to, except those of the tiers around.
    lowered: BTreeMap<ObjectKey, Numbered>,
    /// The tiers around, which have one order.
    tiers: Numbered,
    all: Vec<Arc<Policy>>,
    /// Of each in `all`: no two policies have the same, one that changes gets another.
    serials: Vec<u32>,
    /// Those that select endpoints: by the one namespace in which they do, and of namespaces by their labels.
    named: BTreeMap<Arc<str>, Vec<usize>>,
    labelled: Vec<usize>,
    /// Those that select nodes.
    of_nodes: Vec<usize>,
    problems: Vec<Problem>,
    next: u32,
}

#[derive(Clone, Debug, Default)]
struct Numbered {
    policies: Vec<(u32, Arc<Policy>)>,
    problems: Vec<Problem>,
}

/// What became of the indices of policies.
pub(super) struct Moves {
    /// The new index of each old one.
    pub to: Vec<Option<usize>>,
    /// Indices of policies that were not there.
    pub new: Vec<usize>,
}

impl Policies {
    pub(super) fn all(&self) -> &[Arc<Policy>] {
        &self.all
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The policy at an index, and its serial number.
    pub(super) fn get(&self, at: usize) -> Option<(u32, &Arc<Policy>)> {
        Some((*self.serials.get(at)?, self.all.get(at)?))
    }

    /// How many numbers were given.
    pub(super) fn given(&self) -> u32 {
        self.next
    }

    /// Lowers anew what `keys` concern. `None` where nothing is different.
    pub(super) fn update(&mut self, objects: &Objects, keys: &[ObjectKey]) -> Option<Moves> {
        let concerns = Concerns::of(keys);
        if concerns.nothing() {
            return None;
        }
        for key in keys.iter().filter(|key| key.kind == Kind::NetworkPolicy) {
            let lowered = match objects.get(key) {
                Some(Object::NetworkPolicy(policy)) => Some(lower::network_policy(policy)),
                _ => None,
            };
            self.put(key, lowered);
        }
        let cilium: Vec<ObjectKey> = if concerns.references {
            let there = objects.cilium_policies().map(|policy| Object::CiliumNetworkPolicy(Arc::clone(policy)).key());
            let known = self.lowered.keys().filter(|key| is_cilium(key.kind)).cloned();
            there.chain(known).collect()
        } else {
            keys.iter().filter(|key| is_cilium(key.kind)).cloned().collect()
        };
        if !cilium.is_empty() {
            let references = lower::References::new(objects);
            for key in cilium {
                let lowered = match objects.get(&key) {
                    Some(Object::CiliumNetworkPolicy(policy)) => Some(lower::cilium(policy, &references)),
                    _ => None,
                };
                self.put(&key, lowered);
            }
        }
        if concerns.tiers {
            let before = std::mem::take(&mut self.tiers);
            self.tiers = number(&mut self.next, before, lower::tiers(objects));
        }
        self.collect()
    }

    fn put(&mut self, key: &ObjectKey, lowered: Option<Lowered>) {
        let before = self.lowered.remove(key).unwrap_or_default();
        if let Some(lowered) = lowered {
            self.lowered.insert(key.clone(), number(&mut self.next, before, lowered));
        }
    }

    fn collect(&mut self) -> Option<Moves> {
        let of_objects = || self.lowered.values().chain([&self.tiers]);
        let mut problems: Vec<_> = of_objects().flat_map(|numbered| numbered.problems.iter().cloned()).collect();
        problems.sort_unstable();
        problems.dedup();
        let policies = of_objects().flat_map(|numbered| numbered.policies.iter().cloned());
        let (serials, all): (Vec<u32>, Vec<_>) = policies.unzip();
        self.problems = problems;
        if serials == self.serials {
            return None;
        }
        let places: BTreeMap<u32, usize> = serials.iter().enumerate().map(|(at, serial)| (*serial, at)).collect();
        let to: Vec<_> = self.serials.iter().map(|serial| places.get(serial).copied()).collect();
        let mut known = vec![false; serials.len()];
        for at in to.iter().flatten() {
            if let Some(known) = known.get_mut(*at) {
                *known = true;
            }
        }
        let new = known.iter().enumerate().filter(|(_, known)| !**known).map(|(at, _)| at).collect();
        (self.serials, self.all) = (serials, all);
        self.index();
        Some(Moves { to, new })
    }

    fn index(&mut self) {
        self.named.clear();
        self.labelled.clear();
        self.of_nodes.clear();
        for (at, policy) in self.all.iter().enumerate() {
            match policy.subject.endpoints().map(|selector| &selector.namespaces) {
                Some(NamespaceSelector::Named(name)) => self.named.entry(Arc::clone(name)).or_default().push(at),
                Some(NamespaceSelector::Labelled(_)) => self.labelled.push(at),
                None => self.of_nodes.push(at),
            }
        }
    }

    /// Indices of the host policies that select a node with these labels.
    pub(super) fn selecting_node(&self, labels: &Labels) -> Vec<usize> {
        let selects = |at: &&usize| match self.all.get(**at).map(|policy| &policy.subject) {
            Some(Subject::Nodes(selector)) => selector.matches(labels),
            Some(Subject::Endpoints(_)) | None => false,
        };
        self.of_nodes.iter().filter(selects).copied().collect()
    }

    /// Whether something of this namespace is a policy.
    pub(super) fn any_in(&self, namespace: &str) -> bool {
        self.lowered.keys().any(|key| *key.namespace == *namespace)
    }

    /// Indices of the policies that select all pods of a base identity, and of those that have to look at each.
    pub(super) fn selecting(&self, base: &BaseIdentity, namespace_labels: &Labels) -> (Vec<usize>, Vec<usize>) {
        let candidates = self.named.get(&base.namespace).into_iter().flatten().chain(&self.labelled);
        let (mut all, mut each) = (Vec::new(), Vec::new());
        for at in candidates.copied() {
            match self.all.get(at).and_then(|policy| selects(policy, base, namespace_labels)) {
                Some(Selects::All) => all.push(at),
                Some(Selects::Some) => each.push(at),
                None => {}
            }
        }
        (all, each)
    }
}

/// Whom of a base identity a policy selects.
pub(super) enum Selects {
    All,
    /// Those whose labels it has to look at.
    Some,
}

pub(super) fn selects(policy: &Policy, base: &BaseIdentity, namespace_labels: &Labels) -> Option<Selects> {
    let selector = policy.subject.endpoints()?;
    let possible = selector.namespaces.matches(&base.namespace, namespace_labels)
        && selector.matches_account(&base.service_account);
    if !possible {
        None
    } else if identity::refines(&selector.pods) {
        Some(Selects::Some)
    } else {
        selector.pods.matches(&base.labels).then_some(Selects::All)
    }
}

/// Policies that are as before keep their numbers.
fn number(next: &mut u32, before: Numbered, Lowered { policies, problems }: Lowered) -> Numbered {
    let mut before: Vec<_> = before.policies.into_iter().map(Some).collect();
    let policies = policies.into_iter().map(|policy| {
        let same = before.iter_mut().find(|known| known.as_ref().is_some_and(|(_, known)| **known == policy));
        same.and_then(Option::take).unwrap_or_else(|| {
            let serial = *next;
            *next += 1;
            (serial, Arc::new(policy))
        })
    });
    Numbered { policies: policies.collect(), problems }
}

fn is_cilium(kind: Kind) -> bool {
    matches!(kind, Kind::CiliumNetworkPolicy | Kind::CiliumClusterwideNetworkPolicy)
}

/// Which policies objects concern.
struct Concerns {
    /// What policies of Cilium's kinds refer to.
    references: bool,
    tiers: bool,
    policies: bool,
}

impl Concerns {
    fn of(keys: &[ObjectKey]) -> Self {
        let any = |kinds: &[Kind]| keys.iter().any(|key| kinds.contains(&key.kind));
        Self {
            references: any(&[Kind::Service, Kind::EndpointSlice, Kind::CiliumCidrGroup]),
            tiers: any(&[Kind::ClusterNetworkPolicy, Kind::AdminNetworkPolicy, Kind::BaselineAdminNetworkPolicy]),
            policies: any(&[Kind::NetworkPolicy, Kind::CiliumNetworkPolicy, Kind::CiliumClusterwideNetworkPolicy]),
        }
    }

    fn nothing(&self) -> bool {
        !self.references && !self.tiers && !self.policies
    }
}
