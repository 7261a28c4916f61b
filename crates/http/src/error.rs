//! Why a head is refused.

/// Why a message cannot be taken. A request that has it gets [`HeadError::status`]; of a back end's response it is a 502.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeadError {
    /// Not a request line, status line or field line of RFC 9112.
    #[error("the head is malformed")]
    Malformed,
    /// A line ends with LF alone, or holds a CR alone.
    #[error("a line does not end with CR LF")]
    BareLineBreak,
    /// A version other than 1.0 and 1.1.
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// The head is larger than allowed.
    #[error("the head is larger than allowed")]
    TooLarge,
    /// The request target alone is larger than allowed.
    #[error("the request target is longer than allowed")]
    TargetTooLong,
    /// More fields than allowed.
    #[error("there are more fields than allowed")]
    TooManyFields,
    /// A request target in none of the four forms, in the wrong one for its method, or with bytes that RFC 3986 does not allow.
    #[error("the request target is malformed")]
    Target,
    /// No `Host` in HTTP/1.1, more than one, or one that is none.
    #[error("there is not exactly one valid Host")]
    Host,
    /// `Content-Length` twice, or no decimal number.
    #[error("Content-Length is repeated or no number")]
    ContentLength,
    /// `Transfer-Encoding` beside `Content-Length`, in HTTP/1.0, or not ending in one `chunked`.
    #[error("Transfer-Encoding contradicts the rest of the head")]
    TransferEncoding,
    /// A transfer coding besides `chunked`.
    #[error("a transfer coding other than chunked")]
    UnknownCoding,
    /// `Connection` names a field that is not for the next hop alone.
    #[error("Connection names a field that belongs to the whole way")]
    Connection,
    /// Extended `CONNECT` for something other than a WebSocket.
    #[error("a protocol that nothing is upgraded to")]
    Upgrade,
    /// `Expect` other than `100-continue`.
    #[error("an expectation other than 100-continue")]
    Expectation,
}

impl HeadError {
    /// The status code for a request that has it.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed
            | Self::BareLineBreak
            | Self::Target
            | Self::Host
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::Connection => 400,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::TooLarge | Self::TooManyFields => 431,
            Self::UnknownCoding | Self::Upgrade => 501,
            Self::Version => 505,
        }
    }
}
