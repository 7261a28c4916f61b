//! Ids, labels, address prefixes and source locations: the words every other crate speaks.
//!
//! Values only. Nothing here does I/O, reads a clock or knows a Kubernetes kind.

pub mod identity;
pub mod labels;
pub mod location;
pub mod net;
pub mod shared;

pub use identity::IdentityId;
pub use labels::{LabelSelector, Labels, Operator, Requirement};
pub use location::Location;
pub use net::{PortRange, Protocol};
pub use shared::Shared;
