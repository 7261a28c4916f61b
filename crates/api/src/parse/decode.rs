//! Typed reading of a located tree. Errors carry the field's path and are collected: what is wrong twice is reported twice.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use strait_base::Location;

use super::{
    report::{ErrorKind, Note, ParseError, Severity, Topic},
    text::Fault,
    tree::{Entry, Mark, Node, Reads, Scalar, Value, quoted},
};

/// The most errors that one document reports.
const MAX_ERRORS: usize = 50;

/// Reads one document. A reading that fails has recorded why and gives `None` (or leaves the value out).
pub(super) struct Decoder<'f> {
    file: &'f Arc<str>,
    path: Vec<Step>,
    pub(super) errors: Vec<ParseError>,
    pub(super) notes: Vec<Note>,
    /// Unknown fields are errors.
    pub(super) strict: bool,
}

/// One step of a field path.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Field(&'static str),
    Unknown(Arc<str>),
    Item(usize),
    Key(Arc<str>),
}

/// A mapping that is being read, and which of its fields its kind has.
pub(super) struct Fields<'n> {
    pub(super) node: &'n Node,
    entries: &'n [Entry],
    asked: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value of a field; as in Kubernetes, null is as good as absent.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'n Node> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        let entry = self.entries.iter().find(|entry| &*entry.key == name)?;
        (!entry.value.is_null()).then_some(&entry.value)
    }
}

impl<'f> Decoder<'f> {
    pub(super) fn new(file: &'f Arc<str>) -> Self {
        Self { file, path: Vec::new(), errors: Vec::new(), notes: Vec::new(), strict: false }
    }

    pub(super) fn location(&self, at: Mark) -> Location {
        Location::new(self.file, at.line, at.column)
    }

