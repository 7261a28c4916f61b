//! `CiliumNetworkPolicy` and `CiliumClusterwideNetworkPolicy`, as Cilium's documentation of them says.

use strait_api::{
    CiliumAuthentication, CiliumCidrRule, CiliumCidrSource, CiliumEntity, CiliumIcmpField, CiliumNetworkPolicy,
    CiliumPeers, CiliumPort, CiliumPortRule, CiliumRule, CiliumService, CiliumSubject, CiliumTrafficRule,
    EndpointSlice, PortRef, Service,
};

use super::{
    Cause, Direction, Host, Normal, Question, RuleAt, Traffic, audits, cilium_select as labels, declares, select,
};

/// What Cilium's policies that are for me say.
///
/// "An endpoint can be put into the default deny mode at ingress or egress if a rule selects the endpoint and contains the respective rule
/// section ingress or egress"; "Similarly to "allow" policies, Pods will enter default-deny mode as soon as a single policy selects it."
pub(super) fn say(question: Question<'_>, normal: &mut Normal) {
    for policy in question.objects.cilium_policies() {
        if !question.asks(&policy.meta) {
            continue;
        }
        let kind = if policy.clusterwide { "CiliumClusterwideNetworkPolicy" } else { "CiliumNetworkPolicy" };
        for (spec, rule) in policy.rules.iter().enumerate() {
            if !is_for(question, policy, rule) {
                continue;
            }
            let (allow, deny, default_deny) = sections(question.direction, rule);
            if default_deny {
                normal.isolating.push((Cause::new(kind, &policy.meta, None), audits(&policy.meta)));
            }
            for (denies, rules) in [(false, allow), (true, deny)] {
                for (index, one) in rules.iter().enumerate() {
                    let cause = || Cause::new(kind, &policy.meta, Some(RuleAt { spec, deny: denies, index }));
                    match matches(question, policy, one, denies) {
                        Match::No => {}
                        Match::Yes if denies => normal.denying.push(cause()),
                        Match::Yes => normal.allowing.push(cause()),
                        Match::Closed => normal.closed.push(cause()),
                    }
                }
            }
        }
    }
}

/// Whether I am a node that a host policy selects, be it audited only.
pub(super) fn selects_node(question: Question<'_>) -> bool {
    let mut rules =
        question.objects.cilium_policies().flat_map(|policy| policy.rules.iter().map(move |rule| (policy, rule)));
    rules.any(|(policy, rule)| is_for(question, policy, rule))
}

/// Allow rules, deny rules, and whether the rule closes what it does not allow: "by default ... if there is a rule for that direction".
fn sections(direction: Direction, rule: &CiliumRule) -> (&[CiliumTrafficRule], &[CiliumTrafficRule], bool) {
    let (allow, deny, asked) = match direction {
        Direction::Ingress => (&rule.ingress, &rule.ingress_deny, rule.enable_default_deny.ingress),
        Direction::Egress => (&rule.egress, &rule.egress_deny, rule.enable_default_deny.egress),
    };
    let default = !allow.is_empty() || !deny.is_empty();
    (allow, deny, asked.unwrap_or(default))
}

