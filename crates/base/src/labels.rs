//! Labels and label selectors, as `k8s.io/apimachinery/pkg/apis/meta/v1.LabelSelector` defines them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::shared::Shared;

/// Label keys and values, in order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub Shared<BTreeMap<Arc<str>, Arc<str>>>);

impl Labels {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| &**value)
    }

    /// Sets `key` to `value`.
    pub fn insert(&mut self, key: &str, value: &str) {
        self.0.insert(key.into(), value.into());
    }

    /// Keys and values, in order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        let pairs = pairs.into_iter().map(|(key, value)| (key.as_ref().into(), value.as_ref().into()));
        Self(pairs.collect::<BTreeMap<_, _>>().into())
    }
}

/// `a=1,b=2`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A label selector: all of `match_labels` and all of `match_expressions` hold. Empty selects everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct LabelSelector {
    /// Keys that must have exactly these values.
    pub match_labels: Labels,
    /// Further requirements.
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a selector.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Requirement {
    /// The label key.
    pub key: Arc<str>,
    /// What must hold of it.
    pub operator: Operator,
}

/// What a requirement asks of a key. `NotIn` and `DoesNotExist` hold where the key is absent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Operator {
    /// Present, with one of these values (never empty).
    In(Vec<Arc<str>>),
    /// Absent, or present with none of these values (never empty).
    NotIn(Vec<Arc<str>>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether the selector selects something with these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether the selector has no requirement and so selects everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.0.is_empty() && self.match_expressions.is_empty()
    }
}

impl Requirement {
    /// Whether `labels` meet it.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|v| &**v == value)),
            Operator::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| &**v != value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// As `kubectl` prints selectors: `app=web,tier in (a,b),!old`; `<all>` where empty.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "<all>");
        }
        write!(f, "{}", self.match_labels)?;
        for (index, Requirement { key, operator }) in self.match_expressions.iter().enumerate() {
            if index > 0 || !self.match_labels.0.is_empty() {
                write!(f, ",")?;
            }
            match operator {
                Operator::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Operator::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Operator::Exists => write!(f, "{key}")?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let labels: Labels = [("app", "web"), ("tier", "front")].into_iter().collect();
        let values = |list: &[&str]| list.iter().map(|v| Arc::from(*v)).collect::<Vec<_>>();
        let cases = [
            ("app", Operator::In(values(&["web", "db"])), true),
            ("app", Operator::In(values(&["db"])), false),
            ("absent", Operator::In(values(&["db"])), false),
            ("app", Operator::NotIn(values(&["web"])), false),
            ("absent", Operator::NotIn(values(&["web"])), true),
            ("tier", Operator::Exists, true),
            ("absent", Operator::Exists, false),
            ("tier", Operator::DoesNotExist, false),
            ("absent", Operator::DoesNotExist, true),
        ];
        for (key, operator, expected) in cases {
            let requirement = Requirement { key: key.into(), operator };
            assert_eq!(requirement.matches(&labels), expected, "{requirement:?}");
        }
    }

    #[test]
    fn display() {
        let selector = LabelSelector {
            match_labels: [("app", "web")].into_iter().collect(),
            match_expressions: vec![
                Requirement { key: "tier".into(), operator: Operator::In(vec!["a".into(), "b".into()]) },
                Requirement { key: "old".into(), operator: Operator::DoesNotExist },
            ],
        };
        assert_eq!(selector.to_string(), "app=web,tier in (a,b),!old");
        assert_eq!(LabelSelector::default().to_string(), "<all>");
    }
}
