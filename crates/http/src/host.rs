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
    let text = std::str::from_utf8(text).ok()?;
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if rest.is_empty() { "" } else { rest.strip_prefix(':')? };
        (&text[..address.len() + 2], port)
    } else {
        text.split_once(':').unwrap_or((text, ""))
    };
    let named = || !host.is_empty() && host.len() <= 255 && host.bytes().all(in_name);
    if !host.starts_with('[') && !named() {
        return None;
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    Some(Authority { host, port })
}

/// `reg-name`, but for percent-encoding, which no host needs and which would make two names of one.
const fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
