//! The certificates that are in use, each once.

use std::{cell::OnceCell, collections::BTreeMap, sync::Arc};

use super::overlaps::dns_names;
use crate::{
    plan::{Certificate, CertificateId},
    slots::{Filled, Slots},
};

#[derive(Default)]
pub(super) struct Certificates {
    all: Filled<Certificate>,
    /// The names that each is for, once somebody asked.
    names: BTreeMap<CertificateId, OnceCell<Vec<String>>>,
    /// By name, with how often each is in use: one secret has one content.
    by_secret: BTreeMap<Arc<str>, (CertificateId, u32)>,
}

impl Certificates {
    /// Takes a certificate into use. One of a secret that has another content now keeps its number.
    pub(super) fn add(&mut self, certificate: Certificate) -> CertificateId {
        if let Some((id, count)) = self.by_secret.get_mut(&certificate.name) {
            *count += 1;
            let id = *id;
            if self.all.get(id) != Some(&certificate) {
                self.all.replace(id, certificate);
                self.names.insert(id, OnceCell::new());
            }
            return id;
        }
        let name = Arc::clone(&certificate.name);
        let id = self.all.add(certificate);
        self.by_secret.insert(name, (id, 1));
        self.names.insert(id, OnceCell::new());
        id
    }

    /// Gives back what was taken into use once.
    pub(super) fn release(&mut self, id: CertificateId) {
        let Some(name) = self.all.get(id).map(|certificate| Arc::clone(&certificate.name)) else { return };
        let Some((_, count)) = self.by_secret.get_mut(&name) else { return };
        *count -= 1;
        if *count == 0 {
            self.by_secret.remove(&name);
            self.all.free(id);
            self.names.remove(&id);
        }
    }

    /// The DNS names that a certificate is for, in small letters.
    pub(super) fn names(&self, id: CertificateId) -> &[String] {
        let (Some(names), Some(of)) = (self.names.get(&id), self.all.get(id)) else { return &[] };
        names.get_or_init(|| dns_names(&of.chain))
    }

    pub(super) const fn slots(&self) -> &Slots<Certificate> {
        self.all.slots()
    }
}
