//! Every condition and reason of the specification: what provokes it here, or why nothing does (`reasons.txt`).

use std::{collections::BTreeSet, fmt::Write as _};

use strait_route::{Compiled, Hindrance, HindranceKind, Hindrances};

use crate::bed::{Followed, NOW, lines};

const ROWS: &str = include_str!("reasons.txt");

const BASE: &str = r"Namespace d
---
Namespace team
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
spec: {ports: [{name: web, port: 80}, {name: odd, port: 81, appProtocol: kubernetes.io/other}]}
---
Service team/web
spec: {ports: [{port: 80}]}
---
ConfigMap d/ca
data:
  ca.crt: |
    -----BEGIN CERTIFICATE-----
    AAAA
    -----END CERTIFICATE-----
---
Secret d/wild
type: kubernetes.io/tls
stringData:
  tls.crt: |
    -----BEGIN CERTIFICATE-----
    MIIBQjCB9aADAgECAhRrBr5Lek4TE+Q4dZVI/jHsx5oLlDAFBgMrZXAwDDEKMAgG
    A1UEAwwBeDAgFw0yNjExMjkxMTA1NDJaGA8yMTI2MTEwNTExMDU0MlowDDEKMAgG
    A1UEAwwBeDAqMAUGAytlcAMhADtUF4QJkxvbG4Um4WdZhehZ4liO1SUysN3C4byd
    ewMko2cwZTAdBgNVHQ4EFgQUqAxHbw9aceuQZBnXLtRi1RYhInEwHwYDVR0jBBgw
    FoAUqAxHbw9aceuQZBnXLtRi1RYhInEwDwYDVR0TAQH/BAUwAwEB/zASBgNVHREE
    CzAJggcqLnguY29tMAUGAytlcANBAEqVEhJLn/SYipuOVmxzdNoTd5Gd+8RyGAjz
    9h4QkfmlLN0COW9wuYQFBg2nlTEUJ5oR3a/5Yoqxru3unLWz5As=
    -----END CERTIFICATE-----
  tls.key: |
    -----BEGIN PRIVATE KEY-----
    AAAA
    -----END PRIVATE KEY-----
---
Secret d/one
type: kubernetes.io/tls
stringData:
  tls.crt: |
    -----BEGIN CERTIFICATE-----
    MIIBQjCB9aADAgECAhQnHbZpe8/++gFFYk+G6eDxXDaXvDAFBgMrZXAwDDEKMAgG
    A1UEAwwBeDAgFw0yNjExMjkxMTA1NDJaGA8yMTI2MTEwNTExMDU0MlowDDEKMAgG
    A1UEAwwBeDAqMAUGAytlcAMhAMyySRwtA9xlsrY8gW1bcrqM95Sq0UyrAv56zfyA
    gfNFo2cwZTAdBgNVHQ4EFgQUDLMMTgiUHwp1WcEe2F9fMa099PswHwYDVR0jBBgw
    FoAUDLMMTgiUHwp1WcEe2F9fMa099PswDwYDVR0TAQH/BAUwAwEB/zASBgNVHREE
    CzAJggdhLnguY29tMAUGAytlcANBAOj+gJp/0efsxdpHGD1+u+aotrtdFVYHKj+2
    0qaPmqtlL3DO1SA15wZ5DfIMtQrfRgUuzbiMe6FmWQQfma7bVQg=
    -----END CERTIFICATE-----
  tls.key: |
    -----BEGIN PRIVATE KEY-----
    AAAA
    -----END PRIVATE KEY-----
";

/// What has a condition where some objects are there, and a port of gateway `d/g` cannot be listened on: `80 Port`, `80 Address 10.0.0.1`.
fn line(objects: &str, of: &str, hindered: Option<&str>) -> String {
    let mut followed = Followed::default();
    followed.becomes(&format!("{BASE}---\n{objects}"), NOW);
    if let Some(hindered) = hindered {
        let words: Vec<&str> = hindered.split(' ').collect();
        let kind = match words[1..] {
            ["Port"] => Some(HindranceKind::Port),
            ["Resources"] => Some(HindranceKind::Resources),
            ["Address", address] => Some(HindranceKind::Address(address.parse().unwrap())),
            _ => None,
        };
        let hindrance = Hindrance { kind: kind.unwrap(), message: "it cannot".into() };
        let key = ("d/g".into(), words[0].parse().unwrap(), false);
        assert!(!followed.compiler.listening(Hindrances::from([(key, hindrance)]), NOW).is_empty(), "{hindered}");
    }
    let compiled = Compiled { statuses: followed.compiler.statuses(), ..Compiled::default() };
    lines(&compiled).remove(of).unwrap_or_default()
}

