//! JSON (RFC 8259) to located trees. Several values may follow one another, as `kubectl` reads them.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    report::ErrorKind,
    text::{Fault, MAX_DEPTH, MAX_NODES, count},
    tree::{Entry, Mark, Node, Reads, Scalar, Value, clip},
    yaml::duplicate_key,
};

/// All values up to the first syntax error.
pub(super) fn documents(text: &str) -> (Vec<Arc<Node>>, Vec<Fault>) {
    let mut reader = Reader { rest: text, at: Mark::START, nodes: 0, depth: 0, faults: Vec::new() };
    let mut roots = Vec::new();
    loop {
        reader.space();
        if reader.rest.is_empty() {
            break;
        }
        match reader.value() {
            Ok(node) if node.is_null() => {}
            Ok(node) => roots.push(node),
            Err(fault) => {
                reader.faults.push(fault);
                break;
            }
        }
    }
    (roots, reader.faults)
}

struct Reader<'a> {
    rest: &'a str,
    at: Mark,
    nodes: usize,
    depth: usize,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        if c == '\n' {
            self.at = Mark { line: count(self.at.line as usize), column: 1 };
        } else {
            self.at.column = count(self.at.column as usize);
        }
        Some(c)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.next();
        }
    }

    fn syntax(&self, allowed: &str) -> Fault {
        let found = match self.rest.lines().next().unwrap_or_default() {
            "" if self.rest.is_empty() => "the end of the text".to_owned(),
            "" => "the end of the line".to_owned(),
            line => format!("`{}`", clip(line)),
        };
        Fault::new(self.at, ErrorKind::Syntax, found, allowed)
    }

    fn value(&mut self) -> Result<Arc<Node>, Fault> {
        self.space();
        let at = self.at;
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let found = "more values than are read from one file";
            return Err(
                Fault::new(at, ErrorKind::Limit, found, format!("at most {MAX_NODES}")).remedy("split the file")
            );
        }
        let before = self.nodes;
        let value = match self.peek() {
            Some('{') => self.nested(Self::object)?,
            Some('[') => self.nested(Self::array)?,
            Some('"') => Value::Scalar(Scalar { text: self.string()?.into(), reads: Reads::String }),
            _ => self.word()?,
        };
        Ok(Arc::new(Node { at, value, size: 1 + self.nodes - before }))
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, Fault>) -> Result<Value, Fault> {
        if self.depth == MAX_DEPTH {
            let found = format!("nesting deeper than {MAX_DEPTH}");
            return Err(Fault::new(self.at, ErrorKind::Limit, found, format!("at most {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Value, Fault> {
        self.next();
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = BTreeMap::new();
        self.space();
        if self.peek() == Some('}') {
            self.next();
            return Ok(Value::Mapping(entries));
        }
        loop {
            self.space();
            let key_at = self.at;
            if self.peek() != Some('"') {
                return Err(self.syntax("a key in double quotes"));
            }
            let key: Arc<str> = self.string()?.into();
            self.space();
            if self.peek() != Some(':') {
                return Err(self.syntax("a colon after the key"));
            }
            self.next();
            let value = self.value()?;
            if let Some(first) = seen.get(&key) {
                self.faults.push(duplicate_key(&key, key_at, *first));
            } else {
                seen.insert(Arc::clone(&key), key_at);
                entries.push(Entry { key, key_at, value });
            }
            self.space();
            match self.peek() {
                Some(',') => self.next(),
                Some('}') => {
                    self.next();
                    return Ok(Value::Mapping(entries));
                }
                _ => return Err(self.syntax("a comma or } after the value")),
            };
        }
    }

    fn array(&mut self) -> Result<Value, Fault> {
        self.next();
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(']') {
            self.next();
            return Ok(Value::Sequence(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            match self.peek() {
                Some(',') => self.next(),
                Some(']') => {
                    self.next();
                    return Ok(Value::Sequence(items));
                }
                _ => return Err(self.syntax("a comma or ] after the value")),
            };
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        self.next();
        let mut out = String::new();
        loop {
            match self.peek() {
                Some('"') => {
                    self.next();
                    return Ok(out);
                }
                Some('\\') => {
                    self.next();
                    out.push(self.escape()?);
                }
                Some(c) if c >= ' ' => {
                    out.push(c);
                    self.next();
                }
                _ => return Err(self.syntax("a closing double quote on the same line")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        const ALLOWED: &str = "one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX";
        let c = match self.peek() {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                self.next();
                let high = self.hex()?;
                return match high {
                    0xd800..=0xdbff if self.rest.starts_with("\\u") => {
                        self.next();
                        self.next();
                        let low = self.hex()?;
                        char::decode_utf16([high, low]).next().and_then(Result::ok)
                    }
                    _ => char::from_u32(u32::from(high)),
                }
                .ok_or_else(|| self.syntax("a pair of surrogates before this"));
            }
            _ => return Err(self.syntax(ALLOWED)),
        };
        self.next();
        Ok(c)
    }

    fn hex(&mut self) -> Result<u16, Fault> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(value) = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) else {
            return Err(self.syntax("four hexadecimal digits"));
        };
        for _ in 0..4 {
            self.next();
        }
        Ok(value)
    }

    /// `true`, `false`, `null` or a number.
    fn word(&mut self) -> Result<Value, Fault> {
        let end = self.rest.find(|c: char| !matches!(c, '+' | '-' | '.') && !c.is_ascii_alphanumeric());
        let word: &'a str = &self.rest[..end.unwrap_or(self.rest.len())];
        let reads = match word {
            "null" => Reads::Null,
            "true" => Reads::Bool(true),
            "false" => Reads::Bool(false),
            _ if is_integer(word) => word.parse().map_or(Reads::Float, Reads::Int),
            _ if is_number(word) => Reads::Float,
            _ => return Err(self.syntax("a JSON value")),
        };
        for _ in word.chars() {
            self.next();
        }
        Ok(Value::Scalar(Scalar { text: word.into(), reads }))
    }
}

fn is_integer(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'))
}

fn is_number(word: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match word.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (word, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    is_integer(whole) && fraction.is_none_or(digits) && exponent.is_none_or(digits)
}
