//! What the heads of requests and responses have in common.

use std::mem::MaybeUninit;

use crate::{
    error::HeadError,
    field::{Field, Known, Span, is_token, members},
    framing::{self, Framing},
};

/// The most fields that any head may have, whatever [`Limits`] say.
pub(crate) const MOST_FIELDS: usize = 128;

/// How large a head may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of the whole head, its empty last line included.
    pub head: usize,
    /// Bytes of the request target.
    pub target: usize,
    /// Fields; at most 128.
    pub fields: usize,
}

impl Default for Limits {
    /// 60 KiB, as Envoy; 8 KiB of target; 100 fields.
    fn default() -> Self {
        Self { head: 60 << 10, target: 8 << 10, fields: 100 }
    }
}

/// The version of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

/// Fields and what follows from them. One value is read into again and again, so that its lists are allocated once.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The fields, in the order they came.
    pub fields: Vec<Field>,
    /// Bytes of the head, from the start of the buffer.
    pub len: usize,
    /// The version.
    pub version: Version,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the sender wants to go on with the connection afterwards.
    pub keep_alive: bool,
    /// What the sender wants to go over to: the value of `Upgrade`, where `Connection` names it.
    pub upgrade: Option<Span>,
    /// Whether the sender takes trailers (`TE: trailers`, named by `Connection`).
    pub trailers: bool,
    /// Whether a client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Names that `Connection` lists: fields for the next hop alone.
    pub(crate) nominated: Vec<Span>,
}

impl Head {
    /// The first field of that name, which is in small letters.
    pub fn get(&self, name: &str, buffer: &[u8]) -> Option<Span> {
        self.all(name, buffer).next()
    }

    /// All fields of that name, which is in small letters.
    pub fn all<'a>(&'a self, name: &'a str, buffer: &'a [u8]) -> impl Iterator<Item = Span> + 'a {
        let same = move |field: &&Field| field.name.len() == name.len() && is(field, name, buffer);
        self.fields.iter().filter(same).map(|field| field.value)
    }

    /// Whether the field is for the next hop alone: by its name, or because `Connection` says so.
    pub(crate) fn is_hop_by_hop(&self, field: &Field, buffer: &[u8]) -> bool {
        field.known.hop_by_hop()
            || self.nominated.iter().any(|name| {
                name.len() == field.name.len() && name.bytes(buffer).eq_ignore_ascii_case(field.name.bytes(buffer))
            })
    }

    pub(crate) fn clear(&mut self) {
        self.fields.clear();
        self.nominated.clear();
        (self.framing, self.upgrade, self.trailers, self.expects_continue) = (Framing::None, None, false, false);
    }

    pub(crate) fn take_fields(&mut self, parsed: &[httparse::Header<'_>], buffer: &[u8]) {
        self.fields.extend(parsed.iter().map(|field| Field {
            name: Span::of(field.name.as_bytes(), buffer),
            value: Span::of(trim(field.value), buffer),
            known: Known::of(field.name.as_bytes()),
            never_indexed: false,
        }));
    }

    /// Reads what the fields say about connection and body; gives the framing that is said, if any.
    pub(crate) fn settle(&mut self, buffer: &[u8]) -> Result<Option<Framing>, HeadError> {
        let said = framing::read(&self.fields, buffer, self.version)?;
        let (mut close, mut keep, mut upgrade, mut te) = (false, false, false, false);
        for index in 0..self.fields.len() {
            let field = self.fields[index];
            if field.known != Known::Connection {
                continue;
            }
            for option in members(field.value.bytes(buffer)) {
                if !option.iter().all(|byte| is_token(*byte)) {
                    return Err(HeadError::Malformed);
                }
                match option.to_ascii_lowercase_in(&mut [0; 16]) {
                    b"close" => close = true,
                    b"keep-alive" => keep = true,
                    b"upgrade" => upgrade = true,
                    b"te" => te = true,
                    b"host" | b"content-length" | b"content-type" | b"authorization" | b"cookie" | b"expect"
                    | b"cache-control" | b"trailer" | b"date" | b"via" | b"forwarded" => {
                        return Err(HeadError::Connection);
                    }
                    _ => self.nominated.push(Span::of(option, buffer)),
                }
            }
        }
        self.keep_alive = !close && (self.version == Version::Http11 || keep);
        for field in &self.fields {
            let value = field.value.bytes(buffer);
            match field.known {
                Known::Upgrade if upgrade && !value.is_empty() => self.upgrade = Some(field.value),
                Known::Te if te => {
                    self.trailers |= members(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
                }
                Known::Other
                | Known::Connection
                | Known::ContentLength
                | Known::Expect
                | Known::Host
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::Te
                | Known::Trailer
                | Known::TransferEncoding
                | Known::Upgrade
                | Known::Http2Settings => {}
            }
        }
        Ok(said)
    }
}

fn is(field: &Field, name: &str, buffer: &[u8]) -> bool {
    field.name.bytes(buffer).eq_ignore_ascii_case(name.as_bytes())
}

/// A short text in small letters without an allocation; what does not fit is left as it is.
trait Lower {
    fn to_ascii_lowercase_in<'a>(&'a self, room: &'a mut [u8; 16]) -> &'a [u8];
}

impl Lower for [u8] {
    fn to_ascii_lowercase_in<'a>(&'a self, room: &'a mut [u8; 16]) -> &'a [u8] {
        let Some(room) = room.get_mut(..self.len()) else { return self };
        room.copy_from_slice(self);
        room.make_ascii_lowercase();
        room
    }
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// Room for the fields of one head.
pub(crate) fn room<'b>() -> [MaybeUninit<httparse::Header<'b>>; MOST_FIELDS] {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}

/// Where the head ends, if it is all there: behind the first empty line. Also whether every line so far ends with CR LF.
///
/// # Errors
/// [`HeadError::BareLineBreak`], as soon as it is seen; [`HeadError::TooLarge`].
pub(crate) fn end(buffer: &[u8], limits: &Limits) -> Result<Option<usize>, HeadError> {
    let within = &buffer[..buffer.len().min(limits.head)];
    let (mut line, mut lines, mut complete) = (0, 0, false);
    for at in memchr::memchr_iter(b'\n', within) {
        let text = &within[line..at];
        if text.last() != Some(&b'\r') {
            return Err(HeadError::BareLineBreak);
        }
        (line, lines, complete) = (at + 1, lines + 1, text.len() == 1);
        if complete {
            break;
        }
    }
    // Each LF has its CR: what is more of these stands alone.
    if memchr::memchr_iter(b'\r', &within[..line]).count() > lines {
        return Err(HeadError::BareLineBreak);
    }
    if complete {
        return Ok(Some(line));
    }
    // A CR that something other than LF follows.
    let rest = &within[line..];
    if memchr::memchr(b'\r', rest).is_some_and(|at| at + 1 < rest.len()) {
        return Err(HeadError::BareLineBreak);
    }
    if buffer.len() >= limits.head { Err(HeadError::TooLarge) } else { Ok(None) }
}

/// `version` is where in the first line the version should stand.
pub(crate) fn parse_error(error: httparse::Error, version: &[u8]) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        // Another version is one only where it is written like one.
        httparse::Error::Version if is_version(version) => HeadError::Version,
        httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Version
        | httparse::Error::Token => HeadError::Malformed,
    }
}

fn is_version(text: &[u8]) -> bool {
    matches!(text.strip_prefix(b"HTTP/"), Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// The first line of a head, without its line break.
pub(crate) fn first_line(head: &[u8]) -> &[u8] {
    &head[..memchr::memchr(b'\r', head).unwrap_or(head.len())]
}
