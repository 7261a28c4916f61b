//! `cilium.io/v2`: `CiliumNetworkPolicy`, `CiliumClusterwideNetworkPolicy` and `CiliumCIDRGroup`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ipnet::IpNet;
use strait_base::{Labels, Location, Operator, Protocol};

use super::{CiliumL7Rules, CiliumListener, CiliumTlsContext, ObjectMeta, PortRef};

/// A `CiliumNetworkPolicy` (its namespace is `meta.namespace`) or a `CiliumClusterwideNetworkPolicy` (`meta.namespace` is empty).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumNetworkPolicy {
    /// What every object carries.
    pub meta: ObjectMeta,
    /// It is a `CiliumClusterwideNetworkPolicy`.
    pub clusterwide: bool,
    /// `spec`, then each of `specs`; never empty.
    pub rules: Vec<CiliumRule>,
}

/// One `spec`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumRule {
    /// Whom it is for.
    pub subject: CiliumSubject,
    /// `ingress`: who may connect to the subject. Missing and empty mean the same: no rule of this section.
    pub ingress: Vec<CiliumTrafficRule>,
    /// `ingressDeny`: who may not, whatever an allow rule says. No L7, no authentication.
    pub ingress_deny: Vec<CiliumTrafficRule>,
    /// `egress`.
    pub egress: Vec<CiliumTrafficRule>,
    /// `egressDeny`.
    pub egress_deny: Vec<CiliumTrafficRule>,
    /// `enableDefaultDeny`, as written.
    pub enable_default_deny: CiliumDefaultDeny,
    /// `labels`.
    pub labels: Vec<CiliumRuleLabel>,
    /// `description`.
    pub description: Option<Arc<str>>,
    /// `log.value`: at most 32 characters.
    pub log: Option<Arc<str>>,
    /// Where it is written.
    pub location: Location,
}

impl CiliumRule {
    /// Whether its subject is closed for ingress but for what rules allow: as `enableDefaultDeny.ingress` says, else where `ingress` or `ingressDeny` has a rule.
    pub fn default_denies_ingress(&self) -> bool {
        let any = !self.ingress.is_empty() || !self.ingress_deny.is_empty();
        self.enable_default_deny.ingress.unwrap_or(any)
    }

    /// The same for egress.
    pub fn default_denies_egress(&self) -> bool {
        let any = !self.egress.is_empty() || !self.egress_deny.is_empty();
        self.enable_default_deny.egress.unwrap_or(any)
    }
}

/// Whom a rule is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CiliumSubject {
    /// `endpointSelector`: pods, of the policy's namespace where it has one.
    Endpoints(CiliumSelector),
    /// `nodeSelector`: the hosts themselves. Only in a clusterwide policy.
    Nodes(CiliumSelector),
}

/// `enableDefaultDeny`, as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CiliumDefaultDeny {
    /// `ingress`.
    pub ingress: Option<bool>,
    /// `egress`.
    pub egress: Option<bool>,
}

/// One of a rule's `labels`. It has no effect on traffic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumRuleLabel {
    /// `key`.
    pub key: Arc<str>,
    /// `value`; empty where not given.
    pub value: Arc<str>,
    /// `source`; empty where not given.
    pub source: Arc<str>,
}

/// One rule of a section: any of the peers, on any of the ports (or of the ICMP types).
///
/// A rule `{}`, without peers, ports and ICMP types, matches nothing (but closes the direction by default): `ingress: [{}]` denies all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumTrafficRule {
    /// The one L3 member that it has.
    pub peers: CiliumPeers,
    /// `toPorts`; missing and empty both mean all traffic of the peers, whatever its protocol. Empty where there are `icmps`.
    pub ports: Vec<CiliumPortRule>,
    /// `icmps`, the `fields` of each; missing and empty both mean no restriction, an entry without fields matches nothing. Empty where there are `ports`.
    pub icmps: Vec<Vec<CiliumIcmpField>>,
    /// `authentication.mode`; never in a deny section.
    pub authentication: Option<CiliumAuthentication>,
    /// Where it is written.
    pub location: Location,
}

