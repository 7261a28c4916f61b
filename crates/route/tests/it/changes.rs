//! What follows changes is what comes of all objects at once, and costs what the change touches.

use std::{collections::BTreeMap, fmt::Write as _};

use proptest::prelude::*;
use serde_json::Value;
use strait_api::{Object, Objects};
use strait_route::{Compiler, Plan, Status};

use crate::bed::{Followed, NOW, objects};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\\nMTIz\\n-----END CERTIFICATE-----";
const OTHER: &str = "-----BEGIN CERTIFICATE-----\\nNDU2\\n-----END CERTIFICATE-----";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\\nMTIz\\n-----END PRIVATE KEY-----";

/// Objects, each in several forms. A form in short is an object's; that it is not there is one more.
const FORMS: [&[&str]; 28] = [
    &[
        "GatewayClass strait\nspec: {controllerName: strait.dev/gateway-controller}",
        "GatewayClass strait\nspec: {controllerName: other.dev/x}",
    ],
    &["Namespace e\n", "Namespace e\n  labels: {team: a}"],
    &[
        "Gateway d/g 1\nspec: {gatewayClassName: strait, listeners: [{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]}",
        "Gateway d/g 1\nspec: {gatewayClassName: strait, allowedListeners: {namespaces: {from: All}}, listeners: [{name: a, port: 80, protocol: HTTP, hostname: '*.a.com', allowedRoutes: {namespaces: {from: All}}}, {name: b, port: 80, protocol: HTTP}]}",
        "Gateway d/g 1\nspec: {gatewayClassName: strait, allowedListeners: {namespaces: {from: All}}, listeners: [{name: a, port: 80, protocol: HTTP, hostname: '*.a.com', allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}}], tls: {backend: {clientCertificateRef: {name: c}}}}",
        "Gateway d/g 1\nspec: {gatewayClassName: other, listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "Gateway d/g 1\nspec: {gatewayClassName: strait, infrastructure: {labels: {x: v}}, listeners: [{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]}",
    ],
    &[
        "Gateway d/h 2\nspec: {gatewayClassName: strait, defaultScope: All, listeners: [{name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}, {name: t, port: 444, protocol: TLS, tls: {mode: Passthrough}}]}",
        "Gateway d/h 2\nspec: {gatewayClassName: strait, listeners: [{name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c, namespace: e}]}}, {name: t, port: 444, protocol: TLS, tls: {certificateRefs: [{name: c}]}}, {name: x, port: 9000, protocol: TCP}, {name: z, port: 9000, protocol: UDP}]}",
    ],
    &[
        "ListenerSet e/s\nspec: {parentRef: {name: g, namespace: d}, listeners: [{name: l, port: 81, protocol: HTTP}, {name: b, port: 80, protocol: HTTP, hostname: x.b.com}]}",
        "ListenerSet e/s\nspec: {parentRef: {name: h, namespace: d}, listeners: [{name: l, port: 81, protocol: HTTP}]}",
    ],
    &[
        "Service d/a\nspec: {ports: [{name: w, port: 80}, {name: m, port: 81}]}",
        "Service d/a\nspec: {ports: [{port: 80, appProtocol: kubernetes.io/h2c}]}",
        "Service d/a\nspec: {type: ExternalName, externalName: x}",
    ],
    &[
        "Service d/b\nspec: {ports: [{name: w, port: 80}, {name: u, port: 80, protocol: UDP}]}",
        "Service d/b\nspec: {ports: [{port: 8080}]}",
    ],
    &["Service e/a\nspec: {ports: [{port: 80}]}"],
    &[
        "EndpointSlice d/a-1\n  labels: {kubernetes.io/service-name: a}\naddressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [10.1.0.1]}]",
        "EndpointSlice d/a-1\n  labels: {kubernetes.io/service-name: a}\naddressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}]",
        "EndpointSlice d/a-1\n  labels: {kubernetes.io/service-name: b}\naddressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [10.1.0.1]}]",
    ],
    &[
        "EndpointSlice d/b-1\n  labels: {kubernetes.io/service-name: b}\naddressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.1.0.3]}]",
    ],
    &[
        "ReferenceGrant e/grant\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: d}], to: [{group: '', kind: Service}]}",
        "ReferenceGrant e/grant\nspec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: d}], to: [{group: '', kind: Secret}]}",
    ],
    &[
        "Secret d/c\nstringData: {tls.crt: \"CERTIFICATE\", tls.key: \"KEY\"}",
        "Secret d/c\nstringData: {tls.crt: \"OTHER\", tls.key: \"KEY\"}",
        "Secret d/c\nstringData: {tls.key: \"KEY\"}",
    ],
    &["Secret e/c\nstringData: {tls.crt: \"OTHER\", tls.key: \"KEY\"}"],
    &[
        "ConfigMap d/ca\ndata: {ca.crt: \"CERTIFICATE\"}",
        "ConfigMap d/ca\ndata: {ca.crt: \"OTHER\"}",
        "ConfigMap d/ca\ndata: {ca.crt: none}",
    ],
    &[
        "BackendTLSPolicy d/p 3\nspec: {targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}",
        "BackendTLSPolicy d/p 3\nspec: {targetRefs: [{group: '', kind: Service, name: a, sectionName: m}, {group: '', kind: Service, name: b}], validation: {hostname: a.com, wellKnownCACertificates: System}}",
    ],
    &[
        "BackendTLSPolicy d/q 4\nspec: {targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: b.com, wellKnownCACertificates: System}}",
        "BackendTLSPolicy d/q 2\nspec: {targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: b.com, wellKnownCACertificates: System}}",
    ],
    &[
        "XBackendTrafficPolicy d/p 3\nspec: {targetRefs: [{group: '', kind: Service, name: a}], retryConstraint: {budget: {percent: 10}}}",
        "XBackendTrafficPolicy d/p 3\nspec: {targetRefs: [{group: '', kind: Service, name: b}], sessionPersistence: {sessionName: s}}",
    ],
    &[
        "XBackendTrafficPolicy d/q 4\nspec: {targetRefs: [{group: '', kind: Service, name: b}], sessionPersistence: {sessionName: t}}",
    ],
    &[
        "HTTPRoute d/r1 5\nspec: {parentRefs: [{name: g}], hostnames: [a.a.com, x.b.com], rules: [{backendRefs: [{name: a, port: 80}]}]}",
        "HTTPRoute d/r1 5\nspec: {parentRefs: [{name: g}], hostnames: [a.a.com], rules: [{matches: [{path: {value: /x}}, {path: {type: Exact, value: /y}}], backendRefs: [{name: b, port: 80, weight: 3}, {name: a, port: 80}]}, {backendRefs: [{name: none, port: 80}]}]}",
        "HTTPRoute d/r1 9\nspec: {parentRefs: [{name: g, sectionName: a}, {name: h}], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: x.dev, kind: X, name: x}}], backendRefs: [{name: a, port: 80}]}]}",
        "HTTPRoute d/r1 5\nspec: {parentRefs: [{name: g}, {kind: ListenerSet, name: s, namespace: e}], hostnames: ['*.com'], rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}], backendRefs: [{name: a, port: 80, namespace: e}]}]}",
    ],
    &[
        "HTTPRoute d/r2 6\nspec: {parentRefs: [{name: g}, {name: h}], hostnames: [a.a.com], rules: [{matches: [{path: {type: RegularExpression, value: /x.*}}, {path: {value: /x}, method: GET}], backendRefs: [{name: a, port: 80}]}]}",
        "HTTPRoute d/r2 6\nspec: {useDefaultGateways: All, parentRefs: [{name: g}], hostnames: [a.a.com], rules: [{backendRefs: [{name: a, port: 80}]}]}",
        "HTTPRoute d/r2 4\nspec: {parentRefs: [{name: g}], hostnames: ['*.a.com'], rules: [{name: first, sessionPersistence: {sessionName: r}, backendRefs: [{name: a, port: 80}]}]}",
    ],
    &[
        "HTTPRoute e/r1 5\nspec: {parentRefs: [{name: g, namespace: d}, {kind: ListenerSet, name: s}], hostnames: [a.a.com], rules: [{matches: [{path: {value: /x}}], backendRefs: [{name: a, port: 80}]}]}",
        "HTTPRoute e/r1 5\nspec: {parentRefs: [{name: none}], rules: [{backendRefs: [{name: a, port: 80}]}]}",
    ],
    &[
        "GRPCRoute d/c1 5\nspec: {parentRefs: [{name: g}], hostnames: [a.a.com], rules: [{backendRefs: [{name: a, port: 80}]}]}",
        "GRPCRoute d/c1 8\nspec: {parentRefs: [{name: g}, {name: h}], hostnames: ['*.a.com'], rules: [{matches: [{method: {service: s}}], backendRefs: [{name: b, port: 80}]}]}",
        "GRPCRoute d/c1 3\nspec: {parentRefs: [{name: g}], hostnames: [a.a.com], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: x.dev, kind: X, name: x}}]}]}",
    ],
    &[
        "GRPCRoute e/c2 4\nspec: {useDefaultGateways: All, rules: [{backendRefs: [{name: a, port: 80}]}]}",
        "GRPCRoute e/c2 2\nspec: {parentRefs: [{name: g, namespace: d}], hostnames: [x.b.com], rules: [{backendRefs: [{name: a, port: 80}]}]}",
    ],
    &[
        "TLSRoute d/t1 5\nspec: {parentRefs: [{name: h}], hostnames: [a.com], rules: [{backendRefs: [{name: a, port: 80}]}]}",
        "TLSRoute d/t1 5\nspec: {parentRefs: [{name: h, sectionName: t}], hostnames: ['*.com'], rules: [{backendRefs: [{name: b, port: 80}]}]}",
    ],
    &[
        "TLSRoute d/t2 3\nspec: {useDefaultGateways: All, hostnames: [a.com], rules: [{backendRefs: [{name: b, port: 80}]}]}",
        "TLSRoute d/t2 3\nspec: {parentRefs: [{name: h}], hostnames: [a.com, '*.com'], rules: [{backendRefs: [{name: b, port: 80}]}]}",
    ],
    &[
        "TCPRoute d/x1 5\nspec: {parentRefs: [{name: h}], rules: [{backendRefs: [{name: a, port: 80}]}]}",
        "TCPRoute d/x1 9\nspec: {parentRefs: [{name: h, port: 9000}], rules: [{backendRefs: [{name: b, port: 80}]}]}",
    ],
    &[
        "TCPRoute d/x2 6\nspec: {parentRefs: [{name: h}], rules: [{backendRefs: [{name: b, port: 80}, {name: a, port: 81}]}]}",
    ],
    &["UDPRoute d/y1 6\nspec: {parentRefs: [{name: h}], rules: [{backendRefs: [{name: b, port: 80}]}]}"],
];

/// Of Istio, beside those.
const ISTIO: [&[&str]; 16] = [
    &[
        "IstioGateway d/i 1\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
        "IstioGateway d/i 1\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['d/*.a.com', x.b.com]}, {port: {number: 443, name: s, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}]}",
        "IstioGateway d/i 1\nspec: {selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
        "IstioGateway d/i 1\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: true}}, {port: {number: 9000, name: t, protocol: TCP}, hosts: ['*']}, {port: {number: 444, name: p, protocol: TLS}, hosts: [a.com, '*.com'], tls: {mode: PASSTHROUGH}}]}",
        "IstioGateway d/i 1\nspec: {selector: {app: other}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
    ],
    &[
        "IstioGateway e/j 2\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.b.com'], tls: {httpsRedirect: true}}, {port: {number: 443, name: s, protocol: HTTPS}, hosts: [a.a.com], tls: {mode: MUTUAL, credentialNames: [c]}}]}",
        "IstioGateway e/j 2\nspec: {selector: {}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}, {port: {number: 444, name: p, protocol: TLS}, hosts: [a.com], tls: {mode: SIMPLE, credentialName: c}}, {port: {number: 443, name: s, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}]}",
        "IstioGateway e/j 2\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: s, protocol: TLS}, hosts: ['*.local', ext.com], tls: {mode: AUTO_PASSTHROUGH}}]}",
        "IstioGateway e/j 0\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: t, protocol: TCP}, hosts: ['*']}]}",
    ],
    &[
        "VirtualService d/v 3\nspec: {hosts: ['*'], gateways: [i], http: [{route: [{destination: {host: a, port: {number: 80}}}]}]}",
        "VirtualService d/v 3\nspec: {hosts: [a.a.com, x.b.com], gateways: [i, e/j], http: [{match: [{uri: {prefix: /x}}, {uri: {exact: /y}, port: 443}], rewrite: {uri: /z}, mirrors: [{destination: {host: ext.com}}], route: [{destination: {host: b}, weight: 3}, {destination: {host: a, subset: v1}, weight: 1}]}, {redirect: {uri: /r}}]}",
        "VirtualService d/v 9\nspec: {hosts: ['*'], gateways: [i, e/j], http: [{match: [{uri: {prefix: /in}}], delegate: {name: inner, namespace: e}}, {route: [{destination: {host: a.d.svc.cluster.local, port: {number: 81}}}]}]}",
        "VirtualService d/v 3\nspec: {hosts: ['*'], gateways: [i], exportTo: ['.'], http: [{route: [{destination: {host: a}}]}]}",
        "VirtualService d/v 3\nspec: {hosts: ['*'], gateways: [i, none, e/j], tls: [{match: [{sniHosts: [a.com, '*.com']}], route: [{destination: {host: b}}]}], tcp: [{match: [{port: 9000}, {port: 444}], route: [{destination: {host: a, port: {number: 80}}}]}]}",
    ],
    &[
        "VirtualService d/w 2\nspec: {hosts: ['*'], gateways: [i], http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: b, subset: v2}}]}]}",
        "VirtualService d/w 5\nspec: {hosts: [a.a.com], gateways: [i, e/j], http: [{match: [{uri: {prefix: /x}}, {uri: {regex: '/y.*'}}], fault: {abort: {httpStatus: 500, percentage: {value: 10}}}, route: [{destination: {host: none}}]}]}",
        "VirtualService d/w 2\nspec: {hosts: ['*'], gateways: [i, e/j], tls: [{match: [{sniHosts: [a.com]}], route: [{destination: {host: ext.com, port: {number: 443}}}]}], tcp: [{route: [{destination: {host: ext.com}}]}]}",
        "VirtualService d/w 2\nspec: {hosts: ['*'], gateways: [i], http: [{delegate: {name: inner, namespace: e}}]}",
    ],
    &[
        "VirtualService e/inner\nspec: {http: [{match: [{uri: {prefix: /in/a}}], route: [{destination: {host: a}}]}]}",
        "VirtualService e/inner\nspec: {http: [{match: [{uri: {prefix: /y}}], route: [{destination: {host: a.d.svc.cluster.local, subset: v1}}]}]}",
        "VirtualService e/inner\nspec: {exportTo: ['.'], http: [{route: [{destination: {host: a}}]}]}",
    ],
    &[
        "DestinationRule d/a 2\nspec: {host: a, subsets: [{name: v1, labels: {version: v1}}]}",
        "DestinationRule d/a 2\nspec: {host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: v1, labels: {version: v2}, trafficPolicy: {tls: {mode: DISABLE}}}]}",
        "DestinationRule d/a 2\nspec: {host: '*.svc.cluster.local', trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: v1, labels: {}}]}",
        "DestinationRule d/a 2\nspec: {host: a, exportTo: ['.'], subsets: [{name: v1, labels: {}}]}",
    ],
    &[
        "DestinationRule d/b 1\nspec: {host: a, subsets: [{name: v1, labels: {version: v3}}]}",
        "DestinationRule d/b 3\nspec: {host: b.d.svc.cluster.local, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c}}, subsets: [{name: v2, labels: {version: v1}}]}",
    ],
    &[
        "DestinationRule istio-system/wide\nspec: {host: '*.d.svc.cluster.local', trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}",
        "DestinationRule istio-system/wide\nspec: {host: '*', trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}}",
    ],
    &[
        "ServiceEntry d/ext 2\nspec: {hosts: [ext.com], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}], resolution: DNS}",
        "ServiceEntry d/ext 2\nspec: {hosts: [ext.com, b.d.svc.cluster.local], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.2.0.1}]}",
        "ServiceEntry d/ext 2\nspec: {hosts: [ext.com], ports: [{number: 80, name: http, protocol: HTTP2, targetPort: 8080}], resolution: STATIC, workloadSelector: {labels: {version: v1}}}",
        "ServiceEntry d/ext 2\nspec: {hosts: [ext.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS, endpoints: [{address: two.com, labels: {version: v1}}, {address: one.com}]}",
    ],
    &[
        "ServiceEntry e/ext 1\nspec: {hosts: [ext.com], ports: [{number: 80, name: http, protocol: HTTP}], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.2.0.9, serviceAccount: s, labels: {security.istio.io/tlsMode: istio}}]}",
        "ServiceEntry e/ext 1\nspec: {hosts: [ext.com], exportTo: ['.'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.2.0.8}]}",
    ],
    &[
        "WorkloadEntry d/m\nspec: {address: 10.2.0.2, labels: {version: v1, app: a}}",
        "WorkloadEntry d/m\nspec: {address: 10.2.0.3, labels: {version: v2}}",
    ],
    &[
        "Pod d/p1\n  labels: {version: v1, security.istio.io/tlsMode: istio}\nspec: {serviceAccountName: one, containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.1.0.1}]}",
        "Pod d/p1\n  labels: {version: v2}\nspec: {serviceAccountName: two, containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.1.0.1}]}",
        "Pod d/p1\n  labels: {version: v1, security.istio.io/tlsMode: istio}\nspec: {serviceAccountName: one, containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.1.0.2}]}",
    ],
    &[
        "Pod e/p2\n  labels: {version: v1}\nspec: {containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.1.0.2}]}",
        "Pod e/p2\n  labels: {version: v3}\nspec: {containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.1.0.3}]}",
    ],
    &[
        "Secret istio-system/c\nstringData: {tls.crt: \"CERTIFICATE\", tls.key: \"KEY\", ca.crt: \"OTHER\"}",
        "Secret istio-system/c\nstringData: {tls.crt: \"OTHER\", tls.key: \"KEY\"}",
    ],
    &[
        "Secret d/istio.istio-ingressgateway-service-account\nstringData: {cert-chain.pem: \"CERTIFICATE\", key.pem: \"KEY\", root-cert.pem: \"OTHER\"}",
    ],
    &["Service d/a\nspec: {selector: {app: a}, ports: [{name: http, port: 80}]}"],
];

/// Names that are looked up, with the addresses that are found.
const RESOLVED: [(&str, &[&str]); 4] =
    [("ext.com", &["10.3.0.1"]), ("ext.com", &["10.3.0.2", "10.3.0.3"]), ("one.com", &["10.3.0.4"]), ("two.com", &[])];

type Form = Option<Vec<Object>>;

fn forms() -> Vec<Vec<Form>> {
    let read = |short: &&str| {
        let mut text = (*short).to_owned();
        for (name, pem) in [("CERTIFICATE\"", CERTIFICATE), ("OTHER\"", OTHER), ("KEY\"", KEY)] {
            text = text.replace(&format!("\"{name}"), &format!("\"{pem}\""));
        }
        Some(objects(&text).iter().cloned().collect())
    };
    FORMS.iter().chain(&ISTIO).map(|forms| forms.iter().map(read).chain([None]).collect()).collect()
}

/// A plan with what numbers stand for in their places, and all its rules and back ends.
fn spelled(plan: &Plan) -> Vec<String> {
    let replaced = |text: &str, pattern: &str, with: &dyn Fn(usize) -> String| {
        let pattern = regex::Regex::new(pattern).unwrap();
        let with = |found: &regex::Captures<'_>| format!("«{}»", with(found[1].parse().unwrap()));
        pattern.replace_all(text, with).into_owned()
    };
    let certificate = |id: usize| {
        let of = plan.certificates.get(id).unwrap();
        format!("{} {}", of.name, String::from_utf8_lossy(&of.chain))
    };
    let backend = |id: usize| {
        let text = format!("{:?}", plan.backends.get(id).unwrap());
        replaced(&text, r"client_certificate: Some\((\d+)\)", &certificate)
    };
    let rule = |id: usize| {
        let text = format!("{:?}", plan.rules.get(id).unwrap());
        replaced(&text, r"backend: Some\((\d+)\)", &backend)
    };
    let ports = plan.ports.iter().map(|port| {
        let text = replaced(&format!("{port:?}"), r"rule: (\d+)", &rule);
        let text = replaced(&text, r"backend: Some\((\d+)\)", &backend);
        replaced(&text, r"certificates: \[(\d+)\]", &certificate)
    });
    let mut all: Vec<String> = ports.collect();
    let used =
        |count: usize, is_there: &dyn Fn(usize) -> bool| (0..count).filter(|id| is_there(*id)).collect::<Vec<_>>();
    let mut rules: Vec<String> =
        used(plan.rules.len(), &|id| plan.rules.get(id).is_some()).into_iter().map(rule).collect();
    let mut backends: Vec<String> =
        used(plan.backends.len(), &|id| plan.backends.get(id).is_some()).into_iter().map(backend).collect();
    rules.sort();
    backends.sort();
    all.extend(rules);
    all.extend(backends);
    let certificates =
        used(plan.certificates.len(), &|id| plan.certificates.get(id).is_some()).into_iter().map(certificate);
    let mut certificates: Vec<String> = certificates.collect();
    certificates.sort();
    all.extend(certificates);
    all
}

fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("lastTransitionTime");
            fields.values_mut().for_each(without_times);
        }
        Value::Array(items) => items.iter_mut().for_each(without_times),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn statuses(compiler: &Compiler) -> BTreeMap<String, Value> {
    let mut all = compiler.statuses();
    for status in &mut all {
        without_times(&mut status.status);
    }
    all.into_iter().map(|status| (status.object.to_string(), status.status)).collect()
}

