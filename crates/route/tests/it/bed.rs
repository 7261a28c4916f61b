//! Objects in short, and their statuses as lines.
//!
//! ```text
//! Gateway d/g 5            ─▶ apiVersion, kind, metadata (generation 7; created at second 5, if that is given)
//! spec: {…}                   as it stands
//! ---                      ─▶ the next object
//! ```
//!
//! A status is a line for the object and one for each of its listeners, parents or ancestors. A condition that holds for the reason of its own
//! name is its name alone; another one is `Type=Status/Reason`.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use serde_json::Value;
use strait_api::{Objects, parse};
use strait_route::{Assigned, Compiled, Compiler, Recompiled, Resolved, Status, assign, assign_istio, compile};

const GENERATION: i64 = 7;
pub(crate) const NOW: &str = "2026-01-01T00:00:00Z";

/// Reads objects in short.
#[track_caller]
pub(crate) fn objects(short: &str) -> Objects {
    let mut objects = Objects::default();
    let mut yaml = String::new();
    for block in short.split("\n---\n").map(str::trim_start).filter(|block| !block.is_empty()) {
        let (head, rest) = block.split_once('\n').unwrap_or((block, ""));
        let words: Vec<&str> = head.split_whitespace().collect();
        let (namespace, name) = words[1].split_once('/').unwrap_or(("", words[1]));
        let version = match words[0] {
            "Namespace" | "Service" | "Secret" | "ConfigMap" | "Pod" => "v1",
            "EndpointSlice" => "discovery.k8s.io/v1",
            "VirtualService" | "DestinationRule" | "ServiceEntry" | "WorkloadEntry" | "IstioGateway" => {
                "networking.istio.io/v1"
            }
            "XBackendTrafficPolicy" => "gateway.networking.x-k8s.io/v1alpha1",
            _ => "gateway.networking.k8s.io/v1",
        };
        write!(
            yaml,
            "---\napiVersion: {version}\nkind: {}\nmetadata:\n  name: {name}\n  generation: {GENERATION}\n",
            words[0].trim_start_matches("Istio")
        )
        .unwrap();
        if !namespace.is_empty() {
            writeln!(yaml, "  namespace: {namespace}").unwrap();
        }
        if let Some(second) = words.get(2) {
            writeln!(yaml, "  creationTimestamp: 2026-01-01T00:00:{second:0>2}Z").unwrap();
        }
        yaml.push_str(rest);
        yaml.push('\n');
    }
    let parsed = parse(&Arc::from("short.yaml"), yaml.as_bytes());
    assert!(
        parsed.errors.is_empty(),
        "{}\n{short}",
        parsed.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    );
    for object in parsed.objects {
        objects.insert(object).unwrap();
    }
    objects
}

/// Compiles objects in short, with addresses of 10.0.0.0/24.
#[track_caller]
pub(crate) fn compiled(short: &str) -> Compiled {
    let objects = objects(short);
    let assigned = assign(Compiled::gateways(&objects), "10.0.0.0/24".parse().unwrap(), &Assigned::new());
    compile(&objects, &assigned, NOW)
}

/// Objects that change, and what came of them, with addresses of 10.0.0.0/24.
#[derive(Default)]
pub(crate) struct Followed {
    pub(crate) objects: Objects,
    pub(crate) assigned: Assigned,
    pub(crate) compiler: Compiler,
    pub(crate) resolved: Resolved,
}

impl Followed {
    /// These are the objects now.
    #[track_caller]
    pub(crate) fn becomes(&mut self, short: &str, now: &str) -> Recompiled {
        self.follow(objects(short), now)
    }

    pub(crate) fn follow(&mut self, objects: Objects, now: &str) -> Recompiled {
        let changed = objects.differing(&self.objects);
        self.objects = objects;
        self.assigned = assign(Compiled::gateways(&self.objects), "10.0.0.0/24".parse().unwrap(), &self.assigned);
        assign_istio(&self.objects, "10.0.0.0/24".parse().unwrap(), &self.assigned.clone(), &mut self.assigned);
        self.compiler.update(&self.objects, &changed, &self.assigned, &self.resolved, now)
    }
}

