//! Bytes to typed objects.
//!
//! ```text
//! bytes ─text─▶ UTF-8 ─yaml, json─▶ located tree ─kinds─▶ which kind ─decode─▶ typed object, errors with field paths
//! ```
//!
//! Values are checked as the API server would, and read as it would (`scalar.rs` for YAML's surprises). Where a policy could be understood in a way that its
//! author did not mean, it is refused although the API server would take it: unknown fields, null in place of a rule or peer, numbers with
//! a leading zero.

mod cilium;
mod cilium_l7;
mod cilium_ports;
mod cilium_select;
mod cluster_policies;
mod decode;
mod filters;
mod gateway;
mod gateway_values;
mod identities;
mod istio;
mod json;
mod kinds;
mod meta;
mod networking;
mod outline;
mod pods;
mod report;
mod routes;
mod scalar;
mod services;
mod text;
mod traffic;
mod tree;
mod values;
mod workloads;
mod yaml;

use std::{collections::BTreeMap, sync::Arc};

pub use self::istio::{mesh_proxy_config, proxy_config};
pub use self::outline::{Outline, Place};
pub use self::report::{ErrorKind, Note, ParseError, Parsed, Severity, Topic};
pub(crate) use self::text::MAX_BYTES;
use self::{
    decode::{Decoder, Step},
    kinds::Class,
    routes::RouteKind,
    text::Fault,
    tree::{Node, quoted},
};
use crate::{
    objects::ObjectKey,
    types::{ClusterPolicyKind, Kind, Object, WorkloadKind},
};

/// Reads all objects of a file: YAML with any number of documents, or JSON (by the name `*.json`, or where the text begins with `{`).
///
/// `file` is how errors and locations name it. An object with an error is not among the objects; the others are, so that a caller may still look at them.
/// `v1` `List`s (and `PodList` …) are expanded. A kind that means nothing here is skipped with a note.
pub fn parse(file: &Arc<str>, text: &[u8]) -> Parsed {
    parse_with(file, text, &mut |_| {})
}

/// As [`parse`], with each object handed to `keep` before the next is read.
pub(crate) fn parse_with(file: &Arc<str>, text: &[u8], keep: &mut dyn FnMut(&mut Object)) -> Parsed {
    let mut out = Parsed::default();
    let faults = text::documents(file, text, &mut |root| {
        let mut decoder = Decoder::new(file);
        object(&mut decoder, &root, None, &mut |mut read| {
            keep(&mut read);
            out.objects.push(read);
        });
        out.errors.append(&mut decoder.errors);
        out.notes.append(&mut decoder.notes);
    });
    let mut decoder = Decoder::new(file);
    for fault in faults {
        decoder.fault(fault);
    }
    out.errors.append(&mut decoder.errors);
    refuse_doubles(&mut out);
    out.errors.sort_by(|a, b| a.location.cmp(&b.location));
    out
}

/// What the items of a typed list (`PodList`) are, where they do not say so themselves.
#[derive(Clone)]
struct Inherited {
    api_version: Arc<str>,
    kind: Arc<str>,
}

fn object(d: &mut Decoder<'_>, root: &Node, inherited: Option<&Inherited>, out: &mut dyn FnMut(Object)) {
    let Some(mut fields) = d.fields(root) else { return };
    if inherited.is_none()
        && ["apiVersion", "kind", "metadata", "spec", "items"].iter().all(|name| root.get(name).is_none())
    {
        d.note(
            root.at,
            Severity::Warning,
            Topic::NoObject,
            "not a Kubernetes object (no apiVersion, kind or metadata): skipped",
        );
        return;
    }
    let header =
        |d: &mut Decoder<'_>, fields: &mut decode::Fields<'_>, name, example: &str, from: Option<&Arc<str>>| match from
        {
            Some(value) if fields.get(name).is_none() => Some(Arc::clone(value)),
            _ => d.required(fields, name, example, Decoder::string),
        };
    let api_version = header(d, &mut fields, "apiVersion", "an apiVersion, as v1", inherited.map(|i| &i.api_version));
    let kind = header(d, &mut fields, "kind", "a kind, as NetworkPolicy", inherited.map(|i| &i.kind));
    let (Some(api_version), Some(kind)) = (api_version, kind) else { return };
    let named_at = root.get("kind").map_or(root.at, |entry| entry.value.at);
    match kinds::classify(&api_version, &kind) {
        Class::Known(kind) => {
            let before = d.errors.len();
            d.strict = kind.is_strict();
            let read = known(d, kind, &mut fields);
            d.strict = false;
            if d.errors.len() == before {
                read.into_iter().for_each(out);
            }
        }
        Class::List => {
            let item_kind = kind.strip_suffix("List").unwrap_or_default();
            let inherited = Inherited { api_version, kind: item_kind.into() };
            let inherited = (!item_kind.is_empty()).then_some(&inherited);
            d.list(&mut fields, "items", |d, item| {
                object(d, item, inherited, out);
                Some(())
            });
        }
        Class::PolicyInOtherVersion(served) => {
            let at = root.get("apiVersion").map_or(root.at, |entry| entry.value.at);
            let fault = Fault::new(at, ErrorKind::UnknownVersion, quoted(&api_version), served);
            d.within(Step::Field("apiVersion"), |d| {
                d.fault(fault.remedy(format!("write apiVersion: {served}; until then this {kind} is not enforced")));
            });
        }
        Class::MisspeltPolicy(meant) => {
            let fault = Fault::new(named_at, ErrorKind::Value, quoted(&kind), format!("{meant} in {api_version}"));
            d.within(Step::Field("kind"), |d| d.fault(fault.remedy(format!("did you mean \"{meant}\"?"))));
        }
        Class::UnenforcedPolicy => d.note(
            named_at,
            Severity::Warning,
            Topic::UnenforcedKind,
            format!("{kind} ({api_version}) is a policy that is NOT enforced: this version does not know the kind"),
        ),
        Class::OtherVersion(served) => d.note(
            named_at,
            Severity::Warning,
            Topic::OtherVersion,
            format!("{kind} in {api_version} is skipped: it is read in {served} only"),
        ),
        Class::Unknown => {
            d.note(
                named_at,
                Severity::Info,
                Topic::UnknownKind,
                format!("{kind} ({api_version}) is skipped: it means nothing to the network"),
            );
        }
    }
}

