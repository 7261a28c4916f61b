//! Connections that the node itself has, as conntrack entries.
//!
//! Programs see the node's own packets only from its first host policy on. A connection that was open before would be met in its middle,
//! where nobody knows who opened it: policy would have to allow both readings. The node's sockets do know.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use strait_packet::abi::{Config, CtEntry, CtKey, CtState, Direction, Port, ct_flags};

use crate::{Datapath, collect::monotonic_ns, kernel::Kernel, table::Conntrack};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The longest list of sockets that is read, bytes: more than a conntrack table of the usual size holds.
const LIMIT: u64 = 128 << 20;

/// A socket of this network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket {
    /// IP protocol number.
    pub protocol: u8,
    /// Its own side.
    pub local: SocketAddr,
    /// The other side; port 0 where there is none.
    pub remote: SocketAddr,
    /// As the kernel numbers the states of TCP.
    pub state: u8,
}

/// States of TCP, as in `/proc/net/tcp`.
mod state {
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const SYN_SENT: u8 = 2;
    pub(super) const SYN_RECV: u8 = 3;
    pub(super) const FIN_WAIT1: u8 = 4;
    pub(super) const FIN_WAIT2: u8 = 5;
    pub(super) const CLOSE_WAIT: u8 = 8;
    pub(super) const LISTEN: u8 = 10;
}

/// Lists the TCP and UDP sockets of the calling thread's network namespace.
pub fn sockets() -> io::Result<Vec<Socket>> {
    let mut all = Vec::new();
    for (file, protocol) in [("tcp", TCP), ("tcp6", TCP), ("udp", UDP), ("udp6", UDP)] {
        let path = format!("/proc/thread-self/net/{file}");
        let mut text = String::new();
        match fs::File::open(&path) {
            // No IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => io::Read::read_to_string(&mut io::Read::take(file?, LIMIT), &mut text)?,
        };
        all.extend(text.lines().filter_map(|line| parse(line, protocol)));
    }
    Ok(all)
}

/// `  0: 0100007F:1F90 00000000:0000 0A …`
fn parse(line: &str, protocol: u8) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    Some(Socket { protocol, local, remote, state })
}

/// Each four bytes of an address are a number as this machine writes numbers.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

/// The entries of connections that sockets have, to be judged when their next packet comes.
fn connections(sockets: &[Socket], config: &Config, now_ns: u64) -> BTreeMap<CtKey, CtEntry> {
    // Who waits at a port is asked there. A datagram socket without another side waits.
    let waits = |socket: &&Socket| match socket.protocol {
        TCP => socket.state == state::LISTEN,
        _ => socket.remote.port() == 0,
    };
    let waiting: BTreeSet<_> =
        sockets.iter().filter(waits).map(|socket| (socket.protocol, socket.local.port(), socket.local.ip())).collect();
    let is_asked = |socket: &Socket| {
        let at = |address: IpAddr| waiting.contains(&(socket.protocol, socket.local.port(), address));
        at(socket.local.ip()) || at(Ipv4Addr::UNSPECIFIED.into()) || at(Ipv6Addr::UNSPECIFIED.into())
    };
    let entry = |socket: &Socket| {
        let (state, flags) = match (socket.protocol, socket.state) {
            (TCP, state::ESTABLISHED) | (UDP, _) => (CtState::Established, ct_flags::REPLIED),
            (TCP, state::SYN_SENT | state::SYN_RECV) => (CtState::New, 0),
            (TCP, state::FIN_WAIT1 | state::FIN_WAIT2) => (CtState::Closing, ct_flags::REPLIED | ct_flags::FINISHED_TX),
            (TCP, state::CLOSE_WAIT) => (CtState::Closing, ct_flags::REPLIED | ct_flags::FINISHED_RX),
            _ => return None,
        };
        let (local, remote) = (socket.local, socket.remote);
        let within = local.ip() == remote.ip() || [local, remote].iter().any(|end| end.ip().is_loopback());
        if within || local.ip().is_unspecified() || remote.port() == 0 {
            return None;
        }
        let asked = socket.state == state::SYN_RECV || socket.state != state::SYN_SENT && is_asked(socket);
        let (direction, port) =
            if asked { (Direction::Ingress, local.port()) } else { (Direction::Egress, remote.port()) };
        let key = CtKey {
            local: local.ip().into(),
            remote: remote.ip().into(),
            local_port: Port::new(local.port()),
            remote_port: Port::new(remote.port()),
            protocol: socket.protocol,
            ..CtKey::default()
        };
        let entry = CtEntry {
            last_seen_ns: now_ns,
            created_ns: now_ns,
            last_report_ns: now_ns,
            lifetime_ns: config.timeouts.of(socket.protocol, state),
            // Of no policy that is in force: the next packet has the opener judged.
            revision: config.revision.wrapping_sub(1),
            subject: strait_base::IdentityId::HOST.0,
            policy_port: Port::new(port),
            state: state as u8,
            direction: direction as u8,
            flags,
            ..CtEntry::default()
        };
        Some((key, entry))
    };
    sockets.iter().filter_map(entry).collect()
}

