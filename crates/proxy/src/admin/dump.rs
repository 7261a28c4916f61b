//! The plan that is served, as JSON.

use jiff::Timestamp;
use serde_json::{Value, json};
use strait_route::{
    Authorities, Backend, BackendProtocol, Filter, HostTable, HttpListener, Plan, PortPlan, RouteTable, Rule, Serve,
    Split, Terminate, TlsListener, TlsThen,
};

use super::certificate;

/// All of a plan but private keys and the values of edited fields, which may be credentials.
pub(crate) fn dump(plan: &Plan, generation: u64, since: Option<Timestamp>) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": generation,
        "appliedAt": since.map(|since| since.to_string()),
        "listeners": plan.ports.iter().map(|port| listener(plan, port)).collect::<Vec<_>>(),
        "routes": plan.rules.iter().map(|rule| route(plan, rule)).collect::<Vec<_>>(),
        "backends": plan.backends.iter().map(|of| backend(plan, of)).collect::<Vec<_>>(),
        "certificates": plan.certificates.iter().map(certificate::dump).collect::<Vec<_>>(),
    })
}

fn listener(plan: &Plan, port: &PortPlan) -> Value {
    let by_name = |(name, split): (String, &Split)| json!({ "serverName": name, "split": targets(plan, split) });
    let mut value = match &port.serve {
        Serve::Http(listeners) => json!({
            "protocol": "HTTP",
            "listeners": listeners.iter().map(|(host, of)| http(plan, &host, of)).collect::<Vec<_>>(),
        }),
        Serve::Tls(listeners) => json!({
            "protocol": "TLS",
            "listeners": listeners.iter().map(|(host, of)| tls(plan, &host, of, &by_name)).collect::<Vec<_>>(),
        }),
        Serve::Tcp(split) => json!({ "protocol": "TCP", "split": split.as_ref().map(|split| targets(plan, split)) }),
        Serve::Udp(split) => json!({ "protocol": "UDP", "split": split.as_ref().map(|split| targets(plan, split)) }),
    };
    value["gateway"] = (*port.gateway).into();
    value["address"] = port.address.to_string().into();
    value["port"] = port.port.into();
    value
}

fn http(plan: &Plan, host: &str, listener: &HttpListener) -> Value {
    json!({ "name": &*listener.name, "hostname": host, "hosts": hosts(plan, &listener.hosts) })
}

fn hosts(plan: &Plan, hosts: &HostTable<RouteTable>) -> Vec<Value> {
    let host = |(name, table): (String, &RouteTable)| {
        let rules: std::collections::BTreeSet<_> = table.rules().into_iter().collect();
        let routes = rules.into_iter().filter_map(|rule| plan.rules.get(rule as usize));
        let routes: Vec<_> =
            routes.map(|rule| json!({ "name": &*rule.name, "location": rule.location.to_string() })).collect();
        json!({ "host": name, "routes": routes })
    };
    hosts.iter().map(host).collect()
}

fn tls(plan: &Plan, host: &str, listener: &TlsListener, by_name: &impl Fn((String, &Split)) -> Value) -> Value {
    let mut value = match &listener.then {
        TlsThen::Http(terminate, listener) => json!({
            "mode": "Terminate",
            "tls": terminated(plan, terminate),
            "hosts": hosts(plan, &listener.hosts),
        }),
        TlsThen::Tcp(terminate, names) => json!({
            "mode": "Terminate",
            "tls": terminated(plan, terminate),
            "serverNames": names.iter().map(by_name).collect::<Vec<_>>(),
        }),
        TlsThen::Passthrough(names) => {
            json!({ "mode": "Passthrough", "serverNames": names.iter().map(by_name).collect::<Vec<_>>() })
        }
        TlsThen::Mesh(names) => {
            json!({ "mode": "AutoPassthrough", "serverNames": names.iter().map(by_name).collect::<Vec<_>>() })
        }
    };
    value["name"] = (*listener.name).into();
    value["hostname"] = host.into();
    value
}

