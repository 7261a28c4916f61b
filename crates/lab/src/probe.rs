//! Asking with packets whether one place reaches another.
//!
//! One process a source (`strait lab probe`) enters its place and tries everything at once. *Allowed* means that the
//! destination itself answered or refused: both prove that the way there and back is open. *Denied* means silence
//! through all retransmissions, or that policy itself said no: by an ICMP error, which is not the destination's word, or by a
//! reset, which is told from the destination's own by its window ([`strait_packet::respond::RESET_WINDOW`]).
//!
//! | protocol | asked with                 | answers that count                                          |
//! |----------|----------------------------|-------------------------------------------------------------|
//! | TCP      | `connect`                  | SYN-ACK, RST                                                |
//! | UDP      | a datagram (a DNS query)   | any datagram, ICMP port unreachable                         |
//! | SCTP     | INIT in a raw IP packet    | INIT-ACK, ABORT, ICMP protocol or port unreachable          |
//! | ICMP     | echo request               | echo reply                                                  |

mod attempt;
mod prohibited;
mod raw;
mod run;
mod wire;

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};
use strait_base::Protocol;

pub use self::run::run;
use crate::names::Place;

/// How long silence is listened to before it counts, where the caller does not say: three transmissions, 200 ms apart.
pub const PATIENCE: Duration = Duration::from_millis(700);

/// A question.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// Where the packet is sent from.
    pub from: Place,
    /// One of the place's addresses to send from; the one its routes prefer where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Where to.
    pub to: IpAddr,
    /// How.
    pub knock: Knock,
}

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knock {
    /// A connection (or datagram) to a port.
    Port(Protocol, u16),
    /// An ICMP or ICMPv6 echo.
    Ping,
}

/// `80/TCP` or `ICMP`.
impl fmt::Display for Knock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(protocol, port) => write!(f, "{port}/{protocol}"),
            Self::Ping => f.write_str("ICMP"),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} {}", self.from, self.to, self.knock)
    }
}

/// What came of a probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The destination answered.
    Allowed(Answer),
    /// Silence, or the word of someone in between that there is no way.
    Denied,
    /// Nothing could be sent, so nothing is known.
    Error(String),
}

impl Outcome {
    /// Whether the destination answered.
    pub const fn allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

/// How the destination answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It took the connection, or answered the datagram.
    Accepted,
    /// It refused: nothing listens there, but the way is open.
    Refused,
}

/// What a probing process is told on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// How long to listen to silence.
    pub(crate) patience_ms: u64,
    /// All from the place the process is in.
    pub(crate) probes: Vec<Probe>,
}
