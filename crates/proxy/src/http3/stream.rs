//! A request's stream, as its exchange sees it.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt};
use strait_http::{
    Head, HeadError, Limits, Overlay, RequestHead, ResponseHead,
    h3::{self, Code, Fault, FrameHead, kind},
};

use super::{code, link::Link};
use crate::{
    http2::Came,
    io::{Buffer, READ},
};

/// Bytes of a frame's head.
const HEAD: usize = 16;

/// Whether a client stopped taking an answer, or has all of it.
type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>>>>;

/// A stream of a client. Dropped, it is over, whatever state it is in.
pub(crate) struct Stream {
    link: Rc<Link>,
    state: RefCell<State>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is of its own")]
struct State {
    send: SendStream,
    recv: RecvStream,
    limits: Limits,
    /// Heads of frames, and whole frames but those of data: written before anything else.
    out: Buffer,
    /// Bytes of the frame of data that was begun.
    promised: u64,
    /// Whether nothing is sent behind `out`.
    ended: bool,
    /// Whether the end was sent.
    finished: bool,
    stopped: Option<Stopped>,
    /// What was read: frames.
    inbound: Buffer,
    /// Bytes of the frame of data that are still to be taken.
    data: u64,
    /// Bytes of a frame that are skipped.
    skip: u64,
    /// What is left of the length that the head announced.
    left: Option<u64>,
    /// Whether the client's end was read.
    fin: bool,
    trailers: Option<(Head, Vec<u8>)>,
    /// Frames without use that were not counted yet.
    idle_frames: u32,
    /// Whether either direction broke off.
    reset: bool,
    /// Whether that was the client's doing.
    given_up: bool,
}

/// Why there is no head of a request.
pub(super) enum NoHead {
    Fault(Fault),
    /// The client ended or gave up before.
    Gone,
}

impl Stream {
    pub(super) fn new(link: Rc<Link>, limits: Limits, send: SendStream, recv: RecvStream) -> Self {
        let state = State {
            send,
            recv,
            limits,
            out: Buffer::default(),
            promised: 0,
            ended: false,
            finished: false,
            stopped: None,
            inbound: Buffer::default(),
            data: 0,
            skip: 0,
            left: None,
            fin: false,
            trailers: None,
            idle_frames: 0,
            reset: false,
            given_up: false,
        };
        Self { link, state: RefCell::new(state) }
    }

    /// Reads the head of the request, with its text in `bytes`.
    pub(super) fn poll_head(
        &self,
        head: &mut RequestHead,
        bytes: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NoHead>> {
        let polled = self.state.borrow_mut().poll_head(head, bytes, cx);
        self.count();
        polled
    }

    /// Tells the connection of frames without use.
    fn count(&self) {
        let idle_frames = std::mem::take(&mut self.state.borrow_mut().idle_frames);
        if idle_frames > 0 {
            self.link.count(|counts| counts.idle_frames += idle_frames);
        }
    }

    /// Sends the head of a response; `end` where nothing follows.
    pub(crate) fn respond(&self, head: &ResponseHead, bytes: &[u8], overlay: &impl Overlay, end: bool) {
        self.put(end, |out| h3::response(head, bytes, overlay, out));
    }

    /// Sends the head of a response of the gate's own.
    pub(crate) fn status(&self, status: u16, fields: &[(&str, &[u8])], end: bool) {
        self.put(end, |out| h3::status(status, fields, out));
    }

    /// Sends trailers, which end the message.
    pub(crate) fn send_trailers<'a>(&self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        self.put(true, |out| _ = h3::put_trailers(fields, out));
    }

    fn put(&self, end: bool, frame: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut *self.state.borrow_mut();
        if state.ended || state.reset {
            return;
        }
        frame(state.out.end());
        state.ended = end;
        // What does not go out at once goes with what follows, or at last with `poll_done`.
        let _ = state.flush(&mut Context::from_waker(Waker::noop()));
    }

