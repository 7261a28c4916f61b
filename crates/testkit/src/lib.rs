//! What tests judge the others by: a reference evaluator, generators of clusters and policies, and the questions to ask.
//!
//! ```text
//! seed → Case (objects; YAML) → probes ─┬─ reference (the API's documentation, read aloud)  ─┐
//!                                       └─ whoever is on trial: model, NodePlan, its tables   ─┴→ Disagreement → minimized, with its seed
//! ```
//!
//! For tests only. [`mod@reference`] shares no code with `model`: it does not even match labels the same way. Slow is fine here, subtle is not.

pub mod draw;
pub mod fuzz;
pub mod generate;
pub mod live;
pub mod minimize;
pub mod packets;
pub mod plan;
pub mod probes;
pub mod reference;
pub mod render;
pub mod trial;

pub use generate::{Case, case, mixed_case};
pub use live::{LiveCase, LiveProbe, live_case};
pub use minimize::minimize;
pub use reference::{Connection, End, Traffic};
