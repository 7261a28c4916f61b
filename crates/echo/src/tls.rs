//! TLS with a certificate made on first use, and what a connection's handshake settled.

use std::{cell::OnceCell, sync::Arc};

use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::{
    DigitallySignedStruct, DistinguishedName as EncodedName, Error, ProtocolVersion, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use serde::Serialize;
use tokio_rustls::TlsAcceptor;

use crate::{Certificate, Context};

/// The server side of TLS.
pub(crate) struct Tls {
    names: Vec<String>,
    given: Option<Certificate>,
    clients: Option<String>,
    acceptor: OnceCell<Option<TlsAcceptor>>,
}

impl Tls {
    /// A certificate for the names by which `context` is reached; none is made yet, most ports never see TLS.
    /// One that is given is shown as it is. Where authorities of `clients` are given (PEM), nobody is let in without a certificate of theirs.
    pub(crate) fn new(context: &Context, given: Option<Certificate>, clients: Option<String>) -> Self {
        let Context { namespace, service, pod, .. } = context;
        let mut names = vec!["localhost".to_owned()];
        if !pod.is_empty() {
            names.push(pod.clone());
        }
        if !service.is_empty() {
            names.push(service.clone());
            if !namespace.is_empty() {
                names.push(format!("{service}.{namespace}.svc"));
                names.push(format!("{service}.{namespace}.svc.cluster.local"));
            }
        }
        Self { names, given, clients, acceptor: OnceCell::new() }
    }

    /// The acceptor, or `None` where no certificate could be made (the names are no DNS names).
    pub(crate) fn acceptor(&self) -> Option<TlsAcceptor> {
        let made = || match &self.given {
            Some(given) => {
                let read = read(given).and_then(|(chain, key)| self.accept(chain, key).ok());
                read.or_else(|| self.make().ok())
            }
            None => self.make().ok(),
        };
        self.acceptor.get_or_init(made).clone()
    }

    fn make(&self) -> Result<TlsAcceptor, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "strait echo");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        self.accept(vec![certificate.der().clone()], key)
    }

    fn accept(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<TlsAcceptor, Box<dyn std::error::Error>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients: Arc<dyn ClientCertVerifier> = match &self.clients {
            Some(pem) => of_authorities(pem, &provider)?,
            None => Arc::new(AnyClient(Arc::clone(&provider))),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Lets nobody in without a certificate of these authorities.
fn of_authorities(
    pem: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()?)
}

/// Chain and key of PEM.
fn read(given: &Certificate) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(given.chain.as_bytes()).collect::<Result<_, _>>().ok()?;
    Some((chain, PrivateKeyDer::from_pem_slice(given.key.as_bytes()).ok()?))
}

/// What a handshake settled, in the words of Go's `crypto/tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Assertions {
    /// `TLSv1.2`, `TLSv1.3`.
    pub(crate) version: String,
    /// PEM, leaf first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) peer_certificates: Vec<String>,
    /// SNI; empty where none was sent.
    pub(crate) server_name: String,
    /// ALPN.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) negotiated_protocol: String,
    /// `TLS_AES_128_GCM_SHA256` ….
    pub(crate) cipher_suite: String,
}

impl Assertions {
    pub(crate) fn of(connection: &ServerConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        };
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        Self {
            version: version.to_owned(),
            peer_certificates: connection.peer_certificates().unwrap_or_default().iter().map(|der| pem(der)).collect(),
            server_name: connection.server_name().unwrap_or_default().to_owned(),
            negotiated_protocol: String::from_utf8_lossy(connection.alpn_protocol().unwrap_or_default()).into_owned(),
            // rustls names TLS 1.3 suites TLS13_…; the registry and Go say TLS_….
            cipher_suite: suite.unwrap_or_default().replacen("TLS13_", "TLS_", 1),
        }
    }
}

/// RFC 7468 text of a certificate, with the line ends that Go writes.
fn pem(der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der), config)
}

/// Asks for a client certificate and shows it, whoever issued it: the echo server reports, it does not vouch. The
/// client must still prove that it has the key.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[EncodedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
