//! Hot restart: a new process takes the listening sockets of the one that runs, and serves before that one ends.
//!
//! ```text
//! new ── hello, version ──▶ old                 both ends have the same user, and nobody else may connect
//!     ◀── session key ─────                     so that the new one knows the sessions that the old one began
//!     ◀── sockets ─────────                     duplicates; their backlogs are the same ones
//!        (reads manifests, listens, serves)     the old one serves on, and takes up no changes meanwhile
//!     ── serving ─────────▶                     from here on the old one takes nothing and drains
//!     ◀── UDP sessions ────                     each client with the socket to its back end; datagrams wait meanwhile
//!     ◀── draining ────────                     the path is the new one's, and so are datagrams
//! ```
//!
//! Where the new one ends, or takes too long, before it serves, the old one goes on as if nothing had been. What either side does not know
//! yet it does not ask for: then the session key is another one, and clients of UDP begin anew.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use strait_proxy::{SessionKey, UdpSession};
use tokio::sync::{mpsc, oneshot};

/// Of the messages. Another one is refused, and the process that runs goes on.
const VERSION: u32 = 1;
/// The largest message. A process of before takes 4096 bytes, which is more than all but those that it does not ask for.
const MESSAGE: usize = 32 << 10;
/// Sockets of one message; the kernel passes 253 at most.
const BATCH: usize = 128;
/// Messages with sockets; more are not taken.
const BATCHES: usize = 256;
/// Sessions of one message.
const SESSIONS: usize = 32;
/// Messages with sessions; further sessions end.
const MOST_SESSIONS: usize = 4096;
/// The longest name of a back end, of which [`SESSIONS`] fit into a message.
const NAME: usize = 768;
/// How long either side waits for a message that is due at once.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How long a new process may take until it serves.
const SERVES: Duration = Duration::from_mins(1);

// Without `Debug`: one holds a secret.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "is", rename_all = "camelCase")]
enum Message {
    /// The new process is there. One of before did not ask for the key, or for sessions.
    Hello {
        version: u32,
        #[serde(default)]
        session_key: bool,
        #[serde(default)]
        udp_sessions: bool,
    },
    /// What seals sessions.
    SessionKey { key: [u8; 32] },
    /// Sockets come with it; `last` where no others follow. How many processes had them before the one that sends them.
    Sockets {
        last: bool,
        #[serde(default)]
        generation: u32,
    },
    /// Clients of UDP ports; a socket comes with each.
    UdpSessions { sessions: Vec<Told> },
    /// The old one does not hand anything over.
    Refused { why: String },
    /// The new one serves.
    Serving,
    /// The old one takes nothing any more.
    Draining,
}

/// A [`UdpSession`] without its socket; times are milliseconds ago.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Told {
    at: SocketAddr,
    socket: usize,
    client: SocketAddr,
    backend: String,
    endpoint: SocketAddr,
    age: u64,
    silent: u64,
    up: u64,
    down: u64,
}

impl Told {
    fn of(session: &UdpSession) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            at: session.at,
            socket: session.socket,
            client: session.client,
            backend: session.backend.clone(),
            endpoint: session.endpoint,
            age: millis(session.age),
            silent: millis(session.silent),
            up: session.up,
            down: session.down,
        }
    }

    fn with(self, upstream: OwnedFd) -> UdpSession {
        let Self { at, socket, client, backend, endpoint, age, silent, up, down } = self;
        let (age, silent) = (Duration::from_millis(age), Duration::from_millis(silent));
        UdpSession { at, socket, client, backend, endpoint, age, silent, up, down, upstream }
    }
}

impl Message {
    /// What it is, for people.
    const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::SessionKey { .. } => "session key",
            Self::Sockets { .. } => "sockets",
            Self::UdpSessions { .. } => "UDP sessions",
            Self::Refused { .. } => "refused",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// One end of the conversation: messages keep their borders.
struct Conversation(Socket);

impl Conversation {
    /// Takes up a conversation with a process of the same user.
    fn with(socket: Socket) -> anyhow::Result<Self> {
        let peer = rustix::net::sockopt::socket_peercred(&socket)?;
        let own = rustix::process::geteuid();
        if peer.uid != own {
            bail!(
                "the process {} there is of user {}, not of {}",
                peer.pid.as_raw_nonzero(),
                peer.uid.as_raw(),
                own.as_raw()
            );
        }
        socket.set_write_timeout(Some(AT_ONCE))?;
        Ok(Self(socket))
    }

    fn send(&self, message: &Message, sockets: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            bail!("too many sockets for a message");
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    fn receive(&self, patience: Duration, sockets: &mut Vec<OwnedFd>) -> anyhow::Result<Message> {
        self.0.set_read_timeout(Some(patience))?;
        let mut text = vec![0; MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => bail!("it said nothing for {} s", patience.as_secs()),
                received => break received?,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights);
            }
        }
        if received.bytes == 0 {
            bail!("it has ended");
        }
        serde_json::from_slice(&text[..received.bytes]).context("it said what is no message")
    }
}

