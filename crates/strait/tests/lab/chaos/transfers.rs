//! iperf3 between pods, again and again.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use super::updates::IPERF;
use crate::bed::{Bed, place};

/// What each transfer takes: there is other traffic on two cores.
const RATE: &str = "100M";
const SECONDS: &str = "5";

/// Clients that transfer to servers until the end.
pub(super) struct Transfers {
    done: Arc<AtomicBool>,
    pairs: Vec<JoinHandle<Result<(u64, u64), String>>>,
}

impl Transfers {
    pub(super) fn new() -> Self {
        Self { done: Arc::default(), pairs: Vec::new() }
    }

    pub(super) fn start(&mut self, bed: &Bed, from: &str, to: &str) {
        let (port, address) = (IPERF.to_string(), bed.address(to, true).to_string());
        let mut server = bed.lab.command(&place(to), "iperf3");
        // One transfer each: between two it would not listen for a moment.
        server.args(["-s", "-1", "--forceflush", "-p", &port]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut client = bed.lab.command(&place(from), "iperf3");
        client.args(["-J", "-c", &address, "-p", &port, "-b", RATE, "-t", SECONDS, "--connect-timeout", "20000"]);
        let done = Arc::clone(&self.done);
        self.pairs.push(thread::spawn(move || {
            let mut total = (0, 0);
            while !done.load(Relaxed) {
                total.1 += transfer(&mut server, &mut client)?;
                total.0 += 1;
            }
            Ok(total)
        }));
    }

    /// Transfers and bytes, or why one broke.
    pub(super) fn end(self) -> Result<(u64, u64), String> {
        self.done.store(true, Relaxed);
        let mut all = (0, 0);
        for pair in self.pairs {
            let (transfers, bytes) = pair.join().map_err(|_| "a thread panicked".to_owned())??;
            all = (all.0 + transfers, all.1 + bytes);
        }
        Ok(all)
    }
}

/// A server, ended with its value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _no_child = self.0.wait();
    }
}

/// Bytes that arrived.
fn transfer(server: &mut Command, client: &mut Command) -> Result<u64, String> {
    let mut server = Server(server.spawn().map_err(|error| error.to_string())?);
    let mut said = BufReader::new(server.0.stdout.take().ok_or("no output")?).lines().map_while(Result::ok);
    if !said.any(|line| line.contains("listening")) {
        return Err("the server of iperf3 does not listen".to_owned());
    }
    let output = client.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let result: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("iperf3: {error}: {text}"))?;
    match (&result["error"], result["end"]["sum_received"]["bytes"].as_u64()) {
        (serde_json::Value::Null, Some(bytes)) if output.status.success() && bytes > 0 => Ok(bytes),
        (error, bytes) => Err(format!("iperf3: {}, {bytes:?} bytes: {error}", output.status)),
    }
}
