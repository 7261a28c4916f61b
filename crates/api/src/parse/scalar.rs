//! What a plain YAML scalar reads as.
//!
//! Kubernetes reads manifests through `sigs.k8s.io/yaml`, whose scalars are those of YAML 1.1: `yes`, `on` and `y` are booleans, `010` is eight and `1_000`
//! a thousand. A label `enabled: on` is refused by the API server because it is a boolean; reading it as a string here would put in force what
//! Kubernetes does not. So the same table is used (`goyaml.v2/resolve.go`). Two things are stricter: where a number is wanted, one with a leading zero
//! or a fraction is refused with what it would have been read as (`decode.rs`).

use super::tree::Reads;

/// What an untagged plain scalar reads as.
pub(crate) fn resolve(text: &str) -> Reads {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Reads::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Reads::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Reads::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Reads::Float,
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' if is_float(text) => Reads::Float,
        b'0'..=b'9' | b'+' | b'-' => number(text),
        _ => Reads::String,
    }
}

/// Integers in the bases of Go's `ParseInt(_, 0, 64)` and decimal fractions; dates and anything else are strings.
fn number(text: &str) -> Reads {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (negative, digits) = match plain.as_bytes().first() {
        Some(b'-') => (true, &plain[1..]),
        Some(b'+') => (false, &plain[1..]),
        _ => (false, plain.as_str()),
    };
    let (base, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some(_) if digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.is_empty() && digits.chars().all(|c| c.is_digit(base)) {
        return match i128::from_str_radix(digits, base).map(|value| if negative { -value } else { value }) {
            Ok(value) => i64::try_from(value).map_or(Reads::Float, Reads::Int),
            Err(_) => Reads::Float,
        };
    }
    if is_float(&plain) { Reads::Float } else { Reads::String }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
        && (!whole.is_empty() || mantissa.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_kubernetes_does() {
        let cases = [
            ("80", Reads::Int(80)),
            ("-1", Reads::Int(-1)),
            ("+7", Reads::Int(7)),
            ("0", Reads::Int(0)),
            ("0x50", Reads::Int(80)),
            ("0b101", Reads::Int(5)),
            ("0o17", Reads::Int(15)),
            ("010", Reads::Int(8)),
            ("0080", Reads::Float),
            ("1_000", Reads::Int(1000)),
            ("99999999999999999999", Reads::Float),
            ("1.5", Reads::Float),
            (".5", Reads::Float),
            ("1e3", Reads::Float),
            ("1.", Reads::Float),
            ("-.inf", Reads::Float),
            ("yes", Reads::Bool(true)),
            ("y", Reads::Bool(true)),
            ("Off", Reads::Bool(false)),
            ("TRUE", Reads::Bool(true)),
            ("tRUE", Reads::String),
            ("~", Reads::Null),
            ("", Reads::Null),
            ("null", Reads::Null),
            ("nULL", Reads::String),
            ("10.0.0.1", Reads::String),
            ("10.0.0.0/8", Reads::String),
            ("2026-11-22", Reads::String),
            ("1:30", Reads::String),
            ("-", Reads::String),
            ("+", Reads::String),
            (".", Reads::String),
            ("0x", Reads::String),
            ("1e", Reads::String),
            ("8080-9090", Reads::String),
            ("v1", Reads::String),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
    }
}