    /// Sends what can be sent of `data`; gives how much. The task is woken when more can be. None where the stream was reset.
    pub(crate) fn send(&self, data: &[u8], end: bool, cx: &Context<'_>) -> Option<usize> {
        let cx = &mut Context::from_waker(cx.waker());
        let state = &mut *self.state.borrow_mut();
        let mut sent = 0;
        loop {
            if state.reset {
                return None;
            }
            if state.ended {
                return Some(data.len());
            }
            let rest = &data[sent..];
            if state.promised == 0 && !rest.is_empty() {
                state.promised = rest.len() as u64;
                h3::put_head(kind::DATA, state.promised, state.out.end());
            }
            if state.flush(cx).is_pending() {
                return Some(sent);
            }
            if state.reset {
                return None;
            }
            if rest.is_empty() {
                break;
            }
            let most = rest.len().min(usize::try_from(state.promised).unwrap_or(usize::MAX));
            match Pin::new(&mut state.send).poll_write(cx, &rest[..most]) {
                Poll::Ready(Ok(count)) => {
                    sent += count;
                    state.promised -= count as u64;
                }
                Poll::Ready(Err(_)) => state.give_up(),
                Poll::Pending => return Some(sent),
            }
        }
        if end {
            state.ended = true;
            let _ = state.flush(cx);
        }
        Some(sent)
    }

    /// Gives what came to `take`, which tells how much of it it took. It is asked only where there is something, or, with `true`, where it
    /// is the end and no trailers follow.
    pub(crate) fn take(&self, cx: &Context<'_>, take: impl FnOnce(&[u8], bool) -> usize) -> Came {
        let came = self.take_some(cx, take);
        self.count();
        came
    }

    fn take_some(&self, cx: &Context<'_>, take: impl FnOnce(&[u8], bool) -> usize) -> Came {
        let cx = &mut Context::from_waker(cx.waker());
        let state = &mut *self.state.borrow_mut();
        let mut taken = 0;
        match state.next(cx) {
            Err(error) => return self.fail(state, error),
            Ok(false) => return Came::Data(0),
            Ok(true) => {}
        }
        let offered = state.offered();
        let over = state.is_over(offered);
        if offered > 0 || over {
            taken = take(&state.inbound.as_slice()[..offered], over && state.trailers.is_none());
            state.inbound.consume(taken);
            state.data -= taken as u64;
            state.inbound.release();
        }
        if over && taken == offered {
            return Came::End(taken);
        }
        if taken == offered {
            // Whoever took all of it wants more: it is woken when there is.
            match state.next(cx) {
                Err(error) => return self.fail(state, error),
                Ok(true) => cx.waker().wake_by_ref(),
                Ok(false) => {}
            }
        }
        Came::Data(taken)
    }

    fn fail(&self, state: &mut State, error: Broken) -> Came {
        state.reset = true;
        match error {
            Broken::GivenUp => {}
            Broken::Stream(error) => {
                state.abort(error);
                self.link.count(|counts| counts.provoked += 1);
            }
            Broken::Connection(error) => self.link.close(error),
        }
        Came::Reset
    }

    /// Gives the trailers that came, if any did, to `each`, one field after the other. Whether any did; they may have no field.
    pub(crate) fn trailers(&self, mut each: impl FnMut(&[u8], &[u8])) -> bool {
        let state = self.state.borrow();
        if let Some((trailers, text)) = &state.trailers {
            trailers.fields.iter().for_each(|field| each(field.name.bytes(text), field.value.bytes(text)));
        }
        state.trailers.is_some()
    }

    /// Whether the stream was reset, or the connection ended. If not, the task is woken when it is.
    pub(crate) fn is_reset(&self, cx: &Context<'_>) -> bool {
        let cx = &mut Context::from_waker(cx.waker());
        let state = &mut *self.state.borrow_mut();
        if !state.reset && state.poll_stopped(cx) == Poll::Ready(false) {
            state.give_up();
        }
        state.reset
    }

    /// Whether more came than a head.
    pub(crate) fn has_more(&self) -> bool {
        let state = self.state.borrow();
        state.fin || !state.inbound.is_empty()
    }

    /// Ends the stream with an error.
    pub(super) fn abort(&self, error: Code) {
        let state = &mut *self.state.borrow_mut();
        state.reset = true;
        state.abort(error);
    }

    /// Ready when the client has all of the answer, or wants no more of it.
    pub(super) fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        if state.reset || !state.ended {
            return Poll::Ready(());
        }
        ready!(state.flush(cx));
        if !state.fin {
            // What still comes of a request that has its answer is not wanted (RFC 9114, 4.1).
            let _ = state.recv.stop(code(Code::NO_ERROR));
        }
        if !ready!(state.poll_stopped(cx)) {
            state.given_up = true;
        }
        Poll::Ready(())
    }