/// The L3 member of a rule. One that is there but has an empty list selects nobody (also where another is given beside it, as upstream).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CiliumPeers {
    /// None given: every peer, where there are ports or ICMP types; nothing, where there are none.
    Any,
    /// `fromEndpoints`, `toEndpoints`: pods, of the policy's namespace where it has one and the selector names no other.
    Endpoints(Vec<CiliumSelector>),
    /// `fromCIDR`, `toCIDR`: addresses that are neither pods nor nodes. An address without a length is a /32 or /128; host bits are zero.
    Cidrs(Vec<IpNet>),
    /// `fromCIDRSet`, `toCIDRSet`: the same, with exceptions and groups.
    CidrSets(Vec<CiliumCidrRule>),
    /// `fromEntities`, `toEntities`.
    Entities(Vec<CiliumEntity>),
    /// `toServices`.
    Services(Vec<CiliumService>),
    /// `fromNodes`, `toNodes`: nodes by their labels.
    Nodes(Vec<CiliumSelector>),
    /// `toFQDNs`.
    Fqdns(Vec<CiliumFqdn>),
    /// `fromGroups`, `toGroups`: a cloud's security groups.
    Groups(Vec<CiliumCloudGroup>),
}

/// One entry of `fromCIDRSet` or `toCIDRSet`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumCidrRule {
    /// The prefixes.
    pub source: CiliumCidrSource,
    /// `except`: what is left out of each; host bits are zero. Beside `cidr`, each lies inside it.
    pub except: Vec<IpNet>,
    /// Where it is written.
    pub location: Location,
}

/// Where the prefixes of an entry come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CiliumCidrSource {
    /// `cidr`; host bits are zero.
    Cidr(IpNet),
    /// `cidrGroupRef`: the name of a [`CiliumCidrGroup`]. One that does not exist has no prefix.
    Group(Arc<str>),
    /// `cidrGroupSelector`: the groups with these labels.
    GroupSelector(CiliumSelector),
}

/// Names for what is not a pod or is many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "the names are Cilium's own")]
pub enum CiliumEntity {
    All,
    World,
    WorldIpv4,
    WorldIpv6,
    Cluster,
    ClusterMesh,
    Host,
    RemoteNode,
    Init,
    Ingress,
    Unmanaged,
    Health,
    None,
    KubeApiserver,
}

impl CiliumEntity {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::All,
        Self::World,
        Self::WorldIpv4,
        Self::WorldIpv6,
        Self::Cluster,
        Self::ClusterMesh,
        Self::Host,
        Self::RemoteNode,
        Self::Init,
        Self::Ingress,
        Self::Unmanaged,
        Self::Health,
        Self::None,
        Self::KubeApiserver,
    ];

    /// As manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::World => "world",
            Self::WorldIpv4 => "world-ipv4",
            Self::WorldIpv6 => "world-ipv6",
            Self::Cluster => "cluster",
            Self::ClusterMesh => "cluster-mesh",
            Self::Host => "host",
            Self::RemoteNode => "remote-node",
            Self::Init => "init",
            Self::Ingress => "ingress",
            Self::Unmanaged => "unmanaged",
            Self::Health => "health",
            Self::None => "none",
            Self::KubeApiserver => "kube-apiserver",
        }
    }
}

impl fmt::Display for CiliumEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One entry of `toServices`. An entry that has both `k8sService` and `k8sServiceSelector` is two of these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CiliumService {
    /// `k8sService`.
    Named {
        /// `serviceName`.
        name: Arc<str>,
        /// `namespace`; missing: any.
        namespace: Option<Arc<str>>,
    },
    /// `k8sServiceSelector`: services by their labels.
    Selected {
        /// `selector`.
        selector: CiliumSelector,
        /// `namespace`; missing: any.
        namespace: Option<Arc<str>>,
    },
}

/// One entry of `toFQDNs` or of L7 `dns` rules: lower case, without the last dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CiliumFqdn {
    /// `matchName`.
    Name(Arc<str>),
    /// `matchPattern`: `*` stands for any characters of a name but dots, alone for every name; `**.` at the beginning for any number of labels.
    Pattern(Arc<str>),
}

/// One entry of `toGroups` or `fromGroups`: all that is given must hold of the cloud's instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CiliumCloudGroup {
    /// `aws.labels`.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// `aws.securityGroupsIds`.
    pub security_group_ids: Vec<Arc<str>>,
    /// `aws.securityGroupsNames`.
    pub security_group_names: Vec<Arc<str>>,
    /// `aws.region`.
    pub region: Option<Arc<str>>,
}

/// One entry of `toPorts`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumPortRule {
    /// `ports`, at most 40; missing and empty both match nothing.
    pub ports: Vec<CiliumPort>,
    /// `rules`, where not empty.
    pub l7: Option<CiliumL7Rules>,
    /// `serverNames`: allowed TLS server names.
    pub server_names: Vec<Arc<str>>,
    /// `terminatingTLS`.
    pub terminating_tls: Option<CiliumTlsContext>,
    /// `originatingTLS`.
    pub originating_tls: Option<CiliumTlsContext>,
    /// `listener`.
    pub listener: Option<CiliumListener>,
    /// Where it is written.
    pub location: Location,
}

