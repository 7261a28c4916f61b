use crate::abi::{CtKey, Direction, Hook, PeerPlace, Port};
use crate::parse::{Ip, Transport, protocol};

/// What a transport header says about the life of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Signal {
    /// A datagram of a protocol without opening: the first one opens.
    #[default]
    Datagram,
    /// TCP SYN, SCTP INIT.
    Open,
    /// Inside a connection that must have been opened.
    Segment,
    /// TCP FIN, SCTP SHUTDOWN and SHUTDOWN ACK.
    Finish,
    /// TCP RST, SCTP ABORT.
    Reset,
    /// An ICMP echo reply.
    EchoReply,
}

/// One packet as a part of a flow, from the local endpoint's view.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Its connection. Zero where the packet could not be read so far.
    pub key: CtKey,
    /// Which way the packet goes.
    pub direction: Direction,
    /// Where it was seen.
    pub hook: Hook,
    /// Interface it was seen at.
    pub ifindex: u32,
    /// Length with Ethernet header.
    pub len: u32,
    /// Endpoint id.
    pub endpoint: u32,
    /// The endpoint's identity.
    pub subject: u32,
    /// The peer's identity; zero until looked up.
    pub peer: u32,
    /// Where the peer is; unknown until looked up.
    pub peer_place: PeerPlace,
    /// Origin of the decision; zero until decided.
    pub origin: u32,
    /// Destination port, or ICMP type: what policy judges if this packet opens the connection.
    pub policy_port: Port,
    /// Destination port of the opposite reading: had the other side opened it.
    pub reverse_port: Port,
    /// What the packet does to the connection.
    pub signal: Signal,
    /// TCP flags.
    pub tcp_flags: u8,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// It belongs to no connection that is known: policy judges the packet itself.
    pub fresh: bool,
    /// [`event_flags`](crate::abi::event_flags) of the packet.
    pub event_flags: u8,
}

impl Flow {
    /// A packet of which nothing is known yet but where it is.
    #[inline(always)]
    pub(crate) fn new(hook: Hook, ifindex: u32, len: u32) -> Self {
        let direction = match hook {
            Hook::FromPod | Hook::ToUplink => Direction::Egress,
            Hook::ToPod | Hook::FromUplink => Direction::Ingress,
        };
        Self { direction, hook, ifindex, len, ..Self::default() }
    }

    /// True if the packet comes from the endpoint.
    #[inline(always)]
    pub(crate) fn is_tx(&self) -> bool {
        matches!(self.direction, Direction::Egress)
    }

    /// Takes the addresses of a packet that goes in `self.direction`.
    #[inline(always)]
    pub(crate) fn set_addresses(&mut self, ip: &Ip) {
        (self.key.local, self.key.remote) = if self.is_tx() { (ip.src, ip.dst) } else { (ip.dst, ip.src) };
    }

    /// Takes what the transport header says, and with it the rest of the key.
    #[inline(always)]
    pub(crate) fn set_transport(&mut self, protocol: u8, t: &Transport) {
        self.key.protocol = protocol;
        self.signal = t.signal;
        self.tcp_flags = t.tcp_flags;
        self.icmp_type = t.icmp_type;
        self.icmp_code = t.icmp_code;
        match protocol {
            protocol::ICMP | protocol::ICMPV6 => self.set_icmp(protocol, t),
            _ => {
                let tx = self.is_tx();
                self.key.local_port = if tx { t.src_port } else { t.dst_port };
                self.key.remote_port = if tx { t.dst_port } else { t.src_port };
                self.policy_port = t.dst_port;
                self.reverse_port = t.src_port;
            }
        }
    }

    /// The same packet as the other side sees it: what one end sends the other receives.
    #[inline(always)]
    pub(crate) fn turn(&mut self) {
        /// Between asking and being asked.
        const ECHO: u16 = 1 ^ 2;
        /// Between sent and received.
        const OTHER: u16 = 0x4000;
        (self.key.local, self.key.remote) = (self.key.remote, self.key.local);
        self.direction = match self.direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        if matches!(self.key.protocol, protocol::ICMP | protocol::ICMPV6) {
            let mark = self.key.remote_port.get();
            self.key.remote_port = Port::new(mark ^ if mark & 0x8000 == 0 { ECHO } else { OTHER });
        } else {
            (self.key.local_port, self.key.remote_port) = (self.key.remote_port, self.key.local_port);
        }
    }

    #[inline(always)]
    fn set_icmp(&mut self, protocol: u8, t: &Transport) {
        const ENDPOINT_ASKS: Port = Port::new(1);
        const ENDPOINT_IS_ASKED: Port = Port::new(2);
        const OTHER: u16 = 0x8000;
        const OTHER_TX: u16 = 0xc000;
        let (request, reply) = if protocol == protocol::ICMP { (8, 0) } else { (128, 129) };
        let tx = self.is_tx();
        self.policy_port = Port::new(u16::from(t.icmp_type));
        self.reverse_port = self.policy_port;
        if t.icmp_type == request || t.icmp_type == reply {
            let asks = tx == (t.icmp_type == request);
            self.key.local_port = t.src_port;
            self.key.remote_port = if asks { ENDPOINT_ASKS } else { ENDPOINT_IS_ASKED };
            if t.icmp_type == reply {
                self.signal = Signal::EchoReply;
            }
        } else {
            self.key.local_port = Port::ZERO;
            self.key.remote_port = Port::new(u16::from(t.icmp_type) | if tx { OTHER_TX } else { OTHER });
        }
    }
}
