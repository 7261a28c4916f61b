//! The chunked coding (RFC 9112, 7.1), read byte by byte where it matters and not at all where it doesn't.

use std::ops::Range;

use crate::{error::HeadError, field::is_token};

/// The most bytes of trailer section, and of chunk extensions in a row without data.
pub const MAX_TRAILER_BYTES: usize = 8 << 10;

/// The most bytes of one chunk's extensions.
const MAX_EXTENSION_BYTES: usize = 256;

/// Where in a chunked body the reading is.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    state: State,
    /// Bytes of the current chunk that are still to come.
    left: u64,
    /// Bytes of extension or trailer so far.
    overhead: usize,
    /// Chunks smaller than their own overhead, in a row.
    wasteful: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Size,
    /// After so many digits of it.
    Digits(u8),
    /// After the size: white space before an extension.
    Blank,
    /// In an extension.
    Extension {
        quoted: bool,
        escaped: bool,
    },
    /// After the CR of the size's line.
    SizeEnd,
    Data,
    /// After the data: CR.
    DataCr,
    /// LF.
    DataLf,
    /// At the start of a line of the trailer section.
    Trailer,
    /// In the name of a trailer field.
    TrailerName,
    /// In its value.
    TrailerValue,
    /// After the CR of such a line.
    TrailerLf,
    /// After the CR of the last line.
    LastLf,
    Done,
}

/// One step of the reading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Bytes taken from the start of the input.
    pub taken: usize,
    /// Which of them are data; empty where none.
    pub data: Range<usize>,
    /// Which of them are of the trailer section, its empty last line included; empty where none.
    pub trailers: Range<usize>,
}

impl Chunked {
    /// Whether the body, trailers included, is over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes from `input` up to the end of the next piece of data, the end of the body, or all of it.
    ///
    /// # Errors
    /// [`HeadError::Malformed`] and [`HeadError::BareLineBreak`] for what is no chunked coding; [`HeadError::TooLarge`] for extensions
    /// or trailers without end.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, HeadError> {
        let mut at = 0;
        let mut trailers = None;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                self.left -= most as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Step { taken: at + most, data: at..at + most, trailers: 0..0 });
            }
            if trailers.is_none() && self.in_trailers() {
                trailers = Some(at);
            }
            self.byte(input[at])?;
            at += 1;
        }
        Ok(Step { taken: at, data: 0..0, trailers: trailers.map_or(0..0, |start| start..at) })
    }

    /// Takes as much of `input` as belongs to the body, coding included: for passing it on as it is.
    ///
    /// # Errors
    /// As [`Chunked::step`].
    pub fn pass(&mut self, input: &[u8]) -> Result<usize, HeadError> {
        let mut taken = 0;
        while taken < input.len() && !self.is_done() {
            taken += self.step(&input[taken..])?.taken;
        }
        Ok(taken)
    }

    const fn in_trailers(&self) -> bool {
        matches!(
            self.state,
            State::Trailer | State::TrailerName | State::TrailerValue | State::TrailerLf | State::LastLf
        )
    }

    fn byte(&mut self, byte: u8) -> Result<(), HeadError> {
        self.state = match (self.state, byte) {
            (State::Size, _) => self.digit(byte, 0)?,
            (State::Digits(_), b'\r') => State::SizeEnd,
            (State::Digits(_) | State::Blank, b';') => self.extension()?,
            (State::Digits(_) | State::Blank, b' ' | b'\t') => {
                self.spend(1, MAX_EXTENSION_BYTES)?;
                State::Blank
            }
            (State::Digits(count), _) => self.digit(byte, count)?,
            (State::Extension { quoted, escaped }, _) => self.extension_byte(byte, quoted, escaped)?,
            (State::SizeEnd, b'\n') => self.start()?,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::LastLf,
            (State::Trailer | State::TrailerName, _) if is_token(byte) => {
                self.spend(1, MAX_TRAILER_BYTES)?;
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if byte == b'\t' || (byte >= b' ' && byte != 0x7f) => {
                self.spend(1, MAX_TRAILER_BYTES)?;
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::LastLf, b'\n') => State::Done,
            (_, b'\n' | b'\r') | (State::SizeEnd | State::DataLf | State::TrailerLf | State::LastLf, _) => {
                return Err(HeadError::BareLineBreak);
            }
            (
                State::Blank
                | State::DataCr
                | State::Trailer
                | State::TrailerName
                | State::TrailerValue
                | State::Data
                | State::Done,
                _,
            ) => return Err(HeadError::Malformed),
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8, count: u8) -> Result<State, HeadError> {
        let digit = char::from(byte).to_digit(16).ok_or(HeadError::Malformed)?;
        if count == 0 {
            (self.left, self.overhead) = (0, 0);
        }
        // Fifteen digits stay below 2^60: no sum of offsets overflows.
        if count == 15 {
            return Err(HeadError::Malformed);
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Digits(count + 1))
    }

    fn extension(&mut self) -> Result<State, HeadError> {
        self.spend(1, MAX_EXTENSION_BYTES)?;
        Ok(State::Extension { quoted: false, escaped: false })
    }

    fn extension_byte(&mut self, byte: u8, quoted: bool, escaped: bool) -> Result<State, HeadError> {
        self.spend(1, MAX_EXTENSION_BYTES)?;
        match byte {
            b'\r' if !quoted => Ok(State::SizeEnd),
            b'\r' | b'\n' => Err(HeadError::BareLineBreak),
            _ if escaped => Ok(State::Extension { quoted, escaped: false }),
            b'\\' if quoted => Ok(State::Extension { quoted, escaped: true }),
            b'"' => Ok(State::Extension { quoted: !quoted, escaped: false }),
            b'\t' | b' '..=b'~' | 0x80.. => Ok(State::Extension { quoted, escaped: false }),
            _ => Err(HeadError::Malformed),
        }
    }

    /// After the line with the size.
    fn start(&mut self) -> Result<State, HeadError> {
        if self.left == 0 {
            self.overhead = 0;
            return Ok(State::Trailer);
        }
        // A peer that sends a hundred bytes of extension with every byte of data makes work without end.
        self.wasteful = if self.overhead as u64 > self.left { self.wasteful + 1 } else { 0 };
        if self.wasteful > 64 { Err(HeadError::TooLarge) } else { Ok(State::Data) }
    }

    fn spend(&mut self, bytes: usize, most: usize) -> Result<(), HeadError> {
        self.overhead += bytes;
        if self.overhead > most { Err(HeadError::TooLarge) } else { Ok(()) }
    }
}
