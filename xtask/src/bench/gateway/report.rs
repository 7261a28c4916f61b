//! Goals, printed.

use serde_json::Value;

/// Prints whether each goal was met, and gives them as JSON.
pub(super) fn goals(goals: Vec<(String, Value)>) -> Vec<Value> {
    goals
        .into_iter()
        .map(|(line, json)| {
            println!("{line}");
            json
        })
        .collect()
}
