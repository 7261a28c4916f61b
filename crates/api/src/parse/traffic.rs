//! `XBackendTrafficPolicy` of `gateway.networking.x-k8s.io`, and what routes may say in its place.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    decode::{Decoder, Fields, Step},
    gateway_values::{self as gv, bounded, one_of, twice},
    tree::Node,
};
use crate::types::{
    BackendTrafficPolicy, Object, ObjectMeta, PolicyTarget, RetryConstraint, SessionPersistence, SessionType,
};

const HOUR: Duration = Duration::from_hours(1);

pub(super) fn backend_traffic_policy(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with targetRefs", |d, node| {
        let mut fields = d.fields(node)?;
        let mut seen = BTreeSet::new();
        let targets = bounded(d, &mut fields, "targetRefs", (1, 16), |d, node| {
            let target = target(d, node)?;
            if !seen.insert((target.group.clone(), target.kind.clone(), target.name.clone())) {
                twice(d, node, &target.name, "each target once");
            }
            Some(target)
        });
        let retry_constraint = d.optional(&mut fields, "retryConstraint", retry_constraint);
        let session_persistence = d.optional(&mut fields, "sessionPersistence", session_persistence);
        d.close(&fields, &[]);
        Some((targets, retry_constraint, session_persistence))
    });
    let ((targets, retry_constraint, session_persistence), meta) = (spec?, meta?);
    let policy = BackendTrafficPolicy { meta, targets, retry_constraint, session_persistence };
    Some(Object::BackendTrafficPolicy(Arc::new(policy)))
}

/// A service as a whole: ports are not told apart.
fn target(d: &mut Decoder<'_>, node: &Node) -> Option<PolicyTarget> {
    let location = d.location(node.at);
    let found = gv::full_reference(d, node, false)?;
    Some(PolicyTarget { group: found.group, kind: found.kind, name: found.name, section_name: None, location })
}

fn retry_constraint(d: &mut Decoder<'_>, node: &Node) -> Option<RetryConstraint> {
    let mut fields = d.fields(node)?;
    let budget = d.optional(&mut fields, "budget", |d, node| {
        let mut fields = d.fields(node)?;
        let percent = d.optional(&mut fields, "percent", |d, node| d.integer(node, 0, 100));
        let interval = d.optional(&mut fields, "interval", |d, node| {
            within(d, node, Duration::from_secs(1), "a duration from 1s to 1h")
        });
        d.close(&fields, &[]);
        Some((percent, interval))
    });
    let rate = d.optional(&mut fields, "minRetryRate", |d, node| {
        let mut fields = d.fields(node)?;
        let count = d.optional(&mut fields, "count", |d, node| d.integer(node, 1, 1_000_000));
        let interval = d.optional(&mut fields, "interval", |d, node| {
            within(d, node, Duration::from_millis(1), "a duration above 0s, of at most 1h")
        });
        d.close(&fields, &[]);
        Some((count, interval))
    });
    d.close(&fields, &[]);
    let whole = |number: Option<i64>, default| number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default);
    let default = RetryConstraint::default();
    let ((percent, interval), (count, min_interval)) = (budget.unwrap_or_default(), rate.unwrap_or_default());
    Some(RetryConstraint {
        percent: whole(percent, default.percent),
        interval: interval.unwrap_or(default.interval),
        min_retries: whole(count, default.min_retries),
        min_retries_interval: min_interval.unwrap_or(default.min_retries_interval),
    })
}

fn within(d: &mut Decoder<'_>, node: &Node, least: Duration, allowed: &str) -> Option<Duration> {
    let read = gv::duration(d, node)?;
    if !(least..=HOUR).contains(&read) {
        d.refuse(node, allowed);
        return None;
    }
    Some(read)
}

/// `sessionPersistence` of a rule or a policy.
pub(super) fn session_persistence(d: &mut Decoder<'_>, node: &Node) -> Option<SessionPersistence> {
    let mut fields = d.fields(node)?;
    let name = d.optional(&mut fields, "sessionName", |d, node| {
        d.checked(node, |text| (text.len() <= 128).then_some(()).ok_or("at most 128 characters"))
    });
    let absolute_timeout = d.optional(&mut fields, "absoluteTimeout", gv::duration);
    let idle_timeout = d.optional(&mut fields, "idleTimeout", gv::duration);
    let by = d.optional(&mut fields, "type", |d, node| one_of(d, node, &["Cookie", "Header"]));
    let cookie_node = fields.get("cookieConfig");
    let lifetime = d.optional(&mut fields, "cookieConfig", |d, node| {
        let mut fields = d.fields(node)?;
        let lifetime = d.optional(&mut fields, "lifetimeType", |d, node| one_of(d, node, &["Permanent", "Session"]));
        d.close(&fields, &[]);
        lifetime
    });
    d.close(&fields, &[]);
    let permanent_cookie = lifetime == Some("Permanent");
    let by = if by == Some("Header") { SessionType::Header } else { SessionType::Cookie };
    if permanent_cookie && absolute_timeout.is_none() {
        d.missing(node.at, "absoluteTimeout", "a duration: the cookie is Permanent");
    }
    if let Some(node) = cookie_node.filter(|_| by == SessionType::Header) {
        d.within(Step::Field("cookieConfig"), |d| d.refuse(node, "no cookieConfig: the type is Header"));
    }
    Some(SessionPersistence { name, by, absolute_timeout, idle_timeout, permanent_cookie })
}
