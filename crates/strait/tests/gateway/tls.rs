//! HTTPS listeners: certificates by name, listeners by name, requests that are for another one.

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::bed::{Gate, app, curl};

fn secret(name: &str, host: &str) -> String {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([host.to_owned()]).unwrap();
    let indent = |pem: &str| pem.lines().fold(String::new(), |out, line| out + "\n    " + line);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |{}\n  tls.key: |{}\n---\n",
        indent(&cert.pem()),
        indent(&signing_key.serialize_pem()),
    )
}

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: strait
  listeners:
  - {name: a, port: 443, protocol: HTTPS, hostname: a.example, tls: {certificateRefs: [{name: a}]}}
  - {name: b, port: 443, protocol: HTTPS, hostname: \"*.b.example\", tls: {certificateRefs: [{name: b}]}}
  - {name: missing, port: 443, protocol: HTTPS, hostname: c.example, tls: {certificateRefs: [{name: c}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: one, port: 8080}]}]}
";

#[test]
fn names() {
    let text = format!("{}{}{}{GATEWAY}", app("one"), secret("a", "a.example"), secret("b", "*.b.example"));
    let gate = Gate::of(&[("all.yaml", &text)]);
    let at = gate.at("edge", 443);
    let ask = |name: &str, arguments: &[&str]| {
        let to = format!("::{at}");
        curl(&[&["--connect-to", &to], arguments].concat(), &format!("https://{name}/"))
    };
    assert_eq!(ask("a.example", &[]).pod(), "one-0");
    assert_eq!(ask("x.b.example", &[]).pod(), "one-0");
    // Without a listener, or with one whose certificate is missing, there is nobody to shake hands with.
    assert_eq!(ask("c.example", &[]).status, 0);
    assert_eq!(ask("d.example", &[]).status, 0);
    // What is for another listener is not served on a connection that was made for this one.
    assert_eq!(ask("a.example", &["-H", "Host: x.b.example"]).status, 421);
    assert_eq!(ask("a.example", &["-H", "Host: nobody.example"]).status, 404);
    assert_eq!(ask("a.example", &[]).echo()["headers"]["X-Forwarded-Proto"][0], "https");
    let status = std::fs::read_to_string(&gate.status).unwrap();
    assert!(
        status.contains("reason: InvalidCertificateRef") && status.contains("reason: ListenersNotValid"),
        "{status}"
    );
}
