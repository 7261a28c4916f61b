//! Selectors that select nobody, and why.

use std::{collections::BTreeSet, sync::Arc};

use strait_api::{CiliumSelector, CiliumSource, CiliumSubject};
use strait_base::{LabelSelector, Labels, Operator, Requirement};
use strait_model::rule::{EndpointSelector, NamespaceSelector, PeerSelector, Subject};

use crate::{
    Context, Report,
    cluster::{Group, is_system, names_dns},
    codes,
    finding::Code,
    near::nearest,
    place::At,
    views::{PeerView, PolicyView, SelectorAt, Written, WrittenRule},
};

const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Why a selector selects nobody.
struct Cause {
    /// `None`: what the caller says.
    code: Option<&'static Code>,
    at: At,
    found: String,
    remedy: String,
}

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    for view in &context.policies {
        subject(context, view, report);
        for rule in view.rules.iter().filter(|rule| !rule.lowered.is_empty()) {
            let allows = if rule.opens() { "allows" } else { "denies" };
            for peer in rule.peers.iter().flatten() {
                // What it was meant to be says already whom it misses.
                if !report.has(&codes::SPLIT_PEER, &peer.at) {
                    self::peer(context, view, peer, (allows, rule.written), report);
                }
            }
        }
    }
}

fn subject(context: &Context<'_>, view: &PolicyView<'_>, report: &mut Report<'_>) {
    let namespace = &view.object.namespace;
    if !namespace.is_empty() && !context.cluster.has_namespace(namespace) {
        let known = context.cluster.namespaces.iter().map(|name| &**name);
        let remedy = match nearest(namespace, known) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "create the namespace, or move the policy to where its pods are".to_owned(),
        };
        let at = match view.written {
            Written::Kubernetes(object) => At::new(&object.meta.location),
            Written::Cilium(object, _) => At::new(&object.meta.location),
            Written::Cluster(object) => At::new(&object.meta.location),
        };
        let message =
            format!("the namespace {namespace} does not exist in these manifests: the policy selects nothing");
        report.add(&codes::NAMESPACE_UNKNOWN, &view.object, &at.field("metadata.namespace"), message, remedy);
        return;
    }
    let Some(policy) = view.policy else {
        if subject_of(view).is_some_and(has_unknown_source) {
            return;
        }
        let message = "the selector asks for labels that no pod can have: the policy is about nobody";
        let remedy = "use labels of pods, without a source or with k8s:";
        report.add(&codes::SUBJECT_SELECTS_NOTHING, &view.object, &view.subject.pods, message, remedy);
        return;
    };
    match &policy.subject {
        Subject::Nodes(labels) => nodes(context, view, labels, &view.subject.pods, report),
        Subject::Endpoints(selector) => {
            let kubernetes = matches!(view.written, Written::Kubernetes(_));
            if let Some(cause) = diagnose(context, selector, &view.subject, kubernetes) {
                let code = cause.code.unwrap_or(&codes::SUBJECT_SELECTS_NOTHING);
                let message = format!("{}: the policy is about nobody, and isolates nobody", cause.found);
                report.add(code, &view.object, &cause.at, message, cause.remedy);
            }
            odd_values(context, view, selector, &view.subject, report);
        }
    }
}

fn nodes(context: &Context<'_>, view: &PolicyView<'_>, labels: &LabelSelector, at: &At, report: &mut Report<'_>) {
    // Nodes that no manifest declares have labels that nobody here knows.
    let declared = context.declared.nodes().next().is_some();
    if declared && !context.snapshot.nodes().any(|node| labels.matches(&node.labels)) {
        let message = format!("no node has the labels {labels}");
        let remedy = "correct the labels, or label the nodes";
        report.add(&codes::NODE_SELECTOR_SELECTS_NOTHING, &view.object, at, message, remedy);
    }
}

