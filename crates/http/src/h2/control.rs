//! Frames that carry no message.

use super::{
    connection::{Connection, Leaving, Role, State},
    frame::{self, Code, FrameHead, MOST, MOST_WINDOW},
    stream::{Closed, Event, Key},
};

impl Connection {
    pub(crate) fn priority<'i>(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        if head.stream == 0 {
            return Err(Code::PROTOCOL_ERROR);
        }
        self.counts.idle_frames += 1;
        let code = match payload.first_chunk::<5>() {
            Some(on) if payload.len() == 5 && depends(*on) == head.stream => Code::PROTOCOL_ERROR,
            Some(_) if payload.len() == 5 => return Ok(None),
            _ => Code::FRAME_SIZE_ERROR,
        };
        if let Some(key) = self.streams.find(head.stream)
            && self.streams.get(key).is_some_and(|stream| !stream.is_closed())
        {
            return Ok(Some(self.fail(key, code)));
        }
        // An idle or a closed stream cannot be reset.
        Err(code)
    }

    pub(crate) fn rst_stream<'i>(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        if head.stream == 0 {
            return Err(Code::PROTOCOL_ERROR);
        }
        let code: [u8; 4] = payload.try_into().map_err(|_| Code::FRAME_SIZE_ERROR)?;
        if self.is_idle(head.stream) {
            return Err(Code::PROTOCOL_ERROR);
        }
        let key = self.streams.find(head.stream);
        let open = key.and_then(|key| self.streams.get(key)).is_some_and(|stream| !stream.is_closed());
        let Some(key) = key.filter(|_| open) else {
            self.counts.idle_frames += 1;
            return Ok(None);
        };
        if self.role == Role::Server {
            self.counts.resets += 1;
        }
        self.streams.close(key, Closed::Theirs);
        Ok(Some(Event::Reset { key, code: Code(u32::from_be_bytes(code)) }))
    }

    pub(crate) fn settings<'i>(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        if head.stream != 0 {
            return Err(Code::PROTOCOL_ERROR);
        }
        if head.has(frame::ACK) {
            self.acked = true;
            return if payload.is_empty() { Ok(Some(Event::Settings)) } else { Err(Code::FRAME_SIZE_ERROR) };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Code::FRAME_SIZE_ERROR);
        }
        self.counts.asks += 1;
        for [a, b, rest @ ..] in settings {
            self.setting(u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*rest))?;
        }
        frame::head(0, frame::SETTINGS, frame::ACK, 0, &mut self.out);
        self.state = State::Open;
        Ok(Some(Event::Settings))
    }

    fn setting(&mut self, setting: u16, value: u32) -> Result<(), Code> {
        match setting {
            frame::HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
            frame::ENABLE_PUSH if value > 1 || (value == 1 && self.role == Role::Client) => {
                return Err(Code::PROTOCOL_ERROR);
            }
            frame::MAX_CONCURRENT_STREAMS => self.peer_streams = value,
            frame::INITIAL_WINDOW_SIZE => {
                if value > MOST_WINDOW {
                    return Err(Code::FLOW_CONTROL_ERROR);
                }
                let change = i64::from(value) - self.peer_window;
                self.peer_window = i64::from(value);
                for (key, stream) in self.streams.iter() {
                    stream.send_window += change;
                    if stream.send_window > i64::from(MOST_WINDOW) {
                        return Err(Code::FLOW_CONTROL_ERROR);
                    }
                    if change > 0 && stream.sends && !stream.waits {
                        stream.waits = true;
                        self.waiting.push_back(key);
                    }
                }
            }
            frame::MAX_FRAME_SIZE => {
                if !(MOST..1 << 24).contains(&(value as usize)) {
                    return Err(Code::PROTOCOL_ERROR);
                }
                // Larger frames than everybody must take make others wait.
                self.peer_frame = MOST;
            }
            frame::ENABLE_CONNECT_PROTOCOL => {
                if value > 1 || (self.peer_connect && value == 0) {
                    return Err(Code::PROTOCOL_ERROR);
                }
                self.peer_connect = value == 1;
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn pinged<'i>(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        if head.stream != 0 {
            return Err(Code::PROTOCOL_ERROR);
        }
        if payload.len() != 8 {
            return Err(Code::FRAME_SIZE_ERROR);
        }
        if !head.has(frame::ACK) {
            self.counts.asks += 1;
            frame::head(8, frame::PING, frame::ACK, 0, &mut self.out);
            self.out.extend_from_slice(payload);
            return Ok(None);
        }
        if payload == super::send::DRAIN && self.leaving == Leaving::Said {
            self.leave_now();
        }
        Ok(Some(Event::Pong))
    }

    pub(crate) fn goaway<'i>(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        if head.stream != 0 {
            return Err(Code::PROTOCOL_ERROR);
        }
        let Some(([a, b, c, d], rest)) = payload.split_first_chunk::<4>() else { return Err(Code::FRAME_SIZE_ERROR) };
        let code = rest.first_chunk::<4>().ok_or(Code::FRAME_SIZE_ERROR)?;
        self.counts.asks += 1;
        let last = u32::from_be_bytes([a & 0x7f, *b, *c, *d]);
        let last = self.gone.map_or(last, |before| before.min(last));
        self.gone = Some(last);
        if self.role == Role::Client {
            let beyond = self.streams.iter().filter(|(key, stream)| key.id > last && !stream.is_closed());
            let beyond: Vec<Key> = beyond.map(|(key, _)| key).collect();
            for key in beyond {
                self.streams.close(key, Closed::Theirs);
                self.unprocessed.push_back(key);
            }
        }
        Ok(Some(Event::GoAway { code: Code(u32::from_be_bytes(*code)) }))
    }

    pub(crate) fn window_update<'i>(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Event<'i>>, Code> {
        let more: [u8; 4] = payload.try_into().map_err(|_| Code::FRAME_SIZE_ERROR)?;
        let more = i64::from(u32::from_be_bytes(more) & 0x7fff_ffff);
        // A window opened by little makes much work for little.
        if more < 1024 {
            self.counts.idle_frames += 1;
        }
        if head.stream == 0 {
            self.send_window += more;
            return match more {
                0 => Err(Code::PROTOCOL_ERROR),
                _ if self.send_window > i64::from(MOST_WINDOW) => Err(Code::FLOW_CONTROL_ERROR),
                _ => Ok(None),
            };
        }
        if self.is_idle(head.stream) {
            return Err(Code::PROTOCOL_ERROR);
        }
        let Some(key) = self.streams.find(head.stream) else { return Ok(None) };
        let Some(stream) = self.streams.get(key) else { return Ok(None) };
        if stream.is_closed() {
            return Ok(None);
        }
        let code = if more == 0 { Some(Code::PROTOCOL_ERROR) } else { None };
        stream.send_window += more;
        let code = if stream.send_window > i64::from(MOST_WINDOW) { Some(Code::FLOW_CONTROL_ERROR) } else { code };
        if let Some(code) = code {
            return Ok(Some(self.fail(key, code)));
        }
        if stream.sends && !stream.waits {
            stream.waits = true;
            self.waiting.push_back(key);
        }
        Ok(None)
    }
}

/// The stream that a priority depends on.
pub(crate) const fn depends(on: [u8; 5]) -> u32 {
    u32::from_be_bytes([on[0] & 0x7f, on[1], on[2], on[3]])
}
