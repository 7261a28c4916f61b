//! Memory of this process.

/// Gives back to the system what this process has freed. The allocator keeps it otherwise: after manifests of many objects were read and
/// compiled, that is as much again as what stays in use. Costs milliseconds.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "there is no safe wrapper of malloc_trim")]
pub fn give_back_memory() {
    // SAFETY: looks at nothing but the allocator's own free lists, under its own locks; may be called at any time by any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Does nothing: this C library gives back by itself what it can.
#[cfg(not(target_env = "gnu"))]
pub const fn give_back_memory() {}