fn peer(
    context: &Context<'_>,
    view: &PolicyView<'_>,
    peer: &PeerView<'_>,
    (allows, written): (&str, WrittenRule<'_>),
    report: &mut Report<'_>,
) {
    let reserved = peer.cilium.is_some_and(|selector| selector.keys().any(|key| key.source == CiliumSource::Reserved));
    if peer.cilium.is_some_and(|selector| !has_unknown_source(selector)) && peer.means.is_empty() && !reserved {
        let message = format!("the selector asks for labels that no pod can have: the rule {allows} nobody by it");
        let remedy = "use labels of pods, without a source or with k8s:";
        report.add(&codes::PEER_SELECTS_NOTHING, &view.object, &peer.at, message, remedy);
    }
    for means in &peer.means {
        match (means, &peer.selector) {
            (PeerSelector::Nodes(labels), _) => nodes(context, view, labels, &peer.at, report),
            (PeerSelector::Endpoints(selector), Some(at)) if !reserved => {
                let kubernetes = matches!(written, WrittenRule::Kubernetes(_));
                if let Some(cause) = diagnose(context, selector, at, kubernetes) {
                    let code = cause.code.unwrap_or(&codes::PEER_SELECTS_NOTHING);
                    let message = format!("{}: the rule {allows} nobody by this peer", cause.found);
                    report.add(code, &view.object, &cause.at, message, cause.remedy);
                }
                odd_values(context, view, selector, at, report);
            }
            _ => {}
        }
    }
}

/// Whether it asks for labels of a source that reading the manifest has already said nothing has.
fn has_unknown_source(selector: &CiliumSelector) -> bool {
    selector.keys().any(|key| matches!(key.source, CiliumSource::Other(_)))
}

fn subject_of<'a>(view: &PolicyView<'a>) -> Option<&'a CiliumSelector> {
    match view.written {
        Written::Cilium(_, spec) => match &spec.subject {
            CiliumSubject::Endpoints(selector) | CiliumSubject::Nodes(selector) => Some(selector),
        },
        Written::Kubernetes(_) | Written::Cluster(_) => None,
    }
}

/// Why `selector` selects nobody; `None` where it selects somebody, or where these manifests cannot tell.
fn diagnose(context: &Context<'_>, selector: &EndpointSelector, at: &SelectorAt, kubernetes: bool) -> Option<Cause> {
    if !context.cluster.select(selector).is_empty() {
        return None;
    }
    // A Kubernetes policy that asks for Cilium's keys has another mistake.
    let keys = || wanted(&selector.pods).map(|(requirement, _)| requirement.key);
    if names_dns(&selector.pods) && !(kubernetes && keys().any(|key| is_cilium(&key))) {
        return match &selector.namespaces {
            NamespaceSelector::Named(name) if !is_system(name) => Some(Cause {
                code: None,
                at: at.pods.clone(),
                found: format!(
                    "no pod in namespace {name} is a name server, and this selector means that namespace only"
                ),
                remedy: format!("select the namespace of the name servers too, by {NAMESPACE_NAME}: kube-system"),
            }),
            NamespaceSelector::Named(_) | NamespaceSelector::Labelled(_) => None,
        };
    }
    let namespaces = context.cluster.namespaces_of(&selector.namespaces);
    if namespaces.is_empty() {
        return match &selector.namespaces {
            NamespaceSelector::Named(_) => None,
            NamespaceSelector::Labelled(labels) => no_namespace(context, labels, at),
        };
    }
    let empty = |name: &&str| context.cluster.in_namespace(name).next().is_none();
    let all_empty = namespaces.iter().all(empty);
    if all_empty && (namespaces.iter().all(|name| is_system(name)) || is_everything(selector)) {
        return None;
    }
    host_network(context, selector, &namespaces, at)
        .or_else(|| requirements(context, selector, &namespaces, at, kubernetes))
        .or_else(|| account(context, selector, &namespaces, at))
        .or_else(|| {
            Some(Cause {
                code: None,
                at: at.pods.clone(),
                found: if all_empty {
                    format!("there is no pod in {}", list(&namespaces))
                } else {
                    format!("no pod in {} has all of {} together", list(&namespaces), selector.pods)
                },
                remedy: "correct the selector, or remove what it is in".to_owned(),
            })
        })
}

fn is_everything(selector: &EndpointSelector) -> bool {
    selector.pods.is_empty() && selector.accounts.is_empty()
}

