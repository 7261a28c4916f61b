//! Statuses of classes, gateways and their listeners.

use crate::bed::{Case, check};

/// A certificate in two namespaces, one that is none, and an authority.
const BASE: &str = r"Secret d/cert
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
Secret other/cert
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
Secret d/malformed
type: kubernetes.io/tls
stringData: {tls.crt: Hello, tls.key: world}
---
ConfigMap d/ca
data:
  ca.crt: |
    -----BEGIN CERTIFICATE-----
    AAAA
    -----END CERTIFICATE-----
---
ConfigMap d/empty
data: {ca.crt: Hello}
";

const TCP: &str = "[TCPRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts";

const CLASSES: &[Case] = &[
    (
        "a class of this controller",
        "GatewayClass c\nspec: {controllerName: strait.dev/gateway-controller}",
        &[("GatewayClass c", "Accepted SupportedVersion")],
    ),
    (
        "a class with parameters",
        "GatewayClass c\nspec: {controllerName: strait.dev/gateway-controller, parametersRef: {group: x.dev, kind: P, name: p}}",
        &[("GatewayClass c", "Accepted=False/InvalidParameters SupportedVersion")],
    ),
    (
        "a class of another controller, and its gateway",
        r"GatewayClass c
spec: {controllerName: example.com/other}
---
Gateway d/g
spec: {gatewayClassName: c, listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("GatewayClass c", ""), ("Gateway d/g", "")],
    ),
];

#[test]
fn classes() {
    check(BASE, CLASSES);
}

const GATEWAYS: &[Case] = &[
    (
        "all is well",
        "Gateway d/g\nspec: {gatewayClassName: strait, listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted Programmed ResolvedRefs 10.0.0.1"), ("Gateway d/g listener l", TCP)],
    ),
    (
        "GatewayInvalidParametersRef",
        "Gateway d/g\nspec: {gatewayClassName: strait, infrastructure: {parametersRef: {group: x.dev, kind: P, name: p}}, listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted=False/InvalidParameters Programmed=False/Invalid ResolvedRefs 10.0.0.1")],
    ),
    (
        "GatewayListenerUnsupportedProtocol: the only listener",
        "Gateway d/g\nspec: {gatewayClassName: strait, listeners: [{name: l, port: 80, protocol: x.dev/QUIC}]}",
        &[
            ("Gateway d/g", "Accepted=False/ListenersNotValid Programmed=False/Invalid ResolvedRefs 10.0.0.1"),
            (
                "Gateway d/g listener l",
                "[] routes=0 Accepted=False/UnsupportedProtocol Programmed=False/Invalid ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "GatewayListenerUnsupportedProtocol: beside a good one",
        "Gateway d/g\nspec: {gatewayClassName: strait, listeners: [{name: l, port: 80, protocol: x.dev/QUIC}, {name: m, port: 81, protocol: TCP}]}",
        &[
            ("Gateway d/g", "Accepted=True/ListenersNotValid Programmed ResolvedRefs 10.0.0.1"),
            ("Gateway d/g listener m", TCP),
        ],
    ),
    (
        "GatewayStaticAddresses: a type that is not known",
        "Gateway d/g\nspec: {gatewayClassName: strait, addresses: [{type: x.dev/T, value: a}, {value: 192.0.2.1}, {value: 10.0.0.9}], listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted=False/UnsupportedAddress Programmed=False/AddressNotUsable ResolvedRefs 10.0.0.9")],
    ),
    (
        "GatewayStaticAddresses: one that cannot be had, one that can",
        "Gateway d/g\nspec: {gatewayClassName: strait, addresses: [{value: 192.0.2.1}, {value: 10.0.0.9}], listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted Programmed=False/AddressNotUsable ResolvedRefs 10.0.0.9")],
    ),
    (
        "GatewayStaticAddresses: the one that can",
        "Gateway d/g\nspec: {gatewayClassName: strait, addresses: [{value: 10.0.0.9}], listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted Programmed ResolvedRefs 10.0.0.9"), ("Gateway d/g listener l", TCP)],
    ),
    (
        "several addresses are all served",
        "Gateway d/g\nspec: {gatewayClassName: strait, addresses: [{value: 10.0.0.9}, {value: 10.0.0.8}], listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted Programmed ResolvedRefs 10.0.0.9 10.0.0.8")],
    ),
    (
        "GatewayOptionalAddressValue",
        "Gateway d/g\nspec: {gatewayClassName: strait, addresses: [{type: IPAddress}], listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted Programmed ResolvedRefs 10.0.0.1")],
    ),
    (
        "GatewayInvalidTLSBackendConfiguration: no such secret",
        "Gateway d/g\nspec: {gatewayClassName: strait, tls: {backend: {clientCertificateRef: {name: nothing}}}, listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted Programmed ResolvedRefs=False/InvalidClientCertificateRef 10.0.0.1")],
    ),
    (
        "GatewayInvalidTLSBackendConfiguration: another kind",
        "Gateway d/g\nspec: {gatewayClassName: strait, tls: {backend: {clientCertificateRef: {group: x.dev, kind: K, name: cert}}}, listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted Programmed ResolvedRefs=False/InvalidClientCertificateRef 10.0.0.1")],
    ),
    (
        "GatewayInvalidTLSBackendConfiguration: no grant",
        "Gateway d/g\nspec: {gatewayClassName: strait, tls: {backend: {clientCertificateRef: {name: cert, namespace: other}}}, listeners: [{name: l, port: 80, protocol: TCP}]}",
        &[("Gateway d/g", "Accepted Programmed ResolvedRefs=False/RefNotPermitted 10.0.0.1")],
    ),
    (
        "GatewayFrontendClientCertificateValidationInsecureFallback",
        "Gateway d/g\nspec: {gatewayClassName: strait, tls: {frontend: {default: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}}, listeners: [{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}]}",
        &[(
            "Gateway d/g",
            "Accepted Programmed ResolvedRefs InsecureFrontendValidationMode=True/ConfigurationChanged 10.0.0.1",
        )],
    ),
];

