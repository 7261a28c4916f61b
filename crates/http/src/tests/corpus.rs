// Read by `include!`, here and by the gate's tests: one corpus.

/// `|` stands for CR LF; the head is completed with two of them. Those that begin with `!` get no `Host`.
const REFUSED: [(u16, &str); 104] = [
    // Two lengths.
    (400, "POST / HTTP/1.1|Content-Length: 5|Content-Length: 6"),
    (400, "POST / HTTP/1.1|Content-Length: 5|Content-Length: 5"),
    (400, "POST / HTTP/1.1|Content-Length: 5, 5"),
    (400, "POST / HTTP/1.1|Content-Length: 5, 6"),
    (400, "POST / HTTP/1.1|Content-Length: 0|content-length: 44"),
    // Lengths that are none.
    (400, "POST / HTTP/1.1|Content-Length: +5"),
    (400, "POST / HTTP/1.1|Content-Length: -5"),
    (400, "POST / HTTP/1.1|Content-Length: 0x5"),
    (400, "POST / HTTP/1.1|Content-Length: 5.0"),
    (400, "POST / HTTP/1.1|Content-Length: 5 5"),
    (400, "POST / HTTP/1.1|Content-Length: 5;"),
    (400, "POST / HTTP/1.1|Content-Length: \"5\""),
    (400, "POST / HTTP/1.1|Content-Length: five"),
    (400, "POST / HTTP/1.1|Content-Length:"),
    (400, "POST / HTTP/1.1|Content-Length: ,"),
    (400, "POST / HTTP/1.1|Content-Length: 18446744073709551616"),
    (400, "POST / HTTP/1.1|Content-Length: 000000000000000000005"),
    (400, "POST / HTTP/1.1|Content-Length: 1e1"),
    (400, "POST / HTTP/1.1|Content-Length: 1_0"),
    // A length beside chunks.
    (400, "POST / HTTP/1.1|Content-Length: 5|Transfer-Encoding: chunked"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: chunked|Content-Length: 5"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: chunked|Content-Length: 0"),
    (400, "GET / HTTP/1.1|Content-Length: 0|Transfer-Encoding: chunked"),
    // Chunks that are not quite.
    (400, "POST / HTTP/1.1|Transfer-Encoding: chunked, chunked"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: chunked|Transfer-Encoding: chunked"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: chunked, identity"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: chunked|Transfer-Encoding: identity"),
    (501, "POST / HTTP/1.1|Transfer-Encoding: identity, chunked"),
    (501, "POST / HTTP/1.1|Transfer-Encoding: gzip, chunked"),
    (501, "POST / HTTP/1.1|Transfer-Encoding: identity"),
    (501, "POST / HTTP/1.1|Transfer-Encoding: xchunked"),
    (501, "POST / HTTP/1.1|Transfer-Encoding: chunke"),
    (501, "POST / HTTP/1.1|Transfer-Encoding: cow|Transfer-Encoding: chunked"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: chunked;q=1"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: \"chunked\""),
    (400, "POST / HTTP/1.1|Transfer-Encoding: chunked x"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: \u{b}chunked"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: chunked\u{0}"),
    (400, "POST / HTTP/1.1|Transfer-Encoding:"),
    (400, "POST / HTTP/1.1|Transfer-Encoding: ,"),
    (400, "POST / HTTP/1.0|Transfer-Encoding: chunked"),
    (400, "POST / HTTP/1.0|Transfer-Encoding: chunked|Content-Length: 5"),
    // Names that are not quite.
    (400, "POST / HTTP/1.1|Content-Length : 5"),
    (400, "POST / HTTP/1.1|Transfer-Encoding : chunked"),
    (400, "POST / HTTP/1.1|Transfer-Encoding\t: chunked"),
    (400, "POST / HTTP/1.1| Transfer-Encoding: chunked"),
    (400, "POST / HTTP/1.1|\tTransfer-Encoding: chunked"),
    (400, "POST / HTTP/1.1|X: y| Transfer-Encoding: chunked"),
    (400, "POST / HTTP/1.1|X: y|\tz"),
    (400, "POST / HTTP/1.1|Transfer Encoding: chunked"),
    (400, "POST / HTTP/1.1|Transfer-Encoding\u{0}: chunked"),
    (400, "POST / HTTP/1.1|: x"),
    (400, "POST / HTTP/1.1|X"),
    (400, "POST / HTTP/1.1|X y"),
    (400, "POST / HTTP/1.1|X(: y"),
    (400, "POST / HTTP/1.1|X\u{e9}: y"),
    (400, "POST / HTTP/1.1|\"X\": y"),
    // Line breaks.
    (400, "POST / HTTP/1.1|X: y\nContent-Length: 5"),
    (400, "POST / HTTP/1.1\nX: y"),
    (400, "POST / HTTP/1.1|X: y\rContent-Length: 5"),
    (400, "POST / HTTP/1.1|X: y\r\r"),
    (400, "POST / HTTP/1.1|X: y\n\nGET /b HTTP/1.1"),
    (400, "POST / HTTP/1.1\r"),
    (400, "POST /\r HTTP/1.1"),
    (400, "POST / HTTP/1.1|X: a\u{0}b"),
    (400, "POST / HTTP/1.1|X: a\u{7f}b"),
    (400, "POST / HTTP/1.1|X: a\u{8}b"),
    // Request lines.
    (400, "POST  / HTTP/1.1"),
    (400, "POST /  HTTP/1.1"),
    (400, "POST / HTTP/1.1 "),
    (400, " POST / HTTP/1.1"),
    (400, "POST\t/ HTTP/1.1"),
    (400, "POST /a b HTTP/1.1"),
    (400, "POST / http/1.1"),
    (400, "POST /"),
    (505, "POST / HTTP/2.0"),
    (505, "POST / HTTP/1.2"),
    (505, "POST / HTTP/0.9"),
    (400, "POST / HTTP/11"),
    (400, "P\u{0}ST / HTTP/1.1"),
    (400, "P{ST / HTTP/1.1"),
    // Targets.
    (400, "GET * HTTP/1.1"),
    (400, "GET a HTTP/1.1"),
    (400, "GET a.example/x HTTP/1.1"),
    (400, "GET /a#b HTTP/1.1"),
    (400, "GET /a\\b HTTP/1.1"),
    (400, "GET /\u{e9} HTTP/1.1"),
    (400, "GET http:///x HTTP/1.1"),
    (400, "GET http://u@b/ HTTP/1.1"),
    (400, "GET http://b:80:80/ HTTP/1.1"),
    (400, "GET ftp://b/ HTTP/1.1"),
    (400, "GET file:/etc/passwd HTTP/1.1"),
    (400, "CONNECT /x HTTP/1.1"),
    (400, "CONNECT b HTTP/1.1"),
    // Hosts.
    (400, "!GET / HTTP/1.1"),
    (400, "GET / HTTP/1.1|Host: b"),
    (400, "!GET / HTTP/1.1|Host: a|Host: a"),
    (400, "!GET / HTTP/1.1|Host: a b"),
    (400, "!GET / HTTP/1.1|Host: a/b"),
    (400, "!GET / HTTP/1.1|Host: u@a"),
    (400, "!GET / HTTP/1.1|Host: a:x"),
    (400, "!GET / HTTP/1.1|Host: [::1"),
    // Fields that Connection must not take away.
    (400, "GET / HTTP/1.1|Connection: Host"),
    (400, "POST / HTTP/1.1|Content-Length: 5|Connection: content-length"),
];

/// The message that an entry of the corpus is.
fn message(text: &str) -> String {
    let bare = text.trim_start_matches('!');
    let (line, rest) = bare.split_once('|').unwrap_or((bare, ""));
    let host = if text.starts_with('!') { "" } else { "Host: a\r\n" };
    let rest = if rest.is_empty() { String::new() } else { format!("{}\r\n", rest.replace('|', "\r\n")) };
    // A field before the host, where a folded line would be of the request line.
    format!("{line}\r\n{host}{rest}\r\n")
}
