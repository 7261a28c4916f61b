//! Whether ports are open, by the kernel's tables: that needs nothing of the program.

use std::{collections::BTreeSet, fs};

use strait_base::Protocol;
use strait_datapath::netns::Netns;

/// `TCP_LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The ports in `netns` that a process listens on.
pub(super) fn ports(netns: &Netns) -> BTreeSet<(Protocol, u16)> {
    netns.run(read).unwrap_or_default()
}

fn read() -> BTreeSet<(Protocol, u16)> {
    let mut open = BTreeSet::new();
    for (table, protocol) in
        [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)]
    {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        open.extend(text.lines().skip(1).filter_map(|line| port(line, protocol)).map(|port| (protocol, port)));
    }
    open
}

/// `  0: 00000000:1F90 00000000:0000 0A …`
fn port(line: &str, protocol: Protocol) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    (protocol == Protocol::Udp || state == LISTEN).then(|| u16::from_str_radix(port, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let listening =
            "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        let connected =
            "   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert_eq!(port(listening, Protocol::Tcp), Some(8080));
        assert_eq!(port(connected, Protocol::Tcp), None);
        assert_eq!(port(connected, Protocol::Udp), Some(8080));
        assert_eq!(port("", Protocol::Tcp), None);
    }
}
