//! What the gate reads of a connection before it knows anything of it.

use std::net::SocketAddr;

use strait_http::{
    BodyReader, Chunked, Edits, Framing, HeadError, Limits, RequestHead, ResponseHead, Version, client_hello,
    proxy_header,
};

/// A request: however it is cut it reads the same, no reader sees another length, and what is written of it reads the same.
pub(super) fn request(bytes: &[u8]) {
    let limits = Limits::default();
    let mut head = RequestHead::default();
    let whole = head.read(bytes, &limits);
    cut(bytes, whole, |part| RequestHead::default().read(part, &limits), || head.head.len);
    if whole != Ok(true) {
        return;
    }
    let (text, rest) = bytes.split_at(head.head.len);
    one_framing(text, head.head.framing);
    body(head.head.framing, rest);
    if head.authority.is_empty() {
        return;
    }
    let target = [head.path.bytes(bytes), if head.query.is_some() { b"?" } else { b"" }, query(&head, bytes)];
    let target = match target[0] {
        [] if head.query.is_none() => [head.whole_target.bytes(bytes), b"", b""],
        [] => [b"/", target[1], target[2]],
        _ => target,
    };
    let written = |head: &RequestHead, bytes: &[u8], target: &[&[u8]]| {
        let mut out = Vec::new();
        head.write(bytes, target, head.authority.bytes(bytes), &Edits::default(), true, &mut out);
        out
    };
    let once = written(&head, bytes, &target);
    let mut again = RequestHead::default();
    assert_eq!(again.read(&once, &limits.larger()), Ok(true), "{}", String::from_utf8_lossy(&once));
    assert_eq!(again.head.len, once.len());
    assert_eq!(again.head.framing, head.head.framing);
    assert_eq!(again.method.bytes(&once), head.method.bytes(bytes));
    assert_eq!(again.authority.bytes(&once), head.authority.bytes(bytes));
    assert_eq!(query(&again, &once), query(&head, bytes));
    one_framing(&once, again.head.framing);
    // Nothing of it was for this hop alone: written once more it is the same.
    let target = [again.whole_target.bytes(&once)];
    assert_eq!(written(&again, &once, &target), once);
}

fn query<'a>(head: &RequestHead, bytes: &'a [u8]) -> &'a [u8] {
    head.query.map_or(&[][..], |query| query.bytes(bytes))
}

/// A response, to a request whose method the first byte chooses.
pub(super) fn response(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let method: &[u8] = [&b"GET"[..], b"HEAD", b"CONNECT", b"POST"][usize::from(choice % 4)];
    let limits = Limits::default();
    let mut head = ResponseHead::default();
    let whole = head.read(bytes, method, &limits);
    cut(bytes, whole, |part| ResponseHead::default().read(part, method, &limits), || head.head.len);
    if whole != Ok(true) {
        return;
    }
    let (text, rest) = bytes.split_at(head.head.len);
    let bodiless = head.head.framing == Framing::None;
    if !bodiless {
        one_framing(text, head.head.framing);
    }
    body(head.head.framing, rest);
    let mut once = Vec::new();
    head.write(bytes, Version::Http11, &Edits::default(), head.head.keep_alive, &mut once);
    let mut again = ResponseHead::default();
    assert_eq!(again.read(&once, method, &limits.larger()), Ok(true), "{}", String::from_utf8_lossy(&once));
    assert_eq!((again.head.len, again.status), (once.len(), head.status));
    assert_eq!(again.head.framing, head.head.framing, "{}", String::from_utf8_lossy(&once));
    let mut twice = Vec::new();
    again.write(&once, Version::Http11, &Edits::default(), again.head.keep_alive, &mut twice);
    assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&once));
}

/// A chunked body: however it is cut its data is the same, and it ends at the same byte.
pub(super) fn chunks(bytes: &[u8]) {
    let whole = read_chunks(bytes, bytes.len());
    for size in [1, 2, 7] {
        assert_eq!(read_chunks(bytes, size), whole, "pieces of {size}");
    }
    let mut passed = Chunked::default();
    let taken = passed.pass(bytes);
    match &whole {
        Ok((end, data, done)) => {
            assert_eq!((taken, passed.is_done()), (Ok(*end), *done));
            if *done {
                assert_eq!(chunked_again(data), Ok((data.clone(), true)));
                assert!(bytes[..*end].ends_with(b"\r\n"));
            }
        }
        Err(error) => assert_eq!(taken, Err(*error)),
    }
}

/// Where it ended, its data, and whether it is over.
fn read_chunks(bytes: &[u8], size: usize) -> Result<(usize, Vec<u8>, bool), HeadError> {
    let (mut chunked, mut data, mut at) = (Chunked::default(), Vec::new(), 0);
    while at < bytes.len() && !chunked.is_done() {
        let input = &bytes[at..bytes.len().min(at + size.max(1))];
        let step = chunked.step(input)?;
        assert!(step.taken > 0 && step.taken <= input.len(), "stands still");
        data.extend_from_slice(&input[step.data]);
        at += step.taken;
    }
    Ok((at, data, chunked.is_done()))
}