/// Whether only Cilium's selectors know labels of this key.
fn is_cilium(key: &str) -> bool {
    key.starts_with("io.cilium.k8s.") || key == "io.kubernetes.pod.namespace"
}

/// What a selector asks for, with the values that would do; where these are empty, any would.
fn wanted(selector: &LabelSelector) -> impl Iterator<Item = (Requirement, Vec<Arc<str>>)> {
    let labels = selector.match_labels.0.iter().map(|(key, value)| {
        let operator = Operator::In(vec![Arc::clone(value)]);
        (Requirement { key: Arc::clone(key), operator }, vec![Arc::clone(value)])
    });
    labels.chain(selector.match_expressions.iter().map(|requirement| {
        let values = match &requirement.operator {
            Operator::In(values) => values.clone(),
            Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => Vec::new(),
        };
        (requirement.clone(), values)
    }))
}

fn text(requirement: &Requirement) -> String {
    match &requirement.operator {
        Operator::In(values) if values.len() == 1 => {
            format!("{}={}", requirement.key, values.first().map_or("", |value| value))
        }
        Operator::In(_) | Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => {
            LabelSelector { match_labels: Labels::default(), match_expressions: vec![requirement.clone()] }.to_string()
        }
    }
}

fn list(names: &[&str]) -> String {
    const LISTED: usize = 3;
    match names {
        [one] => format!("namespace {one}"),
        few if few.len() <= LISTED => format!("namespaces {}", few.join(", ")),
        many => format!("the {} namespaces selected", many.len()),
    }
}

fn no_namespace(context: &Context<'_>, labels: &LabelSelector, at: &SelectorAt) -> Option<Cause> {
    let cluster = &context.cluster;
    let values: Vec<Arc<str>> = wanted(labels).flat_map(|(_, values)| values).collect();
    let by_name = wanted(labels).find(|(requirement, _)| &*requirement.key == NAMESPACE_NAME);
    let declared = context.declared.namespaces().next().is_some();
    if by_name.as_ref().is_some_and(|(_, values)| values.iter().any(|value| is_system(value))) {
        return None;
    }
    let system = values.iter().find(|value| is_system(value));
    if by_name.is_none() && !declared && system.is_none() {
        // Nobody says which labels the namespaces have.
        return None;
    }
    if by_name.as_ref().is_some_and(|(_, values)| values.iter().any(|value| cluster.has_namespace(value)))
        && labels.match_labels.0.len() == 1
    {
        return None;
    }
    let known: Vec<(&Arc<str>, &Labels)> =
        context.snapshot.namespaces().filter(|(name, _)| cluster.has_namespace(name)).collect();
    let unmet = wanted(labels).find(|(one, _)| !known.iter().any(|(_, labels)| one.matches(labels)));
    let Some((requirement, values)) = unmet else {
        return Some(Cause {
            code: Some(&codes::NAMESPACE_SELECTOR_SELECTS_NOTHING),
            at: at.namespaces.clone(),
            found: format!("no namespace has all of {labels} together"),
            remedy: "correct the selector, or label the namespace".to_owned(),
        });
    };
    let present: BTreeSet<&str> = known.iter().filter_map(|(_, labels)| labels.get(&requirement.key)).collect();
    let names: BTreeSet<&str> = known.iter().map(|(name, _)| &***name).collect();
    let meant = values.iter().find_map(|value| nearest(value, present.iter().copied()));
    let by_another_key = values.iter().find(|value| names.contains(&***value) && &*requirement.key != NAMESPACE_NAME);
    let remedy = if let Some(name) = system.filter(|_| by_name.is_none()) {
        format!("write {NAMESPACE_NAME}: {name}, which every namespace has; or declare the namespace with that label")
    } else if let Some(meant) = meant {
        format!("did you mean {}={meant}?", requirement.key)
    } else if let Some(name) = by_another_key {
        format!(
            "the namespace {name} does not have that label; write {NAMESPACE_NAME}: {name}, which every namespace has"
        )
    } else if let Some(pods) = pods_with(context, &requirement) {
        format!("pods have it ({pods}): write podSelector for labels of pods, or label the namespace")
    } else {
        match nearest(&requirement.key, known.iter().flat_map(|(_, labels)| labels.iter().map(|(key, _)| key))) {
            Some(key) => format!("did you mean the key {key}?"),
            None => "correct the label, or give it to the namespace that is meant".to_owned(),
        }
    };
    Some(Cause {
        code: Some(&codes::NAMESPACE_SELECTOR_SELECTS_NOTHING),
        at: label_at(&at.namespaces, labels, &requirement),
        found: match values.as_slice() {
            [name] if &*requirement.key == NAMESPACE_NAME => format!("there is no namespace {name}"),
            _ => format!("no namespace has the label {}", text(&requirement)),
        },
        remedy,
    })
}

