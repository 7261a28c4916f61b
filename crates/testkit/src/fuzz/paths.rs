//! Paths: their one spelling, and which rule takes them, beside the specification's order applied to every rule.

use std::sync::Arc;

use strait_http::normalize;
use strait_route::{Candidate, Path, PathTable, Request, Value};

use crate::draw::Draw;

/// Parts that paths of requests and rules are put together from.
const PARTS: [&str; 16] =
    ["/", "/a", "/b", "/ab", "/a/b", "/..", "/.", "//", "%2e", "%2F", "%61", "%", "%zz", "/A", ";x", "~"];

struct Asked {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    query: Option<&'static str>,
}

impl Request for Asked {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(other, _)| *other == name).map(|(_, value)| value.as_bytes())
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

/// Bytes choose a path, and rules.
pub(super) fn run(bytes: &[u8]) {
    let mut room = Vec::new();
    // The codec takes no other targets as paths.
    if bytes.starts_with(b"/")
        && let Ok(changed) = normalize(bytes, &mut room)
    {
        let normal = if changed { room.clone() } else { bytes.to_vec() };
        spelled_once(&normal);
    }
    let mut draw = Draw::of_bytes(bytes);
    let path = path(&mut draw);
    let Ok(changed) = normalize(path.as_bytes(), &mut room) else { return };
    let path = if changed { String::from_utf8_lossy(&room).into_owned() } else { path };
    spelled_once(path.as_bytes());
    matched(&mut draw, path);
}

/// A spelling that is left alone, and that no other reader takes for another path.
fn spelled_once(path: &[u8]) {
    let mut again = Vec::new();
    let changed = normalize(path, &mut again);
    assert!(changed.is_ok(), "{:?} is refused after it was accepted: {changed:?}", text(path));
    assert!(changed != Ok(true) || again == path, "{:?} is spelled {:?}", text(path), text(&again));
    let elements: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    assert!(!elements.iter().any(|element| matches!(*element, b"." | b"..")), "{:?}", text(path));
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn path(draw: &mut Draw) -> String {
    let parts = draw.weighted(&[(2, 1), (4, 2), (4, 3), (1, 6)]);
    let path: String = (0..parts).map(|_| *draw.pick(&PARTS)).collect();
    if path.starts_with('/') { path } else { format!("/{path}") }
}

/// A rule, written down beside the table.
struct Written {
    exact: bool,
    path: String,
    candidate: Candidate,
}

fn matched(draw: &mut Draw, path: String) {
    const PATHS: [&str; 8] = ["/", "/a", "/a/", "/a/b", "/b", "/ab", "/a/b/a", "/A"];
    const METHODS: [&str; 2] = ["GET", "POST"];
    let mut table = PathTable::default();
    let mut written = Vec::new();
    for index in 0..draw.weighted(&[(1, 0), (4, 2), (4, 4), (2, 8)]) {
        let index = u32::try_from(index).unwrap_or_default();
        let exact = draw.chance(40);
        let of = *draw.pick(&PATHS);
        let mut pairs = |most: usize| -> Vec<(Arc<str>, Value)> {
            let count = draw.weighted(&[(6, 0), (2, 1), (1, most)]);
            let names = ["x", "y"];
            (0..count).map(|at| (names[at].into(), Value::Exact((*draw.pick(&["1", "2"])).into()))).collect()
        };
        let (headers, query) = (pairs(2), pairs(2));
        let method = draw.chance(30).then(|| Arc::from(*draw.pick(&METHODS)));
        let created = i64::from(draw.chance(50));
        let name: Arc<str> = (*draw.pick(&["d/a", "d/b"])).into();
        let candidate = Candidate { rule: index, method, headers, query, rank: (created, name, index, index) };
        let path = if exact { Path::Exact(of.into()) } else { Path::Prefix(of.into()) };
        table.insert(&path, candidate.clone());
        written.push(Written { exact, path: of.to_owned(), candidate });
    }
    let method = *draw.pick(&METHODS);
    let asked = Asked {
        method,
        path,
        headers: [("x", "1"), ("y", "2")].into_iter().filter(|_| draw.chance(60)).collect(),
        query: *draw.pick(&[None, Some(""), Some("x=1"), Some("y=2&x=2"), Some("x=1&x=2&y=1")]),
    };
    let mut taking: Vec<&Written> = written.iter().filter(|of| takes(of, &asked)).collect();
    taking.sort_by_key(|of| order(of));
    let expected = taking.first().map(|of| of.candidate.rule);
    assert_eq!(table.find(&asked), expected, "{} {}", asked.method, asked.path);
}

/// The specification's order, the first the smallest.
fn order(of: &Written) -> impl Ord {
    use std::cmp::Reverse;
    let Candidate { method, headers, query, rank, .. } = &of.candidate;
    let length = of.path.trim_end_matches('/').len();
    (
        !of.exact,
        if of.exact { Reverse(0) } else { Reverse(length) },
        method.is_none(),
        Reverse(headers.len()),
        Reverse(query.len()),
        (rank.0, rank.1.to_string(), rank.2, rank.3),
    )
}

fn takes(of: &Written, asked: &Asked) -> bool {
    let Candidate { method, headers, query, .. } = &of.candidate;
    let path = if of.exact {
        of.path == asked.path
    } else {
        let prefix: Vec<&str> = of.path.trim_end_matches('/').split('/').collect();
        let elements: Vec<&str> = asked.path.split('/').collect();
        elements.starts_with(&prefix)
    };
    let is = |value: &Value, found: &str| matches!(value, Value::Exact(text) if **text == *found);
    let header = |(name, value): &(Arc<str>, Value)| {
        asked.headers.iter().any(|(other, found)| **name == **other && is(value, found))
    };
    let parameter = |(name, value): &(Arc<str>, Value)| {
        let mut pairs = asked.query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(other, _)| **name == **other).is_some_and(|(_, found)| is(value, found))
    };
    path && method.as_deref().is_none_or(|method| method == asked.method)
        && headers.iter().all(header)
        && query.iter().all(parameter)
}
