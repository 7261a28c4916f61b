//! Which rule takes a request.

use strait_route::{Plan, Request, Serve};

use crate::bed::compiled;

/// A request in short: `METHOD host path?query`, and headers as they stand.
pub(crate) struct Asked<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: &'a [(&'a str, &'a str)],
}

impl<'a> Asked<'a> {
    pub(crate) fn new(line: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let (path, query) = words[2].split_once('?').map_or((words[2], None), |(path, query)| (path, Some(query)));
        Self { method: words[0], host: words[1], path, query, headers }
    }
}

impl Request for Asked<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &str {
        self.path
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }

    fn query(&self) -> Option<&str> {
        self.query
    }

    fn authority(&self) -> &'static str {
        ""
    }

    fn scheme(&self) -> &'static str {
        "http"
    }
}

/// The rule that takes a request to a port without TLS: namespace, name and rule of its route; empty for none.
pub(crate) fn taken(plan: &Plan, port: u16, asked: &Asked<'_>) -> String {
    let Some(port) = plan.ports.iter().find(|of| of.port == port) else { return String::new() };
    let Serve::Http(listeners) = &port.serve else { return String::new() };
    let table = listeners.find(asked.host).and_then(|listener| listener.hosts.find(asked.host));
    let rule = table.and_then(|table| table.find(asked));
    rule.map_or_else(String::new, |rule| {
        let name = &plan.rules.get(usize::try_from(rule).unwrap()).unwrap().name;
        name.strip_prefix("HTTPRoute/").unwrap_or(name).to_owned()
    })
}

type Header = (&'static str, &'static str);

/// Tries requests against one route whose rules, each with these matches, are named by their places.
#[track_caller]
fn check(rules: &[&str], cases: &[(&str, &[Header], &str)]) {
    let mut short = "Gateway d/g\nspec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}]}\n---\nHTTPRoute d/r\nspec:\n  parentRefs: [{name: g}]\n  rules:\n".to_owned();
    for rule in rules {
        short.push_str("  - matches: [");
        short.push_str(rule);
        short.push_str("]\n");
    }
    let plan = compiled(&short).plan;
    for (line, headers, expected) in cases {
        let found = taken(&plan, 80, &Asked::new(line, headers));
        let expected = if expected.is_empty() { String::new() } else { format!("d/r/{expected}") };
        assert_eq!(found, expected, "{line} {headers:?}");
    }
}

#[test]
fn paths() {
    check(
        &[
            "{path: {type: PathPrefix, value: /}}",
            "{path: {type: PathPrefix, value: /a}}",
            "{path: {type: PathPrefix, value: /a/b/}}",
            "{path: {type: Exact, value: /a/b}}",
            "{path: {type: Exact, value: /a/}}",
            "{path: {type: RegularExpression, value: '/a/[0-9]+'}}",
            "{path: {type: RegularExpression, value: '/a/[0-9]+/x'}}",
            "{path: {type: Exact, value: /a/7}}",
        ],
        &[
            ("GET h /", &[], "0"),
            ("GET h /ab", &[], "0"),
            ("GET h /A", &[], "0"),
            ("GET h /a", &[], "1"),
            ("GET h /a/", &[], "4"),
            ("GET h /a/c", &[], "1"),
            ("GET h /a//", &[], "1"),
            ("GET h /a/b", &[], "3"),
            ("GET h /a/b/", &[], "2"),
            ("GET h /a/b/c/d", &[], "2"),
            ("GET h /a/bc", &[], "1"),
            ("GET h /a/12", &[], "5"),
            ("GET h /a/12/x", &[], "6"),
            ("GET h /a/12/y", &[], "1"),
            ("GET h /x/a/12", &[], "0"),
            ("GET h /a/7", &[], "7"),
            ("OPTIONS h *", &[], ""),
        ],
    );
}

