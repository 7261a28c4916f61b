//! What names, labels, addresses and prefixes may look like: the rules of `k8s.io/apimachinery/pkg/util/validation`. A refusal says what is allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

type Check = Result<(), &'static str>;

fn all(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    text.chars().all(allowed)
}

fn ends_with_alphanumeric(text: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    end(text.chars().next()) && end(text.chars().last())
}

fn is_label_1123(text: &str) -> bool {
    text.len() <= 63
        && ends_with_alphanumeric(text)
        && all(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_subdomain_1123(text: &str) -> bool {
    // Parts of a subdomain are not limited to 63 characters each, as upstream.
    let part = |part: &str| {
        ends_with_alphanumeric(part) && all(part, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// An RFC 1123 label.
pub(super) fn label_1123(text: &str) -> Check {
    let allowed = "1-63 lowercase letters, digits and '-', starting and ending with a letter or digit";
    is_label_1123(text).then_some(()).ok_or(allowed)
}

/// An RFC 1123 subdomain.
pub(super) fn subdomain_1123(text: &str) -> Check {
    let allowed = "1-253 lowercase letters, digits, '-' and '.', each part starting and ending with a letter or digit";
    is_subdomain_1123(text).then_some(()).ok_or(allowed)
}

/// An RFC 1035 label: the name of a service.
pub(super) fn label_1035(text: &str) -> Check {
    let allowed = "1-63 lowercase letters, digits and '-', starting with a letter, ending with a letter or digit";
    (is_label_1123(text) && text.starts_with(|c: char| c.is_ascii_lowercase())).then_some(()).ok_or(allowed)
}

/// The name of a CronJob: its jobs' names have 11 more characters.
pub(super) fn cron_job_name(text: &str) -> Check {
    subdomain_1123(text)?;
    (text.len() <= 52).then_some(()).ok_or("at most 52 characters, as the names of its jobs are longer")
}

/// A label key, or an annotation key in lower case.
pub(super) fn qualified_name(text: &str) -> Check {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix.is_some_and(|prefix| !is_subdomain_1123(prefix)) {
        return Err("a DNS subdomain before the '/' (as in example.com/name)");
    }
    let allowed = "an optional DNS subdomain and '/', then 1-63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit";
    let valid = name.len() <= 63 && ends_with_alphanumeric(name) && all(name, in_label);
    valid.then_some(()).ok_or(allowed)
}

/// A label value.
pub(super) fn label_value(text: &str) -> Check {
    let allowed =
        "at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, or nothing";
    let valid = text.is_empty() || text.len() <= 63 && ends_with_alphanumeric(text) && all(text, in_label);
    valid.then_some(()).ok_or(allowed)
}

fn in_label(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// `IANA_SVC_NAME`: the name of a port.
pub(super) fn port_name(text: &str) -> Check {
    let allowed =
        "1-15 lowercase letters, digits and '-', with at least one letter, no '-' at either end and none doubled";
    let valid = text.len() <= 15
        && ends_with_alphanumeric(text)
        && all(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && text.contains(|c: char| c.is_ascii_lowercase())
        && !text.contains("--");
    valid.then_some(()).ok_or(allowed)
}

/// A key of a config map or secret.
pub(super) fn data_key(text: &str) -> Check {
    let allowed = "1-253 letters, digits, '-', '_' and '.', and not . or .. at the start";
    let valid = !text.is_empty() && text.len() <= 253 && all(text, in_label) && text != "." && !text.starts_with("..");
    valid.then_some(()).ok_or(allowed)
}

const ADDRESS: &str = "an IPv4 or IPv6 address";

/// An address, and whether it is written in a way that other programs may read differently.
///
/// Kubernetes takes leading zeros in IPv4 octets and reads them as decimal (`net.ParseIPSloppy`); so does this, to enforce the same.
pub(super) fn address(text: &str) -> Result<(IpAddr, Sloppy), &'static str> {
    if text.contains(':') {
        let v6: Ipv6Addr = text.parse().map_err(|_| ADDRESS)?;
        if v6.to_ipv4_mapped().is_some() {
            return Err("the IPv4 address itself, not one mapped into IPv6");
        }
        return Ok((v6.into(), Sloppy(false)));
    }
    let octets: Vec<&str> = text.split('.').collect();
    let [a, b, c, d] = octets[..] else { return Err(ADDRESS) };
    let octet = |text: &str| {
        if text.is_empty() || !all(text, |c| c.is_ascii_digit()) {
            return Err(ADDRESS);
        }
        let digits = text.trim_start_matches('0');
        if digits.is_empty() { Ok(0) } else { digits.parse::<u8>().map_err(|_| ADDRESS) }
    };
    let v4 = Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?);
    Ok((v4.into(), Sloppy(v4.to_string() != text)))
}

/// Whether a text has leading zeros that some programs read as octal.
pub(super) struct Sloppy(pub(super) bool);

/// A prefix as written (host bits may be set); read as Kubernetes reads it, see [`address`].
pub(super) fn prefix(text: &str) -> Result<(IpNet, Sloppy), &'static str> {
    const ALLOWED: &str = "a CIDR, as 10.0.0.0/8 or 2001:db8::/32";
    let Some((address_text, length)) = text.split_once('/') else {
        return Err(match address(text) {
            Ok((IpAddr::V4(_), _)) => "a CIDR; /32 after an IPv4 address means it alone",
            Ok((IpAddr::V6(_), _)) => "a CIDR; /128 after an IPv6 address means it alone",
            Err(_) => ALLOWED,
        });
    };
    let (address, sloppy) =
        address(address_text).map_err(|allowed| if allowed == ADDRESS { ALLOWED } else { allowed })?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let out_of_range =
        || if max == 32 { "a prefix length of 0-32 for IPv4" } else { "a prefix length of 0-128 for IPv6" };
    if length.is_empty() || length.len() > 4 || !all(length, |c| c.is_ascii_digit()) {
        return Err(out_of_range());
    }
    let bits: u8 = length.parse().map_err(|_| out_of_range())?;
    let net = IpNet::new(address, bits).map_err(|_| out_of_range())?;
    Ok((net, Sloppy(sloppy.0 || length.len() > 1 && length.starts_with('0'))))
}

/// Base64 with padding; line breaks are skipped, as Go's decoder does.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let clean: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    if !clean.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(clean.len() / 4 * 3);
    let groups = clean.len() / 4;
    for (index, group) in clean.chunks(4).enumerate() {
        let padding = group.iter().rev().take_while(|b| **b == b'=').count();
        if padding > 2 || padding > 0 && index + 1 < groups {
            return None;
        }
        let mut bits: u32 = 0;
        for byte in &group[..4 - padding] {
            bits = bits << 6 | u32::from(sextet(*byte)?);
        }
        bits <<= 6 * padding;
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(out)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(of: fn(&str) -> Check, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(of(text), Ok(()), "{text:?}");
        }
        for text in bad {
            assert!(of(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names() {
        let (l63, l64) = ("a".repeat(63), "a".repeat(64));
        check(label_1123, &["a", "a-b", "0", "1-a", &l63], &["", "-a", "a-", "A", "a.b", "a_b", &l64, "ä"]);
        check(label_1035, &["a", "a-1"], &["1a", "", "a.b"]);
        check(
            subdomain_1123,
            &["a", "a.b", "a-b.c-d", "1.2", &l64, &"a".repeat(253)],
            &["", ".a", "a.", "a..b", "A", &"a".repeat(254)],
        );
        check(cron_job_name, &[&"a".repeat(52)], &[&"a".repeat(53)]);
        check(
            port_name,
            &["http", "a", "8a", "http-2", "abcdefghijklmno"],
            &["", "80", "-a", "a-", "a--b", "HTTP", "abcdefghijklmnop", "a_b"],
        );
        check(data_key, &["a", ".a", "a.b_c-D"], &["", ".", "..", "..a", "a b", "a/b"]);
    }

    #[test]
    fn labels() {
        let l63 = "x".repeat(63);
        check(
            qualified_name,
            &["app", "app.kubernetes.io/name", "A_b.c", &l63, "a/b"],
            &[
                "",
                "-a",
                "a-",
                "a/b/c",
                "/a",
                "a/",
                "A.com/a",
                "a b",
                &format!("{l63}x"),
                &format!("{}/a", "a".repeat(254)),
            ],
        );
        check(label_value, &["", "a", "A.b_c-1", &l63], &["-", "a-", "a b", "a/b", &format!("{l63}x"), "ä"]);
    }

    #[test]
    fn addresses() {
        let good = |text: &str| address(text).map(|(address, sloppy)| (address.to_string(), sloppy.0));
        assert_eq!(good("10.0.0.1"), Ok(("10.0.0.1".into(), false)));
        assert_eq!(good("010.000.0.1"), Ok(("10.0.0.1".into(), true)));
        assert_eq!(good("2001:DB8::1"), Ok(("2001:db8::1".into(), false)));
        for bad in [
            "",
            "10.0.0",
            "10.0.0.256",
            "10.0.0.1.2",
            "1.2.3.x",
            "::ffff:10.0.0.1",
            "fe80::1%eth0",
            "10.0.0.-1",
            "1.2.3.+4",
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn prefixes() {
        let good = |text: &str| prefix(text).map(|(net, sloppy)| (net.to_string(), sloppy.0));
        assert_eq!(good("10.0.0.0/8"), Ok(("10.0.0.0/8".into(), false)));
        assert_eq!(good("10.1.2.3/8"), Ok(("10.1.2.3/8".into(), false)));
        assert_eq!(good("0.0.0.0/0"), Ok(("0.0.0.0/0".into(), false)));
        assert_eq!(good("::/0"), Ok(("::/0".into(), false)));
        assert_eq!(good("010.0.0.0/08"), Ok(("10.0.0.0/8".into(), true)));
        for bad in [
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/",
            "10.0.0/8",
            "/8",
            "10.0.0.0/8/8",
            "10.0.0.0/255.0.0.0",
        ] {
            assert!(prefix(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn base64_as_go_reads_it() {
        for (text, bytes) in [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YWJj\nZA==\n", "abcd")] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text:?}");
        }
        assert_eq!(base64("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        for bad in ["a", "YQ=", "YQ", "Y===", "YQ==YQ==", "Y Q=", "====", "-_-_"] {
            assert_eq!(base64(bad), None, "{bad:?}");
        }
    }
}
