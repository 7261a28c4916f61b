//! The IR: what every policy kind is lowered to.
//!
//! ```text
//! Policy ── selects ──→ subject endpoints      isolates a direction: what no rule allows is denied
//!   └ Rule { direction, peers, l4, effect, precedence, origin }      the highest precedence that matches decides
//! ```

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use strait_base::{LabelSelector, Labels, Location, PortRange, Protocol};

use crate::{connection::Direction, plan::PortVerdict};

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
    /// Which endpoints it selects.
    pub subject: EndpointSelector,
    /// Directions in which selected endpoints are closed except for what rules allow.
    pub isolates: Vec<Direction>,
    /// Its rules, those of ingress and egress each in their order.
    pub rules: Vec<Rule>,
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
    pub effect: PortVerdict,
    /// Rank among the rules that match; the highest decides.
    pub precedence: Precedence,
    /// Which rule it is.
    pub origin: Origin,
}

/// Evaluation order of policy kinds, as Cilium's tiers: a lower number is evaluated first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tier(u8);

impl Tier {
    /// `NetworkPolicy` and Cilium's kinds.
    pub const NORMAL: Self = Self(200);
}

/// Rank of a rule; the higher decides. Tier, then level within the tier, then explicit denies before everything else, as Cilium's
/// map precedence orders them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Precedence(u32);

impl Precedence {
    /// Below every rule.
    pub const LOWEST: Self = Self(0);

    /// The rank of a rule with this effect at `level` of `tier`; lower levels are evaluated first.
    pub const fn new(tier: Tier, level: u16, effect: PortVerdict) -> Self {
        let low = match effect {
            PortVerdict::Deny => 255,
            PortVerdict::Redirect => 2,
            PortVerdict::Allow | PortVerdict::Audit => 1,
        };
        Self(((!tier.0) as u32) << 24 | ((!level) as u32) << 8 | low)
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
    /// Where it is written.
    pub location: Location,
}

/// Whom a peer names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PeerSelector {
    /// Endpoints.
    Endpoints(EndpointSelector),
    /// Whoever has an address in the block: pods and nodes as well.
    Block(Block),
}

/// An address block with holes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block {
    /// The block.
    pub cidr: IpNet,
    /// What is left out of it; sorted.
    pub except: Vec<IpNet>,
}

impl Block {
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
            write!(f, " {}[{rule}]", self.direction)?;
        }
        write!(f, " ({}:{})", self.location.file, self.location.line)
    }
}
