//! Envoy: one listener, routes from a file that it watches, statistics as they are by default.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::{BACKEND, Wanted, route};

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

pub(in super::super) fn write(wanted: &Wanted) -> Result<()> {
    write_routes(wanted)?;
    let shape = wanted.shape;
    let filter = if shape.tcp {
        json!({
            "name": "tcp", "typed_config": {
                "@type": format!("{EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "edge", "cluster": "a", "idle_timeout": "300s",
            },
        })
    } else {
        manager(wanted)
    };
    let mut chain = json!({ "filters": [filter] });
    if shape.mtls {
        chain["transport_socket"] = json!({
            "name": "tls", "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "require_client_certificate": true, "common_tls_context": context(wanted, "server", None),
            },
        });
    }
    let clusters: Vec<Value> =
        ["a", "b"].into_iter().zip(wanted.backends).map(|(name, at)| cluster(wanted, name, at)).collect();
    let all = json!({
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": address(([127, 90, 0, 2], 0).into()) },
        "static_resources": {
            "listeners": [{ "name": "edge", "address": address(wanted.at), "filter_chains": [chain] }],
            "clusters": clusters,
        },
    });
    fs::write(wanted.folder.join("envoy.json"), serde_json::to_vec(&all)?)?;
    Ok(())
}

/// Routes alone, in the place of those before at once: that is when Envoy reads them.
fn write_routes(wanted: &Wanted) -> Result<()> {
    let hosts: Vec<Value> = (0..wanted.shape.routes)
        .map(|number| {
            let (host, path) = route(number);
            json!({
                "name": host, "domains": [host], "routes": [{
                    "match": { "path_separated_prefix": path },
                    "route": { "cluster": wanted.backend(number), "timeout": "15s" },
                }],
            })
        })
        .collect();
    let routes = json!({
        "version_info": format!("{:?}", wanted.changed),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "routes", "virtual_hosts": hosts,
        }],
    });
    let draft = wanted.folder.join("draft");
    fs::write(&draft, serde_json::to_vec(&routes)?)?;
    fs::rename(draft, wanted.folder.join("routes.json"))?;
    Ok(())
}

fn manager(wanted: &Wanted) -> Value {
    let mut manager = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "edge",
        "codec_type": if wanted.shape.http2 { "HTTP2" } else { "HTTP1" },
        "use_remote_address": true,
        "normalize_path": true,
        "request_headers_timeout": "15s",
        "common_http_protocol_options": { "idle_timeout": "300s" },
        "rds": {
            "route_config_name": "routes",
            "config_source": {
                "resource_api_version": "V3", "path_config_source": { "path": wanted.file("routes.json") },
            },
        },
        "http_filters": [{
            "name": "router", "typed_config": { "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router") },
        }],
    });
    if wanted.shape.observed {
        manager["access_log"] = json!([{
            "name": "file", "typed_config": {
                "@type": format!("{EXTENSIONS}.access_loggers.file.v3.FileAccessLog"),
                "path": wanted.file("access.log"),
                "log_format": { "json_format": {
                    "time": "%START_TIME%", "client": "%DOWNSTREAM_REMOTE_ADDRESS%", "method": "%REQ(:METHOD)%",
                    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "protocol": "%PROTOCOL%", "status": "%RESPONSE_CODE%",
                    "flags": "%RESPONSE_FLAGS%", "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%",
                    "duration": "%DURATION%", "response": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
                    "authority": "%REQ(:AUTHORITY)%", "agent": "%REQ(USER-AGENT)%", "id": "%REQ(X-REQUEST-ID)%",
                    "upstream": "%UPSTREAM_HOST%", "cluster": "%UPSTREAM_CLUSTER%", "route": "%ROUTE_NAME%",
                }},
            },
        }]);
    }
    json!({ "name": "http", "typed_config": manager })
}

fn cluster(wanted: &Wanted, name: &str, at: std::net::SocketAddr) -> Value {
    let shape = wanted.shape;
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(at) } }] }],
        },
    });
    if shape.http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
    }
    if shape.mtls {
        cluster["transport_socket"] = json!({
            "name": "tls", "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext"),
                "sni": BACKEND, "common_tls_context": context(wanted, "client", Some(BACKEND)),
            },
        });
    }
    cluster
}

/// A certificate of its own, and whose it believes.
fn context(wanted: &Wanted, own: &str, name: Option<&str>) -> Value {
    let file = |name: &str| json!({ "filename": wanted.certificate(name) });
    let mut validation = json!({ "trusted_ca": file("ca.pem") });
    if let Some(name) = name {
        validation["match_typed_subject_alt_names"] = json!([{ "san_type": "DNS", "matcher": { "exact": name } }]);
    }
    json!({
        "alpn_protocols": [if wanted.shape.http2 { "h2" } else { "http/1.1" }],
        "tls_certificates": [{
            "certificate_chain": file(&format!("{own}.pem")), "private_key": file(&format!("{own}.key")),
        }],
        "validation_context": validation,
    })
}

fn address(at: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}
