//! From bytes to documents: what both YAML and JSON must be before they are read at all.

use std::{path::Path, sync::Arc};

use super::{
    json,
    report::ErrorKind,
    tree::{Mark, Node},
    yaml,
};

/// The largest file that is read. (The API server takes objects up to 1.5 MiB; a file may hold several.)
pub(crate) const MAX_BYTES: usize = 8 << 20;
/// The deepest nesting.
pub(super) const MAX_DEPTH: usize = 100;
/// The most values in a file, with aliases expanded.
pub(super) const MAX_NODES: usize = 400_000;

/// What takes the documents of a file, one after the other.
pub(super) type Each<'e> = &'e mut dyn FnMut(Arc<Node>);

/// An error that has no field path yet.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: Mark,
    pub(super) kind: ErrorKind,
    pub(super) found: String,
    pub(super) allowed: String,
    pub(super) remedy: Option<String>,
}

impl Fault {
    pub(super) fn new(at: Mark, kind: ErrorKind, found: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { at, kind, found: found.into(), allowed: allowed.into(), remedy: None }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

/// Reads `bytes` as JSON where they look like it, else as YAML. `each` gets every document up to the first syntax error as soon as it is
/// read, so that a file of a thousand objects never stands in memory as a whole. Returns what is wrong with the syntax.
pub(super) fn documents(file: &str, bytes: &[u8], each: Each<'_>) -> Vec<Fault> {
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(fault) => return vec![fault],
    };
    let json = Path::new(file).extension().is_some_and(|extension| extension == "json");
    // JSON is read as JSON even in a .yaml file: YAML has no surrogate pairs, and tabs are in the way.
    if json || text.trim_start().starts_with('{') {
        let (roots, faults) = json::documents(text);
        if json || faults.is_empty() {
            roots.into_iter().for_each(each);
            return faults;
        }
    }
    yaml::documents(text, each)
}

/// UTF-8 of bounded size without characters that YAML and JSON do not allow; a byte-order mark is skipped.
fn decode(bytes: &[u8]) -> Result<&str, Fault> {
    if bytes.len() > MAX_BYTES {
        let found = format!("{} bytes", bytes.len());
        let fault = Fault::new(Mark::START, ErrorKind::Limit, found, format!("at most {MAX_BYTES} bytes"));
        return Err(fault.remedy("split the file"));
    }
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        let fault = Fault::new(Mark::START, ErrorKind::Syntax, "UTF-16 text", "UTF-8 text");
        return Err(fault.remedy("save the file as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        let found = format!("the byte 0x{:02x}", bytes[error.valid_up_to()]);
        Fault::new(mark_after(good), ErrorKind::Syntax, found, "UTF-8 text").remedy("save the file as UTF-8")
    })?;
    let forbidden = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    match text.find(forbidden) {
        Some(index) => {
            let c = text[index..].chars().next().unwrap_or_default();
            let found = format!("the control character U+{:04X}", u32::from(c));
            Err(Fault::new(mark_after(&text[..index]), ErrorKind::Syntax, found, "printable characters"))
        }
        None => Ok(text),
    }
}

/// The place just after `text`.
pub(super) fn mark_after(text: &str) -> Mark {
    let last = text.rsplit('\n').next().unwrap_or_default();
    Mark { line: count(text.matches('\n').count()), column: count(last.chars().count()) }
}

/// A count from 0 as a position from 1.
pub(super) fn count(from_zero: usize) -> u32 {
    u32::try_from(from_zero).unwrap_or(u32::MAX - 1) + 1
}
