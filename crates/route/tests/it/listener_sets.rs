//! Statuses of listener sets and of the gateways that they attach to.

use crate::bed::{Case, check};

const BASE: &str = r"Namespace d
---
Namespace team
---
Gateway d/g 1
spec:
  gatewayClassName: strait
  allowedListeners: {namespaces: {from: Same}}
  listeners: [{name: l, port: 80, protocol: TCP}, {name: m, port: 443, hostname: m.x, protocol: TLS, tls: {mode: Passthrough}}]
---
Gateway d/closed 1
spec: {gatewayClassName: strait, listeners: [{name: l, port: 80, protocol: TCP}]}
---
Gateway d/refused 1
spec: {gatewayClassName: strait, addresses: [{type: x.dev/T, value: a}], allowedListeners: {namespaces: {from: All}}, listeners: [{name: l, port: 80, protocol: TCP}]}
---
Gateway d/chosen 1
spec: {gatewayClassName: strait, allowedListeners: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: team}}}}, listeners: [{name: l, port: 80, protocol: TCP}]}
";

const TCP: &str = "[TCPRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts";

const CASES: &[Case] = &[
    (
        "ListenerSetDefaultNotAllowed",
        "ListenerSet d/s\nspec: {parentRef: {name: closed}, listeners: [{name: s, port: 81, protocol: TCP}]}",
        &[
            ("ListenerSet d/s", "Accepted=False/NotAllowed Programmed=False/NotAllowed"),
            ("ListenerSet d/s listener s", ""),
            ("Gateway d/closed", "Accepted Programmed ResolvedRefs 10.0.0.2"),
        ],
    ),
    (
        "ListenerSetAllowedNamespaceSame",
        r"ListenerSet d/s
spec: {parentRef: {name: g}, listeners: [{name: s, port: 81, protocol: TCP}]}
---
ListenerSet team/s
spec: {parentRef: {name: g, namespace: d}, listeners: [{name: s, port: 82, protocol: TCP}]}",
        &[
            ("ListenerSet d/s", "Accepted Programmed"),
            ("ListenerSet d/s listener s", TCP),
            ("ListenerSet team/s", "Accepted=False/NotAllowed Programmed=False/NotAllowed"),
            ("Gateway d/g", "Accepted Programmed ResolvedRefs 10.0.0.3 sets=1"),
        ],
    ),
    (
        "ListenerSetAllowedNamespaceSelector",
        r"ListenerSet d/s
spec: {parentRef: {name: chosen}, listeners: [{name: s, port: 81, protocol: TCP}]}
---
ListenerSet team/s
spec: {parentRef: {name: chosen, namespace: d}, listeners: [{name: s, port: 82, protocol: TCP}]}",
        &[
            ("ListenerSet d/s", "Accepted=False/NotAllowed Programmed=False/NotAllowed"),
            ("ListenerSet team/s", "Accepted Programmed"),
        ],
    ),
    (
        "a parent that is not accepted",
        "ListenerSet d/s\nspec: {parentRef: {name: refused}, listeners: [{name: s, port: 81, protocol: TCP}]}",
        &[
            ("ListenerSet d/s", "Accepted=False/ParentNotAccepted Programmed=False/ParentNotProgrammed"),
            ("Gateway d/refused", "Accepted=False/UnsupportedAddress Programmed=False/AddressNotAssigned ResolvedRefs"),
        ],
    ),
    (
        "ListenerSetHostnameConflict: with the gateway, then with an older set",
        r"ListenerSet d/a 2
spec:
  parentRef: {name: g}
  listeners:
  - {name: own, port: 443, hostname: own.x, protocol: TLS, tls: {mode: Passthrough}}
  - {name: gateway, port: 443, hostname: m.x, protocol: TLS, tls: {mode: Passthrough}}
---
ListenerSet d/b 3
spec: {parentRef: {name: g}, listeners: [{name: gateway, port: 443, hostname: m.x, protocol: TLS, tls: {mode: Passthrough}}]}
---
ListenerSet d/c 3
spec: {parentRef: {name: g}, listeners: [{name: older, port: 443, hostname: own.x, protocol: TLS, tls: {mode: Passthrough}}]}",
        &[
            ("Gateway d/g", "Accepted Programmed ResolvedRefs 10.0.0.3 sets=1"),
            (
                "Gateway d/g listener m",
                "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
            ("ListenerSet d/a", "Accepted=True/ListenersNotValid Programmed"),
            (
                "ListenerSet d/a listener own",
                "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
            (
                "ListenerSet d/a listener gateway",
                "[TLSRoute] routes=0 Accepted=False/HostnameConflict Programmed=False/Invalid ResolvedRefs Conflicted=True/HostnameConflict",
            ),
            ("ListenerSet d/b", "Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid"),
            ("ListenerSet d/c", "Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid"),
            (
                "ListenerSet d/c listener older",
                "[TLSRoute] routes=0 Accepted=False/HostnameConflict Programmed=False/Invalid ResolvedRefs Conflicted=True/HostnameConflict",
            ),
        ],
    ),
    (
        "ListenerSetProtocolConflict",
        r"ListenerSet d/a 2
spec:
  parentRef: {name: g}
  listeners:
  - {name: own, port: 81, protocol: TCP}
  - {name: gateway, port: 443, protocol: TCP}
---
ListenerSet d/b 3
spec: {parentRef: {name: g}, listeners: [{name: older, port: 81, protocol: TLS, tls: {mode: Passthrough}}]}",
        &[
            ("Gateway d/g", "Accepted Programmed ResolvedRefs 10.0.0.3 sets=1"),
            (
                "ListenerSet d/a listener gateway",
                "[TCPRoute] routes=0 Accepted=False/ProtocolConflict Programmed=False/Invalid ResolvedRefs Conflicted=True/ProtocolConflict",
            ),
            ("ListenerSet d/a listener own", TCP),
            ("ListenerSet d/b", "Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid"),
        ],
    ),
    (
        "a listener that yields leaves its port to others",
        r"ListenerSet d/a 2
spec: {parentRef: {name: g}, listeners: [{name: a, port: 80, protocol: TLS, tls: {mode: Passthrough}}]}
---
ListenerSet d/b 2
spec: {parentRef: {name: g}, listeners: [{name: b, port: 81, protocol: TCP}]}",
        &[("ListenerSet d/b listener b", TCP), ("Gateway d/g", "Accepted Programmed ResolvedRefs 10.0.0.3 sets=1")],
    ),
    (
        "routes attach to the parent that they name alone",
        r"ListenerSet d/s
spec: {parentRef: {name: g}, listeners: [{name: s, port: 81, protocol: TCP}]}
---
TCPRoute d/of-gateway
spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: nothing, port: 1}]}]}
---
TCPRoute d/of-set
spec: {parentRefs: [{kind: ListenerSet, name: s}], rules: [{backendRefs: [{name: nothing, port: 1}]}]}
---
TCPRoute d/of-section
spec: {parentRefs: [{name: g, sectionName: s}], rules: [{backendRefs: [{name: nothing, port: 1}]}]}",
        &[
            (
                "Gateway d/g listener l",
                "[TCPRoute] routes=1 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
            (
                "ListenerSet d/s listener s",
                "[TCPRoute] routes=1 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
            ("TCPRoute d/of-set 0", "ListenerSet s Accepted ResolvedRefs=False/BackendNotFound"),
            (
                "TCPRoute d/of-section 0",
                "Gateway g#s Accepted=False/NoMatchingParent ResolvedRefs=False/BackendNotFound",
            ),
        ],
    ),
    (
        "ListenerSetAllowedNamespaceNone",
        r"Gateway d/none 1
spec: {gatewayClassName: strait, allowedListeners: {namespaces: {from: None}}, listeners: [{name: l, port: 80, protocol: TCP}]}
---
ListenerSet d/s
spec: {parentRef: {name: none}, listeners: [{name: s, port: 81, protocol: TCP}]}
---
TCPRoute d/r
spec: {parentRefs: [{kind: ListenerSet, name: s}], rules: [{backendRefs: [{name: nothing, port: 1}]}]}",
        &[
            ("ListenerSet d/s", "Accepted=False/NotAllowed Programmed=False/NotAllowed"),
            ("TCPRoute d/r 0", "ListenerSet s Accepted=False/NoMatchingParent ResolvedRefs=False/BackendNotFound"),
        ],
    ),
    (
        "ListenerSetAllowedRoutesNamespaces: Same is the set's",
        r"ListenerSet team/s
spec: {parentRef: {name: chosen, namespace: d}, listeners: [{name: s, port: 82, protocol: HTTP}]}
---
HTTPRoute team/r
spec: {parentRefs: [{kind: ListenerSet, name: s}]}
---
HTTPRoute d/r
spec: {parentRefs: [{kind: ListenerSet, name: s, namespace: team}]}",
        &[
            ("HTTPRoute team/r 0", "ListenerSet s Accepted ResolvedRefs"),
            ("HTTPRoute d/r 0", "ListenerSet team/s Accepted=False/NotAllowedByListeners ResolvedRefs"),
        ],
    ),
    (
        "ListenerSetAllowedRoutesSupportedKinds",
        "ListenerSet d/s\nspec: {parentRef: {name: g}, listeners: [{name: s, port: 82, protocol: HTTP, allowedRoutes: {kinds: [{kind: TLSRoute}, {kind: HTTPRoute}]}}, {name: t, port: 83, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {kinds: [{kind: UDPRoute}]}}]}",
        &[
            (
                "ListenerSet d/s listener s",
                "[HTTPRoute] routes=0 Accepted Programmed ResolvedRefs=False/InvalidRouteKinds Conflicted=False/NoConflicts",
            ),
            (
                "ListenerSet d/s listener t",
                "[] routes=0 Accepted Programmed ResolvedRefs=False/InvalidRouteKinds Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "ListenerSetDualParentRefIndependence, ListenerSetRouteStatusScopedToParentRef",
        r"ListenerSet d/s
spec: {parentRef: {name: g}, listeners: [{name: s, port: 82, protocol: HTTP}]}
---
HTTPRoute d/r
spec: {parentRefs: [{name: g}, {kind: ListenerSet, name: s}]}
---
HTTPRoute d/other
spec: {parentRefs: [{name: g}]}",
        &[
            ("HTTPRoute d/r 0", "Gateway g Accepted=False/NotAllowedByListeners ResolvedRefs"),
            ("HTTPRoute d/r 1", "ListenerSet s Accepted ResolvedRefs"),
            ("HTTPRoute d/other 0", "Gateway g Accepted=False/NotAllowedByListeners ResolvedRefs"),
            ("HTTPRoute d/other 1", ""),
        ],
    ),
    (
        "ListenerSetGatewayParentSectionNameNotFound",
        r"ListenerSet d/s
spec: {parentRef: {name: g}, listeners: [{name: s, port: 82, protocol: HTTP}]}
---
HTTPRoute d/r
spec: {parentRefs: [{name: g, sectionName: s}, {kind: ListenerSet, name: s, sectionName: l}]}",
        &[
            ("HTTPRoute d/r 0", "Gateway g#s Accepted=False/NoMatchingParent ResolvedRefs"),
            ("HTTPRoute d/r 1", "ListenerSet s#l Accepted=False/NoMatchingParent ResolvedRefs"),
        ],
    ),
    (
        "ListenerSetReferenceGrant: what is granted to gateways is not granted to sets",
        r"Secret team/cert
type: kubernetes.io/tls
stringData:
  tls.crt: |
    -----BEGIN CERTIFICATE-----
    AAAA
    -----END CERTIFICATE-----
  tls.key: |
    -----BEGIN PRIVATE KEY-----
    AAAA
    -----END PRIVATE KEY-----
---
ReferenceGrant team/gateways
spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: d}], to: [{group: '', kind: Secret}]}
---
ListenerSet d/s
spec: {parentRef: {name: g}, listeners: [{name: s, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: cert, namespace: team}]}}]}",
        &[(
            "ListenerSet d/s listener s",
            "[HTTPRoute GRPCRoute] routes=0 Accepted Programmed=False/Invalid ResolvedRefs=False/RefNotPermitted Conflicted=False/NoConflicts",
        )],
    ),
];

#[test]
fn listener_sets() {
    check(BASE, CASES);
}
