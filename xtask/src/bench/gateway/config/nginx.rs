//! nginx: kept connections to upstreams, a server for each host.

use std::{fmt::Write as _, fs};

use anyhow::Result;

use super::{BACKEND, Wanted, route};

pub(in super::super) fn write(wanted: &Wanted) -> Result<()> {
    let shape = wanted.shape;
    let mut text = format!(
        "user root;\nworker_processes 1;\ndaemon off;\npid {};\nerror_log {} error;\nevents {{ worker_connections 30000; }}\n",
        wanted.file("nginx.pid"),
        wanted.file("error.log")
    );
    if shape.tcp {
        text.insert_str(0, "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n");
        write!(
            text,
            "stream {{\n  upstream a {{ server {}; }}\n  server {{ listen {} backlog=4096; proxy_pass a; proxy_connect_timeout 5s; proxy_timeout 300s; }}\n}}\n",
            wanted.backends[0], wanted.at
        )?;
    } else {
        http(wanted, &mut text)?;
    }
    fs::write(wanted.folder.join("nginx.conf"), text)?;
    Ok(())
}

fn http(wanted: &Wanted, text: &mut String) -> Result<()> {
    let shape = wanted.shape;
    writeln!(
        text,
        "http {{\n  server_names_hash_max_size 32768;\n  server_names_hash_bucket_size 128;\n  keepalive_timeout 300s;\n  \
         keepalive_requests 100000000;\n  client_header_timeout 15s;\n  proxy_connect_timeout 5s;\n  proxy_read_timeout 60s;\n  \
         proxy_http_version 1.1;\n  proxy_set_header Connection \"\";\n  proxy_set_header Host $host;\n  \
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n  proxy_set_header X-Forwarded-Proto $scheme;"
    )?;
    for folder in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, "  {folder}_temp_path {};", wanted.file(folder))?;
    }
    if shape.observed {
        writeln!(
            text,
            "  log_format json escape=json '{{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr:$remote_port\",\"method\":\"$request_method\",\
             \"path\":\"$request_uri\",\"protocol\":\"$server_protocol\",\"status\":$status,\"received\":$request_length,\
             \"sent\":$bytes_sent,\"duration\":$request_time,\"response\":\"$upstream_response_time\",\"authority\":\"$host\",\
             \"agent\":\"$http_user_agent\",\"upstream\":\"$upstream_addr\"}}';\n  access_log {} json buffer=64k flush=1s;",
            wanted.file("access.log")
        )?;
    } else {
        writeln!(text, "  access_log off;")?;
    }
    if shape.mtls {
        writeln!(
            text,
            "  ssl_certificate {};\n  ssl_certificate_key {};\n  ssl_client_certificate {ca};\n  ssl_verify_client on;\n  \
             ssl_protocols TLSv1.2 TLSv1.3;\n  ssl_session_cache shared:tls:10m;\n  proxy_ssl_certificate {};\n  \
             proxy_ssl_certificate_key {};\n  proxy_ssl_trusted_certificate {ca};\n  proxy_ssl_verify on;\n  \
             proxy_ssl_protocols TLSv1.2 TLSv1.3;\n  proxy_ssl_name {BACKEND};\n  proxy_ssl_server_name on;",
            wanted.certificate("server.pem"),
            wanted.certificate("server.key"),
            wanted.certificate("client.pem"),
            wanted.certificate("client.key"),
            ca = wanted.certificate("ca.pem"),
        )?;
    }
    for (name, at) in ["a", "b"].into_iter().zip(wanted.backends) {
        writeln!(
            text,
            "  upstream {name} {{ server {at}; keepalive 256; keepalive_requests 100000000; keepalive_timeout 60s; }}"
        )?;
    }
    let (at, tls) = (wanted.at, if shape.mtls { " ssl" } else { "" });
    let scheme = if shape.mtls { "https" } else { "http" };
    writeln!(text, "  server {{ listen {at}{tls} default_server backlog=4096; return 404; }}")?;
    for number in 0..shape.routes {
        let (host, path) = route(number);
        let backend = wanted.backend(number);
        writeln!(
            text,
            "  server {{ listen {at}{tls}; server_name {host}; location {path} {{ proxy_pass {scheme}://{backend}; }} }}"
        )?;
    }
    if shape.observed {
        writeln!(text, "  server {{ listen unix:{}; location / {{ stub_status; }} }}", wanted.file("metrics.sock"))?;
    }
    text.push_str("}\n");
    Ok(())
}
