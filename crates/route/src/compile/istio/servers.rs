//! TLS at servers of gateways: who it is for, and how the handshake is done.

use std::sync::Arc;

use strait_api::{
    Kind,
    istio::{Gateway, PortProtocol, Server, ServerTls, ServerTlsMode, TlsVersion},
};

use super::{
    Trouble, TroubleKind,
    bind::table_name,
    groups::{Group, Table},
    http::Compiler,
    key_of,
    passed::Passed,
    registry::Touched,
    secrets,
};
use crate::{
    hosts::HostTable,
    plan::{ClientValidation, HttpListener, Terminate, TlsListener, TlsThen, TlsVersions},
};

/// A server that speaks TLS.
pub(super) struct TlsServer {
    pub(super) gateway: Arc<Gateway>,
    /// Its place in the gateway.
    pub(super) index: usize,
    /// Server names that no server before it has.
    pub(super) hosts: Vec<Arc<str>>,
    name: Arc<str>,
    /// None where handshakes are not done here.
    terminate: Option<Terminate>,
    /// What is passed on by the server name alone, if it is.
    passed: Option<Passed>,
    troubles: Vec<Trouble>,
}

impl TlsServer {
    /// None for a server without `tls`.
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        index: usize,
        hosts: Vec<Arc<str>>,
        compiler: &mut Compiler<'_>,
    ) -> Option<Self> {
        let server = gateway.servers.get(index)?;
        let tls = server.tls.as_ref()?;
        let protocol = server.port.protocol.to_string().to_lowercase();
        let (port, meta) = (&server.port, &gateway.meta);
        let name = format!("{protocol}.{}.{}.{}.{}", port.number, port.name, meta.name, meta.namespace).into();
        let passed = (tls.mode == ServerTlsMode::AutoPassthrough).then(Passed::default);
        let (gateway_of, troubles) = (Arc::clone(gateway), Vec::new());
        let mut of = Self { gateway: gateway_of, index, hosts, name, terminate: None, passed, troubles };
        of.terminate = is_terminated(tls).then(|| terminate(gateway, server, tls, &mut of.troubles, compiler));
        compiler.told.add(&of.troubles);
        Some(of)
    }

    /// A table for what is inside.
    pub(super) fn table(&self) -> Table {
        let server = self.gateway.servers.get(self.index);
        let is_https = server.is_some_and(|server| server.port.protocol == PortProtocol::Https);
        match (&self.terminate, is_https) {
            (Some(_), true) => Table::Requests(HostTable::default()),
            (Some(_), false) => Table::Connections(None),
            (None, _) => Table::Names(HostTable::default()),
        }
    }

    /// Whether virtual services say where connections go.
    pub(super) fn is_routed(&self) -> bool {
        let mode = self.gateway.servers.get(self.index).and_then(|server| server.tls.as_ref()).map(|tls| tls.mode);
        // One of the mesh's own is closed: there is no certificate.
        !matches!(mode, None | Some(ServerTlsMode::AutoPassthrough | ServerTlsMode::IstioMutual))
    }

    /// Looks at its credentials again, if one is another, and at what is passed on. Gives whether something is.
    pub(super) fn refresh(
        &mut self,
        (by, is_new): (&Touched, bool),
        group: &mut Group,
        compiler: &mut Compiler<'_>,
    ) -> bool {
        let gateway = Arc::clone(&self.gateway);
        let Some(server) = gateway.servers.get(self.index) else { return false };
        if let (Some(passed), Table::Names(names)) = (&mut self.passed, &mut group.table) {
            return passed.refresh((&gateway, server), (by, is_new), names, compiler);
        }
        let Some(tls) = server.tls.as_ref().filter(|tls| is_terminated(tls)) else { return false };
        if !credentials(tls).any(|name| by.has_credential(name)) {
            return false;
        }
        let mut troubles = Vec::new();
        let terminate = terminate(&gateway, server, tls, &mut troubles, compiler);
        compiler.told.add(&troubles);
        self.release(compiler);
        (self.terminate, self.troubles) = (Some(terminate), troubles);
        true
    }

    /// Gives back what it brought with it.
    pub(super) fn retire(&self, compiler: &mut Compiler<'_>) {
        self.passed.iter().for_each(|passed| passed.retire(compiler));
        self.release(compiler);
    }

    fn release(&self, compiler: &mut Compiler<'_>) {
        compiler.told.remove(&self.troubles);
        for id in self.terminate.iter().flat_map(|of| &of.certificates) {
            compiler.backends.certificates.release(*id);
        }
    }

    /// Puts its listener into the table of server names.
    pub(super) fn list(&self, group: &Group, names: &mut HostTable<TlsListener>) {
        let then = match (&group.table, &self.terminate) {
            (Table::Requests(hosts), Some(terminate)) => {
                let listener = HttpListener { name: Arc::clone(&self.name), hosts: hosts.clone() };
                TlsThen::Http(terminate.clone(), listener)
            }
            (Table::Connections(split), Some(terminate)) => {
                let mut inside = HostTable::default();
                if let Some(split) = split {
                    inside.entry(None, || split.clone());
                }
                TlsThen::Tcp(terminate.clone(), inside)
            }
            (Table::Names(table), _) if self.passed.is_some() => TlsThen::Mesh(table.clone()),
            (Table::Names(table), _) => TlsThen::Passthrough(table.clone()),
            (Table::Requests(_) | Table::Connections(_), None) => TlsThen::Passthrough(HostTable::default()),
        };
        let listener = TlsListener { name: Arc::clone(&self.name), then };
        for host in &self.hosts {
            *names.entry(table_name(host).as_ref(), || listener.clone()) = listener.clone();
        }
    }
}

