use std::sync::Arc;

use expect_test::expect;

use super::*;
use crate::{
    record::{Icmp, Ip, IpVersion, LostEvents, TcpFlags, TcpPorts},
    terms::tests::flow,
};

fn examples() -> Vec<Record> {
    let origin = |rule, line| Origin {
        kind: "NetworkPolicy".into(),
        namespace: "shop".into(),
        name: "db".into(),
        rule,
        file: "policies/db.yaml".into(),
        line,
        column: 5,
    };
    let allowed = flow(|f| f.strait.origins = vec![origin(Some(0), 14)]);
    let dropped = flow(|f| {
        f.verdict = Verdict::Dropped;
        f.drop_reason = 133;
        f.drop_reason_desc = Some("POLICY_DENIED".into());
        f.event_type = EventType { kind: EventType::DROP, sub_type: 133 };
        f.strait.origins = vec![origin(None, 2)];
        f.strait.nearest_miss = Some("would be allowed by policies/db.yaml:14 but for port 8080".into());
        f.strait.counters = Some(Counters { packets: 3, bytes: 222, ..Counters::default() });
    });
    let closed = flow(|f| {
        f.event_type = EventType { kind: EventType::TRACE, sub_type: 5 };
        f.trace_observation_point = Some(ObservationPoint::FromEndpoint);
        f.l4 = Some(Layer4::Tcp(TcpPorts {
            source_port: 43210,
            destination_port: 5432,
            flags: TcpFlags::from_bits(0x13),
        }));
        f.summary = "TCP Flags: SYN, ACK, FIN".into();
        f.strait.closed = Some("fin".into());
        f.strait.counters =
            Some(Counters { packets: 12, bytes: 3_456, reply_packets: 1, reply_bytes: 66, duration_ns: 1_000 });
    });
    let reply = flow(|f| {
        f.is_reply = Some(true);
        f.source.pod_name = "".into();
        f.source.identity = 2;
        f.ip = Some(Ip {
            source: "2001:db8:113::5".parse().unwrap(),
            destination: "fd00:10:244:1::a".parse().unwrap(),
            version: IpVersion::IPv6,
        });
        f.l4 = Some(Layer4::Icmpv6(Icmp { kind: 129, code: 0 }));
        f.summary = "ICMPv6 EchoReply".into();
        f.strait.origins = vec![Origin { file: "bad\x1b[2Jname.yaml".into(), ..origin(Some(1), 3) }];
    });
    let spoofed = flow(|f| {
        f.verdict = Verdict::Dropped;
        f.event_type = EventType { kind: EventType::DROP, sub_type: DropReason::InvalidSourceIp as u8 };
        let ip = f.ip.as_mut().unwrap();
        ip.source = "10.244.1.99".parse().unwrap();
        f.summary = "UDP".into();
        f.strait.counters = Some(Counters { packets: 1, bytes: 74, ..Counters::default() });
    });
    let summed = flow(|f| {
        f.verdict = Verdict::Dropped;
        f.event_type = EventType { kind: EventType::DROP, sub_type: DropReason::InvalidSourceIp as u8 };
        (f.ip, f.l4, f.summary) = (None, None, "".into());
        f.strait.counters = Some(Counters { packets: 7, bytes: 518, ..Counters::default() });
    });
    let mut records: Vec<Record> = [allowed, dropped, closed, reply, spoofed, summed]
        .into_iter()
        .map(|flow| Record::flow(Arc::new(flow)))
        .collect();
    records.push(Record {
        what: What::LostEvents(LostEvents { source: LostSource::HubbleRingBuffer, num_events_lost: 17 }),
        node_name: "node-1".into(),
        time: records[0].time,
    });
    records
}

