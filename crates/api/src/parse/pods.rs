//! `v1` Pod, and the pod templates of workloads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strait_base::Protocol;

use super::{
    decode::{Decoder, Fields, Step},
    identities::{address, first_among, one_per_family},
    meta,
    networking::protocol,
    report::ErrorKind,
    text::Fault,
    tree::{Node, Value, quoted},
    values,
};
use crate::types::{Container, ContainerPort, Object, ObjectMeta, Pod, PodPhase, PodSpec, PodTemplate};

pub(super) fn pod(d: &mut Decoder<'_>, root: &mut Fields<'_>, meta: Option<ObjectMeta>) -> Option<Object> {
    let spec = d.required(root, "spec", "a pod spec", pod_spec);
    let status = d.optional(root, "status", |d, node| {
        let mut status = d.fields(node)?;
        let phase = d.optional(&mut status, "phase", phase).unwrap_or_default();
        let many = d.list(&mut status, "podIPs", |d, node| {
            let mut fields = d.fields(node)?;
            d.required(&mut fields, "ip", "an address", address)
        });
        one_per_family(d, node, "podIPs", many.iter().copied());
        let one = d.optional(&mut status, "podIP", address);
        Some((phase, first_among(d, node, "podIP", one, many)))
    });
    let (phase, pod_ips) = status.unwrap_or_default();
    Some(Object::Pod(Arc::new(Pod { meta: meta?, spec: spec?, phase, pod_ips })))
}

fn phase(d: &mut Decoder<'_>, node: &Node) -> Option<PodPhase> {
    Some(match &*d.string(node)? {
        "" | "Pending" => PodPhase::Pending,
        "Running" => PodPhase::Running,
        "Succeeded" => PodPhase::Succeeded,
        "Failed" => PodPhase::Failed,
        "Unknown" => PodPhase::Unknown,
        _ => {
            d.refuse(node, "Pending, Running, Succeeded, Failed or Unknown");
            return None;
        }
    })
}

/// `spec.template`.
pub(super) fn pod_template(d: &mut Decoder<'_>, node: &Node) -> Option<PodTemplate> {
    let mut fields = d.fields(node)?;
    let meta = d.optional(&mut fields, "metadata", |d, node| {
        let mut fields = d.fields(node)?;
        let labels = d.optional(&mut fields, "labels", |d, node| Some(meta::labels(d, node))).unwrap_or_default();
        let annotations =
            d.optional(&mut fields, "annotations", |d, node| Some(meta::annotations(d, node))).unwrap_or_default();
        d.close(&fields, &[]);
        Some((labels, annotations))
    });
    let spec = d.required(&mut fields, "spec", "a pod spec", pod_spec);
    d.close(&fields, &[]);
    let (labels, annotations) = meta.unwrap_or_default();
    Some(PodTemplate { labels, annotations, spec: spec? })
}

fn pod_spec(d: &mut Decoder<'_>, node: &Node) -> Option<PodSpec> {
    let mut fields = d.fields(node)?;
    let node_name = d.optional(&mut fields, "nodeName", |d, node| non_empty(d, node, values::subdomain_1123));
    let node_selector =
        d.optional(&mut fields, "nodeSelector", |d, node| Some(meta::labels(d, node))).unwrap_or_default();
    let account = d.optional(&mut fields, "serviceAccountName", |d, node| non_empty(d, node, values::subdomain_1123));
    let former = d.optional(&mut fields, "serviceAccount", |d, node| non_empty(d, node, values::subdomain_1123));
    let host_network = d.optional(&mut fields, "hostNetwork", Decoder::boolean).unwrap_or_default();
    let hostname = d.optional(&mut fields, "hostname", |d, node| non_empty(d, node, values::label_1123));
    let subdomain = d.optional(&mut fields, "subdomain", |d, node| non_empty(d, node, values::label_1123));
    let mut names = BTreeSet::new();
    let containers = d.required(&mut fields, "containers", "at least one container", |d, node| {
        let containers = d.items(node, |d, node| container(d, node, &mut names))?;
        if matches!(&node.value, Value::Sequence(items) if items.is_empty()) {
            d.refuse(node, "at least one container");
        }
        Some(containers.into_iter().map(|(container, _)| container).collect::<Vec<_>>())
    });
    let sidecars = d.list(&mut fields, "initContainers", |d, node| container(d, node, &mut names));
    let secrets = d.list(&mut fields, "volumes", volume);
    d.close(&fields, &["hostIPC", "hostPID", "hostAliases"]);
    let mut containers = containers?;
    containers.extend(sidecars.into_iter().filter_map(|(container, restartable)| restartable.then_some(container)));
    Some(PodSpec {
        node_name,
        node_selector,
        service_account_name: account.or(former).unwrap_or_else(|| "default".into()),
        host_network,
        hostname,
        subdomain,
        containers: containers.into(),
        secrets: secrets.into_iter().flatten().collect(),
    })
}