fn known(d: &mut Decoder<'_>, kind: Kind, fields: &mut decode::Fields<'_>) -> Option<Object> {
    let meta = meta::object_meta(d, kind, fields);
    let object = match kind {
        Kind::Namespace => meta.map(identities::namespace),
        Kind::ServiceAccount => meta.map(identities::service_account),
        Kind::Node => identities::node(d, fields, meta),
        Kind::ConfigMap => identities::config_map(d, fields, meta),
        Kind::Secret => identities::secret(d, fields, meta),
        Kind::Pod => pods::pod(d, fields, meta),
        Kind::Service => services::service(d, fields, meta),
        Kind::EndpointSlice => services::endpoint_slice(d, fields, meta),
        Kind::Deployment => workloads::workload(d, fields, meta, WorkloadKind::Deployment),
        Kind::ReplicaSet => workloads::workload(d, fields, meta, WorkloadKind::ReplicaSet),
        Kind::StatefulSet => workloads::workload(d, fields, meta, WorkloadKind::StatefulSet),
        Kind::DaemonSet => workloads::workload(d, fields, meta, WorkloadKind::DaemonSet),
        Kind::ReplicationController => workloads::workload(d, fields, meta, WorkloadKind::ReplicationController),
        Kind::Job => workloads::workload(d, fields, meta, WorkloadKind::Job),
        Kind::CronJob => workloads::workload(d, fields, meta, WorkloadKind::CronJob),
        Kind::NetworkPolicy => networking::network_policy(d, fields, meta),
        Kind::CiliumNetworkPolicy => cilium::policy(d, fields, meta, false),
        Kind::CiliumClusterwideNetworkPolicy => cilium::policy(d, fields, meta, true),
        Kind::CiliumCidrGroup => cilium::cidr_group(d, fields, meta),
        Kind::ClusterNetworkPolicy => {
            cluster_policies::policy(d, fields, meta, ClusterPolicyKind::ClusterNetworkPolicy)
        }
        Kind::AdminNetworkPolicy => cluster_policies::policy(d, fields, meta, ClusterPolicyKind::AdminNetworkPolicy),
        Kind::BaselineAdminNetworkPolicy => {
            cluster_policies::policy(d, fields, meta, ClusterPolicyKind::BaselineAdminNetworkPolicy)
        }
        Kind::GatewayClass => gateway::gateway_class(d, fields, meta),
        Kind::Gateway => gateway::gateway(d, fields, meta),
        Kind::ListenerSet => gateway::listener_set(d, fields, meta),
        Kind::HttpRoute => routes::route(d, fields, meta, RouteKind::Http),
        Kind::GrpcRoute => routes::route(d, fields, meta, RouteKind::Grpc),
        Kind::TlsRoute => routes::route(d, fields, meta, RouteKind::Tls),
        Kind::TcpRoute => routes::route(d, fields, meta, RouteKind::Tcp),
        Kind::UdpRoute => routes::route(d, fields, meta, RouteKind::Udp),
        Kind::ReferenceGrant => gateway::reference_grant(d, fields, meta),
        Kind::BackendTlsPolicy => gateway::backend_tls_policy(d, fields, meta),
        Kind::BackendTrafficPolicy => traffic::backend_traffic_policy(d, fields, meta),
        Kind::IstioGateway => istio::gateway(d, fields, meta),
        Kind::VirtualService => istio::virtual_service(d, fields, meta),
        Kind::DestinationRule => istio::destination_rule(d, fields, meta),
        Kind::ServiceEntry => istio::service_entry(d, fields, meta),
        Kind::WorkloadEntry => istio::workload_entry(d, fields, meta),
    };
    d.close(fields, &["status"]);
    object
}

/// Two documents of a file that name the same object are an error at the second.
fn refuse_doubles(out: &mut Parsed) {
    let mut first: BTreeMap<ObjectKey, strait_base::Location> = BTreeMap::new();
    let errors = &mut out.errors;
    out.objects.retain(|object| {
        let (key, location) = (object.key(), &object.meta().location);
        let Some(earlier) = first.get(&key) else {
            first.insert(key, location.clone());
            return true;
        };
        errors.push(ParseError {
            location: location.clone(),
            path: "metadata.name".to_owned(),
            kind: ErrorKind::Duplicate,
            found: format!("{key} a second time"),
            allowed: format!("each object once (the first is at {earlier})"),
            remedy: Some("remove one of them or give it another name".to_owned()),
        });
        false
    });
}
