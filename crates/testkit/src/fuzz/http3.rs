//! HTTP/3: whatever comes is read within its bounds, and what is written is read again as it was.

use strait_http::{
    Edits, Head, Limits, RequestHead, ResponseHead,
    h3::{self, Control, Fault, FrameHead},
};

use super::http2::check;

/// Bytes as a header block; and again as lines of fields, there and back.
pub(super) fn qpack(bytes: &[u8]) {
    let limits = Limits { head: 4096, ..Limits::default() };
    for end in [true, false] {
        let (mut head, mut text) = (RequestHead::default(), Vec::new());
        match h3::request(bytes, end, &limits, &mut head, &mut text) {
            Ok(length) => {
                assert!(!end || length.is_none_or(|length| length == 0));
                check(&head, &text);
            }
            Err(Fault::Malformed | Fault::Refused(_) | Fault::Connection(_)) => {}
        }
        assert!(text.len() <= 2 * limits.head + 2 * bytes.len(), "what is too much is not kept");
    }
    let (mut head, mut text) = (Head::default(), Vec::new());
    if h3::trailers(bytes, &limits, &mut head, &mut text).is_ok() {
        assert!(head.fields.iter().all(|field| !field.name.bytes(&text).starts_with(b":")));
    }
    if let Ok(lines) = std::str::from_utf8(bytes) {
        there_and_back(lines);
    }
}

/// Fields of a response, written and read again.
fn there_and_back(lines: &str) {
    let text = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", lines.trim().replace('\n', "\r\n"));
    let mut head = ResponseHead::default();
    if head.read(text.as_bytes(), b"GET", &Limits::default()) != Ok(true) {
        return;
    }
    let mut out = Vec::new();
    h3::response(&head, text.as_bytes(), &Edits::default(), &mut out);
    let frame = FrameHead::read(&out);
    assert!(frame.is_some_and(|frame| frame.length + frame.taken as u64 == out.len() as u64), "a frame is whole");
    let Some(frame) = frame else { return };
    // Behind its prefix and `:status 200`, an entry of the static table, a block of fields is one of trailers.
    let block = &out[frame.taken..];
    assert_eq!(block[..3], [0, 0, 0xd9]);
    let (mut read, mut bytes) = (Head::default(), Vec::new());
    let fields = [&block[..2], &block[3..]].concat();
    let all = Limits { head: 1 << 20, fields: 256, ..Limits::default() };
    assert_eq!(h3::trailers(&fields, &all, &mut read, &mut bytes), Ok(()), "what is written is read");
    let mut expected = Vec::new();
    head.head.onward(text.as_bytes(), &Edits::default(), |name, value| {
        if ![&b"expect"[..], b"host"].iter().any(|none| name.eq_ignore_ascii_case(none)) {
            expected.push((name.to_ascii_lowercase(), value.to_vec()));
        }
    });
    let found: Vec<_> = read
        .fields
        .iter()
        .map(|field| (field.name.bytes(&bytes).to_vec(), field.value.bytes(&bytes).to_vec()))
        .collect();
    assert_eq!(found, expected);
}

/// Bytes as those of a client's control stream, encoder and decoder, in pieces of any size.
pub(super) fn streams(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let mut control = Control::default();
    let mut rest = bytes;
    while let Some(frame) = FrameHead::read(rest) {
        assert!(frame.taken <= 16);
        let Ok(wanted) = control.frame(frame) else { break };
        let length = usize::try_from(frame.length).unwrap_or(usize::MAX).min(rest.len() - frame.taken);
        let payload = &rest[frame.taken..][..length];
        rest = &rest[frame.taken + length..];
        if wanted && (length as u64 != frame.length || control.payload(frame.kind, payload).is_err()) {
            break;
        }
    }
    let cut = usize::from(*cut).min(bytes.len());
    let (first, second) = bytes.split_at(cut);
    let whole = h3::encoder(bytes);
    assert_eq!(h3::encoder(first).and_then(|()| h3::encoder(second)), whole, "wherever they are cut");
    let whole = h3::decoder(bytes);
    let parted = h3::decoder(first).and_then(|taken| {
        assert!(first.len() - taken < 10, "what is kept is little");
        Ok(taken + h3::decoder(&bytes[taken..])?)
    });
    assert_eq!(parted, whole, "wherever they are cut");
}
