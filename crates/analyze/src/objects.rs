//! Objects that policies refer to, services, kinds, audits, and what is not enforced as it is written.

use std::collections::BTreeSet;

use strait_api::{
    CiliumCidrSource, CiliumEntity, CiliumPeers, CiliumService, ClusterPolicyKind, Kind, Object, PortRef, Service,
};
use strait_model::{Direction, Lack, cilium_selector, rule::Effect};

use crate::{
    Context, Report,
    cluster::Group,
    codes,
    finding::{Code, ObjectRef},
    near::nearest,
    place::At,
    views::{PolicyView, RuleView, WrittenRule},
};

const AUDIT: &str = "strait.dev/audit";

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    for view in &context.policies {
        for rule in &view.rules {
            if let WrittenRule::Cilium(written) = rule.written {
                match &written.peers {
                    CiliumPeers::CidrSets(_) => cidr_groups(context, view, rule, report),
                    CiliumPeers::Services(list) => to_services(context, view, rule, list, report),
                    CiliumPeers::Entities(list) if view.endpoints().is_some() => entities(view, rule, list, report),
                    CiliumPeers::Any
                    | CiliumPeers::Endpoints(_)
                    | CiliumPeers::Cidrs(_)
                    | CiliumPeers::Entities(_)
                    | CiliumPeers::Nodes(_)
                    | CiliumPeers::Fqdns(_)
                    | CiliumPeers::Groups(_) => {}
                }
            }
        }
    }
    unused_groups(context, report);
    kinds(context, report);
    problems(context, report);
    if !context.cluster.groups.is_empty() {
        for service in context.declared.services() {
            self::service(context, service, report);
        }
    }
}

/// Policies alone: what they select is not known.
pub(crate) fn no_pods(context: &Context<'_>, report: &mut Report<'_>) {
    let first = context.policies.iter().min_by_key(|view| view.at.base());
    if let Some(view) = first {
        let message =
            "there is no pod in these manifests: whom selectors select, ports and isolation were not looked at";
        let remedy = "analyze the policies together with the workloads (-f may be repeated)";
        report.add(&codes::NO_PODS, &view.object, &At::new(view.at.base()), message, remedy);
    }
}

fn cidr_groups(context: &Context<'_>, view: &PolicyView<'_>, rule: &RuleView<'_>, report: &mut Report<'_>) {
    let WrittenRule::Cilium(written) = rule.written else { return };
    let CiliumPeers::CidrSets(sets) = &written.peers else { return };
    let groups = || context.objects.cilium_cidr_groups();
    let verb = if rule.has(Effect::Deny) { "denies" } else { "allows" };
    for set in sets {
        let at = At::new(&set.location);
        match &set.source {
            CiliumCidrSource::Cidr(_) => {}
            CiliumCidrSource::Group(name) => {
                if !groups().any(|group| group.meta.name == *name) {
                    let remedy = match nearest(name, groups().map(|group| &*group.meta.name)) {
                        Some(meant) => format!("did you mean {meant}?"),
                        None => "create it, or correct the name".to_owned(),
                    };
                    let message = format!("there is no CiliumCIDRGroup {name}: the rule {verb} nobody by it");
                    report.add(&codes::CIDR_GROUP_MISSING, &view.object, &at.field("cidrGroupRef"), message, remedy);
                }
            }
            CiliumCidrSource::GroupSelector(selector) => {
                let labels = cilium_selector::objects(selector);
                let selected =
                    |labels: &strait_base::LabelSelector| groups().any(|group| labels.matches(group.labels()));
                if !labels.as_ref().is_some_and(selected) {
                    let message = format!("no CiliumCIDRGroup has the labels {selector}: the rule {verb} nobody by it");
                    let remedy = "correct the labels, or give them to the groups that are meant";
                    let at = at.field("cidrGroupSelector");
                    report.add(&codes::CIDR_GROUP_SELECTOR_SELECTS_NOTHING, &view.object, &at, message, remedy);
                }
            }
        }
    }
}

fn unused_groups(context: &Context<'_>, report: &mut Report<'_>) {
    let mut names = BTreeSet::new();
    let mut selectors = Vec::new();
    for rule in context.policies.iter().flat_map(|view| &view.rules) {
        let WrittenRule::Cilium(written) = rule.written else { continue };
        let CiliumPeers::CidrSets(sets) = &written.peers else { continue };
        for set in sets {
            match &set.source {
                CiliumCidrSource::Cidr(_) => {}
                CiliumCidrSource::Group(name) => _ = names.insert(&**name),
                CiliumCidrSource::GroupSelector(selector) => selectors.extend(cilium_selector::objects(selector)),
            }
        }
    }
    for group in context.declared.cilium_cidr_groups() {
        let used = names.contains(&*group.meta.name) || selectors.iter().any(|labels| labels.matches(group.labels()));
        if !used {
            let object = ObjectRef::new(Kind::CiliumCidrGroup, &group.meta);
            let message = "no policy refers to this group";
            let at = At::new(&group.meta.location);
            report.add(&codes::CIDR_GROUP_UNUSED, &object, &at, message, "refer to it by cidrGroupRef, or remove it");
        }
    }
}

