//! Descriptors that a process was started with.

use std::io;

use nix::{errno::Errno, libc};

/// Closes everything but the three standard streams, for a process that outlives who started it: an open file keeps its lock, an open
/// pipe its reader waiting. Only for the start of a process, before it has opened anything or started a thread.
pub fn close_inherited() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes three numbers and no memory. Nothing in this process owns a descriptor yet, as the caller promises;
    // where one did, its next use would fail with EBADF.
    #[expect(unsafe_code, reason = "there is no safe wrapper of close_range")]
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
    Errno::result(result).map(drop).map_err(Into::into)
}
