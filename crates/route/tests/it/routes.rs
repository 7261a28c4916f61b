//! Statuses of routes, for each of their parents.

use crate::bed::{Case, check};

const BASE: &str = r"Namespace d
---
Namespace team
---
Gateway d/g
spec:
  gatewayClassName: strait
  listeners:
  - {name: web, port: 80, hostname: '*.x.com', protocol: HTTP}
  - {name: other, port: 8080, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: team}}}}}
  - {name: tls, port: 443, hostname: t.x.com, protocol: TLS, tls: {mode: Passthrough}}
---
Service d/web
spec: {ports: [{name: http, port: 80}, {name: odd, port: 81, appProtocol: kubernetes.io/odd}, {name: dns, port: 53, protocol: UDP}]}
---
Service team/web
spec: {ports: [{port: 80}]}
---
Service d/elsewhere
spec: {type: ExternalName, externalName: a.example.com, ports: [{port: 80}]}
";

/// A route in `d` with these parents and rules.
macro_rules! route {
    ($spec:literal) => {
        concat!("HTTPRoute d/r\nspec: {", $spec, "}")
    };
}

const ACCEPTED: &[Case] = &[
    (
        "a parent is echoed as it is written",
        route!(
            "parentRefs: [{name: g, sectionName: web, port: 80, namespace: d}, {name: g, sectionName: web}], rules: [{backendRefs: [{name: web, port: 80}]}]"
        ),
        &[
            ("HTTPRoute d/r 0", "Gateway d/g#web:80 Accepted ResolvedRefs"),
            ("HTTPRoute d/r 1", "Gateway g#web Accepted ResolvedRefs"),
        ],
    ),
    (
        "HTTPRouteInvalidParentRefNotMatchingSectionName",
        route!("parentRefs: [{name: g, sectionName: nothing}]"),
        &[("HTTPRoute d/r 0", "Gateway g#nothing Accepted=False/NoMatchingParent ResolvedRefs")],
    ),
    (
        "HTTPRouteInvalidParentRefNotMatchingListenerPort",
        route!("parentRefs: [{name: g, port: 81}]"),
        &[("HTTPRoute d/r 0", "Gateway g:81 Accepted=False/NoMatchingParent ResolvedRefs")],
    ),
    (
        "HTTPRouteInvalidParentRefSectionNameNotMatchingPort",
        route!("parentRefs: [{name: g, sectionName: web, port: 8080}]"),
        &[("HTTPRoute d/r 0", "Gateway g#web:8080 Accepted=False/NoMatchingParent ResolvedRefs")],
    ),
    (
        "HTTPRouteInvalidCrossNamespaceParentRef",
        "HTTPRoute team/r\nspec: {parentRefs: [{name: g, namespace: d, sectionName: web}]}",
        &[("HTTPRoute team/r 0", "Gateway d/g#web Accepted=False/NotAllowedByListeners ResolvedRefs")],
    ),
    (
        "a namespace that is selected",
        "HTTPRoute team/r\nspec: {parentRefs: [{name: g, namespace: d}], rules: [{backendRefs: [{name: web, port: 80}]}]}",
        &[("HTTPRoute team/r 0", "Gateway d/g Accepted ResolvedRefs")],
    ),
    (
        "HTTPRouteDisallowedKind",
        route!("parentRefs: [{name: g, sectionName: tls}]"),
        &[
            ("HTTPRoute d/r 0", "Gateway g#tls Accepted=False/NotAllowedByListeners ResolvedRefs"),
            (
                "Gateway d/g listener tls",
                "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "no hostname in common",
        route!("parentRefs: [{name: g, sectionName: web}], hostnames: [x.com, a.y.com]"),
        &[("HTTPRoute d/r 0", "Gateway g#web Accepted=False/NoMatchingListenerHostname ResolvedRefs")],
    ),
    (
        "TLSRouteInvalidNoMatchingListenerHostname",
        "TLSRoute d/r\nspec: {parentRefs: [{name: g}], hostnames: [u.x.com], rules: [{backendRefs: [{name: web, port: 80}]}]}",
        &[("TLSRoute d/r 0", "Gateway g Accepted=False/NoMatchingListenerHostname ResolvedRefs")],
    ),
    (
        "a regular expression that is none",
        route!(
            "parentRefs: [{name: g, sectionName: web}], rules: [{matches: [{path: {type: RegularExpression, value: '/(?:a{1000}){1000}'}}], backendRefs: [{name: web, port: 80}]}]"
        ),
        &[("HTTPRoute d/r 0", "Gateway g#web Accepted=False/UnsupportedValue ResolvedRefs")],
    ),
    (
        "a filter that is not known",
        route!(
            "parentRefs: [{name: g, sectionName: web}], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: x.dev, kind: F, name: f}}], backendRefs: [{name: web, port: 80}]}]"
        ),
        &[("HTTPRoute d/r 0", "Gateway g#web Accepted=False/UnsupportedValue ResolvedRefs")],
    ),
    (
        "parents that are not this controller's have no status",
        route!(
            "parentRefs: [{name: nothing}, {kind: Service, group: '', name: web}, {name: g, sectionName: web}], rules: [{backendRefs: [{name: web, port: 80}]}]"
        ),
        &[("HTTPRoute d/r 0", "Gateway g#web Accepted ResolvedRefs"), ("HTTPRoute d/r 1", "")],
    ),
];

#[test]
fn accepted() {
    check(BASE, ACCEPTED);
}

/// A route whose only rule has these references to back ends.
macro_rules! backends {
    ($refs:literal) => {
        concat!("HTTPRoute d/r\nspec: {parentRefs: [{name: g}], rules: [{backendRefs: [", $refs, "]}]}")
    };
}

const RESOLVED: &[Case] = &[
    ("nothing to resolve", backends!(""), &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs")]),
    (
        "HTTPRouteInvalidBackendRefUnknownKind",
        backends!("{group: x.dev, kind: K, name: web}"),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/InvalidKind")],
    ),
    (
        "HTTPRouteInvalidNonExistentBackendRef",
        backends!("{name: nothing, port: 80}"),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound")],
    ),
    (
        "a port that the service does not have",
        backends!("{name: web, port: 82}"),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound")],
    ),
    (
        "a port of UDP alone",
        backends!("{name: web, port: 53}"),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound")],
    ),
    (
        "one of two is enough",
        backends!("{name: web, port: 80}, {name: nothing, port: 80}"),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound")],
    ),
    (
        "one without weight too",
        backends!("{name: web, port: 80}, {name: nothing, port: 80, weight: 0}"),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound")],
    ),
    (
        "a service by name",
        backends!("{name: elsewhere, port: 80}"),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound")],
    ),
    (
        "a protocol that is not spoken",
        backends!("{name: web, port: 81}"),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/UnsupportedProtocol")],
    ),
    (
        "HTTPRouteInvalidCrossNamespaceBackendRef",
        backends!("{name: web, namespace: team, port: 80}"),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/RefNotPermitted")],
    ),
    (
        "HTTPRouteReferenceGrant",
        concat!(
            backends!("{name: web, namespace: team, port: 80}"),
            "\n---\nReferenceGrant team/g\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: d}], to: [{group: '', kind: Service, name: web}]}"
        ),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs")],
    ),
    (
        "HTTPRouteInvalidReferenceGrant",
        concat!(
            backends!("{name: web, namespace: team, port: 80}"),
            "\n---\nReferenceGrant team/kind\nspec: {from: [{group: gateway.networking.k8s.io, kind: TLSRoute, namespace: d}], to: [{group: '', kind: Service}]}",
            "\n---\nReferenceGrant d/place\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: d}], to: [{group: '', kind: Service}]}",
            "\n---\nReferenceGrant team/name\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: d}], to: [{group: '', kind: Service, name: x}]}"
        ),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/RefNotPermitted")],
    ),
    (
        "a mirror that leads nowhere",
        route!(
            "parentRefs: [{name: g}], rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: nothing, port: 80}}}], backendRefs: [{name: web, port: 80}]}]"
        ),
        &[("HTTPRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound")],
    ),
    (
        "TLSRouteInvalidBackendRefUnknownKind",
        "TLSRoute d/r\nspec: {parentRefs: [{name: g}], hostnames: [t.x.com], rules: [{backendRefs: [{group: x.dev, kind: K, name: web}]}]}",
        &[("TLSRoute d/r 0", "Gateway g Accepted ResolvedRefs=False/InvalidKind")],
    ),
];

#[test]
fn resolved() {
    check(BASE, RESOLVED);
}

/// Which routes are counted.
const COUNTED: &[Case] = &[(
    "a route counts once per listener, if it is accepted, whatever its references",
    r"HTTPRoute d/twice
spec: {parentRefs: [{name: two, port: 80}, {name: two, port: 81}], rules: [{backendRefs: [{name: nothing, port: 80}]}]}
---
HTTPRoute d/overlapping
spec: {parentRefs: [{name: two, sectionName: a}, {name: two, sectionName: b}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
HTTPRoute d/not-accepted
spec: {parentRefs: [{name: two}], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: x.dev, kind: F, name: f}}]}]}
---
Gateway d/two
spec:
  gatewayClassName: strait
  listeners:
  - {name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}
  - {name: b, port: 81, protocol: HTTP, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}
  - {name: c, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: nothing}]}, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}
---
HTTPRoute d/unresolved
spec: {parentRefs: [{name: two, sectionName: c}], rules: [{backendRefs: [{name: web, port: 80}]}]}",
    &[
        (
            "Gateway d/two listener a",
            "[HTTPRoute] routes=2 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        ),
        (
            "Gateway d/two listener b",
            "[HTTPRoute] routes=2 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        ),
        (
            "Gateway d/two listener c",
            "[HTTPRoute] routes=1 Accepted Programmed=False/Invalid ResolvedRefs=False/InvalidCertificateRef Conflicted=False/NoConflicts",
        ),
    ],
)];

#[test]
fn counted() {
    check(BASE, COUNTED);
}
