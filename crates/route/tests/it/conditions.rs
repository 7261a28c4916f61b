//! Conditions of routes beyond the common ones, of every kind of route; and policies of traffic.

use crate::bed::{Case, check};

const BASE: &str = r"Namespace d
---
Namespace team
---
Gateway d/g
spec:
  gatewayClassName: strait
  listeners:
  - {name: web, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
  - {name: alt, port: 8080, protocol: HTTP, hostname: '*.y.com'}
  - {name: tcp, port: 5000, protocol: TCP}
  - {name: tcp2, port: 5001, protocol: TCP}
  - {name: udp, port: 5000, protocol: UDP}
  - {name: udp2, port: 5001, protocol: UDP, allowedRoutes: {namespaces: {from: None}}}
  - {name: pass, port: 443, protocol: TLS, hostname: '*.x.com', tls: {mode: Passthrough}}
  - {name: term, port: 443, protocol: TLS, hostname: t.x.com, tls: {certificateRefs: [{name: cert}]}}
---
Secret d/cert
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
Service d/web
spec: {ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}
---
Service team/web
spec: {ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}
";

/// A route of `d` at the gateway.
macro_rules! of {
    ($kind:literal, $name:literal, $spec:literal) => {
        concat!($kind, " d/", $name, "\nspec: {parentRefs: [{name: g", $spec, "}")
    };
}

const PARTIAL: &[Case] = &[
    (
        "one rule of two: the others are in force",
        of!(
            "HTTPRoute",
            "r 1",
            ", sectionName: web}], rules: [{name: odd, filters: [{type: ExtensionRef, extensionRef: {group: x.dev, kind: F, name: f}}]}, {matches: [{path: {value: /b}}], backendRefs: [{name: web, port: 80}]}]"
        ),
        &[
            ("HTTPRoute d/r 0", "Gateway g#web Accepted ResolvedRefs PartiallyInvalid=True/UnsupportedValue"),
            (
                "Gateway d/g listener web",
                "[HTTPRoute GRPCRoute] routes=1 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "all rules: the route is not accepted, and nothing is partial",
        of!(
            "HTTPRoute",
            "r 1",
            ", sectionName: web}], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: x.dev, kind: F, name: f}}]}, {matches: [{path: {value: /b}}], filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: web, port: 80}}}], backendRefs: [{name: web, port: 80}]}]"
        ),
        &[
            ("HTTPRoute d/r 0", "Gateway g#web Accepted=False/UnsupportedValue ResolvedRefs"),
            (
                "Gateway d/g listener web",
                "[HTTPRoute GRPCRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "a filter of a back end alone",
        of!(
            "HTTPRoute",
            "r 1",
            ", sectionName: web}], rules: [{backendRefs: [{name: web, port: 80, filters: [{type: ExtensionRef, extensionRef: {group: x.dev, kind: F, name: f}}]}]}, {matches: [{path: {value: /b}}]}]"
        ),
        &[("HTTPRoute d/r 0", "Gateway g#web Accepted ResolvedRefs PartiallyInvalid=True/UnsupportedValue")],
    ),
    (
        "a session under a name that no cookie can have, or in a header that the protocol needs",
        of!(
            "GRPCRoute",
            "r 1",
            ", sectionName: web}], rules: [{sessionPersistence: {sessionName: 'a b'}}, {sessionPersistence: {type: Header, sessionName: Host}}, {sessionPersistence: {}}, {sessionPersistence: {type: Header, sessionName: X-Session}}]"
        ),
        &[("GRPCRoute d/r 0", "Gateway g#web Accepted ResolvedRefs PartiallyInvalid=True/UnsupportedValue")],
    ),
    (
        "not for a parent that does not take the route",
        of!(
            "HTTPRoute",
            "r 1",
            ", sectionName: tcp}], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: x.dev, kind: F, name: f}}]}, {matches: [{path: {value: /b}}]}]"
        ),
        &[("HTTPRoute d/r 0", "Gateway g#tcp Accepted=False/NotAllowedByListeners ResolvedRefs")],
    ),
];

#[test]
fn partially_invalid() {
    check(BASE, PARTIAL);
}

const KINDS: &[Case] = &[
    (
        "the older of an HTTPRoute and a GRPCRoute for one host",
        concat!(
            of!("HTTPRoute", "h 2", ", sectionName: web}], hostnames: [a.com], rules: [{}]"),
            "\n---\n",
            of!("GRPCRoute", "c 1", ", sectionName: web}], hostnames: [a.com], rules: [{}]")
        ),
        &[
            ("HTTPRoute d/h 0", "Gateway g#web Accepted=False/Conflicted ResolvedRefs"),
            ("GRPCRoute d/c 0", "Gateway g#web Accepted ResolvedRefs"),
            (
                "Gateway d/g listener web",
                "[HTTPRoute GRPCRoute] routes=1 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "of the same age the first by name; a wildcard has hosts in common with what it covers",
        concat!(
            of!("HTTPRoute", "a 1", ", sectionName: web}], hostnames: ['*.b.com'], rules: [{}]"),
            "\n---\n",
            of!("GRPCRoute", "b 1", ", sectionName: web}], hostnames: [c.com, x.y.b.com], rules: [{}]")
        ),
        &[
            ("HTTPRoute d/a 0", "Gateway g#web Accepted ResolvedRefs"),
            ("GRPCRoute d/b 0", "Gateway g#web Accepted=False/Conflicted ResolvedRefs"),
        ],
    ),
    (
        "a route without hosts has all of them",
        concat!(
            of!("GRPCRoute", "b 1", ", sectionName: web}], rules: [{}]"),
            "\n---\n",
            of!("HTTPRoute", "a 2", ", sectionName: web}], hostnames: [z.com], rules: [{}]")
        ),
        &[("HTTPRoute d/a 0", "Gateway g#web Accepted=False/Conflicted ResolvedRefs")],
    ),
    (
        "other hosts, or another listener",
        concat!(
            of!("GRPCRoute", "b 1", ", sectionName: web}], hostnames: [a.y.com], rules: [{}]"),
            "\n---\n",
            of!("HTTPRoute", "a 2", ", sectionName: web}], hostnames: [z.com], rules: [{}]"),
            "\n---\n",
            of!("HTTPRoute", "c 3", "}], hostnames: [a.y.com], rules: [{}]")
        ),
        &[
            ("GRPCRoute d/b 0", "Gateway g#web Accepted ResolvedRefs"),
            ("HTTPRoute d/a 0", "Gateway g#web Accepted ResolvedRefs"),
            // At `web` it is not; at `alt` it is.
            ("HTTPRoute d/c 0", "Gateway g Accepted ResolvedRefs"),
            (
                "Gateway d/g listener web",
                "[HTTPRoute GRPCRoute] routes=2 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
            (
                "Gateway d/g listener alt",
                "[HTTPRoute GRPCRoute] routes=1 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "one that is not accepted claims nothing",
        concat!(
            of!(
                "GRPCRoute",
                "b 1",
                ", sectionName: web}], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: x.dev, kind: F, name: f}}]}]"
            ),
            "\n---\n",
            of!("HTTPRoute", "a 2", ", sectionName: web}], rules: [{}]")
        ),
        &[
            ("GRPCRoute d/b 0", "Gateway g#web Accepted=False/UnsupportedValue ResolvedRefs"),
            ("HTTPRoute d/a 0", "Gateway g#web Accepted ResolvedRefs"),
        ],
    ),
];

#[test]
fn requests_and_calls() {
    check(BASE, KINDS);
}

const CONNECTIONS: &[Case] = &[
    (
        "TCPRouteParentRefAttachAll, TCPRouteMultipleRoutesAttachment",
        concat!(
            of!("TCPRoute", "a 1", "}], rules: [{backendRefs: [{name: web, port: 80}]}]"),
            "\n---\n",
            of!("TCPRoute", "b 2", "}], rules: [{backendRefs: [{name: web, port: 80}]}]")
        ),
        &[
            ("TCPRoute d/a 0", "Gateway g Accepted ResolvedRefs"),
            ("TCPRoute d/b 0", "Gateway g Accepted ResolvedRefs"),
            (
                "Gateway d/g listener tcp",
                "[TCPRoute] routes=2 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
            (
                "Gateway d/g listener tcp2",
                "[TCPRoute] routes=2 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "TCPRouteParentRefPortAndSectionName",
        of!(
            "TCPRoute",
            "a 1",
            ", sectionName: tcp, port: 5000}, {name: g, sectionName: tcp2, port: 5000}], rules: [{backendRefs: [{name: web, port: 80}]}]"
        ),
        &[
            ("TCPRoute d/a 0", "Gateway g#tcp:5000 Accepted ResolvedRefs"),
            ("TCPRoute d/a 1", "Gateway g#tcp2:5000 Accepted=False/NoMatchingParent ResolvedRefs"),
        ],
    ),
    (
        "TCPRouteInvalidNonTCPListener",
        of!("TCPRoute", "a 1", ", sectionName: web}], rules: [{backendRefs: [{name: web, port: 80}]}]"),
        &[("TCPRoute d/a 0", "Gateway g#web Accepted=False/NotAllowedByListeners ResolvedRefs")],
    ),
    (
        "TCPRouteInvalidBackendRefNonexistent",
        of!("TCPRoute", "a 1", "}], rules: [{backendRefs: [{name: nothing, port: 80}]}]"),
        &[("TCPRoute d/a 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound")],
    ),
    (
        "TCPRouteInvalidCrossNamespaceBackendRef",
        of!("TCPRoute", "a 1", "}], rules: [{backendRefs: [{name: web, namespace: team, port: 80}]}]"),
        &[("TCPRoute d/a 0", "Gateway g Accepted ResolvedRefs=False/RefNotPermitted")],
    ),
    (
        "TCPRouteReferenceGrant, and one for another kind of route",
        concat!(
            of!("TCPRoute", "a 1", "}], rules: [{backendRefs: [{name: web, namespace: team, port: 80}]}]"),
            "\n---\n",
            of!("UDPRoute", "a 1", "}], rules: [{backendRefs: [{name: web, namespace: team, port: 53}]}]"),
            "\n---\nReferenceGrant team/g\nspec: {from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: d}], to: [{group: '', kind: Service}]}"
        ),
        &[
            ("TCPRoute d/a 0", "Gateway g Accepted ResolvedRefs"),
            ("UDPRoute d/a 0", "Gateway g Accepted ResolvedRefs=False/RefNotPermitted"),
        ],
    ),
    (
        "UDPRouteParentRefAttachAllListeners, UDPRouteMultipleRoutesAttachment, UDPRouteReferenceGrant",
        concat!(
            of!("UDPRoute", "a 1", "}], rules: [{backendRefs: [{name: web, namespace: team, port: 53}]}]"),
            "\n---\n",
            of!("UDPRoute", "b 2", "}], rules: [{backendRefs: [{name: web, port: 53}]}]"),
            "\n---\nReferenceGrant team/g\nspec: {from: [{group: gateway.networking.k8s.io, kind: UDPRoute, namespace: d}], to: [{group: '', kind: Service}]}"
        ),
        &[
            ("UDPRoute d/a 0", "Gateway g Accepted ResolvedRefs"),
            ("UDPRoute d/b 0", "Gateway g Accepted ResolvedRefs"),
            (
                "Gateway d/g listener udp",
                "[UDPRoute] routes=2 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "UDPRouteParentRefPortAndSectionName, UDPRouteNotAllowedByListeners",
        of!(
            "UDPRoute",
            "a 1",
            ", sectionName: udp, port: 5000}, {name: g, sectionName: udp, port: 5001}, {name: g, sectionName: udp2, port: 5001}], rules: [{backendRefs: [{name: web, port: 53}]}]"
        ),
        &[
            ("UDPRoute d/a 0", "Gateway g#udp:5000 Accepted ResolvedRefs"),
            ("UDPRoute d/a 1", "Gateway g#udp:5001 Accepted=False/NoMatchingParent ResolvedRefs"),
            ("UDPRoute d/a 2", "Gateway g#udp2:5001 Accepted=False/NotAllowedByListeners ResolvedRefs"),
        ],
    ),
    (
        "UDPRouteInvalidBackendRefNonexistent, UDPRouteInvalidCrossNamespaceBackendRef",
        concat!(
            of!("UDPRoute", "a 1", "}], rules: [{backendRefs: [{name: web, port: 80}]}]"),
            "\n---\n",
            of!("UDPRoute", "b 1", "}], rules: [{backendRefs: [{name: web, namespace: team, port: 53}]}]")
        ),
        &[
            ("UDPRoute d/a 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound"),
            ("UDPRoute d/b 0", "Gateway g Accepted ResolvedRefs=False/RefNotPermitted"),
        ],
    ),
    (
        "TLSRouteMixedTerminationSameNamespace, TLSRouteInvalidNoMatchingListener",
        concat!(
            of!(
                "TLSRoute",
                "a 1",
                "}], hostnames: [t.x.com, u.x.com], rules: [{backendRefs: [{name: web, port: 80}]}]"
            ),
            "\n---\n",
            of!(
                "TLSRoute",
                "b 1",
                ", sectionName: web}], hostnames: [t.x.com], rules: [{backendRefs: [{name: web, port: 80}]}]"
            )
        ),
        &[
            ("TLSRoute d/a 0", "Gateway g Accepted ResolvedRefs"),
            ("TLSRoute d/b 0", "Gateway g#web Accepted=False/NotAllowedByListeners ResolvedRefs"),
            (
                "Gateway d/g listener pass",
                "[TLSRoute] routes=1 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
            (
                "Gateway d/g listener term",
                "[TLSRoute] routes=1 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "TLSRouteInvalidBackendRefNonexistent, TLSRouteInvalidReferenceGrant",
        concat!(
            of!("TLSRoute", "a 1", "}], hostnames: [t.x.com], rules: [{backendRefs: [{name: nothing, port: 80}]}]"),
            "\n---\n",
            of!(
                "TLSRoute",
                "b 1",
                "}], hostnames: [t.x.com], rules: [{backendRefs: [{name: web, namespace: team, port: 80}]}]"
            ),
            "\n---\nReferenceGrant team/g\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: d}], to: [{group: '', kind: Service}]}"
        ),
        &[
            ("TLSRoute d/a 0", "Gateway g Accepted ResolvedRefs=False/BackendNotFound"),
            ("TLSRoute d/b 0", "Gateway g Accepted ResolvedRefs=False/RefNotPermitted"),
        ],
    ),
];

#[test]
fn connections() {
    check(BASE, CONNECTIONS);
}

/// A route to the service, beside the policies at hand.
macro_rules! policies {
    ($policies:literal) => {
        concat!(
            of!("HTTPRoute", "r 1", ", sectionName: web}], rules: [{backendRefs: [{name: web, port: 80}]}]"),
            "\n---\n",
            $policies
        )
    };
}

const TRAFFIC: &[Case] = &[
    (
        "each gateway that goes by it is an ancestor",
        policies!(
            "XBackendTrafficPolicy d/p 1\nspec: {targetRefs: [{group: '', kind: Service, name: web}], retryConstraint: {budget: {percent: 30}}, sessionPersistence: {type: Header}}"
        ),
        &[("XBackendTrafficPolicy d/p 0", "Gateway d/g Accepted"), ("XBackendTrafficPolicy d/p 1", "")],
    ),
    (
        "no gateway goes by it",
        policies!("XBackendTrafficPolicy team/p 1\nspec: {targetRefs: [{group: '', kind: Service, name: web}]}"),
        &[("XBackendTrafficPolicy team/p 0", "")],
    ),
    (
        "the older of two for one service",
        policies!(
            "XBackendTrafficPolicy d/p 2\nspec: {targetRefs: [{group: '', kind: Service, name: web}]}\n---\nXBackendTrafficPolicy d/q 1\nspec: {targetRefs: [{group: '', kind: Service, name: web}]}"
        ),
        &[
            ("XBackendTrafficPolicy d/p 0", "Gateway d/g Accepted=False/Conflicted"),
            ("XBackendTrafficPolicy d/q 0", "Gateway d/g Accepted"),
        ],
    ),
    (
        "a session that cannot be",
        policies!(
            "XBackendTrafficPolicy d/p 2\nspec: {targetRefs: [{group: '', kind: Service, name: web}], sessionPersistence: {sessionName: 'a;b'}}"
        ),
        &[("XBackendTrafficPolicy d/p 0", "Gateway d/g Accepted=False/Invalid")],
    ),
    (
        "a BackendTLSPolicy for a port that there is not",
        policies!(
            "BackendTLSPolicy d/p 1\nspec: {targetRefs: [{group: '', kind: Service, name: web, sectionName: nothing}], validation: {hostname: a.com, wellKnownCACertificates: System}}"
        ),
        &[("BackendTLSPolicy d/p 0", "Gateway d/g Accepted=False/TargetNotFound ResolvedRefs")],
    ),
];

#[test]
fn policies_of_traffic() {
    check(BASE, TRAFFIC);
}

/// The gateway's own condition sums its listeners' up.
#[test]
fn unresolved_listeners() {
    check(
        BASE,
        &[(
            "a listener whose certificate is missing, beside a good one",
            "Gateway d/h\nspec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}, {name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: nothing}]}}]}",
            &[(
                "Gateway d/h",
                "Accepted=True/ListenersNotValid Programmed ResolvedRefs=False/ListenersNotResolved 10.0.0.2",
            )],
        )],
    );
}
