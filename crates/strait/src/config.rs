//! `strait config`: what a running gate serves.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use crate::gateway::ADMIN;

/// Look into a running gate
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Print what the gate serves, as JSON: listeners, routes with file and line, back ends with endpoints, certificates without keys
    #[command(after_help = "Examples:\n  \
        strait gateway -f manifests/ --admin-address &\n  \
        strait config dump | jq '.routes[] | select(.name | contains(\"shop\"))'")]
    Dump(DumpArgs),
}

#[derive(Args, Debug)]
struct DumpArgs {
    /// The gate's `--admin-address`
    #[arg(long, value_name = "ADDRESS", default_value = ADMIN)]
    admin_address: SocketAddr,
}

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Dump(DumpArgs { admin_address }) = &args.command;
    let dump = get(*admin_address, "/config_dump")?;
    std::io::stdout().write_all(&dump)?;
    Ok(ExitCode::SUCCESS)
}

/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What an answer may be at most: far more than 100,000 routes.
const MOST: u64 = 1 << 30;

fn get(at: SocketAddr, path: &str) -> anyhow::Result<Vec<u8>> {
    let absent = || format!("no gate answers at {at}: is it started with --admin-address {at}?");
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).with_context(absent)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In HTTP/1.0 the answer has no chunks and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n").with_context(absent)?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).with_context(absent)?;
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = split else { bail!("what answers at {at} is no gate") };
    let line = String::from_utf8_lossy(&answer[..end]).lines().next().unwrap_or_default().to_owned();
    if line.split(' ').nth(1) != Some("200") {
        bail!("the gate at {at} answers {line}");
    }
    Ok(answer.split_off(end + 4))
}
