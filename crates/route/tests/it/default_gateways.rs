//! Gateways that routes attach to without naming them (GEP-3793).

use crate::bed::{Case, Followed, NOW, check, lines};
use strait_route::Compiled;

const BASE: &str = r"Namespace d
---
Namespace team
---
Gateway d/all 1
spec: {gatewayClassName: strait, defaultScope: All, listeners: [{name: web, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}, {name: tcp, port: 81, protocol: TCP}]}
---
Gateway d/home 1
spec: {gatewayClassName: strait, defaultScope: All, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
Gateway d/none 1
spec: {gatewayClassName: strait, defaultScope: None, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
Gateway d/plain 1
spec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
Gateway d/foreign 1
spec: {gatewayClassName: other, defaultScope: All, listeners: [{name: web, port: 80, protocol: HTTP}]}
";

const CASES: &[Case] = &[
    (
        "a default gateway says so, others do not",
        "Namespace x\n",
        &[
            ("Gateway d/all", "Accepted Programmed ResolvedRefs DefaultGateway 10.0.0.1"),
            ("Gateway d/none", "Accepted Programmed ResolvedRefs 10.0.0.3"),
            ("Gateway d/plain", "Accepted Programmed ResolvedRefs 10.0.0.4"),
        ],
    ),
    (
        "it attaches to all of them, by the rules of their listeners",
        "HTTPRoute team/r\nspec: {useDefaultGateways: All}",
        &[
            ("HTTPRoute team/r 0", "Gateway d/all Accepted ResolvedRefs"),
            ("HTTPRoute team/r 1", "Gateway d/home Accepted=False/NotAllowedByListeners ResolvedRefs"),
            ("HTTPRoute team/r 2", ""),
            (
                "Gateway d/all listener web",
                "[HTTPRoute GRPCRoute] routes=1 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "those that it names come first; one that it names as a whole it has once",
        "HTTPRoute d/r\nspec: {useDefaultGateways: All, parentRefs: [{name: plain}, {name: home}, {name: all, sectionName: web}]}",
        &[
            ("HTTPRoute d/r 0", "Gateway plain Accepted ResolvedRefs"),
            ("HTTPRoute d/r 1", "Gateway home Accepted ResolvedRefs"),
            ("HTTPRoute d/r 2", "Gateway all#web Accepted ResolvedRefs"),
            ("HTTPRoute d/r 3", "Gateway d/all Accepted ResolvedRefs"),
            ("HTTPRoute d/r 4", ""),
            (
                "Gateway d/all listener web",
                "[HTTPRoute GRPCRoute] routes=1 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "every kind of route",
        "TCPRoute d/r\nspec: {useDefaultGateways: All, rules: [{backendRefs: [{name: nothing, port: 1}]}]}\n---\nGRPCRoute d/r\nspec: {useDefaultGateways: All, rules: [{}]}",
        &[
            ("TCPRoute d/r 0", "Gateway d/all Accepted ResolvedRefs=False/BackendNotFound"),
            (
                "TCPRoute d/r 1",
                "Gateway d/home Accepted=False/NotAllowedByListeners ResolvedRefs=False/BackendNotFound",
            ),
            ("GRPCRoute d/r 1", "Gateway d/home Accepted ResolvedRefs"),
        ],
    ),
    (
        "one that does not ask, and one that asks for none",
        "HTTPRoute d/r\nspec: {}\n---\nHTTPRoute d/s\nspec: {useDefaultGateways: None}",
        &[("HTTPRoute d/r 0", ""), ("HTTPRoute d/s 0", "")],
    ),
];

#[test]
fn default_gateways() {
    check(BASE, CASES);
}

/// Gateways become default ones and cease to be, and the routes that ask for those follow.
#[test]
fn followed() {
    let mut followed = Followed::default();
    let of = |scope: &str| {
        format!(
            "Gateway d/g 1\nspec: {{gatewayClassName: strait, {scope}listeners: [{{name: web, port: 80, protocol: HTTP}}]}}"
        )
    };
    let route = "HTTPRoute d/r 2\nspec: {useDefaultGateways: All}";
    let rival = "GRPCRoute d/c 1\nspec: {parentRefs: [{name: g}], rules: [{}]}";
    for (objects, expected) in [
        (route.to_owned(), ""),
        (format!("{route}\n---\n{}", of("")), ""),
        (format!("{route}\n---\n{}", of("defaultScope: All, ")), "Gateway d/g Accepted ResolvedRefs"),
        (
            format!("{route}\n---\n{rival}\n---\n{}", of("defaultScope: All, ")),
            "Gateway d/g Accepted=False/Conflicted ResolvedRefs",
        ),
        (format!("{route}\n---\n{}", of("defaultScope: All, ")), "Gateway d/g Accepted ResolvedRefs"),
        (format!("{route}\n---\n{}", of("defaultScope: None, ")), ""),
        (format!("{route}\n---\n{}", of("defaultScope: All, ")), "Gateway d/g Accepted ResolvedRefs"),
        (route.to_owned(), ""),
    ] {
        followed.becomes(&objects, NOW);
        let compiled = Compiled { statuses: followed.compiler.statuses(), ..Compiled::default() };
        let found = lines(&compiled);
        assert_eq!(found.get("HTTPRoute d/r 0").map_or("", String::as_str), expected, "{objects}");
        let served = followed.compiler.plan().rules.iter().count();
        assert_eq!(served > 0, expected.contains("Accepted ") || objects.contains(rival), "{objects}");
    }
}