impl Conversation {
    /// Sends sessions, as many as are taken.
    fn send_sessions(&self, sessions: &[UdpSession]) -> anyhow::Result<()> {
        let sessions: Vec<_> = sessions.iter().filter(|session| session.backend.len() <= NAME).collect();
        for batch in sessions.chunks(SESSIONS).take(MOST_SESSIONS) {
            let told = batch.iter().map(|session| Told::of(session)).collect();
            let sockets: Vec<_> = batch.iter().map(|session| session.upstream.as_fd()).collect();
            self.send(&Message::UdpSessions { sessions: told }, &sockets)?;
        }
        Ok(())
    }

    /// Receives sessions, and gives the message behind them.
    fn sessions(&self, sessions: &mut Vec<UdpSession>) -> anyhow::Result<Message> {
        for _ in 0..=MOST_SESSIONS {
            let mut sockets = Vec::new();
            match self.receive(AT_ONCE, &mut sockets)? {
                // Sockets for which there is no room in this process are the last ones: their clients begin anew.
                Message::UdpSessions { sessions: told } => {
                    sessions.extend(told.into_iter().zip(sockets).map(|(told, socket)| told.with(socket)));
                }
                other @ (Message::Hello { .. }
                | Message::SessionKey { .. }
                | Message::Sockets { .. }
                | Message::Refused { .. }
                | Message::Serving
                | Message::Draining) => return Ok(other),
            }
        }
        bail!("its sessions have no end")
    }
}

fn address(path: &Path) -> anyhow::Result<SockAddr> {
    SockAddr::unix(path).with_context(|| format!("{} cannot be the path of a socket", path.display()))
}

/// The sockets of the process that runs, and the conversation with it. Until [`Taken::serving`] that one serves as well.
pub(super) struct Taken {
    conversation: Conversation,
    pub(super) sockets: Vec<OwnedFd>,
    /// That of this process, for [`Gate::inherit`](strait_proxy::Gate::inherit).
    pub(super) generation: u32,
    /// By which the other one seals sessions, if it tells.
    pub(super) session_key: Option<SessionKey>,
    path: PathBuf,
}

/// Asks whoever listens at `path` for its sockets. None where nobody does.
pub(super) fn take(path: &Path) -> anyhow::Result<Option<Taken>> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    match socket.connect(&address(path)?) {
        Ok(()) => {}
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot connect to {}", path.display())),
    }
    let taken = || {
        let conversation = Conversation::with(socket)?;
        conversation.send(&Message::Hello { version: VERSION, session_key: true, udp_sessions: true }, &[])?;
        let (mut sockets, mut session_key) = (Vec::new(), None);
        for _ in 0..BATCHES {
            match conversation.receive(AT_ONCE, &mut sockets)? {
                Message::Sockets { last: true, generation } => {
                    return Ok((conversation, sockets, generation.wrapping_add(1), session_key));
                }
                Message::SessionKey { key } => session_key = Some(SessionKey(key)),
                Message::Sockets { last: false, .. } => {}
                Message::Refused { why } => bail!("{why}"),
                other
                @ (Message::Hello { .. } | Message::UdpSessions { .. } | Message::Serving | Message::Draining) => {
                    bail!("it said {} amid its sockets", other.name())
                }
            }
        }
        bail!("its sockets have no end")
    };
    let (conversation, sockets, generation, session_key) = taken()
        .with_context(|| format!("the gate at {} does not hand over its sockets, and goes on", path.display()))?;
    Ok(Some(Taken { conversation, sockets, generation, session_key, path: path.to_owned() }))
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

impl Taken {
    /// Says that this process serves; then the other one takes nothing any more. Gives its clients of UDP ports.
    ///
    /// # Errors
    /// The other one lives, and did not take it: it goes on, and this process must not.
    pub(super) fn serving(self) -> anyhow::Result<Vec<UdpSession>> {
        let Self { conversation, path, .. } = self;
        let mut sessions = Vec::new();
        let said = conversation.send(&Message::Serving, &[]);
        let answer = said.and_then(|()| conversation.sessions(&mut sessions));
        match answer {
            Ok(Message::Draining) => Ok(sessions),
            Ok(other) => bail!("the gate at {} answered {}, and goes on", path.display(), other.name()),
            Err(error) => {
                // Somebody must go on: this process, if the other one has ended.
                let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
                match socket.connect(&address(&path)?) {
                    Err(gone) if is_nobody(&gone) => Ok(sessions),
                    _ => Err(error).with_context(|| format!("the gate at {} goes on", path.display())),
                }
            }
        }
    }
}

/// What the next process gets.
pub(super) struct Handed {
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) session_key: SessionKey,
    /// How many processes had them before.
    pub(super) generation: u32,
}

