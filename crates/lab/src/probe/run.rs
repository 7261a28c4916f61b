//! The probing process: probes on standard input, outcomes on standard output.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use nix::errno::Errno;
use strait_base::Protocol;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    Answer, Knock, Order, Outcome, Probe, attempt,
    prohibited::Prohibited,
    raw::{Raw, preferred_source},
};

/// Probes at once.
const MOST_AT_ONCE: usize = 256;
/// Transmissions of a probe: the first and two more.
const TRANSMISSIONS: u32 = 3;

/// For answers that are not a socket's own, and for refusals that are not the destination's.
type Ears = (Option<Raw>, Prohibited);

/// Reads an order from `input`, carries it out in the network namespace of the process, and writes the outcomes, in
/// order, to `output`.
pub fn run(input: impl io::Read, output: impl io::Write) -> io::Result<()> {
    let order: Order = serde_json::from_reader(input)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcomes = LocalSet::new().block_on(&runtime, carry_out(order));
    serde_json::to_writer(output, &outcomes)?;
    Ok(())
}

async fn carry_out(order: Order) -> Vec<Outcome> {
    let patience = Duration::from_millis(order.patience_ms);
    let needs_raw = |probe: &Probe| matches!(probe.knock, Knock::Ping | Knock::Port(Protocol::Sctp, _));
    let raw = if order.probes.iter().any(needs_raw) { Raw::open().map(Some) } else { Ok(None) };
    let prohibited = Prohibited::open();
    let ears = raw.and_then(|raw| Ok((raw, prohibited?)));
    let ears = Rc::new(ears.map_err(|error| format!("cannot open raw sockets: {error}")));
    let places = Rc::new(Semaphore::new(MOST_AT_ONCE));
    let mut outcomes = vec![Outcome::Denied; order.probes.len()];
    let mut running = JoinSet::new();
    for (index, probe) in order.probes.into_iter().enumerate() {
        let (ears, places) = (Rc::clone(&ears), Rc::clone(&places));
        running.spawn_local(async move {
            let _place = places.acquire().await;
            (index, ask(&probe, index, &ears, patience).await)
        });
    }
    while let Some(done) = running.join_next().await {
        match done {
            Ok((index, outcome)) => outcomes[index] = outcome,
            Err(error) => return vec![Outcome::Error(error.to_string()); outcomes.len()],
        }
    }
    outcomes
}

async fn ask(probe: &Probe, index: usize, ears: &Result<Ears, String>, patience: Duration) -> Outcome {
    let Probe { source, to, knock, .. } = *probe;
    let number = u16::try_from(index % 0x4000).unwrap_or(0);
    let ears = match ears {
        Ok(ears) => ears,
        Err(error) => return Outcome::Error(error.clone()),
    };
    let once = || try_once(source, to, knock, ears, number);
    // Without a route nothing leaves this host, which later errors do not tell from a router's word.
    if let Err(error) = preferred_source(to) {
        return Outcome::Error(format!("{probe}: cannot send: {error}"));
    }
    let start = Instant::now();
    let deadline = start + patience;
    // All transmissions stay open to the end: an answer to the first may come after the last was sent.
    let mut open: Vec<std::pin::Pin<Box<dyn Future<Output = io::Result<Answer>> + '_>>> = Vec::new();
    for transmission in 1..=TRANSMISSIONS {
        open.push(Box::pin(once()));
        let until = if transmission == TRANSMISSIONS { deadline } else { start + patience * 2 * transmission / 7 };
        match timeout_at(until, first_of(&mut open)).await {
            Ok(Ok(answer)) => return Outcome::Allowed(answer),
            Ok(Err(error)) if is_local(&error) => return Outcome::Error(format!("{probe}: cannot send: {error}")),
            // Someone on the way says that there is none. The next transmission may fare better.
            Ok(Err(_)) => sleep_until(until).await,
            Err(_) => {}
        }
    }
    Outcome::Denied
}

async fn try_once(
    source: Option<IpAddr>,
    to: IpAddr,
    knock: Knock,
    (raw, prohibited): &Ears,
    number: u16,
) -> io::Result<Answer> {
    match (knock, raw) {
        (Knock::Port(Protocol::Tcp, port), _) => attempt::tcp(source, SocketAddr::new(to, port), prohibited).await,
        (Knock::Port(Protocol::Udp, port), _) => attempt::udp(source, SocketAddr::new(to, port)).await,
        (Knock::Port(Protocol::Sctp, port), Some(raw)) => raw.sctp(source, SocketAddr::new(to, port), number).await,
        (Knock::Ping, Some(raw)) => raw.ping(source, to, number).await,
        (Knock::Ping | Knock::Port(Protocol::Sctp, _), None) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The first to finish; it is taken out.
async fn first_of<F: Future + Unpin>(futures: &mut Vec<F>) -> F::Output {
    std::future::poll_fn(|context| {
        for index in 0..futures.len() {
            if let std::task::Poll::Ready(value) = std::pin::Pin::new(&mut futures[index]).poll(context) {
                drop(futures.remove(index));
                return std::task::Poll::Ready(value);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Whether the error tells of this host rather than of the way or the destination.
fn is_local(error: &io::Error) -> bool {
    let Some(number) = error.raw_os_error() else { return true };
    let of_the_way = [
        Errno::EHOSTUNREACH,
        Errno::ENETUNREACH,
        Errno::EHOSTDOWN,
        Errno::ETIMEDOUT,
        Errno::ECONNRESET,
        // Administratively prohibited, as Linux tells it for IPv6.
        Errno::EACCES,
        // A program on the way out dropped it: what a node sends is judged at its own end of a pod's link.
        Errno::ENOBUFS,
    ];
    !of_the_way.contains(&Errno::from_raw(number))
}