fn to_services(
    context: &Context<'_>,
    view: &PolicyView<'_>,
    rule: &RuleView<'_>,
    list: &[CiliumService],
    report: &mut Report<'_>,
) {
    let services = || context.objects.services().map(|service| &**service);
    let within = |namespace: &Option<std::sync::Arc<str>>, service: &Service| {
        namespace.as_ref().is_none_or(|namespace| *namespace == service.meta.namespace)
    };
    for (entry, one) in list.iter().enumerate() {
        let at = rule.peers_at.item(entry);
        let (found, at, what, meant): (Vec<&Service>, At, String, Option<String>) = match one {
            CiliumService::Named { name, namespace } => {
                let found = services().filter(|service| service.meta.name == *name && within(namespace, service));
                let near = nearest(name, services().filter(|one| within(namespace, one)).map(|one| &*one.meta.name));
                let elsewhere = services().find(|service| service.meta.name == *name);
                let meant = near.map(|meant| format!("did you mean {meant}?")).or_else(|| {
                    elsewhere.map(|service| format!("one of this name is in namespace {}", service.meta.namespace))
                });
                let whose = namespace.as_ref().map_or(String::new(), |namespace| format!("{namespace}/"));
                (found.collect(), at.field("k8sService.serviceName"), format!("Service {whose}{name}"), meant)
            }
            CiliumService::Selected { selector, namespace } => {
                let labels = cilium_selector::objects(selector);
                let matches = |service: &&Service| {
                    labels.as_ref().is_some_and(|labels| labels.matches(&service.meta.labels))
                        && within(namespace, service)
                };
                let what = format!("Service with the labels {selector}");
                (services().filter(matches).collect(), at.field("k8sServiceSelector"), what, None)
            }
        };
        if found.is_empty() {
            let message = format!("there is no {what}: the rule is about nobody by it");
            let remedy = meant.unwrap_or_else(|| "create it, or correct the name or labels".to_owned());
            report.add(&codes::SERVICE_MISSING, &view.object, &at, message, remedy);
        } else if !rule.lowered.is_empty()
            && rule.peers.iter().flatten().nth(entry).is_some_and(|peer| peer.means.is_empty())
        {
            let message = format!(
                "{what} has neither a selector nor addresses in EndpointSlices: the rule is about nobody by it"
            );
            let remedy = "give the Service a selector, or write its EndpointSlice";
            report.add(&codes::SERVICE_WITHOUT_BACKENDS, &view.object, &at, message, remedy);
        }
    }
}

fn entities(view: &PolicyView<'_>, rule: &RuleView<'_>, list: &[CiliumEntity], report: &mut Report<'_>) {
    if !rule.opens() {
        return;
    }
    for (entry, entity) in list.iter().enumerate() {
        if matches!(entity, CiliumEntity::Init | CiliumEntity::Health | CiliumEntity::Ingress) {
            let message = format!("nobody here is the entity {entity}: the rule allows nobody by it");
            let at = rule.peers_at.item(entry);
            report.add(&codes::ENTITY_IS_NOBODY, &view.object, &at, message, "name who is meant, or remove it");
        }
    }
}

fn service(context: &Context<'_>, service: &Service, report: &mut Report<'_>) {
    if service.selector.0.is_empty() || service.external_name.is_some() {
        return;
    }
    let object = ObjectRef::new(Kind::Service, &service.meta);
    let at = At::new(&service.meta.location).field("spec");
    let groups = backends(context, service);
    if groups.is_empty() {
        let host = context.snapshot.pods().any(|pod| {
            pod.key.namespace == service.meta.namespace
                && !pod.is_endpoint()
                && service.selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
        });
        if host {
            return;
        }
        let own = || context.cluster.in_namespace(&service.meta.namespace);
        let meant = service.selector.iter().find_map(|(key, value)| {
            let values = own().filter_map(|group| group.labels.get(key)).collect::<BTreeSet<_>>();
            (!values.contains(value)).then(|| nearest(value, values).map(|meant| (key, meant)))?
        });
        let remedy = match meant {
            Some((key, meant)) => format!("did you mean {key}: {meant}?"),
            None => "correct the selector, or the labels of the pods".to_owned(),
        };
        let message = format!(
            "no pod of namespace {} has {}: the Service leads nowhere",
            service.meta.namespace, service.selector
        );
        report.add(&codes::SERVICE_SELECTS_NOTHING, &object, &at.field("selector"), message, remedy);
        return;
    }
    for (index, port) in service.ports.iter().enumerate() {
        let PortRef::Name(name) = &port.target_port else { continue };
        let declared = || groups.iter().flat_map(|group| &group.ports);
        if !declared().any(|(known, protocol, _)| *known == Some(&**name) && *protocol == port.protocol) {
            let names: BTreeSet<&str> = declared().filter_map(|(name, ..)| *name).collect();
            let remedy = match nearest(name, names) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "name the port in the containers, or write its number".to_owned(),
            };
            let message = format!("no pod that it selects declares a {} port named {name}", port.protocol);
            let at = at.field("ports").item(index).field("targetPort");
            report.add(&codes::SERVICE_TARGET_PORT, &object, &at, message, remedy);
        }
    }
}

