//! TLS on either side, with rustls and aws-lc-rs.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, ServerName, UnixTime,
    },
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use strait_route::{Authorities, BackendTls, Certificate, ClientValidation, Slots, Terminate};

/// Why a configuration cannot be used. Connections that need it are refused.
#[derive(Debug)]
pub(crate) struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn unusable(error: impl fmt::Display) -> Unusable {
    Unusable(error.to_string())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn blocks(bytes: &[u8], tag: &str) -> Vec<CertificateDer<'static>> {
    let blocks = pem::parse_many(bytes).unwrap_or_default();
    blocks.into_iter().filter(|block| block.tag() == tag).map(|block| block.into_contents().into()).collect()
}

fn key(bytes: &[u8]) -> Option<PrivateKeyDer<'static>> {
    pem::parse_many(bytes).unwrap_or_default().into_iter().find_map(|block| match block.tag() {
        "PRIVATE KEY" => Some(PrivatePkcs8KeyDer::from(block.into_contents()).into()),
        "RSA PRIVATE KEY" => Some(PrivatePkcs1KeyDer::from(block.into_contents()).into()),
        "EC PRIVATE KEY" => Some(PrivateSec1KeyDer::from(block.into_contents()).into()),
        _ => None,
    })
}

fn roots(pem: &[u8]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(blocks(pem, "CERTIFICATE"));
    roots
}

/// How a listener does its handshakes; `http` offers HTTP/2 and HTTP/1.1 by ALPN.
pub(crate) fn server(
    terminate: &Terminate,
    certificates: &Slots<Certificate>,
    http: bool,
) -> Result<Arc<ServerConfig>, Unusable> {
    let provider = provider();
    let chains = terminate.certificates.iter().filter_map(|id| certificates.get(*id as usize));
    let mut keys = Vec::new();
    for certificate in chains {
        let chain = blocks(&certificate.chain, "CERTIFICATE");
        let key = key(&certificate.key).ok_or_else(|| Unusable(format!("{} has no private key", certificate.name)))?;
        keys.push(Arc::new(CertifiedKey::from_der(chain, key, &provider).map_err(unusable)?));
    }
    if keys.is_empty() {
        return Err(Unusable("there is no certificate".into()));
    }
    let spoken =
        [(terminate.versions.tls12, &rustls::version::TLS12), (terminate.versions.tls13, &rustls::version::TLS13)];
    let versions: Vec<_> = spoken.into_iter().filter(|(spoken, _)| *spoken).map(|(_, version)| version).collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(unusable)?;
    let builder = match &terminate.clients {
        None => builder.with_no_client_auth(),
        Some(validation) => builder.with_client_cert_verifier(client_verifier(validation, &provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName(keys)));
    // Sessions are resumed by tickets that clients keep: no table of the gate's bounds how many, and workers share no lock for it.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?;
    if http {
        config.alpn_protocols = vec![crate::http2::ALPN.to_vec(), HTTP1.to_vec()];
    }
    Ok(Arc::new(config))
}

/// Shows the first certificate that fits the server name, else the first.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| {
            let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
            let certificate = key.end_entity_cert().ok();
            let parsed = certificate.and_then(|end| rustls::server::ParsedCertificate::try_from(end).ok());
            name.zip(parsed).is_some_and(|(name, parsed)| rustls::client::verify_server_name(&parsed, &name).is_ok())
        };
        self.0.iter().find(fits).or_else(|| self.0.first()).cloned()
    }
}

fn client_verifier(
    validation: &ClientValidation,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
    if validation.insecure_fallback {
        return Ok(Arc::new(Anyone { provider: Arc::clone(provider) }));
    }
    let roots = Arc::new(roots(&validation.authorities));
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = if validation.optional { builder.allow_unauthenticated() } else { builder };
    let verifier = builder.build().map_err(unusable)?;
    if validation.names.is_empty() {
        return Ok(verifier);
    }
    Ok(Arc::new(Named { verifier, names: validation.names.clone() }))
}

