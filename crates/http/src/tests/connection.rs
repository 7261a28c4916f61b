//! What is read before HTTP: paths' spelling, hosts, `ClientHello`, PROXY headers.

use crate::{ClientHello, NotClientHello, PathError, client_hello, normalize, proxy_header, split_authority};

#[test]
fn paths() {
    let cases = [
        ("/", Ok("/")),
        ("/a/b", Ok("/a/b")),
        ("/a//b", Ok("/a//b")),
        ("/a/./b", Ok("/a/b")),
        ("/a/../b", Ok("/b")),
        ("/a/b/..", Ok("/a/")),
        ("/a/b/.", Ok("/a/b/")),
        ("/.", Ok("/")),
        ("/a/..", Ok("/")),
        ("/a//../b", Ok("/a/b")),
        ("/..", Err(PathError::AboveRoot)),
        ("/a/../../b", Err(PathError::AboveRoot)),
        ("/%2e%2E/a", Err(PathError::AboveRoot)),
        ("/a/%2e%2e/b", Ok("/b")),
        ("/a/.%2e/b", Ok("/b")),
        ("/%61%62", Ok("/ab")),
        ("/a%2fb", Ok("/a%2Fb")),
        ("/a%2Fb", Ok("/a%2Fb")),
        ("/%7euser", Ok("/~user")),
        ("/%e4%bd%a0", Ok("/%E4%BD%A0")),
        ("/a%", Err(PathError::Escape)),
        ("/a%2", Err(PathError::Escape)),
        ("/a%zz", Err(PathError::Escape)),
        ("/a%00", Err(PathError::Nul)),
        ("/...", Ok("/...")),
        ("/.a/..b", Ok("/.a/..b")),
        ("/a/%252e%252e/b", Ok("/a/%252e%252e/b")),
    ];
    for (path, expected) in cases {
        let mut out = b"left over".to_vec();
        let found = normalize(path.as_bytes(), &mut out);
        let found = found.map(|changed| if changed { String::from_utf8(out).unwrap() } else { path.into() });
        assert_eq!(found, expected.map(String::from), "{path}");
    }
}

#[test]
fn authorities() {
    let cases = [
        ("a", Some(("a", None))),
        ("a.example:80", Some(("a.example", Some(80)))),
        ("a:", Some(("a", None))),
        ("192.0.2.1:8080", Some(("192.0.2.1", Some(8080)))),
        ("[::1]", Some(("[::1]", None))),
        ("[2001:db8::1]:443", Some(("[2001:db8::1]", Some(443)))),
        ("", None),
        (":80", None),
        ("a:65536", None),
        ("a:-1", None),
        ("a:80x", None),
        ("::1", None),
        ("[::1", None),
        ("[::1]80", None),
        ("[x]", None),
        ("u@a", None),
        ("a b", None),
        ("a%20b", None),
        ("a,b", None),
        ("a/b", None),
    ];
    for (text, expected) in cases {
        let found = split_authority(text.as_bytes()).map(|authority| (authority.host, authority.port));
        assert_eq!(found, expected, "{text:?}");
    }
}

/// A `ClientHello` with these extensions, in one record.
fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let extensions: Vec<u8> =
        extensions.iter().flat_map(|(kind, body)| [kind.to_be_bytes().to_vec(), sized(body)].concat()).collect();
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 19, 1], &[1, 0], &sized(&extensions)].concat();
    let message = [&[1, 0][..], &sized(&body)].concat();
    [&[22, 3, 1][..], &sized(&message)].concat()
}

fn name(name: &str) -> Vec<u8> {
    let size = u16::try_from(name.len()).unwrap();
    [&(size + 3).to_be_bytes()[..], &[0], &size.to_be_bytes(), name.as_bytes()].concat()
}

