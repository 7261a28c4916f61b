//! `HAProxy`: mode http, connections to servers shared, routes by a map of prefixes.

use std::{fmt::Write as _, fs};

use anyhow::Result;

use super::{BACKEND, Wanted, route};

pub(in super::super) fn write(wanted: &Wanted) -> Result<()> {
    let shape = wanted.shape;
    let mut map = String::new();
    for number in 0..shape.routes {
        let (host, path) = route(number);
        writeln!(map, "{host}{path} {}", wanted.backend(number))?;
    }
    fs::write(wanted.folder.join("routes.map"), map)?;
    let mode = if shape.tcp { "tcp" } else { "http" };
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn 15000\n    no strict-limits\n    log stdout format raw local0\n\ndefaults\n    mode {mode}\n    timeout connect 5s\n    \
         timeout client 300s\n    timeout server 60s\n    timeout http-request 15s\n    timeout http-keep-alive 300s\n    \
         timeout queue 5s\n"
    );
    if !shape.tcp {
        text += "    http-reuse safe\n    option forwardfor\n";
    }
    text += &frontend(wanted)?;
    for (name, at) in ["a", "b"].into_iter().zip(wanted.backends) {
        let mut server = format!("server {name} {at}");
        match (shape.mtls, shape.http2) {
            (false, true) => server += " proto h2",
            (false, false) => {}
            (true, http2) => {
                write!(
                    server,
                    " ssl verify required ca-file {} crt {} sni str({BACKEND}) verifyhost {BACKEND} alpn {}",
                    wanted.certificate("ca.pem"),
                    wanted.certificate("client-both.pem"),
                    if http2 { "h2" } else { "http/1.1" }
                )?;
            }
        }
        write!(text, "\nbackend {name}\n    {server}\n")?;
    }
    fs::write(wanted.folder.join("haproxy.cfg"), text)?;
    Ok(())
}

fn frontend(wanted: &Wanted) -> Result<String> {
    let shape = wanted.shape;
    let mut text = format!("\nfrontend edge\n    bind {}", wanted.at);
    match (shape.mtls, shape.http2) {
        (false, true) => text += " proto h2",
        (false, false) => {}
        (true, http2) => {
            write!(
                text,
                " ssl crt {} ca-file {} verify required alpn {}",
                wanted.certificate("server-both.pem"),
                wanted.certificate("ca.pem"),
                if http2 { "h2" } else { "http/1.1" }
            )?;
        }
    }
    text.push('\n');
    if shape.tcp {
        return Ok(text + "    default_backend a\n");
    }
    if shape.observed {
        text += "    log global\n    log-format '{\"time\":\"%tr\",\"client\":\"%ci:%cp\",\"method\":\"%HM\",\"path\":\"%HPO\",\
                 \"protocol\":\"%HV\",\"status\":%ST,\"flags\":\"%tsc\",\"received\":%U,\"sent\":%B,\"duration\":%Ta,\
                 \"response\":%Tr,\"backend\":\"%b\",\"upstream\":\"%si:%sp\"}'\n";
    }
    text += "    http-request set-header X-Forwarded-Proto http\n";
    writeln!(text, "    use_backend %[base,map_beg({},none)]", wanted.file("routes.map"))?;
    text += "\nbackend none\n    http-request return status 404\n";
    if shape.observed {
        write!(
            text,
            "\nfrontend metrics\n    bind unix@{}\n    http-request use-service prometheus-exporter\n",
            wanted.file("metrics.sock")
        )?;
    }
    Ok(text)
}