/// When conditions last changed, by object, listener and type; of several parents the last.
pub(crate) fn lines_of_times(statuses: &[Status]) -> BTreeMap<String, String> {
    fn collect(of: &str, value: &Value, out: &mut BTreeMap<String, String>) {
        for condition in array(&value["conditions"]) {
            let time = text(&condition["lastTransitionTime"]).to_owned();
            out.insert(format!("{of} {}", text(&condition["type"])), time);
        }
        for listener in array(&value["listeners"]) {
            collect(&format!("{of} {}", text(&listener["name"])), listener, out);
        }
        for parent in array(&value["parents"]) {
            collect(of, parent, out);
        }
    }
    let mut out = BTreeMap::new();
    for status in statuses {
        let object = &status.object;
        collect(&format!("{} {}/{}", object.kind, object.namespace, object.name), &status.status, &mut out);
    }
    out
}

/// All statuses as lines, by what they are of.
#[track_caller]
pub(crate) fn lines(compiled: &Compiled) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for of in &compiled.statuses {
        let (object, status) = (&of.object, &of.status);
        let name = format!("{} {}/{}", object.kind, object.namespace, object.name).replace(" /", " ");
        if status["conditions"].is_array() {
            let mut line = conditions(&status["conditions"]);
            for address in status["addresses"].as_array().into_iter().flatten() {
                write!(line, " {}", text(&address["value"])).unwrap();
            }
            if let Some(sets) = status["attachedListenerSets"].as_u64() {
                write!(line, " sets={sets}").unwrap();
            }
            lines.insert(name.clone(), line);
        }
        for listener in array(&status["listeners"]) {
            let kinds: Vec<&str> = array(&listener["supportedKinds"]).iter().map(|kind| text(&kind["kind"])).collect();
            let line = format!(
                "[{}] routes={} {}",
                kinds.join(" "),
                listener["attachedRoutes"],
                conditions(&listener["conditions"])
            );
            lines.insert(format!("{name} listener {}", text(&listener["name"])), line);
        }
        for (of, reference) in [("parents", "parentRef"), ("ancestors", "ancestorRef")] {
            for (index, item) in array(&status[of]).iter().enumerate() {
                assert_eq!(item["controllerName"], "strait.dev/gateway-controller");
                let line = format!("{} {}", refers(&item[reference]), conditions(&item["conditions"]));
                lines.insert(format!("{name} {index}"), line);
            }
        }
    }
    lines
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A reference with all that it holds: `Gateway ns/name#section:port`.
fn refers(reference: &Value) -> String {
    assert_eq!(reference["group"], "gateway.networking.k8s.io");
    let mut out = format!("{} ", text(&reference["kind"]));
    if let Some(namespace) = reference["namespace"].as_str() {
        write!(out, "{namespace}/").unwrap();
    }
    out.push_str(text(&reference["name"]));
    if let Some(section) = reference["sectionName"].as_str() {
        write!(out, "#{section}").unwrap();
    }
    if let Some(port) = reference["port"].as_u64() {
        write!(out, ":{port}").unwrap();
    }
    out
}

#[track_caller]
fn conditions(all: &Value) -> String {
    let one = |condition: &Value| {
        assert_eq!(condition["observedGeneration"], GENERATION, "{condition}");
        assert_eq!(condition["lastTransitionTime"], NOW);
        let (kind, status) = (text(&condition["type"]), text(&condition["status"]));
        let reason = text(&condition["reason"]);
        assert!(status == "True" || condition["message"] != "" || reason == "NoConflicts", "says why: {condition}");
        if kind == "PartiallyInvalid" {
            assert!(text(&condition["message"]).starts_with("Dropped Rule"), "{condition}");
        }
        if status == "True" && kind == reason { kind.to_owned() } else { format!("{kind}={status}/{reason}") }
    };
    array(all).iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A case: what it shows, objects in short, and lines that must be so. A line without a value must not be there.
pub(crate) type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Tries cases, each with `base` beside it, and says all that is wrong at once.
#[track_caller]
pub(crate) fn check(base: &str, cases: &[Case]) {
    let mut wrong = String::new();
    for (title, short, expected) in cases {
        let found = lines(&compiled(&format!("{}\n---\n{short}", base.trim_end())));
        for (name, line) in *expected {
            let is = found.get(*name).map_or("", String::as_str);
            if is != *line {
                write!(wrong, "{title}: {name}\n  expected {line}\n  found    {is}\n").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
