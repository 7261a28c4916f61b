//! What a client says beside its requests: on its control stream (RFC 9114, 6.2.1 and 7.2), and on those of its encoder and decoder
//! (RFC 9204, 4.3 and 4.4). It says it to a server that pushes nothing and has no dynamic table, so all of it is right or wrong, and
//! nothing else.

use super::frame::{Code, FrameHead, kind, setting, take_number};

/// Bytes of the largest payload that is read; a larger one says nothing that a server needs.
const MOST: u64 = 4096;
/// Settings of one frame.
const SETTINGS: usize = 64;
/// Bytes of the longest integer of an instruction that is not beyond all streams (RFC 9204, 4.1.1: 62 bits).
const INTEGER: usize = 10;

/// A client's control stream, as far as it was read.
#[derive(Clone, Debug, Default)]
pub struct Control {
    begun: bool,
    /// The last push that the client announced to take, and the last one of its `GOAWAY`.
    most: Option<u64>,
    away: Option<u64>,
}

impl Control {
    /// Looks at the head of the next frame. Gives whether its payload is wanted, by [`Control::payload`]; else it is passed over.
    ///
    /// # Errors
    /// With what the connection ends: the frame must not come here, or is too large.
    pub fn frame(&mut self, frame: FrameHead) -> Result<bool, Code> {
        if !std::mem::replace(&mut self.begun, true) {
            if frame.kind != kind::SETTINGS {
                return Err(Code::MISSING_SETTINGS);
            }
        } else if frame.kind == kind::SETTINGS {
            return Err(Code::FRAME_UNEXPECTED);
        }
        match frame.kind {
            kind::SETTINGS | kind::GOAWAY | kind::MAX_PUSH_ID | kind::CANCEL_PUSH if frame.length > MOST => {
                Err(Code::EXCESSIVE_LOAD)
            }
            kind::SETTINGS | kind::GOAWAY | kind::MAX_PUSH_ID | kind::CANCEL_PUSH => Ok(true),
            kind::DATA | kind::HEADERS | kind::PUSH_PROMISE => Err(Code::FRAME_UNEXPECTED),
            other if kind::OF_HTTP2.contains(&other) => Err(Code::FRAME_UNEXPECTED),
            _ => Ok(false),
        }
    }

    /// Reads the payload of a frame of that kind, all of it.
    ///
    /// # Errors
    /// With what the connection ends.
    pub fn payload(&mut self, of: u64, payload: &[u8]) -> Result<(), Code> {
        if of == kind::SETTINGS {
            return settings(payload);
        }
        let mut rest = payload;
        let id = take_number(&mut rest).filter(|_| rest.is_empty()).ok_or(Code::FRAME_ERROR)?;
        match of {
            // There is none that it could mean.
            kind::CANCEL_PUSH => Err(Code::ID_ERROR),
            // What may be pushed is taken back by nobody, what is refused is not taken after all.
            kind::MAX_PUSH_ID if self.most.is_some_and(|most| id < most) => Err(Code::ID_ERROR),
            kind::GOAWAY if self.away.is_some_and(|away| id > away) => Err(Code::ID_ERROR),
            kind::MAX_PUSH_ID => {
                self.most = Some(id);
                Ok(())
            }
            kind::GOAWAY => {
                self.away = Some(id);
                Ok(())
            }
            _ => Err(Code::FRAME_UNEXPECTED),
        }
    }
}

/// Checks settings; none of a client's matters to a server that pushes nothing and has no table.
fn settings(mut payload: &[u8]) -> Result<(), Code> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let setting = take_number(&mut payload).ok_or(Code::FRAME_ERROR)?;
        let value = take_number(&mut payload).ok_or(Code::FRAME_ERROR)?;
        let flag = matches!(setting, setting::ENABLE_CONNECT_PROTOCOL | setting::H3_DATAGRAM);
        if seen.contains(&setting) || setting::OF_HTTP2.contains(&setting) || seen.len() >= SETTINGS {
            return Err(Code::SETTINGS_ERROR);
        }
        if flag && value > 1 {
            return Err(Code::SETTINGS_ERROR);
        }
        seen.push(setting);
    }
    Ok(())
}

/// Reads instructions of the client's encoder, any part of them. All that it may say to a table of no size is that size.
///
/// # Errors
/// With what the connection ends.
pub fn encoder(instructions: &[u8]) -> Result<(), Code> {
    const NO_SIZE: u8 = 0x20;
    if instructions.iter().all(|byte| *byte == NO_SIZE) { Ok(()) } else { Err(Code::QPACK_ENCODER_STREAM_ERROR) }
}

/// Reads instructions of the client's decoder; gives how many bytes were taken. Those that are left, fewer than ten, begin one that is not
/// all here. It may say that it reads a stream no more: there is nothing else that it was sent and could acknowledge.
///
/// # Errors
/// With what the connection ends.
pub fn decoder(instructions: &[u8]) -> Result<usize, Code> {
    const CANCELLATION: u8 = 0x40;
    let mut rest = instructions;
    while let Some((first, behind)) = rest.split_first() {
        if first & 0xc0 != CANCELLATION {
            return Err(Code::QPACK_DECODER_STREAM_ERROR);
        }
        if first & 0x3f != 0x3f {
            rest = behind;
            continue;
        }
        match behind.iter().position(|byte| byte & 0x80 == 0) {
            Some(last) if last + 2 <= INTEGER => rest = &behind[last + 1..],
            None if behind.len() + 1 < INTEGER => break,
            _ => return Err(Code::QPACK_DECODER_STREAM_ERROR),
        }
    }
    Ok(instructions.len() - rest.len())
}
