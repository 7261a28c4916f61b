//! Programs of others on either side of the gate.

mod envoy;
mod grpc;
mod nghttp;
mod nginx;
pub(crate) mod websocket;

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use crate::bed::PATIENCE;

/// Where a program is. Where CI runs it has to be there; elsewhere its tests say that they do nothing.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian puts servers, which is not on everybody's path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    needed(name, folders.map(|folder| folder.join(name)).find(|path| path.exists()))
}

/// Envoy, where `cargo xtask setup test` puts it.
pub(crate) fn envoy_program() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_strait")).ancestors().nth(2).unwrap();
    let libraries = fs::read_dir(target.join("peers/envoy/lib")).into_iter().flatten().flatten();
    let mut found = libraries.map(|entry| entry.path().join("site-packages/envoy/_bin/envoy"));
    needed("envoy", found.find(|path| path.exists()))
}

/// The client and server of gRPC, where `cargo xtask setup test` puts it.
fn grpc_program() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_strait")).ancestors().nth(2).unwrap();
    needed("strait-grpc-peer", Some(target.join("peers/grpc/strait-grpc-peer")).filter(|path| path.exists()))
}

pub(crate) fn needed(name: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        let required = std::env::var_os("STRAIT_REQUIRE_PEERS").is_some();
        assert!(!required, "{name} is not installed: cargo xtask setup test");
        eprintln!("SKIPPED: {name} is not installed (cargo xtask setup test)");
    }
    found
}

/// A place on loopback that is this process's alone: other tests may run beside it.
pub(crate) fn place(port: u16) -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 100 + high % 64, low, 250], port))
}

/// A server; it ends with the value.
pub(crate) struct Server(Child);

impl Server {
    /// Starts it and waits until it listens.
    pub(crate) fn start(mut command: Command, at: SocketAddr) -> Self {
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let deadline = jiff::Timestamp::now() + PATIENCE;
        while TcpStream::connect(at).is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "{command:?}");
            assert!(jiff::Timestamp::now() < deadline, "{command:?} does not listen at {at}");
            std::thread::yield_now();
        }
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a client to its end, which has to be a good one.
fn ran(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{text}\n{}", String::from_utf8_lossy(&stderr));
    text
}

/// Bytes that no transformation leaves as they are by chance.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(state.to_be_bytes()[0])
    };
    std::iter::repeat(()).scan(7_u32, |state, ()| next(state)).take(length).collect()
}
