//! What routes do to requests and responses, seen from outside.

use std::fmt::Write as _;

use crate::bed::{Answer, Gate, app, curl, http, parse, raw};

fn gate(rules: &str) -> Gate {
    let text = format!("{}{}{}", app("one"), app("two"), http(rules));
    Gate::of(&[("all.yaml", &text)])
}

const TO_ONE: &str = "    backendRefs: [{name: one, port: 8080}]\n";

/// Filters, by path: the request, and what must be seen.
#[test]
fn filters() {
    let rule = |path: &str, filter: &str, rest: &str| {
        format!("  - matches: [{{path: {{value: {path}}}}}]\n    filters: [{filter}]\n{rest}")
    };
    let rules = [
        rule("/full", "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /new}}}", TO_ONE),
        rule(
            "/prefix",
            "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /p}}}",
            TO_ONE,
        ),
        rule(
            "/strip",
            "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}",
            TO_ONE,
        ),
        rule("/host", "{type: URLRewrite, urlRewrite: {hostname: other.example}}", TO_ONE),
        rule(
            "/edited-host",
            "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: set.example}, {name: Content-Length, value: \"7\"}], add: [{name: Transfer-Encoding, value: chunked}]}}",
            TO_ONE,
        ),
        rule(
            "/redirect-path",
            "{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /to}, statusCode: 308}}",
            "",
        ),
        rule("/redirect-scheme", "{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}", ""),
        rule("/redirect-port", "{type: RequestRedirect, requestRedirect: {port: 8443, statusCode: 307}}", ""),
        rule(
            "/redirect-other",
            "{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 303}}",
            "",
        ),
        rule(
            "/response",
            "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-set, value: new}], add: [{name: x-add, value: more}], remove: [content-type]}}",
            TO_ONE,
        ),
        rule(
            "/cors",
            "{type: CORS, cors: {allowOrigins: [\"https://*.example.com\"], allowCredentials: true, allowMethods: [GET, PUT], allowHeaders: [x-a], exposeHeaders: [x-b], maxAge: 60}}",
            TO_ONE,
        ),
        rule("/unknown", "{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: f}}", TO_ONE),
    ];
    let gate = gate(&rules.concat());
    let at = gate.at("edge", 80);
    let ask = |path: &str, arguments: &[&str]| {
        curl(&[&["-H", "Host: shop.example"], arguments].concat(), &format!("http://{at}{path}"))
    };
    let arrived = [
        ("/full/x?a=b", "/new?a=b", "shop.example"),
        ("/prefix/x", "/p/x", "shop.example"),
        ("/prefix", "/p", "shop.example"),
        ("/prefix/", "/p/", "shop.example"),
        ("/strip/x", "/x", "shop.example"),
        ("/strip", "/", "shop.example"),
        ("/host/x", "/host/x", "other.example"),
        ("/edited-host", "/edited-host", "set.example"),
        ("/host/a/../x", "/host/x", "other.example"),
    ];
    for (path, target, host) in arrived {
        let echo = ask(path, &[]).echo();
        assert_eq!((echo["path"].as_str(), echo["host"].as_str()), (Some(target), Some(host)), "{path}: {echo}");
    }
    let redirected = [
        ("/redirect-path/x?q", 308, "http://shop.example/to/x?q"),
        ("/redirect-scheme/x", 301, "https://shop.example/redirect-scheme/x"),
        ("/redirect-port", 307, "http://shop.example:8443/redirect-port"),
        ("/redirect-other/x", 303, "http://example.org/redirect-other/x"),
    ];
    for (path, status, location) in redirected {
        let answer = ask(path, &[]);
        assert_eq!((answer.status, answer.header("location")), (status, Some(location)), "{path}");
    }
    let answer = ask("/response", &[]);
    assert_eq!((answer.header("x-set"), answer.header("x-add")), (Some("new"), Some("more")));
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(ask("/unknown", &[]).status, 500);
    cross_origin(&ask);
}

