//! How long a body is (RFC 9112, 6.3).

use crate::{
    error::HeadError,
    field::{Field, Known, members},
    head::Version,
};

/// How a message's body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// So many bytes; more than zero, or a `Content-Length: 0` that was given.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All until the connection ends; responses only.
    UntilClose,
}

/// What the fields say: chunks, a length, or nothing.
pub(crate) fn read(fields: &[Field], buffer: &[u8], version: Version) -> Result<Option<Framing>, HeadError> {
    let (mut length, mut chunked) = (None, Coding::None);
    for field in fields {
        match field.known {
            Known::ContentLength => {
                if length.is_some() {
                    return Err(HeadError::ContentLength);
                }
                length = Some(decimal(field.value.bytes(buffer)).ok_or(HeadError::ContentLength)?);
            }
            Known::TransferEncoding => chunked = chunked.then(field.value.bytes(buffer))?,
            Known::Other
            | Known::Connection
            | Known::Expect
            | Known::Host
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
            | Known::Http2Settings => {}
        }
    }
    match (chunked, length) {
        (Coding::None, length) => Ok(length.map(Framing::Length)),
        (Coding::Chunked, None) if version == Version::Http11 => Ok(Some(Framing::Chunked)),
        (Coding::Chunked, _) => Err(HeadError::TransferEncoding),
    }
}

/// The transfer codings so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Chunked,
}

impl Coding {
    fn then(self, value: &[u8]) -> Result<Self, HeadError> {
        let mut coding = self;
        let mut any = false;
        for member in members(value) {
            any = true;
            if coding == Self::Chunked {
                // Chunked twice, or something after it.
                return Err(HeadError::TransferEncoding);
            }
            if !member.eq_ignore_ascii_case(b"chunked") {
                return Err(if member.iter().all(|byte| crate::field::is_token(*byte)) {
                    HeadError::UnknownCoding
                } else {
                    HeadError::TransferEncoding
                });
            }
            coding = Self::Chunked;
        }
        if any { Ok(coding) } else { Err(HeadError::TransferEncoding) }
    }
}

/// A decimal number of digits alone.
fn decimal(text: &[u8]) -> Option<u64> {
    // The largest has 20 digits; leading zeros are allowed, but not without end.
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}
