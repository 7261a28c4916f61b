//! `strait echo`: the server that stands in for a container.

use std::{io::Write, net::IpAddr, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use strait_echo::{Config, Context, Limits, Port, Server};

/// Answer on ports with what arrived: HTTP/1.1, HTTP/2, gRPC, TLS, TCP and UDP, told apart by the first bytes.
///
/// HTTP requests get JSON with the fields of the Gateway API conformance echo server, and both addresses of the
/// connection. Paths with a meaning: /health, /status/404, ?delay=300ms on any path. The request header
/// `X-Echo-Set-Header: name:value` asks for a header in the answer. Other TCP and UDP payloads come back as they are.
///
/// Prints one line when every port is open.
#[derive(Args, Debug)]
pub(crate) struct EchoArgs {
    /// Port to serve, as NUMBER or NUMBER/PROTOCOL (TCP, UDP); may be repeated
    #[arg(long = "port", value_name = "PORT", required = true)]
    ports: Vec<Port>,

    /// Address to listen on; may be repeated [default: every address, IPv4 and IPv6]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<IpAddr>,

    /// Namespace to answer with
    #[arg(long, env = "NAMESPACE", default_value = "", hide_default_value = true)]
    namespace: String,

    /// Pod name to answer with
    #[arg(long, env = "POD_NAME", default_value = "", hide_default_value = true)]
    pod: String,

    /// Service name to answer with
    #[arg(long, env = "SERVICE_NAME", default_value = "", hide_default_value = true)]
    service: String,

    /// Ingress name to answer with
    #[arg(long, env = "INGRESS_NAME", default_value = "", hide_default_value = true)]
    ingress: String,
}

/// Serves until the process is stopped.
pub(crate) fn run(args: EchoArgs) -> anyhow::Result<ExitCode> {
    let EchoArgs { ports, listen, namespace, pod, service, ingress } = args;
    let context = Context { namespace, ingress, service, pod };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(async {
        let server = Server::bind(Config {
            ports,
            listen,
            context,
            certificate: None,
            clients: None,
            limits: Limits::default(),
        })?;
        for port in server.unserved() {
            eprintln!("{port} is not served: only TCP and UDP are");
        }
        announce(&server.ports()).context("cannot print the ports")?;
        server.run().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// The line that whoever started this waits for.
fn announce(ports: &[Port]) -> std::io::Result<()> {
    let ports: Vec<_> = ports.iter().map(Port::to_string).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {}", ports.join(" "))?;
    out.flush()
}