#[test]
fn gateways() {
    check(BASE, GATEWAYS);
}

/// Objects for one gateway with these listeners of TCP, TLS or UDP.
macro_rules! gateway {
    ($listeners:literal) => {
        concat!("Gateway d/g\nspec: {gatewayClassName: strait, listeners: [", $listeners, "]}")
    };
}

const LISTENERS: &[Case] = &[
    (
        "GatewayInvalidRouteKind: none that is known",
        gateway!("{name: l, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: Unknown}]}}"),
        &[(
            "Gateway d/g listener l",
            "[] routes=0 Accepted Programmed ResolvedRefs=False/InvalidRouteKinds Conflicted=False/NoConflicts",
        )],
    ),
    (
        "GatewayInvalidRouteKind: one that is, one that is not",
        gateway!("{name: l, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: Unknown}, {kind: HTTPRoute}]}}"),
        &[(
            "Gateway d/g listener l",
            "[HTTPRoute] routes=0 Accepted Programmed ResolvedRefs=False/InvalidRouteKinds Conflicted=False/NoConflicts",
        )],
    ),
    (
        "a kind of another group",
        gateway!("{name: l, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{group: x.dev, kind: HTTPRoute}]}}"),
        &[(
            "Gateway d/g listener l",
            "[] routes=0 Accepted Programmed ResolvedRefs=False/InvalidRouteKinds Conflicted=False/NoConflicts",
        )],
    ),
    (
        "what HTTP takes where nothing is said",
        gateway!("{name: l, port: 80, protocol: HTTP}"),
        &[(
            "Gateway d/g listener l",
            "[HTTPRoute GRPCRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        )],
    ),
    (
        "protocols are spelt as one likes",
        gateway!("{name: l, port: 80, protocol: hTtP}"),
        &[(
            "Gateway d/g listener l",
            "[HTTPRoute GRPCRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        )],
    ),
    (
        "GatewayListenerUnsupportedProtocol: a name without a domain",
        gateway!("{name: l, port: 80, protocol: HTPP}, {name: m, port: 81, protocol: TCP}"),
        &[
            (
                "Gateway d/g listener l",
                "[] routes=0 Accepted=False/UnsupportedProtocol Programmed=False/Invalid ResolvedRefs Conflicted=False/NoConflicts",
            ),
            ("Gateway d/g listener m", TCP),
        ],
    ),
    (
        "TLSRouteListenerPassthroughSupportedKinds",
        gateway!("{name: l, port: 443, protocol: TLS, tls: {mode: Passthrough}}"),
        &[(
            "Gateway d/g listener l",
            "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        )],
    ),
    (
        "TLSRouteListenerTerminateSupportedKinds",
        gateway!("{name: l, port: 443, protocol: TLS, tls: {certificateRefs: [{name: cert}]}}"),
        &[(
            "Gateway d/g listener l",
            "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        )],
    ),
    (
        "UDP",
        gateway!("{name: l, port: 53, protocol: UDP}"),
        &[(
            "Gateway d/g listener l",
            "[UDPRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        )],
    ),
    (
        "GatewayInvalidTLSConfiguration: no such secret",
        gateway!("{name: l, port: 443, protocol: TLS, tls: {certificateRefs: [{name: nothing}]}}"),
        &[(
            "Gateway d/g listener l",
            "[TLSRoute] routes=0 Accepted Programmed=False/Invalid ResolvedRefs=False/InvalidCertificateRef Conflicted=False/NoConflicts",
        )],
    ),
    (
        "GatewayInvalidTLSConfiguration: another group",
        gateway!(
            "{name: l, port: 443, protocol: TLS, tls: {certificateRefs: [{name: cert, group: x.dev, kind: Secret}]}}"
        ),
        &[(
            "Gateway d/g listener l",
            "[TLSRoute] routes=0 Accepted Programmed=False/Invalid ResolvedRefs=False/InvalidCertificateRef Conflicted=False/NoConflicts",
        )],
    ),
    (
        "GatewayInvalidTLSConfiguration: a malformed secret",
        gateway!("{name: l, port: 443, protocol: TLS, tls: {certificateRefs: [{name: malformed}]}}"),
        &[(
            "Gateway d/g listener l",
            "[TLSRoute] routes=0 Accepted Programmed=False/Invalid ResolvedRefs=False/InvalidCertificateRef Conflicted=False/NoConflicts",
        )],
    ),
    (
        "GatewaySecretMissingReferenceGrant",
        gateway!("{name: l, port: 443, protocol: TLS, tls: {certificateRefs: [{name: cert, namespace: other}]}}"),
        &[(
            "Gateway d/g listener l",
            "[TLSRoute] routes=0 Accepted Programmed=False/Invalid ResolvedRefs=False/RefNotPermitted Conflicted=False/NoConflicts",
        )],
    ),
    (
        "GatewaySecretInvalidReferenceGrant",
        concat!(
            gateway!("{name: l, port: 443, protocol: TLS, tls: {certificateRefs: [{name: cert, namespace: other}]}}"),
            r"
---
ReferenceGrant other/kind
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: d}], to: [{group: '', kind: Secret}]}
---
ReferenceGrant other/namespace
spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: x}], to: [{group: '', kind: Secret}]}
---
ReferenceGrant other/name
spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: d}], to: [{group: '', kind: Secret, name: x}]}
---
ReferenceGrant d/home
spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: d}], to: [{group: '', kind: Secret}]}"
        ),
        &[(
            "Gateway d/g listener l",
            "[TLSRoute] routes=0 Accepted Programmed=False/Invalid ResolvedRefs=False/RefNotPermitted Conflicted=False/NoConflicts",
        )],
    ),
    (
        "GatewaySecretReferenceGrantSpecific",
        concat!(
            gateway!("{name: l, port: 443, protocol: TLS, tls: {certificateRefs: [{name: cert, namespace: other}]}}"),
            "\n---\nReferenceGrant other/g\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: d}], to: [{group: '', kind: Secret, name: cert}]}"
        ),
        &[(
            "Gateway d/g listener l",
            "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        )],
    ),
    (
        "GatewaySecretReferenceGrantAllInNamespace",
        concat!(
            gateway!("{name: l, port: 443, protocol: TLS, tls: {certificateRefs: [{name: cert, namespace: other}]}}"),
            "\n---\nReferenceGrant other/g\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: d}], to: [{group: '', kind: Secret}]}"
        ),
        &[(
            "Gateway d/g listener l",
            "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        )],
    ),
];

#[test]
fn listeners() {
    check(BASE, LISTENERS);
}

const CONFLICTS: &[Case] = &[
    (
        "one host for HTTPS and for TLS",
        gateway!(
            "{name: a, port: 443, protocol: TLS, hostname: a.x, tls: {mode: Passthrough}}, {name: b, port: 443, protocol: HTTPS, hostname: a.x, tls: {certificateRefs: [{name: cert}]}}, {name: c, port: 443, protocol: TLS, hostname: c.x, tls: {mode: Passthrough}}"
        ),
        &[
            ("Gateway d/g", "Accepted=True/ListenersNotValid Programmed ResolvedRefs 10.0.0.1"),
            (
                "Gateway d/g listener a",
                "[TLSRoute] routes=0 Accepted=False/ProtocolConflict Programmed=False/Invalid ResolvedRefs Conflicted=True/ProtocolConflict",
            ),
            (
                "Gateway d/g listener c",
                "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "two protocols on a port; UDP is beside them",
        gateway!(
            "{name: a, port: 80, protocol: TCP}, {name: b, port: 80, protocol: TLS, tls: {mode: Passthrough}}, {name: c, port: 80, protocol: UDP}"
        ),
        &[
            (
                "Gateway d/g listener a",
                "[TCPRoute] routes=0 Accepted=False/ProtocolConflict Programmed=False/Invalid ResolvedRefs Conflicted=True/ProtocolConflict",
            ),
            (
                "Gateway d/g listener b",
                "[TLSRoute] routes=0 Accepted=False/ProtocolConflict Programmed=False/Invalid ResolvedRefs Conflicted=True/ProtocolConflict",
            ),
            (
                "Gateway d/g listener c",
                "[UDPRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
    (
        "a protocol that is not spoken takes no port",
        gateway!("{name: a, port: 80, protocol: x.dev/P}, {name: b, port: 80, protocol: TCP}"),
        &[("Gateway d/g listener b", TCP)],
    ),
    (
        "GatewayOverlappingTLSConfigHostnames",
        gateway!(
            "{name: foo, port: 443, protocol: TLS, hostname: foo.x.com, tls: {certificateRefs: [{name: cert}]}}, {name: wild, port: 443, protocol: TLS, hostname: '*.x.com', tls: {certificateRefs: [{name: cert}]}}, {name: plain, port: 443, protocol: TLS, hostname: y.com, tls: {certificateRefs: [{name: cert}]}}, {name: through, port: 443, protocol: TLS, hostname: '*.y.com', tls: {mode: Passthrough}}, {name: beside, port: 444, protocol: TLS, hostname: foo.x.com, tls: {certificateRefs: [{name: cert}]}}"
        ),
        &[
            (
                "Gateway d/g listener foo",
                "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts OverlappingTLSConfig=True/OverlappingHostnames",
            ),
            (
                "Gateway d/g listener wild",
                "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts OverlappingTLSConfig=True/OverlappingHostnames",
            ),
            (
                "Gateway d/g listener plain",
                "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
            (
                "Gateway d/g listener beside",
                "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
            ),
        ],
    ),
];

#[test]
fn conflicts() {
    check(BASE, CONFLICTS);
}

/// Only the ports that a validation is for suffer from it.
const VALIDATION: &[Case] = &[(
    "GatewayInvalidFrontendClientCertificateValidation",
    r"Gateway d/g
spec:
  gatewayClassName: strait
  tls:
    frontend:
      default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}
      perPort:
      - {port: 1, tls: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: nothing}]}}}
      - {port: 2, tls: {validation: {caCertificateRefs: [{group: '', kind: Service, name: ca}]}}}
      - {port: 3, tls: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca, namespace: other}]}}}
      - {port: 4, tls: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: empty}, {group: '', kind: ConfigMap, name: ca}]}}}
  listeners:
  - {name: fine, port: 443, protocol: TLS, tls: {certificateRefs: [{name: cert}]}}
  - {name: missing, port: 1, protocol: TLS, tls: {certificateRefs: [{name: cert}]}}
  - {name: kind, port: 2, protocol: TLS, tls: {certificateRefs: [{name: cert}]}}
  - {name: grant, port: 3, protocol: TLS, tls: {certificateRefs: [{name: cert}]}}
  - {name: some, port: 4, protocol: TLS, tls: {certificateRefs: [{name: cert}]}}",
    &[
        (
            "Gateway d/g listener fine",
            "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs Conflicted=False/NoConflicts",
        ),
        (
            "Gateway d/g listener missing",
            "[TLSRoute] routes=0 Accepted=False/NoValidCACertificate Programmed=False/Invalid ResolvedRefs=False/InvalidCACertificateRef Conflicted=False/NoConflicts",
        ),
        (
            "Gateway d/g listener kind",
            "[TLSRoute] routes=0 Accepted=False/NoValidCACertificate Programmed=False/Invalid ResolvedRefs=False/InvalidCACertificateKind Conflicted=False/NoConflicts",
        ),
        (
            "Gateway d/g listener grant",
            "[TLSRoute] routes=0 Accepted=False/NoValidCACertificate Programmed=False/Invalid ResolvedRefs=False/RefNotPermitted Conflicted=False/NoConflicts",
        ),
        // One of two authorities is enough to go by.
        (
            "Gateway d/g listener some",
            "[TLSRoute] routes=0 Accepted Programmed ResolvedRefs=False/InvalidCACertificateRef Conflicted=False/NoConflicts",
        ),
    ],
)];

#[test]
fn client_validation() {
    check(BASE, VALIDATION);
}
