//! What the lab adds to the user's manifests, for agents to read beside them.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use strait_api::{Container, Object, ObjectMeta, Objects, Pod, PodPhase, ServiceAccount};

use crate::{
    process::write_atomically,
    topology::{DNS_LABEL, SYSTEM},
};

/// The one file that all generated objects are in, so that readers see one state of the cluster and never half of two.
const FILE: &str = "cluster.yaml";

/// Writes the objects of `expanded` that `written` (by the user) lacks or has otherwise, into `folder`. Says whether
/// anything changed.
pub fn write(folder: &Path, written: &Objects, expanded: &Objects) -> io::Result<bool> {
    let text = render(written, expanded);
    let path = folder.join(FILE);
    if fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(false);
    }
    fs::create_dir_all(folder)?;
    write_atomically(&path, text.as_bytes())?;
    Ok(true)
}

/// One document an object, JSON each, which YAML is a superset of.
fn render(written: &Objects, expanded: &Objects) -> String {
    let mut text =
        String::from("# Made by the lab from the manifests it was given; it is overwritten when they change.\n");
    for object in expanded.iter().filter(|object| is_generated(object) && written.get(&object.key()) != Some(object)) {
        text.push_str("---\n");
        text.push_str(&strait_api::write::to_json(object));
        text.push('\n');
    }
    text
}

/// The objects the lab adds to the user's before it expands them: a name server, where they have none.
pub fn with_name_server(written: &Objects) -> Objects {
    let mut objects = written.clone();
    if written.pods().any(|pod| pod.meta.labels.get(DNS_LABEL.0) == Some(DNS_LABEL.1))
        || written.workloads().any(|work| work.template.labels.get(DNS_LABEL.0) == Some(DNS_LABEL.1))
    {
        return objects;
    }
    let location = strait_base::Location::new(&"strait-lab".into(), 1, 1);
    let port = |name: &str, protocol| strait_api::ContainerPort {
        name: Some(name.into()),
        container_port: 53,
        host_port: None,
        protocol,
    };
    let pod = Pod {
        meta: ObjectMeta {
            name: "coredns-0".into(),
            namespace: "kube-system".into(),
            labels: [DNS_LABEL].into_iter().collect(),
            annotations: BTreeMap::from([(SYSTEM.into(), "true".into())]).into(),
            generation: 1,
            created: None,
            location,
        },
        spec: strait_api::PodSpec {
            node_name: None,
            node_selector: strait_base::Labels::default(),
            service_account_name: "coredns".into(),
            host_network: false,
            hostname: None,
            subdomain: None,
            containers: vec![Container {
                name: "coredns".into(),
                image: None,
                command: Vec::new(),
                args: Vec::new(),
                env: BTreeMap::new(),
                ports: vec![port("dns", strait_base::Protocol::Udp), port("dns-tcp", strait_base::Protocol::Tcp)],
            }]
            .into(),
            secrets: Vec::new(),
        },
        phase: PodPhase::Pending,
        pod_ips: Vec::new(),
    };
    let account = ServiceAccount { meta: ObjectMeta { name: "coredns".into(), ..pod.meta.clone() } };
    objects.replace(Object::ServiceAccount(Arc::new(account)));
    objects.replace(Object::Pod(Arc::new(pod)));
    objects
}

/// Whether an object of that kind may differ from the user's. Expansion gives services addresses too, but nothing reads
/// those yet that would not rather have the user's own object with the place it is written at.
const fn is_generated(object: &Object) -> bool {
    match object {
        Object::Namespace(_)
        | Object::Node(_)
        | Object::Pod(_)
        | Object::ServiceAccount(_)
        | Object::EndpointSlice(_) => true,
        Object::Service(_)
        | Object::ConfigMap(_)
        | Object::Secret(_)
        | Object::Workload(_)
        | Object::NetworkPolicy(_)
        | Object::CiliumNetworkPolicy(_)
        | Object::CiliumCidrGroup(_)
        | Object::ClusterNetworkPolicy(_)
        | Object::GatewayClass(_)
        | Object::Gateway(_)
        | Object::ListenerSet(_)
        | Object::Route(_)
        | Object::ReferenceGrant(_)
        | Object::BackendTlsPolicy(_)
        | Object::BackendTrafficPolicy(_)
        | Object::IstioGateway(_)
        | Object::VirtualService(_)
        | Object::DestinationRule(_)
        | Object::ServiceEntry(_)
        | Object::WorkloadEntry(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What agents read, the user's files and the generated one over them, is what the lab works with.
    #[test]
    fn agents_read_what_the_lab_expanded() {
        let users = tempfile::tempdir().unwrap();
        let own = tempfile::tempdir().unwrap();
        let text = "
kind: Deployment
apiVersion: apps/v1
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: bare, annotations: {a: 'b: \"c\"'}}
spec: {hostname: h, containers: [{name: c, command: [x], args: [y], env: [{name: E, value: 'on'}]}]}
---
kind: Service
apiVersion: v1
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
";
        fs::write(users.path().join("web.yaml"), text).unwrap();
        let open = |roots: &[&Path]| strait_api::source::Directory::open(roots).unwrap().objects().clone();
        let written = open(&[users.path()]);
        let expanded = strait_cluster::expand(&with_name_server(&written), &strait_cluster::Options::default(), None);
        assert!(write(own.path(), &written, &expanded.objects).unwrap());
        assert!(!write(own.path(), &written, &expanded.objects).unwrap(), "a second time changes nothing");
        let read = open(&[users.path(), own.path()]);
        // Manifests have no location in common; everything else is equal.
        let plain = |objects: &Objects| -> Vec<String> {
            objects.iter().filter(|object| is_generated(object)).map(strait_api::write::to_json).collect()
        };
        assert_eq!(plain(&read), plain(&expanded.objects));
        assert!(read.pods().any(|pod| &*pod.meta.name == "coredns-0"));
    }

    #[test]
    fn a_name_server_of_the_users_own_is_enough() {
        let text = "kind: Pod\napiVersion: v1\nmetadata: {name: dns, labels: {k8s-app: kube-dns}}\nspec: {containers: [{name: c}]}\n";
        let parsed = strait_api::parse(&Arc::from("in.yaml"), text.as_bytes());
        let written: Objects = parsed.objects.into_iter().collect();
        assert_eq!(with_name_server(&written), written);
    }
}
