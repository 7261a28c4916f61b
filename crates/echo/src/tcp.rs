//! One TCP connection: find out what it speaks and speak it.

use std::{future::Future, io, net::SocketAddr, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use crate::{
    http::{self, Connection},
    listen::Shared,
    prefixed::Prefixed,
    sniff::{ENOUGH, Sniffed, sniff},
    tls::Assertions,
};

/// After an accept error (out of file descriptors, mostly) the next try waits, so that connections can end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bytes an echoing connection holds at once.
const ECHO_BUFFER: usize = 16 << 10;

/// A TCP connection or the TLS session in it; one type, so that the HTTP code is compiled once.
type Stream = Box<dyn Io>;

trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Io for S {}

/// Accepts until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, shared: Rc<Shared>) {
    loop {
        let Ok(permit) = Arc::clone(&shared.connections).acquire_owned().await else { return };
        let Ok((stream, source)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(destination) = stream.local_addr() else { continue };
        let _only_slower_without = stream.set_nodelay(true);
        let connection = Connection {
            source: canonical(source),
            destination: canonical(destination),
            shared: Rc::clone(&shared),
            tls: None,
        };
        tokio::task::spawn_local(async move {
            let _ended_however = speak(Box::new(stream), connection).await;
            drop(permit);
        });
    }
}

/// `::ffff:192.0.2.1`, as a dual-stack socket shows IPv4 peers, is 192.0.2.1 to everybody else.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Speaks what the client speaks, until either side ends or a bound is reached.
///
/// Boxed because TLS comes back here with the decrypted stream.
fn speak(mut stream: Stream, connection: Connection) -> Pin<Box<dyn Future<Output = io::Result<()>>>> {
    Box::pin(async move {
        let limits = connection.shared.limits;
        let (start, sniffed) = first_bytes(&mut stream, limits.idle, limits.sniff).await?;
        let stream = Prefixed::new(start, stream);
        match sniffed {
            Sniffed::Http => http::serve(stream, connection).await,
            Sniffed::Tls if connection.tls.is_none() => {
                let Some(acceptor) = connection.shared.tls.acceptor() else {
                    return Err(io::Error::other("no certificate could be made"));
                };
                let stream = timeout(limits.request, acceptor.accept(stream)).await??;
                let tls = Some(Assertions::of(stream.get_ref().1));
                speak(Box::new(stream), Connection { tls, ..connection }).await
            }
            Sniffed::Tls | Sniffed::Bytes | Sniffed::Undecided => echo(stream, limits.idle).await,
        }
    })
}

/// Reads until it is clear what the client speaks, it pauses, or it has nothing more to say.
async fn first_bytes(stream: &mut Stream, idle: Duration, pause: Duration) -> io::Result<(Bytes, Sniffed)> {
    let mut start = BytesMut::with_capacity(ECHO_BUFFER);
    while sniff(&start) == Sniffed::Undecided && start.len() < ENOUGH {
        if start.is_empty() {
            if timeout(idle, stream.read_buf(&mut start)).await?? == 0 {
                break;
            }
        } else {
            let Ok(read) = timeout(pause, stream.read_buf(&mut start)).await else { break };
            if read? == 0 {
                break;
            }
        }
    }
    let sniffed = sniff(&start);
    Ok((start.freeze(), sniffed))
}

/// Gives every byte back, then closes as the client did.
async fn echo(mut stream: Prefixed<Stream>, idle: Duration) -> io::Result<()> {
    let mut buffer = vec![0; ECHO_BUFFER];
    loop {
        let length = timeout(idle, stream.read(&mut buffer)).await??;
        if length == 0 {
            return timeout(idle, stream.shutdown()).await?;
        }
        timeout(idle, stream.write_all(&buffer[..length])).await??;
        timeout(idle, stream.flush()).await??;
    }
}
