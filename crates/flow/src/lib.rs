//! Flow records: what happened to a connection, who was on either side, and which rule decided.
//!
//! ```text
//! event + names (agent) → Flow → Ring → Filter → Printer (compact, table, dict) or JSON
//! ```
//!
//! Field names are Hubble's (`api/v1/flow/flow.proto` in its JSON form), so tools that read `hubble observe -o json` read these;
//! what Hubble has no field for is under `strait`. Values only: nothing here does I/O or reads a clock.

pub mod filter;
pub mod record;
pub mod ring;
mod selector;
mod terms;
pub mod text;

pub use filter::{Filter, FilterBuilder, FilterError};
pub use record::{
    Counters, Endpoint, EventType, Extension, Flow, FlowType, Icmp, Ip, IpVersion, Layer4, LostEvents, LostSource,
    ObservationPoint, Origin, PolicyMatch, PolicyRef, Ports, Record, TcpFlags, TcpPorts, TrafficDirection, Verdict,
    What, Workload,
};
pub use ring::{Cursor, Ring};
pub use text::{Output, Printer};
