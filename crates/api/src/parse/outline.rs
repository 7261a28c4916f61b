//! Where the fields of a file are: from places to paths, and from paths to places.

use std::{collections::BTreeMap, sync::Arc};

use strait_base::Location;

use super::{
    text,
    tree::{Mark, Node, Value},
};

/// The objects in a file, whatever they mean.
#[derive(Debug, Default)]
pub struct Outline {
    /// Every mapping by line and column, with its path in its document. What an alias repeats is where it was first written.
    mappings: BTreeMap<(u32, u32), (String, Arc<Node>)>,
}

/// A field of a file.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Its path, as errors have it: `spec.ingress[0].from`.
    pub path: String,
    /// Its line, from 1: of the key, for a field.
    pub line: u32,
    /// Its column, from 1.
    pub column: u32,
    node: &'a Node,
}

impl Outline {
    /// Reads a file, up to its first syntax error.
    pub fn read(file: &str, text: &[u8]) -> Self {
        let mut outline = Self::default();
        text::documents(file, text, &mut |root| outline.visit(&root, ""));
        outline
    }

    fn visit(&mut self, node: &Arc<Node>, path: &str) {
        match &node.value {
            Value::Scalar(_) => {}
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.visit(item, &format!("{path}[{index}]"));
                }
            }
            Value::Mapping(entries) => {
                let key = (node.at.line, node.at.column);
                if self.mappings.contains_key(&key) {
                    return;
                }
                self.mappings.insert(key, (path.to_owned(), Arc::clone(node)));
                for entry in entries {
                    self.visit(&entry.value, &join(path, &entry.key));
                }
            }
        }
    }

    /// The object, rule, peer … that is written at `location` (whose file is taken to be this one).
    pub fn at(&self, location: &Location) -> Option<Place<'_>> {
        let (path, node) = self.mappings.get(&(location.line, location.column))?;
        Some(Place { path: path.clone(), line: location.line, column: location.column, node })
    }

    /// The object in whose document `location` is.
    pub fn object_around(&self, location: &Location) -> Option<Place<'_>> {
        let before = self.mappings.range(..=(location.line, location.column)).rev();
        let object = before.map(|(place, (path, node))| (place, path, node)).find(|(_, path, node)| {
            (path.is_empty() || path.starts_with("items["))
                && node.get("kind").is_some()
                && node.get("metadata").is_some()
        });
        object.map(|((line, column), path, node)| Place { path: path.clone(), line: *line, column: *column, node })
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl<'a> Place<'a> {
    fn new(path: String, at: Mark, node: &'a Node) -> Self {
        Place { path, line: at.line, column: at.column, node }
    }

    /// A field of it, null or not.
    pub fn field(&self, key: &str) -> Option<Self> {
        let entry = self.node.get(key)?;
        Some(Self::new(join(&self.path, key), entry.key_at, &entry.value))
    }

    /// An entry of it whose key is no field's name: of `matchLabels`.
    pub fn key(&self, key: &str) -> Option<Self> {
        let entry = self.node.get(key)?;
        Some(Self::new(format!("{}[{key}]", self.path), entry.key_at, &entry.value))
    }

    /// An item of the list that it is.
    pub fn item(&self, index: usize) -> Option<Self> {
        let Value::Sequence(items) = &self.node.value else { return None };
        let item: &'a Node = items.get(index)?;
        Some(Self::new(format!("{}[{index}]", self.path), item.at, item))
    }

    /// How many items the list that it is has; `None` where it is none.
    pub fn items(&self) -> Option<usize> {
        match &self.node.value {
            Value::Sequence(items) => Some(items.len()),
            Value::Scalar(_) | Value::Mapping(_) => None,
        }
    }

    /// Whether nothing is written there.
    pub fn is_null(&self) -> bool {
        self.node.is_null()
    }

    /// What is written there, where it is a scalar.
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_paths_and_paths_places() {
        let text = "kind: A\n---\nitems:\n- kind: B\n  spec:\n    from:\n    - {podSelector: {matchLabels: {a.b/c: d}}}\n    ports: []\n";
        let outline = Outline::read("a.yaml", text.as_bytes());
        let file = Arc::from("a.yaml");
        let at = |line, column| outline.at(&Location::new(&file, line, column));
        let object = at(4, 3).unwrap();
        assert_eq!(object.path, "items[0]");
        let spec = object.field("spec").unwrap();
        assert_eq!((spec.path.as_str(), spec.line, spec.column), ("items[0].spec", 5, 3));
        assert_eq!(spec.field("ports").unwrap().items(), Some(0));
        let label = at(7, 7).and_then(|peer| peer.field("podSelector")?.field("matchLabels")?.key("a.b/c")).unwrap();
        let path = "items[0].spec.from[0].podSelector.matchLabels[a.b/c]";
        assert_eq!((label.path.as_str(), label.line, label.text()), (path, 7, Some("d")));
        assert!(outline.object_around(&Location::new(&file, 7, 9)).is_none());
        assert!(at(2, 1).is_none() && spec.field("to").is_none() && spec.item(0).is_none());
    }
}
