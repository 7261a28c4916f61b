//! The L7 gate: workers that serve a [`Plan`](strait_route::Plan).
//!
//! ```text
//! Gate ─▶ worker, one a core: current_thread runtime, own listeners (SO_REUSEPORT), own connections to back ends
//!           accept ─ TLS? ─┬ HTTP/1, or a stream of HTTP/2: head ─ route ─ filters ─ back end ─ relay both bodies
//!                          ├ TLS that is only passed on: server name ─ back end ─ relay
//!                          └ TCP: back end ─ relay
//! ```
//!
//! Workers share nothing on a request's way: a plan is handed to each of them, and each swaps it for the last one between two requests.

mod accept;
mod admin;
mod admission;
mod backend;
mod cors;
mod date;
mod deadline;
mod exchange;
mod filters;
mod forwarded;
mod gate;
mod http2;
#[cfg(feature = "http3")]
mod http3;
mod io;
mod l4;
mod limits;
mod listen;
mod live;
mod local;
mod mirror;
mod outbound;
mod overload;
mod pace;
mod pool;
mod record;
mod relay;
mod request;
mod retry;
mod serve;
mod session;
mod side;
mod split;
mod stream;
mod telemetry;
mod timer;
mod tls;
mod udp;
mod worker;
mod write;

pub use gate::{Drain, Gate, GateError, Options};
pub use limits::{Floods, LIMITS, Limit, LimitError, Limits};
pub use listen::PortMap;
pub use record::{Client, ConnectionRecord, Observer, Protocol, Reason, Record, Sent};
pub use session::SessionKey;
pub use telemetry::{AccessLog, AccessLogError, Encoding, FormatError};
pub use udp::UdpSession;
