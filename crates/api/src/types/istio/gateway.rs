//! `Gateway`.

use std::sync::Arc;

use serde::Serialize;
use strait_base::Location;

use super::{PortProtocol, Strings};
use crate::types::ObjectMeta;

/// A `Gateway`: what the proxies that it selects listen on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// What every object carries.
    #[serde(skip)]
    pub meta: ObjectMeta,
    /// `selector`: labels of the proxies; empty selects all.
    pub selector: Strings,
    /// `servers`: at least one.
    pub servers: Vec<Server>,
}

/// `servers[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// `name`.
    pub name: Option<Arc<str>>,
    /// `port`.
    pub port: GatewayPort,
    /// `bind`: an address or a socket's path.
    pub bind: Option<Arc<str>>,
    /// `hosts`: at least one.
    pub hosts: Vec<ServerHost>,
    /// `tls`.
    pub tls: Option<ServerTls>,
    /// `defaultEndpoint`.
    pub default_endpoint: Option<Arc<str>>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

/// `port` of a server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GatewayPort {
    /// `number`.
    pub number: u16,
    /// `protocol`.
    pub protocol: PortProtocol,
    /// `name`: once in the gateway.
    pub name: Arc<str>,
}

/// `NAMESPACE/HOST`, or a host for virtual services of any namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ServerHost {
    /// The namespace of virtual services that may bind; `.` is the gateway's, none is any.
    pub namespace: Option<Arc<str>>,
    /// The host, in small letters, perhaps with `*` as first label, or `*`.
    pub host: Arc<str>,
}

impl Serialize for ServerHost {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.namespace {
            Some(namespace) => to.collect_str(&format_args!("{namespace}/{}", self.host)),
            None => to.serialize_str(&self.host),
        }
    }
}

/// `tls` of a server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// `httpsRedirect`.
    pub https_redirect: bool,
    /// `mode`.
    pub mode: ServerTlsMode,
    /// `serverCertificate`: a file of the proxy.
    pub server_certificate: Option<Arc<str>>,
    /// `privateKey`: a file of the proxy.
    pub private_key: Option<Arc<str>>,
    /// `caCertificates`: a file of the proxy.
    pub ca_certificates: Option<Arc<str>>,
    /// `caCrl`: a file of the proxy.
    pub ca_crl: Option<Arc<str>>,
    /// `credentialName`: a secret.
    pub credential_name: Option<Arc<str>>,
    /// `credentialNames`: secrets, in place of one.
    pub credential_names: Vec<Arc<str>>,
    /// `caCertCredentialName`: a secret or config map with authorities.
    pub ca_cert_credential_name: Option<Arc<str>>,
    /// `tlsCertificates`: files of the proxy.
    pub tls_certificates: Vec<CertificateFiles>,
    /// `subjectAltNames`: clients' certificates must have one of them.
    pub subject_alt_names: Vec<Arc<str>>,
    /// `verifyCertificateSpki`: hashes (base64) of clients' keys.
    pub verify_certificate_spki: Vec<Arc<str>>,
    /// `verifyCertificateHash`: hashes (hex) of clients' certificates.
    pub verify_certificate_hash: Vec<Arc<str>>,
    /// `minProtocolVersion`.
    pub min_protocol_version: TlsVersion,
    /// `maxProtocolVersion`.
    pub max_protocol_version: TlsVersion,
    /// `cipherSuites`, by OpenSSL's names.
    pub cipher_suites: Vec<Arc<str>>,
    /// `insecureSkipVerify`: clients' certificates are not checked.
    pub insecure_skip_verify: bool,
}

/// `tlsCertificates[]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFiles {
    /// `serverCertificate`.
    pub server_certificate: Option<Arc<str>>,
    /// `privateKey`.
    pub private_key: Option<Arc<str>>,
    /// `caCertificates`.
    pub ca_certificates: Option<Arc<str>>,
}

/// `tls.mode` of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerTlsMode {
    /// The connection goes on as it is, by server name.
    #[default]
    Passthrough,
    /// The handshake is done here.
    Simple,
    /// Clients must show certificates, too.
    Mutual,
    /// As `Passthrough`, to the back end that the server name itself says.
    AutoPassthrough,
    /// As `Mutual`, with the mesh's certificates.
    IstioMutual,
    /// Clients may show certificates; those that they show must be good.
    OptionalMutual,
}

/// `minProtocolVersion` and `maxProtocolVersion`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize)]
pub enum TlsVersion {
    /// The proxy's choice.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// TLS 1.0.
    #[serde(rename = "TLSV1_0")]
    V1_0,
    /// TLS 1.1.
    #[serde(rename = "TLSV1_1")]
    V1_1,
    /// TLS 1.2.
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSV1_3")]
    V1_3,
}
