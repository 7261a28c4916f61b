//! The operators of Envoy's access log formats: how they are written, and what they stand for.

use std::{net::SocketAddr, time::Duration};

use super::{
    entry::{Entry, Request},
    format::FormatError,
    text,
};

/// What a part of a line stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    StartTime,
    /// By a format of strftime.
    StartTimeAs(Box<str>),
    /// A field of the request, or another in its place where it has none.
    Request(Field, Option<Field>),
    /// Milliseconds from the request's last byte to the response's first; Envoy puts them into a field of the response.
    ServiceTime,
    Protocol,
    ResponseCode,
    ResponseFlags,
    Details,
    Termination,
    TransportFailure,
    DownstreamFailure,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamCluster,
    ServerName,
    RouteName,
    GrpcStatus,
    GrpcStatusNumber,
    Address(Side, Part),
}

/// A field of a request; those of HTTP/2 stand for what a request line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Field {
    Method,
    Path,
    Authority,
    /// As the back end was told it.
    ForwardedFor,
    /// The client's, or the one that was made for want of it.
    RequestId,
    Named(Box<str>),
}

/// An end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    UpstreamRemote,
    UpstreamLocal,
    DownstreamLocal,
    DownstreamRemote,
    DownstreamDirect,
}

/// What is written of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Whole,
    Ip,
    Port,
}

