//! HPACK: the examples of RFC 7541, what is no block, and random fields there and back.

use proptest::prelude::*;

use crate::h2::hpack::{NotHpack, decode::Decoder, encode::Encoder, huffman};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The fields of a block, one a line; those that are never to be indexed with a `!`.
fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, NotHpack> {
    let (mut bytes, mut fields) = (Vec::new(), Vec::new());
    decoder.decode(block, &mut bytes, |line, bytes| {
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&bytes[range]).into_owned();
        let mark = if line.never_indexed { "!" } else { "" };
        fields.push(format!("{mark}{}: {}", text(line.start..line.value), text(line.value..line.end)));
    })?;
    Ok(fields)
}

/// Appendix C.2 to C.6.
#[test]
fn examples() {
    let requests = [
        ":method: GET|:scheme: http|:path: /|:authority: www.example.com",
        ":method: GET|:scheme: http|:path: /|:authority: www.example.com|cache-control: no-cache",
        ":method: GET|:scheme: https|:path: /index.html|:authority: www.example.com|custom-key: custom-value",
    ];
    let responses = [
        ":status: 302|cache-control: private|date: Mon, 21 Oct 2013 20:13:21 GMT|location: https://www.example.com",
        ":status: 307|cache-control: private|date: Mon, 21 Oct 2013 20:13:21 GMT|location: https://www.example.com",
        ":status: 200|cache-control: private|date: Mon, 21 Oct 2013 20:13:22 GMT|location: https://www.example.com|content-encoding: gzip|set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ];
    let cases: [(&[&str], &[&str]); 8] = [
        (&["400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"], &["custom-key: custom-header"]),
        (&["040c 2f73 616d 706c 652f 7061 7468"], &[":path: /sample/path"]),
        (&["1008 7061 7373 776f 7264 0673 6563 7265 74"], &["!password: secret"]),
        (&["82"], &[":method: GET"]),
        (
            &[
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            &requests,
        ),
        (
            &[
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
            &requests,
        ),
        // Their table has 256 bytes.
        (
            &[
                "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "4803 3330 37c1 c0bf",
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            ],
            &responses,
        ),
        (
            &[
                "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                "4883 640e ffc1 c0bf",
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            ],
            &responses,
        ),
    ];
    for (blocks, expected) in cases {
        let mut decoder = Decoder::default();
        for (block, fields) in blocks.iter().zip(expected) {
            assert_eq!(decode(&mut decoder, &hex(block)).unwrap().join("|"), *fields, "{block}");
        }
    }
}

/// What ends the connection (RFC 7541; h2spec's `hpack` cases).
#[test]
fn no_blocks() {
    let cases = [
        ("2.3.3: an index beyond both tables", "be"),
        ("2.3.3: a name's index beyond both tables", "7e 0161"),
        ("2.3.3: a name's index beyond both tables, without indexing", "0f 30 0161"),
        ("6.1: index 0", "80"),
        ("4.2: a size update at the end", "82 20"),
        ("4.2: a size update between fields", "82 3f e101 82"),
        ("4.2: three size updates", "20 20 20 82"),
        ("6.3: a size beyond the allowed one", "3f e2 1f"),
        ("5.1: an integer without its end", "ff ff"),
        ("5.1: an integer without an end", "ff 80 80 80 80 80 80 80 80 80 80 01"),
        ("5.1: an integer beyond 2^28", "ff ff ff ff ff 7f"),
        ("5.2: a string that is not all there", "40 05 61"),
        ("5.2: padding of eight bits", "40 02 7561 82 1fff"),
        ("5.2: padding of seven bits that are no ones", "40 02 7561 81 18"),
        ("5.2: the end within a string", "40 02 7561 84 ffff ffff"),
        ("5.2: half a code", "40 02 7561 81 fe"),
        ("6.2: no value", "40 01 61"),
        ("6.2: nothing", "40"),
    ];
    for (what, block) in cases {
        assert_eq!(decode(&mut Decoder::default(), &hex(block)), Err(NotHpack), "{what}");
    }
    assert!(decode(&mut Decoder::default(), &hex("3f e1 1f 82")).is_ok(), "the allowed size");
    assert!(decode(&mut Decoder::default(), &hex("20 3f e1 1f 82")).is_ok(), "to nothing, and back");
    assert!(decode(&mut Decoder::default(), &[]).is_ok());
}

/// Entries leave from the oldest on, and those larger than the table empty it (4.4).
#[test]
fn eviction() {
    let mut decoder = Decoder::default();
    let insert = |name: u8, length: usize| {
        let head = [0x40, 1, name, 0x7f];
        let rest = length - 127;
        [&head[..], &[u8::try_from(rest % 128).unwrap() | 0x80, u8::try_from(rest / 128).unwrap()], &vec![b'v'; length]]
            .concat()
    };
    let first =
        |decoder: &mut Decoder, index: u8| decode(decoder, &[0x80 | index]).map(|fields| fields[0][..1].to_owned());
    for name in *b"abcd" {
        decode(&mut decoder, &insert(name, 967)).unwrap();
    }
    assert_eq!(first(&mut decoder, 65).as_deref(), Ok("a"), "four entries of 1000 fit");
    decode(&mut decoder, &insert(b'e', 967)).unwrap();
    assert_eq!((first(&mut decoder, 62).as_deref(), first(&mut decoder, 65).as_deref()), (Ok("e"), Ok("b")));
    decode(&mut decoder, &insert(b'f', 5000)).unwrap();
    assert_eq!(first(&mut decoder, 62), Err(NotHpack), "the table is empty");
}

/// What repeats shrinks to a byte; secrets and what is told never to be indexed is in no table.
#[test]
fn repetition() {
    let mut encoder = Encoder::default();
    let mut lengths = |name: &str, value: &str, secret| {
        [0; 4].map(|_| {
            let mut out = Vec::new();
            encoder.field(name.as_bytes(), value.as_bytes(), secret, &mut out);
            out.len()
        })
    };
    assert_eq!(lengths("x-forwarded-proto", "https", false), [25, 20, 1, 1]);
    assert_eq!(lengths("user-agent", "curl/8", false), [9, 7, 1, 1]);
    for (name, secret) in [("authorization", false), ("cookie", false), ("set-cookie", false), ("x-token", true)] {
        let all = lengths(name, "secretsecret", secret);
        assert!(all.iter().all(|length| *length == all[0] && *length > 12), "{name}: {all:?}");
    }
    assert_eq!(lengths("content-length", "1024", false), [7; 4]);
    let mut out = Vec::new();
    Encoder::default().field(b"authorization", b"x", false, &mut out);
    assert_eq!(decode(&mut Decoder::default(), &out).unwrap(), ["!authorization: x"]);
}

proptest! {
    #[test]
    fn strings(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut coded = Vec::new();
        huffman::encode(&text, &mut coded);
        prop_assert_eq!(coded.len(), huffman::encoded_len(&text));
        let mut back = Vec::new();
        huffman::decode(&coded, &mut back).unwrap();
        prop_assert_eq!(back, text);
    }

    /// Whatever is encoded, in whatever order and with tables of whatever size, is decoded to the same.
    #[test]
    fn blocks(
        blocks in prop::collection::vec(
            (prop::option::of(0_usize..6000), prop::collection::vec((0_usize..12, 0_usize..6, any::<bool>()), 0..20)),
            1..30,
        ),
    ) {
        const NAMES: [&str; 12] = [
            ":path", ":authority", "accept", "cookie", "date", "x-forwarded-for", "x-request-id", "user-agent", "x-long",
            "content-length", "grpc-timeout", "via",
        ];
        let long = "v".repeat(900);
        let values = ["", "a", "b=c; d=e", "Mon, 21 Oct 2013 20:13:21 GMT", "\u{ff}\u{fe}", &long];
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for (size, fields) in blocks {
            if let Some(size) = size {
                encoder.resize(size);
            }
            let mut out = Vec::new();
            encoder.begin(&mut out);
            let mut expected = Vec::new();
            for (name, value, secret) in fields {
                encoder.field(NAMES[name].as_bytes(), values[value].as_bytes(), secret, &mut out);
                let mark = if secret || NAMES[name] == "cookie" { "!" } else { "" };
                expected.push(format!("{mark}{}: {}", NAMES[name], values[value]));
            }
            prop_assert_eq!(decode(&mut decoder, &out).unwrap(), expected);
        }
    }

    #[test]
    fn any_bytes(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..10)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            if decode(&mut decoder, &block).is_err() {
                break;
            }
        }
    }
}
