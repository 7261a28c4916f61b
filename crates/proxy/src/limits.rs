//! Bounds on what clients and back ends can make the gate hold.

use std::time::Duration;

use strait_http::h2::Config;

/// Bounds. Each has a name by which it is set; [`LIMITS`] lists them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How large heads of requests may be.
    pub head: strait_http::Limits,
    /// How long a head, a handshake or a PROXY header may take from its first byte on.
    pub head_time: Duration,
    /// How long a connection may idle between requests, and a body stand still.
    pub idle: Duration,
    /// Bytes that a request's body must make in a second, over each [`body_rate_time`](Self::body_rate_time) in which the gate waits for
    /// it; none where zero. A stream of HTTP/2 without `Content-Length` has the pace of whoever calls.
    pub body_rate: usize,
    /// The time over which that is counted.
    pub body_rate_time: Duration,
    /// How long a connection that is only passed on may idle.
    pub tunnel_idle: Duration,
    /// How long a client of a datagram port may be silent before it is forgotten.
    pub udp_idle: Duration,
    /// Clients of a datagram port that each worker remembers; datagrams of further ones are dropped.
    pub udp_sessions: usize,
    /// After this time, give or take a tenth, a connection ends with its next response; none where zero.
    pub connection_age: Duration,
    /// Requests at once on a connection of HTTP/2 or HTTP/3; further ones of HTTP/2 are refused, and may be tried again.
    pub streams: u32,
    /// What a connection of HTTP/2 may be made to do for nothing; more ends it.
    pub floods: Floods,
    /// Connections of clients; further ones are refused.
    pub connections: usize,
    /// Connections of one listener's port.
    pub listener_connections: usize,
    /// Connections of one client address; IPv6 clients count by their /64.
    pub client_connections: usize,
    /// Connections that are taken in a second; further ones wait in the backlog. None where zero.
    pub connection_rate: usize,
    /// Connections to one back end, of which each worker has its part, one at least; requests wait for one of them, others are closed.
    pub backend_connections: usize,
    /// Requests that wait for a connection to one back end, each worker's part of them; further ones are refused.
    pub pending_requests: usize,
    /// Memory of the process from which requests are refused. Where none is given, nine tenths of what its cgroup and the machine allow.
    pub memory: usize,
    /// Bytes of a request's body that are held back: those of a copy.
    pub body_buffer: usize,
    /// Copies of requests that a worker sends at once; further ones are left out.
    pub mirrors: usize,
}

/// Bounds on what the other side of a connection of HTTP/2 or HTTP/3 makes the gate do for nothing, in ten seconds but for the first
/// ([`Config`] says what each counts).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Floods {
    /// Frames of one header block.
    pub continuations: u32,
    /// Streams that clients reset.
    pub resets: u32,
    /// Streams that they make the gate reset.
    pub provoked: u32,
    /// Frames that want an answer: `SETTINGS`, `PING`.
    pub asks: u32,
    /// Frames that carry nothing.
    pub idle_frames: u32,
}

impl Floods {
    /// The same bounds, as a connection has them.
    pub(crate) fn bound(self, config: Config) -> Config {
        let Self { continuations, resets, provoked, asks, idle_frames } = self;
        Config { continuations, resets, provoked, asks, idle_frames, ..config }
    }
}

impl Default for Floods {
    fn default() -> Self {
        let Config { continuations, resets, provoked, asks, idle_frames, .. } = Config::default();
        Self { continuations, resets, provoked, asks, idle_frames }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: strait_http::Limits::default(),
            head_time: Duration::from_secs(15),
            idle: Duration::from_mins(5),
            // Kestrel's rate, which is below that of any network in use.
            body_rate: 240,
            body_rate_time: Duration::from_secs(10),
            tunnel_idle: Duration::from_hours(1),
            // Envoy's.
            udp_idle: Duration::from_mins(1),
            udp_sessions: 4096,
            connection_age: Duration::from_hours(1),
            streams: 100,
            floods: Floods::default(),
            connections: 65_536,
            listener_connections: 32_768,
            client_connections: 16_384,
            connection_rate: 0,
            backend_connections: 16_384,
            pending_requests: 4096,
            memory: 0,
            body_buffer: 1 << 20,
            mirrors: 1024,
        }
    }
}

/// A limit that is none, or a value that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LimitError {
    /// No limit has that name.
    #[error("found {0}, which is no limit; the limits are {names}", names = names())]
    Unknown(String),
    /// A value in another unit, or out of range.
    #[error("found {value} for {name}, {wanted} is wanted")]
    Value {
        /// Of which limit.
        name: &'static str,
        /// What was found.
        value: String,
        /// What is wanted.
        wanted: &'static str,
    },
}

