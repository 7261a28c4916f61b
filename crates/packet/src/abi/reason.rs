macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $hubble:literal, $text:literal;)*) => {
        /// Why a packet was dropped.
        ///
        /// Numbers and names are Hubble's (`flow.DropReason`) where it has one; 230 and up are Strait's own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $name = $number,)* }

        impl DropReason {
            /// Every reason, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// From its number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// True if the packet's addresses and port are worth telling apart: the sender is who it says, policy decided.
            #[inline(always)]
            pub const fn is_policy(self) -> bool {
                matches!(
                    self,
                    Self::PolicyDenied | Self::PolicyDeny | Self::NoPolicy | Self::ProxyUnavailable | Self::UnknownConnection
                )
            }

            /// True if no event tells of it, only the metric.
            #[inline(always)]
            pub const fn is_quiet(self) -> bool {
                matches!(self, Self::GroupMembership)
            }

            /// The name in flow records and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $hubble,)* }
            }

            /// What it means, for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Source hardware address is not the pod's.
    InvalidSourceMac = 130, "INVALID_SOURCE_MAC", "source hardware address is not the pod's own";
    /// Source address is not the sender's to use.
    InvalidSourceIp = 132, "INVALID_SOURCE_IP", "source address is not the sender's own";
    /// No rule allows it and the subject is isolated.
    PolicyDenied = 133, "POLICY_DENIED", "no policy allows it";
    /// The IP header contradicts itself.
    InvalidPacket = 134, "INVALID_PACKET_DROPPED", "malformed IP header";
    /// The transport header is cut short or contradicts itself.
    InvalidHeader = 135, "CT_TRUNCATED_OR_INVALID_HEADER", "transport header truncated or invalid";
    /// Neither IPv4, IPv6 nor ARP.
    UnsupportedL3 = 139, "UNSUPPORTED_L3_PROTOCOL", "not IPv4, IPv6 or ARP";
    /// An ICMP message that only redirects or throttles.
    ForbiddenIcmpv4 = 144, "UNKNOWN_ICMPV4_TYPE", "ICMP redirect and source quench are not permitted";
    /// Routed to a pod that does not have the address.
    NotThisPod = 151, "STALE_OR_UNROUTABLE_IP", "destination is not an address of the pod it was routed to";
    /// The interface belongs to no known endpoint.
    UnknownEndpoint = 152, "NO_MATCHING_LOCAL_CONTAINER_FOUND", "interface belongs to no known endpoint";
    /// The conntrack map refused a new entry.
    CtInsertFailed = 155, "CT_MAP_INSERTION_FAILED", "connection could not be remembered";
    /// Too many, misplaced or truncated IPv6 extension headers.
    InvalidExtensionHeader = 156, "INVALID_IPV6_EXTENSION_HEADER", "IPv6 extension headers invalid or too many";
    /// Nothing is loaded for the subject: closed until there is.
    NoPolicy = 165, "NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION", "no policy is loaded for the endpoint";
    /// Shorter than an Ethernet header, or VLAN-tagged by the pod.
    UnsupportedL2 = 166, "UNSUPPORTED_L2_PROTOCOL", "frame is not plain Ethernet";
    /// A later fragment whose first was not seen.
    FragmentNotFound = 175, "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND", "first fragment of the datagram not seen";
    /// An ICMPv6 message a pod has no business with.
    ForbiddenIcmpv6 = 176, "FORBIDDEN_ICMPV6_MESSAGE", "ICMPv6 message not permitted on a pod link";
    /// A rule denies it.
    PolicyDeny = 181, "POLICY_DENY", "a policy rule denies it";
    /// Group membership chatter, dropped quietly: it ends at the link.
    GroupMembership = 199, "IGMP_HANDLED", "group membership report, ends at the pod's link";
    /// Multicast or broadcast, which is not forwarded.
    Multicast = 201, "MULTICAST_HANDLED", "multicast and broadcast are not forwarded";
    /// Source routing by IPv4 option or IPv6 routing header.
    SourceRouted = 230, "SOURCE_ROUTED", "source routing is not permitted";
    /// ARP that claims another's address.
    ArpSpoofed = 231, "ARP_SPOOFED", "ARP claims an address that is not the pod's";
    /// Neighbour discovery that claims another's address.
    NeighbourSpoofed = 232, "NEIGHBOUR_SPOOFED", "neighbour discovery claims an address that is not the pod's";
    /// An ICMP error about no connection of the endpoint.
    UnrelatedIcmpError = 233, "UNRELATED_ICMP_ERROR", "ICMP error quotes no known connection";
    /// A fragment that would cut or overwrite the transport header.
    FragmentOverlap = 234, "FRAGMENT_OVERLAPS_HEADER", "fragment splits or overwrites the transport header";
    /// TCP of a connection never seen to open, which policy does not allow both ways.
    UnknownConnection = 235, "UNKNOWN_CONNECTION", "TCP segment of a connection never seen to open";
    /// The rule wants the proxy and there is none.
    ProxyUnavailable = 236, "PROXY_UNAVAILABLE", "the rule needs the L7 proxy and none is attached";
    /// IPv6 that carries an IPv4-mapped address.
    MappedAddress = 237, "V4_MAPPED_ADDRESS", "IPv4-mapped address on the wire";
    /// Flags no TCP sends together.
    InvalidTcpFlags = 238, "INVALID_TCP_FLAGS", "impossible combination of TCP flags";
    /// The maps are of another layout than the programs.
    AbiMismatch = 239, "ABI_MISMATCH", "configuration is missing or of another version";
    /// A loopback address on the wire.
    LoopbackAddress = 245, "LOOPBACK_ADDRESS", "loopback address on the wire";
}
