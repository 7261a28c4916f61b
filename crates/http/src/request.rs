//! Request heads.

use crate::{
    error::HeadError,
    field::{Known, Span},
    framing::Framing,
    head::{self, Head, Limits, Version, parse_error},
    host::split_authority,
};

/// Bytes of a method; those that are registered have 17 at most.
pub(crate) const LONGEST_METHOD: usize = 64;

/// The forms of a request target (RFC 9112, 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Target {
    /// `/path?query`.
    #[default]
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `host:port`, of `CONNECT`.
    Authority,
    /// `*`, of `OPTIONS`.
    Asterisk,
}

/// The head of a request. Read into with [`RequestHead::read`]; spans are of the buffer that was read.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Fields and what follows from them.
    pub head: Head,
    /// The method: a token.
    pub method: Span,
    /// The form of the target.
    pub target: Target,
    /// The target as it came.
    pub whole_target: Span,
    /// The path, from `/`; empty for [`Target::Authority`] and [`Target::Asterisk`], and where an absolute target has none.
    pub path: Span,
    /// The query, without its `?`.
    pub query: Option<Span>,
    /// Who is asked: of the target where it says so, else of `Host`. Checked to be an authority; empty in HTTP/1.0 without `Host`.
    pub authority: Span,
}

impl RequestHead {
    /// Forgets what was read; what was allocated stays.
    pub fn clear(&mut self) {
        self.head.clear();
        self.head.len = 0;
        (self.method, self.whole_target, self.path, self.authority) = Default::default();
        (self.target, self.query) = (Target::Origin, None);
    }

    /// Reads a head from the start of `buffer`. True once it is there; false where more bytes are needed.
    ///
    /// Up to two empty lines before it are skipped (RFC 9112, 2.2).
    ///
    /// # Errors
    /// What is wrong, as soon as it is certain. The connection cannot be gone on with.
    pub fn read(&mut self, buffer: &[u8], limits: &Limits) -> Result<bool, HeadError> {
        let skipped = empty_lines(buffer);
        let Some(text) = buffer.get(skipped..) else { return Ok(false) };
        let Some(end) = head::end(text, limits)? else { return early(text, limits).map(|()| false) };
        let mut room = head::room();
        let mut parsed = httparse::Request::new(&mut []);
        let fields = &mut room[..limits.fields.min(head::MOST_FIELDS)];
        let status =
            httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, &text[..end], fields);
        let version = || head::first_line(text).splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
        match status.map_err(|error| parse_error(error, version()))? {
            httparse::Status::Complete(length) if length == end => {}
            httparse::Status::Complete(_) | httparse::Status::Partial => return Err(HeadError::Malformed),
        }
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(HeadError::Malformed);
        };
        // Before all of it was there it would have been refused: how a head arrives must not matter.
        if method.len() > LONGEST_METHOD {
            return Err(HeadError::Malformed);
        }
        self.head.clear();
        self.head.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        self.head.len = skipped + end;
        self.method = Span::of(method.as_bytes(), buffer);
        self.whole_target = Span::of(target.as_bytes(), buffer);
        self.head.take_fields(parsed.headers, buffer);
        let of_target = self.split_target(method, target, buffer, limits)?;
        self.authority = self.host(of_target, buffer)?;
        self.head.framing = self.head.settle(buffer)?.unwrap_or(Framing::None);
        self.expectation(buffer)?;
        Ok(true)
    }

    /// Splits `whole_target`, which is `target`; gives the authority in it.
    pub(crate) fn split_target(
        &mut self,
        method: &str,
        target: &str,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<Span>, HeadError> {
        (self.path, self.query) = (Span::default(), None);
        if target.len() > limits.target {
            return Err(HeadError::TargetTooLong);
        }
        if !target.bytes().all(|byte| {
            byte.is_ascii_graphic()
                && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        }) {
            return Err(HeadError::Target);
        }
        if method == "CONNECT" {
            self.target = Target::Authority;
            let valid = split_authority(target.as_bytes()).is_some_and(|authority| authority.port.is_some());
            return if valid { Ok(Some(self.whole_target)) } else { Err(HeadError::Target) };
        }
        if target == "*" {
            self.target = Target::Asterisk;
            return if method == "OPTIONS" { Ok(None) } else { Err(HeadError::Target) };
        }
        let (path, authority) = if target.starts_with('/') {
            self.target = Target::Origin;
            (target, None)
        } else {
            self.target = Target::Absolute;
            let (scheme, rest) = target.split_once("://").ok_or(HeadError::Target)?;
            if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
                return Err(HeadError::Target);
            }
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            split_authority(authority.as_bytes()).ok_or(HeadError::Target)?;
            (path, Some(Span::of(authority.as_bytes(), buffer)))
        };
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        self.path = Span::of(path.as_bytes(), buffer);
        self.query = query.map(|query| Span::of(query.as_bytes(), buffer));
        Ok(authority)
    }

    /// Who is asked. The target wins over `Host`, which must be right nevertheless.
    pub(crate) fn host(&self, of_target: Option<Span>, buffer: &[u8]) -> Result<Span, HeadError> {
        let mut hosts = self.head.fields.iter().filter(|field| field.known == Known::Host);
        let host = hosts.next().map(|field| field.value);
        if hosts.next().is_some() {
            return Err(HeadError::Host);
        }
        match host {
            Some(host) if host.is_empty() && of_target.is_none() && self.target == Target::Origin => {
                Err(HeadError::Host)
            }
            Some(host) if !host.is_empty() && split_authority(host.bytes(buffer)).is_none() => Err(HeadError::Host),
            Some(host) => Ok(of_target.unwrap_or(host)),
            None if self.head.version == Version::Http11 => Err(HeadError::Host),
            None if self.head.version == Version::Http2 => of_target.ok_or(HeadError::Host),
            None => Ok(of_target.unwrap_or_default()),
        }
    }

    pub(crate) fn expectation(&mut self, buffer: &[u8]) -> Result<(), HeadError> {
        for field in self.head.fields.iter().filter(|field| field.known == Known::Expect) {
            if !field.value.bytes(buffer).eq_ignore_ascii_case(b"100-continue") {
                return Err(HeadError::Expectation);
            }
            // HTTP/1.0 knows none, and without a body there is nothing to wait for.
            self.head.expects_continue = self.head.version != Version::Http10
                && !matches!(self.head.framing, Framing::None | Framing::Length(0));
        }
        Ok(())
    }
}

/// Bytes of empty lines before a request line.
fn empty_lines(buffer: &[u8]) -> usize {
    (0..2).take_while(|line| buffer[line * 2..].starts_with(b"\r\n")).count() * 2
}

/// What is certain although the head is not complete: so that garbage is not waited for until the limit.
fn early(text: &[u8], limits: &Limits) -> Result<(), HeadError> {
    let line = memchr::memchr(b'\r', text).map_or(text, |end| &text[..end]);
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    if !method.iter().all(|byte| crate::field::is_token(*byte)) || method.len() > LONGEST_METHOD {
        return Err(HeadError::Malformed);
    }
    if parts.next().is_some_and(|target| target.len() > limits.target) {
        return Err(HeadError::TargetTooLong);
    }
    Ok(())
}
