//! What is seen of a gate from outside: its log, its metrics, whether it is ready, what it serves.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
};

use ::http::{HeaderMap, Request};
use bytes::Bytes;
use serde_json::Value;

use crate::{
    bed::{Gate, PATIENCE, app, curl, http, raw, until},
    h2,
    h2_server::{ask, connect, run},
    prometheus::{Samples, parse},
};

/// A gate whose log goes to a file beside its manifests' folder.
struct Seen {
    gate: Gate,
    log: PathBuf,
    _beside: tempfile::TempDir,
}

impl Seen {
    fn of(text: &str, arguments: &[&str]) -> Self {
        let beside = tempfile::tempdir().unwrap();
        let log = beside.path().join("log");
        let all = [
            "--access-log-file",
            log.to_str().unwrap(),
            "--admin-address",
            "127.0.0.1:0",
            "--status-address",
            "127.0.0.1:0",
        ];
        let gate = Gate::with(&[("all.yaml", text)], &[&all, arguments].concat());
        Self { gate, log, _beside: beside }
    }

    /// Waits for that many lines.
    fn lines(&self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        until(&format!("{count} lines in the log"), || {
            let text = fs::read_to_string(&self.log).unwrap();
            lines = text.lines().map(str::to_owned).collect();
            // The last one may be half there.
            lines.len() >= count && text.ends_with('\n')
        });
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    fn json(&self, count: usize) -> Vec<Value> {
        self.lines(count).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn at(&self, whom: &str) -> SocketAddr {
        let found =
            self.gate.lines.iter().find_map(|line| line.strip_prefix(whom)?.strip_prefix(": http://")?.parse().ok());
        found.unwrap_or_else(|| panic!("no {whom} in {:?}", self.gate.lines))
    }

    fn scrape(&self) -> Samples {
        let answer = curl(&[], &format!("http://{}/stats/prometheus", self.at("status")));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("text/plain; version=0.0.4; charset=utf-8"))
        );
        parse(&answer.body)
    }

    fn ready(&self) -> (u16, String) {
        let answer = curl(&[], &format!("http://{}/healthz/ready", self.at("status")));
        (answer.status, answer.body.trim_end().to_owned())
    }
}

/// A service whose only endpoint is there, or is not.
fn at(name: &str, port: Option<u16>) -> String {
    let endpoints = port.map_or_else(String::new, |port| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{port: {port}}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n---\n"
        )
    });
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n{endpoints}"
    )
}

/// A back end that answers the head of a request with these bytes and closes, or says nothing for as long as the client waits.
fn back_end(answer: Option<&'static [u8]>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut text = String::new();
            while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).is_ok_and(|length| length > 0) {}
            match answer {
                Some(answer) => _ = (&stream).write_all(answer),
                None => held.push(stream),
            }
        }
    });
    port
}

