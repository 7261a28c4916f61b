//! Gates with real clients on loopback: no root, no namespaces.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod backend;
mod backend_tls;
mod bed;
mod bookinfo;
mod conformance;
mod cost;
mod features;
mod floods;
mod forwarded;
mod h1;
mod h2;
mod h2_server;
mod h2_shared;
mod hindered;
#[cfg(feature = "http3")]
mod http3;
mod istio;
mod istio_tls;
mod l4;
mod leaving;
mod life;
mod limits;
mod mirror;
mod outbound;
mod peers;
mod prometheus;
mod reload;
mod retry;
mod rfc;
mod session;
mod smuggling;
mod spec;
mod stand_ins;
mod suite;
mod telemetry;
mod tls;
mod without_loss;
