//! `cilium.io/v2`: what rules ask of the bytes of a connection.

use std::sync::Arc;

use super::CiliumFqdn;

/// `rules` of a port, one protocol of them. Never an empty list: a list that is given but empty is as good as absent, as upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CiliumL7Rules {
    /// `http`: any of these.
    Http(Vec<CiliumHttpRule>),
    /// `dns`: any of these; egress only.
    Dns(Vec<CiliumFqdn>),
    /// A protocol that upstream has removed (`kafka`, or the one `l7proto` names): nothing can enforce it.
    Removed(Arc<str>),
}

/// One HTTP rule: all that is given holds. The patterns are POSIX extended regular expressions on the whole value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CiliumHttpRule {
    /// `path`.
    pub path: Option<Arc<str>>,
    /// `method`.
    pub method: Option<Arc<str>>,
    /// `host`.
    pub host: Option<Arc<str>>,
    /// `headers`: `Name: value`, or `Name` alone for its presence.
    pub headers: Vec<Arc<str>>,
    /// `headerMatches`.
    pub header_matches: Vec<CiliumHeaderMatch>,
}

/// One of `headerMatches`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumHeaderMatch {
    /// `name`.
    pub name: Arc<str>,
    /// `value`.
    pub value: Option<Arc<str>>,
    /// `secret`, which holds the value.
    pub secret: Option<CiliumSecret>,
    /// `mismatch`; missing: the request is denied.
    pub mismatch: Option<CiliumMismatch>,
}

/// What to do where a header does not match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are Cilium's own")]
pub enum CiliumMismatch {
    Log,
    Add,
    Delete,
    Replace,
}

/// Names a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumSecret {
    /// `namespace`; missing: the policy's.
    pub namespace: Option<Arc<str>>,
    /// `name`.
    pub name: Arc<str>,
}

/// `terminatingTLS` or `originatingTLS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumTlsContext {
    /// `secret`.
    pub secret: CiliumSecret,
    /// `trustedCA`: a key of the secret; `ca.crt` where not given.
    pub trusted_ca: Option<Arc<str>>,
    /// `certificate`: a key of the secret; `tls.crt` where not given.
    pub certificate: Option<Arc<str>>,
    /// `privateKey`: a key of the secret; `tls.key` where not given.
    pub private_key: Option<Arc<str>>,
}

/// `listener`: where the traffic is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CiliumListener {
    /// `envoyConfig.kind`.
    pub config_kind: Option<Arc<str>>,
    /// `envoyConfig.name`.
    pub config_name: Arc<str>,
    /// `name`.
    pub name: Arc<str>,
    /// `priority`, 1-100.
    pub priority: Option<u8>,
}
