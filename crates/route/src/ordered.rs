//! Which rule takes a request where rules are in order: the first whose match holds, as Istio's virtual services have it.

use std::{collections::BTreeMap, sync::Arc};

use regex::bytes::Regex;

use crate::{
    matching::{PathTable, Request, joined, parameter},
    plan::RuleId,
};

/// The rules for one host, by either of two orders.
#[derive(Clone, Debug)]
pub enum RouteTable {
    /// By the Gateway API's precedence.
    Precedence(Arc<PathTable>),
    /// As they are written.
    Ordered(Arc<OrderedTable>),
}

impl RouteTable {
    /// The rule that takes the request.
    pub fn find(&self, request: &impl Request) -> Option<RuleId> {
        match self {
            Self::Precedence(table) => table.find(request),
            Self::Ordered(table) => table.find(request),
        }
    }

    /// The rules that it leads to, in no particular order, perhaps more than once.
    pub fn rules(&self) -> Vec<RuleId> {
        match self {
            Self::Precedence(table) => table.candidates().map(|candidate| candidate.rule).collect(),
            Self::Ordered(table) => table.matches().map(|of| of.rule).collect(),
        }
    }
}

/// Matches in order. Those of one exact path are found by it, so that a long list of them costs no more than a short one.
#[derive(Clone, Debug, Default)]
pub struct OrderedTable {
    matches: Vec<Arc<OrderedMatch>>,
    /// Places of matches by the path that they are for, in order.
    exact: BTreeMap<Arc<str>, Vec<u32>>,
    /// Places of the others, in order.
    others: Vec<u32>,
}

/// A match of a rule: all of it must hold.
#[derive(Debug)]
pub struct OrderedMatch {
    /// The rule.
    pub rule: RuleId,
    /// Of the path; any where not given.
    pub path: Option<PathText>,
    /// Of fields of the request, by name in small letters; `:method`, `:scheme`, `:authority` and `:path` are those of its first line.
    pub fields: Vec<(Arc<str>, Text)>,
    /// What must not hold of fields.
    pub without: Vec<(Arc<str>, Text)>,
    /// Of query parameters.
    pub query: Vec<(Arc<str>, Text)>,
}

/// What a path must be.
#[derive(Clone, Debug)]
pub struct PathText {
    /// What of it. A prefix is one of characters, not of elements.
    pub text: Text,
    /// Whether letters' case does not matter; to expressions it does.
    pub ignore_case: bool,
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum Text {
    /// Exactly this.
    Exact(Arc<str>),
    /// It begins with this.
    Prefix(Arc<str>),
    /// All of it matches.
    Regex(Regex),
    /// It is there.
    Present,
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::Present, Self::Present) => true,
            (Self::Exact(_) | Self::Prefix(_) | Self::Regex(_) | Self::Present, _) => false,
        }
    }
}

impl Eq for Text {}

impl Text {
    /// Whether a value is so.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == value,
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Regex(regex) => regex.is_match(value),
            Self::Present => true,
        }
    }
}

impl PathText {
    fn matches(&self, path: &str) -> bool {
        let path = path.as_bytes();
        match &self.text {
            Text::Exact(text) if self.ignore_case => path.eq_ignore_ascii_case(text.as_bytes()),
            Text::Prefix(text) if self.ignore_case => {
                path.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
            }
            Text::Exact(_) | Text::Prefix(_) | Text::Regex(_) | Text::Present => self.text.matches(path),
        }
    }
}

impl OrderedMatch {
    /// Whether it takes every request.
    pub fn is_everything(&self) -> bool {
        let path = match self.path.as_ref().map(|path| &path.text) {
            None | Some(Text::Present) => true,
            Some(Text::Prefix(text)) => &**text == "/",
            Some(Text::Regex(regex)) => regex.as_str() == "^(?:.*)$",
            Some(Text::Exact(_)) => false,
        };
        path && self.fields.is_empty() && self.without.is_empty() && self.query.is_empty()
    }

    fn takes(&self, request: &impl Request) -> bool {
        self.path.as_ref().is_none_or(|path| path.matches(request.path()))
            && self.fields.iter().all(|(name, text)| field(request, name, text))
            && !self.without.iter().any(|(name, text)| field(request, name, text))
            && self.query.iter().all(|(name, text)| parameter(request.query(), name, |value| text.matches(value)))
    }
}

fn field(request: &impl Request, name: &str, text: &Text) -> bool {
    match name {
        ":method" => text.matches(request.method().as_bytes()),
        ":scheme" => text.matches(request.scheme().as_bytes()),
        ":authority" | "host" => text.matches(request.authority().as_bytes()),
        ":path" => match request.query() {
            Some(query) => text.matches(format!("{}?{query}", request.path()).as_bytes()),
            None => text.matches(request.path().as_bytes()),
        },
        _ => joined(request, name, |value| text.matches(value)),
    }
}

impl OrderedTable {
    /// Matches in this order, but for those that take everything: they come after all others, as istiod has it where several virtual
    /// services have one host.
    pub fn new(mut matches: Vec<Arc<OrderedMatch>>) -> Self {
        matches.sort_by_key(|of| of.is_everything());
        let mut table = Self::default();
        for (place, of) in (0..).zip(&matches) {
            match &of.path {
                Some(PathText { text: Text::Exact(path), ignore_case: false }) => {
                    table.exact.entry(Arc::clone(path)).or_default().push(place);
                }
                _ => table.others.push(place),
            }
        }
        table.matches = matches;
        table
    }

    /// The rule of the first match that holds.
    pub fn find(&self, request: &impl Request) -> Option<RuleId> {
        let exact = self.exact.get(request.path()).map_or(&[][..], Vec::as_slice);
        let (mut exact, mut others) = (exact.iter().peekable(), self.others.iter().peekable());
        loop {
            let place = match (exact.peek(), others.peek()) {
                (Some(a), Some(b)) if a < b => exact.next(),
                (_, Some(_)) => others.next(),
                (Some(_), None) => exact.next(),
                (None, None) => return None,
            };
            let of = self.matches.get(*place? as usize)?;
            if of.takes(request) {
                return Some(of.rule);
            }
        }
    }

    /// The matches, in order.
    pub fn matches(&self) -> impl Iterator<Item = &Arc<OrderedMatch>> {
        self.matches.iter()
    }
}
