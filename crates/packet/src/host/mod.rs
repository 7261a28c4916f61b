//! The engine on the host: maps in memory, frames from bytes, and the vectors that host and kernel both run.

mod build;
mod memory;
pub mod vectors;

pub use build::{Wire, extension, tcp_flags};
pub use memory::{Bytes, MemoryMaps};
