//! YAML events to located trees: anchors, aliases and merge keys expanded within bounds, duplicate keys refused.

use std::{collections::BTreeMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{
    report::ErrorKind,
    scalar,
    text::{Each, Fault, MAX_DEPTH, MAX_NODES, count},
    tree::{Entry, Mark, Node, Reads, Scalar, Value, clip, quoted},
};

/// All documents up to the first syntax error, and what is wrong.
pub(super) fn documents(text: &str, each: Each<'_>) -> Vec<Fault> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(syntax(text, &error)),
        };
        if let Err(fault) = step {
            builder.faults.push(explain_template(text, fault));
            break;
        }
        builder.root.take().into_iter().for_each(&mut *each);
    }
    builder.faults
}

/// A scanner's error, with what stands there and the usual causes named.
fn syntax(text: &str, error: &ScanError) -> Fault {
    let mark = error.marker();
    let at = Mark { line: count(mark.line().saturating_sub(1)), column: count(mark.col()) };
    let line = text.lines().nth(mark.line().saturating_sub(1)).unwrap_or_default();
    let rest: String = line.chars().skip(mark.col()).collect();
    let found = match rest.trim() {
        "" if line.trim().is_empty() => "the end of the text".to_owned(),
        "" => format!("`{}` and the end of the line", clip(line.trim())),
        rest => format!("`{}`", clip(rest)),
    };
    let indent = &line[..line.len() - line.trim_start().len()];
    let remedy = if indent.contains('\t') {
        "indent with spaces: YAML allows no tabs there".to_owned()
    } else {
        error.info().to_owned()
    };
    Fault::new(at, ErrorKind::Syntax, found, "valid YAML").remedy(remedy)
}

/// Says what to do about a fault on a line with template actions.
fn explain_template(text: &str, fault: Fault) -> Fault {
    let line = text.lines().nth(fault.at.line as usize - 1).unwrap_or_default();
    if fault.kind == ErrorKind::Syntax && line.contains("{{") {
        return fault.remedy("render the template first: this looks like the source of a Helm chart");
    }
    fault
}

#[derive(Default)]
struct Builder {
    /// A document that has come to its end.
    root: Option<Arc<Node>>,
    faults: Vec<Fault>,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Arc<Node>>,
    nodes: usize,
}

/// A collection whose end has not come yet.
struct Frame {
    at: Mark,
    anchor: usize,
    size: usize,
    of: Collection,
}

enum Collection {
    Sequence(Vec<Arc<Node>>),
    Mapping { entries: Vec<Entry>, seen: BTreeMap<Arc<str>, Mark>, merged: Vec<Arc<Node>>, key: Option<Key> },
}

/// A key whose value has not come yet.
struct Key {
    text: Arc<str>,
    at: Mark,
    /// A plain `<<`.
    merge: bool,
}

