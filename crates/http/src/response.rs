//! Response heads.

use crate::{
    error::HeadError,
    field::Span,
    framing::Framing,
    head::{self, Head, Limits, Version, parse_error},
};

/// The head of a response. Read into with [`ResponseHead::read`]; spans are of the buffer that was read.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Fields and what follows from them.
    pub head: Head,
    /// The status code, 100-599.
    pub status: u16,
    /// The reason phrase.
    pub reason: Span,
}

impl ResponseHead {
    /// Forgets what was read; what was allocated stays.
    pub fn clear(&mut self) {
        self.head.clear();
        self.head.len = 0;
        (self.status, self.reason) = Default::default();
    }

    /// Reads a head from the start of `buffer`, of a response to a request with that method. True once it is there; false where more
    /// bytes are needed.
    ///
    /// # Errors
    /// What is wrong, as soon as it is certain. The connection cannot be gone on with.
    pub fn read(&mut self, buffer: &[u8], method: &[u8], limits: &Limits) -> Result<bool, HeadError> {
        let Some(end) = head::end(buffer, limits)? else {
            // So that what is no HTTP is not waited for until the limit.
            let start = &buffer[..buffer.len().min(7)];
            return if b"HTTP/1.".starts_with(start) { Ok(false) } else { Err(HeadError::Malformed) };
        };
        let mut room = head::room();
        let mut parsed = httparse::Response::new(&mut []);
        let fields = &mut room[..limits.fields.min(head::MOST_FIELDS)];
        let status =
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &buffer[..end], fields);
        let version = || head::first_line(buffer).split(|byte| *byte == b' ').next().unwrap_or_default();
        match status.map_err(|error| parse_error(error, version()))? {
            httparse::Status::Complete(length) if length == end => {}
            httparse::Status::Complete(_) | httparse::Status::Partial => return Err(HeadError::Malformed),
        }
        let (Some(code), Some(version)) = (parsed.code, parsed.version) else { return Err(HeadError::Malformed) };
        if !(100..=599).contains(&code) {
            return Err(HeadError::Malformed);
        }
        self.head.clear();
        self.head.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        self.head.len = end;
        self.status = code;
        self.reason = parsed.reason.map(|reason| Span::of(reason.as_bytes(), buffer)).unwrap_or_default();
        self.head.take_fields(parsed.headers, buffer);
        let said = self.head.settle(buffer)?;
        let tunnel = method == b"CONNECT" && (200..300).contains(&code);
        let bodiless = method == b"HEAD" || code < 200 || matches!(code, 204 | 304) || tunnel;
        self.head.framing = match said {
            _ if bodiless => Framing::None,
            Some(framing) => framing,
            None => Framing::UntilClose,
        };
        if self.head.framing == Framing::UntilClose {
            self.head.keep_alive = false;
        }
        Ok(true)
    }

    /// Whether another response to the same request follows. `101` is the last one.
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}
