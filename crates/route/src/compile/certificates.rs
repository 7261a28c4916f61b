//! The certificates that are in use, each once.

use std::{collections::BTreeMap, sync::Arc};

use crate::plan::{Certificate, CertificateId};

#[derive(Default)]
pub(super) struct Certificates {
    all: Vec<Certificate>,
    /// By name: one secret has one content.
    by_secret: BTreeMap<Arc<str>, CertificateId>,
}

impl Certificates {
    pub(super) fn add(&mut self, certificate: Certificate) -> CertificateId {
        let next = CertificateId::try_from(self.all.len()).unwrap_or(CertificateId::MAX);
        let known = *self.by_secret.entry(Arc::clone(&certificate.name)).or_insert(next);
        if known == next {
            self.all.push(certificate);
        }
        known
    }

    pub(super) fn all(&self) -> &[Certificate] {
        &self.all
    }
}
