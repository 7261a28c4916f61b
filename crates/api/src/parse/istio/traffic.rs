//! Traffic policies of a `DestinationRule`.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{
        decode::{Decoder, Fields},
        gateway_values::{self as gv, bounded, one_of, twice},
        report::ErrorKind,
        text::Fault,
        tree::Node,
    },
    values::{
        any_key, choice, count, duration, entries, flag, host, maybe, not_enforced, percent, port_selector, real,
        some_duration, text, texts, unenforced,
    },
};
use crate::types::istio::{
    ClientTls, ClientTlsMode, ConnectionPool, ConsistentHash, CookieAttribute, Distribute, Failover, H2UpgradePolicy,
    HashCookie, HashKey, Http2KeepAlive, HttpPool, LoadBalancer, LocalitySetting, OutlierDetection, PortPolicy,
    ProxyProtocol, RetryBudget, SimpleLoadBalancer, TcpKeepalive, TcpPool, TrafficPolicy, Tunnel, Warmup,
    ZoneAwareSetting,
};

/// What traffic policies and port-level settings have in common.
type Common = (Option<LoadBalancer>, Option<ConnectionPool>, Option<OutlierDetection>, Option<ClientTls>);

fn common(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Common {
    let balancer = d.optional(fields, "loadBalancer", load_balancer);
    let pool = d.optional(fields, "connectionPool", connection_pool);
    let outliers = d.optional(fields, "outlierDetection", outlier_detection);
    not_enforced(d, fields, "outlierDetection", "no endpoint is ejected yet");
    (balancer, pool, outliers, d.optional(fields, "tls", client_tls))
}

pub(super) fn policy(d: &mut Decoder<'_>, node: &Node) -> Option<TrafficPolicy> {
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let (load_balancer, connection_pool, outlier_detection, tls) = common(d, &mut fields);
    let mut seen = Vec::new();
    let port_level_settings = bounded(d, &mut fields, "portLevelSettings", (0, 4096), |d, node| {
        let location = d.location(node.at);
        let mut fields = d.fields(node)?;
        let port = port_selector(d, &mut fields);
        let (load_balancer, connection_pool, outlier_detection, tls) = common(d, &mut fields);
        d.close(&fields, &[]);
        if port.is_none() && node.get("port").is_none() {
            d.missing(node.at, "port", "an object with number");
        }
        if seen.contains(&port) {
            twice(d, node, &port.map_or_else(String::new, |port| port.to_string()), "each port once");
        }
        seen.push(port);
        Some(PortPolicy { port, load_balancer, connection_pool, outlier_detection, tls, location })
    });
    let tunnel = d.optional(&mut fields, "tunnel", tunnel);
    not_enforced(d, &mut fields, "tunnel", "connections are not tunnelled yet: there is no way to this host");
    let proxy_protocol = d.optional(&mut fields, "proxyProtocol", |d, node| {
        let mut fields = d.fields(node)?;
        let version = choice(d, &mut fields, "version", &[("V1", ProxyProtocol::V1), ("V2", ProxyProtocol::V2)]);
        d.close(&fields, &[]);
        unenforced(d, node, "the header is not sent yet");
        Some(version.unwrap_or(ProxyProtocol::V1))
    });
    let retry_budget = d.optional(&mut fields, "retryBudget", |d, node| {
        let mut fields = d.fields(node)?;
        let budget = RetryBudget {
            percent: d.optional(&mut fields, "percent", |d, node| {
                if matches!(node.value, super::super::tree::Value::Mapping(_)) {
                    super::values::percentage(d, node)
                } else {
                    percent(d, node)
                }
            }),
            min_retry_concurrency: count(d, &mut fields, "minRetryConcurrency"),
            budget_interval: d.optional(&mut fields, "budgetInterval", duration),
        };
        d.close(&fields, &[]);
        unenforced(d, node, "requests are not tried again yet");
        Some(budget)
    });
    d.close(&fields, &[]);
    if d.errors.len() == before
        && load_balancer.is_none()
        && connection_pool.is_none()
        && outlier_detection.is_none()
        && tls.is_none()
        && port_level_settings.is_empty()
        && tunnel.is_none()
        && proxy_protocol.is_none()
        && retry_budget.is_none()
    {
        d.fault(Fault::new(node.at, ErrorKind::Missing, node.found(), "at least one setting"));
    }
    Some(TrafficPolicy {
        load_balancer,
        connection_pool,
        outlier_detection,
        tls,
        port_level_settings,
        tunnel,
        proxy_protocol,
        retry_budget,
    })
}

fn load_balancer(d: &mut Decoder<'_>, node: &Node) -> Option<LoadBalancer> {
    const SIMPLE: [(&str, SimpleLoadBalancer); 6] = [
        ("UNSPECIFIED", SimpleLoadBalancer::Unspecified),
        ("LEAST_CONN", SimpleLoadBalancer::LeastConn),
        ("RANDOM", SimpleLoadBalancer::Random),
        ("PASSTHROUGH", SimpleLoadBalancer::Passthrough),
        ("ROUND_ROBIN", SimpleLoadBalancer::RoundRobin),
        ("LEAST_REQUEST", SimpleLoadBalancer::LeastRequest),
    ];
    let mut fields = d.fields(node)?;
    let simple = choice(d, &mut fields, "simple", &SIMPLE);
    if !matches!(simple, None | Some(SimpleLoadBalancer::RoundRobin | SimpleLoadBalancer::Unspecified)) {
        not_enforced(d, &mut fields, "simple", "endpoints are taken in turn, whatever is named here");
    }
    let consistent_hash = d.optional(&mut fields, "consistentHash", consistent_hash);
    not_enforced(d, &mut fields, "consistentHash", "endpoints are taken in turn: requests do not stay with one");
    let locality_lb_setting = d.optional(&mut fields, "localityLbSetting", locality);
    not_enforced(d, &mut fields, "localityLbSetting", "endpoints of all localities are taken in turn");
    let zone_aware_lb_setting = d.optional(&mut fields, "zoneAwareLbSetting", zone_aware);
    not_enforced(d, &mut fields, "zoneAwareLbSetting", "endpoints of all zones are taken in turn");
    let of_before = d.optional(&mut fields, "warmupDurationSecs", duration);
    let warmup = d.optional(&mut fields, "warmup", warmup);
    for name in ["warmupDurationSecs", "warmup"] {
        not_enforced(d, &mut fields, name, "new endpoints get their whole share at once");
    }
    d.close(&fields, &[]);
    if simple.is_some() && consistent_hash.is_some() {
        d.fault(Fault::new(node.at, ErrorKind::Value, "simple beside consistentHash", "one of the two"));
    }
    if locality_lb_setting.is_some() && zone_aware_lb_setting.is_some() {
        let found = "localityLbSetting beside zoneAwareLbSetting";
        d.fault(Fault::new(node.at, ErrorKind::Value, found, "one of the two"));
    }
    let of_before = of_before.map(|span| Warmup { duration: Some(span), minimum_percent: None, aggression: None });
    Some(LoadBalancer {
        simple,
        consistent_hash,
        locality_lb_setting,
        zone_aware_lb_setting,
        warmup: warmup.or(of_before),
    })
}

fn warmup(d: &mut Decoder<'_>, node: &Node) -> Option<Warmup> {
    let mut fields = d.fields(node)?;
    let warmup = Warmup {
        duration: d.required(&mut fields, "duration", "a duration", duration),
        minimum_percent: d.optional(&mut fields, "minimumPercent", |d, node| real(d, node, (0.0, 100.0))),
        aggression: d.optional(&mut fields, "aggression", |d, node| real(d, node, (1.0, 1e6))),
    };
    d.close(&fields, &[]);
    Some(warmup)
}

fn consistent_hash(d: &mut Decoder<'_>, node: &Node) -> Option<ConsistentHash> {
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let header = d.optional(&mut fields, "httpHeaderName", gv::header_name).map(HashKey::HttpHeaderName);
    let cookie = d.optional(&mut fields, "httpCookie", cookie).map(HashKey::HttpCookie);
    let source = d.optional(&mut fields, "useSourceIp", Decoder::boolean).map(HashKey::UseSourceIp);
    let query = d.optional(&mut fields, "httpQueryParameterName", text).map(HashKey::HttpQueryParameterName);
    let of_before = count(d, &mut fields, "minimumRingSize");
    let ring = d.optional(&mut fields, "ringHash", |d, node| {
        let mut fields = d.fields(node)?;
        let size = count(d, &mut fields, "minimumRingSize");
        d.close(&fields, &[]);
        Some(size)
    });
    let maglev = d.optional(&mut fields, "maglev", |d, node| {
        let mut fields = d.fields(node)?;
        let size = count(d, &mut fields, "tableSize");
        d.close(&fields, &[]);
        Some(size.unwrap_or(65_537))
    });
    d.close(&fields, &[]);
    if ring.is_some() && maglev.is_some() {
        d.fault(Fault::new(node.at, ErrorKind::Value, "ringHash beside maglev", "one of the two"));
    }
    let keys: Vec<HashKey> = [header, cookie, source, query].into_iter().flatten().collect();
    let count = keys.len();
    let Some(key) = keys.into_iter().next().filter(|_| count == 1) else {
        if d.errors.len() == before {
            let allowed = "one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName";
            d.fault(Fault::new(node.at, ErrorKind::Value, node.found(), allowed));
        }
        return None;
    };
    Some(ConsistentHash { key, minimum_ring_size: ring.flatten().or(of_before), maglev })
}

fn cookie(d: &mut Decoder<'_>, node: &Node) -> Option<HashCookie> {
    let mut fields = d.fields(node)?;
    let name = d.required(&mut fields, "name", "the name of a cookie", gv::header_name_as_written);
    let path = maybe(d, &mut fields, "path");
    let ttl = d.optional(&mut fields, "ttl", duration);
    let attributes = bounded(d, &mut fields, "attributes", (0, 16), |d, node| {
        let mut fields = d.fields(node)?;
        let name = d.required(&mut fields, "name", "the name of an attribute", text);
        let value = maybe(d, &mut fields, "value");
        d.close(&fields, &[]);
        Some(CookieAttribute { name: name?, value })
    });
    d.close(&fields, &[]);
    Some(HashCookie { name: name?, path, ttl, attributes })
}

fn failovers(d: &mut Decoder<'_>, fields: &mut Fields<'_>) -> Vec<Failover> {
    bounded(d, fields, "failover", (0, 256), |d, node| {
        let mut fields = d.fields(node)?;
        let from = d.required(&mut fields, "from", "a region", text);
        let to = d.required(&mut fields, "to", "a region", text);
        d.close(&fields, &[]);
        let (from, to) = (from?, to?);
        if from == to || from.contains(['/', '*']) || to.contains(['/', '*']) {
            d.refuse(node, "two regions, without zones and wildcards, that are not the same");
        }
        Some(Failover { from, to })
    })
}

fn locality(d: &mut Decoder<'_>, node: &Node) -> Option<LocalitySetting> {
    let mut fields = d.fields(node)?;
    let enabled = d.optional(&mut fields, "enabled", Decoder::boolean);
    let distribute = bounded(d, &mut fields, "distribute", (0, 256), |d, node| {
        let mut fields = d.fields(node)?;
        let from = d.required(&mut fields, "from", "a locality", text);
        let to: BTreeMap<Arc<str>, u32> = entries(d, &mut fields, "to", any_key, |d, node| {
            d.integer(node, 1, 100).and_then(|part| u32::try_from(part).ok())
        });
        d.close(&fields, &[]);
        if to.values().sum::<u32>() != 100 {
            d.refuse(node, "parts in \"to\" that make 100 together");
        }
        Some(Distribute { from: from?, to })
    });
    let failover = failovers(d, &mut fields);
    let failover_priority = texts(d, &mut fields, "failoverPriority");
    d.close(&fields, &[]);
    let fails_over = !failover.is_empty() || !failover_priority.is_empty();
    if fails_over && !distribute.is_empty() {
        let allowed = "one of distribute and failover";
        d.fault(Fault::new(node.at, ErrorKind::Value, "distribute beside failover", allowed));
    }
    Some(LocalitySetting { enabled, distribute, failover, failover_priority })
}

fn zone_aware(d: &mut Decoder<'_>, node: &Node) -> Option<ZoneAwareSetting> {
    let mut fields = d.fields(node)?;
    let setting = ZoneAwareSetting {
        enabled: d.optional(&mut fields, "enabled", Decoder::boolean),
        failover: failovers(d, &mut fields),
        failover_priority: texts(d, &mut fields, "failoverPriority"),
        min_cluster_size: count(d, &mut fields, "minClusterSize"),
    };
    d.close(&fields, &[]);
    Some(setting)
}

fn connection_pool(d: &mut Decoder<'_>, node: &Node) -> Option<ConnectionPool> {
    let mut fields = d.fields(node)?;
    let tcp = d.optional(&mut fields, "tcp", tcp_pool);
    not_enforced(d, &mut fields, "tcp", "connections are not limited by it yet");
    let http = d.optional(&mut fields, "http", http_pool);
    d.close(&fields, &[]);
    if tcp.is_none() && http.is_none() && node.get("tcp").is_none() && node.get("http").is_none() {
        d.fault(Fault::new(node.at, ErrorKind::Missing, node.found(), "tcp, http or both"));
    }
    Some(ConnectionPool { tcp, http })
}

fn tcp_pool(d: &mut Decoder<'_>, node: &Node) -> Option<TcpPool> {
    let mut fields = d.fields(node)?;
    let pool = TcpPool {
        max_connections: count(d, &mut fields, "maxConnections"),
        connect_timeout: d.optional(&mut fields, "connectTimeout", some_duration),
        tcp_keepalive: d.optional(&mut fields, "tcpKeepalive", |d, node| {
            let mut fields = d.fields(node)?;
            let keepalive = TcpKeepalive {
                probes: count(d, &mut fields, "probes"),
                time: d.optional(&mut fields, "time", duration),
                interval: d.optional(&mut fields, "interval", duration),
            };
            d.close(&fields, &[]);
            Some(keepalive)
        }),
        max_connection_duration: d.optional(&mut fields, "maxConnectionDuration", some_duration),
        idle_timeout: d.optional(&mut fields, "idleTimeout", duration),
    };
    d.close(&fields, &[]);
    Some(pool)
}

fn http_pool(d: &mut Decoder<'_>, node: &Node) -> Option<HttpPool> {
    const UPGRADES: [(&str, H2UpgradePolicy); 3] = [
        ("DEFAULT", H2UpgradePolicy::Default),
        ("DO_NOT_UPGRADE", H2UpgradePolicy::DoNotUpgrade),
        ("UPGRADE", H2UpgradePolicy::Upgrade),
    ];
    let mut fields = d.fields(node)?;
    let pool = HttpPool {
        http1_max_pending_requests: count(d, &mut fields, "http1MaxPendingRequests"),
        http2_max_requests: count(d, &mut fields, "http2MaxRequests"),
        max_requests_per_connection: count(d, &mut fields, "maxRequestsPerConnection"),
        max_retries: count(d, &mut fields, "maxRetries"),
        idle_timeout: d.optional(&mut fields, "idleTimeout", duration),
        h2_upgrade_policy: choice(d, &mut fields, "h2UpgradePolicy", &UPGRADES).unwrap_or_default(),
        use_client_protocol: flag(d, &mut fields, "useClientProtocol"),
        max_concurrent_streams: count(d, &mut fields, "maxConcurrentStreams"),
        http2_keep_alive: d.optional(&mut fields, "http2KeepAlive", |d, node| {
            let mut fields = d.fields(node)?;
            let keep_alive = Http2KeepAlive {
                interval: d.optional(&mut fields, "interval", duration),
                timeout: d.optional(&mut fields, "timeout", duration),
            };
            d.close(&fields, &[]);
            Some(keep_alive)
        }),
    };
    let why = "connections to back ends are not limited by it yet";
    for name in [
        "http1MaxPendingRequests",
        "http2MaxRequests",
        "maxRequestsPerConnection",
        "maxRetries",
        "idleTimeout",
        "maxConcurrentStreams",
        "http2KeepAlive",
    ] {
        not_enforced(d, &mut fields, name, why);
    }
    if pool.use_client_protocol {
        not_enforced(d, &mut fields, "useClientProtocol", "back ends are spoken to as their ports say");
    }
    d.close(&fields, &[]);
    if pool.h2_upgrade_policy == H2UpgradePolicy::Upgrade && pool.use_client_protocol {
        let found = "h2UpgradePolicy: UPGRADE beside useClientProtocol";
        d.fault(Fault::new(node.at, ErrorKind::Value, found, "one of the two"));
    }
    Some(pool)
}

fn outlier_detection(d: &mut Decoder<'_>, node: &Node) -> Option<OutlierDetection> {
    let mut fields = d.fields(node)?;
    let percent = |d: &mut Decoder<'_>, fields: &mut Fields<'_>, name| {
        d.optional(fields, name, |d, node| d.integer(node, 0, 100).and_then(|part| u32::try_from(part).ok()))
    };
    let of_before = count(d, &mut fields, "consecutiveErrors");
    let detection = OutlierDetection {
        split_external_local_origin_errors: flag(d, &mut fields, "splitExternalLocalOriginErrors"),
        consecutive_local_origin_failures: count(d, &mut fields, "consecutiveLocalOriginFailures"),
        consecutive_gateway_errors: count(d, &mut fields, "consecutiveGatewayErrors"),
        consecutive_5xx_errors: count(d, &mut fields, "consecutive5xxErrors").or(of_before),
        interval: d.optional(&mut fields, "interval", some_duration),
        base_ejection_time: d.optional(&mut fields, "baseEjectionTime", some_duration),
        max_ejection_percent: percent(d, &mut fields, "maxEjectionPercent"),
        min_health_percent: percent(d, &mut fields, "minHealthPercent"),
        outlier_detection_http_error_codes: bounded(
            d,
            &mut fields,
            "outlierDetectionHttpErrorCodes",
            (0, 256),
            super::http::error_status,
        ),
    };
    d.close(&fields, &[]);
    if !detection.split_external_local_origin_errors && detection.consecutive_local_origin_failures.is_some() {
        let found = "consecutiveLocalOriginFailures alone";
        let fault = Fault::new(node.at, ErrorKind::Value, found, "it beside splitExternalLocalOriginErrors: true");
        d.fault(fault);
    }
    Some(detection)
}

/// A status, within bounds.
pub(super) fn number_status(d: &mut Decoder<'_>, node: &Node, (least, most): (i64, i64)) -> Option<u16> {
    d.integer(node, least, most).and_then(|status| u16::try_from(status).ok())
}

fn client_tls(d: &mut Decoder<'_>, node: &Node) -> Option<ClientTls> {
    const MODES: [(&str, ClientTlsMode); 4] = [
        ("DISABLE", ClientTlsMode::Disable),
        ("SIMPLE", ClientTlsMode::Simple),
        ("MUTUAL", ClientTlsMode::Mutual),
        ("ISTIO_MUTUAL", ClientTlsMode::IstioMutual),
    ];
    const FILES: &str = "files of the gate are not read, so nothing is sent: name a secret with credentialName";
    let before = d.errors.len();
    let mut fields = d.fields(node)?;
    let tls = ClientTls {
        mode: choice(d, &mut fields, "mode", &MODES).unwrap_or_default(),
        client_certificate: maybe(d, &mut fields, "clientCertificate"),
        private_key: maybe(d, &mut fields, "privateKey"),
        ca_certificates: maybe(d, &mut fields, "caCertificates"),
        credential_name: maybe(d, &mut fields, "credentialName"),
        subject_alt_names: texts(d, &mut fields, "subjectAltNames"),
        sni: d.optional(&mut fields, "sni", |d, node| if d.string(node)?.is_empty() { None } else { host(d, node) }),
        insecure_skip_verify: flag(d, &mut fields, "insecureSkipVerify"),
        ca_crl: maybe(d, &mut fields, "caCrl"),
    };
    for name in ["clientCertificate", "privateKey", "caCertificates", "caCrl"] {
        not_enforced(d, &mut fields, name, FILES);
    }
    d.close(&fields, &[]);
    if d.errors.len() > before {
        return None;
    }
    let mut refuse = |found: &str, allowed: &str| d.fault(Fault::new(node.at, ErrorKind::Value, found, allowed));
    let files = tls.client_certificate.is_some() || tls.private_key.is_some() || tls.ca_certificates.is_some();
    if tls.credential_name.is_some() && files {
        refuse("credentialName beside files", "one of the two");
    }
    match tls.mode {
        ClientTlsMode::Mutual
            if tls.credential_name.is_none() && (tls.client_certificate.is_none() || tls.private_key.is_none()) =>
        {
            refuse("MUTUAL without a certificate", "credentialName, or clientCertificate and privateKey");
        }
        ClientTlsMode::IstioMutual if files || tls.credential_name.is_some() => {
            refuse("certificates beside ISTIO_MUTUAL", "none: the mesh's are used");
        }
        ClientTlsMode::Disable | ClientTlsMode::Simple | ClientTlsMode::Mutual | ClientTlsMode::IstioMutual => {}
    }
    if tls.insecure_skip_verify && (tls.ca_certificates.is_some() || !tls.subject_alt_names.is_empty()) {
        refuse("insecureSkipVerify beside what is to be verified", "one of the two");
    }
    Some(tls)
}

fn tunnel(d: &mut Decoder<'_>, node: &Node) -> Option<Tunnel> {
    let mut fields = d.fields(node)?;
    let protocol = d.optional(&mut fields, "protocol", |d, node| one_of(d, node, &["CONNECT", "POST"]));
    let target_host = d.required(&mut fields, "targetHost", "a host", |d, node| {
        let text = d.string(node)?;
        if text.parse::<std::net::IpAddr>().is_ok() { Some(text) } else { host(d, node) }
    });
    let target_port = d.required(&mut fields, "targetPort", "a port, 1-65535", Decoder::port);
    d.close(&fields, &[]);
    Some(Tunnel {
        protocol: protocol.unwrap_or("CONNECT").into(),
        target_host: target_host?,
        target_port: target_port?,
    })
}
