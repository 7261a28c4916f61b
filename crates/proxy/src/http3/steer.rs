//! Which socket of a port a datagram comes to.
//!
//! ```text
//!  sockets of a port, in the order they were bound:   0 … n-1   n … 2n-1
//!                                                     └ half 0 ┘└ half 1 ┘
//!  an id that a worker gave:  index of its socket, two bytes │ five random bytes
//! ```
//!
//! The kernel would choose by addresses: then a client whose address changes, as behind many a router it does, comes to a worker that does
//! not know it; and so do all clients when sockets are added. Instead a program in front of the sockets (classic BPF, which needs no
//! privilege) reads the id that a datagram is for. One of the gate's names the socket. One that a client made up for its first datagrams is
//! longer, and chooses a socket of the half that is in use.
//!
//! One process reads one half. Another one that takes over inherits both, so that no socket moves; it reads the other half and has new
//! connections come there, while its predecessor still reads its own.

use std::{hash::BuildHasher as _, hash::RandomState, io, os::fd::AsFd};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt::AttachReusePortCbpf},
};
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;
use socket2::Socket;

/// Bytes of an id. Those that clients make up have eight at least (RFC 9000, 7.2).
const LENGTH: usize = 7;
/// Sockets in front of which a program can tell them apart.
const MOST: usize = 1 << 16;

/// Which part of the sockets one of so many workers reads in a half: their indices among all.
pub(crate) fn of_worker(sockets: usize, half: usize, index: usize, workers: usize) -> impl Iterator<Item = usize> {
    let each = sockets / 2;
    (0..each).skip(index).step_by(workers.max(1)).map(move |at| half % 2 * each + at)
}

/// Has new connections come to a half of the sockets of a port, and all others to where their ids say.
pub(crate) fn attach(sockets: &[Socket], half: usize) -> io::Result<()> {
    let (Some(first), each) = (sockets.first(), sockets.len() / 2) else { return Ok(()) };
    let (Ok(each32), true) = (u32::try_from(each), each > 0 && sockets.len() <= MOST) else {
        return Err(io::Error::other("there are too many sockets"));
    };
    let base = u32::try_from(half % 2).unwrap_or(0) * each32;
    let mut program = program(each32, base);
    let length = u16::try_from(program.len()).unwrap_or(0);
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    setsockopt(&first.as_fd(), AttachReusePortCbpf, &program)?;
    Ok(())
}

/// The program. It sees a datagram from its first byte; one that is too short is the first socket's.
fn program(each: u32, base: u32) -> [libc::sock_filter; 12] {
    fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        // The codes are all below 2^8.
        libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
    }
    use libc::{
        BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_B, BPF_H, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MOD, BPF_RET,
        BPF_W,
    };
    const _: () = assert!(LENGTH == 7, "the program compares with it");
    [
        // A long head says how long the id is.
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
        op(BPF_JMP | BPF_JSET | BPF_K, 2, 0, 0x80),
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 1),
        op(BPF_RET | BPF_A, 0, 0, 0),
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 5),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 7),
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 6),
        op(BPF_RET | BPF_A, 0, 0, 0),
        op(BPF_LD | BPF_W | BPF_ABS, 0, 0, 6),
        op(BPF_ALU | BPF_MOD | BPF_K, 0, 0, each),
        op(BPF_ALU | BPF_ADD | BPF_K, 0, 0, base),
        op(BPF_RET | BPF_A, 0, 0, 0),
    ]
}

/// Makes ids that name a socket.
pub(super) struct Ids {
    index: u16,
    /// What makes the rest: of a keyed hash nobody can tell the next value.
    random: RandomState,
    next: u64,
}

impl Ids {
    pub(super) fn new(index: usize) -> Self {
        Self { index: u16::try_from(index).unwrap_or(u16::MAX), random: RandomState::new(), next: 0 }
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.next += 1;
        let mut id = [0; LENGTH];
        let (index, rest) = id.split_at_mut(2);
        index.copy_from_slice(&self.index.to_be_bytes());
        rest.copy_from_slice(&self.random.hash_one(self.next).to_be_bytes()[..LENGTH - 2]);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        if id.starts_with(&self.index.to_be_bytes()) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}
