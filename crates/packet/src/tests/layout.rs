//! Sizes, offsets and numbers that user space and the kernel must not disagree on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use zerocopy::IntoBytes as _;

use crate::abi::{
    Addr, Config, CtEntry, CtKey, Direction, DropKey, DropReason, DropSeen, Endpoint, Event, FragmentKey,
    FragmentPorts, IpcacheKey, IpcacheValue, Metric, MetricKey, PolicyKey, PolicyValue, Port, PortRule, PortSetKey,
    RuleVerdict, port_prefixes,
};

#[test]
fn sizes() {
    let sizes = [
        ("IPCACHE key", size_of::<IpcacheKey>(), 20),
        ("IPCACHE value", size_of::<IpcacheValue>(), 24),
        ("ENDPOINTS value", size_of::<Endpoint>(), 80),
        ("POLICY key", size_of::<PolicyKey>(), 12),
        ("POLICY value", size_of::<PolicyValue>(), 8),
        ("PORT_SETS key", size_of::<PortSetKey>(), 12),
        ("PORT_SETS value", size_of::<PortRule>(), 12),
        ("CONNTRACK key", size_of::<CtKey>(), 40),
        ("CONNTRACK value", size_of::<CtEntry>(), 96),
        ("FRAGMENTS key", size_of::<FragmentKey>(), 44),
        ("FRAGMENTS value", size_of::<FragmentPorts>(), 16),
        ("DROP_SEEN key", size_of::<DropKey>(), 44),
        ("DROP_SEEN value", size_of::<DropSeen>(), 40),
        ("CONFIG value", size_of::<Config>(), 72),
        ("METRICS value", size_of::<Metric>(), 16),
        ("EVENTS record", size_of::<Event>(), 120),
    ];
    for (what, seen, expected) in sizes {
        assert_eq!(seen, expected, "{what}");
    }
}

#[test]
fn keys_have_the_bytes_that_tries_compare() {
    let key = PortSetKey::exact(7, 6, Port::new(0x1234));
    assert_eq!(key.as_bytes()[4..], [7_u32.to_ne_bytes().as_slice(), &[6, 0x12, 0x34, 0]].concat());
    let key = IpcacheKey::exact(Addr::from(IpAddr::from([10, 1, 2, 3])));
    assert_eq!(key.as_bytes()[4..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3]);
    assert_eq!(PolicyKey::new(1, Direction::Egress, 2).as_bytes()[8..], [1, 0, 0, 0]);
    assert_eq!(PortRule::new(RuleVerdict::Allow, 0, 9).as_bytes()[0], 1);
}

#[test]
fn addresses_go_there_and_back() {
    for text in ["10.0.1.5", "0.0.0.0", "255.255.255.255", "fd00:1::5", "::", "ff02::1"] {
        let ip: IpAddr = text.parse().expect(text);
        let addr = Addr::from(ip);
        assert_eq!(IpAddr::from(addr), ip);
        assert_eq!(addr.is_v4_mapped(), ip.is_ipv4());
        assert_eq!(addr.is_multicast(), ip.is_multicast() || text == "255.255.255.255");
    }
}

#[test]
fn port_ranges_become_prefixes() {
    let cases = [
        (80, 80, vec![(80, 16)]),
        (0, 65535, vec![(0, 0)]),
        (1, 2, vec![(1, 16), (2, 16)]),
        (32768, 65535, vec![(32768, 1)]),
        (65535, 65535, vec![(65535, 16)]),
        (8, 17, vec![(8, 13), (16, 15)]),
    ];
    for (first, last, expected) in cases {
        assert_eq!(port_prefixes(first, last).collect::<Vec<_>>(), expected, "{first}-{last}");
    }
    for (first, last) in [(1, 65534), (1000, 1999), (0, 0), (65000, 65535), (30000, 32767)] {
        let covered: BTreeSet<u32> = port_prefixes(first, last)
            .flat_map(|(port, bits)| u32::from(port)..u32::from(port) + (1 << (16 - bits)))
            .collect();
        assert_eq!(covered, (u32::from(first)..=u32::from(last)).collect(), "{first}-{last}");
        assert!(port_prefixes(first, last).count() <= 30);
    }
    assert_eq!(port_prefixes(2, 1).count(), 0);
}

#[test]
fn reasons_keep_their_numbers() {
    for reason in DropReason::ALL {
        assert_eq!(DropReason::from_number(*reason as u8), Some(*reason));
        assert!(MetricKey::from_index(u32::from(*reason as u8)).reason == *reason as u8);
    }
    let names: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), DropReason::ALL.len());
    assert_eq!(DropReason::PolicyDenied as u8, 133);
    assert_eq!(DropReason::PolicyDeny as u8, 181);
}
