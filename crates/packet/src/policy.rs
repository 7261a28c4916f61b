//! The verdict on a new connection: two exact lookups at most, then one longest prefix.

use crate::abi::{ANY_PEER, Direction, DropReason, PORT_SET_NONE, PolicyKey, Port, PortSetKey, RuleVerdict};
use crate::maps::Maps;

/// A connection as policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Identity of the endpoint.
    pub subject: u32,
    /// Identity of the other side; zero if unknown, which only rules for any peer match.
    pub peer: u32,
    /// From the endpoint's view.
    pub direction: Direction,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port, or ICMP type.
    pub port: Port,
}

/// How a connection is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// A rule allows it.
    Allowed,
    /// An auditing rule would drop it if it were enforced.
    Audited,
}

/// Judges a connection; `origin` becomes the deciding rule's, or that of what isolates the subject.
///
/// # Errors
/// [`DropReason::NoPolicy`] if nothing is loaded for the subject, [`DropReason::PolicyDenied`] if no rule matches or
/// the entry is due to what isolates, [`DropReason::PolicyDeny`] if a rule denies, [`DropReason::ProxyUnavailable`].
#[inline(never)]
pub fn judge<M: Maps>(maps: &M, question: &Question, origin: &mut u32) -> Result<Passage, DropReason> {
    *origin = 0;
    let mut key = PolicyKey::new(question.subject, question.direction, question.peer);
    let mut value = maps.policy(&key);
    if value.is_none() {
        key.peer = ANY_PEER;
        value = maps.policy(&key);
    }
    let value = value.ok_or(DropReason::NoPolicy)?;
    *origin = value.default_origin;
    if value.port_set == PORT_SET_NONE {
        return Err(DropReason::PolicyDenied);
    }
    let key = PortSetKey::exact(value.port_set, question.protocol, question.port);
    let rule = maps.port_rule(&key).ok_or(DropReason::PolicyDenied)?;
    *origin = rule.origin;
    match RuleVerdict::from_number(rule.verdict) {
        RuleVerdict::Allow => Ok(Passage::Allowed),
        RuleVerdict::Audit => Ok(Passage::Audited),
        RuleVerdict::Redirect => Err(DropReason::ProxyUnavailable),
        // Ports that no rule allows, cut out of a wider rule's.
        RuleVerdict::Deny if rule.origin == value.default_origin => Err(DropReason::PolicyDenied),
        RuleVerdict::Deny => Err(DropReason::PolicyDeny),
    }
}
