//! HTTP/3: blocks, and what becomes of them.

use proptest::{collection::vec, prelude::*};

use crate::{
    Edits, Framing, Head, HeadError, Limits, RequestHead, ResponseHead,
    h3::{self, Code, Control, Fault, FrameHead, kind},
};

/// A block of literals, as a client without a table may send it.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0, 0];
    let put = |mark: u8, bits: u32, text: &str, out: &mut Vec<u8>| {
        let most = (1_usize << bits) - 1;
        if text.len() < most {
            out.push(mark | u8::try_from(text.len()).unwrap());
        } else {
            out.push(mark | u8::try_from(most).unwrap());
            let mut rest = text.len() - most;
            while rest > 127 {
                out.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            out.push(u8::try_from(rest).unwrap());
        }
        out.extend_from_slice(text.as_bytes());
    };
    for (name, value) in fields {
        put(0x20, 3, name, &mut out);
        put(0, 7, value, &mut out);
    }
    out
}

fn read(block: &[u8], end: bool) -> Result<(String, RequestHead, Option<u64>), Fault> {
    let (mut head, mut bytes) = (RequestHead::default(), Vec::new());
    let length = h3::request(block, end, &Limits::default(), &mut head, &mut bytes)?;
    let mut out = Vec::new();
    let path = head.whole_target.bytes(&bytes).to_vec();
    head.write(&bytes, &[&path[..]], head.authority.bytes(&bytes), &Edits::default(), true, &mut out);
    Ok((String::from_utf8(out).unwrap(), head, length))
}

/// `:method GET`, `:scheme https` and `:path /` by their numbers in the static table, and the authority.
const GET: &[u8] = b"\0\0\xd1\xd7\xc1\x50\x09a.example";

const REQUEST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "a.example"), (":path", "/p?q")];

#[test]
fn requests() {
    let (text, head, length) = read(GET, true).unwrap();
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
    assert_eq!((head.head.framing, length), (Framing::None, None));
    // RFC 9204, B.1: a path with the name of the static table.
    let of_rfc = [&b"\0\0\x51\x0b/index.html\xd1\xd7\x50\x01a"[..]].concat();
    assert_eq!(read(&of_rfc, true).unwrap().0, "GET /index.html HTTP/1.1\r\nhost: a\r\n\r\n");
    // The same path in Huffman's code (RFC 7541, B).
    let coded = b"\0\0\x51\x88\x60\xd5\x48\x5f\x2b\xce\x9a\x68\xd1\xd7\x50\x01a";
    assert_eq!(read(coded, true).unwrap().0, "GET /index.html HTTP/1.1\r\nhost: a\r\n\r\n");
    let (text, head, length) =
        read(&block(&[&REQUEST[..], &[("content-length", "3"), ("x", "y")]].concat()), false).unwrap();
    assert!(text.starts_with("POST /p?q HTTP/1.1\r\nhost: a.example\r\n") && text.contains("\r\nx: y\r\n"), "{text}");
    assert_eq!((head.head.framing, length), (Framing::Length(3), Some(3)));
    assert_eq!(read(&block(&REQUEST), false).unwrap().1.head.framing, Framing::Chunked);
    // A WebSocket (RFC 9220) is an upgrade.
    let socket = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/chat"),
    ];
    let (text, ..) = read(&block(&socket), false).unwrap();
    assert!(text.starts_with("GET /chat HTTP/1.1\r\n") && text.contains("upgrade: websocket"), "{text}");
}

