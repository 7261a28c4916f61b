//! What operators ask the gate itself, over HTTP and apart from its workers: readiness, metrics, the configuration it serves.
//!
//! | path | where | |
//! |---|---|---|
//! | `/healthz/ready` | both | 200 where every worker serves the newest configuration and every listener listens, else 503 and why |
//! | `/stats/prometheus`, `/metrics` | both | metrics as Prometheus reads them |
//! | `/config_dump` | admin | what is served, as JSON: no private key is in it |
//! | `/reopen_logs` | admin, `POST` | the access log's file is opened anew, after it was moved away |
//!
//! The admin listener is for this machine, the status listener for whoever watches: nothing of either changes what is served.

mod certificate;
mod dump;
mod health;
mod server;

pub(crate) use health::Health;
pub(crate) use server::{Admin, start};
