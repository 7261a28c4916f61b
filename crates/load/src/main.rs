//! Load for benchmarks of gates, and what is behind them. `cargo xtask bench gateway` runs it.
//!
//! ```text
//! run: clients ─▶ gate (another process, whose CPU time is read over the same window) ─▶ serve
//! ```
//!
//! One thread each, sockets that never block, nothing but bytes that were made beforehand: it has to be much cheaper than the gates
//! that it loads. It never speaks to anything but a gate and never judges one.

mod certificates;
mod client;
mod codec;
mod cpu;
mod frames;
mod idle;
mod server;
mod transport;

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::{
    client::{Seen, Work},
    codec::{Protocol, Requests},
};

#[derive(Parser)]
#[command(about = "Load and a back end for benchmarks of gates")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write an authority, and a server's and a client's certificate, into a folder
    Certificates { folder: PathBuf },
    /// Answer every request; prints where it listens as JSON, in the order of LISTENERS
    Serve {
        /// plain, tls-http1 or tls-http2; and a name that answers have, as plain@a
        #[arg(required = true)]
        listeners: Vec<String>,
        /// The folder of certificates
        #[arg(long)]
        certificates: Option<PathBuf>,
        /// Bytes of every answer
        #[arg(long, default_value_t = 1024)]
        body: usize,
    },
    /// Ask, and print what was seen as JSON
    Run(Run),
    /// Open connections that ask once, say `open`, hold them until the input ends, print how many are still open
    Idle(Idle),
}

#[derive(Args)]
struct Target {
    /// Where the gate listens
    #[arg(long)]
    at: SocketAddr,
    /// Speak TLS, with the certificates in a folder
    #[arg(long)]
    tls: Option<PathBuf>,
    #[arg(long)]
    connections: usize,
    /// Bytes of every answer
    #[arg(long, default_value_t = 1024)]
    body: usize,
}

#[derive(Args)]
struct Idle {
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    target: Target,
    #[arg(long, value_enum, default_value = "http1")]
    protocol: Protocol,
    /// Requests at once on a connection of HTTP/2
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Routes that requests go through in turn
    #[arg(long, default_value_t = 1)]
    routes: usize,
    /// Each request on a connection of its own
    #[arg(long)]
    new_connections: bool,
    /// Requests a second [default: as fast as they are answered]
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// A process whose CPU time is told; may be repeated
    #[arg(long)]
    pid: Vec<u32>,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Certificates { folder } => certificates::write(&folder),
        Command::Serve { listeners, certificates, body } => serve(&listeners, certificates.as_ref(), body),
        Command::Run(arguments) => run(arguments),
        Command::Idle(arguments) => hold(&arguments.target),
    }
}

/// The clock of all that is measured here.
#[expect(clippy::disallowed_methods, reason = "it is what a benchmark measures with")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

fn serve(listeners: &[String], certificates: Option<&PathBuf>, body: usize) -> Result<()> {
    let (mut places, mut sockets) = (Vec::new(), Vec::new());
    for listener in listeners {
        let (kind, name) = listener.split_once('@').unwrap_or((listener, "a"));
        let folder = || certificates.context("TLS needs --certificates");
        let tls = match kind {
            "plain" => None,
            "tls-http1" => Some(certificates::server(folder()?, false)?),
            "tls-http2" => Some(certificates::server(folder()?, true)?),
            other => bail!("found `{other}`; allowed are plain, tls-http1 and tls-http2"),
        };
        let (socket, at) = server::listen()?;
        places.push(at.to_string());
        sockets.push(server::Listener { socket, tls, name: name.to_owned() });
    }
    say(&json!(places))?;
    server::serve(sockets, body)
}

fn run(arguments: Run) -> Result<()> {
    let Target { at, tls, connections, body } = arguments.target;
    let http2 = arguments.protocol == Protocol::Http2;
    let tls = tls.map(|folder| certificates::client(&folder, http2)).transpose()?;
    let work = Work {
        at,
        protocol: arguments.protocol,
        requests: Requests::new(arguments.protocol, tls.is_some(), arguments.routes, body),
        tls,
        connections,
        streams: arguments.streams,
        new_connections: arguments.new_connections,
        rate: arguments.rate.filter(|rate| *rate > 0.0),
        warm_up: Duration::from_secs_f64(arguments.warm_up),
        window: Duration::from_secs_f64(arguments.seconds),
        pids: arguments.pid,
    };
    say(&told(&client::run(&work)?))
}

fn hold(target: &Target) -> Result<()> {
    let tls = target.tls.as_ref().map(|folder| certificates::client(folder, false)).transpose()?;
    let requests = Requests::new(Protocol::Http1, tls.is_some(), 1, target.body);
    let mut idle = idle::Idle::open(target.at, tls.as_ref(), target.connections, &requests)?;
    say(&json!("open"))?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    say(&json!({ "open": idle.still_open()? }))
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of a run of seconds")]
fn told(seen: &Seen) -> Value {
    let at = |per_mille: usize| {
        let index = (seen.latencies.len() * per_mille / 1000).min(seen.latencies.len().saturating_sub(1));
        seen.latencies.get(index).map(|nanoseconds| f64::from(*nanoseconds) / 1e3)
    };
    let answered = seen.answered as f64;
    let ticks = (seen.cpu.user + seen.cpu.system) as f64;
    let cpu = seen.cpu.nanoseconds as f64 / 1e3 / answered.max(1.0);
    json!({
        "answered": seen.answered,
        "answeredInAll": seen.answered_in_all,
        "perSecond": answered / seen.seconds,
        "cpuMicroseconds": cpu,
        "userMicroseconds": if ticks > 0.0 { cpu * seen.cpu.user as f64 / ticks } else { 0.0 },
        "p50Microseconds": at(500),
        "p99Microseconds": at(990),
        "errors": seen.errors,
        "firstError": seen.first_error,
        "endedByGate": seen.ended,
    })
}

fn say(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()?;
    Ok(())
}
