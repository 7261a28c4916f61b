//! What may be told of a certificate: all but its key.

use jiff::Timestamp;
use serde_json::{Value, json};
use strait_route::Certificate;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

/// A certificate by its name, with what its chain says.
pub(crate) fn dump(certificate: &Certificate) -> Value {
    let blocks = pem::parse_many(&certificate.chain).unwrap_or_default();
    // Whoever puts a key into the chain by mistake finds nothing of it here.
    let chain: Vec<_> =
        blocks.iter().filter(|block| block.tag() == "CERTIFICATE").map(|block| link(block.contents())).collect();
    json!({ "name": &*certificate.name, "chain": chain })
}

fn link(der: &[u8]) -> Value {
    let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    let fingerprint: Vec<_> = fingerprint.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let fingerprint = fingerprint.join(":");
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return json!({ "sha256Fingerprint": fingerprint, "problem": "it is no certificate" });
    };
    let time = |seconds: i64| Timestamp::from_second(seconds).map(|time| time.to_string()).ok();
    let names = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<_> = names.iter().flat_map(|names| &names.value.general_names).map(name).collect();
    json!({
        "subject": certificate.subject().to_string(),
        "issuer": certificate.issuer().to_string(),
        "serialNumber": certificate.raw_serial_as_string(),
        "subjectAltNames": names,
        "notBefore": time(certificate.validity().not_before.timestamp()),
        "notAfter": time(certificate.validity().not_after.timestamp()),
        "sha256Fingerprint": fingerprint,
    })
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => std::net::Ipv4Addr::new(a, b, c, d).to_string(),
            _ => <[u8; 16]>::try_from(*bytes)
                .map_or_else(|_| "no address".to_owned(), |bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => name.to_string(),
    }
}
