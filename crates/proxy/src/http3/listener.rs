//! A port's sockets for QUIC: connections taken, counted, shaken hands with.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use quinn::{
    Connecting, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::QuicServerConfig,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    hello::{self, ByName, Chosen},
    link,
    steer::Ids,
};
use crate::{
    accept::{Pace, limited},
    admission::Admitted,
    gate::GateError,
    limits::Limits,
    listen::{Count, Listening, Sockets},
    record::Client,
    worker::Worker,
};

/// Handshakes under way at a socket, from where on clients must first show that they are where they say (RFC 9000, 8.1.2).
const UNPROVEN: usize = 64;
/// Connections that wait for the worker, and bytes that are held for each until it takes them.
const INCOMING: (usize, u64) = (256, 16 << 10);
/// Bytes that a stream, and all streams of a connection, may be sent before they are taken.
const WINDOWS: (u32, u32) = (256 << 10, 1 << 20);
/// Bytes of answers that a connection holds until its client has them.
const UNACKED: u64 = 1 << 20;
/// Streams of the client's own direction: one for control, two for QPACK, and what is made up to keep servers awake.
const UNI: u32 = 8;
/// How much longer a connection may be silent than a request on it: so that the request's client is told.
const AFTER: Duration = Duration::from_secs(2);
/// Seconds that clients may remember for where HTTP/3 is served.
const KNOWN: u32 = 86_400;
/// How long the last words of connections may take.
const LAST: Duration = Duration::from_millis(500);

/// Word that a listener is gone.
pub(super) struct Leave(watch::Sender<bool>);

impl Leave {
    /// Waits for it.
    pub(super) async fn asked(&self) {
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }
}

/// What a worker serves of QUIC.
#[derive(Default)]
pub(crate) struct Listeners {
    all: BTreeMap<(IpAddr, u16), Served>,
    /// Of listeners that are gone, whose connections are not.
    leaving: Vec<JoinHandle<()>>,
}

struct Served {
    /// The sockets, by which it is seen that they are still the same.
    of: Arc<Listening>,
    /// The port that clients know.
    port: u16,
    leave: Rc<Leave>,
    tasks: Vec<JoinHandle<()>>,
}

/// One socket of a worker.
struct Listener {
    endpoint: Endpoint,
    config: ServerConfig,
    before: Arc<QuicServerConfig>,
    connections: Count,
    /// The address of the gateway, and the port of the listener.
    place: (IpAddr, u16),
    leave: Rc<Leave>,
    /// Handshakes under way.
    shaking: Rc<Cell<usize>>,
    /// Each connection holds a receiver.
    alive: watch::Sender<()>,
}

impl Listeners {
    /// Serves where there are sockets for it, and no longer where there are none. Gives what cannot be served.
    pub(crate) fn listen(&mut self, worker: &Rc<Worker>, sockets: &Sockets) -> Vec<GateError> {
        let live = worker.live();
        let mut wanted = BTreeMap::new();
        for port in &live.plan.ports {
            let at = worker.listens_at(port);
            if let Some(of) = sockets.get(&(at, true)).filter(|of| of.is_quic() && !port.serve.is_udp()) {
                wanted.insert((port.address, port.port), (of, at, Arc::clone(&port.gateway)));
            }
        }
        let gone = self
            .all
            .extract_if(.., |place, served| wanted.get(place).is_none_or(|(of, ..)| !Arc::ptr_eq(of, &served.of)));
        for (_, Served { leave, tasks, .. }) in gone {
            leave.0.send_replace(true);
            self.leaving.extend(tasks);
        }
        self.leaving.retain(|task| !task.is_finished());
        let mut errors = Vec::new();
        for (place, (of, at, gateway)) in wanted {
            if self.all.contains_key(&place) {
                continue;
            }
            let leave = Rc::new(Leave(watch::Sender::new(false)));
            match open(worker, of, place, &leave) {
                Ok(tasks) => _ = self.all.insert(place, Served { of: Arc::clone(of), port: at.port(), leave, tasks }),
                Err(source) => errors.push(GateError::Listen { at, gateway, port: place.1, udp: true, source }),
            }
        }
        let told = |(place, served): (&(IpAddr, u16), &Served)| {
            (*place, format!("h3=\":{}\"; ma={KNOWN}", served.port).into())
        };
        *worker.alternatives.borrow_mut() = self.all.iter().map(told).collect();
        errors
    }

    /// Lets all of them come to their end.
    pub(crate) async fn finish(self) {
        for task in self.all.into_values().flat_map(|served| served.tasks).chain(self.leaving) {
            let _ = task.await;
        }
    }
}

