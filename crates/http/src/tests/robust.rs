//! No input panics, whatever it is and however it is cut.

use proptest::{collection::vec, prelude::*};

use crate::{BodyReader, Edits, Framing, Limits, RequestHead, ResponseHead, client_hello, normalize, proxy_header};

/// Pieces of messages, so that random texts get past the first byte.
fn message() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 17] = [
        b"GET / HTTP/1.1\r\n",
        b"POST http://a/b HTTP/1.0\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: te, x, close\r\n",
        b"TE: trailers\r\n",
        b"X: y\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"\n",
        b" ",
        b":",
        b",",
        b"\xff\x00",
    ];
    vec(proptest::sample::select(PIECES.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn requests(text in message(), noise in vec(any::<u8>(), 0..40)) {
        for text in [&text, &noise] {
            let mut head = RequestHead::default();
            let whole = head.read(text, &Limits::default());
            if whole == Ok(true) {
                let mut out = Vec::new();
                head.write(text, &[b"/"], head.authority.bytes(text), &Edits::default(), true, &mut out);
                // What is passed on is taken, means the same and ends where it should.
                let mut again = RequestHead::default();
                if !head.authority.is_empty() {
                    prop_assert_eq!(again.read(&out, &Limits::default()), Ok(true));
                    prop_assert_eq!((again.head.len, again.head.framing), (out.len(), head.head.framing));
                }
            }
            // Cut anywhere before its end, it is not complete; and what is certain early is right.
            for end in 0..text.len() {
                let part = RequestHead::default().read(&text[..end], &Limits::default());
                match part {
                    Ok(true) => prop_assert!(whole == Ok(true) && end >= head.head.len),
                    Ok(false) => {}
                    Err(_) => prop_assert!(whole.is_err()),
                }
            }
        }
    }

    #[test]
    fn responses(text in message(), noise in vec(any::<u8>(), 0..40)) {
        for text in [&text, &noise] {
            let mut head = ResponseHead::default();
            if head.read(text, b"GET", &Limits::default()) == Ok(true) {
                let body = &text[head.head.len..];
                let mut reader = BodyReader::new(head.head.framing);
                if let Ok(progress) = reader.pass(body) {
                    prop_assert!(progress.taken <= body.len());
                }
            }
        }
    }

    #[test]
    fn bodies_in_pieces(text in message(), piece in 1_usize..8) {
        let mut whole = BodyReader::new(Framing::Chunked);
        let mut cut = BodyReader::new(Framing::Chunked);
        let expected = whole.pass(&text);
        let mut taken = 0;
        let mut failed = false;
        for part in text.chunks(piece) {
            let Ok(progress) = cut.pass(part) else {
                failed = true;
                break;
            };
            taken += progress.taken;
        }
        match expected {
            Ok(progress) => prop_assert_eq!((taken, cut.is_done(), failed), (progress.taken, progress.done, false)),
            Err(_) => prop_assert!(failed),
        }
    }

    #[test]
    fn others(noise in vec(any::<u8>(), 0..80), path in "/[a.%/2eE]{0,12}") {
        let _ = client_hello(&noise);
        let _ = proxy_header(&noise);
        let _ = client_hello(&[&[22, 3, 1, 0, 80, 1, 0, 0, 76][..], &noise].concat());
        let _ = proxy_header(&[&b"\r\n\r\n\0\r\nQUIT\n!\x11\x00\x0c"[..], &noise].concat());
        // The normal form is normal.
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        if normalize(path.as_bytes(), &mut once) == Ok(true) {
            let again = normalize(&once, &mut twice);
            prop_assert!(once.starts_with(b"/"));
            // Decoding makes new escapes only of escapes: `%25` is never decoded.
            prop_assert_eq!(again, Ok(false));
        }
    }
}
