//! Authorities (RFC 3986, 3.2) as requests carry them: `host[:port]`.

/// A host and a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address with its brackets; never empty.
    pub host: &'a str,
    /// The port, where given and not empty.
    pub port: Option<u16>,
}

/// Splits `host[:port]`. None where it is not one: with user information, white space, a port that is no number, an unclosed bracket.
pub fn split_authority(text: &[u8]) -> Option<Authority<'_>> {
    let (host, rest) = if text.first() == Some(&b'[') {
        let end = memchr::memchr(b']', text)?;
        std::str::from_utf8(&text[1..end]).ok()?.parse::<std::net::Ipv6Addr>().ok()?;
        text.split_at(end + 1)
    } else {
        let end = text.iter().position(|byte| !in_name(*byte)).unwrap_or(text.len());
        if end == 0 || end > LONGEST_NAME {
            return None;
        }
        text.split_at(end)
    };
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            Some(std::str::from_utf8(digits).ok()?.parse().ok()?)
        }
        _ => return None,
    };
    Some(Authority { host: std::str::from_utf8(host).ok()?, port })
}

/// Bytes of a name.
const LONGEST_NAME: usize = 255;

/// `reg-name`, but for percent-encoding, which no host needs and which would make two names of one.
const fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
