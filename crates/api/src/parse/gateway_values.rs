//! What the fields of Gateway API objects may hold, as their CRDs (v1.6) check it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    decode::{Decoder, Fields},
    report::ErrorKind,
    text::Fault,
    tree::{Node, Value, quoted},
    values,
};
use crate::types::{GATEWAY_GROUP, GatewayDefaultScope, Reference};

/// What a reference names where it does not say.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
}

impl Defaults {
    pub(super) const GATEWAY: Self = Self { group: GATEWAY_GROUP, kind: "Gateway" };
    pub(super) const SECRET: Self = Self { group: "", kind: "Secret" };
    pub(super) const SERVICE: Self = Self { group: "", kind: "Service" };
}

/// A reference whose group and kind may be left out.
pub(super) fn reference(d: &mut Decoder<'_>, node: &Node, defaults: Defaults) -> Option<Reference> {
    let mut fields = d.fields(node)?;
    let reference = reference_fields(d, &mut fields, defaults);
    d.close(&fields, &[]);
    reference
}

/// The fields of a reference, in a mapping that may have others.
pub(super) fn reference_fields(d: &mut Decoder<'_>, fields: &mut Fields<'_>, defaults: Defaults) -> Option<Reference> {
    let location = d.location(fields.node.at);
    let group = d.optional(fields, "group", group);
    let kind = d.optional(fields, "kind", kind);
    let namespace = d.optional(fields, "namespace", |d, node| d.checked(node, values::label_1123));
    let name = d.required(fields, "name", "the name of the object", object_name);
    Some(Reference {
        group: group.unwrap_or_else(|| defaults.group.into()),
        kind: kind.unwrap_or_else(|| defaults.kind.into()),
        namespace,
        name: name?,
        location,
    })
}

/// A reference that must say its group and kind.
pub(super) fn full_reference(d: &mut Decoder<'_>, node: &Node, namespaced: bool) -> Option<Reference> {
    let location = d.location(node.at);
    let mut fields = d.fields(node)?;
    let group = d.required(&mut fields, "group", "a group (\"\" is the core group)", group);
    let kind = d.required(&mut fields, "kind", "a kind", kind);
    let namespace = if namespaced {
        d.optional(&mut fields, "namespace", |d, node| d.checked(node, values::label_1123))
    } else {
        None
    };
    let name = d.required(&mut fields, "name", "the name of the object", object_name);
    d.close(&fields, &[]);
    Some(Reference { group: group?, kind: kind?, namespace, name: name?, location })
}

/// A group: empty, or a DNS subdomain.
pub(super) fn group(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    let text = d.string(node)?;
    if text.is_empty() { Some(text) } else { d.checked(node, values::subdomain_1123) }
}

/// A kind, as `Service`.
pub(super) fn kind(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        let valid = (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        valid.then_some(()).ok_or("1-63 letters, digits and '-', starting with a letter, ending with a letter or digit")
    })
}

/// The scope of default gateways.
pub(super) fn default_scope(d: &mut Decoder<'_>, node: &Node) -> Option<GatewayDefaultScope> {
    let scope = one_of(d, node, &["All", "None"])?;
    Some(if scope == "All" { GatewayDefaultScope::All } else { GatewayDefaultScope::None })
}

/// The name of an object of any kind: 1 to 253 characters.
pub(super) fn object_name(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| (1..=253).contains(&text.len()).then_some(()).ok_or("1-253 characters"))
}

/// The name of a listener, a port or a rule.
pub(super) fn section_name(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, values::subdomain_1123)
}

/// A host name, perhaps with `*` as its first label. No address.
pub(super) fn hostname(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        values::subdomain_1123(text.strip_prefix("*.").unwrap_or(text))
            .ok()
            .filter(|()| !is_address(text))
            .ok_or("a DNS name in lowercase, perhaps with \"*.\" before it, and no address")
    })
}

/// A host name without a wildcard.
pub(super) fn precise_hostname(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        values::subdomain_1123(text)
            .ok()
            .filter(|()| !is_address(text))
            .ok_or("a DNS name in lowercase, and no address")
    })
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// The name of a header: a token of RFC 9110, in small letters from here on.
pub(super) fn header_name(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    header_name_as_written(d, node).map(lower)
}

/// The name of a header or of a query parameter.
pub(super) fn header_name_as_written(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        let valid = (1..=256).contains(&text.len()) && text.bytes().all(is_token);
        valid.then_some(()).ok_or("1-256 letters, digits and any of !#$%&'*+-.^_`|~")
    })
}

/// `text` in small letters.
pub(super) fn lower(text: Arc<str>) -> Arc<str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { text.to_ascii_lowercase().into() } else { text }
}

