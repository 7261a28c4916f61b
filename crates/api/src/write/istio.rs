//! Istio's objects back to manifests, as serde has them.

use serde::Serialize;
use serde_json::{Map, Value};

use super::object_of;

pub(super) const API_VERSION: &str = "networking.istio.io/v1";

pub(super) fn spec(of: &impl Serialize) -> Map<String, Value> {
    let mut spec = serde_json::to_value(of).unwrap_or_default();
    prune(&mut spec);
    object_of([("spec", spec)])
}

/// Leaves out what is not given: nulls, and lists and objects of fields that are empty. An empty object in a list or under a key of data is a
/// match that asks for nothing more, and stays.
fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()));
            fields.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
