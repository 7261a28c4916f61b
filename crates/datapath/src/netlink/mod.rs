//! Links, addresses, routes and neighbours by rtnetlink: the one place in Strait that speaks it.
//!
//! A [`Netlink`] is a socket in one network namespace; it stays there whichever namespace the calling thread enters later.
//! Requests are synchronous and take microseconds, so there is no batching and no runtime. Everything that sets a state is
//! idempotent: addresses, routes and neighbours replace what is there, deleting what is absent succeeds. Only making a link that
//! exists is an error, because nobody can tell whether it is the same link.

mod link;
mod net;
mod watch;

use std::{fmt, io};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use link::{Link, Mac, Veth, VethEnd};
pub use net::{Route, RouteScope};
pub use watch::AddressWatch;

use crate::netns::{self, Netns};

/// A conversation with the kernel about one network namespace.
pub struct Netlink {
    socket: Socket,
    netns: String,
    sequence: u32,
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink").field("netns", &self.netns).finish_non_exhaustive()
    }
}

/// A request that the kernel refused, with what it was about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's refusal.
    #[error("{netns}: cannot {operation}: {source}{}{}", detail(kernel), advice(source))]
    Refused {
        /// The network namespace.
        netns: String,
        /// What was attempted, naming interface and address.
        operation: String,
        /// What the kernel adds to the error number, often empty.
        kernel: String,
        /// The error number.
        source: io::Error,
    },
    /// An interface of that name does not exist.
    #[error("{netns}: cannot {operation}: no interface {interface} there")]
    NoInterface {
        /// The network namespace.
        netns: String,
        /// What was attempted.
        operation: String,
        /// The interface.
        interface: String,
    },
    /// A name the kernel would not take.
    #[error(
        "interface name {0:?}: allowed are 1 to 15 bytes without '/', ':' and white space, other than \".\" and \"..\""
    )]
    InvalidName(String),
    /// The kernel's answer made no sense.
    #[error("{netns}: cannot {operation}: the answer cannot be read: {text}")]
    Answer {
        /// The network namespace.
        netns: String,
        /// What was attempted.
        operation: String,
        /// What is wrong with the answer.
        text: String,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] netns::Error),
}

impl Error {
    /// What the kernel's error number stands for, where there is one.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Refused { source, .. } => Some(source.kind()),
            Self::NoInterface { .. } => Some(io::ErrorKind::NotFound),
            Self::InvalidName(_) => Some(io::ErrorKind::InvalidInput),
            Self::Answer { .. } | Self::Netns(_) => None,
        }
    }
}

fn detail(kernel: &str) -> String {
    if kernel.is_empty() { String::new() } else { format!(": {kernel}") }
}

const ADVICE: &[(io::ErrorKind, &str)] = &[
    (io::ErrorKind::PermissionDenied, " (needs CAP_NET_ADMIN in that namespace: run as root)"),
    (io::ErrorKind::AlreadyExists, " (delete it first, or choose another name)"),
    (io::ErrorKind::NetworkUnreachable, " (the gateway is on no link: set its interface, or route to it first)"),
    (io::ErrorKind::NetworkDown, " (set the interface up first)"),
];

fn advice(error: &io::Error) -> &'static str {
    ADVICE.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, advice)| advice)
}

/// What a request is to do with what exists.
type Flags = u16;

impl Netlink {
    /// A socket in the network namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        Self::connect("this network namespace".to_owned())
    }

    /// A socket in `netns`.
    pub fn open(netns: &Netns) -> Result<Self, Error> {
        let label = format!("network namespace {}", netns.label());
        netns.run(|| Self::connect(label))?
    }

    fn connect(netns: String) -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            // Old kernels do without the text.
            let _ = socket.set_ext_ack(true);
            Ok(socket)
        };
        match open() {
            Ok(socket) => Ok(Self { socket, netns, sequence: 0 }),
            Err(source) => Err(Error::Refused {
                netns,
                operation: "open a netlink socket".to_owned(),
                kernel: String::new(),
                source,
            }),
        }
    }

    /// Sends one request and waits for its acknowledgement.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: Flags,
        operation: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.exchange(message, flags | NLM_F_ACK, operation).map(drop)
    }

    /// Asks for everything that matches and waits for the whole answer.
    fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        operation: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.exchange(message, NLM_F_DUMP, operation)
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: Flags,
        operation: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.converse(&bytes).map_err(|failure| match failure {
            Failure::Refused(source, kernel) => {
                Error::Refused { netns: self.netns.clone(), operation: operation(), kernel, source }
            }
            Failure::Garbled(text) => Error::Answer { netns: self.netns.clone(), operation: operation(), text },
        })
    }

    fn converse(&mut self, request: &[u8]) -> Result<Vec<RouteNetlinkMessage>, Failure> {
        let io = |error| Failure::Refused(error, String::new());
        self.socket.send(request, 0).map_err(io)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(io)?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| Failure::Garbled(error.to_string()))?;
                let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
                rest = rest.get(length.max(16)..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                if let NetlinkPayload::Error(error) = answer.payload {
                    return match error.code {
                        None => Ok(answers),
                        Some(_) => Err(Failure::Refused(error.to_io(), extended_text(&error.header))),
                    };
                } else if let NetlinkPayload::Done(_) = answer.payload {
                    return Ok(answers);
                } else if let NetlinkPayload::InnerMessage(message) = answer.payload {
                    answers.push(message);
                }
            }
        }
    }
}

enum Failure {
    Refused(io::Error, String),
    Garbled(String),
}

/// `NLMSGERR_ATTR_MSG` of an acknowledgement whose quoted request was capped to its header.
fn extended_text(acknowledgement: &[u8]) -> String {
    const HEADER: usize = 16;
    const MESSAGE: u16 = 1;
    let mut rest = acknowledgement.get(HEADER..).unwrap_or_default();
    while let [a, b, c, d, ..] = *rest {
        let (length, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let Some(value) = rest.get(4..length) else { break };
        if kind == MESSAGE {
            return String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}
