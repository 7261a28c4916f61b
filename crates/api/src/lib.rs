//! Kubernetes objects as users write them, parsed from YAML and JSON with located errors.
//!
//! ```text
//! bytes → located tree → typed object (checked as the API server would) → Objects (indexed)
//!   ↑                                                                        ↑
//! Directory source (recursive, inotify; keeps the last good version of a broken file)
//! ```
//!
//! A value that exists is valid. What an object *means* (what a selector selects, what a policy allows) is for `model`.

pub mod objects;
pub mod parse;
pub mod source;
pub mod types;
pub mod write;

pub use objects::{ObjectKey, Objects};
pub use parse::{ErrorKind, Note, Outline, ParseError, Parsed, Place, Severity, Topic, parse};
pub use source::{Change, Directory, Problem, SourceError};
pub use types::*;