/// A longer path whose other conditions fail leaves the request to a shorter one.
#[test]
fn falls_back() {
    check(
        &[
            "{path: {type: Exact, value: /a/b}, method: POST}",
            "{path: {type: RegularExpression, value: '/a/.*'}, headers: [{name: v, value: '1'}]}",
            "{path: {type: PathPrefix, value: /a/b}, method: PUT}",
            "{path: {type: PathPrefix, value: /a}, queryParams: [{name: q, value: '1'}]}",
        ],
        &[
            ("POST h /a/b", &[], "0"),
            ("GET h /a/b", &[("v", "1")], "1"),
            ("PUT h /a/b", &[], "2"),
            ("GET h /a/b?q=1", &[], "3"),
            ("GET h /a/b", &[], ""),
        ],
    );
}

/// On one path: a method, then more headers, then more parameters, then the earlier rule.
#[test]
fn precedence() {
    check(
        &[
            "{queryParams: [{name: a, value: '1'}, {name: b, value: '1'}]}",
            "{headers: [{name: one, value: '1'}]}",
            "{headers: [{name: one, value: '1'}], queryParams: [{name: a, value: '1'}]}",
            "{headers: [{name: one, value: '1'}, {name: two, value: '2'}]}",
            "{method: GET}",
            "{headers: [{name: three, value: '1'}]}",
            "{queryParams: [{name: a, value: '1'}]}",
        ],
        &[
            ("GET h /", &[("one", "1"), ("two", "2")], "4"),
            ("POST h /", &[("one", "1"), ("two", "2")], "3"),
            ("POST h /?a=1", &[("one", "1"), ("two", "2")], "3"),
            ("POST h /?a=1&b=1", &[("one", "1")], "2"),
            ("POST h /", &[("one", "1"), ("three", "1")], "1"),
            ("POST h /", &[("three", "1")], "5"),
            ("POST h /?a=1&b=1", &[], "0"),
            ("POST h /?a=1", &[], "6"),
            ("POST h /", &[], ""),
            ("get h /", &[], ""),
        ],
    );
}

#[test]
fn headers() {
    check(
        &[
            "{headers: [{name: X-Version, value: one}]}",
            "{headers: [{name: list, value: 'a,b,c'}]}",
            "{headers: [{name: re, type: RegularExpression, value: 'v[0-9]'}]}",
            "{headers: [{name: twice, value: a}, {name: TWICE, value: b}]}",
        ],
        &[
            ("GET h /", &[("x-version", "one")], "0"),
            ("GET h /", &[("X-VERSION", "one")], "0"),
            ("GET h /", &[("x-version", "One")], ""),
            ("GET h /", &[("x-version", "one"), ("x-version", "two")], ""),
            ("GET h /", &[("list", "a"), ("list", "b"), ("list", "c")], "1"),
            ("GET h /", &[("list", "a,b,c")], "1"),
            ("GET h /", &[("list", "a"), ("list", "b")], ""),
            ("GET h /", &[("re", "v1")], "2"),
            ("GET h /", &[("re", "v12")], ""),
            ("GET h /", &[("re", "xv1")], ""),
            ("GET h /", &[("twice", "a")], "3"),
            ("GET h /", &[("twice", "b")], ""),
        ],
    );
}

#[test]
fn queries() {
    check(
        &[
            "{queryParams: [{name: a, value: 'x y'}]}",
            "{queryParams: [{name: 'k&', value: 'ä'}]}",
            "{queryParams: [{name: re, type: RegularExpression, value: 'v[0-9]'}]}",
            "{queryParams: [{name: A, value: upper}]}",
            "{queryParams: [{name: pct, value: '%zz'}]}",
        ],
        &[
            ("GET h /?a=x+y", &[], "0"),
            ("GET h /?a=x%20y", &[], "0"),
            ("GET h /?b=1&a=x%20y&c", &[], "0"),
            ("GET h /?a=other&a=x+y", &[], ""),
            ("GET h /?k%26=%C3%A4", &[], "1"),
            ("GET h /?%6b%26=%c3%a4", &[], "1"),
            ("GET h /?re=v1", &[], "2"),
            ("GET h /?re=v12", &[], ""),
            ("GET h /?A=upper", &[], "3"),
            ("GET h /?a=upper", &[], ""),
            ("GET h /?pct=%zz", &[], "4"),
            ("GET h /?a", &[], ""),
            ("GET h /", &[], ""),
        ],
    );
}
