//! What gateways and routes mean (Gateway API v1.6, Istio's networking API): what is served where, to whom it goes, and the status of every object.
//!
//! ```text
//! Objects ─▶ gateways with their addresses and listeners ─▶ routes attached to them ─▶ Plan, for workers
//!                                                                                └▶ statuses, for people and the API
//! ```
//!
//! Pure: no I/O, no clock. What refers to something that is missing or not permitted is served as the specification says (500, 503,
//! 404), and its status says so.

mod addresses;
mod compile;
mod hindrance;
mod hosts;
mod matching;
mod ordered;
mod plan;
mod slots;
mod status;
mod table;

pub use addresses::{Assigned, assign, assign_istio};
pub use compile::{
    Attachment, Attachments, CONTROLLER, Compiled, Compiler, DEFAULT_CLASS, Recompiled, Refusal, Resolved, Trouble,
    TroubleKind, attachments, compile, compile_with, troubles,
};
pub use hindrance::{Hindrance, HindranceKind, Hindrances};
pub use hosts::{HostTable, intersection};
pub use matching::{Candidate, Path, PathTable, Request, Value, whole};
pub use ordered::{OrderedMatch, OrderedTable, PathText, RouteTable, Text};
pub use plan::*;
pub use slots::Slots;
pub use status::{SUPPORTED_FEATURES, Status};
