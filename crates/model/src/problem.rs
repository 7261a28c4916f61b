//! Parts of policies that nothing enforces yet, and what holds instead.

use std::{fmt, sync::Arc};

use serde::Serialize;
use strait_base::Location;

/// A part of a policy that is not enforced as it is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What is meant.
    pub lacks: Lack,
    /// Kind of the policy.
    pub kind: Arc<str>,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Where it is written.
    pub location: Location,
}

/// What is not enforced as it is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Lack {
    /// L7 rules, server names, TLS contexts or a listener. What they are about is denied.
    Proxy,
    /// `authentication`. What the rule is about is denied.
    Authentication,
    /// Names of the domain name system. They stand for nobody.
    DomainNames,
    /// Security groups of a cloud. They stand for nobody; in a deny for everyone outside.
    CloudGroups,
}

impl Lack {
    /// What holds instead.
    const fn text(self) -> &'static str {
        match self {
            Self::Proxy => {
                "L7 rules, server names, TLS contexts and listeners are not enforced yet: what they are about is denied"
            }
            Self::Authentication => "authentication is not enforced yet: what the rule is about is denied",
            Self::DomainNames => "domain names are not enforced yet: the rule allows nobody by them",
            Self::CloudGroups => {
                "security groups of a cloud are not resolved: the rule allows nobody by them (and denies everyone outside)"
            }
        }
    }
}

/// `shop.yaml:14: CiliumNetworkPolicy shop/db: …`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ", self.location.file, self.location.line, self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}: {}", self.name, self.lacks.text())
    }
}