fn open(
    worker: &Rc<Worker>,
    of: &Arc<Listening>,
    place: (IpAddr, u16),
    leave: &Rc<Leave>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let before = hello::before().ok_or_else(|| io::Error::other("TLS has nothing that QUIC could use"))?;
    let config = config(&worker.limits, Arc::clone(&before));
    let mut tasks = Vec::new();
    let (index, workers) = worker.part();
    for (at, socket) in of.of_half(index, workers)? {
        let mut ids = EndpointConfig::default();
        ids.cid_generator(move || Box::new(Ids::new(at)));
        let endpoint = Endpoint::new(ids, Some(config.clone()), socket.into(), Arc::new(TokioRuntime))?;
        let listener = Listener {
            endpoint,
            config: config.clone(),
            before: Arc::clone(&before),
            connections: Arc::clone(of.connections()),
            place,
            leave: Rc::clone(leave),
            shaking: Rc::default(),
            alive: watch::Sender::new(()),
        };
        tasks.push(tokio::task::spawn_local(accept(Rc::clone(worker), listener)));
    }
    Ok(tasks)
}

fn config(limits: &Limits, crypto: Arc<QuicServerConfig>) -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI))
        .max_idle_timeout((limits.idle + AFTER).try_into().ok())
        .stream_receive_window(VarInt::from_u32(WINDOWS.0))
        .receive_window(VarInt::from_u32(WINDOWS.1))
        .send_window(UNACKED)
        .datagram_receive_buffer_size(None);
    let mut config = ServerConfig::with_crypto(crypto);
    config
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING.0)
        .incoming_buffer_size(INCOMING.1)
        .incoming_buffer_size_total(INCOMING.0 as u64 * INCOMING.1);
    config
}

/// Takes connections until the gate ends or hands over, or the listener is gone; and stays until those that there are have ended.
async fn accept(worker: Rc<Worker>, listener: Listener) {
    let mut pace = Pace::new(worker.limits.connection_rate);
    {
        let (mut draining, mut gone) = (pin!(worker.draining()), pin!(listener.leave.asked()));
        loop {
            pace.wait().await;
            let incoming = tokio::select! {
                biased;
                incoming = listener.endpoint.accept() => incoming,
                () = &mut draining => break,
                () = &mut gone => break,
            };
            let Some(incoming) = incoming else { return };
            take(&worker, &listener, incoming);
        }
    }
    // Who comes now is told so at once, and tries another way.
    let refused = async {
        while let Some(incoming) = listener.endpoint.accept().await {
            incoming.refuse();
        }
    };
    tokio::select! {
        () = listener.alive.closed() => {}
        () = refused => {}
    }
    let _ = timeout(LAST, listener.endpoint.wait_idle()).await;
}

/// Answers a client's first packet.
fn take(worker: &Rc<Worker>, listener: &Listener, incoming: Incoming) {
    let peer = incoming.remote_address();
    // Nothing tells for whom a proxy's connection is.
    if worker.is_overloaded() || worker.is_proxy(peer.ip()) {
        limited(worker, listener.place);
        return incoming.refuse();
    }
    if listener.shaking.get() >= UNPROVEN && incoming.may_retry() {
        let _ = incoming.retry();
        return;
    }
    let admitted = worker.admission.admit(&listener.connections);
    let Some(admitted) = admitted.and_then(|mut of| of.is_of(peer.ip()).then_some(of)) else {
        limited(worker, listener.place);
        return incoming.refuse();
    };
    let crypto = ByName { before: Arc::clone(&listener.before), live: worker.live().shared(), place: listener.place };
    let mut config = listener.config.clone();
    config.crypto = Arc::new(crypto);
    let Ok(connecting) = incoming.accept_with(Arc::new(config)) else { return };
    let shaking = Shaking::begin(&listener.shaking);
    let (task, open, alive) = (Rc::clone(worker), worker.open(), listener.alive.subscribe());
    let (place, leave) = (listener.place, Rc::clone(&listener.leave));
    tokio::task::spawn_local(async move {
        connection(task, (connecting, shaking), admitted, (peer, place), leave).await;
        drop((open, alive));
    });
}

/// A handshake under way.
struct Shaking(Rc<Cell<usize>>);

impl Shaking {
    fn begin(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn connection(
    worker: Rc<Worker>,
    (connecting, shaking): (Connecting, Shaking),
    _admitted: Admitted,
    (peer, (address, port)): (SocketAddr, (IpAddr, u16)),
    leave: Rc<Leave>,
) {
    let shaken = timeout(worker.limits.head_time, connecting).await;
    drop(shaking);
    let Ok(Ok(quic)) = shaken else { return };
    let chosen = quic.handshake_data().and_then(|data| data.downcast::<Chosen>().ok());
    let Some(chosen) = chosen else { return };
    let live = worker.live();
    let counts = live.port(address, port).and_then(|port| live.names.listener(port));
    let _counted = counts.map(|counts| counts.accepted(worker.reporter.worker()));
    drop(live);
    let mut client = Client::new(peer, address, port, true);
    client.trusted = worker.trusted((address, port));
    client.http3 = true;
    client.server_name = Some(chosen.name.into());
    client.listener = Some(chosen.listener);
    Box::pin(link::serve(worker, quic, Rc::new(client), leave)).await;
}
