//! Address blocks that mean less than they say.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use strait_api::{CiliumCidrSource, CiliumPeers, ClusterPeerSelector, PeerSelector as WrittenPeer};
use strait_model::rule::Reach;

use crate::{
    Context, Report, codes,
    place::At,
    views::{PolicyView, RuleView, WrittenRule},
};

/// Prefixes of pods shorter than this are more than a cluster's pods: who names them means more.
const SHORTEST_OF_PODS: u8 = 12;

struct Known<'a> {
    pods: Vec<IpNet>,
    nodes: Vec<IpAddr>,
    services: BTreeMap<IpAddr, &'a str>,
}

/// A block as it is written.
struct Written<'a> {
    cidr: IpNet,
    cidr_at: At,
    except: &'a [IpNet],
    except_at: At,
    reach: Reach,
}

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    let services = context
        .declared
        .services()
        .flat_map(|service| service.cluster_ips.iter().map(move |address| (*address, &*service.meta.name)));
    let known = Known {
        pods: context.snapshot.nodes().flat_map(|node| node.pod_cidrs.iter().copied()).collect(),
        nodes: context.snapshot.nodes().flat_map(|node| node.addresses.iter().copied()).collect(),
        services: services.collect(),
    };
    for view in &context.policies {
        for rule in &view.rules {
            for block in blocks(rule) {
                self::block(&known, view, &block, report);
            }
        }
    }
}

fn blocks<'a>(rule: &'a RuleView<'_>) -> Vec<Written<'a>> {
    match rule.written {
        WrittenRule::Kubernetes(written) => {
            let one = |peer: &'a strait_api::NetworkPolicyPeer| match &peer.selects {
                WrittenPeer::IpBlock { cidr, except } => {
                    let at = At::new(&peer.location).field("ipBlock");
                    let (cidr_at, except_at) = (at.field("cidr"), at.field("except"));
                    Some(Written { cidr: *cidr, cidr_at, except, except_at, reach: Reach::Others })
                }
                WrittenPeer::Pods(_) | WrittenPeer::Namespaces(_) | WrittenPeer::NamespacedPods { .. } => None,
            };
            written.peers.iter().filter_map(one).collect()
        }
        WrittenRule::Cilium(written) => match &written.peers {
            CiliumPeers::Cidrs(list) => {
                let one = |(index, cidr): (usize, &IpNet)| {
                    let at = rule.peers_at.item(index);
                    Written { cidr: *cidr, cidr_at: at.clone(), except: &[], except_at: at, reach: Reach::Outside }
                };
                list.iter().enumerate().map(one).collect()
            }
            CiliumPeers::CidrSets(list) => {
                let one = |set: &'a strait_api::CiliumCidrRule| match set.source {
                    CiliumCidrSource::Cidr(cidr) => {
                        let at = At::new(&set.location);
                        let (cidr_at, except_at) = (at.field("cidr"), at.field("except"));
                        Some(Written { cidr, cidr_at, except: &set.except, except_at, reach: Reach::Outside })
                    }
                    CiliumCidrSource::Group(_) | CiliumCidrSource::GroupSelector(_) => None,
                };
                list.iter().filter_map(one).collect()
            }
            CiliumPeers::Any
            | CiliumPeers::Endpoints(_)
            | CiliumPeers::Entities(_)
            | CiliumPeers::Services(_)
            | CiliumPeers::Nodes(_)
            | CiliumPeers::Fqdns(_)
            | CiliumPeers::Groups(_) => Vec::new(),
        },
        WrittenRule::Cluster(written) => {
            let networks = written.peers.iter().filter_map(|peer| match &peer.selects {
                ClusterPeerSelector::Networks(list) => Some((peer, list)),
                ClusterPeerSelector::Namespaces(_)
                | ClusterPeerSelector::Pods { .. }
                | ClusterPeerSelector::Nodes(_)
                | ClusterPeerSelector::DomainNames(_) => None,
            });
            let one = |(peer, list): (&'a strait_api::ClusterPeer, &'a Vec<IpNet>)| {
                let at = At::new(&peer.location).field("networks");
                list.iter().enumerate().map(move |(index, cidr)| Written {
                    cidr: *cidr,
                    cidr_at: at.item(index),
                    except: &[],
                    except_at: at.item(index),
                    reach: Reach::All,
                })
            };
            networks.flat_map(one).collect()
        }
    }
}

fn block(known: &Known<'_>, view: &PolicyView<'_>, block: &Written<'_>, report: &mut Report<'_>) {
    let cidr = block.cidr;
    let holes = IpNet::aggregate(&block.except.to_vec());
    if holes.iter().any(|hole| hole.contains(&cidr)) {
        let message = format!("the exceptions leave nothing of {cidr}: the peer is nobody");
        report.add(
            &codes::EXCEPT_COVERS_CIDR,
            &view.object,
            &block.except_at,
            message,
            "correct the exceptions, or remove the peer",
        );
        return;
    }
    for (index, hole) in block.except.iter().enumerate() {
        let over = block
            .except
            .iter()
            .enumerate()
            .find(|(other, over)| *other != index && over.contains(hole) && (*over != hole || *other < index));
        let why = match over {
            Some((_, over)) => format!("{hole} lies in another exception, {over}"),
            None if !cidr.contains(hole) => format!("{hole} lies outside of {cidr}"),
            None => continue,
        };
        let message = format!("{why}: it leaves nothing out");
        report.add(
            &codes::EXCEPT_WITHOUT_EFFECT,
            &view.object,
            &block.except_at.item(index),
            message,
            "remove it, or correct it",
        );
    }
    if let Some((address, service)) = known.services.iter().find(|(address, _)| IpNet::from(**address) == cidr) {
        let message = format!(
            "{address} is the cluster address of Service {service}: it is translated before policies judge, which see the address of a pod"
        );
        let remedy = "select the pods that the Service selects";
        report.add(&codes::CIDR_OF_SERVICE, &view.object, &block.cidr_at, message, remedy);
    }
    if block.reach == Reach::Outside {
        in_cluster(known, view, block, report);
    }
}

/// Blocks of Cilium's kinds match neither pods nor nodes.
fn in_cluster(known: &Known<'_>, view: &PolicyView<'_>, block: &Written<'_>, report: &mut Report<'_>) {
    let cidr = block.cidr;
    let family: Vec<&IpNet> = known.pods.iter().filter(|pods| pods.addr().is_ipv4() == cidr.addr().is_ipv4()).collect();
    let inside = family.iter().find(|pods| pods.contains(&cidr));
    let over = !family.is_empty()
        && cidr.addr().is_ipv4()
        && cidr.prefix_len() >= SHORTEST_OF_PODS
        && family.iter().all(|pods| cidr.contains(*pods));
    let whose = match inside {
        Some(pods) => format!("the pods' addresses {pods}"),
        None if over => "the addresses of all pods".to_owned(),
        None => match known.nodes.iter().find(|node| IpNet::from(**node) == cidr) {
            Some(node) => format!("the address of a node, {node}"),
            None => return,
        },
    };
    let message = format!("{cidr} is about {whose}: a CIDR of a Cilium policy matches neither pods nor nodes");
    let remedy = "select pods with fromEndpoints or toEndpoints, nodes with entities host and remote-node";
    report.add(&codes::CIDR_IN_CLUSTER, &view.object, &block.cidr_at, message, remedy);
}
