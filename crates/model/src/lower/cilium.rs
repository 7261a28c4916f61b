//! `cilium.io/v2`: `CiliumNetworkPolicy` and `CiliumClusterwideNetworkPolicy`.
//!
//! Where this differs from what upstream would enforce, less is allowed: rules that need a proxy or authentication deny what they are
//! about, domain names and security groups stand for nobody. Every such place is a [`Problem`].

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use strait_api::{
    CiliumAuthentication, CiliumCidrRule, CiliumCidrSource, CiliumEntity, CiliumIcmpField, CiliumNetworkPolicy,
    CiliumPeers, CiliumPort, CiliumPortRule, CiliumRule, CiliumSelector, CiliumService, CiliumSubject,
    CiliumTrafficRule, Kind, Objects, PortRef, Service,
};
use strait_base::{LabelSelector, Location, PortRange, Protocol};

use super::cilium_selector as selector;
use crate::{
    connection::{Direction, Family},
    problem::{Lack, Problem},
    rule::{
        Block, Effect, EndpointSelector, Entity, IcmpMatch, L4Match, NamespaceSelector, Origin, Peer, PeerSelector,
        Peers, Policy, PortMatch, Ports, Precedence, Reach, Rule, Subject,
    },
};

/// On an `EndpointSlice`: the service that it is of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The service whose endpoints are the API server.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// Objects that rules refer to.
pub(crate) struct References<'a> {
    objects: &'a Objects,
    /// Addresses of the slices of services, by namespace and name of these.
    slices: BTreeMap<(&'a str, &'a str), Vec<IpAddr>>,
}

impl<'a> References<'a> {
    pub(crate) fn new(objects: &'a Objects) -> Self {
        let mut slices: BTreeMap<_, Vec<IpAddr>> = BTreeMap::new();
        for slice in objects.endpoint_slices() {
            if let Some(service) = slice.meta.labels.get(SERVICE_NAME) {
                let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
                slices.entry((&*slice.meta.namespace, service)).or_default().extend(addresses);
            }
        }
        Self { objects, slices }
    }

    fn blocks(&self, (namespace, service): (&str, &str), reach: Reach) -> Vec<PeerSelector> {
        let addresses = self.slices.get(&(namespace, service)).into_iter().flatten();
        addresses.map(|address| PeerSelector::Block(Block::new(IpNet::from(*address), &[], reach))).collect()
    }

    /// Those that a service stands for: pods by its selector, addresses of its slices where it has none.
    fn service(&self, service: &Service) -> Vec<PeerSelector> {
        if service.selector.0.is_empty() {
            return self.blocks((&service.meta.namespace, &service.meta.name), Reach::Outside);
        }
        let pods = LabelSelector { match_labels: service.selector.clone(), match_expressions: Vec::new() };
        let namespace = NamespaceSelector::Named(Arc::clone(&service.meta.namespace));
        vec![PeerSelector::Endpoints(EndpointSelector::new(namespace, pods))]
    }
}

/// What is lowered: one `spec` of a policy.
struct Lowering<'a> {
    object: &'a CiliumNetworkPolicy,
    kind: Arc<str>,
    /// The policy's namespace, where it has one.
    namespace: Option<&'a Arc<str>>,
    audit: bool,
    references: &'a References<'a>,
    problems: &'a mut Vec<Problem>,
}

