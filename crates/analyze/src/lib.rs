//! Mistakes in manifests, found before they matter: selectors that select nobody, rules that others make void, pods that are cut off
//! or left open without meaning to, routes that lead nowhere or claim what others claim.
//!
//! ```text
//! Objects (declared, expanded) ─┐                       ┌─ selectors, ports, blocks   against the pods that there are
//! problems of their files ──────┼─→ views, groups ──────┼─ cover, tiers               against each other, by logic alone
//! their text ───────────────────┘   (who, what, where)  └─ isolation, openings, shape against what people mean
//! ```
//!
//! Pure: text comes in as a value. It reports what it can be sure of from the model ([`strait_model`]); heuristics say in their message
//! what they go by. Where manifests cannot tell (namespaces of the platform, clusters without a single pod) it is silent.

pub mod codes;
pub mod finding;

mod blocks;
mod cluster;
mod cover;
mod gateway;
mod isolation;
mod istio;
mod manifests;
mod near;
mod objects;
mod openings;
mod place;
mod ports;
mod redundant;
mod selectors;
mod shape;
mod tiers;
mod views;
mod void;

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{Objects, Problem};
use strait_model::Snapshot;

pub use finding::{Code, Finding, ObjectRef, Severity};

use crate::{
    cluster::Cluster,
    place::{At, Files},
    views::PolicyView,
};

/// What is analyzed.
#[derive(Clone, Copy, Debug)]
pub struct Manifests<'a> {
    /// The objects that are written.
    pub declared: &'a Objects,
    /// Those and the ones that a cluster would add to them.
    pub expanded: &'a Objects,
    /// What is wrong with or worth knowing of their files.
    pub problems: &'a [Problem],
    /// The files, by the names that locations have.
    pub texts: &'a BTreeMap<Arc<str>, Vec<u8>>,
    /// The time, in seconds since 1970: certificates expire.
    pub now: i64,
}

/// What checks look at.
pub(crate) struct Context<'a> {
    pub declared: &'a Objects,
    pub objects: &'a Objects,
    pub snapshot: &'a Snapshot,
    pub files: Files,
    pub cluster: Cluster<'a>,
    pub policies: Vec<PolicyView<'a>>,
}

/// What they have found.
pub(crate) struct Report<'a> {
    files: &'a Files,
    findings: Vec<Finding>,
}

impl Report<'_> {
    /// Whether there is such a finding at `at` already.
    pub(crate) fn has(&self, code: &'static Code, at: &At) -> bool {
        let of_code = |finding: &&Finding| finding.code == code;
        self.findings.iter().filter(of_code).any(|finding| finding.location == self.files.locate(at).1)
    }

    pub(crate) fn add(
        &mut self,
        code: &'static Code,
        object: &ObjectRef,
        at: &At,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (path, location) = self.files.locate(at);
        let (object, message, remedy) = (Some(object.clone()), message.into(), remedy.into());
        self.findings.push(Finding { code, object, path, location, message, remedy });
    }
}

/// All findings, by file and line.
pub fn analyze(manifests: &Manifests<'_>) -> Vec<Finding> {
    let Manifests { declared, expanded, problems, texts, now } = *manifests;
    let snapshot = Snapshot::new(expanded);
    let context = Context {
        declared,
        objects: expanded,
        files: Files::read(texts),
        cluster: Cluster::new(declared, expanded, &snapshot),
        policies: views::views(expanded, &snapshot),
        snapshot: &snapshot,
    };
    let mut report = Report { files: &context.files, findings: Vec::new() };
    manifests::check(problems, &mut report);
    objects::check(&context, &mut report);
    shape::check(&context, &mut report);
    redundant::check(&context, &mut report);
    void::check(&context, &mut report);
    tiers::check(&context, &mut report);
    blocks::check(&context, &mut report);
    gateway::check(&context, now, &mut report);
    istio::check(&context, &mut report);
    if context.cluster.groups.is_empty() {
        objects::no_pods(&context, &mut report);
    } else {
        selectors::check(&context, &mut report);
        ports::check(&context, &mut report);
        isolation::check(&context, &mut report);
        openings::check(&context, &mut report);
    }
    let mut findings = report.findings;
    findings.sort_by(|a, b| {
        let key = |finding: &Finding| (finding.location.clone(), finding.code.name, finding.path.clone());
        key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
    });
    findings.dedup();
    findings
}
