//! What Istio's routes do to the requests that they take.

use strait_route::{Abort, Filter, Lost, PathRewrite, Retry};

use crate::istio::{Asked, WEB, compiled, only, routed, rule};

/// What becomes of a path.
#[test]
fn rewrites() {
    let cases = [
        ("match: [{uri: {prefix: /a}}], rewrite: {uri: /b}", "/a/c", "/b/c"),
        ("match: [{uri: {prefix: /a}}], rewrite: {uri: /b}", "/abc", "/bbc"),
        ("match: [{uri: {prefix: /a/}}], rewrite: {uri: /}", "/a/c", "/c"),
        ("match: [{uri: {prefix: /A}, ignoreUriCase: true}], rewrite: {uri: /b}", "/a/c", "/b/c"),
        ("match: [{uri: {exact: /a}}], rewrite: {uri: /b}", "/a", "/b"),
        ("match: [{uri: {regex: '/a.*'}}], rewrite: {uri: /b}", "/a/c", "/b"),
        ("rewrite: {uri: /b/}", "/a", "/b/a"),
        (
            "rewrite: {uriRegexRewrite: {match: '^/service/([^/]+)(/.*)$', rewrite: '\\2/instance/\\1'}}",
            "/service/foo/v1/api",
            "/v1/api/instance/foo",
        ),
        ("rewrite: {uriRegexRewrite: {match: one, rewrite: two}}", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
        (
            "rewrite: {uriRegexRewrite: {match: '^(.*?)one(.*)$', rewrite: '\\1two\\2'}}",
            "/xxx/one/yyy/one/zzz",
            "/xxx/two/yyy/one/zzz",
        ),
        ("rewrite: {uriRegexRewrite: {match: '(?i)/xxx/', rewrite: /yyy/}}", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
        ("rewrite: {uriRegexRewrite: {match: '^/a$', rewrite: b}}", "/a", "/b"),
        ("rewrite: {uriRegexRewrite: {match: '/q', rewrite: '\\\\'}}", "/q/a", "/\\/a"),
        ("rewrite: {uriRegexRewrite: {match: '/q'}}", "/q/a", "/a"),
    ];
    for (of, path, expected) in cases {
        let compiled = compiled(&routed(&format!("{{{of}, {WEB}}}")));
        let id = rule(&compiled, 80, &Asked::new(&format!("h{path}"))).unwrap() as usize;
        let [Filter::Rewrite(rewrite)] = compiled.plan.rules.get(id).unwrap().filters.as_slice() else {
            panic!("{of}")
        };
        let mut out = "something before".to_owned();
        rewrite.path.as_ref().unwrap().apply(path, &mut out);
        assert_eq!(out, expected, "{of}");
    }
    // Each match has its own prefix.
    let both = compiled(&routed(&format!(
        "{{match: [{{uri: {{prefix: /a}}}}, {{uri: {{prefix: /long}}}}], rewrite: {{uri: /b}}, {WEB}}}"
    )));
    for (path, expected) in [("/a/c", 2), ("/long/c", 5)] {
        let id = rule(&both, 80, &Asked::new(&format!("h{path}"))).unwrap() as usize;
        let [Filter::Rewrite(rewrite)] = both.plan.rules.get(id).unwrap().filters.as_slice() else { unreachable!() };
        assert_eq!(rewrite.path, Some(PathRewrite::Start { length: expected, with: "/b".into() }));
    }
}

/// A rewrite that would grow without end is cut off.
#[test]
fn rewrites_are_bounded() {
    let long = "x".repeat(4000);
    let (compiled, id) = only(&format!("{{rewrite: {{uriRegexRewrite: {{match: a, rewrite: {long}}}}}, {WEB}}}"));
    let [Filter::Rewrite(rewrite)] = compiled.plan.rules.get(id).unwrap().filters.as_slice() else { unreachable!() };
    let mut out = String::new();
    rewrite.path.as_ref().unwrap().apply(&format!("/{}", "a".repeat(8000)), &mut out);
    assert!(out.len() < 100_000, "{}", out.len());
}

/// Everything else of a route, as filters.
#[test]
fn filters() {
    let cases: [(&str, &[&str]); 17] = [
        ("redirect: {uri: /a}", &["Redirect", "Full(\"/a\")", "port: Kept", "status: 301"]),
        ("redirect: {authority: b, redirectCode: 302}", &["hostname: Some(\"b\")", "status: 302"]),
        ("redirect: {scheme: https, port: 8443}", &["scheme: Some(\"https\")", "port: Number(8443)"]),
        ("redirect: {derivePort: FROM_PROTOCOL_DEFAULT}", &["port: Scheme"]),
        ("redirect: {derivePort: FROM_REQUEST_PORT}", &["port: Request"]),
        ("match: [{uri: {prefix: /}}], redirect: {prefixRewrite: /b}", &["Start { length: 1, with: \"/b\" }"]),
        ("directResponse: {status: 503}", &["Direct { status: 503, body: [] }"]),
        ("directResponse: {status: 200, body: {string: hi}}", &["Direct { status: 200, body: [104, 105] }"]),
        (
            "directResponse: {status: 200, body: {bytes: AAE=}}, headers: {response: {set: {a: b}}}",
            &["body: [0, 1]", "ResponseHeaders(Edits { set: [(\"a\", \"b\")]"],
        ),
        (
            "fault: {delay: {fixedDelay: 2s, percentage: {value: 50}}}, route: [{destination: {host: web}}]",
            &["delay: Some((2s, (500000, 1000000)))", "abort: None"],
        ),
        (
            "fault: {delay: {fixedDelay: 9h, percentage: {value: 1}}}, route: [{destination: {host: web}}]",
            &["delay: Some((3600s,"],
        ),
        (
            "fault: {abort: {httpStatus: 503, percentage: {value: 0.1}}}, route: [{destination: {host: web}}]",
            &["abort: Some((Http(503), (1000, 1000000)))"],
        ),
        (
            "fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}, route: [{destination: {host: web}}]",
            &["abort: Some((Grpc(14), (1000000, 1000000)))"],
        ),
        (
            "mirror: {host: api}, mirrorPercentage: {value: 10}, route: [{destination: {host: web}}]",
            &["Mirror { backend: Some(0), fraction: (100000, 1000000), shadow: true }"],
        ),
        (
            "mirrors: [{destination: {host: api}}, {destination: {host: web}}], route: [{destination: {host: web}}]",
            &["backend: Some(0)", "backend: Some(1)"],
        ),
        (
            "corsPolicy: {allowOrigins: [{exact: 'https://a'}], allowMethods: [GET, PUT], allowHeaders: [x], exposeHeaders: [z], maxAge: 1h, allowCredentials: true}, route: [{destination: {host: web}}]",
            &[
                "origins: [Exact(\"https://a\")]",
                "methods: Some(\"GET,PUT\")",
                "headers: Some(\"x\")",
                "expose: Some(\"z\")",
                "max_age: Some(\"3600\")",
                "credentials: true, forward_unmatched: true",
            ],
        ),
        (
            "corsPolicy: {allowOrigins: [{prefix: 'https://'}], unmatchedPreflights: IGNORE}, route: [{destination: {host: web}}]",
            &["Prefix(\"https://\")", "forward_unmatched: false"],
        ),
    ];
    for (of, expected) in cases {
        let (compiled, id) = only(&format!("{{{of}}}"));
        let found = format!("{:?}", compiled.plan.rules.get(id).unwrap().filters);
        for part in expected {
            assert!(found.contains(part), "{of}: {part} in {found}");
        }
    }
}

/// Edits of the route are laid over those of the destination; the authority is the host.
#[test]
fn headers() {
    let (compiled, id) = only(
        "{headers: {request: {set: {a: route, ':authority': inner.example}, add: {b: c}, remove: [d]}, response: {remove: [e]}}, \
         route: [{destination: {host: web}, headers: {request: {set: {a: destination}}}}]}",
    );
    let rule = compiled.plan.rules.get(id).unwrap();
    assert!(rule.filters.is_empty(), "{:?}", rule.filters);
    let found = format!("{:?}", rule.split.targets[0].filters);
    let places: Vec<usize> = ["\"destination\"", "inner.example", "\"route\"", "ResponseHeaders"]
        .iter()
        .map(|part| found.find(part).unwrap_or_else(|| panic!("{part} in {found}")))
        .collect();
    assert!(places.is_sorted(), "{found}");
}

#[test]
fn times_and_retries() {
    let seconds = |seconds| Some(std::time::Duration::from_secs(seconds));
    let fault = "fault: {abort: {httpStatus: 500, percentage: {value: 1}}}";
    for (of, whole, attempt, attempts) in [
        ("timeout: 5s", seconds(5), None, Some(2)),
        ("timeout: 0s", None, None, Some(2)),
        ("retries: {attempts: 0}", None, None, None),
        ("retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx,503'}", None, seconds(2), Some(3)),
        (&format!("timeout: 5s, retries: {{attempts: 3}}, {fault}"), None, None, None),
    ] {
        let (compiled, id) = only(&format!("{{{of}, {WEB}}}"));
        let rule = compiled.plan.rules.get(id).unwrap();
        assert_eq!((rule.request_timeout, rule.backend_request_timeout), (whole, attempt), "{of}");
        assert_eq!(rule.retry.as_ref().map(|retry| retry.attempts), attempts, "{of}");
    }
    for (on, not_sent, lost, codes) in [
        ("", true, Lost::Never, &[][..]),
        ("gateway-error", true, Lost::Always, &[502, 503, 504]),
        ("reset,409", true, Lost::Always, &[409]),
        ("connect-failure,retriable-4xx,503", true, Lost::Never, &[409, 503]),
        ("503", false, Lost::Never, &[503]),
    ] {
        let (compiled, id) = only(&format!("{{retries: {{attempts: 3, retryOn: '{on}', backoff: 1s}}, {WEB}}}"));
        let retry = compiled.plan.rules.get(id).unwrap().retry.clone().unwrap();
        let backoff = std::time::Duration::from_secs(1);
        assert_eq!(retry, Retry { codes: codes.to_vec(), not_sent, lost, attempts: 3, backoff }, "{on}");
    }
    let (compiled, id) = only(&format!("{{{fault}, {WEB}}}"));
    let [Filter::Fault(of)] = compiled.plan.rules.get(id).unwrap().filters.as_slice() else { unreachable!() };
    assert_eq!(of.abort, Some((Abort::Http(500), (10_000, 1_000_000))));
}