/// What changes cost: routes, gateways and ports that are compiled, and whether back ends are the very same.
#[test]
fn costs_what_it_touches() {
    const ROUTES: usize = 500;
    let mut short = "Gateway d/g\nspec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}, {name: other, port: 81, protocol: HTTP}]}\n---\nService d/a\nspec: {ports: [{port: 80}]}\n---\nService d/b\nspec: {ports: [{port: 80}]}\n---\nSecret d/unused\n---\nEndpointSlice d/a-1\n  labels: {kubernetes.io/service-name: a}\naddressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.1.0.1]}]".to_owned();
    for index in 0..ROUTES {
        let service = if index == 0 { "b" } else { "a" };
        write!(short, "\n---\nHTTPRoute d/r{index}\nspec: {{parentRefs: [{{name: g, sectionName: web}}], hostnames: [h{index}.com, all.com], rules: [{{matches: [{{path: {{value: /p{index}}}}}], backendRefs: [{{name: {service}, port: 80}}]}}]}}").unwrap();
    }
    let mut followed = Followed::default();
    assert_eq!(followed.becomes(&short, NOW).routes, ROUTES);
    let one = "hostnames: [h7.com, all.com]";
    let cases = [
        ("a route", one, "hostnames: [x.com, all.com]", (1, 0, 1), true),
        (
            "a route to another service",
            "value: /p8}}], backendRefs: [{name: a",
            "value: /p8}}], backendRefs: [{name: b",
            (1, 0, 1),
            true,
        ),
        ("endpoints", "10.1.0.1", "10.1.0.2", (0, 0, 0), false),
        (
            "a service that two refer to",
            "Service d/b\nspec: {ports: [{port: 80}",
            "Service d/b\nspec: {ports: [{port: 80, appProtocol: kubernetes.io/h2c}",
            (2, 0, 1),
            false,
        ),
        ("a secret that nobody refers to", "Secret d/unused", "Secret d/unused\ndata: {a: YQ==}", (0, 0, 0), true),
        (
            "labels of a gateway",
            "{gatewayClassName: strait, listeners",
            "{gatewayClassName: strait, infrastructure: {labels: {x: v}}, listeners",
            (0, 1, 2),
            true,
        ),
        ("another listener", "{name: other, port: 81", "{name: other, port: 82", (ROUTES, 1, 2), false),
        ("nothing", one, one, (0, 0, 0), true),
    ];
    for (title, from, to, expected, same) in cases {
        assert!(from == to || short.contains(from), "{title}");
        let before = followed.compiler.plan();
        short = short.replace(from, to);
        let found = followed.becomes(&short, NOW);
        assert_eq!((found.routes, found.gateways, found.ports), expected, "{title}");
        assert_eq!(followed.compiler.plan().backends.is_same(&before.backends), same, "{title}");
    }
}

