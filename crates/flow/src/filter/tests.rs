use super::*;
use crate::{
    record::{Icmp, IpVersion, Layer4, Ports},
    terms::tests::flow,
};

/// `--flag value --not --flag value …`
fn filter(flags: &str) -> Result<Filter, FilterError> {
    let mut builder = FilterBuilder::default();
    let mut words = flags.split_whitespace();
    let mut not = false;
    while let Some(word) = words.next() {
        let flag = word.strip_prefix("--").unwrap();
        if flag == "not" {
            not = true;
            continue;
        }
        builder.add(flag, &words.next().unwrap().replace('+', " "), std::mem::take(&mut not))?;
    }
    Ok(builder.build())
}

#[test]
fn flags_decide_as_hubble_does() {
    let allowed = flow(|_| {});
    let dropped = flow(|f| {
        f.verdict = Verdict::Dropped;
        f.drop_reason = 133;
        f.event_type = EventType { kind: EventType::DROP, sub_type: 133 };
        f.traffic_direction = Some(TrafficDirection::Ingress);
        f.l4 = Some(Layer4::Udp(Ports { source_port: 5353, destination_port: 53 }));
    });
    let ping = flow(|f| {
        f.l4 = Some(Layer4::Icmpv6(Icmp { kind: 128, code: 0 }));
        f.source.pod_name = "".into();
        f.source.namespace = "".into();
        f.source.identity = 2;
        f.source.labels = vec!["reserved:world".into()];
        let ip = f.ip.as_mut().unwrap();
        ip.source = "2001:db8:113::5".parse().unwrap();
        ip.version = IpVersion::IPv6;
    });
    // allowed, dropped, ping
    for (flags, expected) in [
        ("", [true, true, true]),
        ("--verdict DROPPED", [false, true, false]),
        ("--verdict dropped --verdict FORWARDED", [true, true, true]),
        ("--not --verdict DROPPED", [true, false, true]),
        ("--drop-reason-desc POLICY_DENIED", [false, true, false]),
        ("--drop-reason-desc INVALID_SOURCE_IP", [false, false, false]),
        ("--from-pod shop/web", [true, true, false]),
        ("--from-pod shop/web-0 --to-pod shop/db", [true, true, false]),
        ("--from-pod shop/db", [false, false, false]),
        ("--pod shop/db", [true, true, true]),
        ("--pod shop/we", [true, true, false]),
        ("--pod shop/", [true, true, true]),
        ("--pod /web", [true, true, false]),
        ("--pod web", [false, false, false]),
        ("--namespace shop --pod web", [true, true, false]),
        ("--namespace other", [false, false, false]),
        ("--namespace other --namespace shop", [true, true, true]),
        ("--from-namespace shop", [true, true, false]),
        ("--to-namespace shop --not --from-namespace shop", [false, false, true]),
        ("--label app=db", [true, true, true]),
        ("--from-label app=web,io.kubernetes.pod.namespace=shop", [true, true, false]),
        ("--from-label reserved:world", [false, false, true]),
        ("--to-label app+in+(web,db)", [true, true, true]),
        ("--ip 10.244.2.0/24", [true, true, true]),
        ("--from-ip 10.244.1.10", [true, true, false]),
        ("--from-ip 2001:db8::/32", [false, false, true]),
        ("--port 5432", [true, false, false]),
        ("--from-port 5353 --to-port 53", [false, true, false]),
        ("--port 53 --port 5432", [true, true, false]),
        ("--protocol tcp", [true, false, false]),
        ("--protocol icmp --protocol UDP", [false, true, true]),
        ("--protocol http", [false, false, false]),
        ("--identity 4321", [true, true, true]),
        ("--from-identity world", [false, false, true]),
        ("--from-identity reserved:world --not --protocol icmp", [false, false, false]),
        ("--type drop", [false, true, false]),
        ("--type policy-verdict --type drop", [true, true, true]),
        ("--type trace:to-endpoint", [false, false, false]),
        ("--traffic-direction ingress", [false, true, false]),
        ("--workload web", [true, true, true]),
        ("--from-workload deployment/web --to-workload StatefulSet/db", [false, false, false]),
        ("--ip-version v6", [false, false, true]),
        ("--tcp-flags SYN", [true, false, false]),
        ("--tcp-flags SYN,ACK", [false, false, false]),
        ("--node-name node-*", [true, true, true]),
        ("--node-name node-2", [false, false, false]),
        ("--http-status 500", [false, false, false]),
        ("--verdict DROPPED --port 5432", [false, false, false]),
    ] {
        let filter = filter(flags).unwrap_or_else(|error| panic!("{flags}: {error}"));
        let wire: Filter = serde_json::from_str(&serde_json::to_string(&filter).unwrap()).unwrap();
        assert_eq!(wire, filter);
        assert_eq!([&allowed, &dropped, &ping].map(|flow| filter.matches(flow)), expected, "{flags}");
    }
}

#[test]
fn wrong_values_say_what_is_allowed() {
    expect_test::expect![[r#"
        --verdict ALLOWED: expected one of: VERDICT_UNKNOWN, FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED
        --ip 10.0.0: expected an address or a prefix such as 10.0.0.0/8
        --port 70000: expected a port, 0-65535
        --identity moon: expected a number or unknown, host, world, unmanaged, health, init, remote-node, kube-apiserver, ingress, world-ipv4, world-ipv6
        --label a b: `a b` is not a label key (expected for example `app=web,tier in (a, b),!old`)
        --type drops: expected one of: drop, debug, capture, trace, policy-verdict, l7
        --type trace:here: sub-type here: expected a number or from-endpoint, to-endpoint, from-network, to-network
        --traffic-direction up: expected one of: ingress, egress
        --protocol gre: expected one of: tcp, udp, sctp, icmp, icmpv4, icmpv6, http, dns
        --pod /: expected [NAMESPACE/]NAME, a name may be cut short
        --colour is not a filter
        --pod and --from-pod cannot be combined: --pod already asks for either side"#]]
    .assert_eq(
        &[
            "--verdict ALLOWED",
            "--ip 10.0.0",
            "--port 70000",
            "--identity moon",
            "--label a+b",
            "--type drops",
            "--type trace:here",
            "--traffic-direction up",
            "--protocol gre",
            "--pod /",
            "--colour red",
            "--from-pod a/b --pod a/c",
        ]
        .map(|flags| filter(flags).unwrap_err().to_string())
        .join("\n"),
    );
}
