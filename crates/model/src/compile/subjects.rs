//! Subjects: endpoints of the node that the same rules are about.

use std::collections::{BTreeMap, BTreeSet};

use strait_base::IdentityId;

use super::{
    Bases, Compilation,
    atoms::{NamedPorts, declared, ports_text},
    group, in_force,
};
use crate::{blocks::BlockIndex, connection::Direction, identity, plan::EndpointPlan, snapshot::Pod};

/// Endpoints with one identity.
pub(super) struct Subject {
    pub identity: IdentityId,
    /// As in [`Snapshot::profile`](crate::Snapshot).
    pub profile: usize,
    /// What they declare under the names that ingress rules about them ask for.
    pub ports: NamedPorts,
}

impl<'a> Compilation<'a> {
    /// Fills the endpoints and gives the subjects, in order of their identities.
    pub(super) fn subjects(&mut self, bases: &Bases<'a>) -> Vec<Subject> {
        let snapshot = self.snapshot;
        let local: Vec<_> = snapshot.pods().filter(|pod| pod.is_endpoint() && self.is_own(pod.node())).collect();
        let mut subjects = BTreeMap::new();
        for ((base, profile), pods) in group(local.into_iter().map(|pod| ((pod.base(), pod.profile()), pod))) {
            let Some((base, number)) = bases.get(base).copied() else { continue };
            let texts = self.refining_subjects(profile);
            let asked = self.names_asked_at(profile);
            let by_ports = group(pods.into_iter().map(|pod| (declared(pod, &asked), pod)));
            let ports_differ = by_ports.len() > 1;
            for (ports, pods) in by_ports {
                let mut by = texts.clone();
                if ports_differ {
                    by.push(format!("as subject {}", ports_text(&ports)));
                }
                let identity = self.refine(base, number, by, (&BlockIndex::default(), 0));
                for Pod { key, addresses, .. } in pods {
                    let endpoint = EndpointPlan { identity, addresses: addresses.clone() };
                    self.plan.endpoints.insert(key.clone(), endpoint);
                }
                subjects.insert(identity, Subject { identity, profile, ports });
            }
        }
        subjects.into_values().collect()
    }

    /// The selectors of a profile's policies that tell pods of one base identity apart, as text.
    fn refining_subjects(&self, profile: usize) -> Vec<String> {
        let policies = self.snapshot.profile(profile).iter().filter_map(|index| self.snapshot.policies().get(*index));
        let subjects = policies.filter_map(|policy| policy.subject.endpoints()).map(|selector| &selector.pods);
        let refining = subjects.filter(|pods| identity::refines(pods));
        let texts: BTreeSet<_> = refining.map(|pods| format!("selected as subject by {pods}")).collect();
        texts.into_iter().collect()
    }

    /// The port names that ingress rules of a profile's policies ask for.
    fn names_asked_at(&self, profile: usize) -> BTreeSet<in_force::PortName<'a>> {
        let snapshot = self.snapshot;
        let policies = snapshot.profile(profile).iter().filter_map(|index| snapshot.policies().get(*index));
        let rules = policies.flat_map(|policy| &policy.rules).filter(|rule| rule.direction == Direction::Ingress);
        rules.flat_map(in_force::names_of).collect()
    }
}
