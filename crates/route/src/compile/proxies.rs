//! How many proxies before a gateway are believed about clients, as Istio is told.
//!
//! ```text
//! `--trusted-proxies` ◁ the mesh's configuration ◁ the annotation `proxy.istio.io/config`      the later ones win
//! ```
//!
//! The annotation is one of the pods that serve a gateway: of Istio's gateways that of pods, or of a workload's template, with the labels of
//! the gate's workload in `istio-system`; of the Gateway API's what istiod would put onto the pods, `infrastructure.annotations`, else the
//! gateway's own.

use std::sync::Arc;

use strait_api::{
    Gateway, Kind, Object, ObjectKey, ObjectMeta,
    istio::ProxyConfig,
    parse::{mesh_proxy_config, proxy_config},
};
use strait_base::Labels;

use super::{istio::NAMESPACE, world::World};

/// The annotation.
const CONFIG: &str = "proxy.istio.io/config";
/// The config map with the mesh's configuration, in [`NAMESPACE`].
const MESH: &str = "istio";

/// What is said of proxies, and what is wrong with it.
#[derive(Default)]
pub(super) struct Said {
    pub(super) trusted: Option<u8>,
    /// By what object says it: what is not understood, or not gone by.
    pub(super) notes: Vec<(ObjectKey, ObjectMeta, String)>,
}

impl Said {
    fn take(&mut self, key: &ObjectKey, meta: &ObjectMeta, config: Result<ProxyConfig, String>) {
        let mut note = |message| self.notes.push((key.clone(), meta.clone(), message));
        match config {
            Ok(config) => {
                if !config.others.is_empty() {
                    note(format!("{CONFIG}: nothing here goes by {}", config.others.join(", ")));
                }
                self.trusted = config.num_trusted_proxies.or(self.trusted);
            }
            Err(why) => note(format!("{CONFIG}: {why}: it is not gone by")),
        }
    }
}

/// Whether objects of a kind may tell proxies something.
pub(super) const fn are_told_by(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ConfigMap
            | Kind::Pod
            | Kind::Deployment
            | Kind::ReplicaSet
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::ReplicationController
            | Kind::Job
            | Kind::CronJob
    )
}

/// Whether gateways of the Gateway API may be served otherwise because of an object.
pub(super) fn is_of_mesh(key: &ObjectKey) -> bool {
    key.kind == Kind::ConfigMap && &*key.namespace == NAMESPACE && &*key.name == MESH
}

/// What the mesh's configuration says of all.
fn of_mesh(world: &World<'_>) -> Said {
    let mut said = Said::default();
    if let Some(map) = world.config_map(NAMESPACE, MESH)
        && let Some(text) = map.data.get("mesh")
    {
        let key = ObjectKey { kind: Kind::ConfigMap, namespace: NAMESPACE.into(), name: MESH.into() };
        // Of a mesh's configuration most is for others.
        let config = mesh_proxy_config(text).map(|config| ProxyConfig { others: Vec::new(), ..config });
        said.take(&key, &map.meta, config);
    }
    said
}

/// What is said of the proxies of a gateway of the Gateway API.
pub(super) fn of_gateway(gateway: &Gateway, world: &World<'_>) -> Said {
    let mut said = of_mesh(world);
    let of_pods = gateway.infrastructure.annotations.get(CONFIG);
    if let Some(text) = of_pods.or_else(|| gateway.meta.annotations.get(CONFIG)) {
        let (namespace, name) = (Arc::clone(&gateway.meta.namespace), Arc::clone(&gateway.meta.name));
        let key = ObjectKey { kind: Kind::Gateway, namespace, name };
        said.take(&key, &gateway.meta, proxy_config(text));
    }
    said
}

/// What is said of the proxies of one of the gate's workloads with these labels.
pub(super) fn of_workload(labels: &[(&str, &str)], world: &World<'_>) -> Said {
    let mut said = of_mesh(world);
    let is_it = |own: &Labels| labels.iter().all(|(key, value)| own.get(key) == Some(*value));
    for object in world.objects.iter().filter(|object| &*object.meta().namespace == NAMESPACE) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "others make no pods")]
        let text = match object {
            Object::Workload(of) if is_it(&of.template.labels) => of.template.annotations.get(CONFIG),
            Object::Pod(pod) if is_it(&pod.meta.labels) => pod.meta.annotations.get(CONFIG),
            _ => None,
        };
        if let Some(text) = text {
            said.take(&object.key(), object.meta(), proxy_config(text));
        }
    }
    said
}
