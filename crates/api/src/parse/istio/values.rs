//! Values that several of Istio's kinds have.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use strait_base::Labels;

use super::super::{
    decode::{Decoder, Fields, Step},
    gateway_values::{self as gv, lower, one_of, twice},
    meta,
    report::{ErrorKind, Topic},
    text::Fault,
    tree::{Entry, Node, Reads, Scalar, Value, quoted},
    values,
};
use crate::types::istio::{ExportTo, Percent, PortProtocol, Real, StringMatch, Strings};

/// The longest regular expression: a larger one is no match of a request.
const MAX_REGEX: usize = 4096;

/// A string that is not empty.
pub(super) fn text(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| if text.is_empty() { Err("a string that is not empty") } else { Ok(()) })
}

/// A string; an empty one is as good as none, as protobuf has it.
pub(super) fn maybe(d: &mut Decoder<'_>, fields: &mut Fields<'_>, name: &'static str) -> Option<Arc<str>> {
    d.optional(fields, name, Decoder::string).filter(|text| !text.is_empty())
}

/// One of several names for values; an empty string is none.
pub(super) fn choice<T: Copy>(
    d: &mut Decoder<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    all: &[(&'static str, T)],
) -> Option<T> {
    d.optional(fields, name, |d, node| {
        let names: Vec<&'static str> = all.iter().map(|(name, _)| *name).collect();
        let found = one_of(d, node, &names)?;
        all.iter().find(|(name, _)| *name == found).map(|(_, value)| *value)
    })
}

/// A flag; false where not given.
pub(super) fn flag(d: &mut Decoder<'_>, fields: &mut Fields<'_>, name: &'static str) -> bool {
    d.optional(fields, name, Decoder::boolean).unwrap_or(false)
}

/// A list of strings that are not empty.
pub(super) fn texts(d: &mut Decoder<'_>, fields: &mut Fields<'_>, name: &'static str) -> Vec<Arc<str>> {
    d.list(fields, name, text)
}

/// A count, from 0.
pub(super) fn count(d: &mut Decoder<'_>, fields: &mut Fields<'_>, name: &'static str) -> Option<u32> {
    d.optional(fields, name, Decoder::natural)
}

/// Says of a field that is there that nothing enforces it yet.
pub(super) fn not_enforced(d: &mut Decoder<'_>, fields: &mut Fields<'_>, name: &'static str, why: &str) {
    if let Some(node) = fields.get(name) {
        d.within(Step::Field(name), |d| unenforced(d, node, why));
    }
}

/// Says of the value that is being read that nothing enforces it yet.
pub(super) fn unenforced(d: &mut Decoder<'_>, node: &Node, why: &str) {
    d.warn(node.at, Topic::NotEnforced, why);
}

/// A `StringMatch`: at most one of its three.
pub(super) fn string_match(d: &mut Decoder<'_>, node: &Node) -> Option<StringMatch> {
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let exact = d.optional(&mut fields, "exact", Decoder::string);
    let prefix = d.optional(&mut fields, "prefix", text);
    let pattern = d.optional(&mut fields, "regex", |d, node| gv::regex(d, node, MAX_REGEX));
    d.close(&fields, &[]);
    if d.errors.len() > before {
        return None;
    }
    match (exact, prefix, pattern) {
        (None, None, None) => Some(StringMatch::Present),
        (Some(text), None, None) => Some(StringMatch::Exact(text)),
        (None, Some(text), None) => Some(StringMatch::Prefix(text)),
        (None, None, Some(text)) => Some(StringMatch::Regex(text)),
        _ => {
            let found = "more than one of exact, prefix and regex";
            d.fault(Fault::new(node.at, ErrorKind::Value, found, "one of the three"));
            None
        }
    }
}

/// An object of string matches by name.
pub(super) fn string_matches(
    d: &mut Decoder<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    key: fn(&mut Decoder<'_>, &Entry) -> Option<Arc<str>>,
) -> BTreeMap<Arc<str>, StringMatch> {
    entries(d, fields, name, key, |d, node| {
        if node.is_null() {
            d.refuse(node, "a string match; {} asks that there is a value");
            return None;
        }
        string_match(d, node)
    })
}

/// An object whose keys are data.
pub(super) fn entries<T>(
    d: &mut Decoder<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    key: fn(&mut Decoder<'_>, &Entry) -> Option<Arc<str>>,
    mut read: impl FnMut(&mut Decoder<'_>, &Node) -> Option<T>,
) -> BTreeMap<Arc<str>, T> {
    let read_all = |d: &mut Decoder<'_>, node: &Node| {
        let Value::Mapping(all) = &node.value else {
            let found = Fault::new(node.at, ErrorKind::Type, node.found_type(), "an object");
            d.fault(found);
            return None;
        };
        let mut out = BTreeMap::new();
        for entry in all {
            let key = key(d, entry);
            let value = d.within(Step::Key(Arc::clone(&entry.key)), |d| read(d, &entry.value));
            if let (Some(key), Some(value)) = (key, value)
                && out.insert(Arc::clone(&key), value).is_some()
            {
                let found = format!("{} a second time", quoted(&key));
                d.fault(Fault::new(entry.key_at, ErrorKind::Duplicate, found, "each name once, whatever its case"));
            }
        }
        Some(out)
    };
    d.optional(fields, name, read_all).unwrap_or_default()
}

/// The name of a header as a key, in small letters from here on.
pub(super) fn header_key(d: &mut Decoder<'_>, entry: &Entry) -> Option<Arc<str>> {
    let name = entry.key.strip_prefix(':').unwrap_or(&entry.key);
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let claim = entry.key.starts_with("@request.auth.claims");
    let valid = (1..=256).contains(&name.len()) && (claim || name.bytes().all(token));
    if !valid {
        let found = format!("the key {}", quoted(&entry.key));
        let allowed = "the name of a header: 1-256 letters, digits and any of !#$%&'*+-.^_`|~";
        d.fault(Fault::new(entry.key_at, ErrorKind::Value, found, allowed));
        return None;
    }
    Some(if claim { Arc::clone(&entry.key) } else { lower(Arc::clone(&entry.key)) })
}

/// Any key.
#[expect(clippy::unnecessary_wraps, reason = "as other readers of keys, which may refuse")]
pub(super) fn any_key(_: &mut Decoder<'_>, entry: &Entry) -> Option<Arc<str>> {
    Some(Arc::clone(&entry.key))
}

/// Labels, as a plain object.
pub(super) fn labels(d: &mut Decoder<'_>, fields: &mut Fields<'_>, name: &'static str) -> Labels {
    d.optional(fields, name, |d, node| Some(meta::labels(d, node))).unwrap_or_default()
}

/// As [`labels`].
pub(super) fn label_strings(d: &mut Decoder<'_>, fields: &mut Fields<'_>, name: &'static str) -> Strings {
    labels(d, fields, name).iter().map(|(key, value)| (Arc::from(key), Arc::from(value))).collect()
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `100ms`; from zero.
pub(super) fn duration(d: &mut Decoder<'_>, node: &Node) -> Option<Duration> {
    let text = d.string(node)?;
    let read = go_duration(&text);
    if read.is_none() {
        d.refuse(node, "a duration, as 10s, 1m30s, 1.5s or 500ms (h, m, s, ms)");
    }
    read
}

/// A duration of at least a millisecond.
pub(super) fn some_duration(d: &mut Decoder<'_>, node: &Node) -> Option<Duration> {
    let read = duration(d, node)?;
    if read < Duration::from_millis(1) {
        d.refuse(node, "a duration of at least 1ms");
        return None;
    }
    Some(read)
}

fn go_duration(text: &str) -> Option<Duration> {
    const NANOS: [(&str, u64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(length);
        let nanos = NANOS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 9 {
            return None;
        }
        let mut part: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        part = part.checked_mul(nanos)?;
        let mut unit = nanos;
        for digit in fraction.bytes() {
            unit /= 10;
            part += u64::from(digit - b'0') * unit;
        }
        total = total.checked_add(Duration::from_nanos(part))?;
        rest = next;
    }
    Some(total)
}

/// A number with a fraction, within bounds.
pub(super) fn real(d: &mut Decoder<'_>, node: &Node, (least, most): (f64, f64)) -> Option<Real> {
    let number = match &node.value {
        Value::Scalar(Scalar { text, reads: Reads::Int(_) | Reads::Float }) => text.parse::<f64>().ok(),
        Value::Scalar(_) | Value::Sequence(_) | Value::Mapping(_) => {
            let found = Fault::new(node.at, ErrorKind::Type, node.found_type(), format!("a number, {least}-{most}"));
            d.fault(found);
            return None;
        }
    };
    let number = number.filter(|number| (least..=most).contains(number));
    if number.is_none() {
        d.refuse(node, format!("a number, {least}-{most}"));
    }
    number.map(Real)
}

/// `percentage`: its `value`, 0-100.
pub(super) fn percentage(d: &mut Decoder<'_>, node: &Node) -> Option<Percent> {
    let mut fields = d.fields(node)?;
    let value = d.optional(&mut fields, "value", percent);
    d.close(&fields, &[]);
    // Protobuf's zero, where nothing is given.
    Some(value.unwrap_or(Percent { millionths: 0 }))
}

/// A part of a hundred.
pub(super) fn percent(d: &mut Decoder<'_>, node: &Node) -> Option<Percent> {
    let Real(value) = real(d, node, (0.0, 100.0))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 0 to 1,000,000")]
    let millionths = (value * 10_000.0).round() as u32;
    Some(Percent { millionths })
}

/// `port: {number: PORT}`.
pub(super) fn port_selector(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Option<u16> {
    d.optional(fields, "port", |d, node| {
        let mut fields = d.fields(node)?;
        let number = d.required(&mut fields, "number", "a port, 1-65535", Decoder::port);
        d.close(&fields, &[]);
        number
    })
}

/// `protocol` of a port, whatever its case.
pub(super) fn protocol(d: &mut Decoder<'_>, node: &Node) -> Option<PortProtocol> {
    let text = d.string(node)?;
    let upper = text.to_ascii_uppercase();
    let found = PortProtocol::ALL.iter().find(|(name, _)| *name == upper).map(|(_, protocol)| *protocol);
    if found.is_none() {
        d.refuse(node, "HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, REDIS, MYSQL, TCP or TLS");
    }
    found
}

/// A host name, perhaps with `*` as its first label, or `*` alone; in small letters from here on.
pub(super) fn wildcard_host(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    let text = d.string(node)?;
    if !is_wildcard_host(&text) {
        d.refuse(node, "a DNS name, perhaps with \"*.\" before it, or \"*\"");
        return None;
    }
    Some(lower(text))
}

pub(super) fn is_wildcard_host(text: &str) -> bool {
    text == "*" || is_host(text.strip_prefix("*.").or_else(|| text.strip_prefix("*-")).unwrap_or(text))
}

/// A host name, of labels as istiod takes them: letters of either case, digits, `-` and `_` within.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        (1..=63).contains(&label.len())
            && (end(label.as_bytes().first()) || label.starts_with('_'))
            && end(label.as_bytes().last())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 255 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// A host name without a wildcard.
pub(super) fn host(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    let text = d.string(node)?;
    if !is_host(&text) {
        d.refuse(node, "a DNS name");
        return None;
    }
    Some(lower(text))
}

/// An address or a prefix.
pub(super) fn subnet(d: &mut Decoder<'_>, node: &Node) -> Option<IpNet> {
    let text = d.string(node)?;
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    if net.is_none() {
        d.refuse(node, "an address or a CIDR, as 10.0.0.1 or 10.0.0.0/8");
    }
    net.map(|net| net.trunc())
}

/// `exportTo`: `*` alone, `~` alone, or `.` and names of namespaces, each once.
pub(super) fn export_to(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> ExportTo {
    let Some(node) = fields.get("exportTo") else { return ExportTo::All };
    let mut names: Vec<Arc<str>> = Vec::new();
    d.within(Step::Field("exportTo"), |d| {
        let items = d.items(node, |d, node| {
            let name = d.checked(node, |text| match text {
                "." | "*" | "~" => Ok(()),
                _ => values::label_1123(text),
            })?;
            if names.contains(&name) {
                twice(d, node, &name, "each namespace once");
            }
            names.push(name);
            Some(())
        });
        if items.is_some() && names.len() > 1 && names.iter().any(|name| matches!(&**name, "*" | "~")) {
            let fault = Fault::new(node.at, ErrorKind::Value, node.found(), "\"*\" or \"~\" alone, or namespaces");
            d.fault(fault);
        }
    });
    match names.first().map(|name| &**name) {
        None | Some("*") => ExportTo::All,
        Some("~") => ExportTo::Namespaces(Vec::new()),
        Some(_) => ExportTo::Namespaces(names),
    }
}

/// `gateways`: `NAME`, `NAMESPACE/NAME` or `mesh`.
pub(super) fn gateways(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Vec<Arc<str>> {
    d.list(fields, "gateways", |d, node| {
        d.checked(node, |text| {
            let (namespace, name) = text.split_once('/').unwrap_or((".", text));
            let namespace = namespace == "." || values::label_1123(namespace).is_ok();
            let valid = namespace && values::subdomain_1123(name).is_ok();
            valid.then_some(()).ok_or("the name of a Gateway, as NAME or NAMESPACE/NAME, or mesh")
        })
    })
}

/// The `matchLabels` or `labels` of a selector; a wildcard is no label.
pub(super) fn selector(
    d: &mut Decoder<'_>,
    fields: &mut Fields<'_>,
    name: &'static str,
    of: &'static str,
) -> Option<Labels> {
    d.optional(fields, name, |d, node| {
        let mut fields = d.fields(node)?;
        let found = labels(d, &mut fields, of);
        d.close(&fields, &[]);
        if found.0.is_empty() {
            d.missing(node.at, of, "at least one label");
            return None;
        }
        Some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("7s", Some(7_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("3.000000001s", Some(3_000_000_001)),
            ("100ms", Some(100_000_000)),
            ("1us", Some(1000)),
            ("1µs2ns", Some(1002)),
            ("", None),
            ("1", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("+1s", None),
            ("1d", None),
            ("99999999999h", None),
            ("1 s", None),
        ] {
            assert_eq!(go_duration(text), nanos.map(Duration::from_nanos), "{text:?}");
        }
    }

    #[test]
    fn hosts() {
        for good in ["a", "a.b", "*.a", "*", "*-a.b", "a.b.", "A.b", "a_b", "_tcp.a", "1.2"] {
            assert!(is_wildcard_host(good), "{good}");
        }
        for bad in ["", ".", "a..b", "*a", "a.*", "**", "-a", "a-", "a/b", "a b", "*."] {
            assert!(!is_wildcard_host(bad), "{bad}");
        }
    }
}
