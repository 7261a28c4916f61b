//! The pods there are to be: those that manifests write, and those that controllers make.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_api::{Kind, Node, Object, ObjectKey, ObjectMeta, Objects, Pod, PodPhase, PodSpec, Workload, WorkloadKind};

use crate::{
    MAX_PODS,
    labels::{self, Member, WORKLOAD},
};

/// All pods that are to run, in order of namespace and name; `pod_ips` and `node_name` are what was asked for. Completed pods stay in
/// `objects`, without addresses; what an earlier expansion made of workloads is taken out of it.
pub(crate) fn draft(objects: &mut Objects, nodes: &[Arc<Node>], remarks: &mut Vec<String>) -> Vec<Pod> {
    let workloads = in_order_of_claim(objects);
    let made_before = take_made_before(objects, &workloads);
    let mut pods = Vec::new();
    let mut names: BTreeSet<(Arc<str>, Arc<str>)> = BTreeSet::new();
    let given: Vec<_> = objects.pods().cloned().collect();
    for pod in given {
        names.insert((Arc::clone(&pod.meta.namespace), Arc::clone(&pod.meta.name)));
        if completed(&pod) {
            let mut pod = Pod::clone(&pod);
            pod.pod_ips.clear();
            objects.replace(Object::Pod(pod.into()));
        } else {
            pods.push(Pod::clone(&pod));
        }
    }
    let mut room = usize::try_from(MAX_PODS).unwrap_or(usize::MAX);
    for workload in &workloads {
        let mut made = members(workload, nodes, room);
        let asked = asked_for(workload, nodes);
        if made.len() < asked {
            remarks.push(format!(
                "{}: {} asks for {asked} pods; {} are made, as there may be {MAX_PODS} in all",
                workload.meta.location,
                full_name(workload),
                made.len()
            ));
        }
        room -= made.len();
        for member in made.drain(..) {
            let Some(name) = claim(workload, &member, &mut names, remarks) else { continue };
            let mut pod = make(workload, &name, &member);
            if let Some(before) = made_before.get(&(Arc::clone(&pod.meta.namespace), Arc::clone(&pod.meta.name))) {
                pod.pod_ips.clone_from(&before.pod_ips);
                pod.spec.node_name = pod.spec.node_name.or_else(|| before.spec.node_name.clone());
            }
            pods.push(pod);
        }
    }
    pods.sort_by(|a, b| (&a.meta.namespace, &a.meta.name).cmp(&(&b.meta.namespace, &b.meta.name)));
    pods
}

/// Whether `pod` has ended, so that its addresses are free again.
pub(crate) fn completed(pod: &Pod) -> bool {
    matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed)
}

/// Workloads whose pods' names are fixed come before those for which Kubernetes would draw one.
fn in_order_of_claim(objects: &Objects) -> Vec<Arc<Workload>> {
    let (fixed, drawn): (Vec<_>, Vec<_>) =
        objects.workloads().cloned().partition(|workload| workload.kind == WorkloadKind::StatefulSet);
    fixed.into_iter().chain(drawn).collect()
}

/// Takes out the pods that an expansion made of a workload that is still there: it makes them anew.
fn take_made_before(objects: &mut Objects, workloads: &[Arc<Workload>]) -> BTreeMap<(Arc<str>, Arc<str>), Arc<Pod>> {
    let named: BTreeSet<(Arc<str>, String)> = workloads
        .iter()
        .map(|workload| (Arc::clone(&workload.meta.namespace), labels::workload_name(workload)))
        .collect();
    let made: Vec<_> = objects
        .pods()
        .filter(|pod| {
            labels::workload(pod)
                .is_some_and(|name| named.contains(&(Arc::clone(&pod.meta.namespace), name.to_owned())))
        })
        .cloned()
        .collect();
    made.into_iter()
        .map(|pod| {
            let (namespace, name) = (Arc::clone(&pod.meta.namespace), Arc::clone(&pod.meta.name));
            objects.remove(&ObjectKey { kind: Kind::Pod, namespace: Arc::clone(&namespace), name: Arc::clone(&name) });
            ((namespace, name), pod)
        })
        .collect()
}

