//! Hash tables whose sizes only the kernel knows, read in large steps.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

use nix::errno::Errno;

/// Entries a system call asks for; more where a bucket of the table holds more.
const BATCH: u32 = 4_096;

/// `union bpf_attr` of `BPF_MAP_LOOKUP_BATCH`.
#[repr(C)]
#[derive(Default)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Bytes of keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) key: usize,
    pub(super) value: usize,
}

/// Hands every entry of a hash to `visit`: one that is there all the time once, one that comes or goes meanwhile at most twice.
pub(super) fn each(fd: BorrowedFd<'_>, sizes: Sizes, mut visit: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    let mut batch = BATCH;
    // Position between two calls, opaque: four bytes for a hash.
    let (mut position, mut started) = (0_u32, false);
    loop {
        let (mut keys, mut values) = (vec![0; sizes.key * batch as usize], vec![0; sizes.value * batch as usize]);
        let mut next = 0_u32;
        let (found, end) =
            match look_up(fd.as_raw_fd(), started.then_some(&position), &mut next, &mut keys, &mut values, batch) {
                Err(Errno::ENOSPC) => {
                    batch = batch.checked_mul(2).ok_or(Errno::ENOSPC)?;
                    continue;
                }
                result => result?,
            };
        for (key, value) in keys.chunks_exact(sizes.key).zip(values.chunks_exact(sizes.value)).take(found) {
            visit(key, value);
        }
        if end {
            return Ok(());
        }
        (position, started) = (next, true);
    }
}

/// How many entries were read, and whether they were the last.
fn look_up(
    fd: RawFd,
    position: Option<&u32>,
    next: &mut u32,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> Result<(usize, bool), Errno> {
    const BPF_MAP_LOOKUP_BATCH: nix::libc::c_int = 24;
    let mut attributes = Batch {
        from: position.map_or(0, |position| std::ptr::from_ref(position) as u64),
        to: std::ptr::from_mut(next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map_fd: u32::try_from(fd).map_err(|_| Errno::EBADF)?,
        ..Batch::default()
    };
    #[expect(unsafe_code, reason = "the library has no call for tables of sizes that only the kernel knows")]
    // SAFETY: the attributes are as long as said; the buffers they point to outlive the call and hold `count` keys and values of
    // the table's sizes; the positions are the four bytes that a hash takes.
    let result = unsafe {
        nix::libc::syscall(nix::libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut attributes, size_of::<Batch>())
    };
    match Errno::result(result) {
        Ok(_) => Ok((attributes.count as usize, false)),
        Err(Errno::ENOENT) => Ok((attributes.count as usize, true)),
        Err(error) => Err(error),
    }
}