fn cross_origin(ask: &dyn Fn(&str, &[&str]) -> Answer) {
    let preflight = |origin: &str| {
        let origin = format!("Origin: {origin}");
        ask("/cors", &["-X", "OPTIONS", "-H", &origin, "-H", "Access-Control-Request-Method: PUT"])
    };
    let allowed = preflight("https://a.example.com");
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://a.example.com"));
    assert_eq!(allowed.header("access-control-allow-methods"), Some("GET, PUT"));
    assert_eq!(allowed.header("access-control-max-age"), Some("60"));
    assert_eq!(preflight("https://evil.example").header("access-control-allow-origin"), None);
    let simple = ask("/cors", &["-H", "Origin: https://a.example.com"]);
    assert_eq!(simple.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(simple.header("access-control-expose-headers"), Some("x-b"));
    assert_eq!(ask("/cors", &[]).header("access-control-allow-origin"), None);
}

/// A split of 1 to 99 is exact over any hundred requests of a connection, which one worker serves.
#[test]
fn weights() {
    let gate = gate("  - backendRefs: [{name: one, port: 8080, weight: 1}, {name: two, port: 8080, weight: 99}]\n");
    let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = raw(gate.at("edge", 80), &format!("{}{last}", one.repeat(199)));
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 200);
    let count = |pod: &str| answers.matches(&format!("\"pod\": \"{pod}\"")).count();
    assert_eq!((count("one-0"), count("two-0")), (2, 198), "{}", answers.chars().take(1000).collect::<String>());
}

/// Bodies arrive whole, whatever delimits them; what is malformed is refused and ends the connection.
#[test]
fn messages() {
    let gate = gate(&format!("  - matches: [{{path: {{value: /}}}}]\n{TO_ONE}"));
    let at = gate.at("edge", 80);
    let big = "x".repeat(300_000);
    let mut chunks = String::new();
    for part in big.as_bytes().chunks(7_000) {
        let _ = write!(chunks, "{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap());
    }
    let cases = [
        (
            "a body by length",
            format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{big}", big.len()),
            200,
        ),
        (
            "a body in chunks",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
            ),
            200,
        ),
        ("HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n".into(), 200),
        (
            "an expectation",
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nok"
                .into(),
            200,
        ),
        ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(), 400),
        (
            "a length and chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            400,
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("a target beyond the root", "GET /../x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".into(), 400),
        ("a head without end", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(70_000)), 431),
        ("a proxy's request", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n".into(), 404),
    ];
    for (name, request, status) in cases {
        assert_eq!(parse(&raw(at, &request)).status, status, "{name}");
    }
}

/// A back end without endpoints is a 503, a reference that leads nowhere a 500, a host or path without a route a 404.
#[test]
fn nowhere() {
    let rules = "  - matches: [{path: {value: /none}}]\n    backendRefs: [{name: none, port: 8080}]\n  - matches: [{path: {value: /empty}}]\n    backendRefs: [{name: empty, port: 8080}]\n";
    let empty = "apiVersion: v1\nkind: Service\nmetadata: {name: empty}\nspec: {selector: {app: nobody}, ports: [{port: 8080}]}\n---\n";
    let gate = Gate::of(&[("all.yaml", &format!("{empty}{}", http(rules)))]);
    let at = gate.at("edge", 80);
    for (path, status) in [("/none", 500), ("/empty", 503), ("/other", 404)] {
        assert_eq!(curl(&[], &format!("http://{at}{path}")).status, status, "{path}");
    }
    // The conditions tell why.
    let text = std::fs::read_to_string(&gate.status).unwrap();
    assert!(text.contains("reason: BackendNotFound"), "{text}");
}

/// A request that takes longer than its rule allows is answered with 504.
#[test]
fn timeouts() {
    let rules = format!(
        "  - matches: [{{path: {{value: /request}}}}]\n{TO_ONE}    timeouts: {{request: 200ms}}\n  - matches: [{{path: {{value: /backend}}}}]\n{TO_ONE}    timeouts: {{backendRequest: 200ms}}\n"
    );
    let gate = gate(&rules);
    let at = gate.at("edge", 80);
    for path in ["/request", "/backend"] {
        assert_eq!(curl(&[], &format!("http://{at}{path}?delay=5s")).status, 504, "{path}");
        assert_eq!(curl(&[], &format!("http://{at}{path}")).status, 200, "{path}");
    }
}
