//! What an analysis finds.

use std::{fmt, sync::Arc};

use serde::Serialize;
use strait_api::{Kind, ObjectMeta};
use strait_base::Location;

/// A sort of finding.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Code {
    /// Its name: stable, for scripts and searches.
    pub name: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it means, in a line.
    pub means: &'static str,
}

/// How much a finding matters, from the least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; it may well be meant.
    Info,
    /// Probably not what was meant.
    Warning,
    /// It does not do what it says, or is not in force at all.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// The object that a finding is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct ObjectRef {
    /// Its kind, as manifests write it.
    pub kind: Arc<str>,
    /// Its namespace; empty for kinds that live in none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// The object of this kind that `meta` belongs to.
    pub fn new(kind: Kind, meta: &ObjectMeta) -> Self {
        let (namespace, name) = (Arc::clone(&meta.namespace), Arc::clone(&meta.name));
        Self { kind: kind.as_str().into(), namespace, name }
    }
}

/// `NetworkPolicy shop/web`.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What sort of finding.
    pub code: &'static Code,
    /// In which object; `None` where none could be read.
    pub object: Option<ObjectRef>,
    /// The field, as `spec.ingress[0].from[1].podSelector`; empty where the object as a whole is meant.
    pub path: String,
    /// Where that is written.
    pub location: Location,
    /// What was found and why it matters.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// `file:line:column: severity[code] object, field: message; remedy`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}[{}]", self.location, self.code.severity, self.code.name)?;
        if let Some(object) = &self.object {
            write!(f, " {object}")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}; {}", self.message, self.remedy)
    }
}
