//! Label selectors and address blocks, as the reference reads them.

use std::net::IpAddr;

use ipnet::IpNet;
use strait_base::{LabelSelector, Labels, Operator};

/// "A label selector is a label query over a set of resources. The result of matchLabels and matchExpressions are `ANDed`. An empty label
/// selector matches all objects." (`LabelSelector`, meta/v1)
pub(super) fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    for (key, wanted) in &selector.match_labels.0 {
        match labels.0.get(key) {
            Some(value) if value == wanted => {}
            Some(_) | None => return false,
        }
    }
    for requirement in &selector.match_expressions {
        let present = labels.0.get(&requirement.key);
        let holds = match (&requirement.operator, present) {
            (Operator::In(values), Some(value)) => values.contains(value),
            (Operator::In(_), None) => false,
            // "NotIn ... and all resources with no labels with the key" (concept page "Labels and Selectors").
            (Operator::NotIn(values), Some(value)) => !values.contains(value),
            (Operator::NotIn(_), None) => true,
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
        };
        if !holds {
            return false;
        }
    }
    true
}

/// Whether `address` is in `block`: as many leading bits are the same as the prefix is long.
pub(super) fn inside(block: &IpNet, address: IpAddr) -> bool {
    let (ours, theirs): (u128, u128) = match (block.addr(), address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)) << 96, u128::from(u32::from(b)) << 96),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    (ours ^ theirs).leading_zeros() >= u32::from(block.prefix_len())
}
