//! What a cluster makes of manifests.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy.toml does not see as tests")]

mod addressing;
mod bookinfo;
mod change;
mod services;
mod workloads;

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use strait_api::{Objects, parse};
use strait_cluster::{Expansion, Options, expand};

/// The objects of a manifest without a mistake.
fn objects(text: &str) -> Objects {
    let parsed = parse(&Arc::from("in.yaml"), text.as_bytes());
    assert!(parsed.errors.is_empty(), "{:#?}", parsed.errors);
    parsed.objects.into_iter().collect()
}

/// Their expansion, which is checked to be whole: expanding it changes nothing.
#[track_caller]
fn expanded(text: &str) -> Expansion {
    let once = expand(&objects(text), &Options::default(), None);
    let again = expand(&once.objects, &Options::default(), Some(&once.objects));
    assert!(
        again.objects == once.objects,
        "expanding an expansion changes it:\n{}\n{}",
        pods(&once.objects),
        pods(&again.objects)
    );
    assert!(expand(&once.objects, &Options::default(), None).objects == once.objects);
    once
}

fn lines(all: impl Iterator<Item = String>) -> String {
    all.flat_map(|line| [line, "\n".to_owned()]).collect()
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// A line for each pod: name, node, addresses, phase.
fn pods(objects: &Objects) -> String {
    let mut out = String::new();
    for pod in objects.pods() {
        let (meta, node) = (&pod.meta, pod.spec.node_name.as_deref().unwrap_or("-"));
        let _ = writeln!(out, "{}/{} {node} {} {:?}", meta.namespace, meta.name, joined(&pod.pod_ips), pod.phase);
    }
    out
}

/// A line for each pod: name, labels.
fn labels(objects: &Objects) -> String {
    lines(objects.pods().map(|pod| format!("{} {}", pod.meta.name, pod.meta.labels)))
}

/// A line for each node: name, addresses, pod CIDRs.
fn nodes(objects: &Objects) -> String {
    let mut out = String::new();
    for node in objects.nodes() {
        let cidrs = node.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let _ = writeln!(out, "{} {} | {cidrs}", node.meta.name, joined(&node.addresses));
    }
    out
}

fn notes(expansion: &Expansion) -> String {
    lines(expansion.notes.iter().cloned())
}

/// A workload that serves port 80 as `http`, and `fields` in its spec.
fn workload(kind: &str, name: &str, fields: &str) -> String {
    let api = match kind {
        "Job" | "CronJob" => "batch/v1",
        "ReplicationController" => "v1",
        _ => "apps/v1",
    };
    let selector = match kind {
        "Job" | "CronJob" => "",
        "ReplicationController" => "selector: {app: web}, ",
        _ => "selector: {matchLabels: {app: web}}, ",
    };
    let template = "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i, ports: [{containerPort: 80, name: http}]}]}}";
    let spec = match kind {
        "CronJob" => format!("{{schedule: '* * * * *', {fields} jobTemplate: {{spec: {{{template}}}}}}}"),
        _ => format!("{{{selector}{fields} {template}}}"),
    };
    format!("---\n{{apiVersion: {api}, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}\n")
}

/// A pod with `fields` in its spec and `status`.
fn pod(name: &str, fields: &str, status: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{{fields} containers: [{{name: c, image: i}}]}}, status: {{{status}}}}}\n"
    )
}
