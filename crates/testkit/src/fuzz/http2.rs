//! HTTP/2: whatever comes, a connection answers within its bounds, and what one side sends the other understands.

use strait_http::{
    Edits, Limits, RequestHead, ResponseHead,
    h2::{Code, Config, Connection, Event, Key, PREFACE, Role, Sent},
};

/// The frame that both sides begin with.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// What may wait to be written although nobody reads: answers to what was counted, and a response for each stream.
const MOST_OUTPUT: usize = 4 << 20;

/// Frames from a client.
pub(super) fn server(bytes: &[u8]) {
    let mut connection = Connection::new(Role::Server, Config::default());
    feed(&mut connection, &[PREFACE.as_slice(), &SETTINGS].concat());
    frames(&mut connection, bytes);
}

/// Frames from a server, of which three things were asked.
pub(super) fn client(bytes: &[u8]) {
    let mut connection = Connection::new(Role::Client, Config::default());
    feed(&mut connection, &SETTINGS);
    for method in ["GET", "HEAD", "POST"] {
        let _ = ask(&mut connection, &format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
    frames(&mut connection, bytes);
}

/// Bytes as they are, and again as payloads of frames whose heads are right: most of random bytes are none.
fn frames(connection: &mut Connection, bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    if mode & 1 == 0 {
        feed(connection, rest);
        return;
    }
    let mut rest = rest;
    while let Some(([kind, flags, stream, length], behind)) = rest.split_first_chunk::<4>() {
        let payload = &behind[..behind.len().min(usize::from(*length))];
        rest = &behind[payload.len()..];
        let size = u8::try_from(payload.len()).unwrap_or(0);
        let head = [0, 0, size, kind % 12, *flags, 0, 0, 0, stream % 16];
        if !feed(connection, &[&head[..], payload].concat()) {
            return;
        }
    }
}

/// Gives all of `input`, and does what a gate does with it. False where the connection is over.
fn feed(connection: &mut Connection, mut input: &[u8]) -> bool {
    let mut open: Vec<Key> = Vec::new();
    loop {
        let Ok(step) = connection.step(input) else {
            assert!(!connection.output().is_empty(), "the other side is told why");
            return false;
        };
        assert!(step.taken <= input.len());
        input = &input[step.taken..];
        match step.event {
            None if step.taken == 0 => break,
            None | Some(Event::GoAway { .. } | Event::Settings | Event::Pong) => {}
            Some(Event::Request { key, .. }) => {
                let (head, bytes) = connection.request();
                check(head, bytes);
                connection.send_status(key, 200, &[("x-a", b"1")], false);
                open.push(key);
            }
            Some(Event::Refused { key, error }) => {
                connection.send_status(key, error.status(), &[], true);
                connection.forget(key);
            }
            Some(Event::Response { .. }) => {
                let (head, bytes) = connection.response();
                assert!((100..600).contains(&head.status) && head.status != 101);
                let mut out = Vec::new();
                head.write(bytes, strait_http::Version::Http11, &Edits::default(), true, &mut out);
                let mut again = ResponseHead::default();
                assert_eq!(again.read(&out, b"GET", &OWN), Ok(true), "{}", String::from_utf8_lossy(&out));
            }
            Some(Event::Data { key, data, .. }) => {
                let taken = connection.send_data(key, data, false);
                assert!(taken <= data.len());
                connection.release(key, data.len());
            }
            Some(Event::Trailers { key }) => connection.send_trailers(key, std::iter::empty()),
            Some(Event::Reset { key, .. }) => connection.forget(key),
        }
        while connection.next_writable().is_some() {}
        assert!(connection.output().len() < MOST_OUTPUT);
        if connection.output().len() > 64 << 10 {
            connection.wrote(connection.output().len());
        }
    }
    for key in open {
        connection.reset(key, Code::CANCEL);
        connection.forget(key);
    }
    true
}

/// Room for what is written of a head within the bounds.
const OWN: Limits = Limits { head: 256 << 10, target: 64 << 10, fields: 128 };

/// A request that was taken is one of HTTP/1 as well, and no two.
pub(super) fn check(head: &RequestHead, bytes: &[u8]) {
    let target: [&[u8]; 1] = [head.whole_target.bytes(bytes)];
    let mut out = Vec::new();
    head.write(bytes, &target, head.authority.bytes(bytes), &Edits::default(), head.head.upgrade.is_some(), &mut out);
    let mut again = RequestHead::default();
    assert_eq!(again.read(&out, &OWN), Ok(true), "{}", String::from_utf8_lossy(&out));
    assert_eq!(again.head.len, out.len(), "nothing is behind it");
    assert_eq!(again.method.bytes(&out), head.method.bytes(bytes));
    assert_eq!(again.authority.bytes(&out), head.authority.bytes(bytes));
}

/// Sends a request; none where its text is no head.
fn ask(connection: &mut Connection, text: &str) -> Option<Key> {
    let mut head = RequestHead::default();
    head.read(text.as_bytes(), &Limits::default()).ok().filter(|whole| *whole)?;
    let sent = Sent { target: &[b"/"], authority: b"a", https: false, end: head.head.is_end() };
    connection.send_request(&head, text.as_bytes(), &sent, &Edits::default())
}

/// Lines of fields, heads apart by an empty one, over one connection: what a server reads is what was sent.
pub(super) fn hpack(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut client = Connection::new(Role::Client, Config::default());
    let mut server = Connection::new(Role::Server, Config::default());
    for interval in 0..4 {
        let _ = (pass(&mut client, &mut server), pass(&mut server, &mut client));
        server.set_interval(interval);
    }
    for (lines, interval) in text.split("\n\n").zip(10..) {
        client.set_interval(interval);
        server.set_interval(interval);
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n\r\n", lines.trim().replace('\n', "\r\n"));
        let Some(sent) = ask(&mut client, &text) else { continue };
        let mut head = RequestHead::default();
        assert_eq!(head.read(text.as_bytes(), &Limits::default()), Ok(true));
        let mut expected = Vec::new();
        head.head.onward(text.as_bytes(), &Edits::default(), |name, value| {
            if !name.eq_ignore_ascii_case(b"expect") {
                expected.push((name.to_ascii_lowercase(), value.to_vec()));
            }
        });
        let cookies = expected.iter().filter(|(name, _)| name == b"cookie").count();
        if let Some(Event::Request { key, .. }) = pass(&mut client, &mut server) {
            let (head, bytes) = server.request();
            let mut found: Vec<(Vec<u8>, Vec<u8>)> = head
                .head
                .fields
                .iter()
                .map(|field| (field.name.bytes(bytes).to_vec(), field.value.bytes(bytes).to_vec()))
                .collect();
            found.retain(|(name, _)| name != b"te");
            if cookies < 2 {
                assert_eq!(found, expected);
            }
            server.send_status(key, 204, &[], true);
            server.forget(key);
        }
        pass(&mut server, &mut client);
        client.forget(sent);
    }
}

/// Gives what one side sent to the other; the last thing that it says of a stream.
fn pass(from: &mut Connection, to: &mut Connection) -> Option<Event<'static>> {
    let out = from.output().to_vec();
    from.wrote(out.len());
    let (mut rest, mut last) = (out.as_slice(), None);
    loop {
        let step = to.step(rest);
        assert!(step.is_ok(), "what one side sends the other takes: {step:?}");
        let Ok(step) = step else { return last };
        rest = &rest[step.taken..];
        match step.event {
            None if step.taken == 0 => return last,
            Some(Event::Request { key, end }) => last = Some(Event::Request { key, end }),
            Some(Event::Refused { key, error }) => {
                to.send_status(key, error.status(), &[], true);
                to.forget(key);
            }
            _ => {}
        }
    }
}
