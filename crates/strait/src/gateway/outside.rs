//! How a gate is seen from outside: options of its access log and of the listeners that tell about it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use strait_proxy::{AccessLog, Encoding, Options};

/// Where operators ask, as Istio's proxies have it.
pub(crate) const ADMIN: &str = "127.0.0.1:15000";
/// Where everybody may ask whether it is ready: Istio's gateways have it there.
const STATUS: &str = "0.0.0.0:15021";

#[derive(Args, Debug)]
pub(super) struct OutsideArgs {
    /// Access log; `-` is the standard output [default: none]
    ///
    /// A line for each request, for each TCP or TLS connection that is passed on, for each TLS connection that comes to nothing, and for each
    /// client of a UDP port, when it ends. Lines that the file does not take in time are
    /// dropped and counted: traffic never waits for it.
    #[arg(long, value_name = "FILE")]
    access_log_file: Option<PathBuf>,

    /// How lines are written
    #[arg(long, value_name = "ENCODING", default_value = "text", requires = "access_log_file", ignore_case = true)]
    access_log_encoding: LogEncoding,

    /// Format with Envoy's commands, as `%START_TIME% %REQ(:PATH)%`; for JSON an object of such [default: Istio's]
    ///
    /// Commands: those of Istio's default, besides `START_TIME(FORMAT)`, `REQ(NAME?OTHER)`, `GRPC_STATUS`, `GRPC_STATUS_NUMBER`, and of addresses
    /// `_WITHOUT_PORT` and `_PORT`. `:LENGTH` before the last percent sign shortens. `REQ(:PATH)` is the path before any rewriting.
    #[arg(long, value_name = "FORMAT", requires = "access_log_file")]
    access_log_format: Option<String>,

    /// Answers operators: `/config_dump`, `/healthz/ready`, `/stats/prometheus`, `/reopen_logs` [default: off; without an ADDRESS 127.0.0.1:15000]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = ADMIN)]
    admin_address: Option<SocketAddr>,

    /// Answers everybody: `/healthz/ready`, `/stats/prometheus` [default: off; without an ADDRESS 0.0.0.0:15021]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = STATUS)]
    status_address: Option<SocketAddr>,

    /// Says in a `Proxy-Status` field (RFC 9209) of each response that the gate makes itself why it does
    #[arg(long)]
    proxy_status: bool,

    /// Series of metrics that a worker keeps; requests of further ones are counted together, as of the service `overflow`
    #[arg(long, value_name = "COUNT", default_value_t = Options::default().series)]
    metrics_series: usize,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum LogEncoding {
    Text,
    Json,
}

impl OutsideArgs {
    /// Puts them among a gate's options.
    pub(super) fn into_options(self, options: &mut Options) {
        let encoding = match self.access_log_encoding {
            LogEncoding::Text => Encoding::Text,
            LogEncoding::Json => Encoding::Json,
        };
        let format = self.access_log_format;
        options.access_log = self.access_log_file.map(|file| AccessLog { file, encoding, format });
        options.admin = self.admin_address;
        options.status = self.status_address;
        options.proxy_status = self.proxy_status;
        options.series = self.metrics_series;
    }
}