/// What the listening thread asks of the gate.
pub(super) enum Asked {
    /// For its sockets. Until the answer is dropped nothing about them may change.
    Sockets(oneshot::Sender<io::Result<Handed>>),
    /// The new process gave up: all goes on.
    Nothing,
    /// The new process serves. The answer is this one's clients of UDP ports, when it takes nothing any more.
    Serving(oneshot::Sender<Vec<UdpSession>>),
}

/// The socket at which the next process asks. Its file goes with it, unless another process has taken it.
pub(super) struct Door {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for Door {
    fn drop(&mut self) {
        if file_id(&self.path).ok() == Some(self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Listens at `path` for the next process. What was there before is replaced at once: there is always somebody to ask.
pub(super) fn listen(path: &Path) -> anyhow::Result<(Door, mpsc::Receiver<Asked>)> {
    if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
        bail!("{} is there and is no socket", path.display());
    }
    let cannot = || format!("cannot listen at {}", path.display());
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}", std::process::id()));
    let part = PathBuf::from(part);
    let _ = fs::remove_file(&part);
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.bind(&address(&part)?).with_context(cannot)?;
    let ready = || {
        // Before it listens nobody can connect: there is no moment in which others could.
        fs::set_permissions(&part, fs::Permissions::from_mode(0o600))?;
        socket.listen(4)?;
        let id = file_id(&part)?;
        fs::rename(&part, path)?;
        Ok::<_, io::Error>(id)
    };
    let id = ready().inspect_err(|_| _ = fs::remove_file(&part)).with_context(cannot)?;
    let (ask, asked) = mpsc::channel(1);
    thread::Builder::new().name("hot-restart".into()).spawn(move || answer(&socket, &ask))?;
    Ok((Door { path: path.to_owned(), id }, asked))
}

/// Answers new processes, one after the other. After one has taken over, others are refused as long as this process lives: who found
/// nobody would start beside the new one.
fn answer(socket: &Socket, ask: &mpsc::Sender<Asked>) {
    let mut handed_over = false;
    loop {
        let Ok((peer, _)) = socket.accept() else {
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        match hand_over(peer, ask, handed_over) {
            Ok(()) => handed_over = true,
            Err(error) => {
                eprintln!("a process asked for the sockets and did not take over: {error:#}");
                if !handed_over && ask.blocking_send(Asked::Nothing).is_err() {
                    return;
                }
            }
        }
    }
}

fn hand_over(peer: Socket, ask: &mpsc::Sender<Asked>, handed_over: bool) -> anyhow::Result<()> {
    let conversation = Conversation::with(peer)?;
    let refuse = |why: String| {
        let _ = conversation.send(&Message::Refused { why: why.clone() }, &[]);
        bail!("{why}")
    };
    let first = conversation.receive(AT_ONCE, &mut Vec::new())?;
    let Message::Hello { version, session_key: wanted, udp_sessions } = first else {
        bail!("it said {} first", first.name())
    };
    if version != VERSION {
        return refuse(format!("it speaks version {VERSION}, not {version}"));
    }
    if handed_over {
        return refuse("another process has taken over".into());
    }
    let (send, sockets) = oneshot::channel();
    ask.blocking_send(Asked::Sockets(send)).context("the gate ends")?;
    let Handed { sockets, session_key, generation } = match sockets.blocking_recv().context("the gate ends")? {
        Ok(handed) => handed,
        Err(error) => return refuse(format!("its sockets cannot be duplicated: {error}")),
    };
    if sockets.len() > BATCH * BATCHES {
        return refuse(format!("it has {} sockets, more than {} are not handed over", sockets.len(), BATCH * BATCHES));
    }
    if wanted {
        conversation.send(&Message::SessionKey { key: session_key.0 }, &[])?;
    }
    let batches: Vec<_> = sockets.chunks(BATCH).collect();
    for (index, batch) in batches.iter().enumerate() {
        let borrowed: Vec<_> = batch.iter().map(OwnedFd::as_fd).collect();
        conversation.send(&Message::Sockets { last: index + 1 == batches.len(), generation }, &borrowed)?;
    }
    if batches.is_empty() {
        conversation.send(&Message::Sockets { last: true, generation }, &[])?;
    }
    drop(sockets);
    let then = conversation.receive(SERVES, &mut Vec::new())?;
    if then != Message::Serving {
        bail!("it said {} when it should have served", then.name());
    }
    let (send, draining) = oneshot::channel();
    ask.blocking_send(Asked::Serving(send)).context("the gate ends")?;
    let sessions = draining.blocking_recv().unwrap_or_default();
    // It serves: whether it hears of this does not matter.
    if udp_sessions && let Err(error) = conversation.send_sessions(&sessions) {
        eprintln!("clients of UDP ports begin anew: {error:#}");
    }
    let _ = conversation.send(&Message::Draining, &[]);
    Ok(())
}
