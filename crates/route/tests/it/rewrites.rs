//! The specification's table of what becomes of a path whose prefix is replaced.

use strait_route::{Filter, PathRewrite};

use crate::bed::compiled;

/// Path, prefix that is matched, what comes in its place, and what comes of it. The last two have a root, which the table leaves out.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
    ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
    ("/foo", "/foo", "/xyz", "/xyz"),
    ("/foo/", "/foo", "/xyz", "/xyz/"),
    ("/foo/bar", "/foo", "", "/bar"),
    ("/foo/", "/foo", "", "/"),
    ("/foo", "/foo", "", "/"),
    ("/foo/", "/foo", "/", "/"),
    ("/foo", "/foo", "/", "/"),
    ("/foo", "/foo/", "/xyz", "/xyz"),
    ("/bar", "/", "/xyz", "/xyz/bar"),
    ("/", "/", "/xyz", "/xyz/"),
];

#[test]
fn replaced_prefixes() {
    for (path, prefix, with, expected) in TABLE {
        let objects = format!(
            r"Gateway d/g
spec: {{gatewayClassName: strait, listeners: [{{name: web, port: 80, protocol: HTTP}}]}}
---
HTTPRoute d/r
spec:
  parentRefs: [{{name: g}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}]
    filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{with}'}}}}}}]"
        );
        let compiled = compiled(&objects);
        let [Filter::Rewrite(rewrite)] = compiled.plan.rules.get(0).unwrap().filters.as_slice() else { unreachable!() };
        let mut out = "something before".to_owned();
        rewrite.path.as_ref().unwrap().apply(path, &mut out);
        assert_eq!(out, *expected, "{path}: {prefix} becomes {with}");
    }
}

#[test]
fn replaced_as_a_whole() {
    for (with, expected) in [("/a", "/a"), ("/a/", "/a/"), ("/", "/"), ("", "/")] {
        let mut out = String::new();
        PathRewrite::Full(with.into()).apply("/foo/bar", &mut out);
        assert_eq!(out, expected);
    }
}
