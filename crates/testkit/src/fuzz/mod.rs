//! What fuzzers throw bytes at: parsers of manifests and of what clients send, the packet engine, the judges, routes and paths. A target
//! panics where a promise is broken.
//!
//! ```text
//!  fuzz/ (libFuzzer) ─┐            ┌─ text: as a file          ─→ parse ─→ read back
//!                     ├─ a target ─┼─ HTTP/2: frames to either role; fields there and back
//!                     │            ├─ HTTP/3: blocks, streams beside requests; fields there and back
//!                     │            ├─ bytes → choices: manifests, edited ─→ … ─→ snapshot ─→ plan
//!  tests (corpora) ───┘            ├─ bytes → choices: frames  ─→ hooks
//!                                  ├─ text: as a connection's start, cut anywhere ─→ head, body ─→ written and read back
//!                                  └─ bytes → choices: a case  ─→ reference = model = plan = tables
//! ```

mod http;
mod http2;
mod http3;
mod judges;
mod manifests;
mod packets;
mod paths;
mod read;
mod routes;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its binary in `fuzz/`, and of the folder of its corpus.
    pub name: &'static str,
    /// Takes any bytes, and panics on a finding.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 20] = [
    Target { name: "yaml", run: |bytes| drop(read::check("input.yaml", bytes)) },
    Target { name: "json", run: |bytes| drop(read::check("input.json", bytes)) },
    Target { name: "network_policy", run: |bytes| manifests::run(manifests::NETWORK_POLICY, bytes) },
    Target { name: "cilium_policy", run: |bytes| manifests::run(manifests::CILIUM_POLICY, bytes) },
    Target { name: "cluster_policy", run: |bytes| manifests::run(manifests::CLUSTER_POLICY, bytes) },
    Target { name: "cluster", run: |bytes| manifests::run(manifests::CLUSTER, bytes) },
    Target { name: "packets", run: packets::run },
    Target { name: "judges", run: judges::run },
    Target { name: "http_request", run: http::request },
    Target { name: "http_response", run: http::response },
    Target { name: "http_chunked", run: http::chunks },
    Target { name: "client_hello", run: http::hello },
    Target { name: "proxy_protocol", run: http::proxy },
    Target { name: "h2_server", run: http2::server },
    Target { name: "h2_client", run: http2::client },
    Target { name: "hpack", run: http2::hpack },
    Target { name: "qpack", run: http3::qpack },
    Target { name: "h3_streams", run: http3::streams },
    Target { name: "routes", run: routes::run },
    Target { name: "paths", run: paths::run },
];

/// Runs the target of this name; nothing where there is none.
pub fn run(name: &str, bytes: &[u8]) {
    if let Some(target) = TARGETS.iter().find(|target| target.name == name) {
        (target.run)(bytes);
    }
}