/// The secret that a volume is of, if it is of one.
#[expect(clippy::option_option, reason = "outside: could not be read; inside: is of something else")]
fn volume(d: &mut Decoder<'_>, node: &Node) -> Option<Option<Arc<str>>> {
    let mut fields = d.fields(node)?;
    let secret = d.optional(&mut fields, "secret", |d, node| {
        let mut fields = d.fields(node)?;
        d.optional(&mut fields, "secretName", Decoder::string)
    });
    Some(secret)
}

/// A string that is empty, which is as good as absent, or that `check` accepts.
pub(super) fn non_empty(
    d: &mut Decoder<'_>,
    node: &Node,
    check: fn(&str) -> Result<(), &'static str>,
) -> Option<Arc<str>> {
    if matches!(&node.value, Value::Scalar(scalar) if scalar.text.is_empty()) {
        d.string(node).and(None)
    } else {
        d.checked(node, check)
    }
}

/// A container, and whether it is an init container that goes on running (`restartPolicy: Always`).
fn container(d: &mut Decoder<'_>, node: &Node, names: &mut BTreeSet<Arc<str>>) -> Option<(Container, bool)> {
    let mut fields = d.fields(node)?;
    let name = d.required(&mut fields, "name", "a name", |d, node| {
        let name = d.checked(node, values::label_1123)?;
        if !names.insert(Arc::clone(&name)) {
            let fault = Fault::new(
                node.at,
                ErrorKind::Duplicate,
                format!("{} a second time", quoted(&name)),
                "each container name once in a pod",
            );
            d.fault(fault);
        }
        Some(name)
    });
    let image = d.optional(&mut fields, "image", Decoder::string);
    let command = d.list(&mut fields, "command", Decoder::string);
    let args = d.list(&mut fields, "args", Decoder::string);
    let env = d.list(&mut fields, "env", env).into_iter().flatten().collect::<BTreeMap<_, _>>();
    let ports = container_ports(d, &mut fields);
    let restartable =
        d.optional(&mut fields, "restartPolicy", Decoder::string).is_some_and(|policy| &*policy == "Always");
    d.close(&fields, &["envFrom"]);
    Some((Container { name: name?, image, command, args, env, ports }, restartable))
}

/// A variable with a literal value; `Some(None)` where the value comes from elsewhere.
#[expect(clippy::option_option, reason = "the outer option is whether it could be read")]
fn env(d: &mut Decoder<'_>, node: &Node) -> Option<Option<(Arc<str>, Arc<str>)>> {
    let mut fields = d.fields(node)?;
    let name = d.required(&mut fields, "name", "a name", Decoder::string);
    let value = d.optional(&mut fields, "value", Decoder::string);
    if fields.get("valueFrom").is_some() {
        return Some(None);
    }
    d.close(&fields, &[]);
    Some(Some((name?, value.unwrap_or_else(|| "".into()))))
}

fn container_ports(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Vec<ContainerPort> {
    let mut names = BTreeSet::new();
    d.list(fields, "ports", |d, node| {
        let mut fields = d.fields(node)?;
        let name = d.optional(&mut fields, "name", |d, node| {
            let name = non_empty(d, node, values::port_name)?;
            if !names.insert(Arc::clone(&name)) {
                let found = format!("{} a second time", quoted(&name));
                d.fault(Fault::new(node.at, ErrorKind::Duplicate, found, "each port name once in a container"));
            }
            Some(name)
        });
        let container_port = d.required(&mut fields, "containerPort", "1-65535", Decoder::port);
        let host_port = d.optional(&mut fields, "hostPort", |d, node| {
            d.integer(node, 0, i64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
        });
        let protocol = d.optional(&mut fields, "protocol", protocol).unwrap_or(Protocol::Tcp);
        d.close(&fields, &["hostIP"]);
        Some(ContainerPort { name, container_port: container_port?, host_port, protocol })
    })
}

/// Refuses a `template` whose labels the workload's own selector does not select.
pub(super) fn selector_selects(
    d: &mut Decoder<'_>,
    root: &Node,
    selector: &strait_base::LabelSelector,
    template: &PodTemplate,
) {
    if selector.matches(&template.labels) {
        return;
    }
    let spec = root.get("spec").map(|entry| &entry.value);
    let at = spec.and_then(|spec| spec.get("selector")).map_or(root.at, |entry| entry.value.at);
    let found = if template.labels.0.is_empty() {
        "no labels in the template".to_owned()
    } else {
        format!("template labels {}", template.labels)
    };
    d.within(Step::Field("spec"), |d| {
        d.within(Step::Field("selector"), |d| {
            d.fault(Fault::new(at, ErrorKind::Value, found, format!("labels that the selector {selector} selects")));
        });
    });
}
