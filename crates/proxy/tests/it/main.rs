//! A gate as its users see it, over sockets on loopback.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod bed;
mod cost;
mod records;
