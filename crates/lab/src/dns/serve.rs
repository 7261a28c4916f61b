//! UDP and TCP on port 53.

use std::{
    cell::{Cell, RefCell},
    fs, io,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use super::{answer, zone::Zone};

const PORT: u16 = 53;
/// TCP clients at once; further ones are refused.
const MOST_CLIENTS: usize = 128;
/// How long a TCP client may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// The zone in a file, read again when the file is another.
struct ZoneFile {
    path: PathBuf,
    seen: Cell<Option<SystemTime>>,
    zone: RefCell<Rc<Zone>>,
}

impl ZoneFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: Cell::new(None), zone: RefCell::default() }
    }

    /// The zone as it is now. A file that cannot be read leaves the last one.
    fn current(&self) -> Rc<Zone> {
        let modified = fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok();
        if modified != self.seen.get() {
            let parsed = fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(zone) = parsed {
                *self.zone.borrow_mut() = Rc::new(zone);
                self.seen.set(modified);
            }
        }
        Rc::clone(&self.zone.borrow())
    }
}

/// Answers for the zone in the file `zone` (JSON of [`Zone`]) until a socket fails. Run it on a current-thread runtime
/// in a `LocalSet`.
pub async fn serve(zone: &Path) -> io::Result<()> {
    let any = (Ipv6Addr::UNSPECIFIED, PORT);
    let udp = UdpSocket::bind(any).await?;
    let tcp = TcpListener::bind(any).await?;
    let zone = Rc::new(ZoneFile::new(zone));
    let clients = Rc::new(Cell::new(0_usize));
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        tokio::select! {
            received = udp.recv_from(&mut buffer) => {
                // An error here is an ICMP error about an earlier answer: that client is gone, others are not.
                let Ok((length, peer)) = received else { continue };
                if let Some(answer) = answer(&buffer[..length], &zone.current(), true) {
                    let _ = udp.send_to(&answer, peer).await;
                }
            }
            accepted = tcp.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                if clients.get() >= MOST_CLIENTS {
                    continue;
                }
                clients.set(clients.get() + 1);
                let (zone, clients) = (Rc::clone(&zone), Rc::clone(&clients));
                tokio::task::spawn_local(async move {
                    let _ = converse(stream, &zone).await;
                    clients.set(clients.get() - 1);
                });
            }
        }
    }
}

/// Questions and answers, each after its length in two bytes (RFC 1035, 4.2.2).
async fn converse(mut stream: TcpStream, zone: &ZoneFile) -> io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut request = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut request)).await??;
        let Some(answer) = answer(&request, &zone.current(), false) else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(answer);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
