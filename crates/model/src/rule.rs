//! The IR: what every policy kind is lowered to.
//!
//! ```text
//! Policy ── selects ──→ subjects      isolates a direction: what no rule allows is denied
//!   └ Rule { direction, peers, l4, effect, precedence, audit, origin }      the highest precedence that matches decides
//! ```
//!
//! How rules of several tiers and policies decide together is in `tiers`.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use strait_base::{LabelSelector, Labels, Location, Operator, PortRange, Protocol};

use crate::connection::{Direction, Family};

/// One policy, lowered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Its kind as manifests write it, for example `NetworkPolicy`.
    pub kind: Arc<str>,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Where it is written.
    pub location: Location,
    /// Whom it selects.
    pub subject: Subject,
    /// Directions in which selected endpoints are closed except for what rules allow.
    pub isolates: Vec<Direction>,
    /// Whether isolation of egress is also from the node that the endpoint runs on: with Cilium's kinds; `NetworkPolicy` never
    /// stands between a pod and its node, and what it allows counts there only where another kind isolates.
    pub isolates_from_own_node: bool,
    /// It reports what it would deny, and denies and allows nothing.
    pub audit: bool,
    /// Its rules, those of ingress and egress each in their order.
    pub rules: Vec<Rule>,
}

/// Whom a policy is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// Endpoints.
    Endpoints(EndpointSelector),
    /// Nodes with these labels: a host policy. It is about what nodes themselves send and receive, not about what they forward.
    Nodes(LabelSelector),
}

impl Subject {
    /// The selector of endpoints; `None` for a host policy.
    pub const fn endpoints(&self) -> Option<&EndpointSelector> {
        match self {
            Self::Endpoints(selector) => Some(selector),
            Self::Nodes(_) => None,
        }
    }
}

/// One rule of a policy, about the endpoints that the policy selects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// From the view of the selected endpoints.
    pub direction: Direction,
    /// Which other sides.
    pub peers: Peers,
    /// Which protocols and ports.
    pub l4: L4Match,
    /// What happens to what matches.
    pub effect: Effect,
    /// Rank among the rules that match; the highest decides.
    pub precedence: Precedence,
    /// Its policy is one that only reports.
    pub audit: bool,
    /// Which rule it is.
    pub origin: Origin,
}

/// What a rule does with what matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Leaves it to the next tier.
    Pass,
    /// Allows it.
    Allow,
    /// Denies it because the rule asks for more than an address and a port, and nothing enforces that yet; rules that allow the
    /// same traffic outright go before.
    Closed,
    /// Denies it.
    Deny,
}

impl Effect {
    /// Whether it holds also for what a pod's own node sends to it, which is allowed otherwise: only explicit denies do, as with Cilium's
    /// `allow-localhost`.
    pub const fn binds_own_node(self) -> bool {
        matches!(self, Self::Deny)
    }

    /// Whether a connection that it decides goes on.
    pub const fn passes(self) -> bool {
        matches!(self, Self::Allow)
    }
}

/// Evaluation order of policy kinds, as Cilium's tiers: a lower one is evaluated first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// Before all others.
    Admin,
    /// `NetworkPolicy` and Cilium's kinds.
    Normal,
    /// For what no policy of the normal tier isolates.
    Baseline,
    /// What holds where nothing else says anything.
    Open,
}

/// Rank of a rule; the higher decides. Tier, then level within the tier, then explicit denies before everything else, as Cilium's
/// map precedence orders them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Precedence(u32);

impl Precedence {
    /// Below every rule.
    pub const OPEN: Self = Self(0);

    /// Levels of a tier are below this.
    pub const LEVELS: u32 = 1 << 22;

    /// Of isolation: below the rules of the normal tier, above the baseline tier.
    pub const fn isolation(effect: Effect) -> Self {
        Self::at(Tier::Normal, 2, effect)
    }

    /// Of a rule of the normal tier.
    pub const fn normal(effect: Effect) -> Self {
        let level = if matches!(effect, Effect::Closed) { 1 } else { 0 };
        Self::at(Tier::Normal, level, effect)
    }

