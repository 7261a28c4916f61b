//! JSON values as YAML in block style.

use serde_json::Value;

/// Writes a document.
pub(super) fn write(value: &Value, out: &mut String) {
    block(value, 0, out);
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (name, field)) in fields.iter().enumerate() {
                if index > 0 || indent == 0 {
                    pad(indent, out);
                }
                out.push_str(name);
                out.push(':');
                nested(field, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    pad(indent, out);
                }
                out.push_str("- ");
                block(item, indent + 2, out);
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
}

/// A field's value: behind its name, or below it.
fn nested(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            pad(indent + 2, out);
            block(value, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            pad(indent, out);
            block(value, indent, out);
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push(' ');
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// JSON's own form is YAML too; texts that no reader takes for something else go without quotes.
fn scalar(value: &Value) -> String {
    if let Value::String(text) = value
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/' | '_'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&&*text.to_ascii_lowercase())
    {
        return text.clone();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks() {
        let value = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "metadata": {"name": "a"},
            "status": {"addresses": [], "conditions": [{"message": "", "status": "True", "type": "Accepted"}, {"n": 1}], "none": {}},
        });
        let mut out = String::new();
        write(&value, &mut out);
        let expected = "apiVersion: gateway.networking.k8s.io/v1\nmetadata:\n  name: a\nstatus:\n  addresses: []\n  conditions:\n  - message: \"\"\n    status: \"True\"\n    type: Accepted\n  - n: 1\n  none: {}\n";
        assert_eq!(out, expected);
    }
}