    pub(super) fn path(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            let dot = if out.is_empty() { "" } else { "." };
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Field(name) => write!(out, "{dot}{name}"),
                Step::Unknown(name) => write!(out, "{dot}{}", super::tree::clip(name)),
                Step::Item(index) => write!(out, "[{index}]"),
                Step::Key(key) => write!(out, "[{}]", super::tree::clip(key)),
            };
        }
        out
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        if self.errors.len() == MAX_ERRORS {
            let (location, path, kind) = (self.location(fault.at), self.path(), ErrorKind::Limit);
            let (found, allowed) = ("more errors than are listed".into(), "none".into());
            let remedy = Some("correct the ones before this first".into());
            self.errors.push(ParseError { location, path, kind, found, allowed, remedy });
        } else if self.errors.len() < MAX_ERRORS {
            let Fault { at, kind, found, allowed, remedy } = fault;
            let (location, path) = (self.location(at), self.path());
            let (found, allowed, remedy) = (printable(found), printable(allowed), remedy.map(printable));
            self.errors.push(ParseError { location, path, kind, found, allowed, remedy });
        }
    }

    /// A value that is not allowed.
    pub(super) fn refuse(&mut self, node: &Node, allowed: impl Into<String>) {
        self.fault(Fault::new(node.at, ErrorKind::Value, node.found(), allowed));
    }

    pub(super) fn refuse_with(&mut self, node: &Node, allowed: impl Into<String>, remedy: impl Into<String>) {
        self.fault(Fault::new(node.at, ErrorKind::Value, node.found(), allowed).remedy(remedy));
    }

    fn wrong_type(&mut self, node: &Node, allowed: &str) {
        let fault = Fault::new(node.at, ErrorKind::Type, node.found_type(), allowed);
        let quote = allowed == "a string" && matches!(node.value, Value::Scalar(_)) && !node.is_null();
        self.fault(if quote { fault.remedy("put it in quotes") } else { fault });
    }

    pub(super) fn note(&mut self, at: Mark, severity: Severity, topic: Topic, message: impl Into<String>) {
        if self.notes.len() < MAX_ERRORS {
            let (location, path, message) = (self.location(at), self.path(), printable(message.into()));
            self.notes.push(Note { location, path, topic, severity, message });
        }
    }

    /// A warning about the field that is being read.
    pub(super) fn warn(&mut self, at: Mark, topic: Topic, message: &str) {
        let path = self.path();
        self.note(at, Severity::Warning, topic, format!("{path}: {message}"));
    }

    pub(super) fn within<T>(&mut self, step: Step, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let out = read(self);
        self.path.pop();
        out
    }

    pub(super) fn fields<'n>(&mut self, node: &'n Node) -> Option<Fields<'n>> {
        match &node.value {
            Value::Mapping(entries) => Some(Fields { node, entries, asked: Vec::new() }),
            Value::Scalar(_) | Value::Sequence(_) => {
                self.wrong_type(node, "an object");
                None
            }
        }
    }

    /// The value of a field that may be absent.
    pub(super) fn optional<'n, T>(
        &mut self,
        fields: &mut Fields<'n>,
        name: &'static str,
        read: impl FnOnce(&mut Self, &'n Node) -> Option<T>,
    ) -> Option<T> {
        let node = fields.get(name)?;
        self.within(Step::Field(name), |d| read(d, node))
    }

    /// The value of a field that must be there.
    pub(super) fn required<'n, T>(
        &mut self,
        fields: &mut Fields<'n>,
        name: &'static str,
        allowed: &str,
        read: impl FnOnce(&mut Self, &'n Node) -> Option<T>,
    ) -> Option<T> {
        if let Some(node) = fields.get(name) {
            return self.within(Step::Field(name), |d| read(d, node));
        }
        self.missing(fields.node.at, name, allowed);
        None
    }

    pub(super) fn missing(&mut self, at: Mark, name: &'static str, allowed: &str) {
        self.within(Step::Field(name), |d| {
            d.fault(Fault::new(at, ErrorKind::Missing, "nothing", allowed).remedy(format!("add {name}")));
        });
    }

    /// The items of a list, those that can be read.
    pub(super) fn items<'n, T>(
        &mut self,
        node: &'n Node,
        mut read: impl FnMut(&mut Self, &'n Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::Sequence(items) = &node.value else {
            self.wrong_type(node, "a list");
            return None;
        };
        let read_item = |(index, item): (usize, &'n Arc<Node>)| self.within(Step::Item(index), |d| read(d, item));
        Some(items.iter().enumerate().filter_map(read_item).collect())
    }

    /// The items of a list that may be absent.
    pub(super) fn list<'n, T>(
        &mut self,
        fields: &mut Fields<'n>,
        name: &'static str,
        read: impl FnMut(&mut Self, &'n Node) -> Option<T>,
    ) -> Vec<T> {
        self.optional(fields, name, |d, node| d.items(node, read)).unwrap_or_default()
    }

    pub(super) fn string(&mut self, node: &Node) -> Option<Arc<str>> {
        match &node.value {
            Value::Scalar(Scalar { text, reads: Reads::String }) => Some(Arc::clone(text)),
            Value::Scalar(_) | Value::Sequence(_) | Value::Mapping(_) => {
                self.wrong_type(node, "a string");
                None
            }
        }
    }

    /// A string that `check` accepts; `check` gives back what would be allowed.
    pub(super) fn checked(&mut self, node: &Node, check: fn(&str) -> Result<(), &'static str>) -> Option<Arc<str>> {
        let text = self.string(node)?;
        match check(&text) {
            Ok(()) => Some(text),
            Err(allowed) => {
                self.refuse(node, allowed);
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Scalar(Scalar { reads: Reads::Bool(value), .. }) => Some(*value),
            Value::Scalar(_) | Value::Sequence(_) | Value::Mapping(_) => {
                self.wrong_type(node, "true or false");
                None
            }
        }
    }

    /// An integer from `min` to `max`.
    pub(super) fn integer(&mut self, node: &Node, min: i64, max: i64) -> Option<i64> {
        let allowed =
            || if max == i64::from(i32::MAX) { format!("a number from {min}") } else { format!("{min}-{max}") };
        let Value::Scalar(Scalar { text, reads }) = &node.value else {
            self.wrong_type(node, &allowed());
            return None;
        };
        match reads {
            Reads::Int(value) if reads_as_octal(text) => {
                self.refuse_with(node, allowed(), format!("write {value} (a leading zero makes the number octal)"));
                None
            }
            Reads::Int(value) if (min..=max).contains(value) => Some(*value),
            Reads::Int(_) => {
                self.refuse(node, allowed());
                None
            }
            Reads::Float => {
                self.refuse_with(node, allowed(), "write it as a plain whole number");
                None
            }
            Reads::String if text.parse::<i64>().is_ok() => {
                let fault = Fault::new(node.at, ErrorKind::Type, node.found_type(), allowed());
                self.fault(fault.remedy("write the number without quotes"));
                None
            }
            Reads::Null | Reads::Bool(_) | Reads::String => {
                self.wrong_type(node, &allowed());
                None
            }
        }
    }

    /// A port number, 1-65535.
    pub(super) fn port(&mut self, node: &Node) -> Option<u16> {
        self.integer(node, 1, i64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
    }

    /// A count, from 0.
    pub(super) fn natural(&mut self, node: &Node) -> Option<u32> {
        self.integer(node, 0, i64::from(i32::MAX)).and_then(|count| u32::try_from(count).ok())
    }

    /// Strings by string. As Kubernetes reads it, null is the empty string; in a policy that is worth a warning.
    pub(super) fn strings(
        &mut self,
        node: &Node,
        mut check: impl FnMut(&mut Self, &Entry),
    ) -> BTreeMap<Arc<str>, Arc<str>> {
        let Value::Mapping(entries) = &node.value else {
            self.wrong_type(node, "an object of strings");
            return BTreeMap::new();
        };
        let mut out = BTreeMap::new();
        for entry in entries {
            check(self, entry);
            self.within(Step::Key(Arc::clone(&entry.key)), |d| {
                let value = if entry.value.is_null() {
                    if d.strict {
                        d.warn(
                            entry.value.at,
                            Topic::NullString,
                            "nothing after the colon reads as the empty string; write \"\" to say so",
                        );
                    }
                    Some(Arc::from(""))
                } else {
                    d.string(&entry.value)
                };
                if let Some(value) = value {
                    out.insert(Arc::clone(&entry.key), value);
                }
            });
        }
        out
    }

    /// Ends the reading of a mapping. `ignored` names the fields that its kind has and that mean nothing here. In a policy any other is an error; elsewhere
    /// one that is nearly a field that was looked for and not found is worth a warning.
    pub(super) fn close(&mut self, fields: &Fields<'_>, ignored: &[&'static str]) {
        for entry in fields.entries {
            let key = &*entry.key;
            if fields.asked.contains(&key) || ignored.contains(&key) || self.errors.len() > MAX_ERRORS {
                continue;
            }
            let known = || fields.asked.iter().chain(ignored).copied();
            let nearest = nearest(key, known());
            self.within(Step::Unknown(Arc::clone(&entry.key)), |d| match nearest {
                _ if d.strict => {
                    let allowed = format!("only {}", known().collect::<Vec<_>>().join(", "));
                    let found = format!("the unknown field {}", quoted(key));
                    let fault = Fault::new(entry.key_at, ErrorKind::UnknownField, found, allowed);
                    d.fault(match nearest {
                        Some(name) => fault.remedy(format!("did you mean \"{name}\"?")),
                        None => fault,
                    });
                }
                Some(name) if !fields.entries.iter().any(|entry| &*entry.key == name) => {
                    d.warn(
                        entry.key_at,
                        Topic::UnknownField,
                        &format!("this unknown field is ignored; did you mean \"{name}\"?"),
                    );
                }
                _ => {}
            });
        }
    }
}

/// `text` with control characters escaped: what a manifest says is not to steer the terminal that an error is printed on.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn reads_as_octal(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit()
}

/// The name that `text` was probably meant to be.
pub(super) fn nearest(text: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let mut best = None;
    for name in names {
        let distance = if name.eq_ignore_ascii_case(text) { 0 } else { distance(text, name) };
        let close = distance <= if name.len() < 5 { 1 } else { 2 };
        if close && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// How many letters to add, drop, change or swap with their neighbour (optimal string alignment). Beyond the length of any field name not worth computing.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}
