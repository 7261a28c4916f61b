//! The PROXY protocol, versions 1 and 2: who the client was, told by a balancer before the first byte of the client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a PROXY header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyHeader {
    /// Bytes of the header.
    pub len: usize,
    /// The client, and the address it connected to. None where the balancer speaks for itself (`LOCAL`, `UNKNOWN`).
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Why there is no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyProtocolError {
    /// The connection begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    NotProxy,
    /// A header that contradicts itself.
    #[error("the PROXY header is malformed")]
    Malformed,
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its line break included.
const LINE: usize = 107;
/// The longest header of version 2 that is taken, type-length-values included.
const MOST: usize = 16 + 2048;

/// Reads the header at the start of a connection. None where more bytes are needed.
///
/// # Errors
/// As soon as it is certain that there is none.
pub fn proxy_header(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyProtocolError> {
    if begins(bytes, SIGNATURE) {
        return version2(bytes);
    }
    if begins(bytes, b"PROXY ") {
        return version1(bytes);
    }
    Err(ProxyProtocolError::NotProxy)
}

/// Whether they agree as far as both go.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(a, b)| a == b)
}

fn version1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyProtocolError> {
    let within = &bytes[..bytes.len().min(LINE)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if within.len() == LINE { Err(ProxyProtocolError::Malformed) } else { Ok(None) };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or(ProxyProtocolError::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyProtocolError::Malformed)?;
    let mut parts = line.split(' ').skip(1);
    let len = end + 1;
    let v6 = match parts.next() {
        Some("UNKNOWN") => return Ok(Some(ProxyHeader { len, addresses: None })),
        Some("TCP4") => false,
        Some("TCP6") => true,
        _ => return Err(ProxyProtocolError::Malformed),
    };
    let [Some(source), Some(destination), Some(from), Some(to), None] = std::array::from_fn(|_| parts.next()) else {
        return Err(ProxyProtocolError::Malformed);
    };
    let socket = |address: &str, port: &str| {
        let address: IpAddr = address.parse().ok().filter(|address: &IpAddr| address.is_ipv6() == v6)?;
        let plain = port.len() <= 5
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && (port == "0" || !port.starts_with('0'));
        Some(SocketAddr::new(address, port.parse().ok().filter(|_| plain)?))
    };
    let addresses = socket(source, from).zip(socket(destination, to)).ok_or(ProxyProtocolError::Malformed)?;
    Ok(Some(ProxyHeader { len, addresses: Some(addresses) }))
}

fn version2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyProtocolError> {
    let Some((head, body)) = bytes.split_at_checked(16) else { return Ok(None) };
    let (version, command, family) = (head[12] >> 4, head[12] & 15, head[13]);
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let len = 16 + length;
    if version != 2 || command > 1 || len > MOST {
        return Err(ProxyProtocolError::Malformed);
    }
    let Some(body) = body.get(..length) else { return Ok(None) };
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let addresses = match (command, family) {
        // The balancer's own; unspecified.
        (0, _) | (_, 0x00) => None,
        (_, 0x11) if length >= 12 => {
            let address = |at: usize| Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]);
            Some((SocketAddr::new(address(0).into(), port(8)), SocketAddr::new(address(4).into(), port(10))))
        }
        (_, 0x21) if length >= 36 => {
            let address = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&body[at..at + 16]);
                Ipv6Addr::from(octets)
            };
            Some((SocketAddr::new(address(0).into(), port(32)), SocketAddr::new(address(16).into(), port(34))))
        }
        // Datagrams, unix sockets: no client of a TCP listener.
        _ => return Err(ProxyProtocolError::Malformed),
    };
    Ok(Some(ProxyHeader { len, addresses }))
}