/// The pods that a Service selects.
pub(crate) fn backends<'a>(context: &'a Context<'_>, service: &Service) -> Vec<&'a Group<'a>> {
    let selected =
        |group: &&Group<'_>| service.selector.iter().all(|(key, value)| group.labels.get(key) == Some(value));
    context.cluster.in_namespace(&service.meta.namespace).filter(selected).collect()
}

fn kinds(context: &Context<'_>, report: &mut Report<'_>) {
    for object in context.declared.cluster_policies() {
        let instead = match object.kind {
            ClusterPolicyKind::ClusterNetworkPolicy => continue,
            ClusterPolicyKind::AdminNetworkPolicy => "tier: Admin",
            ClusterPolicyKind::BaselineAdminNetworkPolicy => "tier: Baseline",
        };
        let message = "ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) has taken the place of this kind, which upstream develops no further";
        let remedy = format!("write a ClusterNetworkPolicy with {instead}");
        let at = At::new(&object.meta.location).field("kind");
        report.add(&codes::KIND_SUPERSEDED, &ObjectRef::new(object.kind.kind(), &object.meta), &at, message, remedy);
    }
    for object in context.declared.cilium_cidr_groups() {
        let at = At::new(&object.meta.location).field("apiVersion");
        if report.files.exactly(&at).and_then(|place| place.text()) == Some("cilium.io/v2alpha1") {
            let message = "cilium.io/v2 has taken the place of this version";
            let object = ObjectRef::new(Kind::CiliumCidrGroup, &object.meta);
            report.add(&codes::KIND_SUPERSEDED, &object, &at, message, "write apiVersion: cilium.io/v2");
        }
    }
    for object in context.declared.iter().filter(|object| object.kind().is_policy()) {
        audit(object, report);
    }
}

fn audit(object: &Object, report: &mut Report<'_>) {
    let meta = object.meta();
    let Some(value) = meta.annotations.get(AUDIT) else { return };
    let at = At::new(&meta.location).field("metadata.annotations").key(AUDIT);
    let named = ObjectRef::new(object.kind(), meta);
    if **value == *"true" {
        let message = "the policy reports what it would deny, and neither denies nor allows anything";
        let remedy = "remove the annotation when its reports are as they should be";
        report.add(&codes::AUDIT_ONLY, &named, &at, message, remedy);
    } else if **value != *"false" {
        let message = format!("the value {value:?} does not turn auditing on: the policy is enforced");
        report.add(&codes::AUDIT_VALUE, &named, &at, message, "write \"true\", or remove the annotation");
    }
}

fn problems(context: &Context<'_>, report: &mut Report<'_>) {
    for problem in context.snapshot.problems() {
        let (code, message, remedy): (&'static Code, &str, &str) = match problem.lacks {
            Lack::Proxy => (
                &codes::L7_NOT_ENFORCED,
                "L7 rules, server names, TLS contexts and listeners are not enforced yet: what they are about is denied",
                "allow the port without them if that is enough",
            ),
            Lack::Authentication => (
                &codes::AUTHENTICATION_NOT_ENFORCED,
                "authentication is not enforced yet: what the rule is about is denied",
                "allow it without if that is enough",
            ),
            Lack::DomainNames => (
                &codes::DOMAIN_NAMES_NOT_ENFORCED,
                "domain names are not enforced yet: the rule allows nobody by them",
                "name the addresses, if they are known and stay",
            ),
            Lack::CloudGroups => (
                &codes::CLOUD_GROUPS_NOT_RESOLVED,
                "security groups of a cloud are not resolved: they stand for nobody, in a deny for everyone outside",
                "name the addresses",
            ),
        };
        let object =
            ObjectRef { kind: problem.kind.clone(), namespace: problem.namespace.clone(), name: problem.name.clone() };
        report.add(code, &object, &At::new(&problem.location), message, remedy);
    }
}

/// The name of a direction's section in `spec`.
pub(crate) const fn section(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
