//! Listeners of one gateway whose TLS overlaps: a client that uses a connection again may reach one of them by the handshake of another.

use std::collections::BTreeMap;

use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer as _, Pem},
};

use super::{
    attach::terminates,
    certificates::Certificates,
    conflicts::{Port, port},
    gateways::ListenerState,
};
use crate::status::Condition;

/// Listeners by a name that they have: an exact one, a wildcard (`*.example.com`), or the empty one for all.
type Named = BTreeMap<String, Vec<usize>>;

/// Of each listener that takes routes, another one on its port that does handshakes for some of the same names: by their hostnames, or by
/// the names in their certificates, which comes first.
pub(super) fn overlaps(listeners: &[ListenerState], certificates: &Certificates) -> Vec<Option<Condition>> {
    let mut ports: BTreeMap<Port, Vec<usize>> = BTreeMap::new();
    for (index, state) in listeners.iter().enumerate() {
        if state.takes_routes() && terminates(&state.listener) {
            ports.entry(port(&state.listener)).or_default().push(index);
        }
    }
    let mut out = vec![None; listeners.len()];
    let condition = |reason, what: &str, other: usize| {
        let message = format!("listener {} has {what} in common", listeners[other].listener.name);
        Condition::because(reason, message)
    };
    for all in ports.values().filter(|all| all.len() > 1) {
        let (mut hosts, mut names) = (Named::new(), Named::new());
        for index in all {
            let state = &listeners[*index];
            add(&mut hosts, state.listener.hostname.as_deref().unwrap_or_default(), *index);
            for name in state.certificates.iter().flat_map(|id| certificates.names(*id)) {
                add(&mut names, name, *index);
            }
        }
        for (index, other) in partners(&hosts, usize::MAX) {
            out[index] = Some(condition("OverlappingHostnames", "hostnames", other));
        }
        for (index, other) in partners(&names, 1) {
            out[index] = Some(condition("OverlappingCertificates", "names of certificates", other));
        }
    }
    out
}

fn add(named: &mut Named, name: &str, index: usize) {
    let of = named.entry(name.to_owned()).or_default();
    if of.last() != Some(&index) {
        of.push(index);
    }
}

/// For each listener that has a name in common with another one, such a one. A wildcard stands for so many labels at most.
fn partners(named: &Named, labels: usize) -> BTreeMap<usize, usize> {
    let mut found = BTreeMap::new();
    let mut pair = |of: &[usize], with: &[usize]| {
        for index in of {
            if let Some(other) = with.iter().find(|other| *other != index) {
                found.entry(*index).or_insert(*other);
            }
        }
    };
    for (name, all) in named {
        pair(all, all);
        for wider in covering(name, labels) {
            let Some(others) = named.get(&wider) else { continue };
            pair(all, others);
            // Several of one name have each other already.
            if let [other] = others.as_slice() {
                pair(&[*other], all);
            }
        }
    }
    found
}

/// The names that cover a name beside itself.
fn covering(name: &str, labels: usize) -> impl Iterator<Item = String> {
    let wildcard = name.starts_with('*');
    // The first dot of a wildcard is its own.
    let dots = name.match_indices('.').skip(usize::from(wildcard)).map(|(at, _)| format!("*{}", &name[at..]));
    let all = (!name.is_empty() && labels > 1).then(String::new);
    dots.take(if wildcard { labels - 1 } else { labels }).chain(all)
}

/// The DNS names that the first certificate of a chain is for, in small letters; none where it cannot be read.
pub(super) fn dns_names(chain: &[u8]) -> Vec<String> {
    let Some(pem) = Pem::iter_from_buffer(chain).flatten().next() else { return Vec::new() };
    let Ok((_, certificate)) = X509Certificate::from_der(&pem.contents) else { return Vec::new() };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.into_iter().flat_map(|names| &names.value.general_names);
    let of = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None }
    };
    names.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of listeners by their places, and which of them overlap.
    #[track_caller]
    fn check(listeners: &[&[&str]], labels: usize, expected: &[usize]) {
        let mut named = Named::new();
        for (index, all) in listeners.iter().enumerate() {
            all.iter().for_each(|name| add(&mut named, name, index));
        }
        let found: Vec<usize> = partners(&named, labels).into_keys().collect();
        assert_eq!(found, expected, "{listeners:?}");
    }

    #[test]
    fn hostnames() {
        for (names, expected) in [
            (&[&["foo.example.com"][..], &["foo.example.org"], &["*.example.com"]][..], &[0, 2][..]),
            (&[&["a.b.c"], &["*.c"], &["*.d"]], &[0, 1]),
            (&[&["*.b.c"], &["*.c"]], &[0, 1]),
            (&[&["b.c"], &["*.b.c"]], &[]),
            (&[&[""], &["a.b"], &["*.c"]], &[0, 1, 2]),
            (&[&[""]], &[]),
            (&[&["a.b"], &["a.b"]], &[0, 1]),
            (&[&["*.com"], &["a.com"], &["b.a.com"], &["org"]], &[0, 1, 2]),
        ] {
            check(names, usize::MAX, expected);
        }
    }

    #[test]
    fn names_of_certificates() {
        for (names, expected) in [
            (&[&["a.x"][..], &["*.x"]][..], &[0, 1][..]),
            // A wildcard stands for one label.
            (&[&["b.a.x"], &["*.x"]], &[]),
            (&[&["*.a.x"], &["*.x"]], &[]),
            (&[&["*.x"], &["*.x"], &["y"]], &[0, 1]),
            (&[&["a.x", "*.x"], &["y"]], &[]),
            (&[&["y", "a.x"], &["z", "*.x"], &["a.y"]], &[0, 1]),
        ] {
            check(names, 1, expected);
        }
    }
}