/// The data of a body that is made of `data`.
fn chunked_again(data: &[u8]) -> Result<(Vec<u8>, bool), HeadError> {
    let mut text = Vec::new();
    for part in data.chunks(100) {
        strait_http::chunk_head(part.len(), &mut text);
        text.extend_from_slice(part);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    read_chunks(&text, 5).map(|(_, data, done)| (data, done))
}

/// The start of a TLS connection.
pub(super) fn hello(bytes: &[u8]) {
    let whole = client_hello(bytes);
    for end in ends(bytes) {
        match client_hello(&bytes[..end]) {
            Ok(None) => {}
            part => assert_eq!(part, whole, "after {end} bytes"),
        }
    }
    let Ok(Some(hello)) = whole else { return };
    if let Some(name) = hello.server_name {
        assert!(!name.is_empty() && name.len() <= 255 && !name.bytes().any(|byte| byte.is_ascii_uppercase()));
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':'), "{name:?}");
        // It stands there: nothing else is taken for it.
        let spelled = |part: &[u8]| part.eq_ignore_ascii_case(name.as_bytes());
        assert!(bytes.windows(name.len()).any(spelled), "{name:?}");
    }
}

/// A PROXY header.
pub(super) fn proxy(bytes: &[u8]) {
    let whole = proxy_header(bytes);
    for end in ends(bytes) {
        match proxy_header(&bytes[..end]) {
            Ok(None) => {}
            part => assert_eq!(part, whole, "after {end} bytes"),
        }
    }
    let Ok(Some(header)) = whole else { return };
    assert!(header.len <= bytes.len());
    let Some((source, destination)) = header.addresses else { return };
    assert_eq!(source.is_ipv4(), destination.is_ipv4());
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let line =
        format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port());
    for text in [line.into_bytes(), binary(source, destination)] {
        let again = proxy_header(&text).map(|header| header.map(|header| (header.len, header.addresses)));
        assert_eq!(again, Ok(Some((text.len(), header.addresses))));
    }
}

/// A header of version 2.
fn binary(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut body = Vec::new();
    for end in [source, destination] {
        match end.ip() {
            std::net::IpAddr::V4(address) => body.extend_from_slice(&address.octets()),
            std::net::IpAddr::V6(address) => body.extend_from_slice(&address.octets()),
        }
    }
    body.extend_from_slice(&source.port().to_be_bytes());
    body.extend_from_slice(&destination.port().to_be_bytes());
    let mut out = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    out.push(if source.is_ipv4() { 0x11 } else { 0x21 });
    out.push(0);
    out.push(u8::try_from(body.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(&body);
    out
}

/// Where an input is cut: everywhere near its start, then here and there.
fn ends(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    (0..bytes.len()).filter(|end| *end < 96 || end % 13 == 0)
}

/// A part is complete only where the whole is, not before its end, and wrong only where the whole is.
fn cut(
    bytes: &[u8],
    whole: Result<bool, HeadError>,
    read: impl Fn(&[u8]) -> Result<bool, HeadError>,
    length: impl Fn() -> usize,
) {
    for end in ends(bytes) {
        match read(&bytes[..end]) {
            Ok(true) => assert!(whole == Ok(true) && end >= length(), "complete after {end} bytes"),
            Ok(false) => assert!(whole != Ok(true) || end < length(), "incomplete after {end} bytes"),
            Err(error) => assert!(whole.is_err(), "{error} after {end} bytes"),
        }
    }
}

/// Reads a head as the most forgiving of servers might, and asks whether it could see another body.
fn one_framing(head: &[u8], framing: Framing) {
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    for line in head.split(|byte| matches!(byte, b'\n' | b'\r')).skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        // Underscores for dashes, white space and control bytes anywhere in the name.
        let name: Vec<u8> = line[..colon]
            .iter()
            .filter(|byte| byte.is_ascii_graphic())
            .map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() })
            .collect();
        let value = line[colon + 1..].trim_ascii().to_vec();
        match &name[..] {
            // Spelled with an underscore it is another field to whoever is strict, and is passed on as such.
            _ if line[..colon].contains(&b'_') => {}
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    match framing {
        Framing::None | Framing::UntilClose => assert!(lengths.is_empty() && codings.is_empty(), "a body nobody reads"),
        Framing::Length(length) => {
            assert!(lengths.len() == 1 && codings.is_empty(), "two framings");
            let said = std::str::from_utf8(&lengths[0]).ok().and_then(|text| text.parse().ok());
            assert_eq!(said, Some(length));
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1, "two framings");
            // Empty members of the list say nothing.
            let members = codings[0].split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            let said: Vec<_> = members.filter(|member| !member.is_empty()).collect();
            assert!(matches!(said[..], [coding] if coding.eq_ignore_ascii_case(b"chunked")), "{said:?}");
        }
    }
}

/// A body ends at the same byte, however it arrives.
fn body(framing: Framing, rest: &[u8]) {
    let mut whole = BodyReader::new(framing);
    let taken = whole.pass(rest);
    let (mut pieces, mut at) = (BodyReader::new(framing), 0);
    let mut broken = None;
    while at < rest.len() && !pieces.is_done() {
        match pieces.pass(&rest[at..rest.len().min(at + 3)]) {
            Ok(progress) => at += progress.taken,
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    match (taken, broken) {
        (Ok(progress), None) => assert_eq!((progress.taken, progress.done), (at, pieces.is_done())),
        (Err(error), Some(other)) => assert_eq!(error, other),
        (taken, broken) => assert!(taken.is_err() && broken.is_some(), "{taken:?}, in pieces {broken:?}"),
    }
}

/// Room for what a gate adds to a head.
trait Larger {
    fn larger(self) -> Self;
}

impl Larger for Limits {
    fn larger(self) -> Self {
        Self { head: self.head + 1024, target: self.target + 1024, fields: self.fields + 8 }
    }
}