/// A row for every reason, and each provoked as it says.
#[test]
fn every_reason() {
    let (mut wrong, mut seen) = (String::new(), BTreeSet::new());
    for block in ROWS.split("\n\n").skip(1) {
        let (head, objects) = block.trim_end().split_once('\n').unwrap_or((block.trim_end(), ""));
        let parts: Vec<&str> = head.split(" | ").collect();
        let (constant, condition, of) = (parts[0], parts[1], parts[2]);
        seen.insert(constant);
        if of.starts_with("never: ") {
            continue;
        }
        let found = line(objects, of, parts.get(3).copied());
        let (kind, is) = condition.split_once('=').unwrap();
        let is_plain = is.strip_prefix("True/") == Some(kind);
        if !found.split(' ').any(|word| word == if is_plain { kind } else { condition }) {
            writeln!(wrong, "{constant}: {of} has no {condition}: {found}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(seen.into_iter().collect::<Vec<_>>().join("\n"), UPSTREAM);
}

/// More listeners than a gateway may have: those of the sets that came last are not accepted.
#[test]
fn too_many_listeners() {
    let mut short = "Gateway d/g 1\nspec: {gatewayClassName: strait, allowedListeners: {namespaces: {from: Same}}, listeners: [{name: l, port: 80, protocol: HTTP}]}\n".to_owned();
    for set in 0..=64 {
        let one = |at: usize| format!("{{name: s{at}, port: 81, protocol: HTTP, hostname: h{}.com}}", set * 64 + at);
        let all: Vec<String> = (0..64).map(one).collect();
        write!(
            short,
            "---\nListenerSet d/s{set:02} 2\nspec: {{parentRef: {{name: g}}, listeners: [{}]}}\n",
            all.join(", ")
        )
        .unwrap();
    }
    let found = lines(&crate::bed::compiled(&short));
    assert_eq!(found["Gateway d/g"], "Accepted Programmed ResolvedRefs 10.0.0.1 sets=64");
    assert_eq!(found["ListenerSet d/s63"], "Accepted=True/ListenersNotValid Programmed");
    assert!(found["ListenerSet d/s63 listener s62"].contains(" Accepted Programmed "));
    assert!(
        found["ListenerSet d/s63 listener s63"].contains(" Accepted=False/TooManyListeners Programmed=False/Invalid ")
    );
    assert_eq!(found["ListenerSet d/s64"], "Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid");
}

/// All there are upstream, in order, `DefaultGateway` being of GEP-3793 alone.
const UPSTREAM: &str = "\
BackendTLSPolicy InvalidCACertificateRef
BackendTLSPolicy InvalidKind
BackendTLSPolicy NoValidCACertificate
BackendTLSPolicy ResolvedRefs
Gateway Accepted
Gateway AddressNotAssigned
Gateway AddressNotUsable
Gateway ConfigurationChanged
Gateway DefaultGateway
Gateway Invalid
Gateway InvalidClientCertificateRef
Gateway InvalidParameters
Gateway ListenersNotReady
Gateway ListenersNotResolved
Gateway ListenersNotValid
Gateway NoResources
Gateway NotReconciled
Gateway Pending
Gateway Programmed
Gateway Ready
Gateway RefNotPermitted
Gateway ResolvedRefs
Gateway Scheduled
Gateway UnsupportedAddress
GatewayClass Accepted
GatewayClass Invalid
GatewayClass InvalidParameters
GatewayClass Pending
GatewayClass SupportedVersion
GatewayClass Unsupported
GatewayClass UnsupportedVersion
GatewayClass Waiting
Listener Accepted
Listener Attached
Listener HostnameConflict
Listener Invalid
Listener InvalidCACertificateKind
Listener InvalidCACertificateRef
Listener InvalidCertificateRef
Listener InvalidRouteKinds
Listener NoConflicts
Listener NoValidCACertificate
Listener OverlappingCertificates
Listener OverlappingHostnames
Listener Pending
Listener PortUnavailable
Listener Programmed
Listener ProtocolConflict
Listener Ready
Listener RefNotPermitted
Listener ResolvedRefs
Listener UnsupportedProtocol
Listener UnsupportedValue
ListenerEntry Accepted
ListenerEntry HostnameConflict
ListenerEntry Invalid
ListenerEntry InvalidCertificateRef
ListenerEntry InvalidRouteKinds
ListenerEntry ListenerConflict
ListenerEntry NoConflicts
ListenerEntry Pending
ListenerEntry PortUnavailable
ListenerEntry Programmed
ListenerEntry ProtocolConflict
ListenerEntry Ready
ListenerEntry RefNotPermitted
ListenerEntry ResolvedRefs
ListenerEntry TooManyListeners
ListenerEntry UnsupportedProtocol
ListenerSet Accepted
ListenerSet Invalid
ListenerSet ListenersNotValid
ListenerSet NotAllowed
ListenerSet ParentNotAccepted
ListenerSet ParentNotProgrammed
ListenerSet Pending
ListenerSet PortUnavailable
ListenerSet Programmed
Policy Accepted
Policy Conflicted
Policy Invalid
Policy TargetNotFound
Route Accepted
Route BackendNotFound
Route IncompatibleFilters
Route InvalidKind
Route NoMatchingListenerHostname
Route NoMatchingParent
Route NotAllowedByListeners
Route Pending
Route RefNotPermitted
Route ResolvedRefs
Route UnsupportedProtocol
Route UnsupportedValue
XBackend Accepted
XBackendTrafficPolicy Accepted
XBackendTrafficPolicy Conflicted
XBackendTrafficPolicy Invalid
XMesh Accepted";
