//! The located tree: what YAML and JSON both become before anything is typed.

use std::sync::Arc;

/// A line and a column, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Mark {
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// A value and where it is written. What an alias refers to keeps the place where it was first written.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Mark,
    pub(crate) value: Value,
    /// How many nodes this one counts for, aliases expanded.
    pub(crate) size: usize,
}

/// A value.
#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<Entry>),
}

/// One entry of a mapping; keys are unique within it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Arc<str>,
    pub(crate) key_at: Mark,
    pub(crate) value: Arc<Node>,
}

/// A scalar, as written and as what it reads as.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: Arc<str>,
    pub(crate) reads: Reads,
}

/// What a scalar reads as.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Reads {
    Null,
    Bool(bool),
    Int(i64),
    /// Fractions, and integers beyond 64 bits.
    Float,
    String,
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { reads: Reads::Null, .. }))
    }

    /// The value of `key`, where this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| &*entry.key == key),
            Value::Scalar(_) | Value::Sequence(_) => None,
        }
    }

    /// What an error says was found: the value where it is short.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Scalar(Scalar { text, reads }) => match reads {
                Reads::Null => "nothing (null)".to_owned(),
                Reads::Bool(_) | Reads::Int(_) | Reads::Float => clip(text),
                Reads::String => quoted(text),
            },
            Value::Sequence(items) => format!("a list of {}", items.len()),
            Value::Mapping(entries) => match entries.first() {
                Some(entry) => format!("an object with \"{}\"", clip(&entry.key)),
                None => "an empty object".to_owned(),
            },
        }
    }
}

impl Node {
    /// What an error says was found where its type is wrong.
    pub(crate) fn found_type(&self) -> String {
        match &self.value {
            Value::Scalar(Scalar { text, reads }) => match reads {
                Reads::Bool(value) if matches!(&**text, "true" | "false") => format!("the boolean {value}"),
                Reads::Bool(value) => format!("{} (which reads as the boolean {value})", clip(text)),
                Reads::Int(_) | Reads::Float => format!("the number {}", clip(text)),
                Reads::String => format!("the string {}", quoted(text)),
                Reads::Null => self.found(),
            },
            Value::Sequence(_) | Value::Mapping(_) => self.found(),
        }
    }
}

/// `text` in quotes, made safe to print and cut to a readable length.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", clip(text))
}

/// At most 60 characters of `text`, control characters escaped.
pub(crate) fn clip(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