#[test]
fn client_hellos() {
    let alpn: &[u8] = &[0, 12, 2, b'h', b'2', 8, b'h', b't', b't', b'p', b'/', b'1', b'.', b'1'];
    let named = hello(&[(10, &[0, 2, 0, 29]), (0, &name("Shop.Example.COM")), (16, alpn)]);
    let expected =
        ClientHello { server_name: Some("shop.example.com".into()), alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()] };
    assert_eq!(client_hello(&named), Ok(Some(expected)));
    for end in 0..named.len() {
        assert_eq!(client_hello(&named[..end]), Ok(None), "up to {end}");
    }
    let mut two_records = named.clone();
    two_records[4] -= 10;
    let cases = [
        (hello(&[]), Ok(None)),
        (hello(&[(0, &name("a_b-c.d"))]), Ok(Some("a_b-c.d"))),
        (hello(&[(0, &name(""))]), Err(NotClientHello::Malformed)),
        (hello(&[(0, &name("a b"))]), Err(NotClientHello::Malformed)),
        (hello(&[(0, &name("a\0b"))]), Err(NotClientHello::Malformed)),
        (hello(&[(0, &name("a")), (0, &name("b"))]), Err(NotClientHello::Malformed)),
        (hello(&[(0, &[0, 99, 0])]), Err(NotClientHello::Malformed)),
        (hello(&[(16, &[0, 1, 0])]), Err(NotClientHello::Malformed)),
        (two_records, Err(NotClientHello::Malformed)),
        (b"GET / HTTP/1.1\r\n".to_vec(), Err(NotClientHello::NotTls)),
        (vec![22, 2, 1], Err(NotClientHello::NotTls)),
        (vec![22, 3, 1, 0, 200, 2, 0, 0, 100], Err(NotClientHello::NotTls)),
        (vec![22, 3, 1, 255, 255, 1, 1, 0, 0], Err(NotClientHello::TooLarge)),
    ];
    for (bytes, expected) in cases {
        let found = client_hello(&bytes).map(|hello| hello.and_then(|hello| hello.server_name));
        assert_eq!(found, expected.map(|name| name.map(String::from)), "{bytes:02x?}");
    }
}

#[test]
fn proxy_headers() {
    let v2 = |command: u8, family: u8, body: &[u8]| {
        let size = u16::try_from(body.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &size, body].concat()
    };
    let four = [192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0, 80];
    let six: Vec<u8> = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2]
        .concat()
        .into_iter()
        .chain([0, 9, 1, 187])
        .collect();
    let cases: [(Vec<u8>, Option<&str>); 22] = [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 80\r\nGET".to_vec(), Some("192.0.2.1:8080 198.51.100.2:80 after 43")),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(), Some("[2001:db8::1]:1 [2001:db8::2]:2 after 40")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Some("unknown after 15")),
        (b"PROXY UNKNOWN a b c d\r\n".to_vec(), Some("unknown after 23")),
        (v2(0x21, 0x11, &four), Some("192.0.2.1:8080 198.51.100.2:80 after 28")),
        (v2(0x21, 0x11, &[&four[..], &[4, 0, 1, 0]].concat()), Some("192.0.2.1:8080 198.51.100.2:80 after 32")),
        (v2(0x21, 0x21, &six), Some("[2001:db8::1]:9 [2001:db8::1]:443 after 52")),
        (v2(0x20, 0, &[]), Some("unknown after 16")),
        (v2(0x21, 0, &[]), Some("unknown after 16")),
        (v2(0x21, 0x11, &four[..11]), None),
        (v2(0x21, 0x12, &four), None),
        (v2(0x22, 0x11, &four), None),
        (v2(0x11, 0x11, &four), None),
        (v2(0x21, 0x11, &[0; 3000]), None),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 8080\r\n".to_vec(), None),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(), None),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 80\r\n".to_vec(), None),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 +80 80\r\n".to_vec(), None),
        (b"PROXY  TCP4 192.0.2.1 198.51.100.2 80 80\r\n".to_vec(), None),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 80 80\n".to_vec(), None),
        ([b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(), None),
        (b"GET / HTTP/1.1\r\n".to_vec(), None),
    ];
    for (bytes, expected) in cases {
        let found = proxy_header(&bytes).map(|header| {
            let header = header.unwrap();
            let from = header.addresses.map_or("unknown".into(), |(source, to)| format!("{source} {to}"));
            format!("{from} after {}", header.len)
        });
        assert_eq!(found.ok().as_deref(), expected, "{:?}", String::from_utf8_lossy(&bytes));
        if let Some(header) = expected.and_then(|_| proxy_header(&bytes).ok().flatten()) {
            for end in 0..header.len {
                assert_eq!(proxy_header(&bytes[..end]), Ok(None), "{bytes:02x?} up to {end}");
            }
        }
    }
}
