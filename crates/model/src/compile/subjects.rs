//! Subjects: endpoints of the node that the same rules are about, and the node itself.

use std::collections::BTreeMap;

use strait_base::IdentityId;

use super::{
    Update,
    atoms::{NamedPorts, declared, ports_text},
    fixed::describe,
    group,
};
use crate::{blocks::BlockSet, plan::EndpointPlan, snapshot::Pod};

/// By base and profile, and by what they declare under the names that ingress rules about them ask for.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    all: BTreeMap<(u32, u32), BTreeMap<NamedPorts, Subject>>,
}

/// Endpoints with one identity.
#[derive(Debug)]
struct Subject {
    identity: IdentityId,
    /// How many.
    pods: usize,
}

/// What the rows of a subject depend on: its profile, and its named ports.
pub(super) type RowsOf = (u32, NamedPorts);

/// Subjects whose rows are others now: which they had, and which they have.
pub(super) type Links = BTreeMap<IdentityId, (Option<RowsOf>, Option<RowsOf>)>;

impl Update<'_> {
    /// An endpoint of the node as it was is there no more.
    pub(super) fn leave_subject(&mut self, pod: &Pod) {
        if self.plan.endpoints.remove(&pod.key).is_some() {
            self.delta.endpoints.insert(pod.key.clone());
        }
        let pair = (pod.base(), pod.profile());
        let Some(profile) = self.state.profiles.get(pod.profile()) else { return };
        let ports = declared(pod, &profile.asked);
        match self.state.subjects.all.get_mut(&pair).and_then(|subjects| subjects.get_mut(&ports)) {
            Some(subject) if subject.pods > 1 => subject.pods -= 1,
            Some(_) | None => {
                self.touched_subjects.insert(pair);
            }
        }
    }

    /// Puts endpoints of the node that are new or others among the subjects, and works out anew which of them are touched.
    pub(super) fn settle_subjects(&mut self) -> Links {
        let snapshot = self.snapshot;
        for key in std::mem::take(&mut self.joining_subjects) {
            let Some(pod) = snapshot.pod(&key) else { continue };
            let pair = (pod.base(), pod.profile());
            let Some(profile) = self.state.profiles.get(pod.profile()) else { continue };
            if self.touched_subjects.contains(&pair) {
                continue;
            }
            let ports = declared(pod, &profile.asked);
            let subject = self.state.subjects.all.get_mut(&pair).and_then(|subjects| subjects.get_mut(&ports));
            if let Some(subject) = subject {
                subject.pods += 1;
                let identity = subject.identity;
                self.set_endpoint(pod, identity);
            } else {
                self.touched_subjects.insert(pair);
            }
        }
        let mut links = Links::new();
        for pair in std::mem::take(&mut self.touched_subjects) {
            self.regroup_subjects(pair, &mut links);
        }
        self.settle_host(&mut links);
        links
    }

    /// The node itself, where host policies select it. It names no ports.
    fn settle_host(&mut self, links: &mut Links) {
        let (before, now) = (self.host_before, self.state.host);
        if before == now {
            return;
        }
        if now.is_some() {
            let host = IdentityId::HOST;
            self.use_identity(host, |_| describe(host, host, Vec::new(), Vec::new()));
        }
        if before.is_some() {
            self.state.identities.remove(IdentityId::HOST);
        }
        let rows = |profile: Option<u32>| profile.map(|profile| (profile, NamedPorts::new()));
        links.insert(IdentityId::HOST, (rows(before), rows(now)));
    }

    fn regroup_subjects(&mut self, pair: (u32, u32), links: &mut Links) {
        let (base, profile) = pair;
        let snapshot = self.snapshot;
        let old = self.state.subjects.all.remove(&pair).unwrap_or_default();
        let mut new = BTreeMap::new();
        if let (Some(known), Some(in_force)) = (snapshot.bases().get(base), self.state.profiles.get(profile)) {
            let pods = known.pods.iter().filter_map(|key| snapshot.pod(key));
            let own = |pod: &&Pod| pod.is_endpoint() && pod.profile() == profile && self.is_own(pod.node());
            let by_ports = group(pods.filter(own).map(|pod| (declared(pod, &in_force.asked), pod)));
            let ports_differ = by_ports.len() > 1;
            let refining = in_force.refining.clone();
            for (ports, pods) in by_ports {
                let mut by = refining.clone();
                if ports_differ {
                    by.push(format!("as subject {}", ports_text(&ports)));
                }
                let identity = self.refine(base, by, &BlockSet::new());
                for pod in &pods {
                    self.set_endpoint(pod, identity);
                }
                links.entry(identity).or_default().1 = Some((profile, ports.clone()));
                new.insert(ports, Subject { identity, pods: pods.len() });
            }
        }
        for (ports, subject) in old {
            self.state.identities.remove(subject.identity);
            links.entry(subject.identity).or_default().0 = Some((profile, ports));
        }
        if !new.is_empty() {
            self.state.subjects.all.insert(pair, new);
        }
    }

    fn set_endpoint(&mut self, pod: &Pod, identity: IdentityId) {
        let endpoint = EndpointPlan { identity, addresses: pod.addresses().to_vec() };
        if self.plan.endpoints.get(&pod.key) != Some(&endpoint) {
            self.plan.endpoints.insert(pod.key.clone(), endpoint);
            self.delta.endpoints.insert(pod.key.clone());
        }
    }
}
