//! Which protocol a client speaks, from its first bytes.

/// The HTTP/2 connection preface (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Methods of RFC 9110 and RFC 5789, each with the space that ends it. Any other first word is plain bytes: a client
/// that speaks a line protocol ("HELO x") gets its line back, not a 400.
const HTTP1_METHODS: [&[u8]; 9] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH "];

/// A TLS record of type handshake, any version that starts with 3 (RFC 8446 section 5.1).
const TLS_HANDSHAKE: &[u8] = &[0x16, 0x03];

/// Bytes that are enough for [`sniff`] to decide whatever they are.
pub(crate) const ENOUGH: usize = HTTP2_PREFACE.len();

/// What the first bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sniffed {
    /// A `ClientHello`.
    Tls,
    /// HTTP/1 or HTTP/2; the codec tells them apart by the same preface.
    Http,
    /// None of these.
    Bytes,
    /// The beginning of more than one of these.
    Undecided,
}

/// Judges the first bytes of a connection.
pub(crate) fn sniff(start: &[u8]) -> Sniffed {
    let patterns = HTTP1_METHODS.iter().map(|method| (*method, Sniffed::Http));
    let mut undecided = false;
    for (pattern, protocol) in patterns.chain([(HTTP2_PREFACE, Sniffed::Http), (TLS_HANDSHAKE, Sniffed::Tls)]) {
        if start.starts_with(pattern) {
            return protocol;
        }
        undecided |= pattern.starts_with(start);
    }
    if undecided { Sniffed::Undecided } else { Sniffed::Bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        for (start, expected) in [
            (&b""[..], Sniffed::Undecided),
            (b"G", Sniffed::Undecided),
            (b"GET", Sniffed::Undecided),
            (b"GET ", Sniffed::Http),
            (b"GETS", Sniffed::Bytes),
            (b"get / HTTP/1.1", Sniffed::Bytes),
            (b"P", Sniffed::Undecided),
            (b"PATCH /x", Sniffed::Http),
            (b"PRI * HTTP/2.0\r\n", Sniffed::Undecided),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sniffed::Http),
            (b"PING\r\n", Sniffed::Bytes),
            (b"\x16", Sniffed::Undecided),
            (b"\x16\x03\x01\x02", Sniffed::Tls),
            (b"\x16\x02", Sniffed::Bytes),
            (b"hello", Sniffed::Bytes),
            (b"\xff\xff", Sniffed::Bytes),
        ] {
            assert_eq!(sniff(start), expected, "{:?}", start.escape_ascii().to_string());
        }
    }

    #[test]
    fn enough_bytes_are_always_decided() {
        for length in ENOUGH..ENOUGH + 3 {
            for fill in 0..=255 {
                assert_ne!(sniff(&vec![fill; length]), Sniffed::Undecided);
            }
        }
    }
}
