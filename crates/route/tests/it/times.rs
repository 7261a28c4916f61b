//! When conditions last changed.

use crate::bed::{Followed, lines_of_times};

const ROUTE: &str = "HTTPRoute d/r\nspec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: web, port: 80}]}]}";
const GATEWAY: &str = r"Gateway d/g
spec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
";

/// A condition keeps its time until its status changes, whatever else does.
#[test]
fn kept() {
    let mut followed = Followed::default();
    followed.becomes(&format!("{GATEWAY}{ROUTE}"), "2026-01-01T00:00:00Z");
    let service = "Service d/web\nspec: {ports: [{port: 80}]}";
    followed.becomes(&format!("{GATEWAY}{ROUTE}\n---\n{service}"), "2026-02-02T00:00:00Z");
    let times = lines_of_times(&followed.compiler.statuses());
    assert_eq!(times["HTTPRoute d/r Accepted"], "2026-01-01T00:00:00Z");
    assert_eq!(times["HTTPRoute d/r ResolvedRefs"], "2026-02-02T00:00:00Z");
    assert_eq!(times["Gateway d/g Programmed"], "2026-01-01T00:00:00Z");
    assert_eq!(times["Gateway d/g web Conflicted"], "2026-01-01T00:00:00Z");
}
