//! Traffic from inside the pods of a lab: threads that enter their network namespaces. Each counts what it did and keeps what
//! went wrong; nothing here decides by how long something took, only by what became of it.

use std::{
    fmt,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use socket2::{Domain, SockAddr, Socket, Type};
use strait_datapath::netns::Netns;

use super::counters::Network;
use crate::bed::{Bed, place};

/// A connection that does not come about, or an answer that does not come, within this has failed: four retransmissions.
const PATIENCE: Duration = Duration::from_secs(20);
/// A forbidden connection is given up before its first packet is sent again.
const GLANCE: Duration = Duration::from_millis(60);
/// How late connections are made up for.
const BEHIND: Duration = Duration::from_millis(50);
/// A transfer's pieces, and the pause between them: it is there to be broken, not to be fast.
const PIECE: usize = 16 << 10;
const BREATH: Duration = Duration::from_millis(20);

/// What all threads share.
#[derive(Default)]
pub(super) struct Ledger {
    done: AtomicBool,
    pub(super) connects: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) transfers: AtomicU64,
    /// What should not have happened.
    wrong: Mutex<Vec<String>>,
}

impl Ledger {
    fn note(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        // The first ones tell.
        if wrong.len() < 20 {
            wrong.push(what);
        }
    }

    pub(super) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_done(&self) -> bool {
        self.done.load(Relaxed)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connects, refused) = (self.connects.load(Relaxed), self.refused.load(Relaxed));
        let (transfers, bytes) = (self.transfers.load(Relaxed), self.bytes.load(Relaxed));
        writeln!(f, "connects: {connects} allowed, {refused} forbidden; gone wrong: {}", self.wrong().len())?;
        write!(f, "transfers open all the time: {transfers} whole, {} MB compared", bytes >> 20)
    }
}

/// Threads in pods.
pub(super) struct Load {
    pub(super) ledger: Arc<Ledger>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn new() -> Self {
        Self { ledger: Arc::new(Ledger::default()), threads: Vec::new() }
    }

    /// Ends all threads that look whether to end; servers end with the test.
    pub(super) fn end(self) -> Arc<Ledger> {
        self.ledger.done.store(true, Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                self.ledger.note("a thread panicked".to_owned());
            }
        }
        self.ledger
    }

    fn spawn(&mut self, bed: &Bed, pod: &str, work: impl FnOnce(&Ledger) + Send + 'static) {
        let (netns, ledger) = (namespace(bed, pod), Arc::clone(&self.ledger));
        self.threads.push(thread::spawn(move || {
            netns.enter().unwrap();
            work(&ledger);
        }));
    }

    /// Connects from `pod` to each of `to` in turn, `per_second` times, and has a byte come back each time. What it is later by
    /// than [`BEHIND`] is left out, not made up for: a busy machine gets fewer connections, not a burst.
    pub(super) fn connects(&mut self, bed: &Bed, pod: &str, to: Vec<SocketAddr>, per_second: u32) {
        let name = pod.to_owned();
        self.spawn(bed, pod, move |ledger| {
            let pause = Duration::from_secs(1) / per_second;
            let mut due = now();
            for address in to.iter().cycle() {
                if ledger.is_done() {
                    return;
                }
                due = (due + pause).max(now().saturating_sub(BEHIND));
                thread::sleep(due.saturating_sub(now()));
                match round_trip(*address) {
                    Ok(()) => _ = ledger.connects.fetch_add(1, Relaxed),
                    Err(error) => ledger.note(format!("{name} → {address}, allowed: {error}")),
                }
            }
        });
    }

    /// Tries from `pod` what no policy ever allows.
    pub(super) fn forbidden(&mut self, bed: &Bed, pod: &str, to: Vec<SocketAddr>) {
        let name = pod.to_owned();
        self.spawn(bed, pod, move |ledger| {
            for address in to.iter().cycle() {
                if ledger.is_done() {
                    return;
                }
                if glance(*address) {
                    ledger.note(format!("{name} → {address}, forbidden: connected"));
                }
                ledger.refused.fetch_add(1, Relaxed);
            }
        });
    }

    /// A connection that is open all the time, and carries a pattern there and back.
    pub(super) fn transfer(&mut self, bed: &Bed, pod: &str, to: SocketAddr, breath: Duration) {
        let name = pod.to_owned();
        self.spawn(bed, pod, move |ledger| {
            if let Err(error) = carry(to, breath, ledger) {
                ledger.note(format!("transfer {name} → {to}: {error}"));
            }
        });
    }
}

/// There and back until the end, every byte compared.
fn carry(to: SocketAddr, breath: Duration, ledger: &Ledger) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    let (mut sent, mut heard) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at: u64 = 0;
    while !ledger.is_done() {
        for (byte, offset) in sent.iter_mut().zip(at..) {
            *byte = pattern(offset);
        }
        stream.write_all(&sent)?;
        stream.read_exact(&mut heard)?;
        if sent != heard {
            return Err(std::io::Error::other(format!("bytes after {at} came back changed")));
        }
        at += PIECE as u64;
        ledger.bytes.fetch_add(2 * PIECE as u64, Relaxed);
        thread::sleep(breath);
    }
    ledger.transfers.fetch_add(1, Relaxed);
    Ok(())
}

pub(super) const STEADY: Duration = BREATH;
/// Between words on a connection that is otherwise silent.
pub(super) const RARE: Duration = Duration::from_secs(3);

/// A byte that tells its place, beyond repetition of short blocks.
fn pattern(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    u8::try_from(mixed).unwrap_or_default()
}

fn namespace(bed: &Bed, pod: &str) -> Netns {
    Netns::open(&bed.lab.paths().namespace(&place(pod))).unwrap()
}

/// What the pod's network stack has counted.
pub(super) fn network(bed: &Bed, pod: &str) -> Network {
    namespace(bed, pod).run(Network::of_this_thread).unwrap()
}

/// Whether a connection from `pod` comes about: forbidden ones get a glance, allowed ones all the time they need.
pub(super) fn reaches(bed: &Bed, pod: &str, to: SocketAddr, allowed: bool) -> bool {
    namespace(bed, pod).run(|| if allowed { round_trip(to).is_ok() } else { glance(to) }).unwrap()
}

/// Every port of `pod` gives back what it gets, until the test's process ends.
pub(super) fn serve(bed: &Bed, pod: &str, ports: &[u16]) {
    let netns = namespace(bed, pod);
    let listeners: Vec<_> = netns
        .run(|| ports.iter().map(|port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)).unwrap()).collect())
        .unwrap();
    for listener in listeners {
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || give_back(stream));
            }
        });
    }
}

fn give_back(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; PIECE];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connect, a byte there and back, close.
fn round_trip(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    let mut byte = [7];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}

/// Whether a connection comes about within [`GLANCE`]. Sends one packet, and nothing when it gives up.
fn glance(to: SocketAddr) -> bool {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    match socket.connect_timeout(&SockAddr::from(to), GLANCE) {
        Ok(()) => true,
        // Refused: the packet got there and an answer back.
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

/// Time since 1970, for pacing.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Every address and port of these.
pub(super) fn each(addresses: &[IpAddr], ports: &[u16]) -> Vec<SocketAddr> {
    addresses.iter().flat_map(|address| ports.iter().map(|port| SocketAddr::new(*address, *port))).collect()
}
