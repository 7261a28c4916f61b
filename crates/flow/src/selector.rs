//! Label selectors as `kubectl -l` and `hubble observe --label` write them.

use std::sync::Arc;

use strait_base::{LabelSelector, Labels, Operator, Requirement};

/// Parses `app=web,tier in (a, b),env!=prod,canary,!old`; a key may carry its source (`k8s:app=web`, `reserved:host`).
pub(crate) fn parse(text: &str) -> Result<LabelSelector, String> {
    let mut selector = LabelSelector::default();
    for term in split_terms(text)? {
        selector.match_expressions.push(requirement(term.trim())?);
    }
    Ok(selector)
}

/// Splits at the commas that are outside parentheses.
fn split_terms(text: &str) -> Result<Vec<&str>, String> {
    let mut terms = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (index, character) in text.char_indices() {
        match character {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => return Err(format!("unbalanced `{character}`")),
            ',' if !inside => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("`(` is never closed".to_owned());
    }
    terms.push(&text[start..]);
    Ok(terms)
}

fn requirement(term: &str) -> Result<Requirement, String> {
    let one = |key: &str, value: &str, make: fn(Vec<Arc<str>>) -> Operator| {
        let value = value.trim().trim_start_matches('=').trim();
        Ok(Requirement { key: key_of(key)?, operator: make(vec![value.into()]) })
    };
    if let Some((key, values)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().into()).collect();
        return match key.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => Ok(Requirement { key: key_of(key)?, operator: Operator::In(values) }),
            Some((key, "notin")) => Ok(Requirement { key: key_of(key)?, operator: Operator::NotIn(values) }),
            _ => Err(format!("`{term}`: expected `KEY in (A, B)` or `KEY notin (A, B)`")),
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return one(key, value, Operator::NotIn);
    }
    if let Some((key, value)) = term.split_once('=') {
        return one(key, value, Operator::In);
    }
    match term.strip_prefix('!') {
        Some(key) => Ok(Requirement { key: key_of(key)?, operator: Operator::DoesNotExist }),
        None => Ok(Requirement { key: key_of(term)?, operator: Operator::Exists }),
    }
}

fn key_of(key: &str) -> Result<Arc<str>, String> {
    let key = key.trim();
    if key.is_empty() || key.contains(|c: char| c.is_whitespace() || "=!(),".contains(c)) {
        return Err(format!("`{key}` is not a label key (expected for example `app=web,tier in (a, b),!old`)"));
    }
    Ok(key.strip_prefix("any:").unwrap_or(key).into())
}

/// The labels of a flow's endpoint as selectors see them: by their key, and by their key with its source.
pub(crate) fn labels(of: &[Arc<str>]) -> Labels {
    let mut labels = Labels::default();
    for text in of {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        labels.insert(key, value);
        if let Some((_, bare)) = key.split_once(':') {
            labels.insert(bare, value);
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let of: Vec<Arc<str>> = vec!["k8s:app=web".into(), "k8s:tier=front".into(), "reserved:host".into()];
        let labels = labels(&of);
        for (text, expected) in [
            ("app=web", true),
            ("app==web", true),
            ("k8s:app=web", true),
            ("any:app=web", true),
            ("app=db", false),
            ("app!=db", true),
            ("app=web,tier=back", false),
            ("tier in (front, back),app", true),
            ("tier notin (front)", false),
            ("!old", true),
            ("!app", false),
            ("reserved:host", true),
            ("reserved:world", false),
        ] {
            assert_eq!(parse(text).unwrap().matches(&labels), expected, "{text}");
        }
        for text in ["", "a,,b", "tier in (a", "a)", "tier with (a)", "a b=c", "=x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