impl CiliumPortRule {
    /// Whether it asks for more than L3 and L4 can tell.
    pub const fn needs_proxy(&self) -> bool {
        self.l7.is_some()
            || !self.server_names.is_empty()
            || self.terminating_tls.is_some()
            || self.originating_tls.is_some()
            || self.listener.is_some()
    }
}

/// One port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumPort {
    /// `port`; `None` is written `"0"`: every port. A name is resolved per destination pod.
    pub port: Option<PortRef>,
    /// `endPort`: the last of a range that starts at a numeric `port`; above it.
    pub end_port: Option<u16>,
    /// `protocol`; `None` is `ANY` (also where not given): TCP, UDP and SCTP.
    pub protocol: Option<Protocol>,
    /// Where it is written.
    pub location: Location,
}

/// One of the `fields` of `icmps`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CiliumIcmpField {
    /// `family` is `IPv6`; `IPv4` where not given.
    pub ipv6: bool,
    /// `type`, names resolved.
    pub icmp_type: u8,
}

/// `authentication.mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are Cilium's own")]
pub enum CiliumAuthentication {
    Disabled,
    Required,
    TestAlwaysFail,
}

/// A label selector whose keys say where the label is from. Empty selects everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CiliumSelector {
    /// Keys that must have exactly these values.
    pub match_labels: BTreeMap<CiliumKey, Arc<str>>,
    /// Further requirements.
    pub match_expressions: Vec<CiliumRequirement>,
}

impl CiliumSelector {
    /// Whether it has no requirement and so selects everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// All keys it looks at.
    pub fn keys(&self) -> impl Iterator<Item = &CiliumKey> {
        self.match_labels.keys().chain(self.match_expressions.iter().map(|requirement| &requirement.key))
    }
}

/// One requirement of a selector.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CiliumRequirement {
    /// The label key.
    pub key: CiliumKey,
    /// What must hold of it.
    pub operator: Operator,
}

/// A label key with its source: `k8s:app`, `any:app`, `app` (which is `any:app`), `reserved:host`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CiliumKey {
    /// Where the label must be from.
    pub source: CiliumSource,
    /// The key, without the source.
    pub key: Arc<str>,
}

impl fmt::Display for CiliumKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source != CiliumSource::Any {
            write!(f, "{}:", self.source.as_str())?;
        }
        f.write_str(&self.key)
    }
}

/// Where a label is from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CiliumSource {
    /// `any:` or nothing: from wherever.
    Any,
    /// `k8s:`: the labels of a pod, and of its namespace, service account and cluster under keys that begin with `io.cilium.k8s` or `io.kubernetes.pod`.
    K8s,
    /// `reserved:`: the reserved identities.
    Reserved,
    /// `cidr:`.
    Cidr,
    /// `cidrgroup:`.
    CidrGroup,
    /// `fqdn:`.
    Fqdn,
    /// `node:`.
    Node,
    /// Another, as written: no workload here has labels from it.
    Other(Arc<str>),
}

impl CiliumSource {
    /// As manifests write it, without the colon.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "any",
            Self::K8s => "k8s",
            Self::Reserved => "reserved",
            Self::Cidr => "cidr",
            Self::CidrGroup => "cidrgroup",
            Self::Fqdn => "fqdn",
            Self::Node => "node",
            Self::Other(name) => name,
        }
    }
}

/// As `kubectl` prints selectors: `app=web,k8s:tier in (a,b),!old`; `<all>` where empty.
impl fmt::Display for CiliumSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("<all>");
        }
        let labels = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(|CiliumRequirement { key, operator }| match operator {
            Operator::In(values) => format!("{key} in ({})", values.join(",")),
            Operator::NotIn(values) => format!("{key} notin ({})", values.join(",")),
            Operator::Exists => key.to_string(),
            Operator::DoesNotExist => format!("!{key}"),
        });
        f.write_str(&labels.chain(expressions).collect::<Vec<_>>().join(","))
    }
}

/// A `CiliumCIDRGroup`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumCidrGroup {
    /// What every object carries; `labels` are what a `cidrGroupSelector` selects by.
    pub meta: ObjectMeta,
    /// `spec.externalCIDRs`; host bits are zero.
    pub external_cidrs: Vec<IpNet>,
}

impl CiliumCidrGroup {
    /// The labels that selectors see.
    pub const fn labels(&self) -> &Labels {
        &self.meta.labels
    }
}
