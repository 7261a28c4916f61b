//! What proxies before the gate say of a client, as far as they are believed.
//!
//! As Envoy does with `use_remote_address` and `xff_num_trusted_hops`, which Istio sets by `gatewayTopology.numTrustedProxies`: of the
//! addresses in `X-Forwarded-For` only those count that trusted proxies have put there, the last ones. Without any the client is whoever is
//! connected, whatever its request says.

use std::net::IpAddr;

use strait_http::Head;

use crate::record::Client;

/// The client's address as the farthest trusted proxy saw it. None where fewer of them have said anything, or that one what is no address.
pub(crate) fn address(head: &Head, bytes: &[u8], trusted: usize) -> Option<IpAddr> {
    let all = || head.all("x-forwarded-for", bytes).flat_map(|field| field.bytes(bytes).split(|byte| *byte == b','));
    let before = all().count().checked_sub(trusted)?;
    let address = all().nth(before).filter(|_| trusted > 0)?;
    std::str::from_utf8(address.trim_ascii()).ok()?.parse().ok()
}

/// Whether the client speaks HTTPS: with the gate, or with the first of the proxies that are trusted.
pub(crate) fn https(head: &Head, bytes: &[u8], client: &Client) -> bool {
    let said = if client.trusted > 0 { head.get("x-forwarded-proto", bytes) } else { None };
    match said.map(|said| said.bytes(bytes)) {
        Some(said) if said.eq_ignore_ascii_case(b"https") => true,
        Some(said) if said.eq_ignore_ascii_case(b"http") => false,
        _ => client.https,
    }
}
