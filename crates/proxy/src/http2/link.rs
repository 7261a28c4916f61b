//! A connection, and its streams as exchanges see them.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use strait_http::{
    Head, Overlay, RequestHead, ResponseHead,
    h2::{Code, Connection, Event, Key, Sent},
};

use crate::{io::Buffer, outbound::Held};

/// A connection of HTTP/2, as its driver and its streams share it.
pub(crate) struct Link {
    pub(super) state: RefCell<State>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is of its own")]
pub(super) struct State {
    pub(super) h2: Connection,
    /// By the index of a stream's key.
    slots: Vec<Slot>,
    /// The driver.
    waker: Option<Waker>,
    /// Whether the driver was woken since it last ran.
    woken: bool,
    /// Whether the connection has ended.
    pub(super) over: bool,
    /// Whether the other side told its settings.
    pub(super) settled: bool,
    /// Who waits for that.
    settling: Vec<Waker>,
    /// When a request was last sent.
    pub(super) used: Option<Instant>,
    /// Whether a request was given up for want of an answer, and nothing came since.
    pub(super) silent: bool,
    /// Its place among those of the back end that it leads to.
    pub(super) held: Option<Held>,
}

/// Interim responses that wait to be passed on; further ones are left out, as each may be (RFC 9110, 15.2).
const INTERIM: usize = 8;

/// What came on a stream and was not taken yet.
#[derive(Default)]
struct Slot {
    /// Responses before the one that counts, with what they point into.
    interim: VecDeque<(ResponseHead, Vec<u8>)>,
    response: ResponseHead,
    /// What the response points into.
    text: Vec<u8>,
    has_response: bool,
    inbound: Buffer,
    trailers: Head,
    trailer_text: Vec<u8>,
    has_trailers: bool,
    /// Whether nothing follows.
    end: bool,
    reset: Option<Code>,
    waker: Option<Waker>,
}

impl Slot {
    /// Begins anew; what was allocated stays.
    fn clear(&mut self) {
        self.inbound.clear();
        self.inbound.release();
        self.interim.clear();
        (self.has_response, self.has_trailers, self.end) = (false, false, false);
        (self.reset, self.waker) = (None, None);
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

impl Link {
    pub(super) fn new(h2: Connection) -> Rc<Self> {
        let state = State {
            h2,
            slots: Vec::new(),
            waker: None,
            woken: false,
            over: false,
            settled: false,
            settling: Vec::new(),
            used: None,
            silent: false,
            held: None,
        };
        Rc::new(Self { state: RefCell::new(state) })
    }

    /// Waits until the other side told its settings. Whether it did before the end.
    pub(super) async fn settled(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            if state.settled || state.over {
                return Poll::Ready(!state.over);
            }
            state.settling.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl State {
    /// That the driver runs, and is woken by that waker from here on.
    pub(super) fn driven(&mut self, cx: &Context<'_>) {
        self.woken = false;
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Lets the driver run, if there is anything to write.
    fn flush(&mut self) {
        if !self.h2.output().is_empty() {
            self.drive();
        }
    }

    /// Lets the driver run.
    pub(super) fn drive(&mut self) {
        if !self.woken {
            self.woken = true;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    fn slot(&mut self, key: Key) -> &mut Slot {
        self.both(key).1
    }

    /// The connection, and the slot of a stream.
    fn both(&mut self, key: Key) -> (&mut Connection, &mut Slot) {
        let index = key.index();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        (&mut self.h2, &mut self.slots[index])
    }

    /// Begins with a stream.
    pub(super) fn begin(&mut self, key: Key, end: bool) {
        let slot = self.slot(key);
        slot.clear();
        slot.end = end;
    }

    /// Puts what came where its stream looks for it.
    pub(super) fn put(&mut self, event: Event<'_>) {
        self.silent = false;
        match event {
            Event::Response { key, end } => {
                let (h2, slot) = self.both(key);
                let (response, _) = h2.response();
                if response.is_interim() {
                    // That the body is wanted the gate has said itself.
                    if response.status != 100 && slot.interim.len() < INTERIM {
                        let mut interim = <(ResponseHead, Vec<u8>)>::default();
                        h2.take_response(&mut interim.0, &mut interim.1);
                        slot.interim.push_back(interim);
                        slot.wake();
                    }
                    return;
                }
                h2.take_response(&mut slot.response, &mut slot.text);
                (slot.has_response, slot.end) = (true, end);
                slot.wake();
            }
            Event::Data { key, data, end } => {
                let slot = self.slot(key);
                slot.inbound.extend(data);
                slot.end = end;
                slot.wake();
            }
            Event::Trailers { key } => {
                let (h2, slot) = self.both(key);
                h2.take_trailers(&mut slot.trailers, &mut slot.trailer_text);
                (slot.has_trailers, slot.end) = (true, true);
                slot.wake();
            }
            Event::Reset { key, code } => {
                let slot = self.slot(key);
                slot.reset = Some(code);
                slot.wake();
            }
            Event::Settings => {
                self.settled = true;
                self.settling.drain(..).for_each(Waker::wake);
            }
            Event::Request { .. } | Event::Refused { .. } | Event::GoAway { .. } | Event::Pong => {}
        }
    }

    /// Wakes whose data may go on.
    pub(super) fn writable(&mut self) {
        while let Some(key) = self.h2.next_writable() {
            self.slot(key).wake();
        }
    }

    /// That nothing comes or goes any more. A request that nothing was said of may have been processed.
    pub(super) fn end(&mut self) {
        (self.over, self.held) = (true, None);
        for slot in &mut self.slots {
            slot.reset.get_or_insert(Code::INTERNAL_ERROR);
            slot.wake();
        }
        self.settling.drain(..).for_each(Waker::wake);
    }
}

/// A stream: one exchange's part of a connection. Dropped, it is over, whatever state it is in.
pub(crate) struct Stream {
    link: Rc<Link>,
    /// None before a request was sent.
    key: Option<Key>,
    is_server: bool,
}

/// What came on a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Came {
    /// So many bytes were taken; the task is woken when there are more, or more can be taken.
    Data(usize),
    /// All is taken, so many bytes now.
    End(usize),
    Reset,
}

impl Stream {
    pub(super) fn of_client(link: Rc<Link>, key: Key) -> Self {
        Self { link, key: Some(key), is_server: true }
    }

    /// A place for a request.
    pub(super) fn of_back_end(link: Rc<Link>) -> Self {
        Self { link, key: None, is_server: false }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Sends a request. False where the connection takes none any more.
    pub(crate) fn request(
        &mut self,
        head: &RequestHead,
        bytes: &[u8],
        sent: &Sent<'_>,
        overlay: &impl Overlay,
    ) -> bool {
        let mut state = self.link.state.borrow_mut();
        if state.over {
            return false;
        }
        let Some(key) = state.h2.send_request(head, bytes, sent, overlay) else { return false };
        state.begin(key, false);
        state.flush();
        self.key = Some(key);
        true
    }

    /// Whether an upgrade can be asked for.
    pub(crate) fn takes_connect(&self) -> bool {
        self.link.state.borrow().h2.takes_connect()
    }

    /// Waits for the head of the response, which is exchanged for room for another; interim ones come before it.
    pub(crate) fn poll_response(
        &self,
        head: &mut ResponseHead,
        text: &mut Vec<u8>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Code>> {
        let Some(key) = self.key else { return Poll::Ready(Err(Code::REFUSED_STREAM)) };
        let mut state = self.link.state.borrow_mut();
        let slot = state.slot(key);
        if let Some(interim) = slot.interim.pop_front() {
            (*head, *text) = interim;
            return Poll::Ready(Ok(()));
        }
        if slot.has_response {
            slot.has_response = false;
            std::mem::swap(&mut slot.response, head);
            std::mem::swap(&mut slot.text, text);
            return Poll::Ready(Ok(()));
        }
        if let Some(code) = slot.reset {
            return Poll::Ready(Err(code));
        }
        slot.wait(cx);
        Poll::Pending
    }

    /// Sends the head of a response; `end` where nothing follows.
    pub(crate) fn respond(&self, head: &ResponseHead, bytes: &[u8], overlay: &impl Overlay, end: bool) {
        let Some(key) = self.key else { return };
        let mut state = self.link.state.borrow_mut();
        state.h2.send_response(key, head, bytes, overlay, end);
        state.flush();
    }

    /// Sends the head of a response of the gate's own.
    pub(crate) fn status(&self, status: u16, fields: &[(&str, &[u8])], end: bool) {
        let Some(key) = self.key else { return };
        let mut state = self.link.state.borrow_mut();
        state.h2.send_status(key, status, fields, end);
        state.flush();
    }

    /// Sends what can be sent of `data`; gives how much. The task is woken when more can be. None where the stream was reset.
    pub(crate) fn send(&self, data: &[u8], end: bool, cx: &Context<'_>) -> Option<usize> {
        let key = self.key?;
        let mut state = self.link.state.borrow_mut();
        let slot = state.slot(key);
        if slot.reset.is_some() {
            return None;
        }
        if data.is_empty() && !end {
            return Some(0);
        }
        slot.wait(cx);
        let sent = state.h2.send_data(key, data, end);
        state.flush();
        Some(sent)
    }

    /// Sends trailers, which end the message.
    pub(crate) fn send_trailers<'a>(&self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        let Some(key) = self.key else { return };
        let mut state = self.link.state.borrow_mut();
        state.h2.send_trailers(key, fields);
        state.flush();
    }

    /// Gives what came to `take`, which tells how much of it it took. It is asked only where there is something, or, with `true`, where it
    /// is the end and no trailers follow.
    pub(crate) fn take(&self, cx: &Context<'_>, take: impl FnOnce(&[u8], bool) -> usize) -> Came {
        let Some(key) = self.key else { return Came::Reset };
        let mut state = self.link.state.borrow_mut();
        let slot = state.slot(key);
        let mut taken = 0;
        if !slot.inbound.is_empty() || slot.end {
            taken = take(slot.inbound.as_slice(), slot.end && !slot.has_trailers);
            slot.inbound.consume(taken);
            slot.inbound.release();
            if slot.inbound.is_empty() && slot.end {
                state.h2.release(key, taken);
                state.flush();
                return Came::End(taken);
            }
        }
        if slot.reset.is_some() {
            return Came::Reset;
        }
        slot.wait(cx);
        if taken > 0 {
            state.h2.release(key, taken);
            state.flush();
        }
        Came::Data(taken)
    }

    /// Gives the trailers that came, if any did, to `each`, one field after the other. Whether any did; they may have no field.
    pub(crate) fn trailers(&self, mut each: impl FnMut(&[u8], &[u8])) -> bool {
        let Some(key) = self.key else { return false };
        let mut state = self.link.state.borrow_mut();
        let slot = state.slot(key);
        if slot.has_trailers {
            let text = &slot.trailer_text;
            slot.trailers.fields.iter().for_each(|field| each(field.name.bytes(text), field.value.bytes(text)));
        }
        slot.has_trailers
    }

    /// Sends the trailers that came on `from`. Whether there are any.
    pub(crate) fn pass_trailers(&self, from: &Self) -> bool {
        let Some(key) = from.key else { return false };
        let mut state = from.link.state.borrow_mut();
        let slot = state.slot(key);
        if !slot.has_trailers {
            return false;
        }
        let text = &slot.trailer_text;
        let fields = slot.trailers.fields.iter().map(|field| (field.name.bytes(text), field.value.bytes(text)));
        self.send_trailers(fields);
        true
    }

    /// Whether the stream was reset, or the connection ended. If not, the task is woken when it is.
    pub(crate) fn is_reset(&self, cx: &Context<'_>) -> bool {
        let Some(key) = self.key else { return true };
        let mut state = self.link.state.borrow_mut();
        let slot = state.slot(key);
        slot.wait(cx);
        slot.reset.is_some()
    }

    /// Whether more came than a head.
    pub(crate) fn has_more(&self) -> bool {
        let Some(key) = self.key else { return false };
        let mut state = self.link.state.borrow_mut();
        let slot = state.slot(key);
        slot.end || !slot.inbound.is_empty()
    }

    /// That no answer came in time: whether the connection is good for others is to be seen.
    pub(crate) fn was_late(&self) {
        let mut state = self.link.state.borrow_mut();
        if !state.silent {
            state.silent = true;
            state.h2.send_ping();
            state.flush();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut state = self.link.state.borrow_mut();
        let slot = state.slot(key);
        let rest = slot.inbound.len();
        slot.clear();
        // What nobody takes any more holds no other stream up.
        if rest > 0 {
            state.h2.release(key, rest);
        }
        if self.is_server {
            // An answer that is cut off must not be taken for a whole one; what still comes after a whole one is not wanted (RFC 9113, 8.1).
            let code = if state.h2.sends(key) { Code::INTERNAL_ERROR } else { Code::NO_ERROR };
            state.h2.reset(key, code);
        }
        state.h2.forget(key);
        if let Some(held) = &state.held {
            held.has_room();
        }
        // A connection that ends waits for its last stream.
        if state.h2.is_leaving() {
            state.drive();
        } else {
            state.flush();
        }
    }
}
