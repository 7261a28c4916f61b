//! Messages that two programs may read differently, through a gate: a back end sees none of them, and nothing that was hidden in them.

use crate::{
    backend::{self, service},
    bed::{Gate, http, parse, raw},
};

include!("../../../http/src/tests/corpus.rs");

/// Bodies that do not end where one of two readers thinks; each hides a request for `/hidden`. `|` stands for CR LF.
const BODIES: [&str; 14] = [
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||5\n|GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||0\n\nGET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||0x3|abc|0||GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||+3|abc|0||GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||-1|abc|0||GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||ffffffffffffffff1|abc|0||GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3;\n|abc|0||GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3;a=\"|GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abcd|0||GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|ab|0||GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc\n0||GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||0|X: y\nGET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||0| X: y||GET /hidden HTTP/1.1|Host: a||",
    "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3 x|abc|0||GET /hidden HTTP/1.1|Host: a||",
];

/// Messages that are taken, and each is one to the back end as well: the status, and how often `/hidden` is asked for.
const TAKEN: [(&str, usize); 8] = [
    // It is a body.
    ("POST / HTTP/1.1|Host: a|Content-Length: 42||GET /hidden HTTP/1.1|Host: a|Xyzabc:||", 0),
    ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||2a|GET /hidden HTTP/1.1|Host: a|Xyzabc:|||0||", 0),
    ("GET / HTTP/1.1|Host: a|Content-Length: 42||GET /hidden HTTP/1.1|Host: a|Xyzabc:||", 0),
    // It is the next request.
    ("POST / HTTP/1.1|Host: a|Content-Length: 0||GET /hidden HTTP/1.1|Host: a||", 1),
    ("POST / HTTP/1.1|Host: a||GET /hidden HTTP/1.1|Host: a||", 1),
    ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||0||GET /hidden HTTP/1.1|Host: a||", 1),
    ("HEAD / HTTP/1.1|Host: a||GET /hidden HTTP/1.1|Host: a||", 1),
    // With an underscore it is another field, which says nothing of the body.
    ("POST / HTTP/1.1|Host: a|Content_Length: 30||GET /hidden HTTP/1.1|Host: a||", 1),
];

#[test]
fn nothing_is_smuggled() {
    let (at, recorded) = backend::http();
    let manifests = service("one", at) + &http("  - backendRefs: [{name: one, port: 8080}]\n");
    let gate = Gate::alone(&[("all.yaml", &manifests)], &["--workers", "1"]);
    let at = gate.at("edge", 80);
    let last = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (status, text) in REFUSED {
        let answer = raw(at, &format!("{}GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n{last}", message(text)));
        assert_eq!(parse(&answer).status, status, "{text}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{text}: {answer:?}");
    }
    let got = String::from_utf8_lossy(&recorded.lock().unwrap()).into_owned();
    assert_eq!(got, "", "nothing of them arrives");
    for text in BODIES {
        recorded.lock().unwrap().clear();
        let answer = raw(at, &(text.replace('|', "\r\n") + last));
        let got = String::from_utf8_lossy(&recorded.lock().unwrap()).into_owned();
        assert!(!got.contains("/hidden") && !got.contains("/last"), "{text}: {got}");
        assert!(!answer.contains("/hidden") && !answer.contains("HTTP/1.1 200"), "{text}: {answer:?}");
    }
    for (text, expected) in TAKEN {
        recorded.lock().unwrap().clear();
        let answer = raw(at, &(text.replace('|', "\r\n") + last));
        // The answers hold the heads of what the back end took for requests.
        let hidden = answer.matches("\r\n\r\nGET /hidden HTTP/1.1\r\n").count();
        assert_eq!((hidden, answer.matches("HTTP/1.1 200").count()), (expected, expected + 2), "{text}: {answer:?}");
        assert!(answer.contains("GET /last HTTP/1.1\r\n"), "{text}: {answer:?}");
    }
    assert!(REFUSED.len() + BODIES.len() + TAKEN.len() >= 80);
}
