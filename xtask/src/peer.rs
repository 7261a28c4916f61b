//! Clients and servers of the benchmarks that run inside a lab, as `xtask peer …` started by `strait lab exec`: std sockets.

pub(crate) mod stream;

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::run::now;

/// A peer that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clients print one JSON object.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["serve", port] => serve(port.parse().context("PORT is no port")?),
        ["requests", address, count] => {
            requests(address.parse().context("ADDRESS is no address:port")?, count.parse().context("COUNT")?)
        }
        ["connects", address, count] => {
            connects(address.parse().context("ADDRESS is no address:port")?, count.parse().context("COUNT")?)
        }
        ["send", address, folder] => {
            stream::send(address.parse().context("ADDRESS is no address:port")?, folder.as_ref())
        }
        ["receive", port, folder] => stream::receive(port.parse().context("PORT is no port")?, folder.as_ref()),
        _ => bail!(
            "allowed are: serve PORT, requests ADDRESS:PORT COUNT, connects ADDRESS:PORT COUNT, send ADDRESS:PORT FOLDER, \
             receive PORT FOLDER"
        ),
    }
}

/// Gives each byte back, until stopped.
fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("cannot listen")?;
    println!("listening");
    for stream in listener.incoming() {
        let stream = stream.context("cannot accept")?;
        thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Round trips on one connection: latency and the client's CPU time.
fn requests(address: SocketAddr, count: u32) -> Result<()> {
    let mut stream = connect(address)?;
    round_trips(&mut stream, count / 10)?;
    let (cpu, start) = (cpu_time()?, now());
    let mut latencies = round_trips(&mut stream, count)?;
    let (elapsed, cpu) = (start.elapsed(), cpu_time()?.saturating_sub(cpu));
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or_default();
    let answer = json!({
        "p50_us": microseconds(at(50)),
        "p99_us": microseconds(at(99)),
        "mean_us": microseconds(elapsed) / f64::from(count),
        "cpu_us": microseconds(cpu) / f64::from(count),
    });
    println!("{answer}");
    Ok(())
}

fn round_trips(stream: &mut TcpStream, count: u32) -> Result<Vec<Duration>> {
    let mut byte = [7];
    let round_trip = |_| {
        let start = now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        Ok(start.elapsed())
    };
    (0..count).map(round_trip).collect()
}

/// CPU time of this process, in the kernel too: what its sends cause up to the peer's socket is counted here.
fn cpu_time() -> Result<Duration> {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").context("cannot read /proc/self/schedstat")?;
    let nanoseconds = schedstat.split_whitespace().next().and_then(|text| text.parse().ok());
    nanoseconds.map(Duration::from_nanos).context("/proc/self/schedstat does not begin with nanoseconds")
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Connect, one round trip, close: new connections a second.
fn connects(address: SocketAddr, count: u32) -> Result<()> {
    let (cpu, start) = (cpu_time()?, now());
    for _ in 0..count {
        let mut stream = connect(address)?;
        round_trips(&mut stream, 1)?;
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_time()?.saturating_sub(cpu));
    let answer = json!({
        "per_second": f64::from(count) / elapsed.as_secs_f64(),
        "cpu_us": microseconds(cpu) / f64::from(count),
    });
    println!("{answer}");
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
