//! What the specification says of features that are not in the suite's listed cases, asked with real requests.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::{
    bed::{Gate, app, curl, http},
    h2_server::{ask, connect, run},
};

fn pem(name: &str, text: &str) -> String {
    let indented = text.lines().fold(String::new(), |out, line| out + "\n    " + line);
    format!("  {name}: |{indented}\n")
}

/// Filters of back ends: their redirects answer, their rewrites and headers are for their share alone.
#[test]
fn filters_of_back_ends() {
    // HTTPRouteBackendRequestRedirect, HTTPRouteBackendURLRewrite, HTTPRouteRequestHeaderModifierBackendWeights
    let rules = [
        "  - matches: [{path: {value: /redirect}}]\n    backendRefs: [{name: one, port: 8080, filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /to}}}]}]\n",
        "  - matches: [{path: {value: /rewrite}}]\n    backendRefs: [{name: one, port: 8080, filters: [{type: URLRewrite, urlRewrite: {hostname: one.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}}]}, {name: two, port: 8080, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /whole}}}, {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Two, value: two}]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-From, value: two}]}}]}]\n",
        "  - matches: [{path: {value: /closed}}]\n    filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: one, port: 8080}}}]\n    backendRefs: [{name: one, port: 8080}]\n",
        "  - matches: [{path: {value: /}}]\n    backendRefs: [{name: two, port: 8080}]\n",
    ];
    let gate = Gate::of(&[("all.yaml", &(app("one") + &app("two") + &http(&rules.concat())))]);
    let ask = |path: &str| curl(&["-H", "Host: shop.example"], &format!("http://{}{path}", gate.at("edge", 80)));
    let answer = ask("/redirect/x");
    assert_eq!((answer.status, answer.header("location")), (301, Some("http://example.org/to/x")));
    for _ in 0..4 {
        let answer = ask("/rewrite/x");
        let echo = answer.echo();
        if answer.pod().starts_with("one") {
            assert_eq!((echo["path"].as_str(), echo["host"].as_str()), (Some("/one/x"), Some("one.example")));
            assert_eq!((&echo["headers"]["X-Two"], answer.header("x-from")), (&serde_json::Value::Null, None));
        } else {
            assert_eq!((echo["path"].as_str(), echo["host"].as_str()), (Some("/whole"), Some("shop.example")));
            assert_eq!(answer.header("x-from"), Some("two"), "{echo}");
        }
    }
    // What cannot be asked whether it may is refused, and goes to no wider rule.
    assert_eq!(ask("/closed/x").status, 500);
    assert_eq!(ask("/open").status, 200);
    let status = std::fs::read_to_string(&gate.status).unwrap();
    assert!(status.contains("type: PartiallyInvalid") && status.contains("Dropped Rule 3"), "{status}");
}

/// One port with a listener that ends TLS and one that passes it on, and a third that ends it and begins it anew.
#[test]
fn tls_routes_of_both_modes() {
    // TLSRouteMixedTerminationSameNamespace, TLSRouteTerminateSimpleSameNamespace, BackendTLSPolicyTLSRouteTerminate
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["term.example".to_owned()]).unwrap();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: own}\ntype: kubernetes.io/tls\nstringData:\n"
        .to_owned()
        + &pem("tls.crt", &cert.pem())
        + &pem("tls.key", &signing_key.serialize_pem())
        + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca}\ndata:\n"
        + &pem("ca.crt", &cert.pem());
    let route = |name: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {{name: {name}}}\n\
             spec: {{parentRefs: [{{name: edge}}], hostnames: [{name}.example], rules: [{{backendRefs: [{{name: {name}, port: 8080}}]}}]}}\n"
        )
    };
    let listeners = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  gatewayClassName: strait\n  listeners:\n  \
        - {name: pass, port: 443, protocol: TLS, hostname: pass.example, tls: {mode: Passthrough}}\n  \
        - {name: term, port: 443, protocol: TLS, hostname: term.example, tls: {mode: Terminate, certificateRefs: [{name: own}]}}\n  \
        - {name: again, port: 443, protocol: TLS, hostname: again.example, tls: {mode: Terminate, certificateRefs: [{name: own}]}}\n";
    let policy = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: again}\nspec:\n  targetRefs: [{group: '', kind: Service, name: again}]\n  validation: {hostname: inside.example, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}\n";
    let apps = [app("pass"), app("term"), app("again")].concat();
    let text = [&apps, secret.as_str(), listeners, &route("pass"), &route("term"), &route("again"), policy].concat();
    let gate = Gate::of(&[("all.yaml", &text)]);
    let at = gate.at("edge", 443);
    for (name, inside) in [("pass", "pass.example"), ("term", ""), ("again", "inside.example")] {
        let answer = curl(&["--connect-to", &format!("::{at}"), "--http1.1"], &format!("https://{name}.example/"));
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert_eq!(answer.pod(), format!("{name}-0"), "{name}");
        assert_eq!(answer.echo()["tls"]["serverName"].as_str().unwrap_or_default(), inside, "{name}: {}", answer.body);
    }
}

/// Calls to back ends that are spoken to by TLS; and edits of calls' fields.
#[test]
fn calls_over_tls() {
    // BackendTLSPolicyGRPCRoute, GRPCRouteRequestHeaderModifier
    const ECHO: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";
    let CertifiedKey { cert, .. } = generate_simple_self_signed(["ca".to_owned()]).unwrap();
    let text = app("one")
        + "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca}\ndata:\n"
        + &pem("ca.crt", &cert.pem())
        + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: one}\nspec:\n  targetRefs: [{group: '', kind: Service, name: one}]\n  validation: {hostname: calls.example, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}\n\
           ---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {gatewayClassName: strait, listeners: [{name: http, port: 80, protocol: HTTP}]}\n\
           ---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: calls}\nspec:\n  parentRefs: [{name: edge}]\n  rules:\n  \
           - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: by-route}], remove: [X-Gone]}}]\n    backendRefs: [{name: one, port: 8080}]\n    sessionPersistence: {sessionName: calls}\n";
    let gate = Gate::of(&[("all.yaml", &text)]);
    let answer = run(async {
        let (send, _connection) = connect(gate.at("edge", 80)).await;
        let request = Request::post(format!("http://a.example/{ECHO}/Echo"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-gone", "1")
            .body(())
            .unwrap();
        ask(&send, request, Bytes::from_static(&[0; 5]), HeaderMap::new()).await.unwrap()
    });
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.trailers.get("grpc-status").map(HeaderValue::as_bytes), Some(&b"0"[..]), "{answer:?}");
    assert!(body.contains("by-route") && !body.to_lowercase().contains("x-gone"), "{body}");
    assert!(body.contains("calls.example"), "it came by TLS: {body}");
    let cookie = answer.headers.get("set-cookie").and_then(|cookie| cookie.to_str().ok()).unwrap_or_default();
    assert!(cookie.starts_with("calls=") && cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
}
