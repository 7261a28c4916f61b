//! Which rule takes a request.
//!
//! Precedence is the specification's: an exact path, then a regular expression (the longest first, which the specification leaves open),
//! then the longest prefix; among those a method, then more header matches, then more query matches, then the older route, then the
//! name, then the earlier rule. Calls are matched by the length of their service, then of their method, then by header matches.

use std::sync::Arc;

use regex::bytes::Regex;

use crate::{plan::RuleId, table::Table};

/// What is asked of a request to find its rule.
pub trait Request {
    /// The method.
    fn method(&self) -> &str;
    /// The path in its normal form, without the query.
    fn path(&self) -> &str;
    /// The values of a header, whose name is in small letters, in order.
    fn header(&self, name: &str) -> impl Iterator<Item = &[u8]>;
    /// The query without `?`.
    fn query(&self) -> Option<&str>;
    /// The host that was asked, with its port where one is given.
    fn authority(&self) -> &str;
    /// `http` or `https`.
    fn scheme(&self) -> &str;
}

/// The rules of all routes for one host.
#[derive(Clone, Debug, Default)]
pub struct PathTable {
    exact: Table<Vec<Candidate>>,
    /// By the prefix without the slash at its end; the root is empty.
    prefixes: Table<Vec<Candidate>>,
    /// Bytes of the longest of them.
    longest: usize,
    regexes: Vec<(Regex, Candidate)>,
    /// Whether prefixes other than the root come before expressions: so it is for calls, whose service counts before their method.
    services_first: bool,
    sorted: bool,
}

/// A match of a rule.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The rule.
    pub rule: RuleId,
    /// The method, if it matters.
    pub method: Option<Arc<str>>,
    /// Headers, by name in small letters.
    pub headers: Vec<(Arc<str>, Value)>,
    /// Query parameters by name.
    pub query: Vec<(Arc<str>, Value)>,
    /// Rank among matches that are otherwise alike: age and name of the route, then place of rule and match. Lower wins.
    pub rank: (i64, Arc<str>, u32, u32),
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum Value {
    /// Exactly this.
    Exact(Arc<str>),
    /// All of it matches.
    Regex(Regex),
}

impl Value {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// How a path is matched.
#[derive(Clone, Debug)]
pub enum Path {
    /// The path is this one.
    Exact(Arc<str>),
    /// The path is this one or below it, by elements.
    Prefix(Arc<str>),
    /// All of the path matches.
    Regex(Regex),
}

/// A regular expression that a whole value must match. The program that it becomes is bounded.
///
/// # Errors
/// What is wrong with it, for people.
pub fn whole(pattern: &str) -> Result<Regex, String> {
    const PROGRAM: usize = 1 << 20;
    let anchored = format!("^(?:{pattern})$");
    let built = regex::bytes::RegexBuilder::new(&anchored).size_limit(PROGRAM).dfa_size_limit(PROGRAM).build();
    built.map_err(|error| {
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            return "the regular expression is too large".to_owned();
        }
        error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

impl PathTable {
    /// Adds a match.
    pub fn insert(&mut self, path: Path, candidate: Candidate) {
        self.sorted = false;
        match path {
            Path::Exact(path) => self.exact.entry(path).or_default().push(candidate),
            Path::Prefix(prefix) => {
                let prefix = prefix.strip_suffix('/').map_or(Arc::clone(&prefix), Arc::from);
                self.longest = self.longest.max(prefix.len());
                self.prefixes.entry(prefix).or_default().push(candidate);
            }
            Path::Regex(regex) => self.regexes.push((regex, candidate)),
        }
    }

    /// Brings what was added into the order in which it is tried. To be called once before [`PathTable::find`].
    pub fn sort(&mut self) {
        let lists = self.exact.values_mut().chain(self.prefixes.values_mut());
        lists.for_each(|list| list.sort_by(|a, b| a.order().cmp(&b.order())));
        let length = |regex: &Regex| std::cmp::Reverse(regex.as_str().len());
        self.regexes.sort_by(|(a, x), (b, y)| (length(a), x.order()).cmp(&(length(b), y.order())));
        self.sorted = true;
    }

    /// The rule that takes the request.
    pub fn find(&self, request: &impl Request) -> Option<RuleId> {
        debug_assert!(self.sorted, "a table is sorted before it is asked");
        let path = request.path();
        if let Some(rule) = self.exact.get(path).and_then(|list| first(list, request)) {
            return Some(rule);
        }
        if self.services_first {
            let below = self.by_prefix(path, request, true);
            return below.or_else(|| self.by_regex(path, request)).or_else(|| self.by_prefix("", request, false));
        }
        self.by_regex(path, request).or_else(|| self.by_prefix(path, request, false))
    }

    fn by_regex(&self, path: &str, request: &impl Request) -> Option<RuleId> {
        let mut regexes = self.regexes.iter().filter(|(regex, _)| regex.is_match(path.as_bytes()));
        regexes.find(|(_, candidate)| candidate.takes(request)).map(|(_, candidate)| candidate.rule)
    }

    fn by_prefix(&self, path: &str, request: &impl Request, below_root: bool) -> Option<RuleId> {
        if self.prefixes.is_empty() {
            return None;
        }
        // The path itself, then what is before each of its slashes, from the last one on.
        let mut prefix = path.strip_suffix('/').unwrap_or(path);
        while !(below_root && prefix.is_empty()) {
            if let Some(rule) = self.prefixes.get(prefix).and_then(|list| first(list, request)) {
                return Some(rule);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
        None
    }

    /// Orders matches as a `GRPCRoute` has them: service, then method, then headers.
    pub fn put_services_first(&mut self) {
        self.services_first = true;
    }

    /// All matches, in no particular order.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        let lists = self.exact.values().chain(self.prefixes.values()).flatten();
        lists.chain(self.regexes.iter().map(|(_, candidate)| candidate))
    }
}

fn first(list: &[Candidate], request: &impl Request) -> Option<RuleId> {
    list.iter().find(|candidate| candidate.takes(request)).map(|candidate| candidate.rule)
}

impl Candidate {
    fn order(&self) -> impl Ord + '_ {
        let more = std::cmp::Reverse;
        (self.method.is_none(), more(self.headers.len()), more(self.query.len()), &self.rank)
    }

    fn takes(&self, request: &impl Request) -> bool {
        self.method.as_deref().is_none_or(|method| method == request.method())
            && self.headers.iter().all(|(name, value)| joined(request, name, |found| value.matches(found)))
            && self.query.iter().all(|(name, value)| parameter(request.query(), name, |found| value.matches(found)))
    }
}

/// Several fields of a name are one value with commas between (RFC 9110, 5.3).
pub(crate) fn joined(request: &impl Request, name: &str, matches: impl Fn(&[u8]) -> bool) -> bool {
    let mut values = request.header(name);
    let Some(first) = values.next() else { return false };
    let Some(second) = values.next() else { return matches(first) };
    let mut all = [first, second].join(&b","[..]);
    for next in values {
        all.push(b',');
        all.extend_from_slice(next);
    }
    matches(&all)
}

/// Of several parameters of a name the first counts, as the specification recommends.
pub(crate) fn parameter(query: Option<&str>, name: &str, matches: impl Fn(&[u8]) -> bool) -> bool {
    let mut pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| decoded(key) == name.as_bytes()).is_some_and(|(_, found)| matches(&decoded(found)))
}

/// A part of a query as the form encoding reads it. What is no escape stands for itself.
fn decoded(text: &str) -> std::borrow::Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return text.as_bytes().into();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high << 4 | low).unwrap_or_default());
                at += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out.into()
}
