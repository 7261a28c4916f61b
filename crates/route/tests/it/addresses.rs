//! Which gateway has which address.

use std::{fmt::Write as _, net::IpAddr};

use strait_route::{Assigned, Compiled, assign};

use crate::bed::objects;

/// Names of gateways, and the addresses that each asks for.
type Gateways = &'static [(&'static str, &'static str)];

/// Gives gateways addresses of a pool, after an earlier outcome.
fn assigned(pool: &str, before: &Assigned, gateways: &[(&str, &str)]) -> Assigned {
    let mut short = String::new();
    for (name, addresses) in gateways {
        writeln!(short, "Gateway d/{name}\nspec: {{gatewayClassName: strait, addresses: [{addresses}], listeners: [{{name: l, port: 80, protocol: TCP}}]}}\n---").unwrap();
    }
    assign(Compiled::gateways(&objects(&short)), pool.parse().unwrap(), before)
}

fn text(assigned: &Assigned) -> String {
    let one = |name: &str, addresses: &[IpAddr]| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!("{name}={}", addresses.join(","))
    };
    assigned.iter().map(|((_, name), addresses)| one(name, addresses)).collect::<Vec<_>>().join(" ")
}

#[test]
fn from_nothing() {
    let cases: &[(&str, Gateways, &str)] = &[
        ("10.0.0.0/24", &[("b", ""), ("a", "")], "a=10.0.0.1 b=10.0.0.2"),
        ("10.0.0.0/24", &[("a", ""), ("b", "{value: 10.0.0.1}")], "a=10.0.0.2 b=10.0.0.1"),
        ("10.0.0.0/24", &[("a", "{value: 10.0.0.5}"), ("b", "{value: 10.0.0.5}")], "a=10.0.0.5"),
        ("10.0.0.0/24", &[("a", "{value: 192.0.2.1}"), ("b", "")], "b=10.0.0.1"),
        ("10.0.0.0/24", &[("a", "{value: 192.0.2.1}, {value: 10.0.0.7}")], "a=10.0.0.7"),
        ("10.0.0.0/24", &[("a", "{value: 10.0.0.9}, {value: 10.0.0.8}")], "a=10.0.0.9,10.0.0.8"),
        ("10.0.0.0/24", &[("a", "{value: 10.0.0.9}, {type: IPAddress}")], "a=10.0.0.9,10.0.0.1"),
        ("10.0.0.0/24", &[("a", "{type: x.dev/T, value: b}")], ""),
        ("10.0.0.0/30", &[("a", ""), ("b", ""), ("c", "")], "a=10.0.0.1 b=10.0.0.2"),
        ("10.0.0.1/32", &[("a", ""), ("b", "")], "a=10.0.0.1"),
        ("fd00::/126", &[("a", ""), ("b", "{value: 'fd00::1'}")], "a=fd00:: b=fd00::1"),
    ];
    for (pool, gateways, expected) in cases {
        assert_eq!(text(&assigned(pool, &Assigned::new(), gateways)), *expected, "{pool} {gateways:?}");
    }
}

/// A gateway keeps its address while others come and go, unless one asks for it by value.
#[test]
fn over_changes() {
    let pool = "10.0.0.0/29";
    let mut now = Assigned::new();
    let steps: &[(Gateways, &str)] = &[
        (&[("b", ""), ("c", "")], "b=10.0.0.1 c=10.0.0.2"),
        (&[("a", ""), ("b", ""), ("c", "")], "a=10.0.0.3 b=10.0.0.1 c=10.0.0.2"),
        (&[("a", ""), ("c", "")], "a=10.0.0.3 c=10.0.0.2"),
        (&[("a", ""), ("c", ""), ("d", "{value: 10.0.0.2}")], "a=10.0.0.3 c=10.0.0.1 d=10.0.0.2"),
        (&[("a", ""), ("c", "")], "a=10.0.0.3 c=10.0.0.1"),
    ];
    for (gateways, expected) in steps {
        now = assigned(pool, &now, gateways);
        assert_eq!(text(&now), *expected, "{gateways:?}");
    }
}
