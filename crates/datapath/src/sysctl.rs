//! Settings of a network namespace under `/proc/sys/net`. `/proc/sys` shows the namespace of the thread that opens it, so these
//! run inside [`Netns::run`](crate::netns::Netns::run).

use std::{fs, io, path::Path};

/// A setting that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {key} = {value}: {source}{}", advice(source))]
pub struct Error {
    /// As `sysctl` names it, with slashes: `net/ipv4/ip_forward`.
    pub key: String,
    /// The value.
    pub value: String,
    /// What the kernel said.
    pub source: io::Error,
}

const ADVICE: &[(io::ErrorKind, &str)] = &[
    (io::ErrorKind::PermissionDenied, " (needs root and a writable /proc/sys)"),
    (io::ErrorKind::ReadOnlyFilesystem, " (needs root and a writable /proc/sys)"),
    (io::ErrorKind::NotFound, " (this kernel has no such setting, or no such interface)"),
];

fn advice(error: &io::Error) -> &'static str {
    ADVICE.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, advice)| advice)
}

/// Writes one setting, as `net/ipv4/ip_forward`.
pub fn set(key: &str, value: &str) -> Result<(), Error> {
    fs::write(Path::new("/proc/sys").join(key), value).map_err(|source| Error {
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Whether this namespace speaks IPv6.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Whether netfilter tracks connections in this namespace: a rule of somebody's wants to see each packet of them, or translates
/// them.
pub fn tracks_connections() -> bool {
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap_or_default();
    count.trim().parse().is_ok_and(|count: u64| count > 0)
}

/// What every namespace gets before its links come up: addresses are usable at once (no duplicate address detection), and
/// nobody on the link configures it (no router advertisements).
pub fn host() -> Result<(), Error> {
    if has_ipv6() {
        for scope in ["all", "default"] {
            for (key, value) in
                [("accept_dad", "0"), ("dad_transmits", "0"), ("accept_ra", "0"), ("router_solicitations", "0")]
            {
                set(&format!("net/ipv6/conf/{scope}/{key}"), value)?;
            }
        }
    }
    Ok(())
}

/// [`host`], and forward between links. Source addresses are verified by the datapath, which knows more than the routing table,
/// so reverse path filters are off.
pub fn router() -> Result<(), Error> {
    host()?;
    set("net/ipv4/ip_forward", "1")?;
    for scope in ["all", "default"] {
        set(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        set(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
        if has_ipv6() {
            set(&format!("net/ipv6/conf/{scope}/forwarding"), "1")?;
        }
    }
    Ok(())
}

/// Answers ARP on `interface` for every address that is routed elsewhere.
pub fn proxy_arp(interface: &str) -> Result<(), Error> {
    set(&format!("net/ipv4/conf/{interface}/proxy_arp"), "1")
}
