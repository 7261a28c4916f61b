//! Which hosts virtual services and servers of gateways have in common.

use std::sync::Arc;

use strait_api::istio::{Gateway, ServerHost, VirtualService};

use crate::hosts::intersection;

/// The name of a gateway as `NAMESPACE/NAME`; `.` and none are the namespace of who says it.
pub(super) fn absolute(name: &str, home: &str) -> Arc<str> {
    match name.split_once('/') {
        Some((".", name)) => format!("{home}/{name}").into(),
        Some(_) => name.into(),
        None => format!("{home}/{name}").into(),
    }
}

/// A host as tables have it: none for `*`.
pub(super) fn table_name(host: &Arc<str>) -> Option<Arc<str>> {
    (&**host != "*").then(|| Arc::clone(host))
}

/// The hosts that a server and a virtual service have in common: of each pair that overlaps the one that says more.
pub(super) fn common_hosts(
    (gateway, hosts): (&Gateway, &[ServerHost]),
    of: &VirtualService,
    names: &[Arc<str>],
) -> Vec<Option<Arc<str>>> {
    let home = &of.meta.namespace;
    let allowed = |host: &&ServerHost| match host.namespace.as_deref() {
        None => true,
        Some(".") => gateway.meta.namespace == *home,
        Some(namespace) => namespace == &**home,
    };
    let mut out: Vec<Option<Arc<str>>> = Vec::new();
    for server in hosts.iter().filter(allowed) {
        for name in names {
            let full: Arc<str> = super::registry::full_name(name, home);
            let common = intersection(table_name(&server.host).as_ref(), table_name(&full).as_ref());
            out.extend(common.filter(|common| !out.contains(common)));
        }
    }
    out
}
