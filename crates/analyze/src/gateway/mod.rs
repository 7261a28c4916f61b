//! Gateways, their routes and policies: what cannot be, leads nowhere, or is claimed twice.
//!
//! What is attached where comes from [`strait_route`], as the gate would serve it. An object that is nowhere in the manifests is reported
//! only where they hold objects of its kind at all: secrets and the like are often made by others.

mod certificates;
pub(crate) mod claims;
mod listeners;
mod references;
mod routes;
mod rules;

use std::{collections::BTreeMap, sync::Arc};

use strait_api::{Kind, Object, ObjectKey, Objects, Route};
use strait_route::{Attachment, Attachments};

use crate::{Context, Report};

/// What checks of gateways look at.
pub(crate) struct Gateways<'a> {
    objects: &'a Objects,
    attached: Attachments,
    /// Seconds since 1970.
    now: i64,
}

impl<'a> Gateways<'a> {
    fn object(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Object> {
        self.objects.get(&ObjectKey { kind, namespace: namespace.into(), name: name.into() })
    }

    /// Whether there is any object of a kind: where there is none, nothing can be said of one that is missing.
    fn has_any(&self, kind: Kind) -> bool {
        self.objects.iter().any(|object| object.kind() == kind)
    }

    /// Routes by what names them.
    fn routes(&self) -> BTreeMap<ObjectKey, &'a Arc<Route>> {
        let key = |route: &'a Arc<Route>| {
            let (namespace, name) = (Arc::clone(&route.meta.namespace), Arc::clone(&route.meta.name));
            (ObjectKey { kind: route.kind(), namespace, name }, route)
        };
        self.objects.routes().map(key).collect()
    }
}

/// A listener as people are told of it.
fn listener_name(of: &Attachment) -> String {
    let (kind, (namespace, name)) = match &of.set {
        Some(set) => ("ListenerSet", set),
        None => ("Gateway", &of.gateway),
    };
    format!("listener {} of {kind} {namespace}/{name}", of.listener)
}

pub(crate) fn check(context: &Context<'_>, now: i64, report: &mut Report<'_>) {
    if context.objects.gateways().next().is_none() && context.objects.routes().next().is_none() {
        return;
    }
    let gateways = Gateways { objects: context.objects, attached: strait_route::attachments(context.objects), now };
    listeners::check(&gateways, report);
    certificates::check(&gateways, report);
    references::check(&gateways, report);
    routes::check(&gateways, report);
    rules::check(&gateways, report);
}