/// Some pods that meet a requirement, named.
fn pods_with(context: &Context<'_>, requirement: &Requirement) -> Option<String> {
    let group = context.cluster.groups.iter().find(|group| requirement.matches(&group.labels))?;
    Some(format!("{} …", group.name()))
}

fn label_at(selector: &At, of: &LabelSelector, requirement: &Requirement) -> At {
    if of.match_labels.get(&requirement.key).is_some() {
        return selector.field("matchLabels").key(&requirement.key);
    }
    match of.match_expressions.iter().position(|one| one == requirement) {
        Some(index) => selector.field("matchExpressions").item(index),
        None => selector.clone(),
    }
}

fn host_network(
    context: &Context<'_>,
    selector: &EndpointSelector,
    namespaces: &[&str],
    at: &SelectorAt,
) -> Option<Cause> {
    if selector.pods.is_empty() {
        return None;
    }
    let pod = context.snapshot.pods().find(|pod| {
        pod.host_network() && namespaces.contains(&&*pod.key.namespace) && selector.pods.matches(pod.labels())
    })?;
    Some(Cause {
        code: Some(&codes::HOST_NETWORK),
        at: at.pods.clone(),
        found: format!("pods with these labels ({} …) use the host's network and count as their nodes", pod.key),
        remedy: "use entities or labels of nodes, a host policy, or take the pods off the host's network".to_owned(),
    })
}

fn account(context: &Context<'_>, selector: &EndpointSelector, namespaces: &[&str], at: &SelectorAt) -> Option<Cause> {
    let names: Vec<Arc<str>> = selector
        .accounts
        .iter()
        .flat_map(|operator| match operator {
            Operator::In(names) => names.clone(),
            Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => Vec::new(),
        })
        .collect();
    let groups = || namespaces.iter().flat_map(|name| context.cluster.in_namespace(name));
    let name = names.iter().find(|name| !groups().any(|group| *group.account == **name))?;
    let accounts: BTreeSet<&str> = groups().map(|group| &**group.account).collect();
    Some(Cause {
        code: Some(&codes::SERVICE_ACCOUNT_UNKNOWN),
        at: at.pods.field("matchLabels").key("io.cilium.k8s.policy.serviceaccount"),
        found: format!("no pod in {} runs as the service account {name}", list(namespaces)),
        remedy: match nearest(name, accounts) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "correct the name, or set serviceAccountName of the pods".to_owned(),
        },
    })
}

/// The first requirement that no pod of the namespaces meets.
fn requirements(
    context: &Context<'_>,
    selector: &EndpointSelector,
    namespaces: &[&str],
    at: &SelectorAt,
    kubernetes: bool,
) -> Option<Cause> {
    let groups: Vec<&Group<'_>> = namespaces.iter().flat_map(|name| context.cluster.in_namespace(name)).collect();
    let unmet = || wanted(&selector.pods).filter(|(one, _)| !groups.iter().any(|group| one.matches(&group.labels)));
    let foreign = unmet().find(|(one, _)| kubernetes && is_cilium(&one.key));
    let (requirement, values) = foreign.or_else(|| unmet().next())?;
    let found = format!("no pod in {} has {}", list(namespaces), text(&requirement));
    let place = label_at(&at.pods, &selector.pods, &requirement);
    if kubernetes && is_cilium(&requirement.key) {
        let remedy = "use namespaceSelector in a NetworkPolicy, or write a CiliumNetworkPolicy".to_owned();
        return Some(Cause { code: Some(&codes::CILIUM_KEY), at: place, found, remedy });
    }
    let remedy = suggestion(context, selector, &groups, &requirement, &values);
    Some(Cause { code: None, at: place, found, remedy })
}