/// Lowers each `spec` of a policy to one of the IR.
pub(super) fn lower(
    object: &CiliumNetworkPolicy,
    references: &References<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Policy> {
    let kind = if object.clusterwide { Kind::CiliumClusterwideNetworkPolicy } else { Kind::CiliumNetworkPolicy };
    let mut lowering = Lowering {
        object,
        kind: Arc::from(kind.as_str()),
        namespace: (!object.clusterwide).then_some(&object.meta.namespace),
        audit: super::audits(&object.meta),
        references,
        problems,
    };
    let several = object.rules.len() > 1;
    let specs = object.rules.iter().enumerate();
    specs.filter_map(|(index, spec)| lowering.spec(several.then_some(index), spec)).collect()
}

impl Lowering<'_> {
    /// `None` where the subject can be nobody.
    fn spec(&mut self, index: Option<usize>, spec: &CiliumRule) -> Option<Policy> {
        let subject = match &spec.subject {
            CiliumSubject::Endpoints(pods) => Subject::Endpoints(selector::subjects(pods, self.namespace)?),
            CiliumSubject::Nodes(nodes) => Subject::Nodes(selector::nodes(nodes)?),
        };
        let directions =
            [(Direction::Ingress, spec.default_denies_ingress()), (Direction::Egress, spec.default_denies_egress())];
        let sections = [
            ("ingress", Direction::Ingress, false, &spec.ingress),
            ("ingressDeny", Direction::Ingress, true, &spec.ingress_deny),
            ("egress", Direction::Egress, false, &spec.egress),
            ("egressDeny", Direction::Egress, true, &spec.egress_deny),
        ];
        let mut rules = Vec::new();
        for (name, direction, denies, list) in sections {
            let section = match index {
                Some(index) => Some(Arc::from(format!("specs[{index}].{name}"))),
                None => denies.then(|| Arc::from(name)),
            };
            for (at, rule) in (0..).zip(list) {
                let origin = Origin {
                    kind: Arc::clone(&self.kind),
                    namespace: Arc::clone(&self.object.meta.namespace),
                    name: Arc::clone(&self.object.meta.name),
                    direction,
                    rule: Some(at),
                    section: section.clone(),
                    location: rule.location.clone(),
                };
                self.rule(rule, denies, &origin, &mut rules);
            }
        }
        Some(Policy {
            kind: Arc::clone(&self.kind),
            namespace: Arc::clone(&self.object.meta.namespace),
            name: Arc::clone(&self.object.meta.name),
            location: spec.location.clone(),
            subject,
            isolates: directions.into_iter().filter(|(_, denies)| *denies).map(|(direction, _)| direction).collect(),
            isolates_from_own_node: true,
            audit: self.audit,
            rules,
        })
    }

    /// What of the rule L3 and L4 can tell, and the rest of it closed.
    fn rule(&mut self, rule: &CiliumTrafficRule, denies: bool, origin: &Origin, rules: &mut Vec<Rule>) {
        // A rule that says nothing selects nobody: so people write "deny everything".
        if matches!(rule.peers, CiliumPeers::Any) && rule.ports.is_empty() && rule.icmps.is_empty() {
            return;
        }
        let peers = self.peers(rule, denies);
        let mut add = |l4, effect| {
            rules.push(Rule {
                direction: origin.direction,
                peers: peers.clone(),
                l4,
                effect,
                precedence: Precedence::normal(effect),
                audit: self.audit,
                origin: origin.clone(),
            });
        };
        let authenticated = match rule.authentication {
            Some(CiliumAuthentication::Required | CiliumAuthentication::TestAlwaysFail) => true,
            Some(CiliumAuthentication::Disabled) | None => false,
        };
        let effect = match (denies, authenticated) {
            (true, _) => Effect::Deny,
            (false, true) => Effect::Closed,
            (false, false) => Effect::Allow,
        };
        if !rule.icmps.is_empty() {
            add(L4Match::Icmp(rule.icmps.iter().flatten().copied().map(lower_icmp).collect()), effect);
        } else if rule.ports.is_empty() {
            add(L4Match::Any, effect);
        }
        let (proxied, plain): (Vec<_>, Vec<_>) = rule.ports.iter().partition(|ports| ports.needs_proxy());
        for (ports, effect) in [(plain, effect), (proxied, if denies { Effect::Deny } else { Effect::Closed })] {
            if !ports.is_empty() {
                add(L4Match::Of(ports.into_iter().flat_map(lower_ports).collect()), effect);
            }
        }
        if authenticated {
            self.problem(Lack::Authentication, &rule.location);
        }
        for ports in rule.ports.iter().filter(|ports| ports.needs_proxy()) {
            self.problem(Lack::Proxy, &ports.location);
        }
    }

    fn peers(&mut self, rule: &CiliumTrafficRule, denies: bool) -> Peers {
        let here = |_: usize| rule.location.clone();
        match &rule.peers {
            CiliumPeers::Any => Peers::Any,
            CiliumPeers::Entities(entities) if entities.contains(&CiliumEntity::All) => Peers::Any,
            CiliumPeers::Endpoints(selectors) => listed(selectors, |pods| self.endpoints(pods, denies), here),
            CiliumPeers::Cidrs(cidrs) => {
                listed(cidrs, |cidr| vec![PeerSelector::Block(Block::new(*cidr, &[], Reach::Outside))], here)
            }
            CiliumPeers::CidrSets(sets) => {
                let location = |entry: usize| sets.get(entry).map_or(&rule.location, |set| &set.location).clone();
                listed(sets, |set| self.cidr_set(set), location)
            }
            CiliumPeers::Entities(entities) => listed(entities, |one| self.entity(*one), here),
            CiliumPeers::Services(services) => listed(services, |one| self.services(one), here),
            CiliumPeers::Nodes(nodes) => {
                listed(nodes, |one| selector::nodes(one).map(PeerSelector::Nodes).into_iter().collect(), here)
            }
            CiliumPeers::Fqdns(_) => {
                self.problem(Lack::DomainNames, &rule.location);
                Peers::Of(Vec::new())
            }
            CiliumPeers::Groups(_) => {
                self.problem(Lack::CloudGroups, &rule.location);
                let world = PeerSelector::Entity(Entity::World);
                let all = Peer { selects: world, entry: 0, location: rule.location.clone() };
                Peers::Of(if denies { vec![all] } else { Vec::new() })
            }
        }
    }

    fn endpoints(&self, pods: &CiliumSelector, denies: bool) -> Vec<PeerSelector> {
        match selector::reserved(pods, denies) {
            Some(selector::Reserved::ApiServer) => self.entity(CiliumEntity::KubeApiserver),
            Some(selector::Reserved::Peers(peers)) => peers,
            None => selector::endpoints(pods, self.namespace).map(PeerSelector::Endpoints).into_iter().collect(),
        }
    }

    /// What an entity other than `all` stands for. Nothing here is being initialized, checks health or proxies ingress.
    fn entity(&self, entity: CiliumEntity) -> Vec<PeerSelector> {
        let api_server = || self.references.blocks(API_SERVER, Reach::All);
        let one = match entity {
            CiliumEntity::World => Entity::World,
            CiliumEntity::WorldIpv4 => Entity::WorldIpv4,
            CiliumEntity::WorldIpv6 => Entity::WorldIpv6,
            CiliumEntity::Host => Entity::Host,
            CiliumEntity::RemoteNode => Entity::RemoteNode,
            CiliumEntity::Unmanaged => Entity::Unmanaged,
            CiliumEntity::Cluster | CiliumEntity::ClusterMesh => {
                return [PeerSelector::Entity(Entity::Cluster)].into_iter().chain(api_server()).collect();
            }
            CiliumEntity::KubeApiserver => return api_server(),
            CiliumEntity::All
            | CiliumEntity::Init
            | CiliumEntity::Ingress
            | CiliumEntity::Health
            | CiliumEntity::None => return Vec::new(),
        };
        vec![PeerSelector::Entity(one)]
    }

    fn cidr_set(&self, set: &CiliumCidrRule) -> Vec<PeerSelector> {
        let groups = self.references.objects.cilium_cidr_groups();
        let cidrs: Vec<IpNet> = match &set.source {
            CiliumCidrSource::Cidr(cidr) => vec![*cidr],
            CiliumCidrSource::Group(name) => groups
                .filter(|group| group.meta.name == *name)
                .flat_map(|group| &group.external_cidrs)
                .copied()
                .collect(),
            CiliumCidrSource::GroupSelector(labels) => match selector::objects(labels) {
                None => Vec::new(),
                Some(labels) => {
                    let selected = groups.filter(|group| labels.matches(group.labels()));
                    selected.flat_map(|group| &group.external_cidrs).copied().collect()
                }
            },
        };
        cidrs.into_iter().map(|cidr| PeerSelector::Block(Block::new(cidr, &set.except, Reach::Outside))).collect()
    }

    fn services(&self, service: &CiliumService) -> Vec<PeerSelector> {
        let within = |namespace: &Option<Arc<str>>, found: &Service| {
            namespace.as_ref().is_none_or(|namespace| *namespace == found.meta.namespace)
        };
        let services = self.references.objects.services();
        let found: Vec<_> = match service {
            CiliumService::Named { name, namespace } => {
                services.filter(|found| found.meta.name == *name && within(namespace, found)).collect()
            }
            CiliumService::Selected { selector, namespace } => match selector::objects(selector) {
                None => Vec::new(),
                Some(labels) => {
                    services.filter(|found| labels.matches(&found.meta.labels) && within(namespace, found)).collect()
                }
            },
        };
        found.into_iter().flat_map(|service| self.references.service(service)).collect()
    }

    fn problem(&mut self, lacks: Lack, location: &Location) {
        self.problems.push(super::problem(lacks, &self.kind, &self.object.meta, location));
    }
}

