//! Sizes, offsets and numbers that user space and the kernel must not disagree on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use zerocopy::IntoBytes as _;

use crate::abi::{
    Addr, Config, CtEntry, CtKey, Direction, DropKey, DropReason, DropSeen, Endpoint, Event, FragmentKey,
    FragmentPorts, IpcacheKey, IpcacheValue, Metric, MetricKey, PolicyKey, PolicyValue, Port, PortRule, PortSetKey,
    RuleVerdict,
    layout::{self, Field},
    port_prefixes,
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
        ("CONFIG value", size_of::<Config>(), 80),
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

#[test]
fn the_layout_of_version_1_is_as_it_was() {
    let fields: Vec<Field> = layout::version_1().collect();
    // Where the programs of version 1 have them.
    for (table, part, number, offset, width) in [
        (1, layout::KEY, 5, 36, 1),
        (1, layout::VALUE, 9, 64, 4),
        (1, layout::VALUE, 14, 84, 2),
        (1, layout::VALUE, 19, 90, 1),
        (2, layout::VALUE, 6, 15, 1),
        (3, layout::VALUE, 7, 36, 4),
        (4, layout::VALUE, 25, 116, 1),
    ] {
        let found =
            fields.iter().find(|field| (field.table, field.part, field.number) == (table, part, number)).unwrap();
        assert_eq!((found.offset, found.width), (offset, width), "{found:?}");
    }
    let known: BTreeSet<_> = layout::current().map(|field| (field.table, field.part, field.number)).collect();
    let mut told = fields.iter().filter(|field| field.number != 0);
    assert!(told.all(|field| known.contains(&(field.table, field.part, field.number))));
}

#[test]
fn numbers_are_given_once() {
    let numbers: Vec<_> = layout::current()
        .filter(|field| field.number != 0)
        .map(|field| (field.table, field.part, field.number))
        .collect();
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
}

#[test]
fn config_begins_as_in_every_version() {
    let config = Config { abi_version: 0x0102_0304, revision: 0x0506_0708, ..Config::default() };
    assert_eq!(config.as_bytes()[..4], 0x0102_0304_u32.to_ne_bytes());
    assert_eq!(config.as_bytes()[4..8], 0x0506_0708_u32.to_ne_bytes());
}

/// Our own connection as a layout would have it that is described by `fields`.
fn written(fields: &[Field], entry: &CtEntry, key: &CtKey) -> (Vec<u8>, Vec<u8>) {
    let own: Vec<Field> = layout::current().collect();
    let to = |part, bytes: &[u8]| layout::Conversion::new(&own, fields, 1, part).apply(bytes).unwrap();
    (to(layout::KEY, key.as_bytes()), to(layout::VALUE, entry.as_bytes()))
}

#[test]
fn connections_of_other_versions_are_read() {
    let key = CtKey {
        local: Addr::from(IpAddr::from([10, 0, 0, 1])),
        local_port: Port::new(80),
        protocol: 6,
        ..CtKey::default()
    };
    let entry = CtEntry {
        last_seen_ns: 7,
        lifetime_ns: 8,
        endpoint: 9,
        state: 2,
        direction: 1,
        revision: 3,
        created_ns: 5,
        tx_bytes: 1 << 40,
        policy_port: Port::new(81),
        ..CtEntry::default()
    };
    let old: Vec<Field> = layout::version_1().collect();
    // One to come: everything elsewhere, and a field that this version does not know.
    let mut newer: Vec<Field> =
        layout::current().map(|field| Field { offset: field.offset * 2 + 8, ..field }).collect();
    newer.push(Field { table: 1, part: layout::VALUE, number: 999, offset: 0, width: 8 });
    for fields in [&old, &newer] {
        let (key_bytes, value_bytes) = written(fields, &entry, &key);
        let connections = layout::Connections::new(fields).unwrap();
        assert_eq!(connections.read(&key_bytes, &value_bytes), Some((key, entry)));
        assert_eq!(connections.read(&key_bytes[..4], &value_bytes), None);
        assert_eq!(connections.read(&key_bytes, &value_bytes[..4]), None);
    }

    let without = |number| -> Vec<Field> {
        old.iter().filter(|field| (field.part, field.number) != (layout::VALUE, number)).copied().collect()
    };
    // What can be made up is made up; without the rest it would not be a connection.
    let (key_bytes, value_bytes) = written(&old, &entry, &key);
    let read = layout::Connections::new(&without(4)).unwrap().read(&key_bytes, &value_bytes).unwrap().1;
    assert_eq!(read, CtEntry { lifetime_ns: Config::default().timeouts.established, ..entry });
    let read = layout::Connections::new(&without(1)).unwrap().read(&key_bytes, &value_bytes).unwrap().1;
    assert_eq!(read, CtEntry { created_ns: 0, ..entry });
    for required in [2, 11, 14, 15, 16] {
        assert_eq!(layout::Connections::new(&without(required)), None);
    }
}
