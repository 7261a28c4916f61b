//! The chunked coding.

use crate::{Chunked, HeadError, chunk_head};

/// The data of a whole body given in pieces of `piece` bytes, and how many bytes the body had; an error otherwise.
fn decode(body: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), HeadError> {
    let (mut chunked, mut data, mut taken) = (Chunked::default(), Vec::new(), 0);
    for part in body.chunks(piece) {
        let mut rest = part;
        while !rest.is_empty() && !chunked.is_done() {
            let step = chunked.step(rest)?;
            data.extend_from_slice(&rest[step.data.clone()]);
            taken += step.taken;
            rest = &rest[step.taken..];
        }
    }
    Ok((data, taken, chunked.is_done()))
}

#[test]
fn accepted() {
    let cases: [(&str, &str, usize); 12] = [
        ("0\r\n\r\n", "", 0),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", 0),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", 0),
        ("00005\r\nhello\r\n000\r\n\r\n", "hello", 0),
        ("5;a=b\r\nhello\r\n0;c\r\n\r\n", "hello", 0),
        ("5;a=\"b;\\\"c\"\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("5 ;a\r\nhello\r\n0\r\n\r\n", "hello", 0),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", 0),
        ("0\r\nX: y\r\nZ:\r\n\r\n", "", 0),
        ("0\r\n\r\nGET / HTTP/1.1\r\n", "", 16),
        ("5\r\nhello\r\n0\r\nX: y\r\n\r\nmore", "hello", 4),
    ];
    for (body, data, left) in cases {
        for piece in 1..=body.len() {
            let expected = Ok((data.as_bytes().to_vec(), body.len() - left, true));
            assert_eq!(decode(body.as_bytes(), piece), expected, "{body:?} by {piece}");
            let mut pass = Chunked::default();
            let taken: usize = body.as_bytes().chunks(piece).map(|part| pass.pass(part).unwrap()).sum();
            assert_eq!((taken, pass.is_done()), (body.len() - left, true), "{body:?} by {piece}, passed on");
        }
    }
}

#[test]
fn refused() {
    let many = |text: &str, count: usize| text.repeat(count);
    let cases = [
        "\r\n".into(),
        "g\r\n".into(),
        "-5\r\nhello".into(),
        "+5\r\nhello".into(),
        "0x5\r\nhello".into(),
        " 5\r\nhello".into(),
        "5\nhello".into(),
        "5\rhello".into(),
        "5\r\nhello0\r\n\r\n".into(),
        "5\r\nhello\n0\r\n\r\n".into(),
        "5\r\nhello\rx".into(),
        "5\r\nhello world\r\n".into(),
        "5 6\r\nhello".into(),
        "5,\r\nhello".into(),
        ";a\r\n".into(),
        "5;a\nhello".into(),
        "5;a=\"\r\n\"\r\nhello".into(),
        "5;\u{0}\r\nhello".into(),
        "0\r\n\n".into(),
        "0\r\n\rx".into(),
        "0\r\n X: y\r\n\r\n".into(),
        "0\r\nX y\r\n\r\n".into(),
        "0\r\nX : y\r\n\r\n".into(),
        "0\r\nX: y\n\r\n".into(),
        "0\r\nX: \u{0}\r\n\r\n".into(),
        "1000000000000000\r\n".into(),
        "ffffffffffffffffffff\r\n".into(),
        format!("5;{}\r\nhello", many("a", 300)),
        format!("5{}\r\nhello", many(" ", 300)),
        format!("0\r\n{}", many("X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", 300)),
        many(&format!("1;{}\r\na\r\n", many("x", 200)), 100),
    ];
    for body in cases {
        for piece in [1, 2, 3, body.len()] {
            assert!(decode(body.as_bytes(), piece).is_err(), "{body:?} by {piece}");
        }
    }
}

#[test]
fn written() {
    for length in [1, 9, 10, 15, 16, 255, 256, 4096, 65_535, 1 << 20, usize::MAX >> 4] {
        let mut head = Vec::new();
        chunk_head(length, &mut head);
        assert_eq!(String::from_utf8(head).unwrap(), format!("{length:x}\r\n"));
    }
}