/// The same where Istio has as many routes beside.
#[test]
fn costs_what_it_touches_with_istio() {
    const SERVICES: usize = 500;
    let mut short = "Gateway d/g\nspec: {gatewayClassName: strait, listeners: [{name: web, port: 80, protocol: HTTP}]}\n---\nHTTPRoute d/r\nspec: {parentRefs: [{name: g}], hostnames: [one.com], rules: [{backendRefs: [{name: a, port: 80}]}]}\n---\nIstioGateway d/i\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: web, protocol: HTTP}, hosts: ['*']}]}\n---\nIstioGateway d/j\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: tls, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}]}\n---\nService d/a\nspec: {ports: [{port: 80}]}\n---\nService d/b\nspec: {ports: [{port: 80}]}\n---\nEndpointSlice d/a-1\n  labels: {kubernetes.io/service-name: a}\naddressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.1.0.1]}]\n---\nPod d/p\n  labels: {version: v1}\nspec: {containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.1.0.1}]}\n---\nDestinationRule d/b\nspec: {host: b}\n---\nVirtualService d/shared\nspec: {hosts: [all.com], gateways: [i, j], http: [{match: [{uri: {prefix: /s}}], route: [{destination: {host: b}}]}]}".to_owned();
    for index in 0..SERVICES {
        write!(short, "\n---\nVirtualService d/v{index}\nspec: {{hosts: [h{index}.com, all.com], gateways: [i], http: [{{match: [{{uri: {{prefix: /p{index}}}}}], route: [{{destination: {{host: a}}}}]}}]}}").unwrap();
    }
    let mut followed = Followed::default();
    let count = |of: strait_route::Recompiled| {
        (of.routes, of.gateways, of.ports, of.virtual_services, of.destinations, of.hosts)
    };
    assert_eq!(count(followed.becomes(&short, NOW)), (1, 1, 3, SERVICES + 2, 0, SERVICES + 2));
    let cases = [
        ("a virtual service", "hosts: [h7.com, all.com]", "hosts: [x.com, all.com]", (0, 0, 1, 1, 0, 3)),
        ("one of two gateways", "prefix: /s}}", "prefix: /t}}", (0, 0, 2, 2, 0, 2)),
        (
            "another destination",
            "prefix: /p8}}], route: [{destination: {host: a",
            "prefix: /p8}}], route: [{destination: {host: b",
            (0, 0, 1, 1, 0, 2),
        ),
        ("a route of the Gateway API", "hostnames: [one.com]", "hostnames: [two.com]", (1, 0, 1, 0, 0, 0)),
        (
            "a gateway of the Gateway API",
            "name: web, port: 80, protocol: HTTP}]}",
            "name: web, port: 81, protocol: HTTP}]}",
            (1, 1, 1, 0, 0, 0),
        ),
        (
            "endpoints",
            "endpoints: [{addresses: [10.1.0.1]}]",
            "endpoints: [{addresses: [10.1.0.2]}]",
            (0, 0, 0, 0, 1, 0),
        ),
        ("a pod that nobody tells apart", "labels: {version: v1}", "labels: {version: v2}", (0, 0, 0, 0, 0, 0)),
        ("a rule", "spec: {host: b}", "spec: {host: b, trafficPolicy: {tls: {mode: SIMPLE}}}", (0, 0, 0, 0, 2, 0)),
        (
            "a server of a gateway",
            "hosts: ['*'], tls: {mode: SIMPLE",
            "hosts: ['*.com'], tls: {mode: SIMPLE",
            (0, 0, 1, 0, 0, 1),
        ),
        (
            "all of a gateway",
            "Gateway d/i\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80,",
            "Gateway d/i\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 81,",
            (0, 0, 1, SERVICES + 1, 0, SERVICES + 1),
        ),
        ("nothing", "h9.com", "h9.com", (0, 0, 0, 0, 0, 0)),
    ];
    for (title, from, to, expected) in cases {
        assert!(short.contains(from), "{title}");
        short = short.replace(from, to);
        assert_eq!(count(followed.becomes(&short, NOW)), expected, "{title}");
    }
}