/// The peers that each entry of a list stands for.
fn listed<T>(entries: &[T], lower: impl Fn(&T) -> Vec<PeerSelector>, location: impl Fn(usize) -> Location) -> Peers {
    let peers = entries.iter().enumerate().flat_map(|(entry, one)| {
        let location = location(entry);
        lower(one).into_iter().map(move |selects| Peer { selects, entry, location: location.clone() })
    });
    Peers::Of(peers.collect())
}

fn lower_icmp(field: CiliumIcmpField) -> IcmpMatch {
    IcmpMatch { family: if field.ipv6 { Family::V6 } else { Family::V4 }, icmp_type: field.icmp_type }
}

/// An entry without `ports` is about nothing.
fn lower_ports(entry: &CiliumPortRule) -> Vec<PortMatch> {
    entry.ports.iter().flat_map(lower_port).collect()
}

fn lower_port(port: &CiliumPort) -> Vec<PortMatch> {
    let ports = match &port.port {
        None => Ports::Range(PortRange::ALL),
        Some(PortRef::Name(name)) => Ports::Named(Arc::clone(name)),
        Some(PortRef::Number(first)) => {
            let last = port.end_port.unwrap_or(*first);
            Ports::Range(PortRange::new(*first, last).unwrap_or(PortRange::single(*first)))
        }
    };
    let protocols = port.protocol.map_or(Protocol::ALL.to_vec(), |protocol| vec![protocol]);
    let one = |protocol| PortMatch { protocol, ports: ports.clone(), location: port.location.clone() };
    protocols.into_iter().map(one).collect()
}