impl<K: Kernel> Datapath<K> {
    /// Tells conntrack of connections that the node has and conntrack does not know. What is there stays as it is; where the table is
    /// nearly full, there is no room for more. What it will not take is judged in its middle.
    pub(crate) fn learn_connections(&mut self) {
        let now = monotonic_ns();
        let found = connections(&self.kernel.sockets(), self.config(), now);
        let room = self.kernel.capacity::<Conntrack>() as usize / 2;
        for (key, entry) in found.into_iter().take(room) {
            let known = self.kernel.get::<Conntrack>(&key).ok().flatten();
            if known.is_none_or(|known| known.expired(now)) && self.kernel.upsert::<Conntrack>(&key, &entry).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel of a little-endian machine prints it.
    const TEXT: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0B001EAC:0016 0A7100CB:D431 01 00000000:00000000 02:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0B001EAC:A01C 0A7100CB:01BB 01 00000000:00000000 02:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
   3: 0100007F:A01C 0100007F:01BB 01 00000000:00000000 02:00000000 00000000     0        0 4 1 0 20 4 30 10 -1
   4: 0B001EAC:A01D 0A7100CB:01BB 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0 0 0 0 0 0
   5: 0B001EAC:A01E 0A7100CB:01BB 02 00000000:00000000 03:00000000 00000000     0        0 0 3 0 0 0 0 0 0
   6: 0B001EAC:0016 0A7100CB:D432 08 00000000:00000000 02:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   what is no line
";

    fn told(sockets: &[Socket]) -> Vec<String> {
        let config = Config { revision: 7, ..Config::default() };
        let entries = connections(sockets, &config, 5);
        assert!(entries.values().all(|entry| entry.revision == 6 && entry.last_seen_ns == 5));
        let line = |(key, entry): (&CtKey, &CtEntry)| {
            let end = |address, port: Port| SocketAddr::new(IpAddr::from(address), port.get());
            let direction = Direction::from_number(entry.direction);
            format!(
                "{} {} {} {direction:?} {} {:?}",
                key.protocol,
                end(key.local, key.local_port),
                end(key.remote, key.remote_port),
                entry.policy_port.get(),
                CtState::from_number(entry.state)
            )
        };
        entries.iter().map(line).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn who_opened_a_connection_is_known_by_its_socket() {
        let mut sockets: Vec<_> = TEXT.lines().filter_map(|line| parse(line, TCP)).collect();
        assert_eq!(sockets.len(), 7);
        let six = |line| parse(line, TCP).unwrap();
        sockets.push(six("0: 0000000000000000FFFF00000B001EAC:0050 0000000000000000FFFF00000A7100CB:0400 01 0"));
        sockets.push(six("0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0"));
        sockets.push(six("0: 000000FD000000000000000001000000:0050 000000FD000000000000000002000000:0401 01 0"));
        let udp = |line| parse(line, UDP).unwrap();
        sockets.push(udp("0: 0B001EAC:1000 0A7100CB:01BB 01 0"));
        sockets.push(udp("0: 0B001EAC:01BB 0A7100CB:1001 01 0"));
        sockets.push(udp("0: 00000000:01BB 00000000:0000 07 0"));
        let mut told = told(&sockets);
        told.sort_unstable();
        expect_test::expect![[r"
            17 172.30.0.11:4096 203.0.113.10:443 Egress 443 Established
            17 172.30.0.11:443 203.0.113.10:4097 Ingress 443 Established
            6 172.30.0.11:22 203.0.113.10:54321 Ingress 22 Established
            6 172.30.0.11:22 203.0.113.10:54322 Ingress 22 Closing
            6 172.30.0.11:40988 203.0.113.10:443 Egress 443 Established
            6 172.30.0.11:40990 203.0.113.10:443 Egress 443 New
            6 172.30.0.11:80 203.0.113.10:1024 Ingress 80 Established
            6 [fd00::1]:80 [fd00::2]:1025 Ingress 80 Established"]]
        .assert_eq(&told.join("\n"));
    }

    #[test]
    fn the_kernel_lists_what_this_process_opens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(at).unwrap();
        let listed = sockets().unwrap();
        let find = |local, remote| listed.iter().find(|socket| socket.local == local && socket.remote == remote);
        let none = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        assert_eq!(find(at, none).unwrap().state, state::LISTEN);
        assert_eq!(find(stream.local_addr().unwrap(), at).unwrap().state, state::ESTABLISHED);
    }
}