fn print(output: Output, color: bool, node_names: bool) -> String {
    let mut printer = Printer::new(output, color, node_names);
    let mut out = Vec::new();
    for record in examples() {
        printer.write(&record, &mut out).unwrap();
    }
    printer.flush(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn compact() {
    expect![[r#"
        Nov 22 22:40:01.123: shop/web-0:43210 (ID:1234) -> shop/db-0:5432 (ID:4321) policy-verdict:L3-L4 EGRESS ALLOWED (TCP Flags: SYN) NetworkPolicy shop/db policies/db.yaml:14
        Nov 22 22:40:01.123: shop/web-0:43210 (ID:1234) -> shop/db-0:5432 (ID:4321) Policy denied DROPPED (TCP Flags: SYN; 3 packets) isolated by NetworkPolicy shop/db policies/db.yaml:2; would be allowed by policies/db.yaml:14 but for port 8080
        Nov 22 22:40:01.123: shop/web-0:43210 (ID:1234) -> shop/db-0:5432 (ID:4321) from-endpoint FORWARDED (TCP Flags: SYN, ACK, FIN; closed: fin; 12 packets 3.4 kB out, 1 packet 66 B back)
        Nov 22 22:40:01.123: shop/db-0 (ID:4321) <- 2001:db8:113::5 (world) policy-verdict:L3-L4 EGRESS ALLOWED (ICMPv6 EchoReply) NetworkPolicy shop/db bad�[2Jname.yaml:3
        Nov 22 22:40:01.123: shop/web-0:43210 (ID:1234) -> shop/db-0:5432 (ID:4321) Invalid source ip DROPPED (UDP; claimed 10.244.1.99; 1 packet)
        Nov 22 22:40:01.123: shop/web-0 (ID:1234) -> shop/db-0 (ID:4321) Invalid source ip DROPPED (7 packets)
        EVENTS LOST: 17 on node-1 (this reader was too slow)
    "#]].assert_eq(&print(Output::Compact, false, false));
    expect![[r#"Nov 22 22:40:01.123 [node-1]: \u{1b}[36mshop/web-0:43210\u{1b}[0m \u{1b}[35m(ID:1234)\u{1b}[0m -> \u{1b}[36mshop/db-0:5432\u{1b}[0m \u{1b}[35m(ID:4321)\u{1b}[0m policy-verdict:L3-L4 EGRESS \u{1b}[32mALLOWED\u{1b}[0m (TCP Flags: SYN) \u{1b}[2mNetworkPolicy shop/db policies/db.yaml:14\u{1b}[0m"#]].assert_eq(&print(Output::Compact, true, true).lines().next().unwrap().escape_debug().to_string());
}

#[test]
fn table_and_dict() {
    expect![[r#"
        TIMESTAMP             NODE     SOURCE             DESTINATION      TYPE                          VERDICT     SUMMARY
        Nov 22 22:40:01.123   node-1   shop/web-0:43210   shop/db-0:5432   policy-verdict:L3-L4 EGRESS   ALLOWED     TCP Flags: SYN; NetworkPolicy shop/db policies/db.yaml:14
        Nov 22 22:40:01.123   node-1   shop/web-0:43210   shop/db-0:5432   Policy denied                 DROPPED     TCP Flags: SYN; 3 packets; isolated by NetworkPolicy shop/db policies/db.yaml:2; would be allowed by policies/db.yaml:14 but for port 8080
        Nov 22 22:40:01.123   node-1   shop/web-0:43210   shop/db-0:5432   from-endpoint                 FORWARDED   TCP Flags: SYN, ACK, FIN; closed: fin; 12 packets 3.4 kB out, 1 packet 66 B back
        Nov 22 22:40:01.123   node-1   2001:db8:113::5    shop/db-0        policy-verdict:L3-L4 EGRESS   ALLOWED     ICMPv6 EchoReply; NetworkPolicy shop/db bad�[2Jname.yaml:3
        Nov 22 22:40:01.123   node-1   shop/web-0:43210   shop/db-0:5432   Invalid source ip             DROPPED     UDP; claimed 10.244.1.99; 1 packet
        Nov 22 22:40:01.123   node-1   shop/web-0         shop/db-0        Invalid source ip             DROPPED     7 packets
        [31mEVENTS LOST: 17 on node-1 (this reader was too slow)[0m
    "#]].assert_eq(&print(Output::Table, true, true));
    expect![[r#"
          TIMESTAMP: Nov 22 22:40:01.123
               NODE: node-1
             SOURCE: shop/web-0:43210
        DESTINATION: shop/db-0:5432
               TYPE: policy-verdict:L3-L4 EGRESS
            VERDICT: ALLOWED
            SUMMARY: TCP Flags: SYN
            DECIDED: NetworkPolicy shop/db policies/db.yaml:14
        ------------
          TIMESTAMP: Nov 22 22:40:01.123
               NODE: node-1
             SOURCE: shop/web-0:43210
        DESTINATION: shop/db-0:5432
               TYPE: Policy denied
            VERDICT: DROPPED
            SUMMARY: TCP Flags: SYN; 3 packets
            DECIDED: isolated by NetworkPolicy shop/db policies/db.yaml:2; would be allowed by policies/db.yaml:14 but for port 8080
        ------------
          TIMESTAMP: Nov 22 22:40:01.123
               NODE: node-1
             SOURCE: shop/web-0:43210
        DESTINATION: shop/db-0:5432
               TYPE: from-endpoint
            VERDICT: FORWARDED
            SUMMARY: TCP Flags: SYN, ACK, FIN; closed: fin; 12 packets 3.4 kB out, 1 packet 66 B back
        ------------
          TIMESTAMP: Nov 22 22:40:01.123
               NODE: node-1
             SOURCE: 2001:db8:113::5
        DESTINATION: shop/db-0
               TYPE: policy-verdict:L3-L4 EGRESS
            VERDICT: ALLOWED
            SUMMARY: ICMPv6 EchoReply
            DECIDED: NetworkPolicy shop/db bad�[2Jname.yaml:3
        ------------
          TIMESTAMP: Nov 22 22:40:01.123
               NODE: node-1
             SOURCE: shop/web-0:43210
        DESTINATION: shop/db-0:5432
               TYPE: Invalid source ip
            VERDICT: DROPPED
            SUMMARY: UDP; claimed 10.244.1.99; 1 packet
        ------------
          TIMESTAMP: Nov 22 22:40:01.123
               NODE: node-1
             SOURCE: shop/web-0
        DESTINATION: shop/db-0
               TYPE: Invalid source ip
            VERDICT: DROPPED
            SUMMARY: 7 packets
        EVENTS LOST: 17 on node-1 (this reader was too slow)
    "#]].assert_eq(&print(Output::Dict, false, true));
}

#[test]
fn json_is_hubbles_and_reads_back() {
    let text = print(Output::Json, true, true);
    let records: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records, examples());
    let dropped: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    expect![[r#"
        {
          "flow": {
            "IP": {
              "destination": "10.244.2.10",
              "ipVersion": "IPv4",
              "source": "10.244.1.10"
            },
            "Summary": "TCP Flags: SYN",
            "Type": "L3_L4",
            "destination": {
              "identity": 4321,
              "labels": [
                "k8s:app=db",
                "k8s:io.kubernetes.pod.namespace=shop"
              ],
              "namespace": "shop",
              "pod_name": "db-0",
              "workloads": [
                {
                  "kind": "Deployment",
                  "name": "db"
                }
              ]
            },
            "drop_reason": 133,
            "drop_reason_desc": "POLICY_DENIED",
            "event_type": {
              "sub_type": 133,
              "type": 1
            },
            "is_reply": false,
            "l4": {
              "TCP": {
                "destination_port": 5432,
                "flags": {
                  "SYN": true
                },
                "source_port": 43210
              }
            },
            "node_name": "node-1",
            "policy_match_type": 2,
            "source": {
              "ID": 7,
              "identity": 1234,
              "labels": [
                "k8s:app=web",
                "k8s:io.kubernetes.pod.namespace=shop"
              ],
              "namespace": "shop",
              "pod_name": "web-0",
              "workloads": [
                {
                  "kind": "Deployment",
                  "name": "web"
                }
              ]
            },
            "strait": {
              "counters": {
                "bytes": 222,
                "packets": 3
              },
              "nearest_miss": "would be allowed by policies/db.yaml:14 but for port 8080",
              "origins": [
                {
                  "column": 5,
                  "file": "policies/db.yaml",
                  "kind": "NetworkPolicy",
                  "line": 2,
                  "name": "db",
                  "namespace": "shop"
                }
              ]
            },
            "time": "2026-11-22T22:40:01.123456789Z",
            "traffic_direction": "EGRESS",
            "verdict": "DROPPED"
          },
          "node_name": "node-1",
          "time": "2026-11-22T22:40:01.123456789Z"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&dropped).unwrap());
    expect![[r#"{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":17},"node_name":"node-1","time":"2026-11-22T22:40:01.123456789Z"}"#]].assert_eq(text.lines().last().unwrap());
}