/// Follows changes, each of some objects at once, and compares with all objects compiled at once.
fn follow(steps: &[Vec<(usize, usize)>]) {
    let forms = forms();
    let mut followed = Followed::default();
    let mut chosen: Vec<Form> = vec![None; forms.len()];
    for (at, step) in steps.iter().enumerate() {
        for (which, form) in step {
            if let Some(of) = forms.get(*which) {
                chosen[*which].clone_from(&of[form % of.len()]);
                continue;
            }
            let (name, addresses) = RESOLVED[form % RESOLVED.len()];
            followed.resolved.insert(name.into(), addresses.iter().map(|address| address.parse().unwrap()).collect());
        }
        let objects: Objects = chosen.iter().flatten().flatten().cloned().collect();
        let now = format!("2026-01-01T00:00:{at:02}Z");
        let before = followed.compiler.statuses();
        let recompiled = followed.follow(objects, &now);
        let mut whole = Compiler::new();
        let all: Vec<_> = followed.objects.iter().map(Object::key).collect();
        whole.update(&followed.objects, &all, &followed.assigned, &followed.resolved, &now);
        let (found, expected) = (statuses(&followed.compiler), statuses(&whole));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "step {at}: {step:?}");
        for (object, status) in &expected {
            assert_eq!(found[object], *status, "step {at}: {object}");
        }
        let (found, expected) = (spelled(&followed.compiler.plan()), spelled(&whole.plan()));
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "step {at}");
        }
        assert_eq!(found.len(), expected.len(), "step {at}");
        let told = |compiler: &Compiler| compiler.troubles().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(&followed.compiler), told(&whole), "step {at}");
        assert_eq!(followed.compiler.names(), whole.names(), "step {at}");
        // Whatever is said to be as it was is, and the other way round.
        let after = followed.compiler.statuses();
        for status in before.iter().chain(&after).filter(|of| !recompiled.statuses.contains(&of.object)) {
            let same = |all: &[Status]| all.iter().any(|of| of == status);
            assert!(same(&before) && same(&after), "step {at}: {} is another", status.object);
        }
        let (before, after) = (times(&before), times(&after));
        for (condition, (status, time)) in &after {
            let kept = before.get(condition).filter(|(before, _)| before == status);
            assert_eq!(*time, kept.map_or(now.clone(), |(_, time)| time.clone()), "step {at}: {condition}");
        }
    }
}

