//! How much of what arrives belongs to a body.

use crate::{chunked::Chunked, error::HeadError, framing::Framing};

/// Reads a body, whatever delimits it.
#[derive(Clone, Debug)]
pub enum BodyReader {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All that comes.
    UntilClose,
}

/// What [`BodyReader::pass`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes from the start of the input that belong to the body, coding included.
    pub taken: usize,
    /// Whether the body is over with them.
    pub done: bool,
}

impl BodyReader {
    /// A reader of the body of a head with that framing.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Whether the body is over. One until the connection ends never is: that end is its end.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Takes as much of `input` as belongs to the body.
    ///
    /// # Errors
    /// As [`Chunked::step`]; the other kinds have none.
    pub fn pass(&mut self, input: &[u8]) -> Result<Progress, HeadError> {
        let taken = match self {
            Self::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= most as u64;
                most
            }
            Self::Chunked(chunked) => chunked.pass(input)?,
            Self::UntilClose => input.len(),
        };
        Ok(Progress { taken, done: self.is_done() })
    }
}
