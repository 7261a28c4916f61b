//! Statuses of policies for TLS to back ends, for each gateway that goes by them.

use crate::bed::{Case, check};

const BASE: &str = r"Gateway d/g
spec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
Gateway d/h
spec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
Gateway d/unused
spec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
Service d/web
spec: {ports: [{name: a, port: 80}, {name: b, port: 81}]}
---
Service d/other
spec: {ports: [{port: 80}]}
---
HTTPRoute d/r
spec: {parentRefs: [{name: g}, {name: h}], rules: [{backendRefs: [{name: web, port: 80}, {name: web, port: 81}]}]}
---
ConfigMap d/ca
data:
  ca.crt: |
    -----BEGIN CERTIFICATE-----
    AAAA
    -----END CERTIFICATE-----
---
ConfigMap d/malformed
data: {ca.crt: Hello}
";

/// A policy for the service `web` whose validation has these authorities.
macro_rules! policy {
    ($refs:literal) => {
        concat!(
            "BackendTLSPolicy d/p 1\nspec: {targetRefs: [{group: '', kind: Service, name: web}], validation: {hostname: a.com, caCertificateRefs: [",
            $refs,
            "]}}"
        )
    };
}

const CASES: &[Case] = &[
    (
        "each gateway is an ancestor",
        policy!("{group: '', kind: ConfigMap, name: ca}"),
        &[
            ("BackendTLSPolicy d/p 0", "Gateway d/g Accepted ResolvedRefs"),
            ("BackendTLSPolicy d/p 1", "Gateway d/h Accepted ResolvedRefs"),
            ("BackendTLSPolicy d/p 2", ""),
        ],
    ),
    (
        "a policy for a service that no route goes to",
        "BackendTLSPolicy d/p\nspec: {targetRefs: [{group: '', kind: Service, name: other}], validation: {hostname: a.com, wellKnownCACertificates: System}}",
        &[("BackendTLSPolicy d/p 0", "")],
    ),
    (
        "BackendTLSPolicyInvalidCACertificateRef: there is none",
        policy!("{group: '', kind: ConfigMap, name: nothing}"),
        &[(
            "BackendTLSPolicy d/p 0",
            "Gateway d/g Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef",
        )],
    ),
    (
        "BackendTLSPolicyInvalidCACertificateRef: malformed",
        policy!("{group: '', kind: ConfigMap, name: malformed}"),
        &[(
            "BackendTLSPolicy d/p 0",
            "Gateway d/g Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef",
        )],
    ),
    (
        "BackendTLSPolicyInvalidKind",
        policy!("{group: x.dev, kind: K, name: ca}"),
        &[("BackendTLSPolicy d/p 0", "Gateway d/g Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidKind")],
    ),
    (
        "one of two authorities is valid",
        policy!("{group: '', kind: ConfigMap, name: ca}, {group: '', kind: ConfigMap, name: malformed}"),
        &[("BackendTLSPolicy d/p 0", "Gateway d/g Accepted ResolvedRefs=False/InvalidCACertificateRef")],
    ),
    (
        "BackendTLSPolicyConflictResolution",
        concat!(
            policy!("{group: '', kind: ConfigMap, name: ca}"),
            r"
---
BackendTLSPolicy d/younger 2
spec: {targetRefs: [{group: '', kind: Service, name: web}], validation: {hostname: b.com, wellKnownCACertificates: System}}
---
BackendTLSPolicy d/port 3
spec: {targetRefs: [{group: '', kind: Service, name: web, sectionName: b}], validation: {hostname: b.com, wellKnownCACertificates: System}}
---
BackendTLSPolicy d/portnext 3
spec: {targetRefs: [{group: '', kind: Service, name: web, sectionName: b}], validation: {hostname: b.com, wellKnownCACertificates: System}}"
        ),
        &[
            ("BackendTLSPolicy d/p 0", "Gateway d/g Accepted ResolvedRefs"),
            ("BackendTLSPolicy d/younger 0", "Gateway d/g Accepted=False/Conflicted ResolvedRefs"),
            ("BackendTLSPolicy d/port 0", "Gateway d/g Accepted ResolvedRefs"),
            ("BackendTLSPolicy d/portnext 0", "Gateway d/g Accepted=False/Conflicted ResolvedRefs"),
        ],
    ),
];

#[test]
fn policies() {
    check(BASE, CASES);
}