#[test]
fn refused() {
    let with = |fields: &[(&str, &str)]| block(&[&REQUEST[..], fields].concat());
    let large = "x".repeat(Limits::default().head);
    let undecodable = Fault::Connection(Code::QPACK_DECOMPRESSION_FAILED);
    let cases: Vec<(&str, Vec<u8>, Fault)> = vec![
        ("no prefix", vec![], undecodable),
        ("a table is required", b"\x01\0\xd1".to_vec(), undecodable),
        ("an entry of the table", b"\0\0\x80".to_vec(), undecodable),
        ("a name of the table", b"\0\0\x41\x01a".to_vec(), undecodable),
        ("an entry behind the base", b"\0\0\x10".to_vec(), undecodable),
        ("a name behind the base", b"\0\0\x01\x01a".to_vec(), undecodable),
        ("beyond the static table", b"\0\0\xff\x24".to_vec(), undecodable),
        ("a base before nothing", b"\0\x80\xd1\xd7\xc1\x50\x09a.example".to_vec(), undecodable),
        ("a base before nothing by more", b"\0\xff\x05\xd1\xd7\xc1\x50\x09a.example".to_vec(), undecodable),
        // RFC 9204, B.2 and B.4.
        ("what was inserted", b"\x03\x81\x10\x11".to_vec(), undecodable),
        ("what was duplicated", b"\x05\x00\x80\xc1\x81".to_vec(), undecodable),
        ("cut off", GET[..GET.len() - 1].to_vec(), undecodable),
        ("no path", b"\0\0\xd1\xd7\x50\x01a".to_vec(), Fault::Malformed),
        ("a capital", with(&[("X", "y")]), Fault::Malformed),
        ("a line break", with(&[("x", "a\r\nb: c")]), Fault::Malformed),
        ("of the connection", with(&[("connection", "close")]), Fault::Malformed),
        ("chunks", with(&[("transfer-encoding", "chunked")]), Fault::Malformed),
        ("twice", with(&[(":path", "/")]), Fault::Malformed),
        ("unknown", with(&[(":x", "/")]), Fault::Malformed),
        ("two hosts", with(&[("host", "b.example")]), Fault::Refused(HeadError::Host)),
        (
            "two lengths",
            with(&[("content-length", "1"), ("content-length", "2")]),
            Fault::Refused(HeadError::ContentLength),
        ),
        ("a length and no body", with(&[("content-length", "1")]), Fault::Refused(HeadError::ContentLength)),
        ("too large", with(&[("x", &large)]), Fault::Refused(HeadError::TooLarge)),
        ("too many", with(&[("x", "y"); 101]), Fault::Refused(HeadError::TooManyFields)),
        (
            "another protocol",
            block(&[
                (":method", "CONNECT"),
                (":protocol", "connect-udp"),
                (":scheme", "https"),
                (":authority", "a"),
                (":path", "/"),
            ]),
            Fault::Refused(HeadError::Upgrade),
        ),
    ];
    for (what, block, expected) in cases {
        assert_eq!(read(&block, true).map(|read| read.0), Err(expected), "{what}");
    }
}

/// What is written is read again as it was, whatever of it the static table has.
#[test]
fn written() {
    let text = b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\nCache-Control: no-cache\r\nserver: x\r\nConnection: a\r\na: b\r\nX-Own: some text\r\nset-cookie: a=b\r\n\r\n";
    let mut head = ResponseHead::default();
    assert_eq!(head.read(text, b"GET", &Limits::default()), Ok(true));
    let mut out = Vec::new();
    let edits = Edits { remove: &["server"], set: &[], add: &[("x-added", b"\xff")] };
    h3::response(&head, text, &edits, &mut out);
    let frame = FrameHead::read(&out).unwrap();
    assert_eq!((frame.kind, usize::try_from(frame.length).unwrap()), (kind::HEADERS, out.len() - frame.taken));
    let block = &out[frame.taken..];
    // `:status 404` and the type are entries.
    assert_eq!(&block[..4], b"\0\0\xdb\xf5");
    // As trailers it may not have a status: without it all others are fields.
    let (mut read, mut bytes) = (Head::default(), Vec::new());
    let fields = [&block[..2], &block[3..]].concat();
    h3::trailers(&fields, &Limits::default(), &mut read, &mut bytes).unwrap();
    let fields: Vec<_> = read.fields.iter().map(|field| (field.name.text(&bytes), field.value.bytes(&bytes))).collect();
    let expected: [(&str, &[u8]); 5] = [
        ("content-type", b"text/plain"),
        ("cache-control", b"no-cache"),
        ("x-own", b"some text"),
        ("set-cookie", b"a=b"),
        ("x-added", b"\xff"),
    ];
    assert_eq!(fields, expected);
    assert!(read.fields[3].never_indexed, "a cookie is put into no table");
    assert_eq!(h3::trailers(block, &Limits::default(), &mut read, &mut bytes), Err(Fault::Malformed));
    // Trailers that must not be any are left out, and none are no frame.
    let mut out = Vec::new();
    assert!(!h3::put_trailers([(&b"Content-Length"[..], &b"1"[..])].into_iter(), &mut out));
    assert_eq!(out, b"");
}

