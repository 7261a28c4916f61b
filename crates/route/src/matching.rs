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
///
/// What is in it is in the order in which it is tried.
#[derive(Clone, Debug, Default)]
pub struct PathTable {
    exact: Table<Vec<Candidate>>,
    /// By the prefix without the slash at its end; the root is empty.
    prefixes: Table<Vec<Candidate>>,
    regexes: Arc<Vec<(Regex, Candidate)>>,
    /// How many routes have the host, whether they have matches or not.
    routes: u32,
    /// Those of them that are of calls. With one, prefixes other than the root come before expressions: a call's service counts before its
    /// method.
    of_calls: u32,
}

/// Where a match is in a table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Spot {
    Exact(Arc<str>),
    /// As tables have it.
    Prefix(Arc<str>),
    Regex,
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

impl Path {
    pub(crate) fn spot(&self) -> Spot {
        match self {
            Self::Exact(path) => Spot::Exact(Arc::clone(path)),
            Self::Prefix(prefix) => Spot::Prefix(prefix.strip_suffix('/').map_or(Arc::clone(prefix), Arc::from)),
            Self::Regex(_) => Spot::Regex,
        }
    }
}

impl PathTable {
    /// Adds a match.
    pub fn insert(&mut self, path: &Path, candidate: Candidate) {
        let list = match (path.spot(), path) {
            (Spot::Exact(path), _) => self.exact.or_insert_with(&path, Vec::new),
            (Spot::Prefix(prefix), _) => self.prefixes.or_insert_with(&prefix, Vec::new),
            (Spot::Regex, Path::Regex(regex)) => {
                let order = |regex: &Regex, candidate: &Candidate, of: &(Regex, Candidate)| {
                    let longer = of.0.as_str().len().cmp(&regex.as_str().len());
                    longer.then_with(|| candidate.order().cmp(&of.1.order()))
                };
                let all = Arc::make_mut(&mut self.regexes);
                let at = all.partition_point(|of| order(regex, &candidate, of).is_ge());
                all.insert(at, (regex.clone(), candidate));
                return;
            }
            (Spot::Regex, Path::Exact(_) | Path::Prefix(_)) => return,
        };
        let at = list.partition_point(|of| of.order() <= candidate.order());
        // Most lists have one.
        if list.len() == list.capacity() {
            list.reserve_exact(list.len().max(1));
        }
        list.insert(at, candidate);
    }

    /// Takes the matches of some rules out of a place.
    pub(crate) fn remove(&mut self, spot: &Spot, is_of: impl Fn(RuleId) -> bool) {
        let (table, path) = match spot {
            Spot::Exact(path) => (&mut self.exact, path),
            Spot::Prefix(prefix) => (&mut self.prefixes, prefix),
            Spot::Regex => {
                Arc::make_mut(&mut self.regexes).retain(|(_, candidate)| !is_of(candidate.rule));
                return;
            }
        };
        let Some(list) = table.get_mut(path) else { return };
        list.retain(|candidate| !is_of(candidate.rule));
        if list.is_empty() {
            table.remove(path);
        }
    }

    /// A route has the host, one of calls or another.
    pub(crate) const fn attach(&mut self, of_calls: bool) {
        self.routes += 1;
        self.of_calls += of_calls as u32;
    }

    /// A route no longer has it. Whether none has.
    pub(crate) const fn detach(&mut self, of_calls: bool) -> bool {
        self.routes = self.routes.saturating_sub(1);
        self.of_calls = self.of_calls.saturating_sub(of_calls as u32);
        self.routes == 0
    }

    /// The rule that takes the request.
    pub fn find(&self, request: &impl Request) -> Option<RuleId> {
        let path = request.path();
        if let Some(rule) = self.exact.get(path).and_then(|list| first(list, request)) {
            return Some(rule);
        }
        if self.of_calls > 0 {
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
