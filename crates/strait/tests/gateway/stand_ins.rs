//! What `strait try` stands in for: names that policies check are checked, whoever signed.

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::bed::{Gate, app, curl, http};

fn map(name: &str, pem: &str) -> String {
    let pem = pem.lines().fold(String::new(), |out, line| out + "\n    " + line);
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  ca.crt: |{pem}\n---\n")
}

fn policy(name: &str, service: &str, hostname: &str, authority: &str, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {name}}}\nspec:\n  targetRefs: [{{group: '', kind: Service, name: {service}}}]\n  \
         validation: {{hostname: {hostname}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: {authority}}}]{more}}}\n---\n"
    )
}

#[test]
fn believed() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["own.internal".to_owned()]).unwrap();
    let CertifiedKey { cert: stranger, .. } = generate_simple_self_signed(["stranger".to_owned()]).unwrap();
    let indent = |pem: &str| pem.lines().fold(String::new(), |out, line| out + "\n    " + line);
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: own}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |{}\n  tls.key: |{}\n---\n",
        indent(&cert.pem()),
        indent(&signing_key.serialize_pem())
    );
    let mounts = |name: &str| {
        app(name).replace("containers: [", "volumes: [{name: own, secret: {secretName: own}}], containers: [")
    };
    let rule = |service: &str| {
        format!("  - matches: [{{path: {{value: /{service}}}}}]\n    backendRefs: [{{name: {service}, port: 8080}}]\n")
    };
    let services = ["plain", "named", "mounted", "misnamed", "malformed"];
    let text = [
        secret,
        map("ca", &cert.pem()),
        map("stranger", &stranger.pem()),
        map("malformed", "Hello"),
        app("plain"),
        app("named"),
        mounts("mounted"),
        mounts("misnamed"),
        app("malformed"),
        policy("plain", "plain", "plain.internal", "stranger", ""),
        policy(
            "named",
            "named",
            "sni.internal",
            "ca",
            ", subjectAltNames: [{type: URI, uri: \"spiffe://cluster.local/ns/default/sa/named\"}]",
        ),
        policy("mounted", "mounted", "own.internal", "ca", ""),
        policy("misnamed", "misnamed", "other.internal", "ca", ""),
        policy("malformed", "malformed", "malformed.internal", "malformed", ""),
        http(&services.map(rule).concat()),
    ];
    let gate = Gate::of(&[("all.yaml", &text.concat())]);
    let ask = |service: &str| curl(&[], &format!("http://{}/{service}", gate.at("edge", 80)));
    for (service, name) in [("plain", "plain.internal"), ("named", "sni.internal"), ("mounted", "own.internal")] {
        let answer = ask(service);
        assert_eq!(answer.status, 200, "{service}: {answer:?}");
        assert_eq!(answer.echo()["tls"]["serverName"], name, "{service}");
    }
    assert_eq!(ask("misnamed").status, 503, "the pod's own certificate is for another name");
    assert_eq!(ask("malformed").status, 500);
}