    /// Whether the client gave the request up.
    pub(super) fn is_given_up(&self) -> bool {
        self.state.borrow().given_up
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        // An answer that is cut off must not be taken for a whole one: dropped as it is, it would be.
        if !state.finished {
            let _ = state.send.reset(code(Code::INTERNAL_ERROR));
        }
        if !state.fin {
            let _ = state.recv.stop(code(Code::NO_ERROR));
        }
    }
}

/// Why a body ends early.
#[derive(Clone, Copy)]
enum Broken {
    GivenUp,
    Stream(Code),
    Connection(Code),
}

/// Whether frames of that kind belong on other streams, or nowhere.
fn is_for_others(of: u64) -> bool {
    matches!(of, kind::CANCEL_PUSH | kind::SETTINGS | kind::PUSH_PROMISE | kind::GOAWAY | kind::MAX_PUSH_ID)
        || kind::OF_HTTP2.contains(&of)
}

impl State {
    /// Reads the head of the request, with its text in `bytes`.
    fn poll_head(
        &mut self,
        head: &mut RequestHead,
        bytes: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NoHead>> {
        let fault = |fault| Poll::Ready(Err(NoHead::Fault(fault)));
        loop {
            self.skip();
            if let Some(frame) = self.frame() {
                let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
                match frame.kind {
                    // Coded it is never longer than what it stands for, but for what a client makes longer on purpose.
                    kind::HEADERS if length > self.limits.head => {
                        return fault(Fault::Refused(HeadError::TooLarge));
                    }
                    kind::HEADERS if self.inbound.len() - frame.taken >= length => {
                        self.inbound.consume(frame.taken);
                        self.end_behind(length, cx);
                        let end = self.fin && self.inbound.len() == length;
                        let block = &self.inbound.as_slice()[..length];
                        let read = h3::request(block, end, &self.limits, head, bytes);
                        self.inbound.consume(length);
                        return match read {
                            Ok(left) => {
                                self.left = left;
                                // Nobody will ask for a body where none was announced.
                                if left == Some(0) && matches!(self.sort(), Err(Broken::Stream(_))) {
                                    return fault(Fault::Malformed);
                                }
                                Poll::Ready(Ok(()))
                            }
                            Err(error) => fault(error),
                        };
                    }
                    kind::HEADERS => {}
                    _ if is_for_others(frame.kind) || frame.kind == kind::DATA => {
                        return fault(Fault::Connection(Code::FRAME_UNEXPECTED));
                    }
                    _ => {
                        self.begin_skip(frame);
                        continue;
                    }
                }
            }
            if self.fin {
                return Poll::Ready(Err(NoHead::Gone));
            }
            if ready!(self.fill(cx)).is_err() {
                return Poll::Ready(Err(NoHead::Gone));
            }
        }
    }

    /// The client wants no more of it, or is gone.
    fn give_up(&mut self) {
        (self.reset, self.given_up) = (true, true);
    }

    /// Reads more. Ready with false at the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ReadError>> {
        self.inbound.make_room();
        let bytes = self.inbound.end();
        let before = bytes.len();
        bytes.resize(bytes.capacity().min(before + READ), 0);
        let polled = self.recv.poll_read(cx, &mut bytes[before..]);
        bytes.truncate(before + if let Poll::Ready(Ok(count)) = &polled { *count } else { 0 });
        self.inbound.release();
        match ready!(polled) {
            Ok(0) => {
                self.fin = true;
                Poll::Ready(Ok(false))
            }
            Ok(_) => Poll::Ready(Ok(true)),
            Err(error) => {
                self.give_up();
                Poll::Ready(Err(error))
            }
        }
    }

    /// Looks whether the client ends with the next `length` bytes, which are here. Most requests do.
    fn end_behind(&mut self, length: usize, cx: &mut Context<'_>) {
        if !self.fin && self.inbound.len() == length {
            let _ = self.fill(cx);
        }
    }

    /// The head of the next frame, if it is here.
    fn frame(&self) -> Option<FrameHead> {
        FrameHead::read(self.inbound.as_slice())
    }

    fn begin_skip(&mut self, frame: FrameHead) {
        self.idle_frames += 1;
        self.inbound.consume(frame.taken);
        self.skip = frame.length;
    }

    /// Passes over what is skipped. Whether all of it was.
    fn skip(&mut self) -> bool {
        let count = self.inbound.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.inbound.consume(count);
        self.skip -= count as u64;
        self.skip == 0
    }

