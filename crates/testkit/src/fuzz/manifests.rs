//! Manifests that start out valid and are edited: bytes choose what is wrong with them, and how they are written.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, sync::OnceLock};

use serde_json::Value;
use strait_api::{Kind, Object, Objects, parse, write::to_json};
use strait_model::{AllocatorState, Compiler, Snapshot};

use super::read;
use crate::{
    draw::Draw,
    generate::{Universe, mixed_policies},
};

/// One object of every kind.
const EVERY_KIND: &str = include_str!("../../../api/tests/every-kind.yaml");

/// Which kinds a target is about.
pub(super) type Family = fn(Kind) -> bool;

pub(super) const NETWORK_POLICY: Family = |kind| kind == Kind::NetworkPolicy;
pub(super) const CILIUM_POLICY: Family =
    |kind| matches!(kind, Kind::CiliumNetworkPolicy | Kind::CiliumClusterwideNetworkPolicy | Kind::CiliumCidrGroup);
pub(super) const CLUSTER_POLICY: Family =
    |kind| matches!(kind, Kind::ClusterNetworkPolicy | Kind::AdminNetworkPolicy | Kind::BaselineAdminNetworkPolicy);
pub(super) const CLUSTER: Family = |kind| !NETWORK_POLICY(kind) && !CILIUM_POLICY(kind) && !CLUSTER_POLICY(kind);

/// The sample, read once.
struct Sample {
    objects: Vec<(Kind, Value)>,
    cluster: Objects,
    /// Names of fields and scalars, of all kinds: what an edit may put elsewhere.
    names: Vec<String>,
    scalars: Vec<Value>,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let parsed = parse(&Arc::from("every-kind.yaml"), EVERY_KIND.as_bytes());
        let tree = |object: &Object| Some((object.kind(), serde_json::from_str(&to_json(object)).ok()?));
        let objects: Vec<(Kind, Value)> = parsed.objects.iter().filter_map(tree).collect();
        let (mut names, mut scalars) = (Vec::new(), oddities());
        for (_, tree) in &objects {
            collect(tree, &mut names, &mut scalars);
        }
        names.sort();
        names.dedup();
        Sample { objects, cluster: parsed.objects.into_iter().collect(), names, scalars }
    })
}

/// Values at and beyond limits, and those that YAML reads as something else.
fn oddities() -> Vec<Value> {
    let numbers = [-1_i64, 0, 1, 80, 254, 255, 256, 1000, 1001, 65_535, 65_536, i64::MAX, i64::MIN];
    let texts = [
        "",
        " ",
        "~",
        "null",
        "true",
        "no",
        "0x50",
        "080",
        "1e3",
        ".inf",
        "80",
        "80.0",
        "*",
        "**",
        "*.example.com",
        "a.b",
        "-a",
        "reserved:host",
        "k8s:app",
        "any:",
        ":",
        "=",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.1/8",
        "1.2.3.4",
        "::ffff:1.2.3.4/120",
        "1.2.3.4/33",
        "TCP",
        "tcp",
        "SCTP",
        "ANY",
        "ICMP",
        "EchoRequest",
        "all",
        "none",
        "In",
        "\u{0}",
        "\u{202e}",
        "é",
        "\n",
    ];
    let long = "a".repeat(300);
    let mut out: Vec<Value> = numbers.map(Value::from).into();
    out.extend(texts.map(Value::from));
    out.extend([Value::Null, Value::Bool(true), Value::Bool(false), Value::from(0.5), Value::from(long)]);
    out.extend([Value::Array(Vec::new()), Value::Object(serde_json::Map::new())]);
    out
}