/// Frames of a control stream, as a server reads them.
fn control(mut bytes: &[u8]) -> Result<(), Code> {
    let mut control = Control::default();
    while let Some(frame) = FrameHead::read(bytes) {
        let wanted = control.frame(frame)?;
        let (_, rest) = bytes.split_at(frame.taken);
        let (payload, rest) = rest.split_at(usize::try_from(frame.length).unwrap());
        if wanted {
            control.payload(frame.kind, payload)?;
        }
        bytes = rest;
    }
    assert_eq!(bytes, b"", "frames are whole");
    Ok(())
}

/// What may come on a control stream (RFC 9114, 7.2), and what its connection ends with else.
#[test]
fn frames() {
    let after = |frames: &[u8]| [b"\x04\x00", frames].concat();
    let settings = |payload: &[u8]| [&[4, u8::try_from(payload.len()).unwrap()], payload].concat();
    let many: Vec<u8> = (0..65_u8).flat_map(|index| [0x40, 0x80 + index, 0]).collect();
    let many = [&[4, 0x40, u8::try_from(many.len()).unwrap()], &many[..]].concat();
    let cases: Vec<(&str, Vec<u8>, Result<(), Code>)> = vec![
        // 6.2.1: SETTINGS first, and once.
        ("settings alone", settings(b""), Ok(())),
        ("another frame first", b"\x07\x01\x00".to_vec(), Err(Code::MISSING_SETTINGS)),
        ("an unknown frame first", b"\x21\x00".to_vec(), Err(Code::MISSING_SETTINGS)),
        ("data first", b"\x00\x00".to_vec(), Err(Code::MISSING_SETTINGS)),
        ("settings again", after(b"\x04\x00"), Err(Code::FRAME_UNEXPECTED)),
        // 7.2.1, 7.2.2, 7.2.5: of requests, or of servers alone.
        ("data", after(b"\x00\x01a"), Err(Code::FRAME_UNEXPECTED)),
        ("a head", after(b"\x01\x00"), Err(Code::FRAME_UNEXPECTED)),
        ("a promise", after(b"\x05\x01\x00"), Err(Code::FRAME_UNEXPECTED)),
        // 7.2.8, 9: what nobody knows is passed over, what HTTP/2 knows is not.
        ("unknown", after(b"\x21\x03abc\x40\x21\x00"), Ok(())),
        ("priority of HTTP/2", after(b"\x02\x00"), Err(Code::FRAME_UNEXPECTED)),
        ("ping of HTTP/2", after(b"\x06\x00"), Err(Code::FRAME_UNEXPECTED)),
        ("a window of HTTP/2", after(b"\x08\x00"), Err(Code::FRAME_UNEXPECTED)),
        ("a continuation of HTTP/2", after(b"\x09\x00"), Err(Code::FRAME_UNEXPECTED)),
        ("priority of RFC 9218", after(b"\x80\x0f\x07\x00\x04\x00u=1"), Ok(())),
        // 7.2.4: settings in pairs, each once, none of HTTP/2.
        ("known ones", settings(b"\x01\x00\x06\x40\xff\x07\x10\x08\x01\x33\x01"), Ok(())),
        ("an unknown one", settings(b"\x21\x05"), Ok(())),
        ("one twice", settings(b"\x21\x05\x21\x05"), Err(Code::SETTINGS_ERROR)),
        ("no value", settings(b"\x21"), Err(Code::FRAME_ERROR)),
        ("a value cut off", settings(b"\x21\x40"), Err(Code::FRAME_ERROR)),
        ("a window", settings(b"\x04\x01"), Err(Code::SETTINGS_ERROR)),
        ("pushes", settings(b"\x02\x01"), Err(Code::SETTINGS_ERROR)),
        ("streams", settings(b"\x03\x01"), Err(Code::SETTINGS_ERROR)),
        ("the size of frames", settings(b"\x05\x01"), Err(Code::SETTINGS_ERROR)),
        ("half a CONNECT (RFC 9220, 3)", settings(b"\x08\x02"), Err(Code::SETTINGS_ERROR)),
        ("half a datagram (RFC 9297, 2.1.1)", settings(b"\x33\x02"), Err(Code::SETTINGS_ERROR)),
        ("more than anybody has", many, Err(Code::SETTINGS_ERROR)),
        ("too large", b"\x04\x50\x01".to_vec(), Err(Code::EXCESSIVE_LOAD)),
        // 7.1: a payload is what it is said to be.
        ("an empty number", after(b"\x07\x00"), Err(Code::FRAME_ERROR)),
        ("a number cut off", after(b"\x07\x01\x40"), Err(Code::FRAME_ERROR)),
        ("more behind a number", after(b"\x07\x02\x00\x00"), Err(Code::FRAME_ERROR)),
        // 7.2.3, 5.2, 7.2.7: numbers of pushes.
        ("a push that is none", after(b"\x03\x01\x00"), Err(Code::ID_ERROR)),
        ("fewer and fewer", after(b"\x07\x01\x05\x07\x01\x05\x07\x01\x02"), Ok(())),
        ("one more after all", after(b"\x07\x01\x05\x07\x01\x06"), Err(Code::ID_ERROR)),
        ("more and more", after(b"\x0d\x01\x05\x0d\x01\x05\x0d\x01\x06"), Ok(())),
        ("one less after all", after(b"\x0d\x01\x05\x0d\x01\x04"), Err(Code::ID_ERROR)),
    ];
    for (what, bytes, expected) in cases {
        assert_eq!(control(&bytes), expected, "{what}");
    }
}

