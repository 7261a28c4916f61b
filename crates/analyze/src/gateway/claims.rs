//! Who claims what, and what is claimed twice. Any kind of route can be among the claims.

use std::collections::BTreeMap;

use strait_base::Location;

use crate::{
    Report,
    finding::{Code, ObjectRef},
    place::At,
};

/// What a match of a route claims.
#[derive(Clone)]
pub(crate) struct Claim {
    /// Where: a listener, as people are told of it.
    pub place: String,
    /// Of which host or server name; `*` for all.
    pub host: String,
    /// What of it, as `path prefix /a` or `connections`.
    pub what: String,
    /// What else must hold, in one order; empty for nothing.
    pub conditions: String,
    pub object: ObjectRef,
    /// Where the claim is written.
    pub at: At,
    /// Which of two alike claims is served: the lower one.
    pub rank: (i64, String, usize, usize),
}

/// What is said of claims that are alike.
pub(crate) struct Says {
    /// Two objects claim the same.
    pub between: &'static Code,
    /// One object claims the same twice.
    pub within: &'static Code,
}

/// Reports every claim that another one leaves nothing to, once, and names both.
pub(crate) fn check(claims: &[Claim], says: &Says, report: &mut Report<'_>) {
    let mut groups: BTreeMap<(&str, &str, &str, &str), Vec<&Claim>> = BTreeMap::new();
    for claim in claims {
        groups.entry((&claim.place, &claim.host, &claim.what, &claim.conditions)).or_default().push(claim);
    }
    // The same pair may meet at several listeners and hosts.
    let mut pairs: BTreeMap<(Location, Location), (&Claim, &Claim, Vec<String>)> = BTreeMap::new();
    for group in groups.values_mut() {
        group.sort_by(|a, b| a.rank.cmp(&b.rank));
        let [first, others @ ..] = group.as_slice() else { continue };
        for other in others {
            let key = (other.at.base().clone(), first.at.base().clone());
            if key.0 == key.1 {
                continue;
            }
            let hosts = &mut pairs.entry(key).or_insert((*other, *first, Vec::new())).2;
            if !hosts.contains(&other.host) {
                hosts.push(other.host.clone());
            }
        }
    }
    for (other, first, hosts) in pairs.values() {
        let (_, location) = report.files.locate(&first.at);
        let host = match hosts.as_slice() {
            [host] if host == "*" => "all hosts".to_owned(),
            hosts => hosts.join(", "),
        };
        let condition = if other.conditions.is_empty() { String::new() } else { format!(" with {}", other.conditions) };
        let what = format!("{}{condition} of {host} at {}", other.what, other.place);
        if other.object == first.object {
            let message = format!("{what} is taken by {location} of the same object already: nothing is left for this");
            report.add(says.within, &other.object, &other.at, message, "remove one of the two, or say how they differ");
        } else {
            let message = format!(
                "{what} is claimed by {} ({location}) as well, which was there first and takes it",
                first.object
            );
            let remedy = "leave it to one of the two, or say by host, path or header how they differ";
            report.add(says.between, &other.object, &other.at, message, remedy);
        }
    }
}