/// A limit as people set it.
#[derive(Debug)]
pub struct Limit {
    /// Its name.
    pub name: &'static str,
    /// What it bounds.
    pub what: &'static str,
    slot: fn(&mut Limits) -> Slot<'_>,
}

/// Where a value goes, and what it counts.
enum Slot<'a> {
    /// From the first number on.
    Count(&'a mut usize, usize),
    /// The same, of a field that is narrower.
    Count32(&'a mut u32, u32),
    Bytes(&'a mut usize, usize),
    Time(&'a mut Duration, Duration),
}

macro_rules! limits {
    ($($name:literal $kind:ident($($field:ident).+, $least:expr) $what:literal;)*) => {
        /// All limits, by name.
        pub const LIMITS: &[Limit] = &[$(
            Limit { name: $name, what: $what, slot: |limits| Slot::$kind(&mut limits.$($field).+, $least) },
        )*];
    };
}

limits! {
    "header-bytes" Bytes(head.head, 256) "bytes of a request's head: 431";
    "header-count" Count(head.fields, 1) "fields of a request, 128 at most: 431";
    "target-bytes" Bytes(head.target, 16) "bytes of a request's target: 414";
    "header-time" Time(head_time, Duration::from_millis(1)) "from the first byte of a head, TLS handshake or PROXY header to its last";
    "idle" Time(idle, Duration::from_millis(1)) "between requests, and between two pieces of a body, either way";
    "body-rate" Bytes(body_rate, 0) "bytes a second of a request's body, unless a gRPC call's or one that streams answer meanwhile: 408; 0: any";
    "body-rate-time" Time(body_rate_time, Duration::from_millis(1)) "over which that rate is counted, while the client is waited for";
    "tunnel-idle" Time(tunnel_idle, Duration::from_millis(1)) "without a byte on a connection that is only passed on";
    "udp-idle" Time(udp_idle, Duration::from_millis(1)) "after which a client of a UDP port that sends nothing is forgotten";
    "udp-sessions" Count(udp_sessions, 1) "clients of a UDP port that each worker remembers; datagrams of others are dropped";
    "connection-age" Time(connection_age, Duration::ZERO) "after which a connection ends with its next response, give or take a tenth; 0s: never";
    "streams" Count32(streams, 1) "requests at once on a connection of HTTP/2 or HTTP/3";
    "continuation-frames" Count32(floods.continuations, 1) "frames of one header block of HTTP/2";
    "stream-resets" Count32(floods.resets, 0) "streams that a client resets in ten seconds, unless less than half of all";
    "provoked-resets" Count32(floods.provoked, 0) "streams that a client makes the gate reset in ten seconds, unless less than half of all";
    "control-frames" Count32(floods.asks, 1) "SETTINGS, PING, GOAWAY and MAX_PUSH_ID frames in ten seconds";
    "empty-frames" Count32(floods.idle_frames, 0) "frames without use in ten seconds: empty data, PRIORITY, small WINDOW_UPDATE, unknown ones";
    "connections" Count(connections, 1) "connections of clients";
    "listener-connections" Count(listener_connections, 1) "connections of one listener's port";
    "client-connections" Count(client_connections, 1) "connections of one client address, or of one /64 of IPv6";
    "connection-rate" Count(connection_rate, 0) "connections taken in a second; 0: as many as come";
    "backend-connections" Count(backend_connections, 1) "connections to one back end, evenly of all workers; requests wait for one";
    "pending-requests" Count(pending_requests, 1) "requests that wait for a connection to one back end, evenly of all workers: 503";
    "memory" Bytes(memory, 0) "memory from which requests are refused; 0: nine tenths of what the process may have";
    "body-buffer" Bytes(body_buffer, 0) "bytes of a body that is copied to another back end; a larger one is not copied";
    "mirrors" Count(mirrors, 0) "copies of requests under way, of each worker";
}

fn names() -> String {
    LIMITS.iter().map(|limit| limit.name).collect::<Vec<_>>().join(", ")
}

impl Limits {
    /// Sets the limit with that name.
    ///
    /// # Errors
    /// No such limit, or no such value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
        let limit = LIMITS.iter().find(|limit| limit.name == name);
        let limit = limit.ok_or_else(|| LimitError::Unknown(name.to_owned()))?;
        let wrong = |wanted| LimitError::Value { name: limit.name, value: value.to_owned(), wanted };
        match (limit.slot)(self) {
            Slot::Count(slot, least) => {
                *slot = value.parse().ok().filter(|count| *count >= least).ok_or_else(|| wrong("a number"))?;
            }
            Slot::Count32(slot, least) => {
                *slot = value.parse().ok().filter(|count| *count >= least).ok_or_else(|| wrong("a number"))?;
            }
            Slot::Bytes(slot, least) => {
                let wanted = || wrong("bytes, as 4096, 60KiB or 1MiB,");
                *slot = bytes(value).filter(|bytes| *bytes >= least).ok_or_else(wanted)?;
            }
            Slot::Time(slot, least) => {
                let wanted = || wrong("a time, as 500ms, 15s, 5m or 1h,");
                *slot = time(value).filter(|time| *time >= least).ok_or_else(wanted)?;
            }
        }
        Ok(())
    }

    /// The limit's value, as it is set.
    pub fn shown(&self, limit: &Limit) -> String {
        let mut copy = *self;
        match (limit.slot)(&mut copy) {
            Slot::Count(slot, _) => slot.to_string(),
            Slot::Count32(slot, _) => slot.to_string(),
            Slot::Bytes(slot, _) => match *slot {
                bytes if bytes > 0 && bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
                bytes if bytes > 0 && bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
                bytes => bytes.to_string(),
            },
            Slot::Time(slot, _) => match slot.as_millis() {
                millis if millis > 0 && millis % 3_600_000 == 0 => format!("{}h", millis / 3_600_000),
                millis if millis > 0 && millis % 60_000 == 0 => format!("{}m", millis / 60_000),
                millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
                millis => format!("{millis}ms"),
            },
        }
    }

    /// All limits with their defaults, a line each.
    pub fn described() -> String {
        let defaults = Self::default();
        let lines = LIMITS.iter().map(|limit| {
            let set = format!("{}={}", limit.name, defaults.shown(limit));
            format!("  {set:<29} {}\n", limit.what)
        });
        lines.collect()
    }
}

/// A number and its unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|of: char| !of.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "" => 0,
        "KiB" | "Ki" => 10,
        "MiB" | "Mi" => 20,
        "GiB" | "Gi" => 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(1 << shift)?).ok()
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => number,
        "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    // Later than any clock is no time.
    Some(Duration::from_millis(millis)).filter(|time| *time <= Duration::from_hours(24 * 365))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values() {
        let mut limits = Limits::default();
        let cases = [
            ("header-bytes=1KiB", Ok("1KiB")),
            ("header-bytes=4000", Ok("4000")),
            ("header-time=1500ms", Ok("1500ms")),
            ("idle=90s", Ok("90s")),
            ("idle=2m", Ok("2m")),
            ("connection-age=0s", Ok("0s")),
            ("streams=7", Ok("7")),
            ("memory=2GiB", Ok("2048MiB")),
            ("streams=0", Err("found 0 for streams, a number is wanted")),
            ("streams=4294967296", Err("found 4294967296 for streams, a number is wanted")),
            ("idle=5", Err("found 5 for idle, a time, as 500ms, 15s, 5m or 1h, is wanted")),
            ("idle=0s", Err("found 0s for idle, a time, as 500ms, 15s, 5m or 1h, is wanted")),
            ("idle=99999999999h", Err("found 99999999999h for idle, a time, as 500ms, 15s, 5m or 1h, is wanted")),
            ("header-bytes=1KB", Err("found 1KB for header-bytes, bytes, as 4096, 60KiB or 1MiB, is wanted")),
            ("header-bytes=", Err("found  for header-bytes, bytes, as 4096, 60KiB or 1MiB, is wanted")),
        ];
        for (text, expected) in cases {
            let (name, value) = text.split_once('=').unwrap();
            let limit = LIMITS.iter().find(|limit| limit.name == name).unwrap();
            let set = limits.set(name, value).map(|()| limits.shown(limit)).map_err(|error| error.to_string());
            assert_eq!(set.as_deref().map_err(String::as_str), expected, "{text}");
        }
        assert!(limits.set("speed", "1").unwrap_err().to_string().contains("header-bytes, header-count"));
    }

    /// What is shown can be set, and means the same.
    #[test]
    fn defaults_can_be_set() {
        let mut limits = Limits::default();
        for limit in LIMITS {
            let shown = limits.shown(limit);
            limits.set(limit.name, &shown).unwrap();
            assert_eq!(limits, Limits::default(), "{}", limit.name);
        }
    }
}
