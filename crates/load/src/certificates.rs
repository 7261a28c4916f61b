//! A certificate authority with one server's and one client's certificate, in files; and how they are used.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::transport::ClientTls;

/// Writes `ca.pem`, and for `server` and `client` their `.pem`, `.key` and, both in one file, `-both.pem`.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "benchmark");
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    // The names of gate and back end are one certificate's: only what it costs to use it counts.
    let names = ["*.example.com"];
    for (name, usage) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let own = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names =
            names.into_iter().map(|name| Ok(SanType::DnsName(name.try_into()?))).collect::<Result<_>>()?;
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let (certificate, key) = (params.signed_by(&own, &issuer)?.pem(), own.serialize_pem());
        fs::write(folder.join(format!("{name}.pem")), &certificate)?;
        fs::write(folder.join(format!("{name}.key")), &key)?;
        fs::write(folder.join(format!("{name}-both.pem")), certificate + &key)?;
    }
    Ok(())
}

/// A client that believes the authority, and shows its certificate where it is asked for one.
pub(crate) fn client(folder: &Path, http2: bool) -> Result<ClientTls> {
    let (chain, key) = own(folder, "client")?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authority(folder)?)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = alpn(http2);
    Ok(ClientTls { config: Arc::new(config), name: ServerName::try_from("r0.example.com")? })
}

/// A server that asks for a certificate of the authority.
pub(crate) fn server(folder: &Path, http2: bool) -> Result<Arc<ServerConfig>> {
    let (chain, key) = own(folder, "server")?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authority(folder)?), Arc::clone(&provider)).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = alpn(http2);
    Ok(Arc::new(config))
}

fn alpn(http2: bool) -> Vec<Vec<u8>> {
    vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }]
}

fn authority(folder: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(folder.join("ca.pem"))? {
        store.add(certificate?)?;
    }
    Ok(store)
}

fn own(folder: &Path, name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = folder.join(format!("{name}.pem"));
    let chain = CertificateDer::pem_file_iter(&certificate)
        .with_context(|| format!("cannot read {}", certificate.display()))?
        .collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")))?))
}