/// Clients whose certificates are good and have one of the names.
#[derive(Debug)]
struct Named {
    verifier: Arc<dyn ClientCertVerifier>,
    names: Vec<Arc<str>>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.verifier.verify_client_cert(end, intermediates, now)?;
        let certificate = webpki::EndEntityCert::try_from(end)
            .map_err(|_| rustls::Error::from(rustls::CertificateError::BadEncoding))?;
        let mut names = certificate.valid_dns_names().chain(certificate.valid_uri_names());
        if names.any(|name| self.names.iter().any(|allowed| **allowed == *name)) {
            return Ok(verified);
        }
        Err(rustls::CertificateError::NotValidForName.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// How both sides' certificates are shown to be their own: rustls' way, whatever else is checked of them.
macro_rules! signatures_by {
    ($provider:ident) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.$provider.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.$provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// `AllowInsecureFallback`: clients are asked for a certificate, and served whatever they show. That they hold its key is checked.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures_by!(provider);
}

/// The name of HTTP/1.1 by ALPN.
pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// How TLS is spoken to a back end. HTTP/1.1 is offered, unless a connection offers something else.
pub(crate) fn client(tls: &BackendTls, certificates: &Slots<Certificate>) -> Result<Arc<ClientConfig>, Unusable> {
    let provider = provider();
    let pem: Vec<u8> = match &tls.authorities {
        None => return Err(Unusable("there is no authority to believe".into())),
        Some(Authorities::Pem(pem)) => pem.to_vec(),
        Some(Authorities::System) => system_authorities()?,
        Some(Authorities::Anyone) => Vec::new(),
    };
    let anyone = tls.authorities == Some(Authorities::Anyone);
    let roots = Arc::new(roots(&pem));
    if roots.is_empty() && !anyone {
        return Err(Unusable("there is no authority to believe".into()));
    }
    let names =
        tls.host_names.iter().chain((tls.host_names.is_empty() && tls.uris.is_empty()).then_some(&tls.hostname));
    let verifier = Names {
        anyone,
        roots,
        hosts: names.cloned().collect(),
        uris: tls.uris.clone(),
        provider: Arc::clone(&provider),
    };
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(unusable)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match tls.client_certificate.and_then(|id| certificates.get(id as usize)) {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = key(&own.key).ok_or_else(|| Unusable(format!("{} has no private key", own.name)))?;
            builder.with_client_auth_cert(blocks(&own.chain, "CERTIFICATE"), key).map_err(unusable)?
        }
    };
    config.alpn_protocols = vec![HTTP1.to_vec()];
    Ok(Arc::new(config))
}

fn system_authorities() -> Result<Vec<u8>, Unusable> {
    const FILES: [&str; 3] =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    FILES
        .iter()
        .find_map(|file| std::fs::read(file).ok())
        .ok_or_else(|| Unusable(format!("none of {FILES:?} can be read")))
}

/// A back end's certificate must lead to an authority and have one of the names.
#[derive(Debug)]
struct Names {
    /// `insecureSkipVerify`: nothing of it is looked at, but that the back end holds its key.
    anyone: bool,
    roots: Arc<RootCertStore>,
    hosts: Vec<Arc<str>>,
    uris: Vec<Arc<str>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Names {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.anyone {
            return Ok(ServerCertVerified::assertion());
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = rustls::server::ParsedCertificate::try_from(end)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let host = self.hosts.iter().any(|host| {
            ServerName::try_from(&**host).is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
        });
        let uri = || {
            let certificate = webpki::EndEntityCert::try_from(end).ok();
            certificate.is_some_and(|end| end.valid_uri_names().any(|uri| self.uris.iter().any(|name| **name == *uri)))
        };
        if host || uri() {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::CertificateError::NotValidForName.into())
    }

    signatures_by!(provider);
}