    /// Bytes of data that can be taken.
    fn offered(&self) -> usize {
        self.inbound.len().min(usize::try_from(self.data).unwrap_or(usize::MAX))
    }

    /// Whether nothing follows behind so many bytes of data.
    fn is_over(&self, offered: usize) -> bool {
        self.fin && self.skip == 0 && self.data == offered as u64 && self.inbound.len() == offered
    }

    /// Reads on until there is data to be taken, or the end. False where there is none yet: then the task is woken when there is.
    fn next(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        loop {
            if self.reset {
                return Err(Broken::GivenUp);
            }
            let sorted = self.sort()?;
            // A little more is read ahead: the end most of all, which goes on with the last bytes.
            let enough = self.inbound.len() >= READ;
            if self.fin || (sorted && enough) {
                if self.fin && !sorted {
                    return Err(Broken::Stream(Code::REQUEST_INCOMPLETE));
                }
                if self.is_over(self.offered()) && self.left.is_some_and(|left| left > 0) {
                    return Err(Broken::Stream(Code::MESSAGE_ERROR));
                }
                return Ok(true);
            }
            match self.fill(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(Broken::GivenUp),
                Poll::Pending => return Ok(sorted && self.offered() > 0),
            }
        }
    }

    /// Takes the heads of frames up to the next data. Whether there is some, or nothing at all and nothing begun.
    fn sort(&mut self) -> Result<bool, Broken> {
        while self.data == 0 {
            if !self.skip() {
                return Ok(false);
            }
            if self.inbound.is_empty() {
                return Ok(true);
            }
            let Some(frame) = self.frame() else {
                debug_assert!(self.inbound.len() < HEAD, "a head is here with its last byte");
                return Ok(false);
            };
            match frame.kind {
                kind::DATA if self.trailers.is_some() => return Err(Broken::Connection(Code::FRAME_UNEXPECTED)),
                kind::DATA => {
                    if let Some(left) = &mut self.left {
                        *left = left.checked_sub(frame.length).ok_or(Broken::Stream(Code::MESSAGE_ERROR))?;
                    }
                    self.inbound.consume(frame.taken);
                    self.data = frame.length;
                    self.idle_frames += u32::from(frame.length == 0);
                }
                kind::HEADERS => {
                    if self.trailers.is_some() {
                        return Err(Broken::Connection(Code::FRAME_UNEXPECTED));
                    }
                    let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
                    if length > self.limits.head {
                        return Err(Broken::Stream(Code::EXCESSIVE_LOAD));
                    }
                    if self.inbound.len() - frame.taken < length {
                        return Ok(false);
                    }
                    self.inbound.consume(frame.taken);
                    let (mut head, mut text) = (Head::default(), Vec::new());
                    let block = &self.inbound.as_slice()[..length];
                    let read = h3::trailers(block, &self.limits, &mut head, &mut text);
                    self.inbound.consume(length);
                    match read {
                        Ok(()) => self.trailers = Some((head, text)),
                        Err(Fault::Connection(code)) => return Err(Broken::Connection(code)),
                        Err(Fault::Malformed | Fault::Refused(_)) => {
                            return Err(Broken::Stream(Code::MESSAGE_ERROR));
                        }
                    }
                }
                other if is_for_others(other) => return Err(Broken::Connection(Code::FRAME_UNEXPECTED)),
                _ => self.begin_skip(frame),
            }
        }
        Ok(!self.inbound.is_empty())
    }

    /// Writes what is to be written before anything else, and the end where it follows. A stream that is reset has nothing to write.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.out.is_empty() && !self.reset {
            match ready!(Pin::new(&mut self.send).poll_write(cx, self.out.as_slice())) {
                Ok(count) => self.out.consume(count),
                Err(_) => self.give_up(),
            }
        }
        self.out.release();
        if self.ended && !self.finished && !self.reset {
            self.finished = true;
            let _ = self.send.finish();
        }
        Poll::Ready(())
    }

    /// Ready with whether the client has all, rather than that it wants no more.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let stopped = self.stopped.get_or_insert_with(|| Box::pin(self.send.stopped()));
        let stopped = ready!(stopped.as_mut().poll(cx));
        self.stopped = None;
        Poll::Ready(matches!(stopped, Ok(None)))
    }

    fn abort(&mut self, error: Code) {
        self.finished = true;
        let _ = self.send.reset(code(error));
        if !self.fin {
            self.fin = true;
            let _ = self.recv.stop(code(error));
        }
    }
}