/// Of each condition, by its object, listener or parent, and type: its status, and since when it is so.
fn times(statuses: &[Status]) -> BTreeMap<String, (Value, String)> {
    fn collect(of: &str, value: &Value, out: &mut BTreeMap<String, (Value, String)>) {
        let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
        for condition in list("conditions") {
            let since = condition["lastTransitionTime"].as_str().unwrap().to_owned();
            out.insert(format!("{of} {}", condition["type"]), (condition["status"].clone(), since));
        }
        for (parts, name) in [("listeners", "name"), ("parents", "parentRef"), ("ancestors", "ancestorRef")] {
            for part in list(parts) {
                collect(&format!("{of} {}", part[name]), &part, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    for status in statuses {
        collect(&status.object.to_string(), &status.status, &mut out);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_changes(steps in prop::collection::vec(prop::collection::vec((0_usize..FORMS.len(), 0_usize..6), 1..4), 1..24)) {
        // All there from the start, but for Istio's.
        let first = (0..FORMS.len()).map(|which| (which, 0)).collect();
        let steps: Vec<_> = [first].into_iter().chain(steps).collect();
        follow(&steps);
    }

    #[test]
    fn any_changes_of_istio(steps in prop::collection::vec(prop::collection::vec((0_usize..=FORMS.len() + ISTIO.len(), 0_usize..6), 1..5), 1..16)) {
        let first = (0..FORMS.len() + ISTIO.len() - 1).map(|which| (which, 0)).collect();
        let steps: Vec<_> = [first].into_iter().chain(steps).collect();
        follow(&steps);
    }

    #[test]
    fn any_changes_among_istio_alone(steps in prop::collection::vec(prop::collection::vec((FORMS.len()..=FORMS.len() + ISTIO.len(), 0_usize..6), 1..5), 1..24)) {
        let services = FORMS.iter().position(|forms| forms[0].starts_with("Service")).unwrap();
        let first = (services..services + 5).chain(FORMS.len()..FORMS.len() + ISTIO.len() - 1).map(|which| (which, 0)).collect();
        let steps: Vec<_> = [first].into_iter().chain(steps).collect();
        follow(&steps);
    }
}
