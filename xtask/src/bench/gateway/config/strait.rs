//! Strait: Gateway API manifests, an object of its own for each route.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::{BACKEND, Wanted, route};

/// The port of the listener; another one is listened on.
pub(in super::super) const PORT: u16 = 80;

pub(in super::super) fn write(wanted: &Wanted) -> Result<()> {
    let folder = wanted.folder.join("manifests");
    fs::create_dir_all(&folder)?;
    let objects = [vec![gateway(wanted)], credentials(wanted)?, backends(wanted)].concat();
    let objects: Vec<_> = objects.iter().map(Value::to_string).collect();
    fs::write(folder.join("edge.yaml"), objects.join("\n---\n"))?;
    for number in 0..wanted.shape.routes {
        write_route(wanted, number)?;
    }
    Ok(())
}

/// One route in its file, in the place of the one before.
pub(in super::super) fn write_route(wanted: &Wanted, number: usize) -> Result<()> {
    let folder = wanted.folder.join("manifests");
    let draft = wanted.folder.join("draft");
    fs::write(&draft, http_or_tcp_route(wanted, number).to_string())?;
    fs::rename(draft, folder.join(format!("route-{number}.json")))?;
    Ok(())
}

fn gateway(wanted: &Wanted) -> Value {
    let shape = wanted.shape;
    let mut listener = json!({ "name": "edge", "port": PORT, "protocol": if shape.tcp { "TCP" } else { "HTTP" } });
    if shape.mtls {
        listener["protocol"] = json!("HTTPS");
        listener["tls"] = json!({ "certificateRefs": [{ "name": "server" }] });
    }
    let mut spec = json!({
        "gatewayClassName": "strait", "listeners": [listener],
        "addresses": [{ "value": wanted.at.ip().to_string() }],
    });
    if shape.mtls {
        spec["tls"] = json!({
            "frontend": { "default": { "validation": { "caCertificateRefs": [authority()] } } },
            "backend": { "clientCertificateRef": { "name": "client" } },
        });
    }
    object("gateway.networking.k8s.io/v1", "Gateway", "edge", &spec)
}

fn credentials(wanted: &Wanted) -> Result<Vec<Value>> {
    if !wanted.shape.mtls {
        return Ok(Vec::new());
    }
    let read = |name: &str| fs::read_to_string(wanted.certificates.join(name));
    let secret = |name: &str| -> Result<Value> {
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": read(&format!("{name}.pem"))?, "tls.key": read(&format!("{name}.key"))? },
        }))
    };
    let authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "ca" }, "data": { "ca.crt": read("ca.pem")? },
    });
    Ok(vec![secret("server")?, secret("client")?, authority])
}

fn authority() -> Value {
    json!({ "group": "", "kind": "ConfigMap", "name": "ca" })
}

fn backends(wanted: &Wanted) -> Vec<Value> {
    let shape = wanted.shape;
    let mut objects = Vec::new();
    for (name, at) in ["a", "b"].into_iter().zip(wanted.backends) {
        let mut port = json!({ "port": PORT });
        if shape.http2 && !shape.mtls {
            port["appProtocol"] = json!("kubernetes.io/h2c");
        }
        objects.push(object("v1", "Service", name, &json!({ "ports": [port] })));
        objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4", "ports": [{ "port": at.port() }],
            "endpoints": [{ "addresses": [at.ip().to_string()] }],
        }));
        if shape.mtls {
            let spec = json!({
                "targetRefs": [{ "group": "", "kind": "Service", "name": name }],
                "validation": { "hostname": BACKEND, "caCertificateRefs": [authority()] },
            });
            objects.push(object("gateway.networking.k8s.io/v1", "BackendTLSPolicy", name, &spec));
        }
    }
    objects
}

fn http_or_tcp_route(wanted: &Wanted, number: usize) -> Value {
    let to = json!([{ "name": wanted.backend(number), "port": PORT }]);
    let parents = json!([{ "name": "edge" }]);
    let name = format!("r{number}");
    if wanted.shape.tcp {
        let spec = json!({ "parentRefs": parents, "rules": [{ "backendRefs": to }] });
        return object("gateway.networking.k8s.io/v1", "TCPRoute", &name, &spec);
    }
    let (host, path) = route(number);
    let spec = json!({
        "parentRefs": parents, "hostnames": [host],
        "rules": [{
            "matches": [{ "path": { "type": "PathPrefix", "value": path } }],
            "timeouts": { "request": "15s" }, "backendRefs": to,
        }],
    });
    object("gateway.networking.k8s.io/v1", "HTTPRoute", &name, &spec)
}

fn object(version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name }, "spec": spec })
}
