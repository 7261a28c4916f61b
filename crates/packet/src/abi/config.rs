use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{CtState, DropReason};

const SECOND: u64 = 1_000_000_000;

/// The one value of `CONFIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// [`ABI_VERSION`](super::ABI_VERSION). The programs drop everything under any other.
    pub abi_version: u32,
    /// Revision of the policy maps; established connections of another revision are judged again.
    pub revision: u32,
    /// A long-lived connection is reported at most this often, nanoseconds.
    pub report_interval_ns: u64,
    /// Drops alike are reported at once, then summed up at most this often, nanoseconds.
    pub drop_interval_ns: u64,
    /// How long a silent connection is remembered.
    pub timeouts: Timeouts,
    /// Not zero: packets of connections that both ends know go to their pod past the host's stack
    /// ([`Verdict::Deliver`](crate::hooks::Verdict::Deliver)).
    pub shortcut: u32,
    /// What a denied connection hears: [`DenyResponse`].
    pub deny_response: u32,
    /// The node as a policy subject: its identity where host policies select it, [`HOST_CLOSED`](Self::HOST_CLOSED) where they
    /// do and are not loaded; 0: what the node itself sends and receives is not judged.
    pub host: u32,
    /// Zero.
    pub pad: u32,
}

impl Config {
    /// A subject that no policy is about: everything is denied.
    pub const HOST_CLOSED: u32 = u32::MAX;

    /// Whether what the node itself sends and receives is judged.
    #[inline(always)]
    pub const fn judges_host(&self) -> bool {
        self.host != 0
    }
}

/// What a connection that policy denies hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum DenyResponse {
    /// Nothing: it runs into its own timeout.
    #[default]
    Silent = 0,
    /// ICMP "communication administratively prohibited".
    Icmp = 1,
    /// A TCP reset; what is not TCP hears as with `Icmp`.
    Reset = 2,
}

impl DenyResponse {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Silent, Self::Icmp, Self::Reset];

    /// From its number; an unknown one is silence.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Icmp,
            2 => Self::Reset,
            _ => Self::Silent,
        }
    }

    /// As it is written in options and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Icmp => "icmp",
            Self::Reset => "reset",
        }
    }
}

/// Nanoseconds without a packet after which a conntrack entry counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeouts {
    /// TCP and SCTP before the answer.
    pub opening: u64,
    /// TCP and SCTP, both sides seen.
    pub established: u64,
    /// TCP and SCTP after the first sign of the end; also connections that policy stopped.
    pub closing: u64,
    /// UDP and other datagrams, one side seen.
    pub datagram_new: u64,
    /// UDP and other datagrams, both sides seen.
    pub datagram: u64,
}

impl Timeouts {
    /// The timeout of a connection of `protocol` in `state`.
    #[inline(always)]
    pub const fn of(&self, protocol: u8, state: CtState) -> u64 {
        let stream = protocol == 6 || protocol == 132;
        match state {
            CtState::New if stream => self.opening,
            CtState::Established if stream => self.established,
            CtState::New => self.datagram_new,
            CtState::Established => self.datagram,
            CtState::Closing | CtState::LastAck | CtState::Closed | CtState::Denied => self.closing,
        }
    }
}

impl Default for Config {
    /// Revision 1, Cilium's default lifetimes, reports every 30 s, drop sums every 5 s, shortcuts taken.
    fn default() -> Self {
        Self {
            abi_version: super::ABI_VERSION,
            revision: 1,
            report_interval_ns: 30 * SECOND,
            drop_interval_ns: 5 * SECOND,
            timeouts: Timeouts {
                opening: 60 * SECOND,
                established: 8_000 * SECOND,
                closing: 10 * SECOND,
                datagram_new: 30 * SECOND,
                datagram: 60 * SECOND,
            },
            shortcut: 1,
            deny_response: DenyResponse::Silent as u32,
            host: 0,
            pad: 0,
        }
    }
}

/// Where a packet is seen; which program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Hook {
    /// A pod sent it.
    #[default]
    FromPod = 0,
    /// A pod is about to receive it.
    ToPod = 1,
    /// It arrived at the node.
    FromUplink = 2,
    /// It leaves the node.
    ToUplink = 3,
}

impl Hook {
    /// Name of its [`program`](super::program).
    pub const fn program(self) -> &'static str {
        match self {
            Self::FromPod => super::program::FROM_POD,
            Self::ToPod => super::program::TO_POD,
            Self::FromUplink => super::program::FROM_UPLINK,
            Self::ToUplink => super::program::TO_UPLINK,
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::FromPod, Self::ToPod, Self::FromUplink, Self::ToUplink];

    /// From its number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::FromPod),
            1 => Some(Self::ToPod),
            2 => Some(Self::FromUplink),
            3 => Some(Self::ToUplink),
            _ => None,
        }
    }
}

/// Index into `METRICS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricKey {
    /// [`Hook`] number.
    pub hook: u8,
    /// [`DropReason`] number; 0 is forwarded.
    pub reason: u8,
}

impl MetricKey {
    /// Entries of `METRICS`.
    pub const COUNT: u32 = 4 << 8;

    /// Packets that passed.
    pub const fn forwarded(hook: Hook) -> Self {
        Self { hook: hook as u8, reason: 0 }
    }

    /// Packets that were dropped.
    pub const fn dropped(hook: Hook, reason: DropReason) -> Self {
        Self { hook: hook as u8, reason: reason as u8 }
    }

    /// The array index.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        (self.hook as u32) << 8 | self.reason as u32
    }

    /// The key of an index below [`Self::COUNT`].
    pub fn from_index(index: u32) -> Self {
        let [_, _, hook, reason] = index.to_be_bytes();
        Self { hook, reason }
    }
}

/// Value of `METRICS`, per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Metric {
    /// Packets as the kernel hands them over; an offloaded (GSO) packet counts once.
    pub packets: u64,
    /// Bytes including the Ethernet header.
    pub bytes: u64,
}