fn suggestion(
    context: &Context<'_>,
    selector: &EndpointSelector,
    groups: &[&Group<'_>],
    requirement: &Requirement,
    values: &[Arc<str>],
) -> String {
    let key = &requirement.key;
    let present: BTreeSet<&str> = groups.iter().filter_map(|group| group.labels.get(key)).collect();
    if let Some(meant) = values.iter().find_map(|value| nearest(value, present.iter().copied())) {
        return format!("did you mean {key}={meant}?");
    }
    let has_value = |label: &str| values.is_empty() || values.iter().any(|value| **value == *label);
    let keys = groups.iter().flat_map(|group| group.labels.iter());
    let keys: BTreeSet<&str> = keys.filter(|(_, value)| has_value(value)).map(|(key, _)| key).collect();
    if let Some(meant) = nearest(key, keys.iter().copied()) {
        return format!("did you mean the key {meant}?");
    }
    let other = |group: &&Group<'_>| {
        selector.pods.matches(&group.labels) && !groups.iter().any(|known| known.namespace == group.namespace)
    };
    if let Some(group) = context.cluster.groups.iter().find(other) {
        return format!(
            "pods with these labels are in namespace {0} ({1} …): select the namespace too, by {NAMESPACE_NAME}: {0}",
            group.namespace,
            group.name()
        );
    }
    let bearer = context.declared.workloads().find(|workload| {
        groups.iter().any(|group| *group.namespace == workload.meta.namespace)
            && requirement.matches(&workload.meta.labels)
    });
    if let Some(workload) = bearer {
        return format!(
            "{} {} has it, but its pods have not: add it to spec.template.metadata.labels",
            workload.kind.kind(),
            workload.meta.name
        );
    }
    let namespace = context.snapshot.namespaces().find(|(_, labels)| requirement.matches(labels));
    if let Some((namespace, _)) = namespace {
        return format!("the namespace {namespace} has it: write namespaceSelector for labels of namespaces");
    }
    match keys.iter().next() {
        Some(other) if !values.is_empty() => format!("pods have that value under the key {other}; correct the key"),
        _ => "correct the label, or give it to the pods that are meant".to_owned(),
    }
}

/// Values beside others in a selector that look misspelt: those that no pod has, and that are nearly one that pods have.
fn odd_values(
    context: &Context<'_>,
    view: &PolicyView<'_>,
    selector: &EndpointSelector,
    at: &SelectorAt,
    report: &mut Report<'_>,
) {
    let many = |one: &&Requirement| match &one.operator {
        Operator::In(values) => values.len() > 1,
        Operator::NotIn(_) => true,
        Operator::Exists | Operator::DoesNotExist => false,
    };
    for requirement in selector.pods.match_expressions.iter().filter(many) {
        let namespaces = context.cluster.namespaces_of(&selector.namespaces);
        let groups = namespaces.iter().flat_map(|name| context.cluster.in_namespace(name));
        let present: BTreeSet<&str> = groups.filter_map(|group| group.labels.get(&requirement.key)).collect();
        let (values, others) = match &requirement.operator {
            Operator::In(values) => (values, "the other values are looked for, and this one is missed"),
            Operator::NotIn(values) => (values, "what it is to leave out is selected"),
            Operator::Exists | Operator::DoesNotExist => continue,
        };
        // Where no value is there, the selector as a whole selects nothing, or everything, and that is another finding.
        if matches!(requirement.operator, Operator::In(_)) && !values.iter().any(|value| present.contains(&**value)) {
            continue;
        }
        for value in values.iter().filter(|value| !present.contains(&***value)) {
            let free = present.iter().copied().filter(|known| !values.iter().any(|value| **value == **known));
            let Some(meant) = nearest(value, free) else { continue };
            let message = format!("no pod has {}={value}: {others}", requirement.key);
            let remedy = format!("did you mean {meant}?");
            let at = label_at(&at.pods, &selector.pods, requirement);
            report.add(&codes::LABEL_VALUE_UNKNOWN, &view.object, &at, message, remedy);
        }
    }
}
