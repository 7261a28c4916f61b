//! Decoded field sections as messages: the rules of RFC 9113, section 8.

use super::hpack::{decode::Line, table::Name};
use crate::{
    error::HeadError,
    field::{Field, Known, Span, is_token},
    framing::{self, Framing},
    head::{Head, Limits, Version},
    host::split_authority,
    request::{LONGEST_METHOD, RequestHead},
    response::ResponseHead,
};

/// A field section while it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    head: Head,
    method: Option<Span>,
    scheme: Option<Span>,
    authority: Option<Span>,
    path: Option<Span>,
    status: Option<Span>,
    protocol: Option<Span>,
    /// RFC 9113's size of what came so far.
    size: usize,
    /// Whether a field came: pseudo-fields stand before them.
    regular: bool,
    cookies: u32,
    fault: Option<HeadError>,
}

impl Section {
    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        (self.method, self.scheme, self.authority) = (None, None, None);
        (self.path, self.status, self.protocol) = (None, None, None);
        (self.size, self.regular, self.cookies, self.fault) = (0, false, 0, None);
    }

    /// Takes one more field. What is beyond the limits is cut off from `bytes`: it was needed for the decoder alone.
    pub(crate) fn take(&mut self, line: Line, bytes: &mut Vec<u8>, limits: &Limits) {
        self.size += line.end - line.start + super::hpack::table::OVERHEAD;
        if self.size > limits.head {
            self.fault.get_or_insert(HeadError::TooLarge);
            bytes.truncate(line.start);
            return;
        }
        let value = Span::new(line.value, line.end);
        let slot = match line.kind {
            Name::Method => &mut self.method,
            Name::Scheme => &mut self.scheme,
            Name::Authority => &mut self.authority,
            Name::Path => &mut self.path,
            Name::Status => &mut self.status,
            Name::Protocol => &mut self.protocol,
            Name::Cookie => {
                self.cookies += 1;
                return self.field(line, Known::Other, limits);
            }
            Name::Field(known) => {
                match known {
                    Known::Te if value.bytes(bytes) == b"trailers" => self.head.trailers = true,
                    Known::Te
                    | Known::Connection
                    | Known::KeepAlive
                    | Known::ProxyConnection
                    | Known::TransferEncoding
                    | Known::Upgrade
                    | Known::Http2Settings => return self.malformed(),
                    Known::Other | Known::ContentLength | Known::Expect | Known::Host | Known::Trailer => {}
                }
                return self.field(line, known, limits);
            }
            Name::Malformed => return self.malformed(),
        };
        let twice = slot.replace(value).is_some();
        if twice || self.regular || !line.valid {
            self.malformed();
        }
    }

    fn field(&mut self, line: Line, known: Known, limits: &Limits) {
        self.regular = true;
        if !line.valid {
            return self.malformed();
        }
        if self.head.fields.len() >= limits.fields {
            self.fault.get_or_insert(HeadError::TooManyFields);
            return;
        }
        let (name, value) = (Span::new(line.start, line.value), Span::new(line.value, line.end));
        self.head.fields.push(Field { name, value, known, never_indexed: line.never_indexed });
    }

    /// What must not be, rather than what is too much: that is told to nobody.
    fn malformed(&mut self) {
        self.fault = Some(HeadError::Malformed);
    }

    fn check(&mut self) -> Result<(), HeadError> {
        self.fault.map_or(Ok(()), Err)
    }

    /// Makes one field of several cookies, for whoever knows only one (8.2.3).
    fn join_cookies(&mut self, bytes: &mut Vec<u8>) {
        if self.cookies < 2 {
            return;
        }
        let start = bytes.len();
        let mut joined = 0;
        for index in 0..self.head.fields.len() {
            let field = self.head.fields[index];
            if field.name.bytes(bytes) == b"cookie" {
                if joined > 0 {
                    bytes.extend_from_slice(b"; ");
                }
                bytes.extend_from_within(field.value.range());
                joined += 1;
            }
        }
        let whole = Span::new(start, bytes.len());
        let mut first = true;
        self.head.fields.retain_mut(|field| {
            if field.name.bytes(bytes) != b"cookie" {
                return true;
            }
            field.value = whole;
            std::mem::take(&mut first)
        });
    }

    /// The request that was read; `end` where no body follows. Gives the length that it announces.
    ///
    /// # Errors
    /// What is wrong with it. The connection goes on.
    pub(crate) fn request(
        &mut self,
        bytes: &mut Vec<u8>,
        end: bool,
        limits: &Limits,
        extended: bool,
        out: &mut RequestHead,
    ) -> Result<Option<u64>, HeadError> {
        self.check()?;
        let method = self.method.ok_or(HeadError::Malformed)?;
        let is_method = (1..=LONGEST_METHOD).contains(&method.len());
        if self.status.is_some() || !is_method || !method.bytes(bytes).iter().all(|byte| is_token(*byte)) {
            return Err(HeadError::Malformed);
        }
        self.join_cookies(bytes);
        self.head.len = bytes.len();
        std::mem::swap(&mut self.head, &mut out.head);
        (out.method, out.head.version, out.head.keep_alive) = (method, Version::Http2, true);
        let connect = method.bytes(bytes) == b"CONNECT";
        let of_target = match (connect, self.protocol, self.path, self.scheme) {
            (true, None, None, None) => {
                out.whole_target = self.authority.ok_or(HeadError::Malformed)?;
                out.split_target("CONNECT", out.whole_target.text(bytes), bytes, limits)?
            }
            // Extended CONNECT (RFC 8441) is what an upgrade is to HTTP/1, and is routed and passed on like one.
            (true, Some(protocol), Some(path), Some(_)) if extended && !protocol.is_empty() => {
                if self.authority.is_none() || !protocol.bytes(bytes).iter().all(|byte| is_token(*byte)) {
                    return Err(HeadError::Malformed);
                }
                // Whatever else it is: what a back end makes of its bytes is not known here (RFC 9220, 3).
                if !protocol.bytes(bytes).eq_ignore_ascii_case(b"websocket") {
                    return Err(HeadError::Upgrade);
                }
                let start = bytes.len();
                bytes.extend_from_slice(b"GET");
                (out.method, out.head.upgrade) = (Span::new(start, start + 3), Some(protocol));
                self.target(out, path, bytes, limits)?
            }
            (false, None, Some(path), Some(_)) => self.target(out, path, bytes, limits)?,
            _ => return Err(HeadError::Malformed),
        };
        out.authority = out.host(of_target, bytes)?;
        let host = out.head.fields.iter().find(|field| field.known == Known::Host);
        if host.is_some_and(|host| !host.value.bytes(bytes).eq_ignore_ascii_case(out.authority.bytes(bytes))) {
            return Err(HeadError::Host);
        }
        let said = framing::read(&out.head.fields, bytes, Version::Http2)?;
        out.head.framing = match said {
            // What follows is no content.
            _ if connect => Framing::None,
            Some(Framing::Length(length)) if end && length > 0 => return Err(HeadError::ContentLength),
            Some(_) if !end && may_trail(&out.head, bytes) => Framing::Chunked,
            Some(said) => said,
            None if end => Framing::None,
            None => Framing::Chunked,
        };
        out.expectation(bytes)?;
        Ok(length(said.filter(|_| !connect)))
    }

    /// Splits a path, which is the target; gives the authority.
    fn target(
        &self,
        out: &mut RequestHead,
        path: Span,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<Span>, HeadError> {
        let scheme = self.scheme.unwrap_or_default().bytes(bytes);
        if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
            return Err(HeadError::Target);
        }
        if !matches!(path.bytes(bytes), [b'/', ..] | b"*") {
            return Err(HeadError::Target);
        }
        let target = std::str::from_utf8(path.bytes(bytes)).map_err(|_| HeadError::Target)?;
        out.whole_target = path;
        out.split_target(out.method.text(bytes), target, bytes, limits)?;
        match self.authority {
            Some(authority) if split_authority(authority.bytes(bytes)).is_none() => Err(HeadError::Host),
            authority => Ok(authority),
        }
    }

    /// The response that was read, to a request that was `HEAD` where `is_head`; `end` where no body follows. Gives the length of the body
    /// that it announces.
    ///
    /// # Errors
    /// What is wrong with it. The connection goes on.
    pub(crate) fn response(
        &mut self,
        bytes: &mut Vec<u8>,
        end: bool,
        is_head: bool,
        out: &mut ResponseHead,
    ) -> Result<Option<u64>, HeadError> {
        self.check()?;
        let status = self.status.ok_or(HeadError::Malformed)?;
        let requests = [self.method, self.scheme, self.authority, self.path, self.protocol];
        if requests.iter().any(Option::is_some) {
            return Err(HeadError::Malformed);
        }
        let status = match *status.bytes(bytes) {
            [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(HeadError::Malformed),
        };
        // HTTP/2 has no upgrades, and nothing ends with an interim answer.
        if status == 101 || (status < 200 && end) {
            return Err(HeadError::Malformed);
        }
        std::mem::swap(&mut self.head, &mut out.head);
        (out.status, out.reason) = (status, Span::default());
        (out.head.version, out.head.keep_alive, out.head.trailers) = (Version::Http2, true, false);
        let said = framing::read(&out.head.fields, bytes, Version::Http2)?;
        let bodiless = is_head || status < 200 || matches!(status, 204 | 304);
        out.head.framing = match said {
            _ if bodiless => Framing::None,
            Some(Framing::Length(length)) if end && length > 0 => return Err(HeadError::ContentLength),
            Some(_) if !end && may_trail(&out.head, bytes) => Framing::Chunked,
            Some(said) => said,
            None if end => {
                // HTTP/1 would take none for a body until the connection ends.
                let start = bytes.len();
                bytes.extend_from_slice(b"content-length0");
                let (name, value) = (Span::new(start, start + 14), Span::new(start + 14, start + 15));
                out.head.fields.push(Field { name, value, known: Known::ContentLength, never_indexed: false });
                Framing::Length(0)
            }
            None => Framing::Chunked,
        };
        out.head.len = bytes.len();
        Ok(if bodiless { Some(0) } else { length(said) })
    }

    /// The trailers that were read.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn trailers(&mut self, out: &mut Head) -> Result<(), HeadError> {
        self.check()?;
        let pseudo = [self.method, self.scheme, self.authority, self.path, self.status, self.protocol];
        if pseudo.iter().any(Option::is_some) {
            return Err(HeadError::Malformed);
        }
        std::mem::swap(&mut self.head, out);
        Ok(())
    }
}

/// Whether trailers are to be expected: gRPC's, or what is announced. In HTTP/1 they need chunks, which have no length.
fn may_trail(head: &Head, bytes: &[u8]) -> bool {
    head.fields.iter().any(|field| {
        field.known == Known::Trailer
            || (field.known == Known::Other
                && field.name.bytes(bytes) == b"content-type"
                && field.value.bytes(bytes).starts_with(b"application/grpc"))
    })
}

const fn length(said: Option<Framing>) -> Option<u64> {
    match said {
        Some(Framing::Length(length)) => Some(length),
        _ => None,
    }
}