fn is_terminated(tls: &ServerTls) -> bool {
    matches!(tls.mode, ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual)
}

fn credentials(tls: &ServerTls) -> impl Iterator<Item = &Arc<str>> {
    tls.credential_name.iter().chain(&tls.credential_names).chain(&tls.ca_cert_credential_name)
}

fn terminate(
    gateway: &Gateway,
    server: &Server,
    tls: &ServerTls,
    troubles: &mut Vec<Trouble>,
    compiler: &mut Compiler<'_>,
) -> Terminate {
    let (home, world) = (&*gateway.meta.namespace, &compiler.mesh.world);
    let mut missing = Vec::new();
    let own: Vec<&Arc<str>> = tls.credential_name.iter().chain(&tls.credential_names).collect();
    let mut certificates = Vec::new();
    for name in &own {
        match secrets::certificate(name, home, world) {
            Ok(certificate) => certificates.push(compiler.backends.certificates.add(certificate)),
            Err(why) => missing.push(why),
        }
    }
    let optional = tls.mode == ServerTlsMode::OptionalMutual;
    let clients = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual).then(|| {
        let mut names = tls.ca_cert_credential_name.iter().chain(own.iter().copied());
        let found = names.find_map(|name| secrets::authorities(name, home, world));
        // What cannot be checked lets nobody in.
        let unchecked = tls.ca_crl.is_some()
            || tls.ca_certificates.is_some()
            || !tls.verify_certificate_spki.is_empty()
            || !tls.verify_certificate_hash.is_empty();
        let authorities = found.filter(|_| !unchecked).unwrap_or_default();
        if authorities.is_empty() && !tls.insecure_skip_verify {
            missing.push("there are no authorities for clients' certificates".to_owned());
        }
        ClientValidation {
            authorities,
            insecure_fallback: tls.insecure_skip_verify && !unchecked,
            optional,
            names: tls.subject_alt_names.clone(),
        }
    });
    for why in missing {
        let (object, location) = (key_of(Kind::IstioGateway, &gateway.meta), server.location.clone());
        let message = format!("{why}: no handshake of this server comes about");
        troubles.push(Trouble { kind: TroubleKind::Missing, object, location, message });
    }
    let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
    let within = |version| min <= version && (max == TlsVersion::Auto || version <= max);
    let versions = TlsVersions { tls12: within(TlsVersion::V1_2), tls13: within(TlsVersion::V1_3) };
    Terminate { certificates, clients, versions }
}
