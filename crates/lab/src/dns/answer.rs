//! One question in, one answer out: bytes to bytes.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
};

use super::zone::{Found, Zone};

/// Seconds that clients may keep an answer: short, as pods come and go.
const TTL: u32 = 5;
/// Longest chain of aliases followed.
const LONGEST_CHAIN: usize = 8;
/// Largest UDP answer to a client that does not say it takes more (RFC 1035, 4.2.1).
const SMALL: usize = 512;
/// Largest UDP answer to one that does.
const LARGE: usize = 1232;

/// The answer to `request`, at most as long as its transport carries (UDP answers that do not fit are cut and marked
/// so). `None` for what deserves none: bytes that are no DNS message, and answers.
pub fn answer(request: &[u8], zone: &Zone, udp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(request).ok()?;
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.authoritative = true;
    response.metadata.response_code = match (request.metadata.op_code, request.queries.as_slice()) {
        (OpCode::Query, [question]) => {
            response.add_query(question.clone());
            if question.query_class() == DNSClass::IN {
                let (code, records) = resolve(question.name(), question.query_type(), zone);
                response.add_answers(records);
                code
            } else {
                ResponseCode::Refused
            }
        }
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    let limit = match (&request.edns, udp) {
        (_, false) => usize::from(u16::MAX),
        (Some(edns), true) => usize::from(edns.max_payload()).clamp(SMALL, LARGE),
        (None, true) => SMALL,
    };
    let bytes = response.to_vec().ok()?;
    if bytes.len() <= limit { Some(bytes) } else { response.truncate().to_vec().ok() }
}

fn resolve(name: &Name, kind: RecordType, zone: &Zone) -> (ResponseCode, Vec<Record>) {
    let mut records = Vec::new();
    let mut owner = name.clone();
    for _ in 0..LONGEST_CHAIN {
        match zone.look_up(&owner.to_ascii()) {
            None => {
                // An alias that leads nowhere is an answer all the same.
                let code = if records.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError };
                return (code, records);
            }
            Some(Found::Alias(target)) => {
                let Ok(mut target) = Name::from_ascii(&target) else { return (ResponseCode::ServFail, Vec::new()) };
                target.set_fqdn(true);
                records.push(Record::from_rdata(owner, TTL, RData::CNAME(rdata::CNAME(target.clone()))));
                if kind == RecordType::CNAME {
                    return (ResponseCode::NoError, records);
                }
                owner = target;
            }
            Some(Found::Addresses(addresses)) => {
                for address in addresses {
                    let data = match (address, kind) {
                        (IpAddr::V4(v4), RecordType::A) => RData::A(rdata::A(v4)),
                        (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(rdata::AAAA(v6)),
                        _ => continue,
                    };
                    records.push(Record::from_rdata(owner.clone(), TTL, data));
                }
                return (ResponseCode::NoError, records);
            }
        }
    }
    (ResponseCode::ServFail, Vec::new())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fmt::Write as _,
    };

    use hickory_proto::op::Query;

    use super::*;

    fn zone() -> Zone {
        let addresses = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<BTreeSet<IpAddr>>();
        Zone {
            addresses: BTreeMap::from([
                ("web.shop.svc.cluster.local".into(), addresses(&["10.244.1.10", "fd00:10:244:1::10"])),
                ("empty.shop.svc.cluster.local".into(), addresses(&[])),
                ("many.shop.svc.cluster.local".into(), (1..=200).map(|i| IpAddr::from([10, 244, 1, i])).collect()),
            ]),
            aliases: BTreeMap::from([
                ("alias.shop.svc.cluster.local".into(), "web.shop.svc.cluster.local".into()),
                ("nowhere.shop.svc.cluster.local".into(), "gone.invalid".into()),
                ("loop.shop.svc.cluster.local".into(), "loop.shop.svc.cluster.local".into()),
            ]),
            namespaces: BTreeSet::from(["shop".into()]),
        }
    }

    fn ask(name: &str, kind: RecordType, udp: bool) -> Message {
        let mut request = Message::query();
        request.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        Message::from_vec(&answer(&request.to_vec().unwrap(), &zone(), udp).unwrap()).unwrap()
    }

    #[test]
    fn answers() {
        for (name, kind, expected) in [
            ("web.shop.svc.cluster.local.", RecordType::A, "No Error: 10.244.1.10"),
            ("WEB.shop.svc.cluster.local.", RecordType::AAAA, "No Error: fd00:10:244:1::10"),
            ("web.shop.svc.cluster.local.", RecordType::MX, "No Error:"),
            ("empty.shop.svc.cluster.local.", RecordType::A, "No Error:"),
            ("other.shop.svc.cluster.local.", RecordType::A, "Non-Existent Domain:"),
            ("10-244-1-9.shop.pod.cluster.local.", RecordType::A, "No Error: 10.244.1.9"),
            ("fd00--9.shop.pod.cluster.local.", RecordType::AAAA, "No Error: fd00::9"),
            ("10-244-1-9.other.pod.cluster.local.", RecordType::A, "Non-Existent Domain:"),
            ("alias.shop.svc.cluster.local.", RecordType::A, "No Error: web.shop.svc.cluster.local. 10.244.1.10"),
            ("nowhere.shop.svc.cluster.local.", RecordType::A, "No Error: gone.invalid."),
            ("loop.shop.svc.cluster.local.", RecordType::A, "Server Failure:"),
            (".", RecordType::A, "Non-Existent Domain:"),
        ] {
            let answer = ask(name, kind, true);
            let mut text = format!("{}:", answer.metadata.response_code);
            for record in &answer.answers {
                write!(text, " {}", record.data).unwrap();
            }
            assert_eq!(text, expected, "{name} {kind}");
        }
    }

    #[test]
    fn what_does_not_fit_a_datagram_is_cut() {
        let udp = ask("many.shop.svc.cluster.local.", RecordType::A, true);
        assert!(udp.metadata.truncation && udp.answers.is_empty());
        assert_eq!(ask("many.shop.svc.cluster.local.", RecordType::A, false).answers.len(), 200);
    }

    #[test]
    fn garbage_is_not_answered() {
        assert_eq!(answer(b"GET / HTTP/1.1\r\n", &zone(), true), None);
        assert_eq!(answer(&[], &zone(), true), None);
    }
}