/// Instructions to a table that is not there, and about it: RFC 9204, appendix B among them.
#[test]
fn instructions() {
    let error = Err(Code::QPACK_ENCODER_STREAM_ERROR);
    let encoder: &[(&str, &[u8], Result<(), Code>)] = &[
        ("nothing", b"", Ok(())),
        ("no size", b"\x20\x20", Ok(())),
        ("B.2: a size", b"\x3f\xbd\x01", error),
        ("B.2: a name of the static table", b"\xc0\x0fwww.example.com", error),
        ("B.3: a name of its own", b"\x4acustom-key\x0ccustom-value", error),
        ("B.4: a duplicate", b"\x02", error),
        ("B.5: a name of the table", b"\x81\x0dcustom-value2", error),
    ];
    for (what, bytes, expected) in encoder {
        assert_eq!(h3::encoder(bytes), *expected, "{what}");
    }
    let error = Err(Code::QPACK_DECODER_STREAM_ERROR);
    let decoder: &[(&str, &[u8], Result<usize, Code>)] = &[
        ("nothing", b"", Ok(0)),
        ("B.2: a block that was read", b"\x84", error),
        ("B.3: an entry that came", b"\x01", error),
        ("no entry that came", b"\x00", error),
        ("B.4: a stream that is given up", b"\x48", Ok(1)),
        ("several", b"\x48\x44\x7f\x00\x7f\x80\x7f", Ok(7)),
        ("one, and part of another", b"\x48\x7f\x80", Ok(1)),
        ("the last of all streams", b"\x7f\xfc\xfe\xff\xff\xff\xff\xff\xff\x3f", Ok(10)),
        ("beyond all streams", b"\x7f\x80\x80\x80\x80\x80\x80\x80\x80\x80", error),
        ("one that is, and one that is not", b"\x48\x84", error),
    ];
    for (what, bytes, expected) in decoder {
        assert_eq!(h3::decoder(bytes), *expected, "{what}");
    }
}

proptest! {
    #[test]
    fn numbers(value in 0_u64..1 << 62, small in 0_u64..70_000, rest in vec(any::<u8>(), 0..4)) {
        for value in [value, small, value >> 32, (1 << 62) - 1] {
            let mut out = Vec::new();
            h3::put_number(value, &mut out);
            for end in 0..out.len() {
                prop_assert_eq!(h3::take_number(&mut &out[..end]), None);
            }
            out.extend_from_slice(&rest);
            let mut input = out.as_slice();
            prop_assert_eq!(h3::take_number(&mut input), Some(value));
            prop_assert_eq!(input, rest.as_slice());
        }
    }

    #[test]
    fn no_input_panics(noise in vec(any::<u8>(), 0..120), end in any::<bool>(), cut in 0..40_usize) {
        let _ = FrameHead::read(&noise);
        let limits = Limits { head: 80, ..Limits::default() };
        for block in [&noise[..], &[&GET[..cut.min(GET.len())], &noise].concat(), &[&[0, 0][..], &noise].concat()] {
            let (mut head, mut bytes) = (RequestHead::default(), Vec::new());
            let _ = h3::request(block, end, &limits, &mut head, &mut bytes);
            let (mut trailers, mut bytes) = (Head::default(), Vec::new());
            let _ = h3::trailers(block, &limits, &mut trailers, &mut bytes);
            // What is too much is not kept.
            prop_assert!(bytes.len() <= limits.head + 2 * block.len());
        }
    }
}