/// A port where nobody listens.
fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What each flag is provoked by; it is in the log, in the metrics and in the response.
#[test]
fn every_reason_is_told() {
    let rule = |name: &str, more: &str| {
        format!(
            "  - matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]\n{more}    backendRefs: [{{name: {name}, port: 80}}]\n"
        )
    };
    let redirect = "  - matches: [{path: {type: PathPrefix, value: /away}}]\n    filters: [{type: RequestRedirect, requestRedirect: {hostname: other.example}}]\n";
    let rules = [
        rule("absent", ""),
        rule("empty", ""),
        rule("refused", ""),
        rule("closing", ""),
        rule("garbage", ""),
        rule("silent", "    timeouts: {request: 100ms}\n"),
        rule("mute", ""),
        redirect.to_owned(),
        "  - matches: [{path: {type: PathPrefix, value: /ok}}]\n    backendRefs: [{name: one, port: 8080}]\n"
            .to_owned(),
    ]
    .concat();
    let text = [
        app("one"),
        at("empty", None),
        at("refused", Some(nobody())),
        at("closing", Some(back_end(Some(b"")))),
        at("garbage", Some(back_end(Some(b"SSH-2\r\n\r\n")))),
        at("silent", Some(back_end(None))),
        at("mute", Some(back_end(None))),
        http(&rules),
    ]
    .concat();
    let seen = Seen::of(&text, &["--access-log-encoding", "json", "--proxy-status"]);
    let gate = seen.gate.at("edge", 80);
    let cases = [
        ("/ok", 200, "-", "via_upstream", "one"),
        ("/nowhere", 404, "NR", "route_not_found", "unknown"),
        ("/absent", 500, "NC", "no_backend", "unknown"),
        ("/empty", 503, "UH", "no_healthy_upstream", "empty"),
        ("/refused", 503, "UF", "upstream_connect_failed", "refused"),
        ("/closing", 502, "UC", "upstream_closed_before_response", "closing"),
        ("/garbage", 502, "UPE", "upstream_protocol_error", "garbage"),
        ("/silent", 504, "UT", "request_timeout", "silent"),
        ("/away", 302, "-", "redirected", "unknown"),
    ];
    for (index, (path, status, flags, details, service)) in cases.iter().enumerate() {
        let answer = curl(&["-H", "Host: shop.example"], &format!("http://{gate}{path}"));
        assert_eq!(answer.status, *status, "{path}");
        let why = answer.header("proxy-status");
        assert_eq!(
            why.is_some_and(|why| why.starts_with("strait") && why.contains(details)),
            *status != 200,
            "{path} {why:?}"
        );
        let lines = seen.json(index + 1);
        let line = &lines[index];
        let told = (&line["response_code"], &line["response_flags"], &line["response_code_details"], &line["path"]);
        assert_eq!(told, (&(*status).into(), &(*flags).into(), &(*details).into(), &(*path).into()), "{line}");
        let cluster = if *service == "one" { "outbound|8080||one." } else { &format!("outbound|80||{service}.") };
        let found = line["upstream_cluster"].as_str();
        assert_eq!(found.is_some_and(|of| of.starts_with(cluster)), *service != "unknown", "{line}");
    }
    // A request that is none, and a client that goes away before there is an answer.
    assert!(raw(gate, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let line = &seen.json(cases.len() + 1)[cases.len()];
    assert_eq!((&line["response_code"], &line["response_flags"]), (&400.into(), &"DPE".into()), "{line}");
    let mut gone = TcpStream::connect(gate).unwrap();
    gone.write_all(b"POST /mute HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    until("a request that is being served", || seen.scrape().sum("strait_requests_active", &[]) >= 1);
    drop(gone);
    let line = &seen.json(cases.len() + 2)[cases.len() + 1];
    assert_eq!(
        (&line["response_code"], &line["response_flags"], &line["path"]),
        (&0.into(), &"DC".into(), &"/mute".into()),
        "{line}"
    );
    let samples = seen.scrape();
    for (path, status, flags, _, service) in &cases {
        let labels = [
            ("response_code", &*status.to_string()),
            ("response_flags", *flags),
            ("destination_service_name", *service),
            ("request_protocol", "http"),
            ("reporter", "source"),
        ];
        for name in ["istio_requests_total", "istio_request_duration_milliseconds_count", "istio_request_bytes_count"] {
            assert_eq!(samples.sum(name, &labels), 1, "{path} {name}");
        }
    }
    assert_eq!(samples.sum("istio_requests_total", &[("response_flags", "DC"), ("response_code", "0")]), 1);
    assert_eq!(samples.sum("istio_requests_total", &[]), cases.len() as u64 + 2);
    assert_eq!(samples.sum("strait_requests_active", &[]), 0);
}

/// Istio's rules name their back ends by host, port and subset; a host of no cluster is counted by its own name.
#[test]
fn clusters_of_istios_rules_have_istios_names() {
    let rules = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: one}
spec: {host: one, subsets: [{name: v1, labels: {app: one}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example.net]
  resolution: STATIC
  ports: [{number: 8000, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: 1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: route}
spec:
  hosts: ['*']
  gateways: [edge]
  http:
  - {match: [{uri: {prefix: /subset}}], route: [{destination: {host: one, subset: v1}}]}
  - {match: [{uri: {prefix: /missing}}], route: [{destination: {host: one, subset: v9}}]}
  - {match: [{uri: {prefix: /entry}}], route: [{destination: {host: api.example.net, port: {number: 8000}}}]}
  - {match: [{uri: {prefix: /nobody}}], route: [{destination: {host: nobody, port: {number: 80}}}]}
  - {route: [{destination: {host: one}}]}
";
    let seen = Seen::of(&format!("{}{rules}", app("one")), &["--access-log-encoding", "JSON"]);
    let gate = seen.gate.at("edge", 80);
    let one = "one.default.svc.cluster.local";
    let nobody = "nobody.default.svc.cluster.local";
    let cases = [
        ("/", 200, format!("outbound|8080||{one}"), one, "one", "default"),
        ("/subset", 200, format!("outbound|8080|v1|{one}"), one, "one", "default"),
        ("/missing", 503, format!("outbound|80|v9|{one}"), one, "one", "default"),
        ("/entry", 503, "outbound|8000||api.example.net".into(), "api.example.net", "api.example.net", "default"),
        ("/nobody", 503, format!("outbound|80||{nobody}"), nobody, nobody, "unknown"),
    ];
    for (index, (path, status, cluster, ..)) in cases.iter().enumerate() {
        assert_eq!(curl(&["-H", "Host: shop.example"], &format!("http://{gate}{path}")).status, *status, "{path}");
        let line = &seen.json(index + 1)[index];
        assert_eq!(line["upstream_cluster"], **cluster, "{line}");
    }
    let samples = seen.scrape();
    for (path, status, _, service, name, namespace) in &cases {
        let labels = [
            ("response_code", &*status.to_string()),
            ("destination_service", *service),
            ("destination_service_name", *name),
            ("destination_service_namespace", *namespace),
        ];
        assert_eq!(samples.sum("istio_requests_total", &labels), if *status == 200 { 2 } else { 1 }, "{path}");
    }
}

/// The fields of both encodings, for requests and for connections.
#[test]
fn lines_have_istios_fields() {
    let tcp = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: bytes}
spec: {gatewayClassName: strait, listeners: [{name: tcp, port: 5432, protocol: TCP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp}
spec: {parentRefs: [{name: bytes}], rules: [{backendRefs: [{name: one, port: 8080}]}]}
---
";
    let text = format!("{}{tcp}{}", app("one"), http("  - backendRefs: [{name: one, port: 8080}]\n"));
    for encoding in ["JSON", "TEXT"] {
        let seen = Seen::of(&text, &["--access-log-encoding", encoding]);
        let gate = seen.gate.at("edge", 80);
        let odd = "curl \"x\" \\ \u{9b}31m";
        let arguments = ["-A", odd, "-H", "X-Forwarded-For: 192.0.2.1", "-H", "Host: shop.example", "-d", "hello"];
        let echo = curl(&arguments, &format!("http://{gate}/a/./b?c=d%0d%0ae")).echo();
        let mut connection = TcpStream::connect(seen.gate.at("bytes", 5432)).unwrap();
        connection.write_all(b"\x01hello").unwrap();
        let mut back = [0; 6];
        connection.read_exact(&mut back).unwrap();
        seen.lines(1);
        drop(connection);
        let id = echo["headers"]["X-Request-Id"][0].as_str().unwrap_or_default();
        assert_eq!(id.len(), 36, "{echo}");
        let cluster = "outbound|8080||one.default.svc.cluster.local";
        if encoding == "JSON" {
            let [request, connection] = <[Value; 2]>::try_from(seen.json(2)).unwrap();
            let expected = [
                ("method", "POST"),
                ("path", "/a/./b?c=d%0d%0ae"),
                ("protocol", "HTTP/1.1"),
                ("response_flags", "-"),
                ("response_code_details", "via_upstream"),
                ("x_forwarded_for", "192.0.2.1, 127.0.0.1"),
                ("user_agent", odd),
                ("request_id", id),
                ("authority", "shop.example"),
                ("upstream_cluster", cluster),
                ("downstream_local_address", &gate.to_string()),
                ("route_name", request["route_name"].as_str().unwrap()),
            ];
            for (name, value) in expected {
                assert_eq!(request[name], value, "{name}");
            }
            assert_eq!(echo["headers"]["X-Forwarded-For"][0], request["x_forwarded_for"]);
            assert!(request["route_name"].as_str().unwrap().contains("default/route"), "{request}");
            assert_eq!((&request["response_code"], &request["bytes_received"]), (&200.into(), &5.into()));
            assert!(request["bytes_sent"].as_u64().unwrap() > 100 && request["duration"].is_u64(), "{request}");
            assert!(request["upstream_service_time"].as_str().unwrap().parse::<u64>().is_ok(), "{request}");
            assert!(request["start_time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{request}");
            for name in ["upstream_host", "upstream_local_address", "downstream_remote_address"] {
                assert!(request[name].as_str().unwrap().parse::<SocketAddr>().is_ok(), "{request}");
                assert!(connection[name].as_str().unwrap().parse::<SocketAddr>().is_ok(), "{connection}");
            }
            assert_eq!((&connection["bytes_received"], &connection["bytes_sent"]), (&6.into(), &6.into()));
            assert_eq!((&connection["upstream_cluster"], &connection["method"]), (&cluster.into(), &Value::Null));
            let names = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&request).len(), 24);
            assert_eq!(names(&request), names(&connection));
            let samples = seen.scrape();
            for (name, value) in [
                ("istio_tcp_connections_opened_total", 1),
                ("istio_tcp_connections_closed_total", 1),
                ("istio_tcp_received_bytes_total", 6),
                ("istio_tcp_sent_bytes_total", 6),
            ] {
                assert_eq!(
                    samples.sum(name, &[("request_protocol", "tcp"), ("destination_service_name", "one")]),
                    value,
                    "{name}"
                );
            }
            assert_eq!(samples.sum("istio_request_bytes_sum", &[]), 5);
        } else {
            let lines = seen.lines(2);
            let pattern = format!(
                r#"^\[\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ\] "POST /a/\./b\?c=d%0d%0ae HTTP/1\.1" 200 - via_upstream - "-" 5 \d+ \d+ \d+ "192\.0\.2\.1, 127\.0\.0\.1" "curl \\x22x\\x22 \\x5c \\xc2\\x9b31m" "{id}" "shop\.example" "127\.[0-9.]+:\d+" {} 127\.[0-9.]+:\d+ {gate} 127\.[0-9.]+:\d+ - \S*default/route\S*$"#,
                cluster.replace('|', "\\|"),
            );
            assert!(regex::Regex::new(&pattern).unwrap().is_match(&lines[0]), "{pattern}\n{}", lines[0]);
            let pattern = r#"^\[[^ ]+\] "- - -" 0 - - - "-" 6 6 \d+ - "-" "-" "-" "-" "127\.[0-9.]+:\d+" outbound\S+ \S+ \S+ \S+ - -$"#;
            assert!(regex::Regex::new(pattern).unwrap().is_match(&lines[1]), "{}", lines[1]);
        }
    }
}

/// An id is kept where there is one, also in a format of one's own.
#[test]
fn request_ids() {
    let text = format!("{}{}", app("one"), http("  - backendRefs: [{name: one, port: 8080}]\n"));
    let seen = Seen::of(&text, &["--access-log-format", "%REQ(X-REQUEST-ID)% %REQ(X-B?X-A):3% %RESPONSE_CODE%"]);
    let url = format!("http://{}/", seen.gate.at("edge", 80));
    let given = curl(&["-H", "X-Request-ID: my own", "-H", "X-A: 12345"], &url).echo();
    assert_eq!(given["headers"]["X-Request-Id"], serde_json::json!(["my own"]));
    assert_eq!(seen.lines(1)[0], "my own 123 200");
    let made = [0, 1].map(|_| curl(&[], &url).echo()["headers"]["X-Request-Id"][0].as_str().unwrap().to_owned());
    assert_ne!(made[0], made[1]);
    let lines = seen.lines(3);
    assert!(made.iter().all(|id| lines.contains(&format!("{id} - 200"))), "{made:?} {lines:?}");
}

/// Counters go on when the configuration changes, and it is told that it did. Series are bounded.
#[test]
fn metrics_outlive_changes() {
    let to = |name: &str| {
        format!("{}{}{}", app("one"), app("two"), http(&format!("  - backendRefs: [{{name: {name}, port: 8080}}]\n")))
    };
    let seen = Seen::of(&to("one"), &["--metrics-series", "1"]);
    let url = format!("http://{}/", seen.gate.at("edge", 80));
    // On one connection, hence of one worker.
    let ask = || assert_eq!(curl(&["-o", "/dev/null", &url, "-o", "/dev/null", &url], &url).status, 200);
    ask();
    let before = seen.scrape();
    seen.gate.save("all.yaml", &to("two"));
    until("a new configuration", || {
        seen.scrape().sum("strait_config_generation", &[]) > before.sum("strait_config_generation", &[])
    });
    assert_eq!(before.sum("istio_requests_total", &[("destination_service_name", "one")]), 3);
    ask();
    let after = seen.scrape();
    assert_eq!(after.sum("istio_requests_total", &[("destination_service_name", "one")]), 3);
    assert_eq!(after.sum("istio_requests_total", &[]), 6);
    // The other service has a series where its worker has none yet, else it is of the overflow.
    let other = after.sum("istio_requests_total", &[("destination_service_name", "two")]);
    assert_eq!(other + after.sum("istio_requests_total", &[("destination_service", "overflow")]), 3);
    assert_eq!(after.sum("strait_metrics_overflow_total", &[]), 3 - other);
    assert_eq!(after.sum("strait_listener_connections_accepted_total", &[("gateway", "default/edge")]), 2);
    assert_eq!(after.sum("strait_workers_serving", &[]), 2);
    let labels = after.labels("istio_requests_total", &[("destination_service", "one.default.svc.cluster.local")]);
    let expected = "connection_security_policy destination_app destination_canonical_revision destination_canonical_service \
        destination_cluster destination_principal destination_service destination_service_name destination_service_namespace \
        destination_version destination_workload destination_workload_namespace reporter request_protocol response_code \
        response_flags source_app source_canonical_revision source_canonical_service source_cluster source_principal \
        source_version source_workload source_workload_namespace";
    assert_eq!(labels.into_keys().collect::<Vec<_>>().join(" "), expected);
}

/// Ready is who serves all listeners; who ends is not.
#[test]
fn readiness() {
    let gateway = |listeners: &str| {
        format!(
            "{}{}apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: more}}\nspec: {{gatewayClassName: strait, listeners: [{listeners}]}}\n---\n{}",
            app("one"),
            at("mute", Some(back_end(None))),
            http("  - backendRefs: [{name: mute, port: 80}]\n"),
        )
    };
    let seen = Seen::of(&gateway("{name: a, port: 8180, protocol: HTTP}"), &[]);
    assert_eq!(seen.ready(), (200, "ready".to_owned()));
    let taken = TcpListener::bind((seen.gate.at("more", 8180).ip(), 8181)).unwrap();
    seen.gate
        .save("all.yaml", &gateway("{name: a, port: 8180, protocol: HTTP}, {name: b, port: 8181, protocol: HTTP}"));
    let mut answer = (0, String::new());
    until("503", || {
        answer = seen.ready();
        answer.0 == 503
    });
    until("a reason", || seen.ready().1.contains(":8181"));
    assert_eq!(seen.scrape().sum("strait_listeners_failed", &[]), 1);
    drop(taken);
    seen.gate
        .save("all.yaml", &gateway("{name: c, port: 8180, protocol: HTTP}, {name: d, port: 8181, protocol: HTTP}"));
    until("200", || seen.ready().0 == 200);
    let mut waiting = TcpStream::connect(seen.gate.at("edge", 80)).unwrap();
    waiting.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    until("a request that is being served", || seen.scrape().sum("strait_requests_active", &[]) >= 1);
    seen.gate.terminate();
    until("503", || seen.ready() == (503, "draining".to_owned()));
}

/// The configuration is told, and no key of it; what is for operators is not for everybody.
#[test]
fn configuration() {
    let key = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let indent = |pem: &str| pem.lines().fold(String::new(), |out, line| out + "\n    " + line);
    let pem = key.signing_key.serialize_pem();
    let text = format!(
        "{}apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |{}\n  tls.key: |{}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: secure}}\nspec: {{gatewayClassName: strait, listeners: [{{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}}}]}}\n---\n{}",
        app("one"),
        // A key that strayed into the chain is not told either.
        indent(&format!("{}{pem}", key.cert.pem())),
        indent(&pem),
        http(
            "  - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: authorization, value: hunter2}]}}]\n    backendRefs: [{name: one, port: 8080}]\n"
        ),
    );
    let seen = Seen::of(&text, &[]);
    let admin = seen.at("admin").to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["config", "dump", "--admin-address", &admin])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let dump = String::from_utf8(output.stdout).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    assert!(!dump.contains("PRIVATE") && !dump.contains(secret) && !dump.contains("hunter2"), "{dump}");
    let dump: Value = serde_json::from_str(&dump).unwrap();
    let certificate = &dump["certificates"][0];
    assert_eq!(certificate["name"], "default/cert");
    assert_eq!(certificate["chain"].as_array().unwrap().len(), 1);
    let link = &certificate["chain"][0];
    assert_eq!(link["subjectAltNames"], serde_json::json!(["shop.example"]));
    assert!(link["notAfter"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{link}");
    assert_eq!(link["sha256Fingerprint"].as_str().unwrap().split(':').count(), 32);
    let route = &dump["routes"][0];
    assert!(route["name"].as_str().unwrap().contains("default/route"), "{route}");
    assert!(route["location"].as_str().unwrap().contains("all.yaml:"), "{route}");
    let backend = dump["backends"].as_array().unwrap().iter().find(|of| of["name"] == "default/one:8080").unwrap();
    assert!(backend["endpoints"][0].as_str().unwrap().ends_with(":3000"), "{backend}");
    let listeners: Vec<_> =
        dump["listeners"].as_array().unwrap().iter().map(|of| (&of["gateway"], &of["port"], &of["protocol"])).collect();
    assert!(listeners.contains(&(&"default/secure".into(), &443.into(), &"TLS".into())), "{listeners:?}");
    let everybody = seen.at("status");
    for (at, path, arguments, status) in [
        (everybody, "/config_dump", &[][..], 404),
        (everybody, "/reopen_logs", &["-X", "POST"], 404),
        (everybody, "/healthz/ready", &["-X", "POST"], 405),
        (everybody, "/metrics", &[], 200),
        (seen.at("admin"), "/metrics", &[], 200),
        (seen.at("admin"), "/reopen_logs", &[], 405),
        (seen.at("admin"), "/reopen_logs", &["-X", "POST"], 200),
        (seen.at("admin"), "/other", &[], 404),
        (seen.at("admin"), "/config_dump", &["-H", "Host: localhost:15000"], 200),
        (seen.at("admin"), "/config_dump", &["-H", "Host: [::1]:15000"], 200),
        // A name that leads here, by a page in an operator's browser.
        (seen.at("admin"), "/config_dump", &["-H", "Host: rebound.example"], 403),
        (everybody, "/metrics", &["-H", "Host: gate.example"], 200),
    ] {
        assert_eq!(curl(arguments, &format!("http://{at}{path}")).status, status, "{path}");
    }
}

/// A log that nobody reads holds up nobody: its lines are lost, and counted.
#[test]
fn a_log_that_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let text = format!("{}{}", app("one"), http("  - backendRefs: [{name: one, port: 8080}]\n"));
    let long = "x".repeat(50_000);
    let arguments =
        ["--access-log-file", pipe.to_str().unwrap(), "--access-log-format", &long, "--status-address", "127.0.0.1:0"];
    let gate = Gate::with(&[("all.yaml", &text)], &arguments);
    let mut stream = TcpStream::connect(gate.at("edge", 80)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..200 {
        stream.write_all(b"GET /none/\x20HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(b"}\n") && !answer.ends_with(b"}") {
            let length = stream.read(&mut part).unwrap();
            assert!(length > 0);
            answer.extend_from_slice(&part[..length]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }
    let at = gate.lines.iter().find_map(|line| line.strip_prefix("status: http://")).unwrap();
    let samples = parse(&curl(&[], &format!("http://{at}/metrics")).body);
    assert_eq!(samples.sum("istio_requests_total", &[]), 200);
    assert!(samples.sum("strait_access_log_lines_dropped_total", &[]) > 100);
}

/// Calls of gRPC have their own status, whoever gives it; HTTP/2 and server names are told.
#[test]
fn calls() {
    const ECHO: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";
    let rules = format!(
        "  - matches: [{{method: {{service: {ECHO}, method: Echo}}}}]\n    backendRefs: [{{name: one, port: 8080}}]\n  \
         - matches: [{{method: {{method: Nowhere}}}}]\n    backendRefs: [{{name: nowhere, port: 80}}]\n"
    );
    let text = [h2::gateway(), app("one"), at("nowhere", None), h2::route("GRPCRoute", "calls", &rules)].concat();
    let seen = Seen::of(&text, &["--access-log-encoding", "json", "--proxy-status"]);
    let gate = seen.gate.at("edge", 80);
    let cases = [
        ("Echo", "0", "-", "via_upstream"),
        ("Nowhere", "14", "UH", "no_healthy_upstream"),
        ("None", "12", "NR", "route_not_found"),
    ];
    for (index, (method, code, flags, details)) in cases.into_iter().enumerate() {
        let answer = run(async {
            let (send, _connection) = connect(gate).await;
            let request = Request::post(format!("http://a.example/{ECHO}/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .unwrap();
            ask(&send, request, Bytes::from_static(&[0; 5]), HeaderMap::new()).await.unwrap()
        });
        let why = answer.headers.get("proxy-status").map(|why| why.to_str().unwrap().to_owned());
        assert_eq!(why.is_some_and(|why| why.contains(details)), code != "0", "{answer:?}");
        let line = &seen.json(index + 1)[index];
        let told = (&line["protocol"], &line["response_code"], &line["response_flags"], &line["response_code_details"]);
        assert_eq!(told, (&"HTTP/2".into(), &200.into(), &flags.into(), &details.into()), "{line}");
        let labels = [
            ("request_protocol", "grpc"),
            ("grpc_response_status", code),
            ("response_flags", flags),
            ("response_code", "200"),
        ];
        assert_eq!(seen.scrape().sum("istio_requests_total", &labels), 1, "{method}");
    }
    let https = format!("https://a.example:{}/", seen.gate.at("edge", 443).port());
    let to = format!("::{}", seen.gate.at("edge", 443));
    assert_eq!(curl(&["--http2", "--connect-to", &to], &https).status, 404);
    let line = &seen.json(cases.len() + 1)[cases.len()];
    assert_eq!((&line["protocol"], &line["requested_server_name"]), (&"HTTP/2".into(), &"a.example".into()), "{line}");
}

/// Connections with TLS that come to nothing are a line and a number: what is no handshake, whose client does not believe the certificate,
/// whose name nobody has. Who only looks whether somebody listens is not told of.
#[test]
fn handshakes() {
    let format = r#"{"flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%", "why": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%", "name": "%REQUESTED_SERVER_NAME%"}"#;
    let route = h2::route("HTTPRoute", "route", "  - backendRefs: [{name: one, port: 8080}]\n");
    let gateway = h2::gateway().replace("protocol: HTTPS,", "protocol: HTTPS, hostname: a.example,");
    let options = ["--access-log-encoding", "json", "--access-log-format", format, "--limit", "header-time=500ms"];
    let seen = Seen::of(&[app("one"), gateway, route].concat(), &options);
    let at = seen.gate.at("edge", 443);
    let to = format!("::{at}");
    drop(TcpStream::connect(at).unwrap());
    let steps: [(&dyn Fn(), Value); 4] = [
        (
            &|| assert!(!raw(at, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").contains("HTTP/1.1 200")),
            serde_json::json!({ "flags": "-", "details": null, "why": "no ClientHello", "name": null }),
        ),
        (
            &|| assert_eq!(curl(&["--connect-to", &to], "https://b.example/").status, 0),
            serde_json::json!({ "flags": "NR", "details": "filter_chain_not_found", "why": null, "name": "b.example" }),
        ),
        (
            &|| {
                // Without -k the certificate is not believed.
                let ran = Command::new("curl").args(["-s", "--connect-to", &to, "https://a.example/"]).status();
                assert!(!ran.unwrap().success());
            },
            serde_json::json!({ "flags": "-", "details": null, "why": "ALERT", "name": "a.example" }),
        ),
        (
            &|| {
                let mut half = TcpStream::connect(at).unwrap();
                half.write_all(&[0x16, 3, 1]).unwrap();
                half.set_read_timeout(Some(PATIENCE)).unwrap();
                assert_eq!(half.read(&mut [0]).unwrap_or(0), 0);
            },
            serde_json::json!({ "flags": "-", "details": null, "why": "no ClientHello in time", "name": null }),
        ),
    ];
    for (index, (step, expected)) in steps.iter().enumerate() {
        step();
        let mut line = seen.json(index + 1).pop().unwrap();
        if line["why"].as_str().is_some_and(|why| why.contains("alert")) {
            line["why"] = "ALERT".into();
        }
        assert_eq!(line, *expected);
    }
    let samples = seen.scrape();
    let of = [("port", "443"), ("transport", "tcp")];
    assert_eq!(samples.sum("strait_listener_tls_handshakes_failed_total", &of), 3);
    assert_eq!(samples.sum("strait_listener_tls_unmatched_total", &of), 1);
}
