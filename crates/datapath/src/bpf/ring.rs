//! The event ring.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use aya::maps::{Map, MapData, RingBuf};
use strait_packet::abi::{self, layout::Conversion, map};
use zerocopy::FromBytes;

use super::Error;
use crate::event::Event;

/// Reads the event ring. Readable (as a file descriptor, edge-triggered or not) while there are events; the position survives a
/// restart, so events that came while no agent ran are read by the next one, as far as the ring holds them.
pub struct EventReader {
    ring: RingBuf<MapData>,
    /// The ring that programs of another layout write to, until their links have moved: read first.
    before: Option<(RingBuf<MapData>, Conversion)>,
    unknown: u64,
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader").field("unknown", &self.unknown).finish_non_exhaustive()
    }
}

impl EventReader {
    pub(super) fn open(pin: &Path, before: Option<(MapData, Conversion)>) -> Result<Self, Error> {
        let refuse = |error| Error::map(map::EVENTS, "open", error);
        let data = MapData::from_pin(pin).map_err(refuse)?;
        let ring = Map::from_map_data(data).and_then(RingBuf::try_from).map_err(refuse)?;
        let before = match before {
            None => None,
            Some((data, conversion)) => {
                let ring = Map::from_map_data(data).and_then(RingBuf::try_from).map_err(refuse)?;
                Some((ring, conversion))
            }
        };
        Ok(Self { ring, before, unknown: 0 })
    }

    /// The next event; `None` once the ring is empty.
    #[expect(clippy::should_implement_trait, reason = "an empty ring is not the end: more comes later")]
    pub fn next(&mut self) -> Option<Event> {
        if let Some((ring, conversion)) = &mut self.before {
            while let Some(record) = ring.next() {
                match conversion.apply(&record).and_then(|record| event(&record)) {
                    Some(event) => return Some(event),
                    None => self.unknown += 1,
                }
            }
        }
        while let Some(record) = self.ring.next() {
            match event(&record) {
                Some(event) => return Some(event),
                None => self.unknown += 1,
            }
        }
        None
    }

    /// Records that this version could not make sense of.
    pub const fn unknown(&self) -> u64 {
        self.unknown
    }
}

fn event(record: &[u8]) -> Option<Event> {
    abi::Event::read_from_prefix(record).ok().and_then(|(record, _)| Event::from_record(&record))
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
