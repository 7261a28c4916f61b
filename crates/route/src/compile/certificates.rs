//! The certificates that are in use, each once.

use std::{cell::OnceCell, collections::BTreeMap, sync::Arc};

use super::overlaps::dns_names;
use crate::plan::{Certificate, CertificateId};

#[derive(Default)]
pub(super) struct Certificates {
    all: Vec<Certificate>,
    /// The names that each is for, once somebody asked.
    names: Vec<OnceCell<Vec<String>>>,
    /// By name: one secret has one content.
    by_secret: BTreeMap<Arc<str>, CertificateId>,
}

impl Certificates {
    pub(super) fn add(&mut self, certificate: Certificate) -> CertificateId {
        let next = CertificateId::try_from(self.all.len()).unwrap_or(CertificateId::MAX);
        let known = *self.by_secret.entry(Arc::clone(&certificate.name)).or_insert(next);
        if known == next {
            self.all.push(certificate);
            self.names.push(OnceCell::new());
        }
        known
    }

    pub(super) fn all(&self) -> &[Certificate] {
        &self.all
    }

    /// The DNS names that a certificate is for, in small letters.
    pub(super) fn names(&self, id: CertificateId) -> &[String] {
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        let (Some(names), Some(of)) = (self.names.get(place), self.all.get(place)) else { return &[] };
        names.get_or_init(|| dns_names(&of.chain))
    }
}
