//! Numbered datagrams and bytes at a steady pace from one pod to another, for `bench change`: what of them arrives tells
//! when a policy came into force. Both ends write what they saw as little-endian `u64`s, times in nanoseconds since 1970
//! by the one clock of this machine.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

/// Between datagrams, and between bytes.
const PACE: Duration = Duration::from_micros(200);
/// How often blocked calls look whether to end.
const LOOK: Duration = Duration::from_millis(50);
/// A connection that gives nothing back for so long is cut off, and another is tried.
const SILENCE: Duration = Duration::from_millis(100);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_millis(100);

/// What the sender writes: when each datagram was sent, by number.
pub(crate) const SENT: &str = "sent";
/// What the receiver writes: numbers of datagrams, in order of arrival.
pub(crate) const RECEIVED: &str = "received";
/// What the receiver writes: when bytes of TCP connections arrived.
pub(crate) const ARRIVED: &str = "arrived";

/// Sends until standard input ends.
pub(crate) fn send(address: SocketAddr, folder: &Path) -> Result<()> {
    let done = until_input_ends();
    let tcp = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) {
                // Refused or cut off, as policies change.
                let _next_try = bytes(address, &done);
                thread::sleep(PACE);
            }
        }
    });
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(address)?;
    println!("sending");
    let mut sent = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let number = sent.len() as u64;
        sent.push(clock());
        // A datagram that the kernel refuses is one that did not arrive.
        let _refused = socket.send(&number.to_le_bytes());
        thread::sleep(PACE);
    }
    let _never_panics = tcp.join();
    write(&folder.join(SENT), &sent)
}

/// A connection that is sent bytes for as long as they come back.
fn bytes(address: SocketAddr, done: &AtomicBool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let (mut buffer, mut heard) = ([0; 4096], clock());
    while !done.load(Ordering::Relaxed) && u128::from(clock() - heard) < SILENCE.as_nanos() {
        match stream.write(&[7]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => heard = clock(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        thread::sleep(PACE);
    }
    Ok(())
}

/// Receives until standard input ends.
pub(crate) fn receive(port: u16, folder: &Path) -> Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).context("cannot bind")?;
    socket.set_read_timeout(Some(LOOK))?;
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("cannot listen")?;
    let arrived = Arc::new(Mutex::new(Vec::new()));
    thread::spawn({
        let arrived = Arc::clone(&arrived);
        move || {
            for stream in listener.incoming().flatten() {
                let arrived = Arc::clone(&arrived);
                thread::spawn(move || give_back(stream, &arrived));
            }
        }
    });
    println!("listening");
    let done = until_input_ends();
    let mut received = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let mut number = [0; 8];
        if socket.recv(&mut number).is_ok_and(|length| length == number.len()) {
            received.push(u64::from_le_bytes(number));
        }
    }
    write(&folder.join(RECEIVED), &received)?;
    write(&folder.join(ARRIVED), &arrived.lock().unwrap_or_else(PoisonError::into_inner))
}

fn give_back(mut stream: TcpStream, arrived: &Mutex<Vec<u64>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        arrived.lock().unwrap_or_else(PoisonError::into_inner).push(clock());
        stream.write_all(&buffer[..count])?;
    }
}

/// Becomes true when whoever started this closes its standard input, or ends.
fn until_input_ends() -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&done);
    thread::spawn(move || {
        let _whatever_it_says = std::io::stdin().read_to_end(&mut Vec::new());
        set.store(true, Ordering::Relaxed);
    });
    done
}

/// Nanoseconds since 1970.
pub(crate) fn clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn write(path: &Path, values: &[u64]) -> Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// What [`send`] or [`receive`] wrote.
pub(crate) fn read(path: &Path) -> Result<Vec<u64>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes.as_chunks().0.iter().map(|value| u64::from_le_bytes(*value)).collect())
}
