//! Routes that are another virtual service's: put in the place of the route that delegates, within its matches.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use strait_api::{
    Kind, Object, ObjectKey, Objects,
    istio::{HttpAction, HttpMatch, HttpRoute, StringMatch, VirtualService},
};

use super::{Trouble, TroubleKind, key_of};

/// A route, and the virtual service that it was written in.
pub(super) struct Expanded<'a> {
    pub(super) route: Cow<'a, HttpRoute>,
    pub(super) from: &'a Arc<VirtualService>,
    /// Its place there.
    pub(super) index: usize,
}

/// The routes of a virtual service, those of its delegates in place of the routes that name them.
pub(super) fn expand<'a>(
    of: &'a Arc<VirtualService>,
    objects: &'a Objects,
    troubles: &mut Vec<Trouble>,
) -> Vec<Expanded<'a>> {
    let mut out = Vec::new();
    for (index, route) in of.http.iter().enumerate() {
        let HttpAction::Delegate(delegate) = &route.action else {
            out.push(Expanded { route: Cow::Borrowed(route), from: of, index });
            continue;
        };
        let mut trouble = |kind, message| {
            let (object, location) = (key_of(Kind::VirtualService, &of.meta), route.location.clone());
            troubles.push(Trouble { kind, object, location, message });
        };
        let namespace = delegate.namespace.as_ref().unwrap_or(&of.meta.namespace);
        let key = ObjectKey {
            kind: Kind::VirtualService,
            namespace: Arc::clone(namespace),
            name: Arc::clone(&delegate.name),
        };
        let found = match objects.get(&key) {
            Some(Object::VirtualService(found))
                if found.hosts.is_empty() && found.export_to.reaches(namespace, &of.meta.namespace) =>
            {
                found
            }
            Some(_) => {
                trouble(TroubleKind::Missing, format!("{key} has hosts, or is not visible here: it is no delegate"));
                continue;
            }
            None => {
                trouble(TroubleKind::Missing, format!("there is no {key}: the route takes no request"));
                continue;
            }
        };
        for (index, inner) in found.http.iter().enumerate() {
            match merged(route, inner) {
                Some(merged) => out.push(Expanded { route: Cow::Owned(merged), from: found, index }),
                None => trouble(
                    TroubleKind::Unusable,
                    format!("the route at {} matches what this one does not: it takes no request", inner.location),
                ),
            }
        }
    }
    out
}

/// A delegate's route within the matches of the root's: what it does not say itself is the root's. None where it would match more.
fn merged(root: &HttpRoute, inner: &HttpRoute) -> Option<HttpRoute> {
    let matches = match (root.matches.as_slice(), inner.matches.as_slice()) {
        ([], all) | (all, []) => all.to_vec(),
        (roots, inners) => {
            let mut out = Vec::new();
            for of in inners {
                let before = out.len();
                out.extend(roots.iter().filter(|root| !conflict(root, of)).map(|root| within(root, of)));
                if out.len() == before {
                    return None;
                }
            }
            out
        }
    };
    let inner = inner.clone();
    Some(HttpRoute {
        name: joined(root.name.as_ref(), inner.name.as_ref()),
        matches,
        action: inner.action,
        rewrite: inner.rewrite.or_else(|| root.rewrite.clone()),
        timeout: inner.timeout.or(root.timeout),
        retries: inner.retries.or_else(|| root.retries.clone()),
        fault: inner.fault.or_else(|| root.fault.clone()),
        mirrors: if inner.mirrors.is_empty() { root.mirrors.clone() } else { inner.mirrors },
        cors_policy: inner.cors_policy.or_else(|| root.cors_policy.clone()),
        headers: inner.headers.or_else(|| root.headers.clone()),
        location: inner.location,
    })
}

fn joined(root: Option<&Arc<str>>, inner: Option<&Arc<str>>) -> Option<Arc<str>> {
    match (root, inner) {
        (Some(root), Some(inner)) => Some(format!("{root}-{inner}").into()),
        (one, other) => one.or(other).cloned(),
    }
}

/// Both matches as one.
fn within(root: &HttpMatch, of: &HttpMatch) -> HttpMatch {
    let all = |root: &BTreeMap<Arc<str>, StringMatch>, of: &BTreeMap<Arc<str>, StringMatch>| {
        let mut all = root.clone();
        all.extend(of.clone());
        all
    };
    let mut source_labels = root.source_labels.clone();
    source_labels.extend(of.source_labels.clone());
    HttpMatch {
        name: joined(root.name.as_ref(), of.name.as_ref()),
        uri: of.uri.clone().or_else(|| root.uri.clone()),
        scheme: of.scheme.clone().or_else(|| root.scheme.clone()),
        method: of.method.clone().or_else(|| root.method.clone()),
        authority: of.authority.clone().or_else(|| root.authority.clone()),
        headers: all(&root.headers, &of.headers),
        without_headers: all(&root.without_headers, &of.without_headers),
        query_params: all(&root.query_params, &of.query_params),
        port: of.port.or(root.port),
        source_labels,
        source_namespace: of.source_namespace.clone().or_else(|| root.source_namespace.clone()),
        gateways: if of.gateways.is_empty() { root.gateways.clone() } else { of.gateways.clone() },
        ignore_uri_case: of.ignore_uri_case,
        stat_prefix: of.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
        location: of.location.clone(),
    }
}

/// Whether `of` asks for something that `root` does not cover.
fn conflict(root: &HttpMatch, of: &HttpMatch) -> bool {
    let texts = [
        (&root.uri, &of.uri),
        (&root.scheme, &of.scheme),
        (&root.method, &of.method),
        (&root.authority, &of.authority),
    ];
    let named = [
        (&root.headers, &of.headers),
        (&root.without_headers, &of.without_headers),
        (&root.query_params, &of.query_params),
    ];
    let differ = |a: Option<u16>, b: Option<u16>| a.zip(b).is_some_and(|(a, b)| a != b);
    let spaces = root.source_namespace.as_ref().zip(of.source_namespace.as_ref());
    texts.into_iter().any(|(root, of)| texts_conflict(root.as_ref(), of.as_ref()))
        || named.into_iter().any(|(root, of)| of.iter().any(|(name, of)| texts_conflict(root.get(name), Some(of))))
        || root.ignore_uri_case != of.ignore_uri_case
        || differ(root.port, of.port)
        || spaces.is_some_and(|(a, b)| a != b)
        || of.source_labels.iter().any(|(key, value)| root.source_labels.get(key).is_some_and(|other| other != value))
        || (!root.gateways.is_empty() && of.gateways.iter().any(|name| !root.gateways.contains(name)))
}

fn texts_conflict(root: Option<&StringMatch>, of: Option<&StringMatch>) -> bool {
    let (Some(root), Some(of)) = (root, of) else { return false };
    match (root, of) {
        (StringMatch::Present, _) => false,
        (StringMatch::Exact(root), StringMatch::Exact(of)) => root != of,
        (StringMatch::Prefix(root), StringMatch::Exact(of) | StringMatch::Prefix(of)) => !of.starts_with(&**root),
        (StringMatch::Exact(_) | StringMatch::Prefix(_) | StringMatch::Regex(_), _) => true,
    }
}
