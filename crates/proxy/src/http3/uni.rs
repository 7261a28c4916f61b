//! The streams that a client opens in its direction alone (RFC 9114, 6.2; RFC 9204, 4.2).

use std::rc::Rc;

use quinn::RecvStream;
use strait_http::h3::{Code, FrameHead, kind, setting, stream_type, take_number};

use super::{code, link::Link};
use crate::io::Buffer;

/// The largest payload of a frame that says something to the gate.
const MOST: usize = 4096;

/// Reads them until the connection ends. There may be as many at once as QUIC lets the client open.
pub(super) async fn read_all(link: Rc<Link>) {
    while let Ok(stream) = link.quic().accept_uni().await {
        let link = Rc::clone(&link);
        tokio::task::spawn_local(async move {
            if let Err(error) = read(&link, stream).await {
                link.close(error);
            }
        });
    }
}

/// A stream, and what was read of it.
struct Reader {
    stream: RecvStream,
    inbound: Buffer,
}

impl Reader {
    /// Reads more. False at the end; to reset a stream that must stay is no better than to end it.
    async fn fill(&mut self) -> bool {
        let mut more = [0; 1024];
        let Ok(Some(count)) = self.stream.read(&mut more).await else { return false };
        self.inbound.extend(&more[..count]);
        true
    }

    /// Takes a number. None at the end.
    async fn number(&mut self) -> Option<u64> {
        loop {
            let mut rest = self.inbound.as_slice();
            if let Some(value) = take_number(&mut rest) {
                let taken = self.inbound.len() - rest.len();
                self.inbound.consume(taken);
                return Some(value);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Takes the head of a frame. None at the end.
    async fn frame(&mut self) -> Option<FrameHead> {
        loop {
            if let Some(frame) = FrameHead::read(self.inbound.as_slice()) {
                self.inbound.consume(frame.taken);
                return Some(frame);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Takes so many bytes, and gives them to `each` in pieces. False at the end.
    async fn bytes(&mut self, mut length: u64, mut each: impl FnMut(&[u8])) -> bool {
        while length > 0 {
            if self.inbound.is_empty() && !self.fill().await {
                return false;
            }
            let count = self.inbound.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            each(&self.inbound.as_slice()[..count]);
            self.inbound.consume(count);
            length -= count as u64;
        }
        true
    }
}

async fn read(link: &Link, stream: RecvStream) -> Result<(), Code> {
    let mut reader = Reader { stream, inbound: Buffer::default() };
    // A stream that ends before it says what it is is none.
    let Some(of) = reader.number().await else { return Ok(()) };
    match of {
        stream_type::CONTROL | stream_type::QPACK_ENCODER | stream_type::QPACK_DECODER => {}
        // Only servers push.
        stream_type::PUSH => return Err(Code::STREAM_CREATION_ERROR),
        _ => {
            let _ = reader.stream.stop(code(Code::STREAM_CREATION_ERROR));
            return Ok(());
        }
    }
    {
        let mut critical = link.critical.borrow_mut();
        if critical.contains(&of) {
            return Err(Code::STREAM_CREATION_ERROR);
        }
        critical.push(of);
    }
    match of {
        stream_type::CONTROL => control(link, &mut reader).await?,
        stream_type::QPACK_ENCODER => encoder(&mut reader).await?,
        _ => decoder(&mut reader).await,
    }
    Err(Code::CLOSED_CRITICAL_STREAM)
}

/// Reads the control stream to its end, which must not come.
async fn control(link: &Link, reader: &mut Reader) -> Result<(), Code> {
    let mut first = true;
    while let Some(frame) = reader.frame().await {
        link.count_frame();
        if std::mem::take(&mut first) != (frame.kind == kind::SETTINGS) {
            return Err(if frame.kind == kind::SETTINGS { Code::FRAME_UNEXPECTED } else { Code::MISSING_SETTINGS });
        }
        match frame.kind {
            kind::SETTINGS | kind::GOAWAY | kind::MAX_PUSH_ID | kind::CANCEL_PUSH => {
                if frame.length > MOST as u64 {
                    return Err(Code::EXCESSIVE_LOAD);
                }
                let mut payload = Vec::new();
                if !reader.bytes(frame.length, |bytes| payload.extend_from_slice(bytes)).await {
                    return Ok(());
                }
                if frame.kind == kind::SETTINGS {
                    settings(&payload)?;
                } else {
                    // Nothing is pushed: what clients say of that is right or wrong, and nothing else.
                    let mut rest = payload.as_slice();
                    take_number(&mut rest).filter(|_| rest.is_empty()).ok_or(Code::FRAME_ERROR)?;
                    if frame.kind == kind::CANCEL_PUSH {
                        return Err(Code::ID_ERROR);
                    }
                }
            }
            kind::DATA | kind::HEADERS | kind::PUSH_PROMISE => return Err(Code::FRAME_UNEXPECTED),
            other if kind::OF_HTTP2.contains(&other) => return Err(Code::FRAME_UNEXPECTED),
            _ => {
                if !reader.bytes(frame.length, |_| {}).await {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Checks settings; none of a client's matters to a server that pushes nothing and has no table.
fn settings(mut payload: &[u8]) -> Result<(), Code> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let setting = take_number(&mut payload).ok_or(Code::FRAME_ERROR)?;
        take_number(&mut payload).ok_or(Code::FRAME_ERROR)?;
        if seen.contains(&setting) || setting::OF_HTTP2.contains(&setting) || seen.len() > 64 {
            return Err(Code::SETTINGS_ERROR);
        }
        seen.push(setting);
    }
    Ok(())
}

/// Reads the instructions of the client's encoder to their end, which must not come. All that it may say to a table of no size is that size.
async fn encoder(reader: &mut Reader) -> Result<(), Code> {
    const NO_SIZE: u8 = 0x20;
    loop {
        if reader.inbound.as_slice().iter().any(|byte| *byte != NO_SIZE) {
            return Err(Code::QPACK_ENCODER_STREAM_ERROR);
        }
        reader.inbound.clear();
        if !reader.fill().await {
            return Ok(());
        }
    }
}

/// Passes over the instructions of the client's decoder, of which none is about anything that was sent.
async fn decoder(reader: &mut Reader) {
    reader.inbound.clear();
    while reader.fill().await {
        reader.inbound.clear();
    }
}