fn collect(tree: &Value, names: &mut Vec<String>, scalars: &mut Vec<Value>) {
    match tree {
        Value::Array(items) => items.iter().for_each(|item| collect(item, names, scalars)),
        Value::Object(fields) => {
            for (name, value) in fields {
                names.push(name.clone());
                collect(value, names, scalars);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => scalars.push(tree.clone()),
    }
}

/// Bytes choose a manifest of the family, edits, and a way to write it. What is read of it goes into a cluster, which is compiled.
pub(super) fn run(family: Family, bytes: &[u8]) {
    let mut draw = Draw::of_bytes(bytes);
    let sample = sample();
    let mut tree = start(&mut draw, family, sample);
    for _ in 0..draw.weighted(&[(1, 0), (4, 1), (4, 2), (2, 4), (2, 8)]) {
        edit(&mut draw, &mut tree, sample);
    }
    let json = draw.chance(30);
    let text = if json { tree.to_string() } else { yaml(&mut draw, &tree) };
    let objects = read::check(if json { "input.json" } else { "input.yaml" }, text.as_bytes());
    if !objects.is_empty() {
        compile(sample, objects);
    }
}

/// The objects of the sample that are `wanted`.
pub(super) fn cluster(wanted: impl Fn(&Object) -> bool) -> Objects {
    sample().cluster.iter().filter(|object| wanted(object)).cloned().collect()
}

/// A manifest of the family with edits, as JSON.
pub(super) fn edited(draw: &mut Draw, family: Family) -> String {
    let sample = sample();
    let of_family: Vec<&Value> =
        sample.objects.iter().filter(|(kind, _)| family(*kind)).map(|(_, tree)| tree).collect();
    let mut tree = (*draw.pick(&of_family)).clone();
    for _ in 0..draw.weighted(&[(4, 1), (4, 2), (2, 4)]) {
        edit(draw, &mut tree, sample);
    }
    tree.to_string()
}

/// An object of the sample, or a policy as the generator of cases draws it.
fn start(draw: &mut Draw, family: Family, sample: &Sample) -> Value {
    if draw.chance(50) {
        let mut drawn = Objects::default();
        mixed_policies(draw, &Universe::of(&sample.cluster), &mut drawn);
        let of_family = drawn.iter().find(|object| family(object.kind()));
        if let Some(tree) = of_family.and_then(|object| serde_json::from_str(&to_json(object)).ok()) {
            return tree;
        }
    }
    let of_family: Vec<&Value> =
        sample.objects.iter().filter(|(kind, _)| family(*kind)).map(|(_, tree)| tree).collect();
    (*draw.pick(&of_family)).clone()
}

/// One change at a place that is drawn.
fn edit(draw: &mut Draw, tree: &mut Value, sample: &Sample) {
    let elsewhere = part(draw, tree).clone();
    let place = part_mut(draw, tree);
    match draw.below(10) {
        0..=2 => *place = draw.pick(&sample.scalars).clone(),
        3 => *place = elsewhere,
        4 => *place = Value::Array(vec![place.take()]),
        5 => {
            let name = draw.pick(&sample.names).clone();
            *place = Value::Object([(name, place.take())].into_iter().collect());
        }
        _ => match place {
            Value::Array(items) if draw.chance(50) && !items.is_empty() => drop(items.remove(draw.below(items.len()))),
            Value::Array(items) => items.insert(draw.below(items.len() + 1), elsewhere),
            Value::Object(fields) if draw.chance(50) => {
                let name = fields.keys().nth(draw.below(fields.len())).cloned();
                name.and_then(|name| fields.remove(&name));
            }
            Value::Object(fields) => {
                fields.insert(draw.pick(&sample.names).clone(), elsewhere);
            }
            Value::Number(number) => {
                *place = number.as_i64().unwrap_or(0).wrapping_add(if draw.chance(50) { 1 } else { -1 }).into();
            }
            Value::String(text) => {
                let mut kept: String = text.chars().take(draw.below(text.len() + 1)).collect();
                if let Value::String(more) = draw.pick(&sample.scalars) {
                    kept.push_str(more);
                }
                *place = kept.into();
            }
            Value::Null | Value::Bool(_) => *place = elsewhere,
        },
    }
}

fn part<'v>(draw: &mut Draw, tree: &'v Value) -> &'v Value {
    let mut at = tree;
    while draw.chance(85) {
        let next = match at {
            Value::Array(items) => items.get(draw.below(items.len())),
            Value::Object(fields) => fields.values().nth(draw.below(fields.len())),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

fn part_mut<'v>(draw: &mut Draw, tree: &'v mut Value) -> &'v mut Value {
    let inner = match tree {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    };
    if inner == 0 || !draw.chance(85) {
        return tree;
    }
    let at = draw.below(inner);
    match tree {
        Value::Array(items) => part_mut(draw, &mut items[at]),
        Value::Object(fields) => match fields.values_mut().nth(at) {
            Some(next) => part_mut(draw, next),
            None => unreachable!("there are more than {at}"),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => tree,
    }
}

/// Block style, with scalars plain or quoted as is drawn: a plain one may read as something else.
fn yaml(draw: &mut Draw, tree: &Value) -> String {
    let mut out = String::new();
    block(draw, tree, 0, &mut out);
    out
}

fn block(draw: &mut Draw, tree: &Value, indent: usize, out: &mut String) {
    let pad = "  ".repeat(indent);
    match tree {
        Value::Array(items) if !items.is_empty() && draw.chance(85) => {
            for item in items {
                let _ = write!(out, "\n{pad}-");
                block(draw, item, indent + 1, out);
            }
        }
        Value::Object(fields) if !fields.is_empty() && draw.chance(85) => {
            for (name, value) in fields {
                let _ = write!(out, "\n{pad}");
                scalar(draw, name, out);
                out.push(':');
                block(draw, value, indent + 1, out);
            }
        }
        Value::String(text) => {
            out.push(' ');
            scalar(draw, text, out);
        }
        // JSON is YAML.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            let _ = write!(out, " {tree}");
        }
    }
}

fn scalar(draw: &mut Draw, text: &str, out: &mut String) {
    match draw.below(8) {
        0..=4 => out.push_str(text),
        5 | 6 => {
            let _ = write!(out, "{}", Value::from(text));
        }
        _ => {
            let _ = write!(out, "'{}'", text.replace('\'', "''"));
        }
    }
}

/// Any cluster that can be read can be completed and compiled.
fn compile(sample: &Sample, objects: Vec<Object>) {
    let mut cluster = sample.cluster.clone();
    for object in objects {
        cluster.replace(object);
    }
    let expanded = strait_cluster::expand(&cluster, &strait_cluster::Options::default(), None).objects;
    let snapshot = Snapshot::new(&expanded);
    let mut plans = BTreeMap::new();
    for node in expanded.nodes() {
        let plan = Compiler::new(AllocatorState::default()).compile(&snapshot, &node.meta.name);
        assert_eq!(crate::plan::broken(&plan), None, "{}", node.meta.name);
        plans.insert(&node.meta.name, plan);
    }
}
