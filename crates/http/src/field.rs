//! Field lines as offsets into the buffer they were read from.

/// A part of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// From `start` up to `end`; heads are far below 4 GiB.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Self { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
    }

    /// Where `part` lies in `buffer`, of which it is a slice.
    pub(crate) fn of(part: &[u8], buffer: &[u8]) -> Self {
        let start = part.as_ptr().addr().saturating_sub(buffer.as_ptr().addr());
        Self::new(start, start + part.len())
    }

    /// The bytes, of the buffer that the head was read from. Empty where the buffer is another, shorter one.
    #[inline]
    pub fn bytes<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The bytes as text; heads that were taken are ASCII but for field values, whose other bytes make this empty.
    pub fn text<'b>(&self, buffer: &'b [u8]) -> &'b str {
        std::str::from_utf8(self.bytes(buffer)).unwrap_or_default()
    }

    /// Where in the buffer.
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// How many bytes.
    pub const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// A field line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name, in whatever case it came.
    pub name: Span,
    /// Its value, without white space around it.
    pub value: Span,
    /// Which of the names that a proxy acts on it is.
    pub known: Known,
    /// Whether its sender asks that no table of HTTP/2 holds it, here or further on (RFC 7541, 6.2.3).
    pub never_indexed: bool,
}

impl Field {
    /// Where its whole line lies in a buffer of HTTP/1 text, if it stands there just as it is written: one space behind the colon, and
    /// none before the line's end.
    pub(crate) fn line(&self, buffer: &[u8]) -> Option<std::ops::Range<usize>> {
        let (name_end, start, end) = (self.name.end as usize, self.value.start as usize, self.value.end as usize);
        let tidy =
            start == name_end + 2 && buffer.get(name_end..start)? == b": " && buffer.get(end..end + 2)? == b"\r\n";
        tidy.then_some(self.name.start as usize..end + 2)
    }
}

/// The names that a proxy acts on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are RFC 9110's own")]
pub enum Known {
    Other,
    Connection,
    ContentLength,
    Expect,
    Host,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Http2Settings,
}

impl Known {
    /// Which one `name` is.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        let candidate = match name.len() {
            2 => (Self::Te, "te"),
            4 => (Self::Host, "host"),
            6 => (Self::Expect, "expect"),
            7 if name[0] | 0x20 == b'u' => (Self::Upgrade, "upgrade"),
            7 => (Self::Trailer, "trailer"),
            10 if name[0] | 0x20 == b'c' => (Self::Connection, "connection"),
            10 => (Self::KeepAlive, "keep-alive"),
            14 if name[0] | 0x20 == b'c' => (Self::ContentLength, "content-length"),
            14 => (Self::Http2Settings, "http2-settings"),
            16 => (Self::ProxyConnection, "proxy-connection"),
            17 => (Self::TransferEncoding, "transfer-encoding"),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(candidate.1.as_bytes()) { candidate.0 } else { Self::Other }
    }

    /// Whether it is for the next hop alone and never passed on (RFC 9110, 7.6.1). `TE`, `Upgrade` and the framing are written anew
    /// where they are meant for the next hop too.
    pub(crate) const fn hop_by_hop(self) -> bool {
        match self {
            Self::Connection
            | Self::KeepAlive
            | Self::ProxyConnection
            | Self::Te
            | Self::TransferEncoding
            | Self::Upgrade
            | Self::Http2Settings => true,
            Self::Other | Self::ContentLength | Self::Expect | Self::Host | Self::Trailer => false,
        }
    }
}

/// The members of a comma-separated list, without white space and without empty ones.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Whether a byte may be in a token (RFC 9110, 5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}