/// What a command stands for in one line.
pub(crate) enum Value<'a> {
    Absent,
    Number(u64),
    Text(&'a [u8]),
    /// Path and query.
    Path(&'a [u8], Option<&'a [u8]>),
    /// Every field of forwarding, and the client's own address behind them.
    ForwardedFor(Request<'a>),
    /// Text that needs no escaping and that is never long.
    Word(&'static str),
    Address(SocketAddr, Part),
    Time(Duration),
    TimeAs(Duration, &'a str),
}

impl Command {
    /// The command `name(argument)`.
    pub(crate) fn parse(name: &str, argument: Option<&str>) -> Result<Self, FormatError> {
        let wrong = || FormatError::Argument(name.to_owned());
        match (name, argument) {
            ("REQ", Some(fields)) => {
                let (first, second) = fields_of(fields).ok_or_else(wrong)?;
                return Ok(Self::Request(Field::of(&first), second.map(|second| Field::of(&second))));
            }
            ("RESP", Some(fields)) => {
                let (first, _) = fields_of(fields).ok_or_else(wrong)?;
                return if first == "x-envoy-upstream-service-time" { Ok(Self::ServiceTime) } else { Err(wrong()) };
            }
            ("START_TIME", Some(format)) => {
                let tried = jiff::fmt::strtime::format(format, text::timestamp(Duration::ZERO));
                return tried.map(|_| Self::StartTimeAs(format.into())).map_err(|_| wrong());
            }
            ("REQ" | "RESP", None) => return Err(wrong()),
            _ => {}
        }
        let command = match name {
            "START_TIME" => Self::StartTime,
            "PROTOCOL" => Self::Protocol,
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_FLAGS" => Self::ResponseFlags,
            "RESPONSE_CODE_DETAILS" => Self::Details,
            "CONNECTION_TERMINATION_DETAILS" => Self::Termination,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::TransportFailure,
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Self::DownstreamFailure,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "DURATION" => Self::Duration,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Self::UpstreamCluster,
            "REQUESTED_SERVER_NAME" => Self::ServerName,
            "ROUTE_NAME" => Self::RouteName,
            "GRPC_STATUS" => Self::GrpcStatus,
            "GRPC_STATUS_NUMBER" => Self::GrpcStatusNumber,
            _ => address(name).ok_or_else(|| FormatError::Unknown(name.to_owned()))?,
        };
        if argument.is_some() { Err(wrong()) } else { Ok(command) }
    }

    /// What it stands for.
    pub(crate) fn value<'a>(&'a self, entry: &Entry<'a>) -> Value<'a> {
        let text = |text: &'a str| if text.is_empty() { Value::Absent } else { Value::Text(text.as_bytes()) };
        match self {
            Self::StartTime => Value::Time(entry.start),
            Self::StartTimeAs(format) => Value::TimeAs(entry.start, format),
            Self::Request(first, second) => match (&entry.request, first.value(entry), second) {
                (None, ..) => Value::Absent,
                (_, Value::Absent, Some(second)) => second.value(entry),
                (_, value, _) => value,
            },
            Self::ServiceTime => entry.service_time.map_or(Value::Absent, |time| Value::Number(millis(time))),
            Self::Protocol => entry.protocol.map_or(Value::Absent, Value::Word),
            Self::ResponseCode => Value::Number(entry.status.into()),
            Self::ResponseFlags => Value::Word(if entry.flags.is_empty() { "-" } else { entry.flags }),
            Self::Details => text(entry.details),
            Self::Termination => text(entry.termination),
            Self::TransportFailure => text(entry.transport_failure),
            Self::DownstreamFailure => text(entry.downstream_failure),
            Self::BytesReceived => Value::Number(entry.received),
            Self::BytesSent => Value::Number(entry.sent),
            Self::Duration => Value::Number(millis(entry.duration)),
            Self::UpstreamCluster => text(entry.upstream_cluster),
            Self::ServerName => text(entry.server_name),
            Self::RouteName => text(entry.route),
            Self::GrpcStatus => entry.grpc_status.map_or(Value::Absent, |status| Value::Word(grpc_name(status))),
            Self::GrpcStatusNumber => entry.grpc_status.map_or(Value::Absent, |status| Value::Number(status.into())),
            Self::Address(side, part) => {
                let address = match side {
                    Side::UpstreamRemote => entry.upstream_host,
                    Side::UpstreamLocal => entry.upstream_local,
                    Side::DownstreamLocal => Some(entry.downstream_local),
                    Side::DownstreamRemote => Some(entry.downstream_remote),
                    Side::DownstreamDirect => Some(entry.downstream_direct),
                };
                match (address, part) {
                    (None, _) => Value::Absent,
                    (Some(address), Part::Port) => Value::Number(address.port().into()),
                    (Some(address), part) => Value::Address(address, *part),
                }
            }
        }
    }

    /// Whether its value is a number of JSON where it stands alone. Envoy's service time is a field of a message, hence text.
    pub(crate) const fn is_number(&self) -> bool {
        matches!(
            self,
            Self::ResponseCode
                | Self::BytesReceived
                | Self::BytesSent
                | Self::Duration
                | Self::GrpcStatusNumber
                | Self::Address(_, Part::Port)
        )
    }
}

impl Field {
    fn of(name: &str) -> Self {
        match name {
            ":method" => Self::Method,
            // Envoy has the path before rewriting in a field of its own. A client may send that field too: it is not believed.
            ":path" | "x-envoy-original-path" => Self::Path,
            ":authority" | "host" => Self::Authority,
            "x-forwarded-for" => Self::ForwardedFor,
            "x-request-id" => Self::RequestId,
            _ => Self::Named(name.into()),
        }
    }

    fn value<'a>(&self, entry: &Entry<'a>) -> Value<'a> {
        let Some(request) = entry.request else { return Value::Absent };
        let Request { head, bytes, .. } = request;
        let text = |text: &'a [u8]| if text.is_empty() { Value::Absent } else { Value::Text(text) };
        match self {
            Self::Method => text(head.method.bytes(bytes)),
            Self::Path if head.path.is_empty() => text(head.whole_target.bytes(bytes)),
            Self::Path => Value::Path(head.path.bytes(bytes), head.query.map(|query| query.bytes(bytes))),
            Self::Authority => text(head.authority.bytes(bytes)),
            Self::ForwardedFor => Value::ForwardedFor(request),
            Self::RequestId => text(request.id),
            Self::Named(name) => head.head.get(name, bytes).map_or(Value::Absent, |value| text(value.bytes(bytes))),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `FIRST` or `FIRST?SECOND`, in small letters.
fn fields_of(text: &str) -> Option<(String, Option<String>)> {
    let (first, second) = match text.split_once('?') {
        Some((first, second)) => (first, Some(second)),
        None => (text, None),
    };
    let is_name = |name: &str| {
        let rest = name.strip_prefix(':').unwrap_or(name);
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    (is_name(first) && second.is_none_or(is_name))
        .then(|| (first.to_ascii_lowercase(), second.map(str::to_ascii_lowercase)))
}

fn address(name: &str) -> Option<Command> {
    let (name, part) = if let Some(name) = name.strip_suffix("_WITHOUT_PORT") {
        (name, Part::Ip)
    } else if let Some(name) = name.strip_suffix("_PORT") {
        // As in DOWNSTREAM_REMOTE_PORT.
        return Some(Command::Address(side(&format!("{name}_ADDRESS"))?, Part::Port));
    } else {
        (name, Part::Whole)
    };
    if name == "UPSTREAM_HOST" && part == Part::Whole {
        return Some(Command::Address(Side::UpstreamRemote, part));
    }
    Some(Command::Address(side(name)?, part))
}

fn side(name: &str) -> Option<Side> {
    Some(match name {
        "UPSTREAM_REMOTE_ADDRESS" => Side::UpstreamRemote,
        "UPSTREAM_LOCAL_ADDRESS" => Side::UpstreamLocal,
        "DOWNSTREAM_LOCAL_ADDRESS" => Side::DownstreamLocal,
        "DOWNSTREAM_REMOTE_ADDRESS" => Side::DownstreamRemote,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Side::DownstreamDirect,
        _ => return None,
    })
}

/// A status of gRPC as Envoy spells it.
fn grpc_name(status: u8) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    NAMES.get(usize::from(status)).copied().unwrap_or("InvalidCode")
}