    /// The rank of a rule with this effect at `level` of `tier`; lower levels are evaluated first.
    pub const fn at(tier: Tier, level: u32, effect: Effect) -> Self {
        let low = match effect {
            Effect::Deny | Effect::Closed => 255,
            Effect::Allow => 1,
            Effect::Pass => 0,
        };
        let level = if level < Self::LEVELS { level } else { Self::LEVELS - 1 };
        Self((Tier::Open as u32 - tier as u32) << 30 | (Self::LEVELS - 1 - level) << 8 | low)
    }

    /// The tier it is in.
    pub const fn tier(self) -> Tier {
        match self.0 >> 30 {
            3 => Tier::Admin,
            2 => Tier::Normal,
            1 => Tier::Baseline,
            _ => Tier::Open,
        }
    }

    /// As compiled entries carry it.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Which endpoints: pods so labelled in the namespaces so named or labelled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointSelector {
    /// In which namespaces.
    pub namespaces: NamespaceSelector,
    /// Which of their pods.
    pub pods: LabelSelector,
    /// What must hold of the name of their service account.
    pub accounts: Vec<Operator>,
}

impl EndpointSelector {
    /// Pods so labelled in these namespaces, whatever their service account.
    pub const fn new(namespaces: NamespaceSelector, pods: LabelSelector) -> Self {
        Self { namespaces, pods, accounts: Vec::new() }
    }

    /// Whether pods of this service account are selected, as far as that counts.
    pub fn matches_account(&self, account: &str) -> bool {
        self.accounts.iter().all(|operator| match operator {
            Operator::In(names) => names.iter().any(|name| **name == *account),
            Operator::NotIn(names) => names.iter().all(|name| **name != *account),
            Operator::Exists => true,
            Operator::DoesNotExist => false,
        })
    }
}

/// Which namespaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceSelector {
    /// The one of this name.
    Named(Arc<str>),
    /// Those with these labels.
    Labelled(LabelSelector),
}

impl NamespaceSelector {
    /// Whether it selects the namespace of this name and labels.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        match self {
            Self::Named(named) => **named == *name,
            Self::Labelled(selector) => selector.matches(labels),
        }
    }
}

/// Which other sides of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peers {
    /// Every one: pods, nodes, the world.
    Any,
    /// Those that one of these names.
    Of(Vec<Peer>),
}

/// One peer of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Whom it names.
    pub selects: PeerSelector,
    /// Which entry of the list of peers says so, from 0: one entry may be several peers, or none.
    pub entry: usize,
    /// Where it is written.
    pub location: Location,
}

/// Whom a peer names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PeerSelector {
    /// Endpoints.
    Endpoints(EndpointSelector),
    /// Whoever has an address in the block, as far as the block reaches.
    Block(Block),
    /// Nodes with these labels, the endpoint's own among them.
    Nodes(LabelSelector),
    /// Everyone of a class.
    Entity(Entity),
}

/// Classes of peers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Entity {
    /// Outside the cluster.
    World,
    /// Outside the cluster, IPv4.
    WorldIpv4,
    /// Outside the cluster, IPv6.
    WorldIpv6,
    /// Pods, nodes and pod addresses that no known pod has.
    Cluster,
    /// The node that the endpoint runs on.
    Host,
    /// The other nodes.
    RemoteNode,
    /// Pod addresses that no known pod has.
    Unmanaged,
}

/// What a peer is, seen from an endpoint. Each has one class.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    Pod,
    OwnNode,
    OtherNode,
    Unmanaged,
    World(Family),
}

impl Entity {
    pub(crate) fn includes(self, class: Class) -> bool {
        match self {
            Self::World => matches!(class, Class::World(_)),
            Self::WorldIpv4 => class == Class::World(Family::V4),
            Self::WorldIpv6 => class == Class::World(Family::V6),
            Self::Cluster => !matches!(class, Class::World(_)),
            Self::Host => class == Class::OwnNode,
            Self::RemoteNode => class == Class::OtherNode,
            Self::Unmanaged => class == Class::Unmanaged,
        }
    }
}

/// Cilium's name of it.
impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::World => "world",
            Self::WorldIpv4 => "world-ipv4",
            Self::WorldIpv6 => "world-ipv6",
            Self::Cluster => "cluster",
            Self::Host => "host",
            Self::RemoteNode => "remote-node",
            Self::Unmanaged => "unmanaged",
        })
    }
}