/// A regular expression of the RE2 family, of at most `most` characters.
pub(super) fn regex(d: &mut Decoder<'_>, node: &Node, most: usize) -> Option<Arc<str>> {
    let text = d.string(node)?;
    if text.is_empty() || text.len() > most {
        d.refuse(node, format!("a regular expression of 1-{most} characters"));
        return None;
    }
    match regex_syntax::parse(&text) {
        Ok(_) => Some(text),
        Err(error) => {
            let reason = match &error {
                regex_syntax::Error::Parse(error) => error.kind().to_string(),
                regex_syntax::Error::Translate(error) => error.kind().to_string(),
                _ => "it cannot be read".to_owned(),
            };
            d.refuse(node, format!("a regular expression (RE2, no look-around or back-references): {reason}"));
            None
        }
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// The value of a header: visible characters, spaces and tabs; no line breaks that would make it two headers.
pub(super) fn header_value(d: &mut Decoder<'_>, node: &Node) -> Option<Arc<str>> {
    d.checked(node, |text| {
        let valid = (1..=4096).contains(&text.len()) && text.chars().all(|c| c == '\t' || !c.is_control());
        valid.then_some(()).ok_or("1-4096 characters without control characters")
    })
}

/// One of `allowed`, which are listed in a refusal.
pub(super) fn one_of(d: &mut Decoder<'_>, node: &Node, allowed: &[&'static str]) -> Option<&'static str> {
    let text = d.string(node)?;
    let found = allowed.iter().find(|name| ***name == *text).copied();
    if found.is_none() {
        match super::decode::nearest(&text, allowed.iter().copied()) {
            Some(meant) => d.refuse_with(node, listed(allowed), format!("did you mean \"{meant}\"?")),
            None => d.refuse(node, listed(allowed)),
        }
    }
    found
}

fn listed(names: &[&str]) -> String {
    match names {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => names.concat(),
    }
}

/// A duration of GEP-2257: up to four numbers of up to five digits, each with `h`, `m`, `s` or `ms`.
pub(super) fn duration(d: &mut Decoder<'_>, node: &Node) -> Option<Duration> {
    let text = d.string(node)?;
    let read = read_duration(&text);
    if read.is_none() {
        d.refuse(node, "a duration, as 10s, 1m30s or 500ms (h, m, s, ms; whole numbers)");
    }
    read
}

fn read_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut parts, mut total) = (text, 0, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at(digits);
        let number: u64 = if (1..=5).contains(&digits) { number.parse().ok()? } else { return None };
        let (millis, length) = match unit.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b's', ..] => (1000, 1),
            [b'm', ..] => (60_000, 1),
            [b'h', ..] => (3_600_000, 1),
            _ => return None,
        };
        total += Duration::from_millis(number * millis);
        rest = &unit[length..];
        parts += 1;
    }
    (1..=4).contains(&parts).then_some(total)
}

/// An object of strings that nothing here interprets: options, labels and annotations for others.
pub(super) fn options(d: &mut Decoder<'_>, node: &Node) -> BTreeMap<Arc<str>, Arc<str>> {
    let all = d.strings(node, |d, entry| super::meta::key(d, entry, values::qualified_name));
    at_most(d, node, all.len(), 16, "entries");
    all
}

/// Refuses more than `most` of `what`.
pub(super) fn at_most(d: &mut Decoder<'_>, node: &Node, found: usize, most: usize, what: &str) {
    if found > most {
        d.fault(Fault::new(node.at, ErrorKind::Limit, format!("{found} {what}"), format!("at most {most}")));
    }
}

/// How many items a list has as written, also those that cannot be read.
pub(super) fn length(node: &Node) -> usize {
    match &node.value {
        Value::Sequence(items) => items.len(),
        Value::Scalar(_) | Value::Mapping(_) => 0,
    }
}

/// A list of `least` to `most` items.
pub(super) fn bounded<'n, T>(
    d: &mut Decoder<'_>,
    fields: &mut Fields<'n>,
    name: &'static str,
    (least, most): (usize, usize),
    read: impl FnMut(&mut Decoder<'_>, &'n Node) -> Option<T>,
) -> Vec<T> {
    let Some(node) = fields.get(name) else {
        if least > 0 {
            d.missing(fields.node.at, name, &format!("{least}-{most} items"));
        }
        return Vec::new();
    };
    d.within(super::decode::Step::Field(name), |d| {
        let items = d.items(node, read).unwrap_or_default();
        at_most(d, node, length(node), most, "items");
        if least > 0 && length(node) < least && matches!(node.value, Value::Sequence(_)) {
            d.fault(Fault::new(node.at, ErrorKind::Missing, "an empty list", format!("{least}-{most} items")));
        }
        items
    })
}

/// Something that may be there once only.
pub(super) fn twice(d: &mut Decoder<'_>, node: &Node, what: &str, allowed: &str) {
    d.fault(Fault::new(node.at, ErrorKind::Duplicate, format!("{} a second time", quoted(what)), allowed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("1m500ms", Some(60_500)),
            ("500ms", Some(500)),
            ("", None),
            ("10", None),
            ("1.5s", None),
            ("-1s", None),
            ("123456s", None),
            ("1s1s1s1s1s", None),
            ("10S", None),
        ] {
            assert_eq!(read_duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }
}