type Step = Result<(), Fault>;

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Step {
        let at = Mark { line: count(span.start.line().saturating_sub(1)), column: count(span.start.col()) };
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.stack.clear();
                self.anchors.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), at),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq", at)?;
                self.open(at, anchor, Collection::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map", at)?;
                let (entries, seen, merged) = (Vec::new(), BTreeMap::new(), Vec::new());
                self.open(at, anchor, Collection::Mapping { entries, seen, merged, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn count(&mut self, nodes: usize, at: Mark) -> Step {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let found = "more values than are read from one file (aliases expanded)";
            return Err(
                Fault::new(at, ErrorKind::Limit, found, format!("at most {MAX_NODES}")).remedy("split the file")
            );
        }
        Ok(())
    }

    fn open(&mut self, at: Mark, anchor: usize, of: Collection) -> Step {
        self.count(1, at)?;
        if self.stack.len() == MAX_DEPTH {
            let found = format!("nesting deeper than {MAX_DEPTH}");
            return Err(Fault::new(at, ErrorKind::Limit, found, format!("at most {MAX_DEPTH} levels")));
        }
        if let Some(Frame { of: Collection::Mapping { key: None, .. }, .. }) = self.stack.last() {
            let found = "a list or an object as a key";
            let fault = Fault::new(at, ErrorKind::Syntax, found, "a string");
            return Err(fault.remedy("an unquoted { or [ starts one: put text that begins so in quotes"));
        }
        self.stack.push(Frame { at, anchor, size: 1, of });
        Ok(())
    }

    fn close(&mut self) -> Step {
        let Some(Frame { at, anchor, mut size, of }) = self.stack.pop() else { return Ok(()) };
        let value = match of {
            Collection::Sequence(items) => Value::Sequence(items),
            Collection::Mapping { mut entries, mut seen, merged, key: _ } => {
                for source in merged {
                    size += source.size;
                    let Value::Mapping(more) = &source.value else { continue };
                    for entry in more {
                        if !seen.contains_key(&entry.key) {
                            seen.insert(Arc::clone(&entry.key), entry.key_at);
                            entries.push(entry.clone());
                        }
                    }
                }
                Value::Mapping(entries)
            }
        };
        self.put(Arc::new(Node { at, value, size }), anchor)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, tag: Option<&Tag>, at: Mark) -> Step {
        self.count(1, at)?;
        let plain = style == ScalarStyle::Plain;
        let reads = reads(text, plain, tag, at)?;
        let merge = plain && tag.is_none() && text == "<<";
        if merge && let Some(Frame { of: Collection::Mapping { key: slot @ None, .. }, .. }) = self.stack.last_mut() {
            *slot = Some(Key { text: text.into(), at, merge });
            return Ok(());
        }
        // The scanner places a value that is not there at the next token, often on another line.
        let at = match self.stack.last() {
            Some(Frame { of: Collection::Mapping { key: Some(key), .. }, .. }) if plain && text.is_empty() => key.at,
            _ => at,
        };
        let value = Value::Scalar(Scalar { text: text.into(), reads });
        self.put(Arc::new(Node { at, value, size: 1 }), anchor)
    }

    fn alias(&mut self, anchor: usize, at: Mark) -> Step {
        let Some(node) = self.anchors.get(&anchor).map(Arc::clone) else {
            return Err(Fault::new(
                at,
                ErrorKind::Syntax,
                "an alias to what it stands in",
                "an alias to something before it",
            ));
        };
        self.count(node.size, at)?;
        self.put(node, 0)
    }

    /// Puts a finished node where it belongs: the open collection, or the document.
    fn put(&mut self, node: Arc<Node>, anchor: usize) -> Step {
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        let faults = &mut self.faults;
        let Some(frame) = self.stack.last_mut() else {
            if !node.is_null() {
                self.root = Some(node);
            }
            return Ok(());
        };
        match &mut frame.of {
            Collection::Sequence(items) => {
                frame.size += node.size;
                items.push(node);
            }
            Collection::Mapping { entries, seen, merged, key: slot } => match slot.take() {
                None => *slot = Some(Key { text: key_text(&node)?, at: node.at, merge: false }),
                Some(Key { merge: true, at, .. }) => {
                    let size = merge(&node, at, merged)?;
                    self.count(size, at)?;
                }
                Some(Key { text, at, .. }) => {
                    if let Some(first) = seen.get(&text) {
                        faults.push(duplicate_key(&text, at, *first));
                        return Ok(());
                    }
                    frame.size += node.size;
                    seen.insert(Arc::clone(&text), at);
                    entries.push(Entry { key: text, key_at: at, value: node });
                }
            },
        }
        Ok(())
    }
}

pub(super) fn duplicate_key(key: &str, at: Mark, first: Mark) -> Fault {
    let found = format!("the key {} a second time", quoted(key));
    let allowed = format!("each key once (the first is at {}:{})", first.line, first.column);
    Fault::new(at, ErrorKind::Duplicate, found, allowed).remedy("remove one of them, or put --- between two objects")
}

/// The mappings that `<<: value` takes in; how many values they add.
fn merge(value: &Arc<Node>, at: Mark, into: &mut Vec<Arc<Node>>) -> Result<usize, Fault> {
    let refused = || Fault::new(at, ErrorKind::Syntax, value.found(), "an object or a list of objects after <<");
    match &value.value {
        Value::Mapping(_) => into.push(Arc::clone(value)),
        Value::Sequence(items) if items.iter().all(|item| matches!(item.value, Value::Mapping(_))) => {
            into.extend(items.iter().cloned());
        }
        Value::Sequence(_) | Value::Scalar(_) => return Err(refused()),
    }
    Ok(value.size)
}

/// Keys are strings; a number or boolean becomes one as `sigs.k8s.io/yaml` makes it (`80` → "80", `on` → "true").
fn key_text(node: &Node) -> Result<Arc<str>, Fault> {
    let refused = |remedy: &str| {
        Err(Fault::new(node.at, ErrorKind::Syntax, format!("{} as a key", node.found()), "a string").remedy(remedy))
    };
    match &node.value {
        Value::Scalar(Scalar { text, reads }) => match reads {
            Reads::String => Ok(Arc::clone(text)),
            Reads::Int(value) => Ok(value.to_string().into()),
            Reads::Bool(value) => Ok(value.to_string().into()),
            Reads::Float => refused("write it in quotes"),
            Reads::Null => refused("name the key before the colon"),
        },
        Value::Sequence(_) | Value::Mapping(_) => refused("write it in quotes"),
    }
}

/// What a scalar with this style and tag reads as.
fn reads(text: &str, plain: bool, tag: Option<&Tag>, at: Mark) -> Result<Reads, Fault> {
    let Some(tag) = tag else { return Ok(if plain { scalar::resolve(text) } else { Reads::String }) };
    if tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty() {
        return Ok(Reads::String);
    }
    let wanted = core_tag(tag);
    let resolved = scalar::resolve(text);
    match (wanted, resolved) {
        (Some("str"), _) => Ok(Reads::String),
        (Some("int"), Reads::Int(_))
        | (Some("float"), Reads::Float | Reads::Int(_))
        | (Some("bool"), Reads::Bool(_))
        | (Some("null"), Reads::Null) => Ok(resolved),
        (Some("int" | "float" | "bool" | "null"), _) => Err(Fault::new(
            at,
            ErrorKind::Syntax,
            quoted(text),
            format!("what its tag {} says", clip(&tag.to_string())),
        )),
        _ => Err(unknown_tag(tag, at)),
    }
}

fn check_tag(tag: Option<&Tag>, expected: &str, at: Mark) -> Step {
    match tag {
        Some(tag) if core_tag(tag) != Some(expected) => Err(unknown_tag(tag, at)),
        _ => Ok(()),
    }
}

fn core_tag(tag: &Tag) -> Option<&str> {
    if tag.is_yaml_core_schema() {
        return Some(&tag.suffix);
    }
    tag.handle.is_empty().then(|| tag.suffix.strip_prefix("tag:yaml.org,2002:")).flatten()
}

fn unknown_tag(tag: &Tag, at: Mark) -> Fault {
    let found = format!("the tag {}", clip(&tag.to_string()));
    Fault::new(at, ErrorKind::Syntax, found, "the tags !!str, !!int, !!float, !!bool, !!null, !!map and !!seq")
        .remedy("remove it: Kubernetes manifests need none")
}
