//! From what people type to whom they mean.

use std::{net::IpAddr, sync::Arc};

use crate::{
    connection::{Party, PodKey},
    snapshot::{Owner, Pod, Snapshot},
};

/// Most names that an error lists.
const LISTED: usize = 8;

/// The text names nobody, or several.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnknownParty {
    /// No pod or workload of this name.
    #[error(
        "no pod or workload {name:?} in namespace {namespace:?}{}; write NAMESPACE/POD, POD, node/NODE or an address",
        suggestions(.similar)
    )]
    Nobody {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// Names that look like it.
        similar: Vec<String>,
    },
    /// A workload with several pods.
    #[error("{name:?} in namespace {namespace:?} has {} pods; name one of them: {}", .pods.len(), list(.pods))]
    Several {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// Its pods.
        pods: Vec<String>,
    },
    /// No node of this name.
    #[error("no node {name:?}; there are: {}", list(.nodes))]
    NoNode {
        /// What was asked for.
        name: String,
        /// All nodes.
        nodes: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let listed = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

fn suggestions(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!(" (did you mean {}?)", list(similar)) }
}

impl Snapshot {
    /// Whom `text` names: `NAMESPACE/POD`, `POD` in `default_namespace`, `node/NODE`, an address (then the pod or node that has
    /// it), or the name of a workload that has one pod. A pod goes before a workload of the same name, and a pod in a namespace
    /// called `node` before a node.
    pub fn party(&self, text: &str, default_namespace: &str) -> Result<Party, UnknownParty> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Ok(match self.owner(address) {
                Some(Owner::Pod(pod)) => Party::Pod(pod.clone()),
                Some(Owner::Node(node)) => Party::Node(Arc::clone(node)),
                None => Party::Address(address),
            });
        }
        let (namespace, name) = text.split_once('/').unwrap_or((default_namespace, text));
        let key = PodKey::new(namespace, name);
        if self.pod(&key).is_some() {
            return Ok(Party::Pod(key));
        }
        if text.starts_with("node/") {
            let nodes = || self.nodes().map(|node| node.name.to_string()).collect();
            return match self.node(name) {
                Some(node) => Ok(Party::Node(Arc::clone(&node.name))),
                None => Err(UnknownParty::NoNode { name: name.to_owned(), nodes: nodes() }),
            };
        }
        let made_by = |pod: &&Pod| pod.workload().and_then(|w| w.split_once('/')).is_some_and(|(_, w)| w == name);
        let pods: Vec<_> = self.pods().filter(|pod| *pod.key.namespace == *namespace).filter(made_by).collect();
        let texts = |pods: &[&Pod]| pods.iter().map(|pod| pod.key.to_string()).collect();
        match pods.as_slice() {
            [pod] => Ok(Party::Pod(pod.key.clone())),
            [] => {
                let like =
                    |pod: &&Pod| !name.is_empty() && (pod.key.name.contains(name) || name.contains(&*pod.key.name));
                let similar: Vec<_> = self.pods().filter(like).collect();
                Err(UnknownParty::Nobody {
                    name: name.to_owned(),
                    namespace: namespace.to_owned(),
                    similar: texts(&similar),
                })
            }
            several => Err(UnknownParty::Several {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                pods: texts(several),
            }),
        }
    }
}
