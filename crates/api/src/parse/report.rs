//! What parsing has to say about a file.

use std::fmt;

use strait_base::Location;

use crate::types::Object;

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parsed {
    /// The objects that are valid, in the order they are written.
    pub objects: Vec<Object>,
    /// What is wrong. A file with an error is not to be put in force as a whole ([`crate::source::Directory`] keeps its last good version).
    pub errors: Vec<ParseError>,
    /// What is right but worth knowing.
    pub notes: Vec<Note>,
}

/// One thing that is wrong in a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ParseError {
    /// Where.
    pub location: Location,
    /// The path of the field (`spec.ingress[0].ports[1].port`); empty where the fault is in the file's syntax.
    pub path: String,
    /// What sort of fault.
    pub kind: ErrorKind,
    /// What was found.
    pub found: String,
    /// What is allowed there.
    pub allowed: String,
    /// What to do about it, where that does not follow from what is allowed.
    pub remedy: Option<String>,
}

/// Sorts of faults.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ErrorKind {
    /// Not YAML or JSON.
    Syntax,
    /// Larger or deeper than is read.
    Limit,
    /// A mapping has the key twice, or two documents name the same object.
    Duplicate,
    /// A field that its kind does not have.
    UnknownField,
    /// A kind of policy in a version that is not served.
    UnknownVersion,
    /// A field that must be there is not.
    Missing,
    /// A value of another type (a string for a number …).
    Type,
    /// A value of the right type that is not allowed.
    Value,
}

/// `file:line:col: path: found X, allowed Y; remedy`.
impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.location)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "found {}, allowed {}", self.found, self.allowed)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

/// Something worth knowing about a file that is not wrong.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Note {
    /// Where.
    pub location: Location,
    /// The path of the field; empty where it is about a document as a whole.
    pub path: String,
    /// What it is about.
    pub topic: Topic,
    /// How much it matters.
    pub severity: Severity,
    /// What there is to know.
    pub message: String,
}

/// What a note is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Topic {
    /// A document that is no Kubernetes object.
    NoObject,
    /// A kind that means nothing here.
    UnknownKind,
    /// A kind of policy that nothing enforces.
    UnenforcedKind,
    /// A kind in a version that is not read.
    OtherVersion,
    /// A field that its kind does not have.
    UnknownField,
    /// Null where a string is meant.
    NullString,
    /// A policy without any rule, or without a `spec`.
    NoRules,
    /// Rules of a direction that `policyTypes` does not name.
    UnnamedDirection,
    /// A prefix with host bits.
    HostBits,
    /// A number with leading zeros.
    LeadingZeros,
    /// An empty list, which selects nobody.
    EmptyList,
    /// A rule or an entry that matches nothing.
    MatchesNothing,
    /// A label from a source that nothing has.
    UnknownSource,
    /// A namespace that has no effect where it is named.
    OtherNamespace,
    /// L7 rules that are empty or of a protocol that is served no more.
    VoidL7,
    /// Something that is skipped.
    Skipped,
    /// A field that nothing enforces yet.
    NotEnforced,
}

/// How much a note matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Expected in everyday manifests: a kind that is not for the network.
    Info,
    /// The user may have meant something else, or expects something to be enforced that is not.
    Warning,
}

/// `file:line:col: message`.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}