fn asked_for(workload: &Workload, nodes: &[Arc<Node>]) -> usize {
    if workload.suspend {
        0
    } else if workload.kind == WorkloadKind::DaemonSet {
        nodes.iter().filter(|node| allows(&workload.template.spec, node)).count()
    } else {
        usize::try_from(workload.replicas).unwrap_or(usize::MAX)
    }
}

fn members<'a>(workload: &Workload, nodes: &'a [Arc<Node>], room: usize) -> Vec<Member<'a>> {
    let count = asked_for(workload, nodes).min(room);
    if workload.kind == WorkloadKind::DaemonSet {
        let fitting = nodes.iter().filter(|node| allows(&workload.template.spec, node));
        fitting.take(count).map(|node| Member::Node(&node.meta.name)).collect()
    } else {
        (0..u32::try_from(count).unwrap_or(u32::MAX)).map(Member::Ordinal).collect()
    }
}

/// Whether `spec` may run on `node`: its `nodeName` or, without one, its `nodeSelector`.
pub(crate) fn allows(spec: &PodSpec, node: &Node) -> bool {
    match &spec.node_name {
        Some(name) => *name == node.meta.name,
        None => spec.node_selector.iter().all(|(key, value)| node.meta.labels.get(key) == Some(value)),
    }
}

/// A name for the pod. One of a StatefulSet whose name is taken cannot be; others get a name with their kind in it.
fn claim(
    workload: &Workload,
    member: &Member<'_>,
    names: &mut BTreeSet<(Arc<str>, Arc<str>)>,
    remarks: &mut Vec<String>,
) -> Option<Arc<str>> {
    let meta = &workload.meta;
    let member = match member {
        Member::Ordinal(ordinal) => ordinal.to_string(),
        Member::Node(node) => (*node).to_owned(),
    };
    let mut take = |name: String| -> Option<Arc<str>> {
        let name: Arc<str> = name.into();
        names.insert((Arc::clone(&meta.namespace), Arc::clone(&name))).then_some(name)
    };
    let wanted = format!("{}-{member}", meta.name);
    if let Some(name) = take(wanted.clone()) {
        return Some(name);
    }
    let clash =
        format!("{}: {}: there is another pod {}/{wanted};", meta.location, full_name(workload), meta.namespace);
    if workload.kind == WorkloadKind::StatefulSet {
        remarks.push(format!("{clash} the StatefulSet cannot make its own"));
        return None;
    }
    let kind = workload.kind.kind().as_str().to_ascii_lowercase();
    let others = (1_u32..)
        .map(|n| format!("{}-{kind}{}-{member}", meta.name, if n == 1 { String::new() } else { n.to_string() }));
    let name = others.into_iter().find_map(take)?;
    remarks.push(format!("{clash} this one is called {name}"));
    Some(name)
}

/// `Deployment default/web`.
pub(crate) fn full_name(workload: &Workload) -> String {
    format!("{} {}/{}", workload.kind.kind(), workload.meta.namespace, workload.meta.name)
}

fn make(workload: &Workload, name: &Arc<str>, member: &Member<'_>) -> Pod {
    let template = &workload.template;
    let mut annotations = template.annotations.clone();
    annotations.insert(WORKLOAD.into(), labels::workload_name(workload).into());
    let mut spec = template.spec.clone();
    match member {
        Member::Node(node) => spec.node_name = Some((*node).into()),
        Member::Ordinal(_) if workload.kind == WorkloadKind::StatefulSet => {
            spec.hostname = Some(Arc::clone(name));
            spec.subdomain.clone_from(&workload.service_name);
        }
        Member::Ordinal(_) => {}
    }
    Pod {
        meta: ObjectMeta {
            name: Arc::clone(name),
            namespace: Arc::clone(&workload.meta.namespace),
            labels: labels::of_pod(workload, name, member),
            annotations,
            generation: 1,
            created: None,
            location: workload.meta.location.clone(),
        },
        spec,
        phase: PodPhase::Pending,
        pod_ips: Vec::new(),
    }
}