/// Whose addresses a block means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reach {
    /// Those that no pod or node has: blocks of Cilium's kinds.
    Outside,
    /// Everyone's but those of the endpoint's own node: `ipBlock` of `NetworkPolicy`, which has no say about that.
    Others,
    /// Everyone's: `networks` of the tiers' kinds.
    All,
}

impl Reach {
    pub(crate) fn includes(self, class: Class) -> bool {
        match (self, class) {
            (_, Class::World(_) | Class::Unmanaged) | (Self::All, _) => true,
            (Self::Others, class) => class != Class::OwnNode,
            (Self::Outside, _) => false,
        }
    }
}

/// An address block with holes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block {
    /// The block.
    pub cidr: IpNet,
    /// What is left out of it; sorted.
    pub except: Vec<IpNet>,
    /// Whose addresses count; the same in all blocks of a rule.
    pub reach: Reach,
}

impl Block {
    /// `cidr` without what is in `except`.
    pub fn new(cidr: IpNet, except: &[IpNet], reach: Reach) -> Self {
        let mut except: Vec<_> = except.iter().map(IpNet::trunc).collect();
        except.sort_unstable();
        except.dedup();
        Self { cidr: cidr.trunc(), except, reach }
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|hole| hole.contains(&address))
    }

    /// Whether all of `prefix`, apart from holes that lie strictly inside it, is in the block.
    pub fn covers(&self, prefix: IpNet) -> bool {
        self.cidr.contains(&prefix) && !self.except.iter().any(|hole| hole.contains(&prefix))
    }
}

/// `10.0.0.0/8` or `10.0.0.0/8 except 10.1.0.0/16,10.2.0.0/16`.
impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        for (index, hole) in self.except.iter().enumerate() {
            write!(f, "{}{hole}", if index == 0 { " except " } else { "," })?;
        }
        Ok(())
    }
}

/// Which protocols and ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum L4Match {
    /// All, also those without ports such as ICMP.
    Any,
    /// Those that one of these names.
    Of(Vec<PortMatch>),
    /// ICMP of these types.
    Icmp(Vec<IcmpMatch>),
}

/// Messages of one type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IcmpMatch {
    /// ICMP, or ICMPv6.
    pub family: Family,
    /// Its number.
    pub icmp_type: u8,
}

/// `ICMP type 8`, `ICMPv6 type 128`.
impl fmt::Display for IcmpMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.family {
            Family::V4 => "ICMP",
            Family::V6 => "ICMPv6",
        };
        write!(f, "{name} type {}", self.icmp_type)
    }
}

/// Ports of one protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortMatch {
    /// Of which protocol.
    pub protocol: Protocol,
    /// Which ones.
    pub ports: Ports,
    /// Where it is written.
    pub location: Location,
}

/// Port numbers, or a name for them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ports {
    /// Numbers.
    Range(PortRange),
    /// Those that the destination pod declares under this name.
    Named(Arc<str>),
}

/// `80/TCP`, `8000-8080/TCP`, `http/TCP`, `TCP` for all of its ports.
impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ports {
            Ports::Range(PortRange::ALL) => write!(f, "{}", self.protocol),
            Ports::Range(range) => write!(f, "{range}/{}", self.protocol),
            Ports::Named(name) => write!(f, "{name}/{}", self.protocol),
        }
    }
}

/// What a verdict is due to: a rule, or a policy that isolates.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Kind of the policy.
    pub kind: Arc<str>,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The direction concerned.
    pub direction: Direction,
    /// Index of the rule in its list, from 0; `None`: the policy isolates and no rule of it is meant.
    pub rule: Option<u32>,
    /// The list it is in, where that is not named after the direction: `ingressDeny`, `specs[1].egress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<Arc<str>>,
    /// Where the rule (or the policy) is written.
    pub location: Location,
}

/// `NetworkPolicy shop/db ingress[0] (shop.yaml:14)`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}", self.name)?;
        if let Some(rule) = self.rule {
            write!(f, " {}[{rule}]", self.list())?;
        }
        write!(f, " ({}:{})", self.location.file, self.location.line)
    }
}

impl Origin {
    /// The name of the list that the rule is in.
    pub fn list(&self) -> String {
        self.section.as_ref().map_or_else(|| self.direction.to_string(), ToString::to_string)
    }
}
