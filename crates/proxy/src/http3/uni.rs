//! The streams that a client opens in its direction alone (RFC 9114, 6.2; RFC 9204, 4.2).

use std::rc::Rc;

use quinn::RecvStream;
use strait_http::h3::{self, Code, Control, FrameHead, stream_type, take_number};

use super::{code, link::Link};
use crate::io::Buffer;

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
        _ => decoder(&mut reader).await?,
    }
    Err(Code::CLOSED_CRITICAL_STREAM)
}

/// Reads the control stream to its end, which must not come.
async fn control(link: &Link, reader: &mut Reader) -> Result<(), Code> {
    let mut control = Control::default();
    while let Some(frame) = reader.frame().await {
        let (wanted, mut payload) = (control.frame(frame)?, Vec::new());
        link.count(|counts| if wanted { counts.asks += 1 } else { counts.idle_frames += 1 });
        if !reader.bytes(frame.length, |bytes| payload.extend_from_slice(if wanted { bytes } else { b"" })).await {
            return Ok(());
        }
        if wanted {
            control.payload(frame.kind, &payload)?;
        }
    }
    Ok(())
}

/// Reads the instructions of the client's encoder to their end, which must not come.
async fn encoder(reader: &mut Reader) -> Result<(), Code> {
    loop {
        h3::encoder(reader.inbound.as_slice())?;
        reader.inbound.clear();
        if !reader.fill().await {
            return Ok(());
        }
    }
}

/// Reads those of its decoder.
async fn decoder(reader: &mut Reader) -> Result<(), Code> {
    loop {
        let taken = h3::decoder(reader.inbound.as_slice())?;
        reader.inbound.consume(taken);
        if !reader.fill().await {
            return Ok(());
        }
    }
}
