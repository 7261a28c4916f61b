//! `DestinationRule`. Its policies are in `traffic`.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        decode::{Decoder, Fields},
        gateway_values::{bounded, twice},
        values as names,
    },
    traffic,
    values::{export_to, labels, not_enforced, selector, wildcard_host},
};
use crate::types::{
    Object, ObjectMeta,
    istio::{DestinationRule, Subset},
};

pub(in super::super) fn destination_rule(
    d: &mut Decoder<'_>,
    root: &mut Fields<'_>,
    meta: Option<ObjectMeta>,
) -> Option<Object> {
    let spec = d.required(root, "spec", "an object with host", |d, node| {
        let mut fields = d.fields(node)?;
        let host = d.required(&mut fields, "host", "the host of a service", wildcard_host);
        let traffic_policy = d.optional(&mut fields, "trafficPolicy", traffic::policy);
        let mut seen = BTreeSet::new();
        let subsets = bounded(d, &mut fields, "subsets", (0, 4096), |d, node| {
            let location = d.location(node.at);
            let mut fields = d.fields(node)?;
            let name = d.required(&mut fields, "name", "a name", |d, node| d.checked(node, names::label_1123));
            let labels = labels(d, &mut fields, "labels");
            let traffic_policy = d.optional(&mut fields, "trafficPolicy", traffic::policy);
            d.close(&fields, &[]);
            let name = name?;
            if !seen.insert(Arc::clone(&name)) {
                twice(d, node, &name, "each name of a subset once");
            }
            Some(Subset { name, labels, traffic_policy, location })
        });
        let export_to = export_to(d, &mut fields);
        let workload_selector = selector(d, &mut fields, "workloadSelector", "matchLabels");
        not_enforced(d, &mut fields, "workloadSelector", "the rule is for workloads, of which the gate is none");
        d.close(&fields, &[]);
        let workload_selector = workload_selector
            .map(|labels| labels.iter().map(|(key, value)| (Arc::from(key), Arc::from(value))).collect());
        Some(DestinationRule { meta: meta?, host: host?, traffic_policy, subsets, export_to, workload_selector })
    });
    Some(Object::DestinationRule(Arc::new(spec?)))
}
