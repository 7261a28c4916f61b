//! What a connection allows.

use super::frame::{Code, WINDOW};
use crate::head::Limits;

/// Bounds on what the other side can make this one hold or do. Those that say "in an interval" are counted anew with each
/// [`Connection::set_interval`](super::Connection::set_interval), which comes every ten seconds or so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// How large heads may be: `head` bytes of names and values, each field counting 32 more, and as many bytes of their compressed form.
    pub limits: Limits,
    /// Streams at once: those of the other side for a server, one's own for a client.
    pub streams: u32,
    /// What a stream may be sent before it is taken; at least 65,535 bytes.
    pub stream_window: u32,
    /// What all streams together may be sent before it is taken; at least 65,535 bytes.
    pub connection_window: u32,
    /// Bytes that wait to be written, from where on no data is taken to be sent.
    pub output: usize,
    /// Frames that one header block may be made of.
    pub continuations: u32,
    /// Streams that the other side may reset before their answer is complete, in an interval, unless that is less than half of all
    /// (CVE-2023-44487).
    pub resets: u32,
    /// Streams that the other side may make this one reset, in an interval, unless that is less than half of all (CVE-2025-8671).
    pub provoked: u32,
    /// Frames that ask for an answer (`SETTINGS`, `PING`), in an interval.
    pub asks: u32,
    /// Frames that carry nothing, in an interval: empty data, `PRIORITY`, unknown ones, windows opened a little. Each frame of data that
    /// comes or goes makes up for one.
    pub idle_frames: u32,
    /// Whether a server takes extended `CONNECT` (RFC 8441).
    pub extended_connect: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            streams: 100,
            stream_window: WINDOW + 1,
            connection_window: 1 << 20,
            output: 256 << 10,
            continuations: 16,
            resets: 100,
            provoked: 100,
            asks: 100,
            idle_frames: 10_000,
            extended_connect: true,
        }
    }
}

/// What the other side did in this interval.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    interval: u64,
    pub(crate) opened: u32,
    pub(crate) resets: u32,
    pub(crate) provoked: u32,
    pub(crate) asks: u32,
    pub(crate) idle_frames: u32,
}

impl Counts {
    pub(crate) fn begin(&mut self, interval: u64) {
        if self.interval != interval {
            *self = Self { interval, ..Self::default() };
        }
    }

    /// # Errors
    /// That something was done too often.
    pub(crate) const fn check(&self, config: &Config) -> Result<(), Code> {
        let half = self.opened / 2;
        let many = (self.resets > config.resets && self.resets > half)
            || (self.provoked > config.provoked && self.provoked > half)
            || self.asks > config.asks
            || self.idle_frames > config.idle_frames;
        if many { Err(Code::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }
}