/// "The `EndpointSelector` always applies in the namespace of the policy resource."
fn is_for(question: Question<'_>, policy: &CiliumNetworkPolicy, rule: &CiliumRule) -> bool {
    match (&rule.subject, question.me.host) {
        (CiliumSubject::Endpoints(selector), Host::Pod(pod)) => {
            (policy.clusterwide || pod.meta.namespace == policy.meta.namespace)
                && labels::selects(selector, &labels::of_pod(question.objects, pod))
        }
        (CiliumSubject::Nodes(selector), Host::Node(node)) => labels::selects(selector, &labels::of_node(node)),
        (CiliumSubject::Endpoints(_), Host::Node(_) | Host::Other)
        | (CiliumSubject::Nodes(_), Host::Pod(_) | Host::Other) => false,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Match {
    No,
    Yes,
    /// As far as addresses and ports go; nobody here looks further.
    Closed,
}

/// "If multiple members are set, all of them need to match in order for the rule to take effect."
fn matches(question: Question<'_>, policy: &CiliumNetworkPolicy, rule: &CiliumTrafficRule, denies: bool) -> Match {
    // "This example illustrates how to put an endpoint into default deny mode without whitelisting other peers": `- {}`.
    let says_nothing = rule.peers == CiliumPeers::Any && rule.ports.is_empty() && rule.icmps.is_empty();
    // Nobody here asks a cloud: its groups are nobody to allow, and to be denied whoever they may be.
    let peers = if let CiliumPeers::Groups(groups) = &rule.peers {
        denies && !groups.is_empty() && labels::is_world(question)
    } else {
        peer_matches(question, policy, &rule.peers)
    };
    if says_nothing || !peers {
        return Match::No;
    }
    let open = match rule.authentication {
        Some(CiliumAuthentication::Required | CiliumAuthentication::TestAlwaysFail) => Match::Closed,
        Some(CiliumAuthentication::Disabled) | None => Match::Yes,
    };
    if !rule.icmps.is_empty() {
        return if rule.icmps.iter().flatten().any(|field| is_echo(question, *field)) { open } else { Match::No };
    }
    if rule.ports.is_empty() {
        return open;
    }
    let fitting = rule.ports.iter().filter(|entry| entry.ports.iter().any(|port| port_matches(question, port)));
    let found: Vec<bool> = fitting.map(CiliumPortRule::needs_proxy).collect();
    if found.contains(&false) {
        // "An L4-only rule on the same port makes the L7 rule void."
        open
    } else if found.is_empty() {
        Match::No
    } else {
        Match::Closed
    }
}

/// Whether the traffic is an echo request and the field says so.
fn is_echo(question: Question<'_>, field: CiliumIcmpField) -> bool {
    let echo = if field.ipv6 { 128 } else { 8 };
    question.traffic == Traffic::Icmp && field.ipv6 == question.peer.address.is_ipv6() && field.icmp_type == echo
}

/// "Protocol is the L4 protocol. If omitted or empty, any protocol matches"; "Matching on ICMP is not supported".
fn port_matches(question: Question<'_>, port: &CiliumPort) -> bool {
    let Traffic::Port(protocol, number) = question.traffic else { return false };
    if port.protocol.is_some_and(|only| only != protocol) {
        return false;
    }
    match (&port.port, port.end_port) {
        (None, _) => true,
        (Some(PortRef::Number(only)), None) => *only == number,
        (Some(PortRef::Number(first)), Some(last)) => *first <= number && number <= last,
        (Some(PortRef::Name(name)), _) => declares(question.destination(), name, protocol, number),
    }
}

fn peer_matches(question: Question<'_>, policy: &CiliumNetworkPolicy, peers: &CiliumPeers) -> bool {
    match peers {
        CiliumPeers::Any => true,
        CiliumPeers::Endpoints(selectors) => {
            selectors.iter().any(|selector| labels::selects_peer(question, policy, selector))
        }
        CiliumPeers::Cidrs(prefixes) => is_no_endpoint(question) && prefixes.iter().any(|prefix| has(question, prefix)),
        CiliumPeers::CidrSets(sets) => is_no_endpoint(question) && sets.iter().any(|set| set_has(question, set)),
        CiliumPeers::Entities(entities) => entities.iter().any(|entity| is_entity(question, *entity)),
        CiliumPeers::Services(services) => services.iter().any(|service| serves(question, service)),
        // The page calls it "an extension of remote-node entity", but the local host has its node's labels as well.
        CiliumPeers::Nodes(selectors) => match question.peer.host {
            Host::Node(node) => {
                let of = labels::of_node(node);
                selectors.iter().any(|selector| labels::selects(selector, &of))
            }
            Host::Pod(_) | Host::Other => false,
        },
        // Nobody here resolves names.
        CiliumPeers::Fqdns(_) | CiliumPeers::Groups(_) => false,
    }
}

/// "CIDR rules do not apply to traffic where both sides of the connection are either managed by Cilium or use an IP belonging to a node in
/// the cluster (including host networking pods)"; they do apply to addresses "within the cluster prefix but the IP's networking is not
/// provided by Cilium".
fn is_no_endpoint(question: Question<'_>) -> bool {
    matches!(question.peer.host, Host::Other)
}

fn has(question: Question<'_>, prefix: &ipnet::IpNet) -> bool {
    select::inside(prefix, question.peer.address)
}

fn set_has(question: Question<'_>, set: &CiliumCidrRule) -> bool {
    let groups = question.objects.cilium_cidr_groups();
    let within = match &set.source {
        CiliumCidrSource::Cidr(prefix) => has(question, prefix),
        CiliumCidrSource::Group(name) => groups
            .filter(|group| group.meta.name == *name)
            .any(|group| group.external_cidrs.iter().any(|prefix| has(question, prefix))),
        CiliumCidrSource::GroupSelector(selector) => groups
            .filter(|group| labels::selects(selector, &labels::of_labels(&group.meta.labels)))
            .any(|group| group.external_cidrs.iter().any(|prefix| has(question, prefix))),
    };
    within && !set.except.iter().any(|hole| has(question, hole))
}

/// The page's list of entities.
fn is_entity(question: Question<'_>, entity: CiliumEntity) -> bool {
    let own_node = question.peer_is_my_node();
    let is_node = matches!(question.peer.host, Host::Node(_));
    let of_cluster = !labels::is_world(question);
    let v6 = question.peer.address.is_ipv6();
    match entity {
        // "the combination of all known clusters as well world and whitelists all communication".
        CiliumEntity::All => true,
        // "all endpoints outside of the cluster".
        CiliumEntity::World => !of_cluster,
        CiliumEntity::WorldIpv4 => !of_cluster && !v6,
        CiliumEntity::WorldIpv6 => !of_cluster && v6,
        // "all Cilium-managed endpoints of the local cluster, unmanaged endpoints in the local cluster, as well as the host, remote-node,
        // and init identities".
        CiliumEntity::Cluster | CiliumEntity::ClusterMesh => of_cluster || is_api_server(question),
        CiliumEntity::Host => own_node,
        CiliumEntity::RemoteNode => is_node && !own_node,
        // "endpoints not managed by Cilium. Unmanaged endpoints are considered part of the cluster".
        CiliumEntity::Unmanaged => of_cluster && matches!(question.peer.host, Host::Other),
        // There is none of these here.
        CiliumEntity::Init | CiliumEntity::Ingress | CiliumEntity::Health | CiliumEntity::None => false,
        // "both deployments of the kube-apiserver: within the cluster and outside of the cluster".
        CiliumEntity::KubeApiserver => is_api_server(question),
    }
}

/// Whether the peer is an endpoint of the service `kubernetes` in `default`, which is the API server.
pub(super) fn is_api_server(question: Question<'_>) -> bool {
    let of = |slice: &EndpointSlice| {
        *slice.meta.namespace == *"default" && slice.meta.labels.get("kubernetes.io/service-name") == Some("kubernetes")
    };
    let slices = question.objects.endpoint_slices().filter(|slice| of(slice));
    let mut addresses = slices.flat_map(|slice| &slice.endpoints).flat_map(|endpoint| &endpoint.addresses);
    addresses.any(|address| *address == question.peer.address)
}

/// "This feature uses the discovered services' label selector as an endpoint selector within the policy"; of services without selectors "the
/// IPs in the service's `EndpointSlices` are converted to CIDR selectors. CIDR selectors cannot select pods".
fn serves(question: Question<'_>, wanted: &CiliumService) -> bool {
    let within = |namespace: &Option<std::sync::Arc<str>>, service: &Service| {
        namespace.as_ref().is_none_or(|only| service.meta.namespace == *only)
    };
    let meant = |service: &Service| match wanted {
        CiliumService::Named { name, namespace } => service.meta.name == *name && within(namespace, service),
        CiliumService::Selected { selector, namespace } => {
            labels::selects(selector, &labels::of_labels(&service.meta.labels)) && within(namespace, service)
        }
    };
    question.objects.services().filter(|service| meant(service)).any(|service| {
        if service.selector.0.is_empty() {
            let slices = question.objects.endpoint_slices().filter(|slice| is_of(slice, service));
            let mut addresses = slices.flat_map(|slice| &slice.endpoints).flat_map(|endpoint| &endpoint.addresses);
            is_no_endpoint(question) && addresses.any(|address| *address == question.peer.address)
        } else {
            let Host::Pod(pod) = question.peer.host else { return false };
            pod.meta.namespace == service.meta.namespace
                && service.selector.iter().all(|(key, value)| pod.meta.labels.get(key) == Some(value))
        }
    })
}

fn is_of(slice: &EndpointSlice, service: &Service) -> bool {
    slice.meta.namespace == service.meta.namespace
        && slice.meta.labels.get("kubernetes.io/service-name") == Some(&*service.meta.name)
}