fn terminated(plan: &Plan, terminate: &Terminate) -> Value {
    let names = terminate.certificates.iter().map(|id| certificate_name(plan, *id)).collect::<Vec<_>>();
    let clients = terminate.clients.as_ref().map(|clients| {
        json!({ "insecureFallback": clients.insecure_fallback, "authorities": !clients.authorities.is_empty() })
    });
    json!({ "certificates": names, "clientValidation": clients })
}

fn certificate_name(plan: &Plan, id: u32) -> Option<&str> {
    plan.certificates.get(id as usize).map(|certificate| &*certificate.name)
}

fn route(plan: &Plan, rule: &Rule) -> Value {
    json!({
        "name": &*rule.name,
        "location": rule.location.to_string(),
        "filters": filters(plan, &rule.filters),
        "backends": targets(plan, &rule.split),
        "timeout": rule.request_timeout.map(|timeout| format!("{timeout:?}")),
        "backendTimeout": rule.backend_request_timeout.map(|timeout| format!("{timeout:?}")),
    })
}

fn targets(plan: &Plan, split: &Split) -> Vec<Value> {
    let target = |target: &strait_route::WeightedBackend| {
        json!({
            "backend": target.backend.and_then(|id| backend_name(plan, id)),
            "weight": target.weight,
            "filters": filters(plan, &target.filters),
        })
    };
    split.targets.iter().map(target).collect()
}

fn backend_name(plan: &Plan, id: u32) -> Option<&str> {
    plan.backends.get(id as usize).map(|backend| &*backend.name)
}

fn filters(plan: &Plan, filters: &[Filter]) -> Vec<Value> {
    let edits = |of: &strait_route::Edits| {
        let names = |pairs: &[(std::sync::Arc<str>, std::sync::Arc<str>)]| {
            pairs.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        json!({ "set": names(&of.set), "add": names(&of.add), "remove": of.remove.iter().map(ToString::to_string).collect::<Vec<_>>() })
    };
    let filter = |filter: &Filter| match filter {
        Filter::RequestHeaders(of) => json!({ "type": "RequestHeaderModifier", "names": edits(of) }),
        Filter::ResponseHeaders(of) => json!({ "type": "ResponseHeaderModifier", "names": edits(of) }),
        Filter::Redirect(of) => json!({
            "type": "RequestRedirect",
            "scheme": of.scheme.as_deref(),
            "hostname": of.hostname.as_deref(),
            "path": of.path.as_ref().map(|path| format!("{path:?}")),
            "port": format!("{:?}", of.port),
            "statusCode": of.status,
        }),
        Filter::Rewrite(of) => json!({
            "type": "URLRewrite",
            "hostname": of.hostname.as_deref(),
            "path": of.path.as_ref().map(|path| format!("{path:?}")),
        }),
        Filter::Mirror(of) => json!({
            "type": "RequestMirror",
            "backend": of.backend.and_then(|id| backend_name(plan, id)),
            "fraction": { "numerator": of.fraction.0, "denominator": of.fraction.1 },
        }),
        Filter::Cors(_) | Filter::CorsPolicy(_) => json!({ "type": "CORS" }),
        Filter::Direct(of) => json!({ "type": "DirectResponse", "status": of.status, "bytes": of.body.len() }),
        Filter::Fault(of) => json!({ "type": "Fault", "fault": format!("{of:?}") }),
        Filter::Unknown => json!({ "type": null }),
    };
    filters.iter().map(filter).collect()
}

fn backend(plan: &Plan, backend: &Backend) -> Value {
    let endpoint =
        |endpoint: &strait_route::Endpoint| std::net::SocketAddr::new(endpoint.address, endpoint.port).to_string();
    let tls = backend.tls.as_ref().map(|tls| {
        json!({
            "hostname": &*tls.hostname,
            "authorities": match &tls.authorities {
                None => "none",
                Some(Authorities::System) => "system",
                Some(Authorities::Anyone) => "anyone",
                Some(Authorities::Pem(_)) => "given",
            },
            "clientCertificate": tls.client_certificate.and_then(|id| certificate_name(plan, id)),
        })
    });
    json!({
        "name": &*backend.name,
        "protocol": match backend.protocol {
            BackendProtocol::Http1 => "http/1.1",
            BackendProtocol::WebSocket => "ws",
            BackendProtocol::Http2 => "h2",
        },
        "tls": tls,
        "endpoints": backend.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
