//! What is spoken: `80/TCP`, `53/UDP`, `8080`, `ICMP`, `protocol/47`.

use std::str::FromStr;

use strait_base::Protocol;
use strait_model::L4;

/// A port and protocol as people write them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Probe(pub(crate) L4);

impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("icmp") {
            return Ok(Self(L4::Icmp));
        }
        if let Some(number) = text.strip_prefix("protocol/") {
            let number = number.parse().map_err(|_| format!("`{number}` is no IP protocol number (0-255)"))?;
            return Ok(Self(L4::Other(number)));
        }
        let (port, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(format!("`{port}` is no port (1-65535), as in 80/TCP; or ICMP")),
            Ok(port) => port,
        };
        let protocol: Protocol = protocol.parse().map_err(|error| format!("`{protocol}`: {error}"))?;
        Ok(Self(L4::Port { protocol, port }))
    }
}

impl Probe {
    /// Port and protocol as JSON has them; port 0 where the protocol has none.
    pub(crate) fn fields(self) -> (u16, String) {
        match self.0 {
            L4::Port { protocol, port } => (port, protocol.to_string()),
            L4::Icmp => (0, "ICMP".to_owned()),
            L4::Other(number) => (0, number.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes() {
        let port = |protocol, port| Ok(Probe(L4::Port { protocol, port }));
        for (text, expected) in [
            ("80/TCP", port(Protocol::Tcp, 80)),
            ("80", port(Protocol::Tcp, 80)),
            ("53/udp", port(Protocol::Udp, 53)),
            ("9/SCTP", port(Protocol::Sctp, 9)),
            ("icmp", Ok(Probe(L4::Icmp))),
            ("protocol/47", Ok(Probe(L4::Other(47)))),
        ] {
            assert_eq!(text.parse::<Probe>(), expected, "{text}");
        }
        for text in ["", "0", "70000/TCP", "80/GRE", "http", "/TCP", "protocol/300", "80/"] {
            assert!(text.parse::<Probe>().is_err(), "{text}");
        }
    }
}
